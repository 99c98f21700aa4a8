//! Unlikelihood (Welleck et al. 2020): -log(1 - p) of every token, which is bounded from below as ascent is not.

use super::Term;
use super::likelihood::Surprises;
use super::loss::{Loss, Unit};
use crate::model::chat::Example;
use crate::model::head::Target;

/// Least negative log-likelihood that is told apart from certainty, so that the loss of a certain token is finite.
const LEAST: f64 = 1e-6;

/// Makes what the assistant says in `rows` unlikely.
pub fn unlikelihood(rows: Vec<Example>, coefficient: f64) -> Term {
    Term::on_rows(Loss::Unlikelihood, coefficient, rows)
}

/// Sum of -log(1 - p), p = e^-s for a surprise s.
pub(super) fn weigh(_: &Unit, surprises: Surprises, targets: &mut [Target]) -> f64 {
    let mut total = 0.0;
    for (surprise, target) in surprises.row.iter().zip(targets) {
        let surprise = f64::from(*surprise).max(LEAST);
        total -= (-(-surprise).exp_m1()).ln();
        target.weight = (-1.0 / surprise.exp_m1()) as f32;
    }
    total
}
