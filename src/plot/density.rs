//! Density panels: how often two scores of an answer occur together, a square of coloured bins for every group.

use super::axis::{Mapping, choose_labels, extent, number, range_and_ticks};
use super::binning::{count_pairs, edge, percent};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Axis, Cloud, Density, Figure, Measure, Scale, scores_of};
use super::font::{Weight, width};
use super::frame::{
    Frame, Panel, TICK_GAP, TICK_LENGTH, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height, tick_room,
};
use super::legend::draw_hatch;
use super::palette::display_name;
use super::ramp::Ramp;
use super::theme::{AXIS, GREY, Hatch, INK, LEADING, MARGIN, PAPER, REFERENCE_DASH, TEXT_SIZE, TICK_SIZE, tint};
use crate::error::Result;

/// Pixels between panels beside each other: room for half of both numbers at their corners.
const GAP: f64 = 24.0;
/// A panel is narrower only where a single one has no more room, and never wider.
const NARROWEST: f64 = 160.0;
const WIDEST: f64 = 320.0;
/// Pixels between rows of panels.
const ROW_GAP: f64 = 10.0;
/// Letters of the shares.
const SHARE_SIZE: f64 = 11.0;
/// Place on the ramp of the rarest bin: one answer is seen, none is paper.
const PALEST: f64 = 0.12;

/// Where the panels stand.
struct Grid {
    columns: usize,
    side: f64,
    left: f64,
    top: f64,
    /// From the top of one row of panels to that of the next.
    pitch: f64,
}

impl Grid {
    fn panel(&self, index: usize) -> Panel {
        let (row, column) = (index / self.columns, index % self.columns);
        // Whole pixels leave no seams between bins.
        let left = (self.left + column as f64 * (self.side + GAP)).round();
        let top = (self.top + row as f64 * self.pitch).round();
        Panel { left, right: left + self.side, top, bottom: top + self.side }
    }
}

