//! Negative preference optimisation (Zhang et al. 2024): (2 / beta) log(1 + (p / p0)^beta) of each row, a bounded ascent.

use super::Term;
use super::likelihood::{Surprises, log_probability, sigmoid, soft_plus};
use super::loss::{Loss, Unit};
use crate::model::chat::Example;
use crate::model::head::Target;

/// Makes `rows` less likely than they were at the start.
pub fn npo(rows: Vec<Example>, beta: f64, coefficient: f64) -> Term {
    Term::on_rows(Loss::Npo { beta }, coefficient, rows)
}

/// The row's loss; its gradient is that of ascent times 2 r^beta / (1 + r^beta), r = p / p0.
pub(super) fn weigh(beta: f64, unit: &Unit, surprises: Surprises, targets: &mut [Target]) -> f64 {
    let ratio = beta * (log_probability(surprises.row) - unit.at_start[0]);
    let slope = -2.0 * sigmoid(ratio);
    targets.iter_mut().for_each(|target| target.weight = slope as f32);
    2.0 / beta * soft_plus(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_at_the_start_is_that_of_even_odds_and_its_gradient_is_ascent() {
        let row = Example { ids: vec![1, 2, 3], loss_mask: vec![false, true, true], weight: 1.0 };
        let found = [0.5f32, 1.25];
        for beta in [0.01, 0.1, 1.0] {
            let unit = Unit { row: &row, rejected: None, at_start: [log_probability(&found), 0.0] };
            let mut targets = [Target { id: 0, weight: 0.0 }; 2];
            let value = weigh(beta, &unit, Surprises { row: &found, rejected: &[] }, &mut targets);
            assert!((value - 2.0 / beta * 2f64.ln()).abs() < 1e-12);
            assert!(targets.iter().all(|target| target.weight == -1.0));
        }
        // A row that has become unlikely is left alone.
        let unit = Unit { row: &row, rejected: None, at_start: [1000.0, 0.0] };
        let mut targets = [Target { id: 0, weight: 0.0 }; 2];
        let value = weigh(0.1, &unit, Surprises { row: &found, rejected: &[] }, &mut targets);
        assert!(value < 1e-30 && targets[0].weight.abs() < 1e-30);
    }
}
