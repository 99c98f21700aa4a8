//! What every figure has around its data: title, subtitle, legend, caption, grid, axes and reference lines.

use super::axis::{Mapping, choose_labels, number};
use super::canvas::{Anchor, Canvas, Letters};
use super::figure::{Figure, Reference};
use super::font::{Weight, width, wrap};
use super::legend::Placed;
use super::theme::{
    AXIS, CAPTION_SIZE, Colour, GREY, GRID, GRID_DASH, INK, LEADING, MARGIN, REFERENCE_DASH, TEXT_SIZE, TICK_SIZE,
    TITLE_SIZE, tint,
};
use crate::error::Result;

pub(super) const TICK_LENGTH: f64 = 5.0;
pub(super) const TICK_GAP: f64 = 4.0;
/// Half the width of an interval's caps.
pub(super) const CAP: f64 = 4.0;

/// The rectangle of the data, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Panel {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// All words around the panel in their places, and the room they leave.
pub(super) struct Frame {
    pub panel: Panel,
    pub height: f64,
    width: f64,
    title: Vec<String>,
    subtitle: Vec<String>,
    y_label: Vec<String>,
    caption: Vec<String>,
    legend: Vec<Placed>,
    legend_top: f64,
    y_ticks: Vec<f64>,
}

/// What the kind of figure wants around its panel.
pub(super) struct Wanted {
    /// Labelled values of the y axis.
    pub y_ticks: Vec<f64>,
    /// What is measured.
    pub y_label: String,
    /// Rows above the panel and their height, from `legend::in_rows`.
    pub legend: (Vec<Placed>, f64),
    /// Pixels below the panel for ticks, their labels and the axis label.
    pub below: f64,
    /// Pixels right of the panel for a column of names.
    pub beside: f64,
    /// Pixels that the panel is high at least.
    pub least: f64,
}

/// Width between the margins.
pub(super) fn inner_width(figure: &Figure) -> f64 {
    f64::from(figure.width) - 2.0 * MARGIN
}

/// Pixels left of the panel for the tick labels.
pub(super) fn tick_room(ticks: &[f64]) -> f64 {
    let widest = ticks.iter().map(|tick| width(&number(*tick), TICK_SIZE, Weight::Regular)).fold(0.0, f64::max);
    widest + TICK_LENGTH + TICK_GAP
}

impl Frame {
    /// Puts everything in its place, making the figure higher where its words need it.
    pub fn new(figure: &Figure, wanted: Wanted) -> Frame {
        let room = inner_width(figure);
        let title = lines_of(&figure.title, TITLE_SIZE, Weight::Bold, room);
        let subtitle = lines_of(&figure.subtitle, TEXT_SIZE, Weight::Regular, room);
        let y_label = lines_of(&wanted.y_label, TEXT_SIZE, Weight::Regular, room);
        let caption: Vec<String> =
            figure.caption.iter().flat_map(|line| lines_of(line, CAPTION_SIZE, Weight::Regular, room)).collect();
        let mut top = MARGIN + height_of(&title, TITLE_SIZE) + height_of(&subtitle, TEXT_SIZE);
        let (legend, legend_height) = wanted.legend;
        if !legend.is_empty() {
            top += 8.0;
        }
        let legend_top = top;
        top += legend_height + 14.0 + height_of(&y_label, TEXT_SIZE);
        let caption_height = if caption.is_empty() { 0.0 } else { height_of(&caption, CAPTION_SIZE) + 8.0 };
        let below = wanted.below + caption_height + MARGIN * 0.75;
        let height = f64::from(figure.height).max(top + wanted.least + below).ceil();
        let panel = Panel {
            left: MARGIN + tick_room(&wanted.y_ticks),
            right: f64::from(figure.width) - MARGIN - wanted.beside,
            top,
            bottom: height - below,
        };
        let y_ticks = wanted.y_ticks;
        Frame {
            panel,
            height,
            width: f64::from(figure.width),
            title,
            subtitle,
            y_label,
            caption,
            legend,
            legend_top,
            y_ticks,
        }
    }

    /// Size of the sheet in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// Words, grid and the left axis; the data comes on top.
    pub fn draw(&self, canvas: &mut Canvas, y: &Mapping) -> Result<()> {
        self.draw_words(canvas)?;
        self.draw_axes(canvas, y)
    }

    /// Title, subtitle, names, what is measured and caption.
    pub fn draw_words(&self, canvas: &mut Canvas) -> Result<()> {
        let mut top = MARGIN;
        for (lines, letters) in
            [(&self.title, Letters::new(TITLE_SIZE, INK).bold()), (&self.subtitle, Letters::new(TEXT_SIZE, GREY))]
        {
            draw_lines(canvas, lines, (MARGIN, top), letters)?;
            top += height_of(lines, letters.size);
        }
        for placed in &self.legend {
            placed.draw(canvas, (MARGIN, self.legend_top))?;
        }
        let label_top = self.panel.top - height_of(&self.y_label, TEXT_SIZE) - 5.0;
        draw_lines(canvas, &self.y_label, (MARGIN, label_top), Letters::new(TEXT_SIZE, GREY))?;
        let caption_top = self.height - MARGIN * 0.75 - height_of(&self.caption, CAPTION_SIZE);
        draw_lines(canvas, &self.caption, (MARGIN, caption_top), Letters::new(CAPTION_SIZE, GREY))
    }

