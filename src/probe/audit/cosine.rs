//! Near copies by features: a sketch of every row proposes a few candidates, which are then compared exactly.
//!
//! Raw rows of activations are all alike, because they share their mean and a few large features. So each value is
//! divided by the standard deviation of its column within the source, capped, and centred: what is left of two
//! unrelated rows is near 0, and a batch effect between sources falls out. All pairs are compared by count sketches
//! (Charikar, Chen and Farach-Colton 2002) of 256 numbers, whose cosine errs by about 0.06; a copy that stands out at
//! all is among the best four of its row.

use std::collections::HashSet;

use rayon::prelude::*;

use super::duplicates::finding;
use super::matches::{At, Match, Near, is_or_are, number};
use super::moments::{Cell, Moments};
use super::{Finding, Kind, Options, Part, Severity};
use crate::probe::matrix::Matrix;

/// Numbers of a sketch.
const WIDTH: usize = 256;
/// Evaluation rows of a source that are compared exactly with a training row.
const CANDIDATES: usize = 4;
/// In standard deviations, so that a feature that occurs once does not decide alone.
const CAP: f64 = 5.0;
/// Rows below which a source's own means and deviations are not trusted, and those of all sources are used.
const LEAST_ROWS: usize = 20;
/// The limit where too few evaluation rows are there to say how alike different rows are.
const CERTAIN: f64 = 0.95;
/// Below `Options::cosine` and down to here a row is still a copy if no other row comes near it from below ...
const FAR: f64 = 0.4;
/// ... within this distance.
const GAP: f64 = 0.1;
/// Evaluation rows of a source whose nearest others are looked for.
const LOOKED_AT: usize = 256;

