//! The same decoder in candle's differentiable operations, one sequence at a time: the judge of the hand-written one.

use candle_core::{D, DType, Device, Tensor, Var};

use super::config::Config;
use super::rotary::frequencies;
use super::weights::Weights;
use crate::error::{Error, Result};

/// The decoder's values as candle variables, one per tensor of the file.
pub struct Decoder {
    config: Config,
    names: Vec<String>,
    variables: Vec<Var>,
}

fn broken(error: candle_core::Error) -> Error {
    Error::internal(format!("candle: {error}"))
}

impl Decoder {
    /// Copies weights to a device; `kind` is `F32`, or `F64` for finite differences.
    pub fn new(weights: &Weights, device: &Device, kind: DType) -> Result<Self> {
        let tensors = weights.tensors();
        let variable = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, device)?.to_dtype(kind)?)
        };
        let variables = tensors.iter().map(|tensor| variable(&weights.values[tensor.range.clone()], &tensor.shape));
        let variables = variables.collect::<candle_core::Result<_>>().map_err(broken)?;
        let names = tensors.into_iter().map(|tensor| tensor.name).collect();
        Ok(Decoder { config: weights.config.clone(), names, variables })
    }

    /// The variables, in the order of [`Weights::tensors`].
    pub fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// Logits (time, vocabulary) of one sequence.
    pub fn forward(&self, ids: &[u32]) -> Result<Tensor> {
        self.run(ids).map_err(broken)
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.find(&format!("{name}.weight")).expect("the decoder asks for its own tensors")
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let index = self.names.iter().position(|other| other == name)?;
        Some(self.variables[index].as_tensor())
    }

    // Of candle's fused operations `softmax_last_dim`, `rope` and `rms_norm` cut the gradient without a word; here
    // stand their slow, differentiable forms.
    fn run(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let config = &self.config;
        let variant = &config.variant;
        let (time, gemma) = (ids.len(), variant.family.is_gemma());
        let embedding = self.tensor("model.embed_tokens");
        let x = embedding.index_select(&Tensor::new(ids, embedding.device())?, 0)?; // (time, width)
        let mut x = (x * f64::from(config.embedding_scale()))?;
        for layer in 0..config.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let attended = self.attend(&self.norm(&x, &name("input_layernorm"))?, layer)?;
            let mut branch = attended.matmul(&self.tensor(&name("self_attn.o_proj")).t()?)?;
            if gemma {
                branch = self.norm(&branch, &name("post_attention_layernorm"))?;
            }
            x = (x + branch)?;
            let before = if gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
            let normed = self.norm(&x, &name(before))?;
            let gate = normed.matmul(&self.tensor(&name("mlp.gate_proj")).t()?)?;
            let gate = if gemma { gelu(&gate)? } else { gate.silu()? };
            let up = normed.matmul(&self.tensor(&name("mlp.up_proj")).t()?)?;
            let mut branch = (gate * up)?.matmul(&self.tensor(&name("mlp.down_proj")).t()?)?;
            if gemma {
                branch = self.norm(&branch, &name("post_feedforward_layernorm"))?;
            }
            x = (x + branch)?;
        }
        let head = if variant.tied { embedding } else { self.tensor("lm_head") };
        let logits = self.norm(&x, "model.norm")?.matmul(&head.t()?)?.reshape((time, config.vocabulary))?;
        bend(logits, variant.logit_cap)
    }

    /// (time, query heads) of normed rows (time, width).
    fn attend(&self, normed: &Tensor, layer: usize) -> candle_core::Result<Tensor> {
        let config = &self.config;
        let (time, width) = (normed.dim(0)?, config.head_width());
        let (device, kind) = (normed.device(), normed.dtype());
        let windowed = config.variant.is_windowed(layer);
        let frequencies = frequencies(config, windowed);
        let angles: Vec<f64> =
            (0..time).flat_map(|position| frequencies.iter().map(move |f| position as f64 * f)).collect();
        let angles = Tensor::from_vec(angles, (time, width / 2), device)?;
        let (cosine, sine) = (angles.cos()?.to_dtype(kind)?, angles.sin()?.to_dtype(kind)?);
        let scoring = config.variant.scoring(layer, width);
        let sees = |query: usize, key: usize| key <= query && query - key < scoring.window;
        let mask = (0..time * time).map(|at| if sees(at / time, at % time) { 0.0 } else { f32::NEG_INFINITY });
        let mask = Tensor::from_vec(mask.collect::<Vec<f32>>(), (time, time), device)?.to_dtype(kind)?;
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        let project = |part: &str, heads: usize| {
            let mut projected = normed.matmul(&self.tensor(&name(&format!("{part}_proj"))).t()?)?;
            if let Some(bias) = self.find(&name(&format!("{part}_proj.bias"))) {
                projected = projected.broadcast_add(bias)?;
            }
            let mut heads = projected.reshape((time, heads, width))?;
            if part != "v" && config.variant.family.has_head_norms() {
                heads = self.norm(&heads, &name(&format!("{part}_norm")))?;
            }
            heads.transpose(0, 1)?.contiguous()?.unsqueeze(0)
        };
        let q = project("q", config.heads)?; // (1, heads, time, head width)
        let k = project("k", config.key_value_heads)?;
        let v = project("v", config.key_value_heads)?;
        let q = candle_nn::rotary_emb::rope_slow(&q, &cosine, &sine)?;
        let k = candle_nn::rotary_emb::rope_slow(&k, &cosine, &sine)?;
        let (k, v) = (self.repeat(&k, time)?, self.repeat(&v, time)?);
        let channels = config.variant.query_scale.unwrap_or(width as f64);
        let scores = bend((q.matmul(&k.t()?)? / channels.sqrt())?, config.variant.score_cap)?.broadcast_add(&mask)?;
        let attended = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        attended.squeeze(0)?.transpose(0, 1)?.contiguous()?.reshape((time, config.query_width()))
    }

    fn norm(&self, x: &Tensor, gain: &str) -> candle_core::Result<Tensor> {
        let square = (x.sqr()?.mean_keepdim(D::Minus1)? + self.config.norm_epsilon)?;
        // Gemma stores its gains less 1.
        let gain = match self.config.variant.family.is_gemma() {
            true => (self.tensor(gain) + 1.0)?,
            false => self.tensor(gain).clone(),
        };
        x.broadcast_div(&square.sqrt()?)?.broadcast_mul(&gain)
    }

    /// (1, key heads, time, width) to (1, heads, time, width): each key head serves a run of query heads.
    fn repeat(&self, x: &Tensor, time: usize) -> candle_core::Result<Tensor> {
        let (groups, width) = (self.config.key_value_heads, self.config.head_width());
        let group = self.config.heads / groups;
        x.unsqueeze(2)?.expand((1, groups, group, time, width))?.reshape((1, self.config.heads, time, width))
    }
}

