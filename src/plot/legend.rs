//! Names of series and references: in rows above the panel, in a column at the ends of their lines, or in a list.

use super::canvas::{Canvas, Letters};
use super::font::{Weight, width, wrap};
use super::theme::{Colour, Hatch, INK, LEADING, REFERENCE_DASH, Style, TEXT_SIZE, contrast, tint};
use crate::error::Result;

/// Pixels of a sample of line or bar.
const SAMPLE_WIDTH: f64 = 26.0;
const SAMPLE_GAP: f64 = 7.0;
const ENTRY_GAP: f64 = 22.0;
const COLUMN_GAP: f64 = 5.0;
const LIST_GAP: f64 = 6.0;
const LINE_HEIGHT: f64 = TEXT_SIZE * LEADING;

/// What stands before a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    /// With its marker.
    Line(Style),
    /// Without a marker.
    Plain(Style),
    Bar(Style),
    /// The marker alone.
    Dot(Style),
    Reference(Colour),
}

/// One name.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub sample: Sample,
    pub label: String,
}

/// A name in its place: `top` and `left` of its box, and its lines.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// Place among the entries given.
    pub index: usize,
    entry: Entry,
    lines: Vec<String>,
    left: f64,
    top: f64,
}

impl Placed {
    fn height(&self) -> f64 {
        self.lines.len() as f64 * LINE_HEIGHT
    }
    /// Middle of its first line, where its sample stands.
    pub fn middle(&self) -> f64 {
        self.top + LINE_HEIGHT / 2.0
    }
    /// Colour of its sample.
    pub fn colour(&self) -> Colour {
        match self.entry.sample {
            Sample::Line(style) | Sample::Plain(style) | Sample::Bar(style) | Sample::Dot(style) => style.colour,
            Sample::Reference(colour) => colour,
        }
    }
    fn width(&self) -> f64 {
        let text = self.lines.iter().map(|line| width(line, TEXT_SIZE, Weight::Regular)).fold(0.0, f64::max);
        SAMPLE_WIDTH + SAMPLE_GAP + text
    }
    /// Draws it with its origin at `from`.
    pub fn draw(&self, canvas: &mut Canvas, from: (f64, f64)) -> Result<()> {
        let (left, middle) = (from.0 + self.left, from.1 + self.middle());
        draw_sample(canvas, self.entry.sample, (left, middle))?;
        for (index, line) in self.lines.iter().enumerate() {
            // A line of text is centred on the height of its lower-case letters and its ascenders alike.
            let baseline = middle + index as f64 * LINE_HEIGHT + 0.36 * TEXT_SIZE;
            canvas.text((left + SAMPLE_WIDTH + SAMPLE_GAP, baseline), line, Letters::new(TEXT_SIZE, INK))?;
        }
        Ok(())
    }
}

/// Rows from (0, 0), as many as `room` pixels of width need; and their height.
pub(super) fn in_rows(entries: &[Entry], room: f64) -> (Vec<Placed>, f64) {
    let (mut left, mut top, mut row_height) = (0.0, 0.0, 0.0f64);
    let mut placed = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let mut item = place(index, entry, room);
        if left > 0.0 && left + item.width() > room {
            (left, top, row_height) = (0.0, top + row_height, 0.0);
        }
        (item.left, item.top) = (left, top);
        left += item.width() + ENTRY_GAP;
        row_height = row_height.max(item.height());
        placed.push(item);
    }
    (placed, top + row_height)
}

/// One below the other from (0, 0), no wider than `room` pixels; and the width and height that they take.
pub(super) fn in_list(entries: &[Entry], room: f64) -> (Vec<Placed>, (f64, f64)) {
    let (mut width, mut top) = (0.0f64, 0.0);
    let mut placed = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let item = Placed { top, ..place(index, entry, room) };
        width = width.max(item.width());
        top += item.height() + LIST_GAP;
        placed.push(item);
    }
    (placed, (width, top))
}

/// A column `room` pixels wide at x = 0, every entry as near to its wished middle as the others and the limits `top` and
/// `bottom` allow; nothing when they have not all room. Also the width that it takes.
pub(super) fn in_column(entries: &[(Entry, f64)], room: f64, (top, bottom): (f64, f64)) -> Option<(Vec<Placed>, f64)> {
    let mut placed: Vec<(Placed, f64)> =
        entries.iter().enumerate().map(|(index, (entry, wish))| (place(index, entry, room), *wish)).collect();
    placed.sort_by(|a, b| a.1.total_cmp(&b.1));
    let heights: Vec<f64> = placed.iter().map(|(item, _)| item.height() + COLUMN_GAP).collect();
    let wishes: Vec<f64> = placed.iter().map(|(_, wish)| wish - (LINE_HEIGHT + COLUMN_GAP) / 2.0).collect();
    let tops = stack(&wishes, &heights, top, bottom)?;
    let taken = placed.iter().map(|(item, _)| item.width()).fold(0.0, f64::max);
    let placed = placed.into_iter().zip(tops).map(|((item, _), top)| Placed { top: top + COLUMN_GAP / 2.0, ..item });
    Some((placed.collect(), taken))
}

fn place(index: usize, entry: &Entry, room: f64) -> Placed {
    let lines = wrap(&entry.label, TEXT_SIZE, Weight::Regular, room - SAMPLE_WIDTH - SAMPLE_GAP);
    Placed { index, entry: entry.clone(), lines, left: 0.0, top: 0.0 }
}

