//! Bars in groups: means, intervals and seeds of several series beside each other above every group's name.

use super::axis::{Mapping, range_and_ticks};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Bar, Bars, Figure, Reference};
use super::font::{Weight, width};
use super::frame::{CAP, Frame, Wanted, inner_width, tick_height, tick_room};
use super::legend::{Entry, Sample, draw_bar, in_rows};
use super::names::Names;
use super::palette::{colour_of, display_name, styles};
use super::theme::{BREATHING, Colour, GREY, INK, PANEL_MIN, PAPER, Style, tint};
use crate::error::Result;

/// Part of a group's width that its bars take.
const FILLED: f64 = 0.8;
/// A bar is never wider.
const WIDEST: f64 = 56.0;

/// Draws a checked bar figure.
pub(super) fn draw(figure: &Figure, bars: &Bars) -> Result<String> {
    let all = || bars.groups.iter().flat_map(|group| &group.bars);
    let must: Vec<f64> = all()
        .flat_map(|bar| bar.seeds.iter().copied().chain([bar.mean]))
        .chain(bars.references.iter().map(|reference| reference.mean))
        .chain([0.0])
        .collect();
    let may: Vec<f64> = all().flat_map(|bar| [bar.low, bar.high]).flatten().collect();
    let (y_range, y_ticks) = range_and_ticks(&bars.y, &must, &may);

    let group_width = (inner_width(figure) - tick_room(&y_ticks)) / bars.groups.len() as f64;
    let labels: Vec<&str> = bars.groups.iter().map(|group| group.label.as_str()).collect();
    let names = Names::new(&labels, group_width);
    let legend = in_rows(&entries(bars), inner_width(figure));
    let below = tick_height() + names.height;
    let wanted = Wanted { y_ticks, y_label: bars.y.label.clone(), legend, below, beside: 0.0, least: PANEL_MIN };
    let frame = Frame::new(figure, wanted);
    let panel = frame.panel;
    // Bars that grow from the axis itself have no room below it.
    let below = if y_range.0 < 0.0 { BREATHING } else { 0.0 };
    let y = Mapping::new(bars.y.scale, y_range, (panel.bottom, panel.top), (below, BREATHING));
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw(canvas, &y)?;
        names.draw(canvas, (panel.left, panel.bottom), group_width)?;
        draw_data(canvas, &frame, bars, &y, group_width)
    })
}

fn entries(bars: &Bars) -> Vec<Entry> {
    let labels = bars.series();
    let named = labels.len() > 1 || labels.iter().any(|label| !label.is_empty());
    let series = labels.iter().zip(styles(&labels)).filter(|_| named);
    let series = series.map(|(label, style)| Entry { sample: Sample::Bar(style), label: display_name(label) });
    let references = bars.references.iter().map(|reference| Entry {
        sample: Sample::Reference(reference_colour(bars, reference)),
        label: reference.label.clone(),
    });
    series.chain(references).collect()
}

fn reference_colour(bars: &Bars, reference: &Reference) -> Colour {
    colour_of(&bars.series(), reference.series.as_deref())
}

fn draw_data(canvas: &mut Canvas, frame: &Frame, bars: &Bars, y: &Mapping, group_width: f64) -> Result<()> {
    let labels = bars.series();
    let styles = styles(&labels);
    let bar_width = (group_width * FILLED / labels.len() as f64).min(WIDEST);
    let zero = y.at(0.0).clamp(frame.panel.top, frame.panel.bottom);
    let mut absences = Vec::new();
    for (place, group) in bars.groups.iter().enumerate() {
        let first = frame.panel.left + (place as f64 + 0.5) * group_width - bar_width * labels.len() as f64 / 2.0;
        for (index, label) in labels.iter().enumerate() {
            let left = first + index as f64 * bar_width;
            match group.bars.iter().find(|bar| bar.series == *label) {
                Some(bar) => draw_one(canvas, frame, y, bar, (left, bar_width, zero), styles[index])?,
                None => absences.push((left + bar_width / 2.0, zero)),
            }
        }
    }
    for reference in &bars.references {
        frame.draw_reference(canvas, y, reference, reference_colour(bars, reference), bars.references.len() <= 2)?;
    }
    if zero < frame.panel.bottom - 1.0 {
        canvas.line(&[(frame.panel.left, zero), (frame.panel.right, zero)], INK, 1.0)?;
    }
    absences.into_iter().try_for_each(|at| draw_absence(canvas, at, bar_width))
}

fn draw_one(
    canvas: &mut Canvas,
    frame: &Frame,
    y: &Mapping,
    bar: &Bar,
    (left, bar_width, zero): (f64, f64, f64),
    style: Style,
) -> Result<()> {
    let (edge, at) = ((0.06 * bar_width).min(2.0), y.at(bar.mean));
    // A mean of zero still shows as a line of its colour.
    let (top, bottom) = if (at - zero).abs() < 1.5 { (zero - 1.5, zero) } else { (at.min(zero), at.max(zero)) };
    draw_bar(canvas, (left + edge, top), (left + bar_width - edge, bottom), style)?;
    let middle = left + bar_width / 2.0;
    frame.draw_interval(canvas, y, (middle, CAP), (bar.low, bar.high), INK)?;
    frame.draw_seeds(canvas, y, (middle, 0.8 * bar_width), &bar.seeds, tint(INK, 0.8))
}

/// `n/a`, or a dash where that is too wide: no bar is not a bar of height zero.
fn draw_absence(canvas: &mut Canvas, (middle, zero): (f64, f64), bar_width: f64) -> Result<()> {
    const SIZE: f64 = 11.0;
    let text = if width("n/a", SIZE, Weight::Regular) < bar_width { "n/a" } else { "\u{2013}" };
    let half = width(text, SIZE, Weight::Regular) / 2.0 + 1.0;
    canvas.rectangle((middle - half, zero - 16.0), (middle + half, zero - 2.0), PAPER)?;
    canvas.text((middle, zero - 5.0), text, Letters::new(SIZE, GREY).anchored(Anchor::Middle))
}
