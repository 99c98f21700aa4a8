//! Exact duplicates: rows with the same features, found by hash and then compared value by value.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::matches::{At, Match, is_or_are, number, pairs, training_rows};
use super::{Finding, Kind, Options, Part, Severity};
use crate::probe::matrix::Matrix;

/// What is there twice.
#[derive(Default)]
pub(super) struct Copies {
    /// Training rows that are also evaluation rows, with the first of these.
    pub across: Vec<Match>,
    /// Training rows that repeat an earlier training row, with the first one.
    pub within: Vec<Match>,
    /// Copies whose labels differ.
    pub conflicts: Vec<Match>,
    /// Rows without an active feature, which are no copies of anything.
    pub empty: Vec<At>,
}

/// A row that occurs: its hash, where, and whether the probe is fitted on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    hash: u64,
    at: At,
    training: bool,
}

/// Finds rows with equal features among all training and evaluation rows.
pub(super) fn exact(parts: &[Part<'_>]) -> Copies {
    let mut rows = Vec::new();
    for (source, part) in parts.iter().enumerate() {
        let Some(matrix) = part.source.matrix else { continue };
        let of = |list: &[usize], training: bool| -> Vec<Row> {
            let row = |row: &usize| Row { hash: hash(matrix, *row), at: At { source, row: *row }, training };
            list.par_iter().map(row).collect()
        };
        rows.extend(of(&part.training, true));
        rows.extend(of(&part.evaluation, false));
    }
    rows.par_sort_unstable();
    let mut copies = Copies::default();
    for alike in rows.chunk_by(|a, b| a.hash == b.hash) {
        for equal in split_equal(parts, alike) {
            copies.add(parts, &equal);
        }
    }
    copies.empty.sort_unstable();
    copies
}

/// Turns what was found into findings.
pub(super) fn findings(parts: &[Part<'_>], copies: &Copies, options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sides: BTreeSet<(usize, usize)> =
        copies.across.iter().map(|found| (found.training.source, found.other.source)).collect();
    for (training, evaluation) in sides {
        let between = |found: &&Match| (found.training.source, found.other.source) == (training, evaluation);
        let found: Vec<Match> = copies.across.iter().filter(between).copied().collect();
        let message = format!(
            "{} of the {} of `{}` {} exactly a row that `{}` is evaluated on",
            found.len(),
            number(parts[training].training.len(), "training row"),
            parts[training].source.name,
            is_or_are(found.len()),
            parts[evaluation].source.name
        );
        findings.push(finding(parts, Kind::ExactDuplicates, Severity::Severe, message, &found, options));
    }
    if !copies.within.is_empty() {
        let all = parts.iter().filter(|part| part.source.matrix.is_some()).map(|part| part.training.len()).sum();
        let verb = if copies.within.len() == 1 { "repeats" } else { "repeat" };
        let message =
            format!("{} of the {} {verb} an earlier one exactly", copies.within.len(), number(all, "training row"));
        let kind = Kind::DuplicatesInTraining;
        findings.push(finding(parts, kind, Severity::Warning, message, &copies.within, options));
    }
    if !copies.empty.is_empty() {
        let have = if copies.empty.len() == 1 { "has" } else { "have" };
        let message = format!("{} {have} no active feature", number(copies.empty.len(), "row"));
        let rows = copies.empty.iter().map(|at| parts[at.source].place(at.row)).collect();
        findings.push(Finding { rows, ..Finding::new(Kind::EmptyRows, Severity::Warning, message) });
    }
    findings
}

/// A finding about pairs.
pub(super) fn finding(
    parts: &[Part<'_>],
    kind: Kind,
    severity: Severity,
    message: String,
    found: &[Match],
    options: &Options,
) -> Finding {
    Finding {
        rows: training_rows(parts, found),
        pairs: pairs(parts, found, options),
        ..Finding::new(kind, severity, message)
    }
}

impl Copies {
    /// Takes in the rows of one set of equal rows, which are in the order of sources and rows.
    fn add(&mut self, parts: &[Part<'_>], equal: &[Row]) {
        let first = equal[0].at;
        let is_empty = |at: At| parts[at.source].source.matrix.is_some_and(|matrix| matrix.active(at.row) == 0);
        if equal[0].hash == 0 && is_empty(first) {
            self.empty.extend(equal.iter().map(|row| row.at));
            return;
        }
        let of = |training: bool| -> Vec<At> {
            equal.iter().filter(|row| row.training == training).map(|row| row.at).collect()
        };
        let (training, evaluation) = (of(true), of(false));
        for (place, row) in training.iter().enumerate() {
            let pair = |other: At| Match { training: *row, other, score: 1.0 };
            self.across.extend(evaluation.first().map(|other| pair(*other)));
            if place > 0 {
                self.within.push(pair(training[0]));
            }
            let mut others = evaluation.iter().chain(&training[..place]).map(|other| pair(*other));
            self.conflicts.extend(others.find(|pair| pair.conflicts(parts)));
        }
    }
}

/// Rows of one hash, sorted into sets of rows that are equal in truth.
fn split_equal(parts: &[Part<'_>], alike: &[Row]) -> Vec<Vec<Row>> {
    let mut sets: Vec<Vec<Row>> = Vec::new();
    for row in alike {
        match sets.iter_mut().find(|set| alike.len() > 1 && are_equal(parts, set[0].at, row.at)) {
            Some(set) => set.push(*row),
            None => sets.push(vec![*row]),
        }
    }
    sets
}

fn are_equal(parts: &[Part<'_>], a: At, b: At) -> bool {
    let values = |at: At| {
        let mut values = Vec::new();
        let matrix = parts[at.source].source.matrix.expect("only rows with features are hashed");
        matrix.for_each(at.row, |column, value| values.push((column, value)));
        values
    };
    values(a) == values(b)
}

/// Multiply and rotate over columns and values; 0 for an empty row. It need not withstand malice: rows of equal hashes
/// are compared in full.
fn hash(matrix: &Matrix, row: usize) -> u64 {
    let mut hash = 0u64;
    matrix.for_each(row, |column, value| {
        let entry = value.to_bits() ^ (column as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash = (hash ^ entry).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29);
    });
    hash
}
