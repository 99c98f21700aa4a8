//! The values of a decoder in one flat buffer, and their safetensors file.

use std::ops::Range;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::config::Config;
use crate::data::digest::Digest;
use crate::data::random::Random;
use crate::ensure;
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
}

/// Places of a decoder's matrices in the flat buffer; every matrix is (out, in), rows contiguous.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// (vocabulary, width); also the language-model head.
    pub embedding: Range<usize>,
    /// Blocks from the bottom.
    pub layers: Vec<LayerLayout>,
    /// (width): gain of the last norm.
    pub norm: Range<usize>,
}

/// Places of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLayout {
    /// (width): gain of the norm before attention.
    pub attention_norm: Range<usize>,
    /// (query, then key, then value heads, width).
    pub query_key_value: Range<usize>,
    /// (width, query heads).
    pub output: Range<usize>,
    /// (width): gain of the norm before the feed-forward.
    pub feed_forward_norm: Range<usize>,
    /// (gate, then up, width).
    pub gate_up: Range<usize>,
    /// (width, feed-forward).
    pub down: Range<usize>,
}

/// A tensor of the file: its Hugging Face name, shape, and place in the flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// As in `LlamaForCausalLM`'s state.
    pub name: String,
    /// One or two sizes.
    pub shape: Vec<usize>,
    /// Place in the flat buffer.
    pub range: Range<usize>,
}

impl Layout {
    /// Places for this shape: embedding, blocks, last norm, without gaps.
    pub fn of(config: &Config) -> Self {
        let mut end = 0;
        let mut take = |count: usize| {
            end += count;
            end - count..end
        };
        let width = config.width;
        let embedding = take(config.vocabulary * width);
        let layers = (0..config.layers)
            .map(|_| LayerLayout {
                attention_norm: take(width),
                query_key_value: take(config.query_key_value() * width),
                output: take(width * width),
                feed_forward_norm: take(width),
                gate_up: take(2 * config.feed_forward * width),
                down: take(width * config.feed_forward),
            })
            .collect();
        Layout { embedding, layers, norm: take(width) }
    }
}

impl Weights {
    /// Random values decided by `seed`: embedding N(0, 0.02), matrices N(0, 1 / sqrt(inputs)), those that write to the
    /// residual stream a further 1 / sqrt(2 layers) smaller (Radford et al. 2019), gains 1.
    pub fn initial(config: &Config, seed: u64) -> Result<Self> {
        config.check()?;
        let layout = Layout::of(config);
        let mut values = vec![1.0; config.parameters()];
        let mut random = Random::stream(seed, &[0x1217]);
        let mut fill = |range: &Range<usize>, deviation: f64| {
            values[range.clone()].fill_with(|| (random.normal() * deviation) as f32);
        };
        let (width, residual) = (config.width as f64, 1.0 / (2.0 * config.layers as f64).sqrt());
        fill(&layout.embedding, 0.02);
        for layer in &layout.layers {
            fill(&layer.query_key_value, 1.0 / width.sqrt());
            fill(&layer.output, residual / width.sqrt());
            fill(&layer.gate_up, 1.0 / width.sqrt());
            fill(&layer.down, residual / (config.feed_forward as f64).sqrt());
        }
        Ok(Weights { config: config.clone(), values, layout })
    }

    /// The tensors of the file, in the order of the flat buffer.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let config = &self.config;
        let (width, feed_forward) = (config.width, config.feed_forward);
        let key_value = config.key_value_heads * config.head_width();
        let mut tensors = Vec::new();
        let mut next = 0;
        let mut push = |name: String, shape: &[usize]| {
            let start = next;
            next += shape.iter().product::<usize>();
            tensors.push(NamedTensor { name, shape: shape.to_vec(), range: start..next });
        };
        push("model.embed_tokens.weight".to_string(), &[config.vocabulary, width]);
        for layer in 0..config.layers {
            for (name, shape) in [
                ("input_layernorm", &[width][..]),
                ("self_attn.q_proj", &[width, width]),
                ("self_attn.k_proj", &[key_value, width]),
                ("self_attn.v_proj", &[key_value, width]),
                ("self_attn.o_proj", &[width, width]),
                ("post_attention_layernorm", &[width]),
                ("mlp.gate_proj", &[feed_forward, width]),
                ("mlp.up_proj", &[feed_forward, width]),
                ("mlp.down_proj", &[width, feed_forward]),
            ] {
                push(format!("model.layers.{layer}.{name}.weight"), shape);
            }
        }
        push("model.norm.weight".to_string(), &[width]);
        tensors
    }

    /// The bytes of a `model.safetensors`, f32.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let broken =
            |error: safetensors::SafeTensorError| Error::internal(format!("weights cannot be written: {error}"));
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let views = self.tensors().into_iter().map(|tensor| {
            let data = &bytes[tensor.range.start * 4..tensor.range.end * 4];
            TensorView::new(Dtype::F32, tensor.shape, data).map(|view| (tensor.name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(broken)?;
        safetensors::serialize(views, None).map_err(broken)
    }

    /// Reads a `model.safetensors` of this shape: f32 or bf16, no tensor missing, none besides a tied head.
    pub fn from_safetensors(config: &Config, bytes: &[u8]) -> Result<Self> {
        config.check()?;
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| Error::input(format!("weights cannot be read: {error}")))?;
        let mut weights =
            Weights { config: config.clone(), values: vec![0.0; config.parameters()], layout: Layout::of(config) };
        let tensors = weights.tensors();
        for name in file.names() {
            let known = name == "lm_head.weight" || tensors.iter().any(|tensor| tensor.name == *name);
            ensure!(known, "weights have a tensor `{}` that this decoder has no place for", name);
        }
        for tensor in tensors {
            let view = file.tensor(&tensor.name);
            let view = view.map_err(|_| Error::input(format!("weights lack the tensor `{}`", tensor.name)))?;
            ensure!(
                view.shape() == tensor.shape,
                "`{}` has shape {:?}, this decoder needs {:?}",
                tensor.name,
                view.shape(),
                tensor.shape
            );
            let values = &mut weights.values[tensor.range];
            match view.dtype() {
                Dtype::F32 => values.iter_mut().zip(view.data().as_chunks().0).for_each(|(value, bytes)| {
                    *value = f32::from_le_bytes(*bytes);
                }),
                Dtype::BF16 => values.iter_mut().zip(view.data().as_chunks().0).for_each(|(value, bytes)| {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }),
                other => return Err(Error::input(format!("`{}` is {other:?}, not F32 or BF16", tensor.name))),
            }
        }
        Ok(weights)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn layout_and_file_cover_every_value_once() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        assert_eq!(weights.layout.norm.end, tiny().parameters());
        let tensors = weights.tensors();
        assert_eq!(tensors.last().unwrap().range.end, tiny().parameters());
        let layer = &weights.layout.layers[1];
        let find = |name: &str| tensors.iter().find(|tensor| tensor.name.ends_with(name)).unwrap().range.clone();
        assert_eq!(find("1.self_attn.q_proj.weight").start, layer.query_key_value.start);
        assert_eq!(find("1.self_attn.v_proj.weight").end, layer.query_key_value.end);
        assert_eq!(find("1.mlp.gate_proj.weight").start..find("1.mlp.up_proj.weight").end, layer.gate_up);
        assert_eq!(find("1.mlp.down_proj.weight"), layer.down);
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
