//! Histograms below each other: the scores of every group in bins, on the same axes.

use super::axis::{Mapping, choose_labels, number, range_and_ticks};
use super::binning::{count, edge, percent};
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Axis, Figure, Histogram, Scale, Scores, scores_of};
use super::font::{Weight, width};
use super::frame::{
    Frame, Panel, TICK_GAP, TICK_LENGTH, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height,
};
use super::palette::{display_name, styles};
use super::theme::{AXIS, Colour, GREY, GRID, GRID_DASH, INK, LEADING, PAPER, REFERENCE_DASH, TEXT_SIZE, TICK_SIZE};
use crate::error::Result;

/// A row's bars are at least and at most this high.
const LOWEST: f64 = 44.0;
const HIGHEST: f64 = 220.0;
/// Pixels between a row's axis and the name of the next.
const ROW_GAP: f64 = 10.0;

/// Draws a checked figure of histograms.
pub(super) fn draw(figure: &Figure, histogram: &Histogram) -> Result<String> {
    let x_range = scores_of(&histogram.x);
    let x_ticks = range_and_ticks(&Axis { range: Some(x_range), ..histogram.x.clone() }, &[], &[]).1;
    let shares: Vec<Option<Vec<f64>>> = histogram.rows.iter().map(|row| shares(histogram, row)).collect();
    let highest = shares.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let (y_range, y_ticks) = range_and_ticks(&Axis::default(), &[0.0, highest], &[]);
    let titles: Vec<Vec<String>> = histogram
        .rows
        .iter()
        .map(|row| lines_of(&title_of(histogram, row), TICK_SIZE, Weight::Regular, inner_width(figure) - 60.0))
        .collect();
    let title_height = titles.iter().map(|lines| height_of(lines, TICK_SIZE)).fold(0.0, f64::max) + 2.0;
    let x_label = lines_of(&histogram.x.label, TEXT_SIZE, Weight::Regular, inner_width(figure));
    let tick_row = tick_height() + TICK_SIZE * LEADING;
    let rows = histogram.rows.len() as f64;
    let frame = |figure: &Figure, bars: f64| {
        let least = rows * (title_height + bars + ROW_GAP) - ROW_GAP;
        let below = tick_row + 4.0 + height_of(&x_label, TEXT_SIZE);
        let (y_ticks, y_label) = (y_ticks.clone(), histogram.y_label.clone());
        Frame::new(figure, Wanted { y_ticks, y_label, legend: (vec![], 0.0), below, beside: 0.0, least })
    };
    // Rows are as high as the sheet allows, within reason; the sheet becomes lower or higher by what that leaves or lacks.
    let plain = frame(figure, LOWEST);
    let high = (plain.panel.bottom - plain.panel.top + ROW_GAP) / rows - title_height - ROW_GAP;
    let bars = high.clamp(LOWEST, HIGHEST);
    let figure = &Figure { height: (plain.height + (bars - high) * rows).ceil() as u32, ..figure.clone() };
    let frame = frame(figure, bars);
    let area = frame.panel;
    let labels: Vec<&str> = histogram.rows.iter().map(|row| row.label.as_str()).collect();
    let styles = styles(&labels);
    // In low rows, the middle and the top say enough.
    let y_ticks = match y_ticks.len() as f64 * 1.5 * TICK_SIZE > bars {
        true => vec![0.0, y_range.1 / 2.0, y_range.1],
        false => y_ticks,
    };
    let x = Mapping::new(Scale::Linear, x_range, (area.left, area.right), (0.0, 0.0));
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw_words(canvas)?;
        for (index, shares) in shares.iter().enumerate() {
            let above = area.top + index as f64 * (title_height + bars + ROW_GAP);
            let panel = Panel { top: above + title_height, bottom: above + title_height + bars, ..area };
            let y = Mapping::new(Scale::Linear, y_range, (panel.bottom, panel.top), (0.0, 0.0));
            draw_lines(canvas, &titles[index], (panel.left, above), Letters::new(TICK_SIZE, INK))?;
            draw_grid(canvas, panel, &y, &y_ticks)?;
            match shares {
                Some(shares) => draw_bars(canvas, &x, &y, (x_range, shares), styles[index].colour)?,
                None => {
                    let at = ((panel.left + panel.right) / 2.0, (panel.top + panel.bottom) / 2.0 + 4.5);
                    canvas.rectangle((at.0 - 18.0, at.1 - 14.0), (at.0 + 18.0, at.1 + 4.0), PAPER)?;
                    canvas.text(at, "n/a", Letters::new(TICK_SIZE, GREY).anchored(Anchor::Middle))?;
                }
            }
            if let Some(threshold) = histogram.threshold {
                let at = x.at(threshold);
                canvas.dashed(&[(at, panel.top), (at, panel.bottom)], GREY, 1.3, REFERENCE_DASH)?;
            }
            canvas.line(
                &[(panel.left, panel.top), (panel.left, panel.bottom), (panel.right, panel.bottom)],
                AXIS,
                1.0,
            )?;
            draw_x_ticks(canvas, panel, &x, &x_ticks, index + 1 == histogram.rows.len())?;
        }
        let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle);
        draw_lines(canvas, &x_label, ((area.left + area.right) / 2.0, area.bottom + tick_row), letters)
    })
}

/// How many scores a row has in each bin.
fn counts(histogram: &Histogram, row: &Scores) -> Vec<u64> {
    match row.counts.is_empty() {
        true => count(&row.values, scores_of(&histogram.x), histogram.bins),
        false => row.counts.clone(),
    }
}

