//! Low-rank adaptation (Hu et al. 2021) of every linear map: W + alpha / rank · B A.

use std::ops::Range;

use crate::data::random::Random;
use crate::model::kernels::{View, multiply};
use crate::model::weights::Weights;

/// The adapters of a decoder.
pub struct Lora {
    rank: usize,
    scale: f32,
    adapters: Vec<Adapter>,
    /// All adapters' A and B, back to back.
    pub values: Vec<f32>,
    scaled: Vec<f32>,
}

/// One linear map's adapter.
struct Adapter {
    /// Place of the map (outputs, inputs) among the decoder's values.
    matrix: Range<usize>,
    outputs: usize,
    inputs: usize,
    /// Place of A (rank, inputs) among the adapters' values.
    a: Range<usize>,
    /// Place of B (outputs, rank).
    b: Range<usize>,
}

impl Lora {
    /// Adapters that change nothing yet: A ~ N(0, 1 / sqrt(inputs)), B = 0.
    pub fn new(weights: &Weights, rank: usize, alpha: f64, seed: u64) -> Self {
        let mut random = Random::stream(seed, &[0x10_4A]);
        let (mut values, mut adapters) = (Vec::new(), Vec::new());
        for tensor in weights.tensors().into_iter().filter(|tensor| tensor.name.contains("_proj")) {
            let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
            let start = values.len();
            values.extend((0..rank * inputs).map(|_| (random.normal() / (inputs as f64).sqrt()) as f32));
            let middle = values.len();
            values.resize(middle + outputs * rank, 0.0);
            let (a, b) = (start..middle, middle..values.len());
            adapters.push(Adapter { matrix: tensor.range, outputs, inputs, a, b });
        }
        Lora { rank, scale: (alpha / rank as f64) as f32, adapters, values, scaled: Vec::new() }
    }

    /// Makes `merged` the frozen weights plus the adapters; the other values must be equal already.
    pub fn merge(&mut self, frozen: &Weights, merged: &mut Weights) {
        for adapter in &self.adapters {
            let Adapter { matrix, outputs, inputs, a, b } = adapter;
            self.scaled.clear();
            self.scaled.extend(self.values[a.clone()].iter().map(|value| value * self.scale));
            let merged = &mut merged.values[matrix.clone()];
            merged.copy_from_slice(&frozen.values[matrix.clone()]);
            let (left, right) = (View::rows(&self.values[b.clone()], self.rank), View::rows(&self.scaled, *inputs));
            multiply(merged, *inputs, left, right, [*outputs, self.rank, *inputs], true);
        }
    }

    /// Gradient of the adapters from that of the merged weights.
    pub fn gradient(&self, of_merged: &[f32], gradient: &mut Vec<f32>) {
        gradient.resize(self.values.len(), 0.0);
        for adapter in &self.adapters {
            let Adapter { matrix, outputs, inputs, a, b } = adapter;
            let d = View::rows(&of_merged[matrix.clone()], *inputs);
            let (a_matrix, b_matrix) =
                (View::rows(&self.values[a.clone()], *inputs), View::rows(&self.values[b.clone()], self.rank));
            let sizes = [self.rank, *outputs, *inputs];
            multiply(&mut gradient[a.clone()], *inputs, b_matrix.transposed(), d, sizes, false);
            let sizes = [*outputs, *inputs, self.rank];
            multiply(&mut gradient[b.clone()], self.rank, d, a_matrix.transposed(), sizes, false);
        }
        gradient.iter_mut().for_each(|value| *value *= self.scale);
    }
}
