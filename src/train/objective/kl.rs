//! Divergence from the weights that training started from, on the tokens of a second dataset that carry loss.

use super::Term;
use super::loss::{Loss, Start, Unit};
use super::sft::{predicted, tokens};
use crate::error::Result;
use crate::model::backward::backward;
use crate::model::chat::Example;
use crate::model::divergence::{Direction, Side, divergence};
use crate::model::forward::{Prepared, forward};
use crate::model::weights::Weights;
use crate::train::passes::Worker;

/// Keeps what the model says in `rows` as it was: `beta` times the mean divergence per token.
pub fn kl(rows: Vec<Example>, direction: Direction, beta: f64) -> Term {
    Term::on_rows(Loss::Kl { direction }, beta, rows)
}

/// Sum over the tokens that carry loss of `scale` times their row's weight times the divergence; adds the gradient where
/// one is wanted.
pub(super) fn run(
    worker: &mut Worker,
    (weights, prepared): (&Weights, &Prepared),
    start: Start,
    units: &[&Unit],
    (direction, scale): (Direction, f64),
    mut gradient: Option<&mut [f32]>,
) -> Result<f64> {
    let Worker { batch, activations, of_start, scratch, divergence: buffers, .. } = worker;
    batch.clear();
    let mut factors = Vec::new();
    for Unit { row, .. } in units {
        batch.push(&row.ids[..tokens(row)], predicted(row).map(|position| position - 1));
        factors.resize(batch.outputs.len(), (f64::from(row.weight) * scale) as f32);
    }
    if factors.is_empty() {
        return Ok(0.0);
    }
    forward(start.weights, start.prepared, batch, of_start)?;
    forward(weights, prepared, batch, activations)?;
    let reference = Side { weights: start.weights, prepared: start.prepared, hidden: of_start.hidden() };
    let trained = Side { weights, prepared, hidden: activations.hidden() };
    let loss = divergence(trained, reference, &factors, direction, buffers, gradient.as_deref_mut())?;
    if let Some(gradient) = gradient {
        backward(weights, prepared, batch, activations, &buffers.head.d_hidden, scratch, gradient)?;
    }
    Ok(loss)
}