/// The part of a row's scores in each bin; nothing for a row without scores.
fn shares(histogram: &Histogram, row: &Scores) -> Option<Vec<f64>> {
    let counts = counts(histogram, row);
    let whole = counts.iter().sum::<u64>();
    (whole > 0).then(|| counts.iter().map(|count| *count as f64 / whole as f64).collect())
}

/// The part of a row's scores at or above the threshold; nothing without scores, and where counts do not tell.
fn share_above(histogram: &Histogram, row: &Scores, threshold: f64) -> Option<f64> {
    if !row.values.is_empty() {
        let above = row.values.iter().filter(|value| **value >= threshold).count();
        return Some(above as f64 / row.values.len() as f64);
    }
    let range = scores_of(&histogram.x);
    let first = (0..=histogram.bins).find(|bin| edge(*bin, range, histogram.bins) == threshold)?;
    shares(histogram, row).map(|shares| shares[first..].iter().sum())
}

fn title_of(histogram: &Histogram, row: &Scores) -> String {
    let total: u64 = counts(histogram, row).iter().sum();
    let title = format!("{} (n\u{a0}=\u{a0}{})", display_name(&row.label), number(total as f64));
    match histogram.threshold.and_then(|threshold| Some((threshold, share_above(histogram, row, threshold)?))) {
        Some((threshold, share)) => format!("{title}: {} at or above {}", percent(share), number(threshold)),
        None => title,
    }
}

fn draw_grid(canvas: &mut Canvas, panel: Panel, y: &Mapping, ticks: &[f64]) -> Result<()> {
    let places: Vec<_> = ticks.iter().map(|tick| (y.at(*tick), TICK_SIZE)).collect();
    for ((tick, (at, _)), keep) in ticks.iter().zip(&places).zip(choose_labels(&places, 4.0)) {
        if !keep {
            continue;
        }
        if *at < panel.bottom - 1.0 {
            canvas.dashed(&[(panel.left, *at), (panel.right, *at)], GRID, 1.0, GRID_DASH)?;
        }
        canvas.line(&[(panel.left - TICK_LENGTH, *at), (panel.left, *at)], AXIS, 1.0)?;
        let letters = Letters::new(TICK_SIZE, INK).anchored(Anchor::End);
        canvas.text((panel.left - TICK_LENGTH - TICK_GAP, at + 0.36 * TICK_SIZE), &number(*tick), letters)?;
    }
    Ok(())
}

fn draw_bars(
    canvas: &mut Canvas,
    x: &Mapping,
    y: &Mapping,
    (range, shares): ((f64, f64), &[f64]),
    colour: Colour,
) -> Result<()> {
    for (bin, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (left, right) = (x.at(edge(bin, range, shares.len())), x.at(edge(bin + 1, range, shares.len())));
        let gap = if right - left >= 5.0 { 0.5 } else { 0.0 };
        // One answer among thousands still shows as a line of its colour.
        let top = y.at(*share).min(y.at(0.0) - 1.0);
        canvas.rectangle((left + gap, top), (right - gap, y.at(0.0)), colour)?;
    }
    Ok(())
}

fn draw_x_ticks(canvas: &mut Canvas, panel: Panel, x: &Mapping, ticks: &[f64], labelled: bool) -> Result<()> {
    let places: Vec<_> =
        ticks.iter().map(|tick| (x.at(*tick), width(&number(*tick), TICK_SIZE, Weight::Regular))).collect();
    for ((tick, (at, _)), keep) in ticks.iter().zip(&places).zip(choose_labels(&places, 6.0)) {
        let length = if labelled { TICK_LENGTH } else { 3.0 };
        canvas.line(&[(*at, panel.bottom), (*at, panel.bottom + length)], AXIS, 1.0)?;
        if keep && labelled {
            let baseline = panel.bottom + tick_height() + 0.76 * TICK_SIZE;
            canvas.text((*at, baseline), &number(*tick), Letters::new(TICK_SIZE, INK).anchored(Anchor::Middle))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    #[test]
    fn shares_sum_to_one_hold_both_ends_and_come_from_values_and_counts_alike() {
        let row = Scores { label: "a".into(), values: vec![0.0, 100.0, 100.0, 49.9, 50.0], counts: vec![] };
        let mut histogram =
            Histogram { bins: 4, rows: vec![row.clone()], threshold: Some(50.0), ..Histogram::default() };
        let from_values = shares(&histogram, &row).unwrap();
        assert_eq!(from_values, [0.2, 0.2, 0.2, 0.4]);
        let counted = Scores { values: vec![], counts: vec![1, 1, 1, 2], ..row.clone() };
        assert_eq!(shares(&histogram, &counted).unwrap(), from_values);
        for row in [&row, &counted] {
            assert!((share_above(&histogram, row, 50.0).unwrap() - 0.6).abs() < 1e-9);
            assert_eq!(title_of(&histogram, row), "a (n\u{a0}=\u{a0}5): 60 % at or above 50");
        }
        assert_eq!(share_above(&histogram, &counted, 60.0), None, "counts do not tell what lies within a bin");
        histogram.threshold = Some(60.0);
        assert_eq!(title_of(&histogram, &counted), "a (n\u{a0}=\u{a0}5)");
        assert_eq!(shares(&histogram, &Scores::default()), None);
    }

    #[test]
    fn a_row_without_scores_says_so_and_has_no_bars() {
        let mut figure = samples::histogram(2);
        let Kind::Histogram(histogram) = &mut figure.kind else { unreachable!() };
        histogram.rows[1].values.clear();
        let colour = styles(&["base", "aligned"])[1].colour;
        let fill = format!("fill=\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
        let text = svg(&figure).unwrap();
        assert_eq!((text.matches("n/a").count(), text.matches(&fill).count()), (1, 0));
    }
}