    /// Grid and axes.
    pub fn draw_axes(&self, canvas: &mut Canvas, y: &Mapping) -> Result<()> {
        let Panel { left, right, top, bottom } = self.panel;
        let labels: Vec<_> = self.y_ticks.iter().map(|tick| (y.at(*tick), TICK_SIZE)).collect();
        for ((tick, (at, _)), keep) in self.y_ticks.iter().zip(&labels).zip(choose_labels(&labels, 2.0)) {
            if (at - bottom).abs() > 1.0 {
                canvas.dashed(&[(left, *at), (right, *at)], GRID, 1.0, GRID_DASH)?;
            }
            canvas.line(&[(left - TICK_LENGTH, *at), (left, *at)], AXIS, 1.0)?;
            if keep {
                let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::End);
                canvas.text((left - TICK_LENGTH - TICK_GAP, at + 0.36 * TICK_SIZE), &number(*tick), letters)?;
            }
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], AXIS, 1.0)
    }

    /// The mark of a tick on the lower axis.
    pub fn draw_x_tick(&self, canvas: &mut Canvas, at: f64) -> Result<()> {
        canvas.line(&[(at, self.panel.bottom), (at, self.panel.bottom + TICK_LENGTH)], AXIS, 1.0)
    }

    /// Baseline of the first line of labels below the lower axis.
    pub fn x_baseline(&self) -> f64 {
        self.panel.bottom + TICK_LENGTH + TICK_GAP + 0.76 * TICK_SIZE
    }

    /// A dashed line over the whole panel, with its interval as a band while few compete for the room.
    pub fn draw_reference(
        &self,
        canvas: &mut Canvas,
        y: &Mapping,
        reference: &Reference,
        colour: Colour,
        band: bool,
    ) -> Result<()> {
        let Panel { left, right, top, bottom } = self.panel;
        if let (true, Some(low), Some(high)) = (band, reference.low, reference.high) {
            let (low, high) = (y.at(low).clamp(top, bottom), y.at(high).clamp(top, bottom));
            canvas.polygon(&[(left, high), (right, high), (right, low), (left, low)], colour, 0.08)?;
        }
        let at = y.at(reference.mean);
        canvas.dashed(&[(left, at), (right, at)], tint(colour, 0.85), 1.3, REFERENCE_DASH)
    }

    /// An interval with caps that reach `cap` pixels to both sides; an end beyond the panel is cut there and has none.
    pub fn draw_interval(
        &self,
        canvas: &mut Canvas,
        y: &Mapping,
        (at, cap): (f64, f64),
        interval: (Option<f64>, Option<f64>),
        colour: Colour,
    ) -> Result<()> {
        let (Some(low), Some(high)) = interval else { return Ok(()) };
        let Panel { top, bottom, .. } = self.panel;
        let ends = [y.at(low), y.at(high)];
        canvas.line(&[(at, ends[0].clamp(top, bottom)), (at, ends[1].clamp(top, bottom))], colour, 1.5)?;
        for end in ends.into_iter().filter(|end| (top - 0.5..=bottom + 0.5).contains(end)) {
            canvas.line(&[(at - cap, end), (at + cap, end)], colour, 1.5)?;
        }
        Ok(())
    }

    /// One small ring per seed around `at`, side by side in the order given, so that equal values stay visible; `room` is
    /// the most pixels they may spread over; where that is little, they are smaller.
    pub fn draw_seeds(
        &self,
        canvas: &mut Canvas,
        y: &Mapping,
        (at, room): (f64, f64),
        seeds: &[f64],
        colour: Colour,
    ) -> Result<()> {
        let middle = (seeds.len().saturating_sub(1)) as f64 / 2.0;
        let step = (room / seeds.len().max(1) as f64).min(5.5);
        let radius = (0.35 * room).clamp(1.3, 2.0);
        for (index, seed) in seeds.iter().enumerate() {
            canvas.ring((at + (index as f64 - middle) * step, y.at(*seed)), radius, colour, 1.0)?;
        }
        Ok(())
    }
}

/// Wrapped lines; none for an empty text.
pub(super) fn lines_of(text: &str, size: f64, weight: Weight, room: f64) -> Vec<String> {
    if text.trim().is_empty() { Vec::new() } else { wrap(text, size, weight, room) }
}

/// Pixels that lines of this size take.
pub(super) fn height_of(lines: &[String], size: f64) -> f64 {
    lines.len() as f64 * size * LEADING
}

/// Draws lines below each other; `at` is the upper left corner of the first (or its middle or end, by the anchor).
pub(super) fn draw_lines(canvas: &mut Canvas, lines: &[String], at: (f64, f64), letters: Letters) -> Result<()> {
    for (index, line) in lines.iter().enumerate() {
        let baseline = at.1 + (index as f64 * LEADING + 0.97) * letters.size;
        canvas.text((at.0, baseline), line, letters)?;
    }
    Ok(())
}

/// Pixels from the lower axis to the first line of labels.
pub(super) fn tick_height() -> f64 {
    TICK_LENGTH + TICK_GAP
}
