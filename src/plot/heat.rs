//! A heat map: a matrix of coloured cells with their values, names of rows and columns, and a bar of colours.

use super::axis::extent;
use super::canvas::{Anchor, Canvas, Letters, draw_sheet};
use super::figure::{Cell, Figure, Heat, Scale};
use super::font::{Weight, width, wrap};
use super::frame::{Frame, Panel, Wanted, draw_lines, height_of, inner_width, lines_of, tick_height};
use super::legend::draw_hatch;
use super::names::Names;
use super::palette::display_name;
use super::ramp::{Ramp, letters_on};
use super::theme::{Colour, GREY, Hatch, INK, LEADING, MARGIN, PAPER, TEXT_SIZE, TICK_SIZE, tint};
use crate::error::Result;

/// The part of the sheet's width that names of rows may take.
const NAMES_SHARE: f64 = 0.22;
/// Pixels between the names of rows and the cells.
const NAMES_GAP: f64 = 8.0;
/// A cell is never wider, nor higher unless there are few rows.
const WIDEST: f64 = 150.0;
const HIGHEST: f64 = 64.0;
/// All rows together are not lower, for the bar's sake.
const LOWEST_PANEL: f64 = 180.0;
/// Letters of notes, and the smallest of values and notes.
const NOTE_SIZE: f64 = 10.5;
const SMALLEST: f64 = 9.0;
/// Pixels of paper between a cell's edges and its words.
const PADDING: f64 = 4.0;
/// Of cells without a value.
const ABSENT: Colour = (0xF1, 0xF1, 0xF1);

/// What stands in the cells.
struct Words {
    /// One per cell, in the cells' order; nothing where a cell has no value.
    values: Vec<Option<String>>,
    /// Lines below the value.
    notes: Vec<Vec<String>>,
    value_size: f64,
    note_size: f64,
}

/// Draws a checked heat map.
pub(super) fn draw(figure: &Figure, heat: &Heat) -> Result<String> {
    let ramp = ramp_of(heat);
    let room = NAMES_SHARE * f64::from(figure.width);
    let rows: Vec<Vec<String>> =
        heat.rows.iter().map(|label| wrap(&display_name(label), TICK_SIZE, Weight::Regular, room)).collect();
    let taken = rows.iter().flatten().map(|line| width(line, TICK_SIZE, Weight::Regular)).fold(0.0, f64::max);
    let left = MARGIN + taken + NAMES_GAP;
    // The label of the bar may take as many lines as the panel's height asks for, which depends on the cells' width.
    let beside = ramp.room(&heat.value_label, LOWEST_PANEL);
    let cell_width =
        ((f64::from(figure.width) - MARGIN - beside - left) / heat.columns.len() as f64).clamp(4.0, WIDEST);
    let words = Words::new(heat, cell_width);
    let lines = rows.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let lowest = words.height().max(lines * TICK_SIZE * LEADING + 2.0).max(LOWEST_PANEL / rows.len() as f64);

    let labels: Vec<&str> = heat.columns.iter().map(String::as_str).collect();
    let names = Names::new(&labels, cell_width);
    let x_label = lines_of(&heat.x_label, TEXT_SIZE, Weight::Regular, inner_width(figure));
    let frame = |figure: &Figure, least: f64| {
        let below = tick_height() + names.height + height_of(&x_label, TEXT_SIZE);
        let legend = (Vec::new(), 0.0);
        Frame::new(figure, Wanted { y_ticks: vec![], y_label: heat.y_label.clone(), legend, below, beside, least })
    };
    // Cells are as high as the sheet allows, within reason; the sheet becomes lower or higher by what that leaves or lacks.
    let count = rows.len() as f64;
    let plain = frame(figure, lowest * count);
    let high = plain.panel.bottom - plain.panel.top;
    let cell_height = (high / count).min(HIGHEST).max(lowest);
    let figure = &Figure { height: (plain.height + cell_height * count - high).ceil() as u32, ..figure.clone() };
    let frame = frame(figure, cell_height * count);
    let top = frame.panel.top;
    let panel = Panel {
        left,
        right: left + cell_width * heat.columns.len() as f64,
        top,
        bottom: top + cell_height * heat.rows.len() as f64,
    };
    draw_sheet(frame.size(), &figure.title, |canvas| {
        frame.draw_words(canvas)?;
        for (index, lines) in rows.iter().enumerate() {
            let middle = top + (index as f64 + 0.5) * cell_height - height_of(lines, TICK_SIZE) / 2.0;
            draw_lines(canvas, lines, (left - NAMES_GAP, middle), Letters::new(TICK_SIZE, INK).anchored(Anchor::End))?;
        }
        names.draw(canvas, (left, panel.bottom - 4.0), cell_width)?;
        let below = panel.bottom + tick_height() + names.height - 4.0;
        let letters = Letters::new(TEXT_SIZE, GREY).anchored(Anchor::Middle);
        draw_lines(canvas, &x_label, ((panel.left + panel.right) / 2.0, below), letters)?;
        for (index, cell) in heat.cells.iter().flatten().enumerate() {
            let (row, column) = (index / heat.columns.len(), index % heat.columns.len());
            let from = (left + column as f64 * cell_width, top + row as f64 * cell_height);
            let to = (from.0 + cell_width - 1.0, from.1 + cell_height - 1.0);
            match cell {
                Some(cell) => draw_cell(canvas, from, to, ramp.colour(cell.value), &words, index)?,
                None => draw_absence(canvas, from, to, words.value_size)?,
            }
        }
        ramp.draw(canvas, panel, &heat.value_label)
    })
}

