//! Lines over a numeric x: means, intervals, seeds, and the name of each line at its end.

use super::axis::{Mapping, choose_labels, extent, number, range_and_ticks};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Figure, Line, Point, Reference, Series};
use super::font::{Weight, width};
use super::frame::{CAP, Frame, Panel, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height};
use super::legend::{Entry, Placed, Sample, in_column, in_rows};
use super::palette::{colour_of, display_name, styles};
use super::theme::{BREATHING, Colour, GREY, INK, LEADING, PANEL_MIN, Style, TEXT_SIZE, TICK_SIZE, tint};
use crate::error::Result;

/// Pixels between the panel and the column of names: room for leaders.
const LEADER: f64 = 22.0;
/// The most pixels, across and down, that a leader bridges.
const LEADER_REACH: f64 = 80.0;
/// Names stand at the ends of lines from this width of figure on.
const COLUMN_FROM: f64 = 560.0;
/// Intervals are also drawn as bands up to this number of series.
const BANDS_UP_TO: usize = 4;

/// Draws a checked line figure.
pub(super) fn draw(figure: &Figure, line: &Line) -> Result<String> {
    let points = || line.series.iter().flat_map(|series| &series.points);
    let must: Vec<f64> = points()
        .flat_map(|point| point.seeds.iter().copied().chain([point.mean]))
        .chain(line.references.iter().map(|reference| reference.mean))
        .collect();
    let may: Vec<f64> = points().flat_map(|point| [point.low, point.high]).flatten().collect();
    let (y_range, y_ticks) = range_and_ticks(&line.y, &must, &may);
    let x_label = lines_of(&line.x.label, TEXT_SIZE, Weight::Regular, inner_width(figure));
    let wanted = |legend, beside| Wanted {
        y_ticks: y_ticks.clone(),
        y_label: line.y.label.clone(),
        legend,
        below: tick_height() + TICK_SIZE * LEADING + 4.0 + height_of(&x_label, TEXT_SIZE),
        beside,
        least: PANEL_MIN,
    };
    let y_map = |panel: Panel| Mapping::new(line.y.scale, y_range, (panel.bottom, panel.top), (BREATHING, BREATHING));

    let entries = names(line);
    let bare = Frame::new(figure, wanted((Vec::new(), 0.0), 0.0));
    let column = column_of_names(figure, line, &entries, &bare, &y_map(bare.panel));
    let (frame, column) = match column {
        Some((placed, taken)) => (Frame::new(figure, wanted((Vec::new(), 0.0), taken + LEADER)), placed),
        None => {
            let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
            (Frame::new(figure, wanted(in_rows(&entries, inner_width(figure)), 0.0)), Vec::new())
        }
    };

    let panel = frame.panel;
    let y = y_map(panel);
    let xs = extent(points().map(|point| point.x).chain(line.x.range.into_iter().flat_map(|(low, high)| [low, high])));
    let side = dodge_room(line) / 2.0 / (panel.right - panel.left);
    let x = Mapping::new(line.x.scale, xs, (panel.left, panel.right), (BREATHING.max(side), BREATHING.max(side)));
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw(canvas, &y)?;
        draw_x_axis(canvas, &frame, line, &x, &x_label)?;
        draw_data(canvas, &frame, line, &x, &y)?;
        for placed in column {
            draw_leader(canvas, line, &placed, &x, &y, panel)?;
            placed.draw(canvas, (panel.right + LEADER, 0.0))?;
        }
        Ok(())
    })
}

/// Names with the value beside which they want to stand.
fn names(line: &Line) -> Vec<(Entry, f64)> {
    let series = line.series.iter().zip(looks(line)).map(|(series, style)| {
        let sample = Sample::Line(style);
        (Entry { sample, label: display_name(&series.label) }, in_order(series).last().map_or(0.0, |point| point.mean))
    });
    let references = line.references.iter().map(|reference| {
        let sample = Sample::Reference(reference_colour(line, reference));
        (Entry { sample, label: reference.label.clone() }, reference.mean)
    });
    series.chain(references).collect()
}

fn column_of_names(
    figure: &Figure,
    line: &Line,
    entries: &[(Entry, f64)],
    bare: &Frame,
    y: &Mapping,
) -> Option<(Vec<Placed>, f64)> {
    // A lone line whose name the title or the y axis tells anyway still gets it: one rule for all.
    if f64::from(figure.width) < COLUMN_FROM || line.series.is_empty() {
        return None;
    }
    let wishes: Vec<(Entry, f64)> = entries.iter().map(|(entry, value)| (entry.clone(), y.at(*value))).collect();
    let limits = (bare.panel.top - 0.5 * TEXT_SIZE, bare.panel.bottom + 0.5 * TEXT_SIZE);
    in_column(&wishes, 0.3 * f64::from(figure.width), limits)
}

/// A thin line from the end of a line to its name; none from far away, where it would cross others and the sample beside
/// the name tells enough.
fn draw_leader(canvas: &mut Canvas, line: &Line, name: &Placed, x: &Mapping, y: &Mapping, panel: Panel) -> Result<()> {
    let target = (panel.right + LEADER - 2.0, name.middle());
    let from = match line.series.get(name.index) {
        Some(series) => {
            let Some(last) = in_order(series).pop() else { return Ok(()) };
            (x.at(last.x) + dodge(line, x, name.index) + 8.0, y.at(last.mean))
        }
        None => (panel.right + 2.0, y.at(line.references[name.index - line.series.len()].mean)),
    };
    if panel.right - from.0 > LEADER_REACH || (target.1 - from.1).abs() > LEADER_REACH {
        return Ok(());
    }
    canvas.line(&[from, (panel.right + 4.0, from.1), target], tint(name.colour(), 0.45), 1.0)
}

