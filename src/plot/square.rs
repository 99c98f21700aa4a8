//! The square panel of curves and scatter figures: its place on the sheet, its lower axis, and the names beside it or above.

use super::axis::{Mapping, choose_labels, number};
use super::canvas::{Anchor, Canvas, Letters};
use super::figure::Figure;
use super::font::{Weight, width};
use super::frame::{Frame, Panel, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height};
use super::legend::{Entry, Placed, in_list, in_rows};
use super::theme::{GREY, GRID, GRID_DASH, INK, LEADING, MARGIN, PANEL_MIN, TEXT_SIZE, TICK_SIZE};
use crate::error::Result;

/// Pixels between the panel and the names beside it.
const GAP: f64 = 28.0;
/// Names stand beside the panel where it keeps at least this many pixels.
const SIDE_MIN: f64 = 260.0;
/// The part of the sheet's width that names beside the panel may take.
const NAMES_SHARE: f64 = 0.36;

/// A square panel, the words around it, and the names of what it shows.
pub(super) struct Square {
    pub frame: Frame,
    x_label: Vec<String>,
    x_ticks: Vec<f64>,
    names: Vec<Placed>,
    /// Height that names above the panel take; none when they stand beside it.
    above: Option<f64>,
    y_label_height: f64,
    highest_tick: f64,
}

impl Square {
    /// As large as the sheet allows, no wider than there is room, and not smaller than can be read; the sheet becomes
    /// lower or higher by what that leaves or lacks.
    pub fn new(figure: &Figure, labels: (&str, &str), ticks: (Vec<f64>, Vec<f64>), entries: &[Entry]) -> Square {
        let x_label = lines_of(labels.0, TEXT_SIZE, Weight::Regular, inner_width(figure));
        let frame = |figure: &Figure, above: f64, beside: f64| {
            let below = tick_height() + TICK_SIZE * LEADING + 4.0 + height_of(&x_label, TEXT_SIZE);
            let (y_ticks, y_label) = (ticks.1.clone(), labels.1.to_string());
            Frame::new(
                figure,
                Wanted { y_ticks, y_label, legend: (Vec::new(), above), below, beside, least: PANEL_MIN },
            )
        };
        let bare = frame(figure, 0.0, 0.0).panel;
        let (room, height) = (bare.right - bare.left, bare.bottom - bare.top);
        let (names, (taken, names_height)) = in_list(entries, NAMES_SHARE * f64::from(figure.width));
        let is_beside = room - taken - GAP >= SIDE_MIN && names_height <= height.max(SIDE_MIN);
        let (names, above) = if is_beside {
            (names, None)
        } else {
            let (names, above) = in_rows(entries, inner_width(figure));
            (names, Some(above))
        };
        let taken_above = above.map_or(0.0, |above| above + 8.0);
        let widest = if is_beside { room - taken - GAP } else { room };
        let plain = frame(figure, taken_above, 0.0);
        let high = plain.panel.bottom - plain.panel.top;
        let side = high.max(SIDE_MIN).min(widest);
        let figure = &Figure { height: (plain.height + side - high).ceil() as u32, ..figure.clone() };
        let y_label = lines_of(labels.1, TEXT_SIZE, Weight::Regular, inner_width(figure));
        Square {
            frame: frame(figure, taken_above, room - side),
            x_label,
            x_ticks: ticks.0,
            names,
            above,
            y_label_height: height_of(&y_label, TEXT_SIZE),
            highest_tick: ticks.1.last().copied().unwrap_or_default(),
        }
    }

    /// Draws everything but the data, which comes on top.
    pub fn draw(&self, canvas: &mut Canvas, x: &Mapping, y: &Mapping) -> Result<()> {
        self.frame.draw(canvas, y)?;
        let Panel { left, right, top, bottom } = self.frame.panel;
        let places: Vec<_> =
            self.x_ticks.iter().map(|tick| (x.at(*tick), width(&number(*tick), TICK_SIZE, Weight::Regular))).collect();
        for ((tick, (at, _)), keep) in self.x_ticks.iter().zip(&places).zip(choose_labels(&places, 6.0)) {
            canvas.dashed(&[(*at, bottom), (*at, top)], GRID, 1.0, GRID_DASH)?;
            self.frame.draw_x_tick(canvas, *at)?;
            if keep {
                let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle);
                canvas.text((*at, self.frame.x_baseline()), &number(*tick), letters)?;
            }
        }
        let below = bottom + tick_height() + TICK_SIZE * LEADING;
        let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle);
        draw_lines(canvas, &self.x_label, ((left + right) / 2.0, below), letters)?;
        let from = match self.above {
            None => (right + GAP, y.at(self.highest_tick) - 0.5 * TEXT_SIZE * LEADING),
            Some(above) => (MARGIN, top - 14.0 - self.y_label_height - above),
        };
        self.names.iter().try_for_each(|name| name.draw(canvas, from))
    }
}
