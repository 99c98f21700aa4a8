//! Columns that are no features: constants, row counters, and single columns that give away a source or the label.

use rayon::prelude::*;

use super::matches::number;
use super::{Finding, Kind, Part, Severity};

/// Rows that each side of a separation has at least, and both have together: with fewer, one of 10^5 columns separates
/// them by chance with probability above 0.001.
const LEAST_SIDE: usize = 10;
const LEAST_ROWS: usize = 40;
/// Rows that a counter counts at least; 20 values are in order by chance once in 10^18 columns.
const LEAST_COUNTED: usize = 20;

/// What is wrong with single columns of the training rows.
pub(super) fn findings(parts: &[Part<'_>]) -> Vec<Finding> {
    let sources: Vec<Option<Ranges>> = parts.par_iter().map(ranges).collect();
    let mut findings = Vec::new();
    for (part, ranges) in parts.iter().zip(&sources) {
        let name = part.source.name;
        let counters = ranges.as_ref().map(|ranges| counters(part, ranges)).unwrap_or_default();
        if !counters.is_empty() {
            let verb = if counters.len() == 1 { "only counts" } else { "only count" };
            let message = format!("{} {verb} the rows of `{name}`: {}", columns(&counters), list(&counters));
            findings.push(with_columns(Kind::IdentifierColumns, Severity::Warning, message, counters));
        }
    }
    let all: Vec<(usize, &Ranges)> =
        sources.iter().enumerate().filter_map(|(number, ranges)| Some((number, ranges.as_ref()?))).collect();
    let fitted: Vec<usize> = all.iter().map(|(number, _)| *number).filter(|n| !parts[*n].training.is_empty()).collect();
    // What parts one of two sources from the other parts the other from the one: said once, of the later.
    let told = if fitted.len() == 2 { &fitted[1..] } else { &fitted[..] };
    for (source, ranges) in all.iter().filter(|(number, _)| told.contains(number)) {
        let inside = merge(ranges.classes.iter());
        let outside = merge(all.iter().filter(|(other, _)| other != source).flat_map(|(_, ranges)| &ranges.classes));
        let found = separators(&inside, &outside);
        if !found.is_empty() {
            let (name, verb) = (parts[*source].source.name, separate(found.len()));
            let message =
                format!("{} {verb} `{name}` from the other training rows perfectly: {}", columns(&found), list(&found));
            findings.push(with_columns(Kind::ColumnEqualsSource, Severity::Warning, message, found));
        }
    }
    let class = |class: usize| merge(all.iter().map(|(_, ranges)| &ranges.classes[class]));
    let found = separators(&class(0), &class(1));
    if !found.is_empty() {
        let verb = separate(found.len());
        let message =
            format!("{} {verb} the classes of the training rows perfectly: {}", columns(&found), list(&found));
        findings.push(with_columns(Kind::ColumnEqualsLabel, Severity::Warning, message, found));
    }
    let pool = merge(all.iter().flat_map(|(_, ranges)| &ranges.classes));
    let constant: Vec<usize> = (0..pool.active.len())
        .filter(|column| pool.rows > 1 && pool.active[*column] > 0 && pool.low(*column) == pool.high(*column))
        .collect();
    if !constant.is_empty() {
        let have = if constant.len() == 1 { "has" } else { "have" };
        let message = format!("{} {have} one value in all training rows: {}", columns(&constant), list(&constant));
        findings.push(with_columns(Kind::ConstantColumns, Severity::Note, message, constant));
    }
    findings
}

/// Where the values of each column lie, over some rows.
#[derive(Clone, Default)]
struct Range {
    rows: usize,
    active: Vec<u32>,
    lowest: Vec<f64>,
    highest: Vec<f64>,
}

impl Range {
    fn widen(&mut self, columns: usize) {
        self.active.resize(columns, 0);
        self.lowest.resize(columns, f64::INFINITY);
        self.highest.resize(columns, f64::NEG_INFINITY);
    }
    /// Smallest value, the zeros included.
    fn low(&self, column: usize) -> f64 {
        let low = self.lowest[column];
        if (self.active[column] as usize) < self.rows { low.min(0.0) } else { low }
    }
    /// Largest value, the zeros included.
    fn high(&self, column: usize) -> f64 {
        let high = self.highest[column];
        if (self.active[column] as usize) < self.rows { high.max(0.0) } else { high }
    }
}

/// The ranges of a source's training rows, by class (of unknown label: in neither), and which columns may count rows.
struct Ranges {
    /// Label 0, label 1, no label.
    classes: [Range; 3],
    /// Values that are not 0 only rise, or only fall, with the row number.
    rising: Vec<bool>,
    falling: Vec<bool>,
}

fn ranges(part: &Part<'_>) -> Option<Ranges> {
    let matrix = part.source.matrix?;
    let width = matrix.columns();
    let mut classes = <[Range; 3]>::default();
    let (mut rising, mut falling) = (vec![true; width], vec![true; width]);
    // Nothing was seen yet: the first value neither rises nor falls.
    let mut last: Vec<Option<f64>> = vec![None; width];
    for row in &part.training {
        let range = &mut classes[part.label(*row).map_or(2, usize::from)];
        range.widen(width);
        range.rows += 1;
        matrix.for_each(*row, |column, value| {
            range.active[column] += 1;
            range.lowest[column] = range.lowest[column].min(value);
            range.highest[column] = range.highest[column].max(value);
            rising[column] &= last[column].is_none_or(|last| value > last);
            falling[column] &= last[column].is_none_or(|last| value < last);
            last[column] = Some(value);
        });
    }
    Some(Ranges { classes, rising, falling })
}

fn merge<'a>(ranges: impl Iterator<Item = &'a Range>) -> Range {
    let mut merged = Range::default();
    for range in ranges.filter(|range| range.rows > 0) {
        merged.widen(range.active.len());
        merged.rows += range.rows;
        for column in 0..range.active.len() {
            merged.active[column] += range.active[column];
            merged.lowest[column] = merged.lowest[column].min(range.lowest[column]);
            merged.highest[column] = merged.highest[column].max(range.highest[column]);
        }
    }
    merged
}

