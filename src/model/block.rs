//! The parts of a block that reading a text and decoding a token share, and their gradients.

use super::adapter::{Adapters, At, Map};
use super::backward::{input_gradient, weight_gradient};
use super::batch::Batch;
use super::config::Config;
use super::forward::{Prepared, PreparedLayer, take};
use super::kernels::{
    Scoring, add, geglu, geglu_backward, rms_norm, rms_norm_backward, rotate, swiglu, swiglu_backward,
};
use super::layout::LayerLayout;
use super::rotary::Table;
use super::weights::Weights;

/// One block of a decoder.
pub(super) struct Block<'a> {
    pub config: &'a Config,
    values: &'a [f32],
    pub layer: &'a LayerLayout,
    pub panels: &'a PreparedLayer,
    adapters: Option<&'a Adapters>,
    index: usize,
    noise: Option<u64>,
    table: &'a Table,
    pub scoring: Scoring,
}

/// The heads of a projection before their norm, and the factors of the norm; empty in families without it.
#[derive(Default)]
pub(super) struct HeadNorm {
    raw: Vec<f32>,
    inverse: Vec<f32>,
}

/// What the feed-forward computes before its last map.
#[derive(Default)]
pub(super) struct FeedForward {
    pub inverse: Vec<f32>,
    pub normed: Vec<f32>,
    pub gate_up: Vec<f32>,
    pub activated: Vec<f32>,
}

/// What attention or feed-forward gives before the norm that follows it; empty in families without it.
#[derive(Default)]
pub(super) struct Branch {
    raw: Vec<f32>,
    inverse: Vec<f32>,
    normed: Vec<f32>,
}

impl<'a> Block<'a> {
    /// The block at this index, for positions below `end`.
    pub fn new(weights: &'a Weights, prepared: &'a Prepared, index: usize, end: usize) -> Self {
        let config = &weights.config;
        let windowed = config.variant.is_windowed(index);
        let rotary = prepared.rotaries.get(usize::from(windowed)).unwrap_or(&prepared.rotaries[0]);
        Block {
            config,
            values: &weights.values,
            layer: &weights.layout.layers[index],
            panels: &prepared.layers[index],
            adapters: prepared.adapters.as_ref(),
            index,
            noise: None,
            table: rotary.table(end),
            scoring: config.variant.scoring(index, config.head_width()),
        }
    }

    /// The block at this index, for a batch.
    pub fn of_batch(weights: &'a Weights, prepared: &'a Prepared, index: usize, batch: &Batch) -> Self {
        Block { noise: batch.noise, ..Block::new(weights, prepared, index, batch.longest()) }
    }

    /// Whether the values are frozen: what is trained is adapters.
    pub fn frozen(&self) -> bool {
        self.adapters.is_some()
    }

    /// `output` (rows, outputs) = the map of `input` (rows, inputs), or that is added to it.
    fn product(&self, map: Map, input: &[f32], output: &mut [f32], accumulate: bool) {
        let (range, inputs) = (self.layer.map(map, self.config), map.inputs(self.config));
        let (rows, outputs) = (input.len() / inputs, range.len() / inputs);
        self.panels.maps[map as usize].multiply(&self.values[range], (input, inputs), output, accumulate);
        if let Some(adapters) = self.adapters {
            adapters.add(self.at(map), input, &mut output[..rows * outputs], outputs);
        }
    }

    /// The gradient of `input`, from that of [`Block::product`], replaces `d_input` or is added to it; the gradient of the
    /// map's values, or of its adapters, is added to `gradient`.
    pub fn product_backward(
        &self,
        map: Map,
        d_output: &[f32],
        input: &[f32],
        d_input: &mut [f32],
        accumulate: bool,
        gradient: &mut [f32],
    ) {
        let (range, inputs) = (self.layer.map(map, self.config), map.inputs(self.config));
        let d_output = (d_output, range.len() / inputs);
        input_gradient(d_output, (&self.values[range.clone()], inputs), d_input, accumulate);
        match self.adapters {
            None => weight_gradient(d_output, (input, inputs), &mut gradient[range]),
            Some(adapters) => adapters.backward(self.at(map), d_output, input, d_input, gradient),
        }
    }