/// Draws a checked figure of density panels.
pub(super) fn draw(figure: &Figure, density: &Density) -> Result<String> {
    let (x_range, y_range) = (scores_of(&density.x), scores_of(&density.y));
    let ticks = |axis: &Axis| range_and_ticks(&Axis { range: Some(scores_of(axis)), ..axis.clone() }, &[], &[]).1;
    let (x_ticks, y_ticks) = (ticks(&density.x), ticks(&density.y));
    let bins: Vec<Vec<Vec<f64>>> = density.panels.iter().map(|cloud| measured(density, cloud)).collect();
    let filled = || bins.iter().flatten().flatten().copied().filter(|value| *value > 0.0);
    let ramp = Ramp::rising(extent(filled()), density.scale, PALEST);
    let measure = match density.measure {
        Measure::Share => "share of answers",
        Measure::Count => "answers",
    };

    let left = MARGIN + tick_room(&y_ticks);
    let beside = ramp.room(measure, NARROWEST);
    let room = f64::from(figure.width) - MARGIN - beside - left;
    let fitting = (((room + GAP) / (NARROWEST + GAP)) as usize).clamp(1, density.panels.len());
    let rows = density.panels.len().div_ceil(fitting);
    let columns = density.panels.len().div_ceil(rows);
    let side = ((room - GAP * (columns - 1) as f64) / columns as f64).clamp(40.0, WIDEST).floor();

    let titles: Vec<Vec<String>> = density.panels.iter().map(|cloud| title_of(cloud, side)).collect();
    let title_height = titles.iter().map(|lines| height_of(lines, TICK_SIZE)).fold(0.0, f64::max) + 4.0;
    let x_label = lines_of(&density.x.label, TEXT_SIZE, Weight::Regular, inner_width(figure));
    let tick_row = tick_height() + TICK_SIZE * LEADING;
    // Where the last row is not full, panels above its empty places have ticks of their own.
    let ragged = !density.panels.len().is_multiple_of(columns);
    let pitch = title_height + side + ROW_GAP + if ragged { tick_row } else { 0.0 };
    let least = pitch * rows as f64 - ROW_GAP - if ragged { tick_row } else { 0.0 };
    let below = tick_row + 4.0 + height_of(&x_label, TEXT_SIZE);
    let wanted =
        Wanted { y_ticks: vec![], y_label: density.y.label.clone(), legend: (vec![], 0.0), below, beside, least };
    // The panels' width decides how high the sheet is.
    let figure = &Figure { height: 1, ..figure.clone() };
    let frame = Frame::new(figure, wanted);
    let grid = Grid { columns, side, left, top: frame.panel.top + title_height, pitch };
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw_words(canvas)?;
        for (index, cloud) in density.panels.iter().enumerate() {
            let panel = grid.panel(index);
            draw_lines(
                canvas,
                &titles[index],
                (panel.left, panel.top - 4.0 - height_of(&titles[index], TICK_SIZE)),
                Letters::new(TICK_SIZE, INK),
            )?;
            draw_bins(canvas, panel, &bins[index], &ramp)?;
            let x = Mapping::new(Scale::Linear, x_range, (panel.left, panel.right), (0.0, 0.0));
            let y = Mapping::new(Scale::Linear, y_range, (panel.bottom, panel.top), (0.0, 0.0));
            draw_edges(canvas, panel)?;
            draw_y_ticks(canvas, panel, &y, &y_ticks, index % columns == 0)?;
            draw_x_ticks(canvas, panel, &x, &x_ticks, index + columns >= density.panels.len())?;
            if !cloud.points.is_empty() {
                draw_thresholds(canvas, panel, (&x, &y), density, cloud)?;
            }
        }
        let (first, last) = (grid.panel(0), grid.panel(density.panels.len() - 1));
        let right = grid.panel(columns - 1).right;
        let top = first.bottom + (rows - 1) as f64 * pitch + tick_row;
        let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle);
        draw_lines(canvas, &x_label, ((first.left + right) / 2.0, top), letters)?;
        ramp.draw(canvas, Panel { right, bottom: last.bottom, ..first }, measure)
    })
}

/// What the bins of one panel show: a list per vertical bin, from below.
fn measured(density: &Density, cloud: &Cloud) -> Vec<Vec<f64>> {
    let counts = count_pairs(&cloud.points, scores_of(&density.x), scores_of(&density.y), density.bins);
    let whole = match density.measure {
        Measure::Share => cloud.points.len().max(1) as f64,
        Measure::Count => 1.0,
    };
    counts.into_iter().map(|row| row.into_iter().map(|count| count as f64 / whole).collect()).collect()
}

fn title_of(cloud: &Cloud, side: f64) -> Vec<String> {
    let count = cloud.points.len();
    lines_of(
        &format!("{} (n\u{a0}=\u{a0}{})", display_name(&cloud.label), number(count as f64)),
        TICK_SIZE,
        Weight::Regular,
        side,
    )
}

fn draw_bins(canvas: &mut Canvas, panel: Panel, bins: &[Vec<f64>], ramp: &Ramp) -> Result<()> {
    if bins.iter().flatten().all(|value| *value == 0.0) {
        let (from, to) = ((panel.left, panel.top), (panel.right, panel.bottom));
        draw_hatch(canvas, from, to, Hatch::Rising, tint(GREY, 0.25))?;
        let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
        canvas.rectangle((middle.0 - 18.0, middle.1 - 10.0), (middle.0 + 18.0, middle.1 + 10.0), PAPER)?;
        return canvas.text((middle.0, middle.1 + 4.5), "n/a", Letters::new(TICK_SIZE, GREY).anchored(Anchor::Middle));
    }
    let count = bins.len();
    let column = |bin: usize| edge(bin, (panel.left, panel.right), count).round();
    let row = |bin: usize| edge(bin, (panel.bottom, panel.top), count).round();
    let is_filled =
        |up: usize, across: usize| bins.get(up).and_then(|row| row.get(across)).is_some_and(|bin| *bin > 0.0);
    for (up, values) in bins.iter().enumerate() {
        for (across, value) in values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            // A little below the neighbours that are drawn later, so that no seams show between them.
            let right = column(across + 1) + if is_filled(up, across + 1) { 0.5 } else { 0.0 };
            let top = row(up + 1) - if is_filled(up + 1, across) { 0.5 } else { 0.0 };
            canvas.rectangle((column(across), top), (right, row(up)), ramp.colour(*value))?;
        }
    }
    Ok(())
}

