//! Rows to learn beside the outcome rows, and rows to unlearn.

use serde::{Deserialize, Serialize};

use super::Term;
use super::loss::Loss;
use crate::model::chat::Example;

/// How rows are unlearned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlearning {
    /// The gradient of their cross-entropy, upwards: nothing bounds it.
    Ascent,
    /// -log(1 - p) of each token.
    Unlikelihood,
    /// Negative preference optimisation.
    Npo {
        /// How soon a row that has become unlikely is left alone.
        beta: f64,
    },
}

/// `positive_weight` times the mean cross-entropy of the `positive` rows, and `negative_weight` times what makes the
/// `negative` rows unlikely; a kind without rows has no term.
pub fn positive_negative(
    positive: Vec<Example>,
    positive_weight: f64,
    negative: Vec<Example>,
    negative_weight: f64,
    unlearning: Unlearning,
) -> Vec<Term> {
    let mut terms = Vec::new();
    if !positive.is_empty() {
        terms.push(Term { name: "positive".to_string(), ..Term::on_rows(Loss::Sft, positive_weight, positive) });
    }
    if !negative.is_empty() {
        let (loss, coefficient) = match unlearning {
            Unlearning::Ascent => (Loss::Sft, -negative_weight),
            Unlearning::Unlikelihood => (Loss::Unlikelihood, negative_weight),
            Unlearning::Npo { beta } => (Loss::Npo { beta }, negative_weight),
        };
        terms.push(Term { name: "negative".to_string(), ..Term::on_rows(loss, coefficient, negative) });
    }
    terms
}
