//! Dots in groups: means, intervals and seeds of several series beside each other above every group's name.

use super::axis::{Mapping, range_and_ticks};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Dot, Dots, Figure};
use super::font::{Weight, width};
use super::frame::{CAP, Frame, Panel, Wanted, inner_width, tick_height, tick_room};
use super::legend::{Entry, Sample, in_rows};
use super::names::Names;
use super::palette::{colour_of, display_name, styles};
use super::theme::{BREATHING, Colour, GREY, PANEL_MIN, PAPER, Style, tint};
use crate::error::Result;

/// Part of a group's width over which its dots spread.
const FILLED: f64 = 0.86;
/// Dots of a group stand no farther apart.
const WIDEST: f64 = 44.0;
/// Behind every second group.
const SHADE: Colour = (0xF4, 0xF4, 0xF4);
/// Letters of `n/a`.
const ABSENCE_SIZE: f64 = 10.0;

/// Where the dots of every series stand: pixels of a group and of a place within it.
#[derive(Clone, Copy)]
struct Places {
    left: f64,
    group: f64,
    step: f64,
    count: usize,
}

impl Places {
    /// Middle of a series in a group, whichever other series are there.
    fn at(&self, group: usize, series: usize) -> f64 {
        let middle = self.left + (group as f64 + 0.5) * self.group;
        middle + (series as f64 - (self.count - 1) as f64 / 2.0) * self.step
    }
}

/// Draws a checked figure of dots.
pub(super) fn draw(figure: &Figure, dots: &Dots) -> Result<String> {
    let all = || dots.groups.iter().flat_map(|group| &group.dots);
    let must: Vec<f64> = all()
        .flat_map(|dot| dot.seeds.iter().copied().chain([dot.mean]))
        .chain(dots.references.iter().map(|reference| reference.mean))
        .collect();
    let may: Vec<f64> = all().flat_map(|dot| [dot.low, dot.high]).flatten().collect();
    let (y_range, y_ticks) = range_and_ticks(&dots.y, &must, &may);

    let group_width = (inner_width(figure) - tick_room(&y_ticks)) / dots.groups.len() as f64;
    let labels: Vec<&str> = dots.groups.iter().map(|group| group.label.as_str()).collect();
    let names = Names::new(&labels, group_width);
    let legend = in_rows(&entries(dots), inner_width(figure));
    let below = tick_height() + names.height;
    let wanted = Wanted { y_ticks, y_label: dots.y.label.clone(), legend, below, beside: 0.0, least: PANEL_MIN };
    let frame = Frame::new(figure, wanted);
    let panel = frame.panel;
    let y = Mapping::new(dots.y.scale, y_range, (panel.bottom, panel.top), (BREATHING, BREATHING));
    let count = dots.series().len();
    let step = (group_width * FILLED / count as f64).min(WIDEST);
    let places = Places { left: panel.left, group: group_width, step, count };
    draw_sheet(frame.size(), &figure.title, |canvas| {
        draw_shades(canvas, panel, places, dots.groups.len())?;
        frame.draw(canvas, &y)?;
        names.draw(canvas, (panel.left, panel.bottom), group_width)?;
        for reference in &dots.references {
            let colour = colour_of(&dots.series(), reference.series.as_deref());
            frame.draw_reference(canvas, &y, reference, colour, dots.references.len() <= 2)?;
        }
        draw_data(canvas, &frame, dots, &y, places)
    })
}

fn entries(dots: &Dots) -> Vec<Entry> {
    let labels = dots.series();
    let named = labels.len() > 1 || labels.iter().any(|label| !label.is_empty());
    let series = labels.iter().zip(styles(&labels)).filter(|_| named);
    let series = series.map(|(label, style)| Entry { sample: Sample::Dot(style), label: display_name(label) });
    let references = dots.references.iter().map(|reference| Entry {
        sample: Sample::Reference(colour_of(&labels, reference.series.as_deref())),
        label: reference.label.clone(),
    });
    series.chain(references).collect()
}

fn shade_of(group: usize) -> Colour {
    if group % 2 == 1 { SHADE } else { PAPER }
}

fn draw_shades(canvas: &mut Canvas, panel: Panel, places: Places, groups: usize) -> Result<()> {
    for group in (1..groups).step_by(2) {
        let left = panel.left + group as f64 * places.group;
        canvas.rectangle((left, panel.top), (left + places.group, panel.bottom), shade_of(group))?;
    }
    Ok(())
}

fn draw_data(canvas: &mut Canvas, frame: &Frame, dots: &Dots, y: &Mapping, places: Places) -> Result<()> {
    let labels = dots.series();
    let styles = styles(&labels);
    let has_seeds = dots.groups.iter().flat_map(|group| &group.dots).any(|dot| !dot.seeds.is_empty());
    for (group, cluster) in dots.groups.iter().enumerate() {
        for (index, label) in labels.iter().enumerate() {
            let at = places.at(group, index);
            match cluster.dots.iter().find(|dot| dot.series == *label) {
                Some(dot) => draw_one(canvas, frame, y, dot, (at, places.step, has_seeds), styles[index])?,
                None => draw_absence(canvas, frame.panel, (at, places.step), shade_of(group))?,
            }
        }
    }
    Ok(())
}