/// The training rows that nearly are evaluation rows, by pair of sources. `copies` are left out: they are known.
pub(super) fn near(parts: &[Part<'_>], moments: &[Moments], copies: &[Match], options: &Options) -> Vec<Near> {
    let copies: HashSet<At> = copies.iter().map(|copy| copy.training).collect();
    let standards = standards(parts, moments);
    let sketches = |source: usize, rows: &[usize]| -> Vec<Sketched> {
        let (Some(matrix), Some(standard)) = (parts[source].source.matrix, &standards[source]) else {
            return Vec::new();
        };
        rows.par_iter().filter_map(|row| standard.sketch(matrix, *row)).collect()
    };
    let evaluation: Vec<Vec<Sketched>> =
        parts.iter().enumerate().map(|(number, part)| sketches(number, &part.evaluation)).collect();
    let unrelated = |(source, tested): (usize, &Vec<Sketched>)| {
        let some = &tested[..tested.len().min(LOOKED_AT)];
        best_matches(parts, &standards, (source, some), (source, tested))
    };
    let unrelated: Vec<Vec<Match>> = evaluation.iter().enumerate().map(unrelated).collect();
    let mut found = Vec::new();
    for (source, part) in parts.iter().enumerate() {
        if evaluation.iter().all(Vec::is_empty) {
            break;
        }
        let rows: Vec<usize> =
            part.training.iter().copied().filter(|row| !copies.contains(&At { source, row: *row })).collect();
        let training = sketches(source, &rows);
        for (other, tested) in evaluation.iter().enumerate().filter(|(_, tested)| !tested.is_empty()) {
            let best = best_matches(parts, &standards, (source, &training), (other, tested));
            let limit = limit(&best, &unrelated[other], options);
            let near = Near::from_best(source, Some(other), best, limit);
            if !near.matches.is_empty() {
                found.push(near);
            }
        }
    }
    found
}

/// Turns what was found into findings.
pub(super) fn findings(parts: &[Part<'_>], found: &[Near], options: &Options) -> Vec<Finding> {
    let of = |near: &Near| {
        let other = near.evaluation.map_or("", |other| parts[other].source.name);
        let message = format!(
            "{} of the {} of `{}` {} nearly a row that `{other}` is evaluated on: cosine of centred features {}",
            near.matches.len(),
            number(parts[near.training].training.len(), "training row"),
            parts[near.training].source.name,
            is_or_are(near.matches.len()),
            near.range(parts)
        );
        finding(parts, Kind::NearDuplicates, Severity::Severe, message, &near.matches, options)
    };
    found.iter().map(of).collect()
}

/// From where on a best cosine is that of a copy.
///
/// How alike two different rows are at best is read off the evaluation rows among themselves, which no leak can change:
/// a copy is an outlier there. It also reaches `Options::cosine`, or it is far from everything below it.
fn limit(best: &[Match], unrelated: &[Match], options: &Options) -> f64 {
    let descending = |matches: &[Match]| {
        let mut scores: Vec<f64> = matches.iter().map(|found| found.score).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores
    };
    let null = descending(unrelated);
    if null.len() < LEAST_ROWS {
        return options.cosine.max(CERTAIN);
    }
    let middle = null[null.len() / 2];
    let mut distances: Vec<f64> = null.iter().map(|score| (score - middle).abs()).collect();
    distances.sort_by(f64::total_cmp);
    // 1.4826 makes the median absolute deviation a standard deviation where values are normal.
    let outlier = middle + 6.0 * 1.4826 * distances[distances.len() / 2];
    let scores = descending(best);
    let next = scores.iter().skip(1).chain(&null[..1]);
    let separate = scores.iter().zip(next).filter(|(score, next)| **score >= FAR.max(outlier) && *score - *next >= GAP);
    let separate = separate.last().map_or(f64::INFINITY, |(score, _)| *score);
    options.cosine.max(outlier).min(separate)
}

/// For each row the tested row, other than itself, with the highest cosine.
fn best_matches(
    parts: &[Part<'_>],
    standards: &[Option<Standard>],
    (source, training): (usize, &[Sketched]),
    (other, tested): (usize, &[Sketched]),
) -> Vec<Match> {
    let (Some(matrix), Some(tested_matrix)) = (parts[source].source.matrix, parts[other].source.matrix) else {
        return Vec::new();
    };
    let (Some(own), Some(its)) = (&standards[source], &standards[other]) else { return Vec::new() };
    let means: f64 = own.mean.iter().zip(&its.mean).map(|(a, b)| a * b).sum();
    let best_of = |buffer: &mut Vec<f64>, row: &Sketched| -> Option<Match> {
        let itself = (source == other).then_some(row.row);
        let candidates = candidates(row, tested, itself);
        let mut shared = means;
        own.for_each(matrix, row.row, |column, value| {
            buffer[column] = value;
            shared -= value * its.mean[column];
        });
        let cosine = |candidate: usize| {
            let candidate = &tested[candidate];
            let mut product = shared;
            its.for_each(tested_matrix, candidate.row, |column, value| {
                product += value * (buffer[column] - own.mean[column]);
            });
            (product / (row.norm * candidate.norm)).clamp(-1.0, 1.0)
        };
        let scored = candidates.into_iter().map(|candidate| (cosine(candidate), candidate));
        let best = scored.min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        own.for_each(matrix, row.row, |column, _| buffer[column] = 0.0);
        best.map(|(score, candidate)| Match {
            training: At { source, row: row.row },
            other: At { source: other, row: tested[candidate].row },
            score,
        })
    };
    training.par_iter().map_init(|| vec![0.0; matrix.columns()], best_of).flatten().collect()
}

/// The tested rows whose sketches are nearest.
fn candidates(row: &Sketched, tested: &[Sketched], itself: Option<usize>) -> Vec<usize> {
    let mut best = [(f32::NEG_INFINITY, 0usize); CANDIDATES];
    for (number, other) in tested.iter().enumerate().filter(|(_, other)| itself != Some(other.row)) {
        let estimate = product(&row.sketch, &other.sketch);
        if estimate > best[CANDIDATES - 1].0 {
            best[CANDIDATES - 1] = (estimate, number);
            let mut place = CANDIDATES - 1;
            while place > 0 && best[place].0 > best[place - 1].0 {
                best.swap(place, place - 1);
                place -= 1;
            }
        }
    }
    best.into_iter().filter(|(estimate, _)| estimate.is_finite()).map(|(_, number)| number).collect()
}

/// Sixteen sums side by side, which the compiler turns into vector instructions.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

/// A row in short.
struct Sketched {
    row: usize,
    /// Length of the centred row.
    norm: f64,
    /// Of length 1 but for the sketch's error.
    sketch: Vec<f32>,
}

/// How the columns of a source are scaled and centred.
struct Standard {
    /// One over the standard deviation; 0 for a column without spread.
    inverse: Vec<f64>,
    /// Mean over standard deviation.
    mean: Vec<f64>,
    /// Squared length of `mean`.
    square: f64,
    /// Sketch of `mean`.
    sketch: Vec<f64>,
}

fn standards(parts: &[Part<'_>], moments: &[Moments]) -> Vec<Option<Standard>> {
    let used: Vec<Cell> = moments
        .iter()
        .map(|cells| {
            let mut used = Cell::default();
            cells.iter().flatten().for_each(|cell| used.add(cell));
            used
        })
        .collect();
    let mut all = Cell::default();
    used.iter().for_each(|cell| all.add(cell));
    let of = |(part, cell): (&Part<'_>, &Cell)| {
        part.source.matrix.filter(|_| cell.rows > 0)?;
        Some(Standard::new(if cell.rows < LEAST_ROWS { &all } else { cell }))
    };
    parts.iter().zip(&used).map(of).collect()
}

impl Standard {
    fn new(cell: &Cell) -> Self {
        let columns = 0..cell.sum.len();
        let inverse = |column: usize| match cell.variance(column) {
            variance if variance > 0.0 => variance.sqrt().recip(),
            _ => 0.0,
        };
        let inverse: Vec<f64> = columns.clone().map(inverse).collect();
        let mean: Vec<f64> = columns.map(|column| cell.mean(column) * inverse[column]).collect();
        let mut sketch = vec![0.0; WIDTH];
        mean.iter().enumerate().for_each(|(column, value)| add_to_sketch(&mut sketch, column, *value));
        Standard { inverse, square: mean.iter().map(|value| value * value).sum(), mean, sketch }
    }

    /// Calls `see(column, value)` with the scaled and capped values that are not 0; centring is left to the caller.
    fn for_each(&self, matrix: &Matrix, row: usize, mut see: impl FnMut(usize, f64)) {
        matrix.for_each(row, |column, value| {
            let mean = self.mean[column];
            see(column, (value * self.inverse[column]).clamp(mean - CAP, mean + CAP));
        });
    }

    /// None for a row without active features, or without length once it is centred.
    fn sketch(&self, matrix: &Matrix, row: usize) -> Option<Sketched> {
        let mut sketch: Vec<f64> = self.sketch.iter().map(|value| -value).collect();
        let (mut square, mut active) = (self.square, false);
        self.for_each(matrix, row, |column, value| {
            add_to_sketch(&mut sketch, column, value);
            square += value * (value - 2.0 * self.mean[column]);
            active = true;
        });
        let norm = square.max(0.0).sqrt();
        let sketch = sketch.into_iter().map(|value| (value / norm) as f32).collect();
        (active && norm > 1e-9).then_some(Sketched { row, norm, sketch })
    }
}

fn add_to_sketch(sketch: &mut [f64], column: usize, value: f64) {
    let mixed = (column as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let place = (mixed >> 56) as usize % WIDTH;
    sketch[place] += if mixed & (1 << 40) == 0 { value } else { -value };
}
