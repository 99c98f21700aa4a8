//! The decoder's forward pass over sequences packed back to back, without padding.

use super::attention;
use super::batch::Batch;
use super::block::{Block, Branch, HeadNorm};
use super::config::Config;
use super::kernels::{Panels, View, rms_norm};
use super::rotary::{Rotary, rotaries};
use super::tap::{Edit, edit};
use super::weights::Weights;

/// Weights laid out for the forward pass, and the rotary tables.
pub struct Prepared {
    pub(super) layers: Vec<PreparedLayer>,
    pub(super) head: Panels,
    /// Of the last norm.
    pub(super) gain: Vec<f32>,
    /// Of blocks without a window, and of those with one where theirs are others.
    pub(super) rotaries: Vec<Rotary>,
}

/// One block's matrices, transposed and cut into panels, and the gains of its norms as they multiply; what a family does
/// not have is empty.
#[derive(Default)]
pub(super) struct PreparedLayer {
    pub query: Panels,
    pub key_value: Panels,
    pub output: Panels,
    pub gate_up: Panels,
    pub down: Panels,
    pub attention_gain: Vec<f32>,
    pub query_gain: Vec<f32>,
    pub key_gain: Vec<f32>,
    pub attention_post_gain: Vec<f32>,
    pub feed_forward_gain: Vec<f32>,
    pub feed_forward_post_gain: Vec<f32>,
}

impl Prepared {
    /// Lays out these weights.
    pub fn new(weights: &Weights) -> Self {
        let mut prepared = Prepared {
            layers: (0..weights.config.layers).map(|_| PreparedLayer::default()).collect(),
            head: Panels::default(),
            gain: Vec::new(),
            rotaries: rotaries(&weights.config),
        };
        prepared.update(weights);
        prepared
    }

    /// Lays out changed weights of the same shape, in place.
    pub fn update(&mut self, weights: &Weights) {
        let Weights { config, values, layout } = weights;
        let (width, feed_forward, query) = (config.width, config.feed_forward, config.query_width());
        let pack = |panels: &mut Panels, matrix: &[f32], inputs: usize| {
            panels.pack(View::rows(matrix, inputs).transposed(), inputs, matrix.len() / inputs);
        };
        // Gemma stores its gains less 1.
        let one = if config.variant.family.is_gemma() { 1.0 } else { 0.0 };
        let set = |gain: &mut Vec<f32>, range: &std::ops::Range<usize>| {
            gain.clear();
            gain.extend(values[range.clone()].iter().map(|value| value + one));
        };
        for (prepared, layer) in self.layers.iter_mut().zip(&layout.layers) {
            let (queries, keys_values) = values[layer.query_key_value.clone()].split_at(query * width);
            pack(&mut prepared.query, queries, width);
            pack(&mut prepared.key_value, keys_values, width);
            pack(&mut prepared.output, &values[layer.output.clone()], query);
            pack(&mut prepared.gate_up, &values[layer.gate_up.clone()], width);
            pack(&mut prepared.down, &values[layer.down.clone()], feed_forward);
            set(&mut prepared.attention_gain, &layer.attention_norm);
            set(&mut prepared.query_gain, &layer.query_norm);
            set(&mut prepared.key_gain, &layer.key_norm);
            set(&mut prepared.attention_post_gain, &layer.attention_post_norm);
            set(&mut prepared.feed_forward_gain, &layer.feed_forward_norm);
            set(&mut prepared.feed_forward_post_gain, &layer.feed_forward_post_norm);
        }
        set(&mut self.gain, &layout.norm);
        pack(&mut self.head, &values[layout.head.clone()], width);
    }
}

/// What the forward pass computed; buffers grow to the largest batch and stay.
#[derive(Default)]
pub struct Activations {
    pub(super) layers: Vec<LayerActivations>,
    /// (outputs, width): residual stream after the last block.
    pub(super) last: Vec<f32>,
    pub(super) last_inverse: Vec<f32>,
    /// (outputs, width): after the last norm, the input of the language-model head.
    pub(super) hidden: Vec<f32>,
}

/// What one block computed. In the last block, the rows from `queries` on are those of the outputs.
#[derive(Default)]
pub(super) struct LayerActivations {
    pub input: Vec<f32>,
    pub attention_inverse: Vec<f32>,
    pub normed: Vec<f32>,
    /// The rows of `normed` at the outputs; last block only.
    pub selected: Vec<f32>,
    pub queries: Vec<f32>,
    pub query_norm: HeadNorm,
    /// (rows, keys then values).
    pub keys_values: Vec<f32>,
    pub key_norm: HeadNorm,
    pub probabilities: Vec<f32>,
    pub attended: Vec<f32>,
    pub attention_branch: Branch,
    pub middle: Vec<f32>,
    pub feed_forward_inverse: Vec<f32>,
    pub feed_forward_normed: Vec<f32>,
    pub gate_up: Vec<f32>,
    pub activated: Vec<f32>,
    pub feed_forward_branch: Branch,
}

