//! Curves in the unit square: a square panel, both axes from 0 to 1, names beside it or above.

use super::axis::{Mapping, number};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Curve, Figure, Scale};
use super::font::Weight;
use super::frame::{Frame, Panel, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height};
use super::legend::{Entry, Sample, in_list};
use super::theme::{GREY, GRID, GRID_DASH, INK, LEADING, MARGIN, REFERENCE_DASH, TEXT_SIZE, TICK_SIZE, style, tint};
use crate::error::Result;

/// Labelled values of both axes.
const TICKS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Part of the axes left free beyond 0 and 1, so that curves along the edges stay whole.
const EDGE: f64 = 0.02;
/// Pixels between the panel and the names beside it.
const GAP: f64 = 28.0;
/// Names stand beside the panel where it keeps at least this many pixels.
const SIDE_MIN: f64 = 260.0;
/// The part of the sheet's width that names beside the panel may take.
const NAMES_SHARE: f64 = 0.36;

/// Draws a checked figure of curves.
pub(super) fn draw(figure: &Figure, curve: &Curve) -> Result<String> {
    let x_label = lines_of(&curve.x_label, TEXT_SIZE, Weight::Regular, inner_width(figure));
    let frame = |figure: &Figure, above: f64, beside: f64| {
        let below = tick_height() + TICK_SIZE * LEADING + 4.0 + height_of(&x_label, TEXT_SIZE);
        let (y_ticks, y_label) = (TICKS.to_vec(), curve.y_label.clone());
        Frame::new(figure, Wanted { y_ticks, y_label, legend: (Vec::new(), above), below, beside })
    };
    let bare = frame(figure, 0.0, 0.0).panel;
    let (room, height) = (bare.right - bare.left, bare.bottom - bare.top);
    let entries = entries(curve);
    let (names, (taken, names_height)) = in_list(&entries, NAMES_SHARE * f64::from(figure.width));
    let is_beside = room - taken - GAP >= SIDE_MIN && names_height <= height.max(SIDE_MIN);
    let (names, above) = if is_beside {
        (names, 0.0)
    } else {
        let (names, (_, above)) = in_list(&entries, inner_width(figure));
        (names, above + 8.0)
    };

    let widest = if is_beside { room - taken - GAP } else { room };
    // The panel is as high as the sheet allows, no wider than there is room, and not smaller than can be read; the
    // sheet becomes lower or higher by what that leaves or lacks.
    let plain = frame(figure, above, 0.0);
    let high = plain.panel.bottom - plain.panel.top;
    let side = high.max(SIDE_MIN).min(widest);
    let figure = &Figure { height: (plain.height + side - high).ceil() as u32, ..figure.clone() };
    let frame = frame(figure, above, room - side);
    let panel = frame.panel;
    let x = Mapping::new(Scale::Linear, (0.0, 1.0), (panel.left, panel.right), (EDGE, EDGE));
    let y = Mapping::new(Scale::Linear, (0.0, 1.0), (panel.bottom, panel.top), (EDGE, EDGE));
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw(canvas, &y)?;
        draw_x_axis(canvas, &frame, &x, &x_label)?;
        if curve.diagonal.is_some() {
            let ends = [(x.at(0.0), y.at(0.0)), (x.at(1.0), y.at(1.0))];
            canvas.dashed(&ends, tint(GREY, 0.85), 1.3, REFERENCE_DASH)?;
        }
        draw_traces(canvas, &frame, curve, &x, &y)?;
        let label = lines_of(&curve.y_label, TEXT_SIZE, Weight::Regular, inner_width(figure));
        let from = match is_beside {
            true => (panel.right + GAP, y.at(1.0) - 0.5 * TEXT_SIZE * LEADING),
            false => (MARGIN, panel.top - 14.0 - height_of(&label, TEXT_SIZE) - above + 8.0),
        };
        names.iter().try_for_each(|name| name.draw(canvas, from))
    })
}