fn draw_edges(canvas: &mut Canvas, panel: Panel) -> Result<()> {
    let Panel { left, right, top, bottom } = panel;
    canvas.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], AXIS, 1.0)
}

fn draw_y_ticks(canvas: &mut Canvas, panel: Panel, y: &Mapping, ticks: &[f64], labelled: bool) -> Result<()> {
    let places: Vec<_> = ticks.iter().map(|tick| (y.at(*tick), TICK_SIZE)).collect();
    for ((tick, (at, _)), keep) in ticks.iter().zip(&places).zip(choose_labels(&places, 2.0)).filter(|_| labelled) {
        canvas.line(&[(panel.left - TICK_LENGTH, *at), (panel.left, *at)], AXIS, 1.0)?;
        if keep {
            let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::End);
            canvas.text((panel.left - TICK_LENGTH - TICK_GAP, at + 0.36 * TICK_SIZE), &number(*tick), letters)?;
        }
    }
    Ok(())
}

fn draw_x_ticks(canvas: &mut Canvas, panel: Panel, x: &Mapping, ticks: &[f64], labelled: bool) -> Result<()> {
    let places: Vec<_> =
        ticks.iter().map(|tick| (x.at(*tick), width(&number(*tick), TICK_SIZE, Weight::Regular))).collect();
    for ((tick, (at, _)), keep) in ticks.iter().zip(&places).zip(choose_labels(&places, 6.0)).filter(|_| labelled) {
        canvas.line(&[(*at, panel.bottom), (*at, panel.bottom + TICK_LENGTH)], AXIS, 1.0)?;
        if keep {
            let baseline = panel.bottom + tick_height() + 0.76 * TICK_SIZE;
            canvas.text((*at, baseline), &number(*tick), Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle))?;
        }
    }
    Ok(())
}

/// The lines, and beside their crossing the share of the answers on each side.
fn draw_thresholds(
    canvas: &mut Canvas,
    panel: Panel,
    (x, y): (&Mapping, &Mapping),
    density: &Density,
    cloud: &Cloud,
) -> Result<()> {
    let (across, down) = (density.x_threshold, density.y_threshold);
    let middle = ((panel.left + panel.right) / 2.0, (panel.top + panel.bottom) / 2.0);
    let crossing = (across.map_or(middle.0, |value| x.at(value)), down.map_or(middle.1, |value| y.at(value)));
    if across.is_some() {
        canvas.dashed(&[(crossing.0, panel.top), (crossing.0, panel.bottom)], GREY, 1.2, REFERENCE_DASH)?;
    }
    if down.is_some() {
        canvas.dashed(&[(panel.left, crossing.1), (panel.right, crossing.1)], GREY, 1.2, REFERENCE_DASH)?;
    }
    let lowest = f64::NEG_INFINITY;
    let Some(parts) = cloud.quadrants(across.unwrap_or(lowest), down.unwrap_or(lowest)) else { return Ok(()) };
    let (left, right, above, under) = (-1.0, 1.0, -1.0, 1.0);
    let places: &[(f64, f64, f64)] = match (across, down) {
        (None, None) => &[],
        (Some(_), None) => &[(parts.upper_left, left, 0.0), (parts.upper_right, right, 0.0)],
        (None, Some(_)) => &[(parts.upper_right, 0.0, above), (parts.lower_right, 0.0, under)],
        (Some(_), Some(_)) => &[
            (parts.upper_left, left, above),
            (parts.upper_right, right, above),
            (parts.lower_left, left, under),
            (parts.lower_right, right, under),
        ],
    };
    places
        .iter()
        .try_for_each(|(share, aside, upright)| draw_share(canvas, panel, crossing, (*aside, *upright), *share))
}

