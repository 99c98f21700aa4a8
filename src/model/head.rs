//! The language-model head with cross-entropy, in blocks of rows so that logits never exist all at once.

use super::backward::{input_gradient, weight_gradient};
use super::forward::{Prepared, take};
use super::kernels::{View, cross_entropy, multiply_panels};
use super::weights::Weights;

/// Rows of logits at a time.
const ROWS: usize = 64;

/// What one output row is to predict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The token.
    pub id: u32,
    /// Factor of its loss.
    pub weight: f32,
}

/// Buffers of the head; they grow and stay.
#[derive(Default)]
pub struct Head {
    logits: Vec<f32>,
    /// (outputs, width): gradient of the hidden rows.
    pub d_hidden: Vec<f32>,
}

/// Weighted sum of the negative log-likelihood of the targets given `hidden` (outputs, width). With a `gradient`, its
/// embedding part is added to, and `head.d_hidden` is the gradient of the hidden rows.
pub fn loss(
    weights: &Weights,
    prepared: &Prepared,
    hidden: &[f32],
    targets: &[Target],
    head: &mut Head,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let (width, vocabulary) = (weights.config.width, weights.config.vocabulary);
    let embedding = (&weights.values[weights.layout.embedding.clone()], width);
    let d_hidden = take(&mut head.d_hidden, targets.len() * width);
    let blocks = targets.chunks(ROWS).zip(hidden.chunks(ROWS * width)).zip(d_hidden.chunks_mut(ROWS * width));
    let mut total = 0.0;
    for ((targets, hidden), d_hidden) in blocks {
        let logits = take(&mut head.logits, targets.len() * vocabulary);
        multiply_panels(logits, vocabulary, View::rows(hidden, width), &prepared.head, targets.len(), false);
        for (logits, target) in logits.chunks_exact_mut(vocabulary).zip(targets) {
            total += f64::from(target.weight) * f64::from(cross_entropy(logits, target.id, target.weight));
        }
        if let Some(gradient) = &mut gradient {
            let d_logits = (&*logits, vocabulary);
            input_gradient(d_logits, embedding, d_hidden, false);
            weight_gradient(d_logits, (hidden, width), &mut gradient[weights.layout.embedding.clone()]);
        }
    }
    total
}

/// Logits (outputs, vocabulary) of hidden rows.
pub fn logits(weights: &Weights, prepared: &Prepared, hidden: &[f32], logits: &mut Vec<f32>) {
    let (width, vocabulary) = (weights.config.width, weights.config.vocabulary);
    let rows = hidden.len() / width;
    let logits = take(logits, rows * vocabulary);
    multiply_panels(logits, vocabulary, View::rows(hidden, width), &prepared.head, rows, false);
}
