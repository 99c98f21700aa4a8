//! A linear probe: a weight per standardised feature and an intercept.

use super::product::{Rows, product};
use super::scaler::Scaler;

/// What a fit gives: the decision value of a row is intercept + sum of weight (x - mean) / scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// One per feature, on standardised features.
    pub weights: Vec<f64>,
    /// On standardised features.
    pub intercept: f64,
    /// The standardisation that belongs to the weights.
    pub scaler: Scaler,
}

impl Linear {
    /// Decision values of all rows: above 0 is class 1.
    pub fn decide(&self, rows: &Rows) -> Vec<f64> {
        decide_all(rows, &[self]).remove(0)
    }

    /// Weights on the features as they are in the file, and the intercept that belongs to them.
    pub fn raw(&self) -> (Vec<f64>, f64) {
        let weights: Vec<f64> = self.weights.iter().zip(&self.scaler.scale).map(|(w, scale)| w / scale).collect();
        let shift: f64 = weights.iter().zip(&self.scaler.mean).map(|(w, mean)| w * mean).sum();
        (weights, self.intercept - shift)
    }

    /// Number of weights that are not 0.
    pub fn non_zeros(&self) -> usize {
        self.weights.iter().filter(|weight| **weight != 0.0).count()
    }
}

/// Decision values of all rows under several probes, in one pass for every eight of them: `[probe][row]`.
pub fn decide_all(rows: &Rows, probes: &[&Linear]) -> Vec<Vec<f64>> {
    let mut all = Vec::with_capacity(probes.len());
    for pack in probes.chunks(8) {
        let raw: Vec<(Vec<f64>, f64)> = pack.iter().map(|probe| probe.raw()).collect();
        let weights: Vec<[f64; 8]> = (0..rows.columns())
            .map(|column| std::array::from_fn(|k| raw.get(k).map_or(0.0, |(weights, _)| weights[column])))
            .collect();
        let sums = product(rows, &weights); // (row, lane)
        all.extend(
            raw.iter()
                .enumerate()
                .map(|(k, (_, intercept))| sums.iter().map(|sum| sum[k] + intercept).collect::<Vec<f64>>()),
        );
    }
    all
}

/// The probability that belongs to a decision value of logistic regression.
pub fn probability(decision: f64) -> f64 {
    if decision >= 0.0 { 1.0 / (1.0 + (-decision).exp()) } else { decision.exp() / (1.0 + decision.exp()) }
}