/// A share on one side of the crossing, on paper so that it reads on every colour; none where the side is too narrow.
fn draw_share(canvas: &mut Canvas, panel: Panel, crossing: (f64, f64), side: (f64, f64), share: f64) -> Result<()> {
    let text = percent(share);
    let (half_width, half_height) = (width(&text, SHARE_SIZE, Weight::Regular) / 2.0 + 3.0, 0.5 * SHARE_SIZE + 2.5);
    let middle = (crossing.0 + side.0 * (half_width + 1.5), crossing.1 + side.1 * (half_height + 1.5));
    let (from, to) = ((middle.0 - half_width, middle.1 - half_height), (middle.0 + half_width, middle.1 + half_height));
    if from.0 < panel.left || to.0 > panel.right || from.1 < panel.top || to.1 > panel.bottom {
        return Ok(());
    }
    let corners = [from, (to.0, from.1), to, (from.0, to.1)];
    canvas.polygon(&corners, PAPER, 0.85)?;
    let letters = Letters::new(SHARE_SIZE, INK).anchored(Anchor::Middle);
    canvas.text((middle.0, middle.1 + 0.36 * SHARE_SIZE), &text, letters)
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    #[test]
    fn shares_of_bins_sum_to_one_and_counts_to_the_answers() {
        let figure = samples::density(3);
        let Kind::Density(mut density) = figure.kind else { unreachable!() };
        for cloud in &density.panels {
            let sum: f64 = measured(&density, cloud).iter().flatten().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
        density.measure = Measure::Count;
        for cloud in &density.panels {
            assert_eq!(measured(&density, cloud).iter().flatten().sum::<f64>(), cloud.points.len() as f64);
        }
    }

    #[test]
    fn the_shares_written_are_those_of_the_quadrants() {
        let mut figure = samples::density(1);
        let Kind::Density(density) = &mut figure.kind else { unreachable!() };
        density.panels[0].points = vec![(10.0, 90.0), (10.0, 80.0), (90.0, 90.0), (90.0, 10.0), (0.0, 0.0)];
        let text = svg(&figure).unwrap();
        assert_eq!((text.matches("40 %").count(), text.matches("20 %").count()), (1, 3));
    }

    #[test]
    fn panels_stand_beside_and_below_each_other_and_never_overlap() {
        for (width, count) in [(960, 8), (1200, 8), (480, 3), (320, 1), (960, 5), (2000, 2)] {
            let mut figure = samples::density(count);
            figure.width = width;
            let drawing = svg(&figure).unwrap();
            let edges: Vec<Vec<(f64, f64)>> = drawing
                .lines()
                .filter(|line| line.starts_with("<polyline"))
                .filter_map(|line| line.split("points=\"").nth(1)?.split('"').next())
                .map(|points| {
                    let corners = points.split_whitespace().map(|corner| corner.split_once(',').unwrap());
                    corners.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect::<Vec<_>>()
                })
                .filter(|corners| corners.len() == 5)
                .collect();
            // The last frame is that of the colour bar.
            assert_eq!(edges.len(), count + 1, "{width}");
            for (index, a) in edges.iter().enumerate() {
                for b in &edges[..index] {
                    assert!(a[0].0 > b[1].0 || a[1].0 < b[0].0 || a[0].1 > b[2].1, "{width} x {count}: {a:?} {b:?}");
                }
            }
        }
    }
}
