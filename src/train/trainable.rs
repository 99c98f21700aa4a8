//! The values that a training moves, and the decoder that they make.

use std::borrow::Cow;
use std::ops::Range;

use super::lora::Lora;
use super::objective::direction::add_multiple;
use super::objective::ewc;
use super::objective::l2_start::distance;
use super::optimizer::Adam;
use super::options::{Method, Options};
use super::passes::Passes;
use crate::error::Result;
use crate::model::layout::NamedTensor;
use crate::model::weights::Weights;

/// The values that a training moves: all of a decoder's, or those of adapters beside it.
pub struct Trainable<'a> {
    frozen: &'a Weights,
    tuned: Tuned,
}

enum Tuned {
    /// All values.
    Full(Box<Weights>),
    /// Adapters, and their first values.
    Adapters(Lora, Vec<f32>),
}

impl<'a> Trainable<'a> {
    /// What these options train, as it is before the first step.
    pub fn new(frozen: &'a Weights, options: &Options) -> Result<Self> {
        let tuned = match options.method {
            Method::Full => Tuned::Full(Box::new(frozen.clone())),
            Method::Lora { rank, alpha } => {
                let lora = Lora::with(frozen, rank, alpha, &options.adapters, options.seed)?;
                let first = lora.values.clone();
                Tuned::Adapters(lora, first)
            }
        };
        Ok(Trainable { frozen, tuned })
    }

    /// The decoder's own values, without adapters.
    pub fn weights(&self) -> &Weights {
        match &self.tuned {
            Tuned::Full(weights) => weights,
            Tuned::Adapters(..) => self.frozen,
        }
    }

    /// The decoder's values, adapters merged into them.
    pub fn merged(&self) -> Cow<'_, Weights> {
        match &self.tuned {
            Tuned::Full(weights) => Cow::Borrowed(weights),
            Tuned::Adapters(lora, _) => Cow::Owned(merge(lora, self.frozen)),
        }
    }

    /// Lays out the values as they are now for the next passes.
    pub fn lay_out(&self, passes: &mut Passes) -> Result<()> {
        match &self.tuned {
            Tuned::Full(weights) => passes.update(weights),
            Tuned::Adapters(lora, _) => {
                passes.update_adapters(&lora.values);
                Ok(())
            }
        }
    }

    /// Squared distance of the decoder's values, adapters merged, from the start; adds its gradient times `coefficient`
    /// where one is wanted.
    pub fn distance(&self, coefficient: f64, gradient: Option<&mut [f32]>) -> f64 {
        match &self.tuned {
            Tuned::Full(weights) => distance(&weights.values, &self.frozen.values, coefficient, gradient),
            Tuned::Adapters(lora, _) => lora.distance(coefficient, gradient),
        }
    }

    /// Half of that distance with each value weighed by its part of `fisher`, and the length of its gradient times
    /// `coefficient`, which is added where one is wanted.
    pub fn weighed_distance(&self, fisher: &[f32], coefficient: f64, gradient: Option<&mut [f32]>) -> (f64, f64) {
        match &self.tuned {
            Tuned::Full(weights) => ewc::distance(&weights.values, &self.frozen.values, fisher, coefficient, gradient),
            Tuned::Adapters(lora, _) => lora.weighed_distance(fisher, coefficient, gradient),
        }
    }

    /// Places and shapes of the trained values.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        self.lora().map_or_else(|| self.frozen.tensors(), Lora::tensors)
    }

    /// Parts of the trained values, and whether they decay: matrices do, gains do not.
    pub fn parts(&self) -> Vec<(Range<usize>, bool)> {
        match self.lora() {
            Some(lora) => vec![(0..lora.values.len(), true)],
            None => self.frozen.tensors().into_iter().map(|tensor| (tensor.range, tensor.shape.len() > 1)).collect(),
        }
    }

    /// The trained values.
    pub fn values(&self) -> &[f32] {
        self.lora().map_or(&self.weights().values, |lora| &lora.values)
    }

    /// What they were before the first step.
    pub fn first_values(&self) -> &[f32] {
        match &self.tuned {
            Tuned::Full(_) => &self.frozen.values,
            Tuned::Adapters(_, first) => first,
        }
    }

    /// The adapters, where those are trained.
    pub fn lora(&self) -> Option<&Lora> {
        match &self.tuned {
            Tuned::Full(_) => None,
            Tuned::Adapters(lora, _) => Some(lora),
        }
    }

    fn values_mut(&mut self) -> &mut [f32] {
        match &mut self.tuned {
            Tuned::Full(weights) => &mut weights.values,
            Tuned::Adapters(lora, _) => &mut lora.values,
        }
    }

    /// Replaces the trained values.
    pub fn set_values(&mut self, values: &[f32]) {
        self.values_mut().copy_from_slice(values);
    }

    /// Moves the trained values; returns the gradient's norm before clipping.
    pub fn step(&mut self, adam: &mut Adam, gradient: &[f32], learning_rate: f64) -> f64 {
        adam.step(self.values_mut(), gradient, learning_rate)
    }

    /// Adds a multiple of a direction to the trained values.
    pub fn shift(&mut self, factor: f64, direction: &[f32]) {
        add_multiple(self.values_mut(), factor, direction);
    }

    /// The weights, and the adapters that are merged into them.
    pub fn into_parts(self) -> (Weights, Option<Lora>) {
        match self.tuned {
            Tuned::Full(weights) => (*weights, None),
            Tuned::Adapters(lora, _) => (merge(&lora, self.frozen), Some(lora)),
        }
    }
}

fn merge(lora: &Lora, frozen: &Weights) -> Weights {
    let mut merged = frozen.clone();
    lora.merge(frozen, &mut merged);
    merged
}