/// The mean with its interval, and the seeds right of it, where they hide neither it nor each other.
fn draw_one(
    canvas: &mut Canvas,
    frame: &Frame,
    y: &Mapping,
    dot: &Dot,
    (at, step, has_seeds): (f64, f64, bool),
    style: Style,
) -> Result<()> {
    let aside = if has_seeds { (0.2 * step).min(6.0) } else { 0.0 };
    let (room, colour) = ((0.42 * step).min(22.0), tint(style.colour, 0.8));
    frame.draw_seeds(canvas, y, (at + (0.26 * step).min(13.0), room), &dot.seeds, colour)?;
    frame.draw_interval(canvas, y, (at - aside, (0.36 * step).min(CAP)), (dot.low, dot.high), style.colour)?;
    canvas.marker((at - aside, y.at(dot.mean)), style.marker, (0.33 * step).clamp(2.0, 4.5), style.colour)
}

/// `n/a` upon the lower axis, upward where that is too wide and nothing where there is no room at all: words, so that no
/// dot is not a dot at zero.
fn draw_absence(canvas: &mut Canvas, panel: Panel, (at, step): (f64, f64), paper: Colour) -> Result<()> {
    let (long, letters) = (width("n/a", ABSENCE_SIZE, Weight::Regular), Letters::new(ABSENCE_SIZE, tint(GREY, 0.85)));
    let bottom = panel.bottom - 2.0;
    if long + 2.0 < step {
        canvas.rectangle((at - long / 2.0 - 1.0, bottom - 11.0), (at + long / 2.0 + 1.0, bottom), paper)?;
        canvas.text((at, bottom - 2.0), "n/a", letters.anchored(Anchor::Middle))
    } else if ABSENCE_SIZE < step {
        canvas.rectangle((at - 5.0, bottom - long - 2.0), (at + 5.0, bottom), paper)?;
        canvas.text((at + 0.36 * ABSENCE_SIZE, bottom - 1.0), "n/a", letters.upward())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    /// Where the intervals of one colour stand, from left to right.
    fn whiskers(figure: &Figure, colour: Colour) -> Vec<i32> {
        let svg = svg(figure).unwrap();
        let stroke = format!("stroke=\"#{:02X}{:02X}{:02X}\" stroke-width=\"15\"", colour.0, colour.1, colour.2);
        let upright =
            svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&stroke)).filter_map(|line| {
                let points = line.split("points=\"").nth(1)?.split('"').next()?;
                let corners: Vec<(&str, &str)> =
                    points.split_whitespace().filter_map(|corner| corner.split_once(',')).collect();
                (corners.len() == 2 && corners[0].0 == corners[1].0).then(|| corners[0].0.parse().unwrap())
            });
        upright.collect()
    }

    #[test]
    fn every_series_keeps_its_place_whichever_others_are_absent() {
        let mut figure = samples::dots(4, 5);
        let series: Vec<String> = samples::GROUPS[..5].iter().map(|label| label.to_string()).collect();
        let colours: Vec<Colour> = styles(&samples::GROUPS[..5]).iter().map(|style| style.colour).collect();
        let before: Vec<Vec<i32>> = colours.iter().map(|colour| whiskers(&figure, *colour)).collect();
        assert!(before.iter().all(|places| places.len() == 4), "{before:?}");
        let Kind::Dots(dots) = &mut figure.kind else { unreachable!() };
        dots.groups[2].dots.retain(|dot| dot.series != series[1] && dot.series != series[0]);
        for (index, colour) in colours.iter().enumerate() {
            let mut expected = before[index].clone();
            if index < 2 {
                expected.remove(2);
            }
            assert_eq!(whiskers(&figure, *colour), expected, "{}", series[index]);
        }
    }

    #[test]
    fn an_absent_dot_is_words_and_no_mark() {
        let mut figure = samples::dots(2, 3);
        let marks = |figure: &Figure| {
            svg(figure).unwrap().matches("<circle").count() + svg(figure).unwrap().matches("<polygon").count()
        };
        let (before, words) = (marks(&figure), svg(&figure).unwrap().matches("n/a").count());
        let Kind::Dots(dots) = &mut figure.kind else { unreachable!() };
        let seeds = dots.groups[1].dots[1].seeds.len();
        dots.groups[1].dots.remove(1);
        // A mean is its mark and the paper's edge around it, a seed a ring and the paper in it.
        assert_eq!(before - marks(&figure), 2 + 2 * seeds);
        assert_eq!((words, svg(&figure).unwrap().matches("n/a").count()), (0, 1));
    }
}
