//! Names of groups below the lower axis: level in a few lines, or upward.

use super::canvas::{Anchor, Canvas, Letters};
use super::font::{Weight, width, wrap};
use super::frame::{draw_lines, tick_height};
use super::palette::display_name;
use super::theme::{INK, LEADING, TICK_SIZE};
use crate::error::Result;

/// Names take at most this many lines before they turn upward.
const LINES: usize = 4;
/// Pixels that a name turned upward may be long, and where a second line would have no room.
const UPWARD_ROOM: f64 = 170.0;
const LONGEST: f64 = 300.0;

/// The names of the groups: their lines, and whether they read upward.
pub(super) struct Names {
    lines: Vec<Vec<String>>,
    upward: bool,
    /// Pixels that they take below the ticks.
    pub height: f64,
}

impl Names {
    /// Level while every name fits in a few lines without breaking a word between letters, else upward.
    pub fn new(labels: &[&str], group_width: f64) -> Names {
        let labels: Vec<String> = labels.iter().map(|label| display_name(label)).collect();
        let room = group_width - 8.0;
        let level: Vec<_> = labels.iter().map(|label| wrap(label, TICK_SIZE, Weight::Regular, room)).collect();
        let longest_piece = |label: &String| -> f64 {
            let pieces = label.split_inclusive([' ', '-', '_', ':', '/', '.', ',', '=']);
            pieces.map(|piece| width(piece.trim_end(), TICK_SIZE, Weight::Regular)).fold(0.0, f64::max)
        };
        let most = level.iter().map(Vec::len).max().unwrap_or(0);
        if most <= LINES && labels.iter().all(|label| longest_piece(label) <= room) {
            return Names { lines: level, upward: false, height: most as f64 * TICK_SIZE * LEADING + 6.0 };
        }
        let room = if group_width < 2.0 * TICK_SIZE * LEADING { LONGEST } else { UPWARD_ROOM };
        let upward: Vec<_> = labels.iter().map(|label| wrap(label, TICK_SIZE, Weight::Regular, room)).collect();
        let longest = upward.iter().flatten().map(|line| width(line, TICK_SIZE, Weight::Regular)).fold(0.0, f64::max);
        Names { lines: upward, upward: true, height: longest + 8.0 }
    }

    /// Draws them below `bottom`, each in the middle of its group; the first group begins at `left`.
    pub fn draw(&self, canvas: &mut Canvas, (left, bottom): (f64, f64), group_width: f64) -> Result<()> {
        for (index, lines) in self.lines.iter().enumerate() {
            let middle = left + (index as f64 + 0.5) * group_width;
            let top = bottom + tick_height();
            if self.upward {
                let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::End).upward();
                for (row, line) in lines.iter().enumerate() {
                    let shift = (row as f64 - (lines.len() - 1) as f64 / 2.0) * TICK_SIZE * LEADING;
                    canvas.text((middle + shift + 0.36 * TICK_SIZE, top), line, letters)?;
                }
            } else {
                draw_lines(canvas, lines, (middle, top), Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle))?;
            }
        }
        Ok(())
    }
}
