//! Directions of what is trained: mean gradients along short trainings on data that is wanted, or is not.

use serde::{Deserialize, Serialize};

use super::fit::{Options, Step, Training};
use super::objective::Objective;
use super::objective::direction::add_multiple;
use crate::ensure;
use crate::error::Result;
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// How the mean gradients on wanted and unwanted rows make one direction. Steps move against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Wanted minus unwanted: a step against it learns the former and unlearns the latter.
    Difference,
    /// Their sum.
    Sum,
}

/// The direction of some wanted and some unwanted rows; either may be missing. Each is the mean of the gradients of all
/// steps of a training from `weights`, with the method, rank and seed of `options`.
///
/// # Errors
/// No rows at all, and whatever stops a training.
pub fn plane(
    weights: &Weights,
    wanted: &[Example],
    unwanted: &[Example],
    combine: Combine,
    options: &Options,
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    ensure!(!wanted.is_empty() || !unwanted.is_empty(), "a direction needs wanted or unwanted rows");
    let mut plane = Vec::new();
    for (rows, sign) in [(wanted, 1.0), (unwanted, if combine == Combine::Sum { 1.0 } else { -1.0 })] {
        if !rows.is_empty() {
            let gradient = mean_gradient(weights, rows, options, on_step)?;
            plane.resize(gradient.len(), 0.0);
            add_multiple(&mut plane, sign, &gradient);
        }
    }
    Ok(plane)
}

/// Mean of the gradients of all steps of a plain training.
///
/// # Errors
/// Whatever stops a training.
pub fn mean_gradient(
    weights: &Weights,
    rows: &[Example],
    options: &Options,
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    let objective = Objective::sft();
    let mut training = Training::new(weights, rows, &objective, options)?;
    let share = 1.0 / training.steps() as f64;
    let mut mean = Vec::new();
    while training.done() < training.steps() {
        let step = training.step()?;
        let gradient = training.last_gradient();
        mean.resize(gradient.len(), 0.0);
        add_multiple(&mut mean, share, gradient);
        on_step(&step)?;
    }
    Ok(mean)
}
