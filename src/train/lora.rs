//! Low-rank adaptation (Hu et al. 2021) of linear maps: W + factor · B A.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::objective::direction::norm;
use crate::bail;
use crate::data::random::Random;
use crate::ensure;
use crate::error::{Result, nearest};
use crate::model::adapter::Adapters;
use crate::model::kernels::{View, add, multiply};
use crate::model::layout::{Linear, NamedTensor};
use crate::model::weights::Weights;

/// How adapters are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterOptions {
    /// The factor is alpha / sqrt(rank) (Kalajdzievski 2023) in place of alpha / rank.
    pub rank_stabilised: bool,
    /// Share of an adapter's inputs that are dropped, for each token and step anew.
    pub dropout: f64,
    /// Linear maps that are adapted, by the last part of their names (`q_proj`); all when empty.
    pub targets: Vec<String>,
    /// First values of A; B begins as 0.
    pub first: FirstFactor,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        AdapterOptions { rank_stabilised: false, dropout: 0.0, targets: Vec::new(), first: FirstFactor::Normal }
    }
}

/// First values of an adapter's A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstFactor {
    /// N(0, 1 / sqrt(inputs)).
    Normal,
    /// Uniform between -1 / sqrt(inputs) and 1 / sqrt(inputs), as PEFT has it.
    Uniform,
}

impl AdapterOptions {
    /// Refuses what adapters cannot be made with.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (0.0..1.0).contains(&self.dropout), "`dropout` is {}", self.dropout;
            help: "write a share of at least 0 and less than 1"
        );
        Ok(())
    }
}

/// The adapters of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Inner size of an adapter.
    pub rank: usize,
    /// Factor, before it is divided by the rank or its root.
    pub alpha: f64,
    /// How they were made.
    pub options: AdapterOptions,
    /// Places of the factors.
    pub adapters: Vec<Adapter>,
    /// All adapters' A and B, back to back.
    pub values: Vec<f32>,
    scale: f32,
}

/// One linear map's adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Name of the map, without `.weight`.
    pub name: String,
    /// Place of the map (outputs, inputs) among the decoder's values.
    pub matrix: Range<usize>,
    /// Rows of the map.
    pub outputs: usize,
    /// Columns of the map.
    pub inputs: usize,
    /// Place of A (rank, inputs) among the adapters' values.
    pub a: Range<usize>,
    /// Place of B (outputs, rank).
    pub b: Range<usize>,
}

impl Lora {
    /// Adapters of all linear maps that change nothing yet: A ~ N(0, 1 / sqrt(inputs)), B = 0.
    pub fn new(weights: &Weights, rank: usize, alpha: f64, seed: u64) -> Self {
        Self::of_maps(weights.linears(), rank, alpha, AdapterOptions::default(), seed)
    }

    /// Adapters that change nothing yet.
    ///
    /// # Errors
    /// A target that the decoder has no linear map for.
    pub fn with(weights: &Weights, rank: usize, alpha: f64, options: &AdapterOptions, seed: u64) -> Result<Self> {
        options.check()?;
        let mut maps = weights.linears();
        let mut known: Vec<&str> = maps.iter().map(|map| map.target).collect();
        known.sort_unstable();
        known.dedup();
        for target in &options.targets {
            if !known.contains(&target.as_str()) {
                let near = nearest(target, known.iter().copied());
                let all = format!("the model has {}", known.join(", "));
                let hint = near.map_or(all, |near| format!("did you mean `{near}`?"));
                bail!("no linear map is called `{target}`"; help: "{hint}");
            }
        }
        maps.retain(|map| options.targets.is_empty() || options.targets.iter().any(|target| target == map.target));
        Ok(Self::of_maps(maps, rank, alpha, options.clone(), seed))
    }