    fn at(&self, map: Map) -> At {
        At { layer: self.index, map, noise: self.noise }
    }

    /// Queries (rows, query heads) of normed rows: biased, normed and rotated as the family does.
    pub fn queries(&self, normed: &[f32], positions: &[u32], queries: &mut [f32], kept: &mut HeadNorm) {
        let query = self.config.query_width();
        self.product(Map::Query, normed, queries, false);
        self.add_bias(queries, 0, query);
        self.norm_heads(queries, query, query, &self.panels.query_gain, kept);
        let half = self.config.head_width() / 2;
        rotate(queries, query, self.config.heads, positions, &self.table.cosine, &self.table.sine, half);
    }

    /// Keys and values (rows, keys then values) of normed rows, the keys as queries are.
    pub fn keys_values(&self, normed: &[f32], positions: &[u32], keys_values: &mut [f32], kept: &mut HeadNorm) {
        let key = self.config.key_width();
        self.product(Map::KeyValue, normed, keys_values, false);
        self.add_bias(keys_values, self.config.query_width(), 2 * key);
        self.norm_heads(keys_values, 2 * key, key, &self.panels.key_gain, kept);
        let (heads, half) = (self.config.key_value_heads, self.config.head_width() / 2);
        rotate(keys_values, 2 * key, heads, positions, &self.table.cosine, &self.table.sine, half);
    }

    fn add_bias(&self, rows: &mut [f32], first: usize, width: usize) {
        if !self.layer.query_key_value_bias.is_empty() {
            let bias = &self.values[self.layer.query_key_value_bias.clone()][first..first + width];
            rows.chunks_exact_mut(width).for_each(|row| add(row, bias));
        }
    }

    /// Norms the heads in the first `channels` of each row, `stride` apart.
    fn norm_heads(&self, rows: &mut [f32], stride: usize, channels: usize, gain: &[f32], kept: &mut HeadNorm) {
        if gain.is_empty() {
            return;
        }
        let (count, heads) = (rows.len() / stride, channels / gain.len());
        let (raw, inverse) = (take(&mut kept.raw, count * channels), take(&mut kept.inverse, count * heads));
        let kept = raw.chunks_exact_mut(channels).zip(inverse.chunks_exact_mut(heads));
        for (row, (raw, inverse)) in rows.chunks_exact_mut(stride).zip(kept) {
            raw.copy_from_slice(&row[..channels]);
            rms_norm(raw, gain, &mut row[..channels], inverse, self.config.norm_epsilon as f32);
        }
    }

    /// Adds what attention gives to the stream, normed first where the family does so.
    pub fn add_attention(&self, attended: &[f32], stream: &mut [f32], kept: &mut Branch) {
        if self.panels.attention_post_gain.is_empty() {
            return self.product(Map::Output, attended, stream, true);
        }
        self.product(Map::Output, attended, take(&mut kept.raw, stream.len()), false);
        self.add_normed(&self.panels.attention_post_gain, stream, kept);
    }

    /// The norm of the stream's rows, gate and up, and their product behind the gate's function.
    pub fn feed_forward(&self, stream: &[f32], kept: &mut FeedForward) {
        let (inner, epsilon) = (self.config.feed_forward, self.config.norm_epsilon as f32);
        let rows = stream.len() / self.config.width;
        let (normed, inverse) = (take(&mut kept.normed, stream.len()), take(&mut kept.inverse, rows));
        rms_norm(stream, &self.panels.feed_forward_gain, normed, inverse, epsilon);
        let (gate_up, activated) = (take(&mut kept.gate_up, rows * 2 * inner), take(&mut kept.activated, rows * inner));
        self.product(Map::GateUp, normed, gate_up, false);
        match self.config.variant.family.is_gemma() {
            true => geglu(gate_up, activated, inner),
            false => swiglu(gate_up, activated, inner),
        }
    }