fn draw_x_axis(canvas: &mut Canvas, frame: &Frame, x: &Mapping, label: &[String]) -> Result<()> {
    let Panel { left, right, top, bottom } = frame.panel;
    for tick in TICKS {
        let at = x.at(tick);
        canvas.dashed(&[(at, bottom), (at, top)], GRID, 1.0, GRID_DASH)?;
        frame.draw_x_tick(canvas, at)?;
        let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle);
        canvas.text((at, frame.x_baseline()), &number(tick), letters)?;
    }
    let below = bottom + tick_height() + TICK_SIZE * LEADING;
    let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle);
    draw_lines(canvas, label, ((left + right) / 2.0, below), letters)
}

/// Later curves first, so that the first ends on top.
fn draw_traces(canvas: &mut Canvas, frame: &Frame, curve: &Curve, x: &Mapping, y: &Mapping) -> Result<()> {
    let traces = || curve.traces.iter().enumerate().rev();
    for (index, trace) in traces() {
        let path: Vec<_> = trace.points.iter().map(|point| (x.at(point.x), y.at(point.y))).collect();
        if path.len() > 1 {
            canvas.dashed(&path, style(index).colour, 2.0, style(index).dash)?;
        }
    }
    for (index, trace) in traces().filter(|(_, trace)| trace.marked) {
        for point in &trace.points {
            frame.draw_interval(canvas, y, x.at(point.x), (point.low, point.high), style(index).colour)?;
        }
        for point in &trace.points {
            canvas.marker((x.at(point.x), y.at(point.y)), style(index).marker, 4.5, style(index).colour)?;
        }
    }
    Ok(())
}

/// Names in the order given, the diagonal last.
fn entries(curve: &Curve) -> Vec<Entry> {
    let traces = curve.traces.iter().enumerate().map(|(index, trace)| {
        let sample = if trace.marked { Sample::Line(style(index)) } else { Sample::Plain(style(index)) };
        Entry { sample, label: trace.label.clone() }
    });
    let diagonal = |label: &String| Entry { sample: Sample::Reference(tint(GREY, 0.85)), label: label.clone() };
    traces.chain(curve.diagonal.iter().map(diagonal)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    /// Corners of every polyline that has as many as asked for.
    fn paths(svg: &str, corners: usize) -> Vec<Vec<(f64, f64)>> {
        let pair = |text: &str| {
            let (x, y) = text.split_once(',').unwrap();
            (x.parse::<f64>().unwrap(), y.parse::<f64>().unwrap())
        };
        let lines = svg.lines().filter_map(|line| line.strip_prefix("<polyline")?.split("points=\"").nth(1));
        let all = lines.map(|text| text.split('"').next().unwrap().split_whitespace().map(pair).collect::<Vec<_>>());
        all.filter(|path| path.len() == corners).collect()
    }

    #[test]
    fn the_panel_is_square_whatever_the_sheet() {
        for (width, height) in [(720, 560), (400, 480), (960, 480), (480, 900), (320, 320)] {
            let mut figure = samples::curves(3);
            (figure.width, figure.height) = (width, height);
            let svg = svg(&figure).unwrap();
            // The axes are one line of three corners: down the left side and along the lower one.
            let axes = paths(&svg, 3).remove(0);
            let (down, along) = (axes[1].1 - axes[0].1, axes[2].0 - axes[1].0);
            assert!((down - along).abs() <= 12.0, "{width} x {height}: {down} x {along} tenths of a pixel");
        }
    }

    #[test]
    fn a_curve_runs_from_corner_to_corner_and_never_back() {
        let figure = samples::curves(1);
        let Kind::Curve(curve) = &figure.kind else { unreachable!() };
        let svg = svg(&figure).unwrap();
        let path = paths(&svg, curve.traces[0].points.len()).remove(0);
        assert!(path.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
        let diagonals = paths(&svg, 2);
        assert!(diagonals.contains(&vec![path[0], path[path.len() - 1]]), "chance joins the same corners");
    }

    #[test]
    fn marks_and_intervals_belong_to_marked_traces() {
        let circles = |figure: &Figure| svg(figure).unwrap().matches("<circle").count();
        assert_eq!(circles(&samples::curves(1)), 0);
        // Ten bins and the sample beside the name, each a disc of paper below a disc of colour.
        assert_eq!(circles(&samples::bins(1)), 22);
    }
}
