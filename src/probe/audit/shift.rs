//! Where the features of a source lie beside those of the training rows of the other sources.

use rayon::prelude::*;
use serde::Serialize;

use super::matches::score;
use super::moments::{Cell, Moments, half};
use super::{Finding, Kind, Options, Part, Severity};
use crate::data::statistics::CONFIDENCE;
use crate::probe::metrics::area_of;

/// Rows of a half, on each side, below which no domain AUROC is computed.
const LEAST_ROWS: usize = 5;

/// A source (its training and evaluation rows) beside the reference: the training rows of all other sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// Name of the source.
    pub source: String,
    /// Its rows.
    pub rows: usize,
    /// Rows of the reference.
    pub reference_rows: usize,
    /// Mean number of active features (not 0) of its rows.
    pub active: f64,
    /// The same of the reference.
    pub reference_active: f64,
    /// `active` over `reference_active`; missing when that is 0.
    pub density_ratio: Option<f64>,
    /// Mean of its values that are not 0; 0 without any.
    pub activation: f64,
    /// The same of the reference.
    pub reference_activation: f64,
    /// `activation` over `reference_activation`; missing when that is 0.
    pub activation_ratio: Option<f64>,
    /// Pearson's correlation of the per-feature means; missing without spread.
    pub correlation: Option<f64>,
    /// How well the source can be told from the reference by the difference of their means on standardised features:
    /// the direction is taken from one half of the rows, the AUROC (midranks) from the other, and the two are averaged.
    /// 0.5 is chance. A quick lower bound of what a fitted classifier reaches; missing for fewer than five rows in a
    /// half.
    pub domain_auroc: Option<f64>,
    /// Share of the features that are active somewhere in the reference and nowhere in the source.
    pub dead_here: Option<f64>,
    /// Share of the features that are active somewhere in the source and nowhere in the reference.
    pub dead_in_reference: Option<f64>,
}