fn labels(line: &Line) -> Vec<&str> {
    line.series.iter().map(|series| series.label.as_str()).collect()
}

fn looks(line: &Line) -> Vec<Style> {
    styles(&labels(line))
}

fn reference_colour(line: &Line, reference: &Reference) -> Colour {
    colour_of(&labels(line), reference.series.as_deref())
}

fn in_order(series: &Series) -> Vec<&Point> {
    let mut points: Vec<&Point> = series.points.iter().collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

/// Different x values from left to right.
fn stations(line: &Line) -> Vec<f64> {
    let mut xs: Vec<f64> = line.series.iter().flat_map(|series| &series.points).map(|point| point.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    xs
}

/// The most pixels over which the series spread around their common x; more where there is but one x.
fn dodge_room(line: &Line) -> f64 {
    let count = line.series.len() as f64;
    match (line.series.len(), stations(line).len()) {
        (1, _) => 0.0,
        (_, 1) => (50.0 * count).min(300.0),
        _ => (12.0 * count).min(66.0),
    }
}

/// Pixels by which a series stands beside its x.
fn dodge(line: &Line, x: &Mapping, index: usize) -> f64 {
    (index as f64 - (line.series.len() - 1) as f64 / 2.0) * dodge_step(line, x)
}

/// Pixels between neighbouring series at the same x: enough to see each interval, never so many that neighbouring x mix.
fn dodge_step(line: &Line, x: &Mapping) -> f64 {
    let stations = stations(line);
    let nearest = stations.windows(2).map(|pair| x.at(pair[1]) - x.at(pair[0])).fold(f64::INFINITY, f64::min);
    (dodge_room(line).min(0.6 * nearest)) / line.series.len() as f64
}

fn draw_x_axis(canvas: &mut Canvas, frame: &Frame, line: &Line, x: &Mapping, label: &[String]) -> Result<()> {
    let ticks = line.x.ticks.clone().unwrap_or_else(|| stations(line));
    let inside = |at: &f64| (frame.panel.left..=frame.panel.right).contains(at);
    let ticks: Vec<(f64, f64)> = ticks.iter().map(|tick| (*tick, x.at(*tick))).filter(|(_, at)| inside(at)).collect();
    let room: Vec<_> =
        ticks.iter().map(|(tick, at)| (*at, width(&number(*tick), TICK_SIZE, Weight::Regular))).collect();
    for ((tick, at), keep) in ticks.iter().zip(choose_labels(&room, 6.0)) {
        frame.draw_x_tick(canvas, *at)?;
        if keep {
            let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle);
            canvas.text((*at, frame.x_baseline()), &number(*tick), letters)?;
        }
    }
    let middle = (frame.panel.left + frame.panel.right) / 2.0;
    let top = frame.panel.bottom + tick_height() + TICK_SIZE * LEADING;
    draw_lines(canvas, label, (middle, top), Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle))
}

fn draw_data(canvas: &mut Canvas, frame: &Frame, line: &Line, x: &Mapping, y: &Mapping) -> Result<()> {
    let (step, looks) = (dodge_step(line, x), looks(line));
    let at = |index: usize, point: &Point| x.at(point.x) + dodge(line, x, index);
    let clip = |pixel: f64| pixel.clamp(frame.panel.top, frame.panel.bottom);

    for reference in &line.references {
        frame.draw_reference(canvas, y, reference, reference_colour(line, reference), line.references.len() <= 2)?;
    }
    if line.series.len() <= BANDS_UP_TO {
        for (index, series) in line.series.iter().enumerate() {
            for pair in in_order(series).windows(2) {
                let [(Some(low_a), Some(high_a)), (Some(low_b), Some(high_b))] =
                    [0, 1].map(|side| (pair[side].low, pair[side].high))
                else {
                    continue;
                };
                let (a, b) = (at(index, pair[0]), at(index, pair[1]));
                let corners = [(a, high_a), (b, high_b), (b, low_b), (a, low_a)];
                canvas.polygon(&corners.map(|(x, value)| (x, clip(y.at(value)))), looks[index].colour, 0.10)?;
            }
        }
    }
    for (index, series) in line.series.iter().enumerate() {
        let path: Vec<_> = in_order(series).into_iter().map(|point| (at(index, point), y.at(point.mean))).collect();
        if path.len() > 1 {
            canvas.dashed(&path, looks[index].colour, 2.0, looks[index].dash)?;
        }
    }
    for (index, series) in line.series.iter().enumerate() {
        let style = looks[index];
        for point in &series.points {
            frame.draw_interval(canvas, y, (at(index, point), CAP), (point.low, point.high), style.colour)?;
        }
        for point in &series.points {
            canvas.marker((at(index, point), y.at(point.mean)), style.marker, 4.5, style.colour)?;
        }
        for point in &series.points {
            let room = if step > 0.0 { (2.0 * step).min(24.0) } else { 24.0 };
            frame.draw_seeds(canvas, y, (at(index, point), room), &point.seeds, tint(style.colour, 0.8))?;
        }
    }
    Ok(())
}