fn ramp_of(heat: &Heat) -> Ramp {
    let values = heat.cells.iter().flatten().flatten().map(|cell| cell.value);
    let (low, high) = extent(values.chain(heat.range.into_iter().flat_map(|(low, high)| [low, high])));
    match heat.diverging {
        true => Ramp::diverging(low.abs().max(high.abs())),
        false => Ramp::rising((low, high), Scale::Linear, 0.0),
    }
}

impl Words {
    /// Values as large as they fit, none where they do not fit at all; notes where every piece of them fits.
    fn new(heat: &Heat, cell_width: f64) -> Words {
        let room = cell_width - 2.0 * PADDING + 2.0;
        let digits = heat.decimals.unwrap_or_else(|| decimals(heat));
        let cells = || heat.cells.iter().flatten();
        let text = |cell: &Cell| format!("{:.digits$}", cell.value).replace('-', "\u{2212}");
        let values: Vec<Option<String>> = cells().map(|cell| cell.as_ref().map(text)).collect();
        let widest =
            |size: f64| values.iter().flatten().map(|text| width(text, size, Weight::Regular)).fold(0.0, f64::max);
        let value_size = TICK_SIZE.min(TICK_SIZE * room / widest(TICK_SIZE).max(1.0));
        let notes = || cells().map(|cell| cell.as_ref().map_or("", |cell| cell.note.trim()));
        let pieces = || notes().flat_map(str::split_whitespace);
        let longest = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| width(text, NOTE_SIZE, Weight::Regular)).fold(1.0, f64::max)
        };
        // All on one line where small letters make that possible, else all broken alike.
        let (whole, piece) = (longest(&mut notes()), longest(&mut pieces()));
        let (line, note_size) = match NOTE_SIZE * room / whole {
            size if size >= SMALLEST => (room + 1.0, size.min(NOTE_SIZE)),
            _ => ((1.35 * piece).min(room + 1.0), NOTE_SIZE.min(NOTE_SIZE * room / piece)),
        };
        let fit = value_size >= SMALLEST && note_size >= SMALLEST;
        let notes = notes().map(|note| match fit {
            true => lines_of(note, note_size, Weight::Regular, line),
            false => Vec::new(),
        });
        let notes = notes.collect();
        let values = if value_size >= SMALLEST { values } else { vec![None; values.len()] };
        Words { values, notes, value_size, note_size }
    }

    /// Pixels that the fullest cell needs.
    fn height(&self) -> f64 {
        let notes = self.notes.iter().map(Vec::len).max().unwrap_or(0);
        let value = if self.values.iter().any(Option::is_some) { self.value_size * LEADING } else { 0.0 };
        value + notes as f64 * self.note_size * 1.2 + 2.0 * PADDING
    }
}

/// As many digits after the point as four digits in all leave for the largest value; none where all are whole.
fn decimals(heat: &Heat) -> usize {
    let values = || heat.cells.iter().flatten().flatten().map(|cell| cell.value);
    let largest = values().map(f64::abs).fold(0.0, f64::max);
    if values().all(|value| value.fract() == 0.0) {
        return 0;
    }
    match largest {
        size if size >= 1000.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    }
}