/// One entry per source with features, where another one has training rows with features.
pub(super) fn shift(parts: &[Part<'_>], moments: &[Moments]) -> Vec<Shift> {
    (0..parts.len()).filter_map(|source| of_source(parts, moments, source)).collect()
}

/// The shifts that are worth a warning.
pub(super) fn findings(shift: &[Shift], options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shift in shift {
        let mut reasons = Vec::new();
        let limit = options.density_ratio;
        if let Some(ratio) = shift.density_ratio.filter(|ratio| *ratio > limit || *ratio < 1.0 / limit) {
            let (here, there) = (shift.active, shift.reference_active);
            reasons.push(format!("{ratio:.2} times the active features per row ({here:.0} against {there:.0})"));
        }
        if let Some(correlation) = shift.correlation.filter(|correlation| *correlation < options.correlation) {
            reasons.push(format!("correlation {} of the per-feature means", score(correlation)));
        }
        if let Some(auroc) = shift.domain_auroc.filter(|auroc| *auroc > options.domain_auroc) {
            reasons.push(format!("AUROC {} of telling them apart by the difference of means", score(auroc)));
        }
        if !reasons.is_empty() {
            let reasons = reasons.join(", ");
            let message = format!("`{}` lies elsewhere than the other training rows: {reasons}", shift.source);
            findings.push(Finding::new(Kind::Shift, Severity::Warning, message));
        }
    }
    findings
}

/// AUROC of the first list against the second; nothing where one is empty.
pub(super) fn area(positive: &[f64], negative: &[f64]) -> Option<f64> {
    area_of(positive, None, negative, CONFIDENCE).ok().map(|area| area.value)
}

fn of_source(parts: &[Part<'_>], moments: &[Moments], source: usize) -> Option<Shift> {
    let mut here = <[Cell; 2]>::default();
    let mut there = <[Cell; 2]>::default();
    for (number, cells) in moments.iter().enumerate() {
        for part in 0..2 {
            if number == source {
                cells.iter().for_each(|role| here[part].add(&role[part]));
            } else {
                there[part].add(&cells[0][part]);
            }
        }
    }
    let whole = |halves: &[Cell; 2]| {
        let mut whole = halves[0].clone();
        whole.add(&halves[1]);
        whole
    };
    let (mine, other) = (whole(&here), whole(&there));
    if mine.rows == 0 || other.rows == 0 {
        return None;
    }
    let total = |cell: &Cell| (cell.sum.iter().sum::<f64>(), cell.active.iter().map(|n| f64::from(*n)).sum::<f64>());
    let ((sum, active), (other_sum, other_active)) = (total(&mine), total(&other));
    let per_row = (active / mine.rows as f64, other_active / other.rows as f64);
    let activation = (ratio(sum, active).unwrap_or(0.0), ratio(other_sum, other_active).unwrap_or(0.0));
    Some(Shift {
        source: parts[source].source.name.to_string(),
        rows: mine.rows,
        reference_rows: other.rows,
        active: per_row.0,
        reference_active: per_row.1,
        density_ratio: ratio(per_row.0, per_row.1),
        activation: activation.0,
        reference_activation: activation.1,
        activation_ratio: ratio(activation.0, activation.1),
        correlation: correlation(&mine, &other),
        domain_auroc: domain_auroc(parts, source, &here, &there),
        dead_here: dead(&other, &mine),
        dead_in_reference: dead(&mine, &other),
    })
}

fn ratio(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| a / b)
}

/// Share of the features alive in `there` that are dead in `here`.
fn dead(there: &Cell, here: &Cell) -> Option<f64> {
    let alive = there.active.iter().filter(|count| **count > 0).count();
    let dead = there.active.iter().zip(&here.active).filter(|(there, here)| **there > 0 && **here == 0).count();
    ratio(dead as f64, alive as f64)
}

/// Of the means of all columns.
fn correlation(a: &Cell, b: &Cell) -> Option<f64> {
    let columns = a.sum.len();
    let mean = |cell: &Cell| (0..columns).map(|column| cell.mean(column)).sum::<f64>() / columns as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for column in 0..columns {
        let (x, y) = (a.mean(column) - mean_a, b.mean(column) - mean_b);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

fn domain_auroc(parts: &[Part<'_>], source: usize, here: &[Cell; 2], there: &[Cell; 2]) -> Option<f64> {
    if here.iter().chain(there).any(|cell| cell.rows < LEAST_ROWS) {
        return None;
    }
    let directions: Vec<Vec<f64>> = (0..2).map(|part| direction(&here[part], &there[part])).collect();
    let mut scores: [[Vec<f64>; 2]; 2] = Default::default();
    for (number, part) in parts.iter().enumerate() {
        let Some(matrix) = part.source.matrix else { continue };
        let rows: Vec<usize> = if number == source { part.rows().collect() } else { part.training.clone() };
        let score_of = |row: &usize| {
            let direction = &directions[1 - half(*row)];
            let mut score = 0.0;
            matrix.for_each(*row, |column, value| score += direction[column] * value);
            score
        };
        let found: Vec<f64> = rows.par_iter().map(score_of).collect();
        for (row, score) in rows.iter().zip(found) {
            scores[half(*row)][usize::from(number == source)].push(score);
        }
    }
    let areas = scores.iter().map(|[there, here]| area(here, there));
    Some(areas.sum::<Option<f64>>()? / 2.0)
}

/// Difference of the means over the variance of both together: on standardised features, the difference of the means.
fn direction(here: &Cell, there: &Cell) -> Vec<f64> {
    let mut both = here.clone();
    both.add(there);
    let weight = |column: usize| {
        let variance = both.variance(column);
        if variance > 0.0 { (here.mean(column) - there.mean(column)) / variance } else { 0.0 }
    };
    (0..both.sum.len()).map(weight).collect()
}