fn separators(a: &Range, b: &Range) -> Vec<usize> {
    if a.rows.min(b.rows) < LEAST_SIDE || a.rows + b.rows < LEAST_ROWS {
        return Vec::new();
    }
    (0..a.active.len()).filter(|column| a.low(*column) > b.high(*column) || a.high(*column) < b.low(*column)).collect()
}

/// Columns whose values all differ and are in the order of the rows.
fn counters(part: &Part<'_>, ranges: &Ranges) -> Vec<usize> {
    let rows = part.training.len();
    let (Some(matrix), true) = (part.source.matrix, rows >= LEAST_COUNTED) else { return Vec::new() };
    let pool = merge(ranges.classes.iter());
    let candidates: Vec<usize> = (0..matrix.columns())
        .filter(|column| {
            (ranges.rising[*column] || ranges.falling[*column]) && pool.active[*column] as usize + 1 >= rows
        })
        .collect();
    if candidates.is_empty() {
        return candidates;
    }
    // One value may be 0, and must be in its place like the others.
    let mut values = vec![0.0; candidates.len() * rows];
    for (place, row) in part.training.iter().enumerate() {
        matrix.for_each(*row, |column, value| {
            if let Ok(candidate) = candidates.binary_search(&column) {
                values[candidate * rows + place] = value;
            }
        });
    }
    let in_order = |values: &[f64]| {
        values.windows(2).all(|pair| pair[0] < pair[1]) || values.windows(2).all(|pair| pair[0] > pair[1])
    };
    let checked = candidates.iter().zip(values.chunks(rows)).filter(|(_, values)| in_order(values));
    checked.map(|(column, _)| *column).collect()
}

fn with_columns(kind: Kind, severity: Severity, message: String, columns: Vec<usize>) -> Finding {
    Finding { columns, ..Finding::new(kind, severity, message) }
}

fn columns(found: &[usize]) -> String {
    number(found.len(), "column")
}

fn separate(count: usize) -> &'static str {
    if count == 1 { "separates" } else { "separate" }
}

/// The first few, as text.
fn list(columns: &[usize]) -> String {
    let first: Vec<String> = columns.iter().take(5).map(usize::to_string).collect();
    first.join(", ") + if columns.len() > 5 { ", …" } else { "" }
}