fn draw_cell(
    canvas: &mut Canvas,
    from: (f64, f64),
    to: (f64, f64),
    colour: Colour,
    words: &Words,
    index: usize,
) -> Result<()> {
    canvas.rectangle(from, to, colour)?;
    let (ink, notes) = (letters_on(colour), &words.notes[index]);
    let Some(value) = &words.values[index] else { return Ok(()) };
    let (middle, leading) = ((from.0 + to.0) / 2.0, 1.2 * words.note_size);
    let height = words.value_size * LEADING + notes.len() as f64 * leading;
    let top = (from.1 + to.1 - height) / 2.0;
    let letters = Letters::new(words.value_size, ink).anchored(Anchor::Middle);
    canvas.text((middle, top + 0.98 * words.value_size), value, letters)?;
    for (row, line) in notes.iter().enumerate() {
        let baseline = top + words.value_size * LEADING + row as f64 * leading + 0.9 * words.note_size;
        canvas.text((middle, baseline), line, Letters::new(words.note_size, ink).anchored(Anchor::Middle))?;
    }
    Ok(())
}

/// Hatched, with `n/a` where it has room: no value is not a pale one.
fn draw_absence(canvas: &mut Canvas, from: (f64, f64), to: (f64, f64), size: f64) -> Result<()> {
    canvas.rectangle(from, to, ABSENT)?;
    draw_hatch(canvas, from, to, Hatch::Rising, tint(GREY, 0.35))?;
    let size = size.min(NOTE_SIZE + 0.5);
    let half = width("n/a", size, Weight::Regular) / 2.0 + 3.0;
    let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
    if size < SMALLEST || 2.0 * half > to.0 - from.0 {
        return Ok(());
    }
    canvas.rectangle((middle.0 - half, middle.1 - 0.75 * size), (middle.0 + half, middle.1 + 0.75 * size), PAPER)?;
    canvas.text((middle.0, middle.1 + 0.36 * size), "n/a", Letters::new(size, GREY).anchored(Anchor::Middle))
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::super::{samples, svg};
    use super::*;

    fn heat(figure: &mut Figure) -> &mut Heat {
        match &mut figure.kind {
            Kind::Heat(heat) => heat,
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_absent_cell_is_hatched_and_no_zero() {
        let mut figure = samples::heat(3, 3);
        let colour = |value: f64, figure: &mut Figure| {
            let colour = ramp_of(heat(figure)).colour(value);
            format!("fill=\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2)
        };
        heat(&mut figure).range = Some((0.0, 100.0));
        let zero = colour(0.0, &mut figure);
        heat(&mut figure).cells[1][1] = Some(Cell::default());
        let with_zero = svg(&figure).unwrap();
        heat(&mut figure).cells[1][1] = None;
        let without = svg(&figure).unwrap();
        assert_eq!(with_zero.matches(&zero).count(), without.matches(&zero).count() + 1);
        assert_eq!((with_zero.matches("n/a").count(), without.matches("n/a").count()), (0, 1));
        assert!(without.matches("<polyline").count() > with_zero.matches("<polyline").count() + 5);
    }

    #[test]
    fn values_have_the_digits_they_need() {
        let digits = |values: &[f64]| {
            let cell = |value: &f64| Some(Cell { value: *value, note: String::new() });
            decimals(&Heat { cells: vec![values.iter().map(cell).collect()], ..Heat::default() })
        };
        assert_eq!(digits(&[1.0, 20.0, 100.0]), 0);
        assert_eq!(digits(&[0.0, 33.25]), 1);
        assert_eq!(digits(&[-0.25, 0.5]), 2);
        assert_eq!(digits(&[0.001, 0.0]), 3);
    }

    #[test]
    fn differences_reach_as_far_on_both_sides() {
        let mut figure = samples::heat(3, 3);
        let heat = heat(&mut figure);
        (heat.diverging, heat.range) = (true, None);
        heat.cells =
            vec![vec![Some(Cell { value: -30.0, ..Cell::default() }), Some(Cell { value: 10.0, ..Cell::default() })]];
        let ramp = ramp_of(heat);
        assert_eq!(ramp.colour(-30.0), ramp.colour(-31.0));
        assert_ne!(ramp.colour(10.0), ramp.colour(30.0));
        assert_eq!(ramp.colour(30.0), ramp.colour(31.0));
    }
}
