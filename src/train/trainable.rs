//! The weights that are used, and what of them is trained.

use std::ops::Range;

use super::lora::Lora;
use super::objective::direction::add_multiple;
use super::optimizer::Adam;
use super::options::{Method, Options};
use crate::data::random::Random;
use crate::error::Result;
use crate::model::layout::NamedTensor;
use crate::model::weights::Weights;

/// Weights, and adapters where those are trained.
pub struct Trainable<'a> {
    /// What the model computes with.
    pub weights: Weights,
    frozen: &'a Weights,
    /// The adapters and their first values.
    adapters: Option<(Lora, Vec<f32>)>,
}

impl<'a> Trainable<'a> {
    /// What these options train, as it is before the first step.
    pub fn new(frozen: &'a Weights, options: &Options) -> Result<Self> {
        let adapters = match options.method {
            Method::Full => None,
            Method::Lora { rank, alpha } => {
                let lora = Lora::with(frozen, rank, alpha, &options.adapters, options.seed)?;
                let first = lora.values.clone();
                Some((lora, first))
            }
        };
        Ok(Trainable { weights: frozen.clone(), frozen, adapters })
    }

    /// Places and shapes of the trained values.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        self.lora().map_or_else(|| self.weights.tensors(), Lora::tensors)
    }

    /// Parts of the trained values, and whether they decay: matrices do, gains do not.
    pub fn parts(&self) -> Vec<(Range<usize>, bool)> {
        match self.lora() {
            Some(lora) => vec![(0..lora.values.len(), true)],
            None => self.weights.tensors().into_iter().map(|tensor| (tensor.range, tensor.shape.len() > 1)).collect(),
        }
    }

    /// The trained values.
    pub fn values(&self) -> &[f32] {
        self.lora().map_or(&self.weights.values, |lora| &lora.values)
    }

    /// What they were before the first step.
    pub fn first_values(&self) -> &[f32] {
        self.adapters.as_ref().map_or(&self.frozen.values, |(_, first)| first)
    }

    /// The adapters, where those are trained.
    pub fn lora(&self) -> Option<&Lora> {
        self.adapters.as_ref().map(|(lora, _)| lora)
    }

    /// Replaces the trained values.
    pub fn set_values(&mut self, values: &[f32]) {
        self.change(|now| now.copy_from_slice(values));
    }

    /// Chooses the inputs of adapters that are dropped until the next call; `None` drops none.
    pub fn drop_inputs(&mut self, random: Option<&mut Random>) {
        if let Some((lora, _)) = &mut self.adapters
            && lora.options.dropout > 0.0
        {
            lora.drop_inputs(random);
            lora.merge(self.frozen, &mut self.weights);
        }
    }

    /// Where adapters are trained, makes `of_adapters` their gradient from that of the weights.
    pub fn gradient_into(&self, of_weights: &[f32], of_adapters: &mut Vec<f32>) {
        if let Some(lora) = self.lora() {
            lora.gradient(of_weights, of_adapters);
        }
    }

    /// Moves the trained values; returns the gradient's norm before clipping.
    pub fn step(&mut self, adam: &mut Adam, gradient: &[f32], learning_rate: f64) -> f64 {
        self.change(|values| adam.step(values, gradient, learning_rate))
    }

    /// Adds a multiple of a direction to the trained values.
    pub fn shift(&mut self, factor: f64, direction: &[f32]) {
        self.change(|values| add_multiple(values, factor, direction));
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut [f32]) -> R) -> R {
        match &mut self.adapters {
            None => change(&mut self.weights.values),
            Some((lora, _)) => {
                let result = change(&mut lora.values);
                lora.merge(self.frozen, &mut self.weights);
                result
            }
        }
    }

    /// The weights and the adapters that made them.
    pub fn into_parts(self) -> (Weights, Option<Lora>) {
        (self.weights, self.adapters.map(|(lora, _)| lora))
    }
}
