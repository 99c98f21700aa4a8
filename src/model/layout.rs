//! Where each tensor of a decoder stands in one flat buffer, under which Hugging Face name.

use std::ops::Range;

use super::config::Config;

/// Places of a decoder's matrices in the flat buffer; every matrix is (out, in), rows contiguous. What a family does not
/// have is an empty range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// (vocabulary, width).
    pub embedding: Range<usize>,
    /// Blocks from the bottom.
    pub layers: Vec<LayerLayout>,
    /// (width): gain of the last norm.
    pub norm: Range<usize>,
    /// (vocabulary, width): the language-model head; the embedding's place where they are tied.
    pub head: Range<usize>,
    /// Length of the buffer.
    pub values: usize,
}

/// Places of one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerLayout {
    /// (width): gain of the norm before attention.
    pub attention_norm: Range<usize>,
    /// (query, then key, then value heads, width).
    pub query_key_value: Range<usize>,
    /// (query, then key, then value heads): biases.
    pub query_key_value_bias: Range<usize>,
    /// (head width): gain of the norm of each head's query.
    pub query_norm: Range<usize>,
    /// (head width): gain of the norm of each head's key.
    pub key_norm: Range<usize>,
    /// (width, query heads).
    pub output: Range<usize>,
    /// (width): gain of the norm after attention.
    pub attention_post_norm: Range<usize>,
    /// (width): gain of the norm before the feed-forward.
    pub feed_forward_norm: Range<usize>,
    /// (gate, then up, width).
    pub gate_up: Range<usize>,
    /// (width, feed-forward).
    pub down: Range<usize>,
    /// (width): gain of the norm after the feed-forward.
    pub feed_forward_post_norm: Range<usize>,
}

/// A tensor of the file: its Hugging Face name, shape, and place in the flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// As in the state of its `...ForCausalLM`.
    pub name: String,
    /// One or two sizes.
    pub shape: Vec<usize>,
    /// Place in the flat buffer.
    pub range: Range<usize>,
}

/// A linear map of a block, as adapters name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Path of the module, such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Last part of the path: `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj` or `down_proj`.
    pub target: &'static str,
    /// Block, from the bottom.
    pub layer: usize,
    /// Rows.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
    /// Place of (outputs, inputs) in the flat buffer.
    pub range: Range<usize>,
}

/// Names of the linear maps of a block, in the order of the flat buffer.
pub const TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

impl Layout {
    /// Places for this shape: embedding, blocks, last norm, head of its own, without gaps.
    pub fn of(config: &Config) -> Self {
        place(config).0
    }
}

/// The tensors of the file, in the order of the flat buffer.
pub fn tensors(config: &Config) -> Vec<NamedTensor> {
    place(config).1
}

/// The linear maps of the blocks, in the order of the flat buffer.
pub fn linears(config: &Config) -> Vec<Linear> {
    let linear = |tensor: NamedTensor| {
        let path = tensor.name.strip_suffix(".weight")?.to_string();
        let target = TARGETS.into_iter().find(|target| path.ends_with(target))?;
        let layer = path.split('.').nth(2)?.parse().ok()?;
        let [outputs, inputs] = tensor.shape[..] else { return None };
        Some(Linear { path, target, layer, outputs, inputs, range: tensor.range })
    };
    tensors(config).into_iter().filter_map(linear).collect()
}

fn place(config: &Config) -> (Layout, Vec<NamedTensor>) {
    let family = config.variant.family;
    let (width, feed_forward, head) = (config.width, config.feed_forward, config.head_width());
    let (query, key) = (config.query_width(), config.key_width());
    let mut tensors: Vec<NamedTensor> = Vec::new();
    let mut push = |name: String, shape: &[usize]| {
        let start = tensors.last().map_or(0, |tensor| tensor.range.end);
        let range = start..start + shape.iter().product::<usize>();
        tensors.push(NamedTensor { name, shape: shape.to_vec(), range: range.clone() });
        range
    };
    let mut layout = Layout {
        embedding: push("model.embed_tokens.weight".to_string(), &[config.vocabulary, width]),
        ..Layout::default()
    };
    // In the Llamas `post_attention_layernorm` is the norm before the feed-forward, in the Gemmas that after attention.
    let before_feed_forward = if family.is_gemma() { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
    for index in 0..config.layers {
        let mut layer = LayerLayout::default();
        let mut place = |name: &str, shape: &[usize]| push(format!("model.layers.{index}.{name}"), shape);
        layer.attention_norm = place("input_layernorm.weight", &[width]);
        let first = place("self_attn.q_proj.weight", &[query, width]);
        place("self_attn.k_proj.weight", &[key, width]);
        layer.query_key_value = first.start..place("self_attn.v_proj.weight", &[key, width]).end;
        if family.has_biases() {
            let first = place("self_attn.q_proj.bias", &[query]);
            place("self_attn.k_proj.bias", &[key]);
            layer.query_key_value_bias = first.start..place("self_attn.v_proj.bias", &[key]).end;
        }
        if family.has_head_norms() {
            layer.query_norm = place("self_attn.q_norm.weight", &[head]);
            layer.key_norm = place("self_attn.k_norm.weight", &[head]);
        }
        layer.output = place("self_attn.o_proj.weight", &[width, query]);
        if family.is_gemma() {
            layer.attention_post_norm = place("post_attention_layernorm.weight", &[width]);
        }
        layer.feed_forward_norm = place(&format!("{before_feed_forward}.weight"), &[width]);
        let gate = place("mlp.gate_proj.weight", &[feed_forward, width]);
        layer.gate_up = gate.start..place("mlp.up_proj.weight", &[feed_forward, width]).end;
        layer.down = place("mlp.down_proj.weight", &[width, feed_forward]);
        if family.is_gemma() {
            layer.feed_forward_post_norm = place("post_feedforward_layernorm.weight", &[width]);
        }
        layout.layers.push(layer);
    }
    layout.norm = push("model.norm.weight".to_string(), &[width]);
    layout.head = match config.variant.tied {
        true => layout.embedding.clone(),
        false => push("lm_head.weight".to_string(), &[config.vocabulary, width]),
    };
    layout.values = layout.norm.end.max(layout.head.end);
    (layout, tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::{tiny, tiny_of};
    use crate::model::variant::FAMILIES;

    #[test]
    fn the_places_cover_every_value_once() {
        for family in FAMILIES {
            let config = tiny_of(family);
            let (layout, tensors) = place(&config);
            assert!(tensors.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
            assert_eq!(tensors.last().unwrap().range.end, layout.values);
            let layer = &layout.layers[1];
            let find = |name: &str| tensors.iter().find(|tensor| tensor.name.ends_with(name)).unwrap().range.clone();
            assert_eq!(find("1.self_attn.q_proj.weight").start, layer.query_key_value.start);
            assert_eq!(find("1.self_attn.v_proj.weight").end, layer.query_key_value.end);
            assert_eq!(find("1.mlp.gate_proj.weight").start..find("1.mlp.up_proj.weight").end, layer.gate_up);
            assert_eq!(find("1.mlp.down_proj.weight"), layer.down);
        }
    }

    #[test]
    fn linear_maps_have_the_paths_that_adapters_use() {
        let linears = linears(&tiny());
        assert_eq!(linears.len(), 2 * TARGETS.len());
        let third = &linears[7 + 2];
        assert_eq!((third.path.as_str(), third.target), ("model.layers.1.self_attn.v_proj", "v_proj"));
        assert_eq!((third.outputs, third.inputs, third.layer, third.range.len()), (12, 24, 1, 12 * 24));
    }
}
