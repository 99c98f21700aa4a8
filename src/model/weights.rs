//! The values of a decoder in one flat buffer, and their safetensors file.

use std::borrow::Cow;
use std::io::Cursor;
use std::ops::Range;

use safetensors::tensor::{Dtype, View};

use super::checkpoint::Reading;
use super::config::Config;
use super::layout::{Layout, Linear, NamedTensor, linears, tensors};
use super::processor::Processor;
use crate::data::digest::Digest;
use crate::data::random::Random;
use crate::error::{Error, Result};

/// Values of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Shape.
    pub config: Config,
    /// All values, placed by `layout`.
    pub values: Vec<f32>,
    /// Where each matrix stands in `values`.
    pub layout: Layout,
    /// What computes the passes over them.
    pub processor: Processor,
}

impl Weights {
    /// Random values decided by `seed`: embedding N(0, 0.02), matrices N(0, 1 / sqrt(inputs)), those that write to the
    /// residual stream a further 1 / sqrt(2 layers) smaller (Radford et al. 2019), gains 1.
    pub fn initial(config: &Config, seed: u64) -> Result<Self> {
        config.check()?;
        let layout = Layout::of(config);
        let family = config.variant.family;
        // Gemma stores its gains less 1.
        let mut values = vec![if family.is_gemma() { 0.0 } else { 1.0 }; layout.values];
        let mut random = Random::stream(seed, &[0x1217]);
        let mut fill = |range: &Range<usize>, deviation: f64| {
            values[range.clone()].fill_with(|| (random.normal() * deviation) as f32);
        };
        let (width, residual) = (config.width as f64, 1.0 / (2.0 * config.layers as f64).sqrt());
        fill(&layout.embedding, 0.02);
        for layer in &layout.layers {
            fill(&layer.query_key_value, 1.0 / width.sqrt());
            fill(&layer.output, residual / (config.query_width() as f64).sqrt());
            fill(&layer.gate_up, 1.0 / width.sqrt());
            fill(&layer.down, residual / (config.feed_forward as f64).sqrt());
        }
        if !config.variant.tied {
            fill(&layout.head, 0.02);
        }
        layout.layers.iter().for_each(|layer| values[layer.query_key_value_bias.clone()].fill(0.0));
        Ok(Weights { config: config.clone(), values, layout, processor: Processor::Cpu })
    }

    /// The same values, passes over which another processor computes.
    pub fn on(self, processor: Processor) -> Self {
        Weights { processor, ..self }
    }

    /// The tensors of the file, in the order of the flat buffer.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        tensors(&self.config)
    }

    /// The linear maps of the blocks, in the order of the flat buffer.
    pub fn linears(&self) -> Vec<Linear> {
        linears(&self.config)
    }

    /// The bytes of a `model.safetensors`, f32.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let broken =
            |error: safetensors::SafeTensorError| Error::internal(format!("weights cannot be written: {error}"));
        let views = self.tensors().into_iter().map(|tensor| {
            let NamedTensor { name, shape, range } = tensor;
            (name, Values { shape, values: &self.values[range] })
        });
        safetensors::serialize(views, None).map_err(broken)
    }

    /// Reads a `model.safetensors` of this shape: f32, bf16 or f16, no tensor missing, none besides a tied head.
    pub fn from_safetensors(config: &Config, bytes: &[u8]) -> Result<Self> {
        let mut reading = Reading::new(config)?;
        reading.read(&mut Cursor::new(bytes), bytes.len() as u64, "weights")?;
        reading.finish("weights")
    }

    /// Identity: the digest of shape and values.
    pub fn digest(&self) -> Result<Digest> {
        let config = serde_json::to_value(&self.config).map_err(|error| Error::internal(error.to_string()))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Digest::of_json(&config)?.0);
        let mut block = Vec::with_capacity(4 << 14);
        for values in self.values.chunks(1 << 14) {
            block.clear();
            block.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&block);
        }
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}

/// A tensor whose bytes are made when they are written, so that there are not two copies of all of them.
struct Values<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::config::tests::{tiny, tiny_of};
    use crate::model::variant::Family;

    /// A small model of a family in which no value is at its special place: no zero bias, no unit gain.
    pub(crate) fn odd(family: Family, seed: u64) -> Weights {
        let mut weights = Weights::initial(&tiny_of(family), seed).unwrap();
        let mut random = Random::new(seed);
        weights.values.iter_mut().for_each(|value| *value = *value * 1.7 + 0.1 * random.normal() as f32);
        // The first norm bends sharply where embeddings are small.
        let embedding = weights.layout.embedding.clone();
        weights.values[embedding].iter_mut().for_each(|value| *value *= 8.0);
        weights
    }

    #[test]
    fn safetensors_read_back() {
        let weights = Weights::initial(&tiny(), 7).unwrap();
        let bytes = weights.to_safetensors().unwrap();
        assert_eq!(Weights::from_safetensors(&tiny(), &bytes).unwrap(), weights);
        let other = Config { feed_forward: 21, ..tiny() };
        let error = Weights::from_safetensors(&other, &bytes).unwrap_err();
        assert!(error.message.contains("shape"), "{error}");
    }

    #[test]
    fn digest_is_of_shape_and_values() {
        let weights = Weights::initial(&tiny(), 7).unwrap();
        assert_eq!(weights.digest().unwrap(), Weights::initial(&tiny(), 7).unwrap().digest().unwrap());
        let mut other = weights.clone();
        other.values[5] += 1e-3;
        assert_ne!(weights.digest().unwrap(), other.digest().unwrap());
        let other = Weights { config: Config { rope_theta: 5e5, ..tiny() }, ..weights.clone() };
        assert_ne!(weights.digest().unwrap(), other.digest().unwrap());
    }

    #[test]
    fn initial_values_have_their_deviation() {
        let config = Config { width: 48, heads: 4, key_value_heads: 4, feed_forward: 96, ..tiny() };
        let weights = Weights::initial(&config, 3).unwrap();
        let deviation = |range: &Range<usize>| {
            let values = &weights.values[range.clone()];
            (values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let layer = &weights.layout.layers[0];
        assert!((deviation(&weights.layout.embedding) / 0.02 - 1.0).abs() < 0.1);
        assert!((deviation(&layer.gate_up) * 48f64.sqrt() - 1.0).abs() < 0.1);
        assert!((deviation(&layer.down) * 96f64.sqrt() * 2.0 - 1.0).abs() < 0.1);
        assert_eq!(weights.values[layer.feed_forward_norm.clone()], [1.0; 48]);
    }
}
