//! A scatter figure: one mark per group in a square, with intervals on both axes and a ring for every seed.

use super::axis::{Mapping, range_and_ticks};
use super::canvas::{Canvas, draw_sheet};
use super::figure::{Axis, Figure, Mark, Scatter};
use super::frame::{CAP, Panel};
use super::legend::{Entry, Sample};
use super::palette::{display_name, styles};
use super::square::Square;
use super::theme::{BREATHING, GREY, REFERENCE_DASH, Style, tint};
use crate::error::Result;

/// Draws a checked scatter figure.
pub(super) fn draw(figure: &Figure, scatter: &Scatter) -> Result<String> {
    let marks = || scatter.marks.iter();
    let across = marks().flat_map(|mark| mark.seeds.iter().map(|seed| seed.0).chain([mark.x])).collect();
    let down = marks().flat_map(|mark| mark.seeds.iter().map(|seed| seed.1).chain([mark.y])).collect();
    let across = (across, marks().flat_map(|mark| [mark.x_low, mark.x_high]).flatten().collect());
    let down = (down, marks().flat_map(|mark| [mark.y_low, mark.y_high]).flatten().collect());
    let range_of = |axis: &Axis, values: &(Vec<f64>, Vec<f64>)| range_and_ticks(axis, &values.0, &values.1);
    let (x_range, x_ticks) = range_of(&scatter.x, &across);
    let (y_range, y_ticks) = range_of(&scatter.y, &down);
    let square = Square::new(figure, (&scatter.x.label, &scatter.y.label), (x_ticks, y_ticks), &entries(scatter));
    let panel = square.frame.panel;
    let x = Mapping::new(scatter.x.scale, x_range, (panel.left, panel.right), (BREATHING, BREATHING));
    let y = Mapping::new(scatter.y.scale, y_range, (panel.bottom, panel.top), (BREATHING, BREATHING));
    draw_sheet(square.frame.size(), &figure.title, |canvas| {
        square.draw(canvas, &x, &y)?;
        let common = (x_range.0.max(y_range.0), x_range.1.min(y_range.1));
        if scatter.diagonal.is_some() && common.0 < common.1 {
            let ends = [(x.at(common.0), y.at(common.0)), (x.at(common.1), y.at(common.1))];
            canvas.dashed(&ends, tint(GREY, 0.85), 1.3, REFERENCE_DASH)?;
        }
        let front: Vec<_> = scatter.front.iter().map(|corner| (x.at(corner.0), y.at(corner.1))).collect();
        if front.len() > 1 {
            canvas.line(&front, tint(GREY, 0.6), 1.5)?;
        }
        let looks = looks(scatter);
        for (mark, style) in scatter.marks.iter().zip(&looks) {
            draw_extents(canvas, panel, (&x, &y), mark, *style)?;
        }
        for (mark, style) in scatter.marks.iter().zip(&looks) {
            for seed in &mark.seeds {
                canvas.ring((x.at(seed.0), y.at(seed.1)), 2.4, tint(style.colour, 0.8), 1.0)?;
            }
        }
        let mut means = scatter.marks.iter().zip(&looks);
        means.try_for_each(|(mark, style)| canvas.marker((x.at(mark.x), y.at(mark.y)), style.marker, 5.0, style.colour))
    })
}

fn looks(scatter: &Scatter) -> Vec<Style> {
    let labels: Vec<&str> = scatter.marks.iter().map(|mark| mark.label.as_str()).collect();
    styles(&labels)
}

/// Names in the order given, the diagonal last.
fn entries(scatter: &Scatter) -> Vec<Entry> {
    let marks = scatter.marks.iter().zip(looks(scatter));
    let marks = marks.map(|(mark, style)| Entry { sample: Sample::Dot(style), label: display_name(&mark.label) });
    let diagonal = |label: &String| Entry { sample: Sample::Reference(tint(GREY, 0.85)), label: label.clone() };
    marks.chain(scatter.diagonal.iter().map(diagonal)).collect()
}

/// Both intervals with caps; an end beyond the panel is cut there and has no cap.
fn draw_extents(
    canvas: &mut Canvas,
    panel: Panel,
    (x, y): (&Mapping, &Mapping),
    mark: &Mark,
    style: Style,
) -> Result<()> {
    let middle = (x.at(mark.x), y.at(mark.y));
    if let (Some(low), Some(high)) = (mark.x_low, mark.x_high) {
        let ends = [x.at(low), x.at(high)];
        let cut = ends.map(|end| (end.clamp(panel.left, panel.right), middle.1));
        canvas.line(&cut, style.colour, 1.5)?;
        for end in ends.into_iter().filter(|end| (panel.left - 0.5..=panel.right + 0.5).contains(end)) {
            canvas.line(&[(end, middle.1 - CAP), (end, middle.1 + CAP)], style.colour, 1.5)?;
        }
    }
    if let (Some(low), Some(high)) = (mark.y_low, mark.y_high) {
        let ends = [y.at(low), y.at(high)];
        let cut = ends.map(|end| (middle.0, end.clamp(panel.top, panel.bottom)));
        canvas.line(&cut, style.colour, 1.5)?;
        for end in ends.into_iter().filter(|end| (panel.top - 0.5..=panel.bottom + 0.5).contains(end)) {
            canvas.line(&[(middle.0 - CAP, end), (middle.0 + CAP, end)], style.colour, 1.5)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    /// Centers of the seeds' rings.
    fn rings(svg: &str) -> Vec<(f64, f64)> {
        let number = |line: &str, name: &str| -> f64 {
            line.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let rings = svg.lines().filter(|line| line.starts_with("<circle") && line.contains("fill=\"none\""));
        rings.map(|line| (number(line, "cx"), number(line, "cy"))).collect()
    }

    #[test]
    fn seeds_stand_where_their_pairs_say() {
        let figure = samples::scatter(4);
        let Kind::Scatter(scatter) = &figure.kind else { unreachable!() };
        let seeds: Vec<(f64, f64)> = scatter.marks.iter().flat_map(|mark| mark.seeds.clone()).collect();
        let rings = rings(&svg(&figure).unwrap());
        assert_eq!(rings.len(), seeds.len());
        for a in 0..seeds.len() {
            for b in 0..a {
                assert!((seeds[a].0 - seeds[b].0) * (rings[a].0 - rings[b].0) >= 0.0);
                assert!((seeds[a].1 - seeds[b].1) * (rings[a].1 - rings[b].1) <= 0.0);
            }
        }
    }

    #[test]
    fn a_mark_without_intervals_has_no_whiskers() {
        let mut figure = samples::scatter(1);
        let lines = |figure: &Figure| svg(figure).unwrap().matches("<polyline").count();
        let before = lines(&figure);
        let Kind::Scatter(scatter) = &mut figure.kind else { unreachable!() };
        (scatter.marks[0].x_low, scatter.marks[0].y_high) = (None, None);
        assert_eq!(before - lines(&figure), 6);
    }
}