    /// Adds what the feed-forward gives to the stream, normed first where the family does so.
    pub fn add_feed_forward(&self, activated: &[f32], stream: &mut [f32], kept: &mut Branch) {
        if self.panels.feed_forward_post_gain.is_empty() {
            return self.product(Map::Down, activated, stream, true);
        }
        self.product(Map::Down, activated, take(&mut kept.raw, stream.len()), false);
        self.add_normed(&self.panels.feed_forward_post_gain, stream, kept);
    }

    fn add_normed(&self, gain: &[f32], stream: &mut [f32], kept: &mut Branch) {
        let normed = take(&mut kept.normed, stream.len());
        let inverse = take(&mut kept.inverse, stream.len() / self.config.width);
        rms_norm(&kept.raw, gain, normed, inverse, self.config.norm_epsilon as f32);
        add(stream, normed);
    }

    /// Gradient of gate and up from that of their product.
    pub fn feed_forward_backward(&self, gate_up: &[f32], d_activated: &[f32], d_gate_up: &mut [f32]) {
        let inner = self.config.feed_forward;
        match self.config.variant.family.is_gemma() {
            true => geglu_backward(gate_up, d_activated, d_gate_up, inner),
            false => swiglu_backward(gate_up, d_activated, d_gate_up, inner),
        }
    }

    /// Turns the gradient of queries or keys (the first `heads` heads of rows `stride` apart, biased at `bias`) into
    /// that of the projection, and adds the gradients of gain and biases.
    pub fn heads_backward(
        &self,
        d: &mut [f32],
        positions: &[u32],
        heads: Heads,
        gradient: &mut [f32],
        (raw, unused): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let Heads { stride, count, kept, keys } = heads;
        let (head, channels) = (self.config.head_width(), count * self.config.head_width());
        rotate(d, stride, count, positions, &self.table.cosine, &self.table.negative_sine, head / 2);
        let (gain, place) = match keys {
            true => (&self.panels.key_gain, &self.layer.key_norm),
            false => (&self.panels.query_gain, &self.layer.query_norm),
        };
        if !gain.is_empty() {
            let d_gain = if self.frozen() { take(unused, place.len()) } else { &mut gradient[place.clone()] };
            let kept = kept.raw.chunks_exact(channels).zip(kept.inverse.chunks_exact(count));
            for (row, (values, inverse)) in d.chunks_exact_mut(stride).zip(kept) {
                let d_raw = take(raw, channels);
                d_raw.fill(0.0);
                rms_norm_backward(&row[..channels], values, gain, inverse, d_raw, d_gain);
                row[..channels].copy_from_slice(d_raw);
            }
        }
        if !self.layer.query_key_value_bias.is_empty() && !self.frozen() {
            let first = if keys { self.config.query_width() } else { 0 };
            let d_bias = &mut gradient[self.layer.query_key_value_bias.clone()][first..first + stride];
            d.chunks_exact(stride).for_each(|row| add(d_bias, row));
        }
    }
}

/// Heads of rows for [`Block::heads_backward`].
pub(super) struct Heads<'a> {
    pub stride: usize,
    pub count: usize,
    pub kept: &'a HeadNorm,
    pub keys: bool,
}

/// The gradient of a branch before its norm, from that of the stream that it was added to: the same where there is no
/// norm.
pub(super) fn branch_backward<'a>(
    stream: &'a [f32],
    kept: &Branch,
    gain: &[f32],
    d_gain: &mut [f32],
    raw: &'a mut Vec<f32>,
) -> &'a [f32] {
    if gain.is_empty() {
        return stream;
    }
    let raw = take(raw, stream.len());
    raw.fill(0.0);
    rms_norm_backward(stream, &kept.raw, gain, &kept.inverse, raw, d_gain);
    raw
}
