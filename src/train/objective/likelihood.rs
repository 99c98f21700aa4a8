//! Losses that are functions of how likely each row's tokens are, with one forward pass of the decoder.

use super::loss::Unit;
use super::sft::{predicted, tokens};
use super::stream::{StreamEdit, edits_of_batch};
use crate::error::Result;
use crate::model::backward::backward_tapped;
use crate::model::chat::Example;
use crate::model::forward::{Prepared, forward, forward_edited};
use crate::model::head::{self, Target};
use crate::model::tap::Taps;
use crate::model::weights::Weights;
use crate::train::passes::Worker;

/// Negative log-likelihoods of a unit's tokens: of the row's, and of those of the row that it is compared with.
#[derive(Clone, Copy)]
pub struct Surprises<'a> {
    /// Of the row.
    pub row: &'a [f32],
    /// Of the rejected row; empty where there is none.
    pub rejected: &'a [f32],
}

/// What a loss makes of a unit: its value; and, written to the targets' weights, how fast it grows with each token's
/// negative log-likelihood (the row's tokens first).
pub type Weigh<'a> = dyn Fn(&Unit, Surprises, &mut [Target]) -> f64 + 'a;

/// Sum over the units of `scale` times their weight times what `weigh` makes of them; adds the gradient where one is
/// wanted.
pub fn run(
    worker: &mut Worker,
    (weights, prepared): (&Weights, &Prepared),
    units: &[&Unit],
    edits: &[StreamEdit],
    scale: f64,
    gradient: Option<&mut [f32]>,
    weigh: &Weigh,
) -> Result<f64> {
    let Worker { batch, targets, activations, scratch, head, surprises: found, .. } = worker;
    batch.clear();
    targets.clear();
    for example in units.iter().flat_map(|unit| unit.rows()) {
        batch.push(&example.ids[..tokens(example)], predicted(example).map(|position| position - 1));
        targets.extend(predicted(example).map(|position| Target { id: example.ids[position], weight: 0.0 }));
    }
    if targets.is_empty() {
        return Ok(0.0);
    }
    let edits = edits_of_batch(edits, batch);
    forward_edited(weights, prepared, batch, &edits, activations)?;
    head::surprises(weights, prepared, activations.hidden(), |row| targets[row].id, head, found)?;
    let (mut total, mut place) = (0.0, 0);
    for unit in units {
        let [count, others] = [Some(unit.row), unit.rejected].map(|row| row.map_or(0, |row| predicted(row).count()));
        let (middle, end) = (place + count, place + count + others);
        let surprises = Surprises { row: &found[place..middle], rejected: &found[middle..end] };
        let factor = scale * f64::from(unit.row.weight);
        total += factor * weigh(unit, surprises, &mut targets[place..end]);
        targets[place..end].iter_mut().for_each(|target| target.weight *= factor as f32);
        place = end;
    }
    if let Some(gradient) = gradient {
        head::loss(weights, prepared, activations.hidden(), targets, head, Some(gradient))?;
        let taps = Taps { edits: &edits, injections: &[] };
        backward_tapped(weights, prepared, batch, activations, &head.d_hidden, taps, scratch, gradient)?;
    }
    Ok(total)
}

/// Log-probability of each row's predicted tokens.
pub fn log_probabilities(weights: &Weights, prepared: &Prepared, rows: &[&Example]) -> Result<Vec<f64>> {
    let mut worker = Worker::default();
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let Worker { batch, activations, head, surprises: of_tokens, .. } = &mut worker;
        batch.clear();
        batch.push(&row.ids[..tokens(row)], predicted(row).map(|position| position - 1));
        forward(weights, prepared, batch, activations)?;
        let ids: Vec<u32> = predicted(row).map(|position| row.ids[position]).collect();
        head::surprises(weights, prepared, activations.hidden(), |row| ids[row], head, of_tokens)?;
        found.push(log_probability(of_tokens));
    }
    Ok(found)
}

/// Log-probability of tokens with these negative log-likelihoods.
pub fn log_probability(surprises: &[f32]) -> f64 {
    -surprises.iter().map(|surprise| f64::from(*surprise)).sum::<f64>()
}

/// log(1 + e^x).
pub(super) fn soft_plus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
