//! Curves in the unit square: a square panel, both axes from 0 to 1, names beside it or above.

use super::axis::Mapping;
use super::canvas::{Canvas, draw_sheet};
use super::figure::{Curve, Figure, Scale};
use super::frame::{CAP, Frame};
use super::legend::{Entry, Sample};
use super::palette::styles;
use super::square::Square;
use super::theme::{GREY, REFERENCE_DASH, Style, tint};
use crate::error::Result;

/// Labelled values of both axes.
const TICKS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Part of the axes left free beyond 0 and 1, so that curves along the edges stay whole.
const EDGE: f64 = 0.02;

/// Draws a checked figure of curves.
pub(super) fn draw(figure: &Figure, curve: &Curve) -> Result<String> {
    let ticks = (TICKS.to_vec(), TICKS.to_vec());
    let square = Square::new(figure, (&curve.x_label, &curve.y_label), ticks, &entries(curve));
    let panel = square.frame.panel;
    let x = Mapping::new(Scale::Linear, (0.0, 1.0), (panel.left, panel.right), (EDGE, EDGE));
    let y = Mapping::new(Scale::Linear, (0.0, 1.0), (panel.bottom, panel.top), (EDGE, EDGE));
    draw_sheet(square.frame.size(), &figure.title, |canvas| {
        square.draw(canvas, &x, &y)?;
        if curve.diagonal.is_some() {
            let ends = [(x.at(0.0), y.at(0.0)), (x.at(1.0), y.at(1.0))];
            canvas.dashed(&ends, tint(GREY, 0.85), 1.3, REFERENCE_DASH)?;
        }
        draw_traces(canvas, &square.frame, curve, &x, &y)
    })
}

/// Later curves first, so that the first ends on top.
fn draw_traces(canvas: &mut Canvas, frame: &Frame, curve: &Curve, x: &Mapping, y: &Mapping) -> Result<()> {
    let looks = looks(curve);
    let traces = || curve.traces.iter().enumerate().rev();
    for (index, trace) in traces() {
        let path: Vec<_> = trace.points.iter().map(|point| (x.at(point.x), y.at(point.y))).collect();
        if path.len() > 1 {
            canvas.dashed(&path, looks[index].colour, 2.0, looks[index].dash)?;
        }
    }
    for (index, trace) in traces().filter(|(_, trace)| trace.marked) {
        for point in &trace.points {
            frame.draw_interval(canvas, y, (x.at(point.x), CAP), (point.low, point.high), looks[index].colour)?;
        }
        for point in &trace.points {
            canvas.marker((x.at(point.x), y.at(point.y)), looks[index].marker, 4.5, looks[index].colour)?;
        }
    }
    Ok(())
}

fn looks(curve: &Curve) -> Vec<Style> {
    let labels: Vec<&str> = curve.traces.iter().map(|trace| trace.label.as_str()).collect();
    styles(&labels)
}

/// Names in the order given, the diagonal last.
fn entries(curve: &Curve) -> Vec<Entry> {
    let traces = curve.traces.iter().zip(looks(curve)).map(|(trace, style)| {
        let sample = if trace.marked { Sample::Line(style) } else { Sample::Plain(style) };
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
