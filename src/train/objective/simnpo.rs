//! SimNPO (Fan et al. 2024, arXiv 2410.07163): negative preferences of the mean log-probability per token, with no
//! reference model.

use super::Term;
use super::likelihood::{Surprises, log_probability, sigmoid, soft_plus};
use super::loss::Loss;
use crate::model::chat::Example;
use crate::model::head::Target;

/// Makes `rows` unlikely, by (2 / beta) log(1 + e^(margin + beta m)) of each, where m is its mean log-probability per
/// token: long rows are not unlearned faster, and there is no start that a row begins at.
pub fn simnpo(rows: Vec<Example>, beta: f64, margin: f64, coefficient: f64) -> Term {
    Term::on_rows(Loss::Simnpo { beta, margin }, coefficient, rows)
}

/// The row's loss; its gradient is that of ascent on m times 2 σ(margin + beta m).
pub(super) fn weigh(beta: f64, margin: f64, surprises: Surprises, targets: &mut [Target]) -> f64 {
    let tokens = surprises.row.len() as f64;
    let preference = margin + beta * log_probability(surprises.row) / tokens;
    let slope = -2.0 * sigmoid(preference) / tokens;
    targets.iter_mut().for_each(|target| target.weight = slope as f32);
    2.0 / beta * soft_plus(preference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(beta: f64, margin: f64, found: &[f32]) -> (f64, f64) {
        let mut targets = vec![Target { id: 0, weight: 0.0 }; found.len()];
        let value = weigh(beta, margin, Surprises { row: found, rejected: &[] }, &mut targets);
        (value, f64::from(targets[0].weight))
    }

    #[test]
    fn rows_of_any_length_with_the_same_mean_are_unlearned_alike() {
        let (short, long) = (weighed(2.5, 0.1, &[0.5, 1.5]), weighed(2.5, 0.1, &[1.0; 8]));
        assert!((short.0 - long.0).abs() < 1e-12 && (2.0 * short.1 - 8.0 * long.1).abs() < 1e-7);
        assert!(short.1 < 0.0);
    }

    #[test]
    fn what_is_certain_is_pushed_hardest_and_what_is_unlikely_is_left_alone() {
        // With all tokens certain and no margin the preference is even.
        let (value, slope) = weighed(2.5, 0.0, &[0.0, 0.0]);
        assert!((value - 2.0 / 2.5 * 2f64.ln()).abs() < 1e-12 && (slope + 0.5).abs() < 1e-7);
        let (value, slope) = weighed(2.5, 0.0, &[100.0, 100.0]);
        assert!(value < 1e-30 && slope.abs() < 1e-30);
        assert!(weighed(2.5, 1.0, &[1.0, 1.0]).0 > weighed(2.5, 0.0, &[1.0, 1.0]).0);
    }

    #[test]
    fn it_turns_into_ascent_on_the_mean_as_beta_falls() {
        let (_, slope) = weighed(1e-6, 0.0, &[0.4, 1.0, 3.0]);
        assert!((slope + 1.0 / 3.0).abs() < 1e-5);
    }
}
