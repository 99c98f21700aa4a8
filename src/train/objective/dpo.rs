//! Direct preference optimisation (Rafailov et al. 2023): -log sigmoid of how much the margin between a chosen and a
//! rejected answer has grown since the start.

use super::Term;
use super::likelihood::{Surprises, log_probability, sigmoid, soft_plus};
use super::loss::{Loss, Unit};
use crate::model::chat::Example;
use crate::model::head::Target;

/// Makes each of `chosen` likelier and the one of `rejected` at its place less likely.
pub fn dpo(chosen: Vec<Example>, rejected: Vec<Example>, beta: f64, length_normalised: bool, coefficient: f64) -> Term {
    Term::on_pairs(Loss::Dpo { beta, length_normalised }, coefficient, chosen, rejected)
}

/// The pair's loss, with sums of log-probabilities or, length-normalised, with their means over tokens.
pub(super) fn weigh(
    beta: f64,
    length_normalised: bool,
    unit: &Unit,
    surprises: Surprises,
    targets: &mut [Target],
) -> f64 {
    let factor = |row: &[f32]| if length_normalised { 1.0 / row.len() as f64 } else { 1.0 };
    let (of_row, of_rejected) = (factor(surprises.row), factor(surprises.rejected));
    let chosen = of_row * (log_probability(surprises.row) - unit.at_start[0]);
    let rejected = of_rejected * (log_probability(surprises.rejected) - unit.at_start[1]);
    let margin = beta * (chosen - rejected);
    let slope = beta * sigmoid(-margin);
    let (chosen, rejected) = targets.split_at_mut(surprises.row.len());
    chosen.iter_mut().for_each(|target| target.weight = (slope * of_row) as f32);
    rejected.iter_mut().for_each(|target| target.weight = (-slope * of_rejected) as f32);
    soft_plus(-margin)
}
