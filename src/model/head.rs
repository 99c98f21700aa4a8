//! The language-model head with cross-entropy, in blocks of rows so that logits never exist all at once.

use super::backward::{input_gradient, weight_gradient};
use super::device;
use super::forward::{Prepared, take};
use super::kernels::{cap, cap_backward, cross_entropy};
use super::weights::Weights;
use crate::error::Result;

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
    capped: Vec<f32>,
    /// (outputs, width): gradient of the hidden rows.
    pub d_hidden: Vec<f32>,
}

impl Head {
    /// Room for the gradient of these hidden rows.
    pub(super) fn d_hidden_of(&mut self, hidden: &[f32]) -> &mut [f32] {
        take(&mut self.d_hidden, hidden.len())
    }
}

/// Weighted sum of the negative log-likelihood of the targets given `hidden` (outputs, width). With a `gradient`, its
/// part of the head is added to (unless adapters are trained), and `head.d_hidden` is the gradient of the hidden rows.
pub fn loss(
    weights: &Weights,
    prepared: &Prepared,
    hidden: &[f32],
    targets: &[Target],
    head: &mut Head,
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    if let Some(mirror) = &prepared.mirror {
        let gradient = gradient.map(|gradient| (gradient, prepared.adapters.is_some()));
        let d_hidden = head.d_hidden_of(hidden);
        return device::head::loss(weights, mirror, hidden, targets, d_hidden, gradient);
    }
    let of_row = |row: usize, logits: &mut [f32]| {
        let Target { id, weight } = targets[row];
        Ok(f64::from(weight) * f64::from(cross_entropy(logits, id, weight)))
    };
    loss_of_rows(weights, prepared, hidden, head, gradient, of_row)
}

/// Replaces `found` by the negative log-likelihood of each output's token given its row of `hidden`.
pub fn surprises(
    weights: &Weights,
    prepared: &Prepared,
    hidden: &[f32],
    id: impl Fn(usize) -> u32,
    head: &mut Head,
    found: &mut Vec<f32>,
) -> Result<()> {
    found.clear();
    if let Some(mirror) = &prepared.mirror {
        let ids: Vec<u32> = (0..hidden.len() / weights.config.width).map(id).collect();
        return device::head::surprises(weights, mirror, hidden, &ids, found);
    }
    loss_of_rows(weights, prepared, hidden, head, None, |row, logits| {
        found.push(cross_entropy(logits, id(row), 0.0));
        Ok(0.0)
    })?;
    Ok(())
}

/// On this processor, the sum of any loss of logits: `of_row` gets the index of an output and its logits, gives the loss and leaves in the
/// logits' place its gradient (nothing of use where no gradient is wanted). Otherwise as [`loss`].
pub(super) fn loss_of_rows(
    weights: &Weights,
    prepared: &Prepared,
    hidden: &[f32],
    head: &mut Head,
    mut gradient: Option<&mut [f32]>,
    mut of_row: impl FnMut(usize, &mut [f32]) -> Result<f64>,
) -> Result<f64> {
    let (width, vocabulary) = (weights.config.width, weights.config.vocabulary);
    let matrix = (&weights.values[weights.layout.head.clone()], width);
    let bound = weights.config.variant.logit_cap.map(|bound| bound as f32);
    let Head { logits, capped, d_hidden } = head;
    let d_hidden = take(d_hidden, hidden.len());
    let mut total = 0.0;
    let blocks = hidden.chunks(ROWS * width).zip(d_hidden.chunks_mut(ROWS * width));
    for (block, (hidden, d_hidden)) in blocks.enumerate() {
        let rows = hidden.len() / width;
        let logits = take(logits, rows * vocabulary);
        prepared.head.multiply(matrix.0, (hidden, width), logits, false);
        if let Some(bound) = bound {
            cap(logits, bound);
            take(capped, logits.len()).copy_from_slice(logits);
        }
        for (row, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
            total += of_row(block * ROWS + row, logits)?;
        }
        if let Some(gradient) = &mut gradient {
            if let Some(bound) = bound {
                cap_backward(capped, logits, bound);
            }
            let d_logits = (&*logits, vocabulary);
            input_gradient(d_logits, matrix, d_hidden, false);
            if prepared.adapters.is_none() {
                weight_gradient(d_logits, (hidden, width), &mut gradient[weights.layout.head.clone()]);
            }
        }
    }
    Ok(total)
}

/// Logits (outputs, vocabulary) of hidden rows.
pub fn logits(weights: &Weights, prepared: &Prepared, hidden: &[f32], logits: &mut Vec<f32>) -> Result<()> {
    if let Some(mirror) = &prepared.mirror {
        return device::head::logits(weights, mirror, hidden, logits);
    }
    let (width, vocabulary) = (weights.config.width, weights.config.vocabulary);
    let rows = hidden.len() / width;
    let logits = take(logits, rows * vocabulary);
    prepared.head.multiply(&weights.values[weights.layout.head.clone()], (hidden, width), logits, false);
    if let Some(bound) = weights.config.variant.logit_cap {
        cap(logits, bound as f32);
    }
    Ok(())
}