/// Tops of boxes stacked in this order without overlap between the limits, with the least sum of squared distances from
/// their wished tops (pool-adjacent-violators, as in isotonic regression); nothing when they are higher than the limits.
fn stack(wishes: &[f64], heights: &[f64], top: f64, bottom: f64) -> Option<Vec<f64>> {
    let total: f64 = heights.iter().sum();
    if total > bottom - top {
        return None;
    }
    // Taking away what lies above each box turns "no overlap" into "never decreasing".
    let above: Vec<f64> = heights.iter().scan(0.0, |sum, height| Some(std::mem::replace(sum, *sum + height))).collect();
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, above) in wishes.iter().zip(&above) {
        let mut pool = (wish - above, 1);
        while let Some(&(mean, count)) = pools.last().filter(|(mean, _)| *mean > pool.0) {
            pool = ((mean * count as f64 + pool.0 * pool.1 as f64) / (count + pool.1) as f64, count + pool.1);
            pools.pop();
        }
        pools.push(pool);
    }
    let levels = pools.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean, count));
    Some(levels.zip(above).map(|(level, above)| level.clamp(top, bottom - total) + above).collect())
}

fn draw_sample(canvas: &mut Canvas, sample: Sample, (left, middle): (f64, f64)) -> Result<()> {
    let line = [(left, middle), (left + SAMPLE_WIDTH, middle)];
    match sample {
        Sample::Line(style) => {
            canvas.dashed(&line, style.colour, 2.0, style.dash)?;
            canvas.marker((left + SAMPLE_WIDTH / 2.0, middle), style.marker, 4.5, style.colour)
        }
        Sample::Plain(style) => canvas.dashed(&line, style.colour, 2.0, style.dash),
        Sample::Reference(colour) => canvas.dashed(&line, colour, 1.3, REFERENCE_DASH),
        Sample::Dot(style) => canvas.marker((left + SAMPLE_WIDTH / 2.0 + 3.0, middle), style.marker, 5.0, style.colour),
        Sample::Bar(style) => draw_bar(canvas, (left, middle - 6.5), (left + SAMPLE_WIDTH - 3.0, middle + 6.5), style),
    }
}

/// A bar in its series' colour and hatching.
pub(super) fn draw_bar(canvas: &mut Canvas, from: (f64, f64), to: (f64, f64), style: Style) -> Result<()> {
    canvas.rectangle(from, to, style.colour)?;
    draw_hatch(canvas, from, to, style.hatch, tint(contrast(style.colour), 0.75))
}

/// Lines over a rectangle.
pub(super) fn draw_hatch(
    canvas: &mut Canvas,
    from: (f64, f64),
    to: (f64, f64),
    hatch: Hatch,
    ink: Colour,
) -> Result<()> {
    let (rising, falling, level) = match hatch {
        Hatch::Plain => (false, false, false),
        Hatch::Rising => (true, false, false),
        Hatch::Falling => (false, true, false),
        Hatch::Crossed => (true, true, false),
        Hatch::Level => (false, false, true),
    };
    let (width, height) = (to.0 - from.0, to.1 - from.1);
    const STEP: f64 = 7.0;
    if level {
        let mut y = to.1 - STEP / 2.0;
        while y > from.1 {
            canvas.line(&[(from.0, y), (to.0, y)], ink, 0.8)?;
            y -= STEP;
        }
    }
    // Lines u + v = c in the bar's own coordinates, u to the right and v upward from its lower left corner.
    let mut c = STEP;
    while (rising || falling) && c < width + height {
        let (u_low, u_high) = ((c - height).max(0.0), c.min(width));
        if falling {
            canvas.line(&[(from.0 + u_low, to.1 - c + u_low), (from.0 + u_high, to.1 - c + u_high)], ink, 0.8)?;
        }
        if rising {
            canvas.line(&[(to.0 - u_low, to.1 - c + u_low), (to.0 - u_high, to.1 - c + u_high)], ink, 0.8)?;
        }
        c += STEP;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stacked_boxes_never_overlap(
            mut wishes in prop::collection::vec(-100f64..500.0, 1..12), heights in prop::collection::vec(5f64..40.0, 12),
        ) {
            wishes.sort_by(f64::total_cmp);
            let heights = &heights[..wishes.len()];
            match stack(&wishes, heights, 0.0, 300.0) {
                None => prop_assert!(heights.iter().sum::<f64>() > 300.0),
                Some(tops) => {
                    prop_assert!(tops[0] >= 0.0 && tops[tops.len() - 1] + heights[tops.len() - 1] <= 300.0 + 1e-6);
                    for index in 1..tops.len() {
                        prop_assert!(tops[index] >= tops[index - 1] + heights[index - 1] - 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn boxes_with_room_stand_where_they_wish() {
        assert_eq!(stack(&[10.0, 50.0], &[20.0, 20.0], 0.0, 100.0), Some(vec![10.0, 50.0]));
        assert_eq!(stack(&[30.0, 30.0], &[20.0, 20.0], 0.0, 100.0), Some(vec![20.0, 40.0]));
    }

    #[test]
    fn rows_wrap_and_stay_within_the_room() {
        let entry = |label: &str| Entry { sample: Sample::Reference(INK), label: label.to_string() };
        let entries: Vec<_> = ["short", "out-of-distribution: general", "in-distribution", "x"].map(entry).to_vec();
        let (placed, height) = in_rows(&entries, 320.0);
        assert!(height >= 2.0 * LINE_HEIGHT);
        assert!(
            placed.iter().all(|item| item.left + item.width() <= 320.0 && item.top + item.height() <= height + 1e-9)
        );
    }
}
