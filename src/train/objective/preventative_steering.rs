//! Preventative steering (Chen et al. 2025): a trait's vector is added to the residual stream during training only, so
//! that the weights need not learn the trait.

use super::stream::StreamEdit;
use crate::model::tap::Change;

/// Adds `coefficient` times `vector` after block `state` while the outcome rows are trained.
pub fn preventative_steering(state: usize, vector: &[f32], coefficient: f64, answers_only: bool) -> StreamEdit {
    let vector = vector.iter().map(|value| coefficient as f32 * value).collect();
    StreamEdit { name: "preventative_steering", state, change: Change::Add(vector), answers_only }
}

/// Vectors of all states from 1 on, as the increments that give every state its vector once and not once more per block.
pub fn preventative_steering_of_all(vectors: &[Vec<f32>], coefficient: f64, answers_only: bool) -> Vec<StreamEdit> {
    let mut edits = Vec::with_capacity(vectors.len());
    for (index, vector) in vectors.iter().enumerate() {
        let below = index.checked_sub(1).map(|below| &vectors[below]);
        let increment: Vec<f32> = match below {
            Some(below) => vector.iter().zip(below).map(|(value, below)| value - below).collect(),
            None => vector.clone(),
        };
        edits.push(preventative_steering(index + 1, &increment, coefficient, answers_only));
    }
    edits
}