/// cap * tanh(x / cap), where there is a cap.
fn bend(x: Tensor, cap: Option<f64>) -> candle_core::Result<Tensor> {
    match cap {
        Some(cap) => (x / cap)?.tanh()? * cap,
        None => Ok(x),
    }
}

/// GELU in its tanh form; candle's own has six digits of its constants.
fn gelu(x: &Tensor) -> candle_core::Result<Tensor> {
    let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    ((inner.tanh()? + 1.0)? * x)? * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::backward::{Scratch, backward};
    use crate::model::batch::Batch;
    use crate::model::config::tests::{tiny, tiny_of};
    use crate::model::forward::{Activations, Prepared, forward};
    use crate::model::head::{self, Head, Target};
    use crate::model::variant::FAMILIES;

    /// Sequences, and what they are to predict at some positions.
    type Rows = Vec<(Vec<u32>, Vec<(usize, Target)>)>;

    /// Weights with no value at its special place (zero bias, unit gain), and three sequences of unequal length with
    /// loss at some places, one of them without any.
    fn case(config: &Config) -> (Weights, Rows) {
        let mut weights = Weights::initial(config, 11).unwrap();
        let mut random = Random::new(12);
        weights.values.iter_mut().for_each(|value| *value = *value * 1.7 + 0.05 * random.normal() as f32);
        let rows = [9, 1, 17, 5].map(|length| {
            let ids = (0..length).map(|_| random.below(config.vocabulary) as u32).collect();
            let mut targets = Vec::new();
            for position in 0..length {
                let target = Target { id: random.below(config.vocabulary) as u32, weight: random.uniform() as f32 };
                if length != 5 && random.chance(0.6) {
                    targets.push((position, target));
                }
            }
            (ids, targets)
        });
        (weights, rows.to_vec())
    }

    fn by_hand(weights: &Weights, rows: &Rows) -> (Vec<f32>, f64, Vec<f32>) {
        let mut batch = Batch::default();
        rows.iter().for_each(|(ids, targets)| batch.push(ids, targets.iter().map(|target| target.0)));
        let targets: Vec<Target> = rows.iter().flat_map(|(_, targets)| targets.iter().map(|target| target.1)).collect();
        let prepared = Prepared::new(weights).unwrap();
        let mut activations = Activations::default();
        let (mut scratch, mut head) = (Scratch::default(), Head::default());
        let mut result = (Vec::new(), 0.0, Vec::new());
        // The second pass finds buffers that are in use already.
        for _ in 0..2 {
            let mut gradient = vec![0.0; weights.values.len()];
            forward(weights, &prepared, &batch, &mut activations).unwrap();
            let loss =
                head::loss(weights, &prepared, activations.hidden(), &targets, &mut head, Some(&mut gradient)).unwrap();
            backward(weights, &prepared, &batch, &mut activations, &head.d_hidden, &mut scratch, &mut gradient)
                .unwrap();
            let mut logits = Vec::new();
            head::logits(weights, &prepared, activations.hidden(), &mut logits).unwrap();
            result = (logits, loss, gradient);
        }
        result
    }

    #[test]
    fn the_hand_written_step_agrees_with_candle() {
        let many = Config { vocabulary: 70, width: 64, heads: 4, key_value_heads: 4, feed_forward: 48, ..tiny() };
        let organisms = [tiny(), Config { key_value_heads: 1, layers: 1, ..tiny() }, many];
        for config in organisms.into_iter().chain(FAMILIES.map(tiny_of)) {
            let (weights, rows) = case(&config);
            let (logits, loss, gradient) = by_hand(&weights, &rows);
            let decoder = Decoder::new(&weights, &Device::Cpu, DType::F64).unwrap();
            let mut total = Tensor::zeros((), DType::F64, &Device::Cpu).unwrap();
            let mut expected = Vec::new();
            for (ids, targets) in rows.iter().filter(|row| !row.1.is_empty()) {
                let all = decoder.forward(ids).unwrap();
                let log = candle_nn::ops::log_softmax(&all, 1).unwrap();
                for (position, target) in targets {
                    let row = all.get(*position).unwrap().to_vec1::<f64>().unwrap();
                    expected.extend(row);
                    let one = log.get(*position).unwrap().get(target.id as usize).unwrap();
                    total = (total - (one * f64::from(target.weight)).unwrap()).unwrap();
                }
            }
            assert_eq!(logits.len(), expected.len());
            let error = logits.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(error < 1e-4, "logits differ by {error}");
            let exact = total.to_scalar::<f64>().unwrap();
            assert!((loss / exact - 1.0).abs() < 1e-5, "loss {loss} is not {exact}");
            let store = total.backward().unwrap();
            for (tensor, variable) in weights.tensors().iter().zip(decoder.variables()) {
                let exact = store.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let found = &gradient[tensor.range.clone()];
                let size = exact.iter().fold(0.0f64, |most, value| most.max(value.abs()));
                assert!(size > 1e-6, "{} has no gradient", tensor.name);
                let error = exact.iter().zip(found).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
                assert!(error < 1e-4 * size, "{}: {error} of {size}", tensor.name);
            }
        }
    }

    #[test]
    fn the_hand_written_gradient_agrees_with_differences() {
        let (weights, rows) = case(&tiny());
        let (_, _, gradient) = by_hand(&weights, &rows);
        let mut random = Random::new(3);
        let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for _ in 0..8 {
            // Along a random direction, because a single value's difference drowns in rounding.
            let direction: Vec<f32> = gradient.iter().map(|_| random.normal() as f32).collect();
            let at = |step: f32| {
                let mut moved = weights.clone();
                moved.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
                by_hand(&moved, &rows).1
            };
            let difference = (at(2e-5) - at(-2e-5)) / 4e-5;
            let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            assert!((difference - slope).abs() < 0.02 * size, "{difference} {slope} {size}");
        }
    }
}
