//! Supervised fine-tuning: cross-entropy of the tokens that carry loss.

use std::ops::Range;

use super::stream::{StreamEdit, edits_of_batch};
use crate::error::Result;
use crate::model::backward::backward_tapped;
use crate::model::chat::Example;
use crate::model::forward::{Prepared, forward_edited};
use crate::model::head::{self, Target};
use crate::model::tap::Taps;
use crate::model::weights::Weights;
use crate::train::batch::runs;
use crate::train::passes::{Passes, Worker};

/// Buffers for losses and gradients of batches.
pub struct Sft {
    passes: Passes,
}

/// Whether a row trains anything.
pub fn has_loss(example: &Example) -> bool {
    example.weight != 0.0 && example.loss_mask.iter().skip(1).any(|flag| *flag)
}

/// Tokens of a row that are read: all before the last one that is predicted.
pub fn tokens(example: &Example) -> usize {
    example.loss_mask.iter().rposition(|flag| *flag).unwrap_or(0)
}

/// Mean loss over the tokens that carry loss, weighted by row; NaN when there is none.
pub fn mean_loss(weights: &Weights, examples: &[&Example]) -> Result<f64> {
    mean_loss_edited(weights, examples, &[])
}

/// [`mean_loss`] with changes of the residual stream.
pub fn mean_loss_edited(weights: &Weights, examples: &[&Example], edits: &[StreamEdit]) -> Result<f64> {
    mean_loss_with(weights, &Prepared::for_batches(weights)?, examples, edits)
}

/// [`mean_loss_edited`] with weights that are laid out already.
pub fn mean_loss_with(
    weights: &Weights,
    prepared: &Prepared,
    examples: &[&Example],
    edits: &[StreamEdit],
) -> Result<f64> {
    let mut worker = Worker::default();
    let total: f64 = examples.iter().map(|example| loss_weight(example)).sum();
    let lengths: Vec<usize> = examples.iter().map(|example| tokens(example)).collect();
    let loss = |rows: Range<usize>| {
        run(&mut worker, weights, prepared, examples[rows].iter().copied(), edits, 1.0 / total, None)
    };
    Ok(runs(&lengths, prepared.device_tokens()).into_iter().map(loss).sum::<Result<f64>>()?
        / if total > 0.0 { 1.0 } else { 0.0 })
}

/// Places in a row whose token carries loss.
pub fn predicted(example: &Example) -> impl Iterator<Item = usize> {
    (1..example.ids.len()).filter(|position| example.loss_mask[*position])
}

/// Number of tokens that carry loss times the size of their row's weight.
pub fn loss_weight(example: &Example) -> f64 {
    f64::from(example.weight.abs()) * predicted(example).count() as f64
}

impl Sft {
    /// Buffers for these weights' shape and at most `threads` threads.
    pub fn new(weights: &Weights, threads: usize) -> Result<Self> {
        Ok(Sft { passes: Passes::new(weights, None, threads)? })
    }

    /// Takes over changed weights.
    pub fn update(&mut self, weights: &Weights) -> Result<()> {
        self.passes.update(weights)
    }

    /// Mean loss of the examples (at least one of them has loss) and its gradient.
    pub fn gradient(&mut self, weights: &Weights, examples: &[&Example]) -> Result<(f64, &[f32])> {
        let lengths: Vec<usize> = examples.iter().map(|example| tokens(example)).collect();
        let scale = 1.0 / examples.iter().map(|example| loss_weight(example)).sum::<f64>();
        let loss = self.passes.run(weights, &lengths, true, &|worker, prepared, rows, gradient| {
            run(worker, weights, prepared, examples[rows].iter().copied(), &[], scale, gradient)
        })?;
        Ok((loss, self.passes.gradient()))
    }
}

/// Sum of the losses times `scale` and their rows' weights; adds the gradient where one is wanted.
pub(super) fn run<'a>(
    worker: &mut Worker,
    weights: &Weights,
    prepared: &Prepared,
    examples: impl Iterator<Item = &'a Example>,
    edits: &[StreamEdit],
    scale: f64,
    mut gradient: Option<&mut [f32]>,
) -> Result<f64> {
    let Worker { batch, targets, activations, scratch, head, .. } = worker;
    batch.clear();
    targets.clear();
    for example in examples.filter(|example| has_loss(example)) {
        batch.push(&example.ids[..tokens(example)], predicted(example).map(|position| position - 1));
        let weight = (f64::from(example.weight) * scale) as f32;
        targets.extend(predicted(example).map(|position| Target { id: example.ids[position], weight }));
    }
    if targets.is_empty() {
        return Ok(0.0);
    }
    let edits = edits_of_batch(edits, batch);
    forward_edited(weights, prepared, batch, &edits, activations)?;
    let loss = head::loss(weights, prepared, activations.hidden(), targets, head, gradient.as_deref_mut())?;
    if let Some(gradient) = gradient {
        let taps = Taps { edits: &edits, injections: &[] };
        backward_tapped(weights, prepared, batch, activations, &head.d_hidden, taps, scratch, gradient)?;
    }
    Ok(loss)
}