impl Activations {
    /// (outputs, width) of the last batch: the input of the language-model head.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }
    /// (rows, width) of the last batch: a state of the residual stream, counted as in [`tap`](super::tap) and as it was
    /// after any edits. Of the last state there are the outputs' rows alone.
    pub fn state(&self, state: usize) -> &[f32] {
        self.layers.get(state).map_or(&self.last, |layer| &layer.input)
    }
}

/// The first `count` places of a buffer; it grows when it is shorter and keeps its memory when it is longer.
pub(super) fn take(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    buffer.resize(count, 0.0);
    buffer
}

/// Runs the decoder; `activations` then hold the outputs' hidden rows and all that the way back needs.
pub fn forward(weights: &Weights, prepared: &Prepared, batch: &Batch, activations: &mut Activations) {
    forward_edited(weights, prepared, batch, &[], activations);
}

/// [`forward`] with changes of the residual stream on the way.
pub fn forward_edited(
    weights: &Weights,
    prepared: &Prepared,
    batch: &Batch,
    edits: &[Edit],
    activations: &mut Activations,
) {
    let Weights { config, values, layout } = weights;
    let (width, query, key) = (config.width, config.query_width(), config.key_width());
    let (rows, epsilon) = (batch.ids.len(), config.norm_epsilon as f32);
    let Activations { layers, last, last_inverse, hidden } = activations;
    layers.resize_with(config.layers, LayerActivations::default);
    let input = take(&mut layers[0].input, rows * width);
    embed(config, &values[layout.embedding.clone()], &batch.ids, input);
    edit(edits, 0, batch, false, input, width);
    for index in 0..config.layers {
        let block = Block::new(weights, prepared, index, batch.longest());
        let (done, above) = layers.split_at_mut(index + 1);
        let a = &mut done[index];
        let top = index + 1 == config.layers;
        let (count, positions) =
            if top { (batch.outputs.len(), &batch.output_positions) } else { (rows, &batch.positions) };

        let normed = take(&mut a.normed, rows * width);
        let inverse = take(&mut a.attention_inverse, rows);
        rms_norm(&a.input, &block.panels.attention_gain, normed, inverse, epsilon);
        let keys_values = take(&mut a.keys_values, rows * 2 * key);
        block.keys_values(normed, &batch.positions, keys_values, &mut a.key_norm);

        let middle = take(&mut a.middle, count * width);
        let normed = if top {
            let selected = take(&mut a.selected, count * width);
            gather(normed, &batch.outputs, selected, width);
            gather(&a.input, &batch.outputs, middle, width);
            &*selected
        } else {
            middle.copy_from_slice(&a.input);
            &*normed
        };
        let queries = take(&mut a.queries, count * query);
        block.queries(normed, positions, queries, &mut a.query_norm);
        let kept = take(&mut a.probabilities, attention::probabilities(config, batch, top));
        let attended = take(&mut a.attended, count * query);
        attention::attention(config, batch, top, block.scoring, queries, keys_values, kept, attended);
        block.add_attention(attended, middle, &mut a.attention_branch);

        let normed = take(&mut a.feed_forward_normed, count * width);
        let inverse = take(&mut a.feed_forward_inverse, count);
        rms_norm(middle, &block.panels.feed_forward_gain, normed, inverse, epsilon);
        let gate_up = take(&mut a.gate_up, count * 2 * config.feed_forward);
        let activated = take(&mut a.activated, count * config.feed_forward);
        block.feed_forward(normed, gate_up, activated);
        let next = take(above.first_mut().map_or(&mut *last, |above| &mut above.input), count * width);
        next.copy_from_slice(middle);
        block.add_feed_forward(activated, next, &mut a.feed_forward_branch);
        edit(edits, index + 1, batch, top, next, width);
    }
    let count = batch.outputs.len();
    let (hidden, inverse) = (take(hidden, count * width), take(last_inverse, count));
    rms_norm(last, &prepared.gain, hidden, inverse, epsilon);
}

/// The rows of the residual stream with which these tokens begin.
pub(super) fn embed(config: &Config, embedding: &[f32], ids: &[u32], rows: &mut [f32]) {
    let (width, scale) = (config.width, config.embedding_scale());
    for (row, id) in rows.chunks_exact_mut(width).zip(ids) {
        row.copy_from_slice(&embedding[*id as usize * width..][..width]);
    }
    if scale != 1.0 {
        rows.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Copies the rows at these indices.
fn gather(from: &[f32], rows: &[usize], to: &mut [f32], width: usize) {
    for (to, row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[row * width..][..width]);
    }
}
