//! Keeping the residual stream of a second dataset where it was at the start (LDIFS, Mukhoti et al. 2024).

use super::Term;
use super::loss::{Loss, Start, Unit};
use super::sft::{predicted, tokens};
use crate::error::Result;
use crate::model::backward::backward_tapped;
use crate::model::chat::Example;
use crate::model::forward::{Prepared, forward};
use crate::model::tap::{Injection, Taps};
use crate::model::weights::Weights;
use crate::train::passes::Worker;

/// `coefficient` times the mean over tokens of the mean squared distance per channel, added up over the states after
/// the blocks `first..=last` (from 1; 0 for `last` is the last block). With `whole_rows` of all tokens that are read,
/// as published, in place of those from which a token with loss is predicted.
pub fn representation_constraint(
    rows: Vec<Example>,
    first: usize,
    last: usize,
    whole_rows: bool,
    coefficient: f64,
) -> Term {
    Term::on_rows(Loss::Representation { first, last, whole_rows }, coefficient, rows)
}

/// Which states, and of which tokens.
pub(super) struct Constraint {
    /// First state.
    pub first: usize,
    /// Last state.
    pub last: usize,
    /// All tokens that are read.
    pub whole_rows: bool,
    /// Factor of each token.
    pub scale: f64,
}

/// Sum over the tokens of their factors times the distance; adds the gradient where one is wanted.
pub(super) fn run(
    worker: &mut Worker,
    (weights, prepared): (&Weights, &Prepared),
    start: Start,
    units: &[&Unit],
    constraint: Constraint,
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    let Worker { batch, activations, of_start, scratch, .. } = worker;
    batch.clear();
    let mut factors = Vec::new();
    for Unit { row, .. } in units {
        let count = tokens(row);
        if constraint.whole_rows {
            batch.push(&row.ids[..count], 0..count);
        } else {
            batch.push(&row.ids[..count], predicted(row).map(|position| position - 1));
        }
        factors.resize(batch.outputs.len(), (f64::from(row.weight) * constraint.scale) as f32);
    }
    forward(start.weights, start.prepared, batch, of_start)?;
    forward(weights, prepared, batch, activations)?;
    let (width, layers) = (weights.config.width, weights.config.layers);
    let (mut total, mut injections) = (0.0, Vec::new());
    for state in constraint.first..=constraint.last {
        let (now, then) = (activations.state(state)?, of_start.state(state)?);
        let mut d = vec![0.0; now.len()];
        for (output, factor) in factors.iter().enumerate() {
            // The last state has the outputs' rows alone.
            let place = if state == layers { output } else { batch.outputs[output] } * width;
            let channels = now[place..place + width].iter().zip(&then[place..place + width]);
            let mut squares = 0.0;
            for ((now, then), d) in channels.zip(&mut d[place..place + width]) {
                squares += f64::from(now - then).powi(2);
                *d = 2.0 * factor / width as f32 * (now - then);
            }
            total += f64::from(*factor) * squares / width as f64;
        }
        injections.push(Injection { state, gradient: d });
    }
    if let Some(gradient) = gradient {
        let d_hidden = vec![0.0; batch.outputs.len() * width];
        let taps = Taps { edits: &[], injections: &injections };
        backward_tapped(weights, prepared, batch, activations, &d_hidden, taps, scratch, gradient)?;
    }
    Ok(total)
}