    fn of_maps(maps: Vec<Linear>, rank: usize, alpha: f64, options: AdapterOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, &[0x10_4A]);
        let (mut values, mut adapters) = (Vec::new(), Vec::new());
        for Linear { path: name, outputs, inputs, range: matrix, .. } in maps {
            let start = values.len();
            let mut first = || match options.first {
                FirstFactor::Normal => random.normal(),
                FirstFactor::Uniform => 2.0 * random.uniform() - 1.0,
            };
            values.extend((0..rank * inputs).map(|_| (first() / (inputs as f64).sqrt()) as f32));
            let middle = values.len();
            values.resize(middle + outputs * rank, 0.0);
            let (a, b) = (start..middle, middle..values.len());
            adapters.push(Adapter { name, matrix, outputs, inputs, a, b });
        }
        let scale = alpha / if options.rank_stabilised { (rank as f64).sqrt() } else { rank as f64 };
        Lora { rank, alpha, options, adapters, values, scale: scale as f32 }
    }

    /// The factors as tensors, named as PEFT names them.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let mut tensors = Vec::with_capacity(2 * self.adapters.len());
        for Adapter { name, outputs, inputs, a, b, .. } in &self.adapters {
            let factor = |letter: char| format!("base_model.model.{name}.lora_{letter}.weight");
            tensors.push(NamedTensor { name: factor('A'), shape: vec![self.rank, *inputs], range: a.clone() });
            tensors.push(NamedTensor { name: factor('B'), shape: vec![*outputs, self.rank], range: b.clone() });
        }
        tensors
    }

    /// What a decoder of this shape computes with beside its frozen weights.
    pub fn beside(&self, weights: &Weights) -> Adapters {
        let linears = weights.linears();
        let map = |adapter: &Adapter| {
            let linear = linears.iter().find(|linear| linear.path == adapter.name)?.clone();
            Some((linear, adapter.a.clone(), adapter.b.clone()))
        };
        let maps: Vec<_> = self.adapters.iter().filter_map(map).collect();
        Adapters::new(&weights.config, &maps, self.rank, self.scale, self.options.dropout, self.values.clone())
    }

    /// Makes `merged` the frozen weights plus the adapters; the other values must be equal already.
    pub fn merge(&self, frozen: &Weights, merged: &mut Weights) {
        let mut scaled = Vec::new();
        for Adapter { matrix, outputs, inputs, a, b, .. } in &self.adapters {
            scaled.clear();
            scaled.extend(self.values[a.clone()].iter().map(|value| value * self.scale));
            let merged = &mut merged.values[matrix.clone()];
            merged.copy_from_slice(&frozen.values[matrix.clone()]);
            let (left, right) = (View::rows(&self.values[b.clone()], self.rank), View::rows(&scaled, *inputs));
            multiply(merged, *inputs, left, right, [*outputs, self.rank, *inputs], true);
        }
    }

    /// Half the squared distance of the merged weights from the frozen ones, each weighed by its part of `fisher` (as long
    /// as the decoder's values); and the length of its gradient times `coefficient`, which is added where one is wanted.
    pub fn weighed_distance(&self, fisher: &[f32], coefficient: f64, gradient: Option<&mut [f32]>) -> (f64, f64) {
        let (mut change, mut sum) = (Vec::new(), 0.0);
        let mut own = vec![0.0; self.values.len()];
        for Adapter { matrix, outputs, inputs, a, b, .. } in &self.adapters {
            let a_rows = View::rows(&self.values[a.clone()], *inputs);
            let b_rows = View::rows(&self.values[b.clone()], self.rank);
            change.resize(outputs * inputs, 0.0); // (outputs, inputs)
            multiply(&mut change, *inputs, b_rows, a_rows, [*outputs, self.rank, *inputs], false);
            for (change, information) in change.iter_mut().zip(&fisher[matrix.clone()]) {
                let moved = f64::from(self.scale * *change);
                let slope = f64::from(*information) * moved;
                sum += 0.5 * slope * moved;
                *change = (coefficient * slope * f64::from(self.scale)) as f32;
            }
            let d = View::rows(&change, *inputs);
            let sizes = [self.rank, *outputs, *inputs];
            multiply(&mut own[a.clone()], *inputs, b_rows.transposed(), d, sizes, false);
            multiply(&mut own[b.clone()], self.rank, d, a_rows.transposed(), [*outputs, *inputs, self.rank], false);
        }
        if let Some(gradient) = gradient {
            add(gradient, &own);
        }
        (sum, norm(&own))
    }

    /// Squared distance of the merged weights from the frozen ones; adds its gradient times `coefficient` where one is
    /// wanted. ‖s B A‖² = s² tr(BᵀB · A Aᵀ) needs no matrix larger than the factors.
    pub fn distance(&self, coefficient: f64, mut gradient: Option<&mut [f32]>) -> f64 {
        let (rank, square) = (self.rank, f64::from(self.scale).powi(2));
        let (mut of_a, mut of_b, mut sum) = (vec![0.0; rank * rank], vec![0.0; rank * rank], 0.0);
        for Adapter { outputs, inputs, a, b, .. } in &self.adapters {
            let a_rows = View::rows(&self.values[a.clone()], *inputs);
            let b_rows = View::rows(&self.values[b.clone()], rank);
            multiply(&mut of_a, rank, a_rows, a_rows.transposed(), [rank, *inputs, rank], false);
            multiply(&mut of_b, rank, b_rows.transposed(), b_rows, [rank, *outputs, rank], false);
            sum += of_a.iter().zip(&of_b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() * square;
            if let Some(gradient) = &mut gradient {
                let factor = (2.0 * coefficient * square) as f32;
                of_a.iter_mut().chain(&mut of_b).for_each(|value| *value *= factor);
                let (of_a, of_b) = (View::rows(&of_a, rank), View::rows(&of_b, rank));
                multiply(&mut gradient[a.clone()], *inputs, of_b, a_rows, [rank, rank, *inputs], true);
                multiply(&mut gradient[b.clone()], rank, b_rows, of_a, [*outputs, rank, rank], true);
            }
        }
        sum.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn options_decide_which_maps_and_how_large() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let targets = vec!["q_proj".to_string(), "down_proj".to_string()];
        let options = AdapterOptions { targets, first: FirstFactor::Uniform, ..AdapterOptions::default() };
        let lora = Lora::with(&weights, 4, 8.0, &options, 3).unwrap();
        let names: Vec<&str> = lora.adapters.iter().map(|adapter| adapter.name.as_str()).collect();
        assert_eq!(names[..2], ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]);
        assert_eq!(names.len(), 4);
        let bound = 1.0 / (24f32).sqrt();
        let a = &lora.values[lora.adapters[0].a.clone()];
        assert!(a.iter().all(|value| value.abs() <= bound) && a.iter().any(|value| value.abs() > 0.9 * bound));
        let mut merged = weights.clone();
        lora.merge(&weights, &mut merged);
        assert_eq!(merged, weights);
        let place = lora.adapters[0].b.start;
        let mut change = |rank_stabilised| {
            let mut lora =
                Lora::with(&weights, 4, 8.0, &AdapterOptions { rank_stabilised, ..options.clone() }, 3).unwrap();
            lora.values[place] = 1.0;
            lora.merge(&weights, &mut merged);
            merged.values[lora.adapters[0].matrix.start] - weights.values[lora.adapters[0].matrix.start]
        };
        assert!((change(true) / change(false) - 2.0).abs() < 1e-4);
        let wrong = AdapterOptions { targets: vec!["q_porj".to_string()], ..AdapterOptions::default() };
        let error = Lora::with(&weights, 4, 8.0, &wrong, 3).unwrap_err();
        assert!(error.to_string().contains("did you mean `q_proj`"), "{error}");
    }
}
