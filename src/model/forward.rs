//! The decoder's forward pass over sequences packed back to back, without padding.

use super::attention;
use super::batch::Batch;
use super::config::Config;
use super::kernels::{Panels, View, multiply_panels, rms_norm, rotate, swiglu};
use super::weights::Weights;

/// Weights laid out for the forward pass, and the rotary table.
pub struct Prepared {
    pub(super) layers: Vec<PreparedLayer>,
    pub(super) head: Panels,
    pub(super) cosine: Vec<f32>,
    pub(super) sine: Vec<f32>,
    pub(super) negative_sine: Vec<f32>,
}

/// One block's matrices, transposed and cut into panels.
#[derive(Default)]
pub(super) struct PreparedLayer {
    pub query: Panels,
    pub key_value: Panels,
    pub output: Panels,
    pub gate_up: Panels,
    pub down: Panels,
}

impl Prepared {
    /// Lays out these weights.
    pub fn new(weights: &Weights) -> Self {
        let config = &weights.config;
        let half = config.head_width() / 2;
        let angles = (0..config.context).flat_map(|position| {
            (0..half).map(move |channel| position as f64 * config.rope_theta.powf(-(channel as f64) / half as f64))
        });
        let sine: Vec<f32> = angles.clone().map(|angle| angle.sin() as f32).collect();
        let mut prepared = Prepared {
            layers: (0..config.layers).map(|_| PreparedLayer::default()).collect(),
            head: Panels::default(),
            cosine: angles.map(|angle| angle.cos() as f32).collect(),
            negative_sine: sine.iter().map(|value| -value).collect(),
            sine,
        };
        prepared.update(weights);
        prepared
    }

    /// Lays out changed weights of the same shape, in place.
    pub fn update(&mut self, weights: &Weights) {
        let Weights { config, values, layout } = weights;
        let (width, feed_forward) = (config.width, config.feed_forward);
        let pack = |panels: &mut Panels, matrix: &[f32], inputs: usize| {
            panels.pack(View::rows(matrix, inputs).transposed(), inputs, matrix.len() / inputs);
        };
        for (prepared, layer) in self.layers.iter_mut().zip(&layout.layers) {
            let (query, key_value) = values[layer.query_key_value.clone()].split_at(width * width);
            pack(&mut prepared.query, query, width);
            pack(&mut prepared.key_value, key_value, width);
            pack(&mut prepared.output, &values[layer.output.clone()], width);
            pack(&mut prepared.gate_up, &values[layer.gate_up.clone()], width);
            pack(&mut prepared.down, &values[layer.down.clone()], feed_forward);
        }
        pack(&mut self.head, &values[layout.embedding.clone()], width);
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
    /// (rows, keys then values).
    pub keys_values: Vec<f32>,
    pub probabilities: Vec<f32>,
    pub attended: Vec<f32>,
    pub middle: Vec<f32>,
    pub feed_forward_inverse: Vec<f32>,
    pub feed_forward_normed: Vec<f32>,
    pub gate_up: Vec<f32>,
    pub activated: Vec<f32>,
}

impl Activations {
    /// (outputs, width) of the last batch: the input of the language-model head.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }
}

/// The first `count` places of a buffer; it grows when it is shorter and keeps its memory when it is longer.
pub(super) fn take(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    buffer.resize(count, 0.0);
    buffer
}

/// Runs the decoder; `activations` then hold the outputs' hidden rows and all that the way back needs.
pub fn forward(weights: &Weights, prepared: &Prepared, batch: &Batch, activations: &mut Activations) {
    let Weights { config, values, layout } = weights;
    let (width, feed_forward, half) = (config.width, config.feed_forward, config.head_width() / 2);
    let key_value = key_value_width(config);
    let (rows, epsilon) = (batch.ids.len(), config.norm_epsilon as f32);
    let Activations { layers, last, last_inverse, hidden } = activations;
    layers.resize_with(config.layers, LayerActivations::default);
    let embedding = &values[layout.embedding.clone()];
    let input = take(&mut layers[0].input, rows * width);
    for (row, id) in input.chunks_exact_mut(width).zip(&batch.ids) {
        row.copy_from_slice(&embedding[*id as usize * width..][..width]);
    }
    for index in 0..config.layers {
        let (layer, panels) = (&layout.layers[index], &prepared.layers[index]);
        let (done, above) = layers.split_at_mut(index + 1);
        let a = &mut done[index];
        let top = index + 1 == config.layers;
        let (count, positions) =
            if top { (batch.outputs.len(), &batch.output_positions) } else { (rows, &batch.positions) };

        let normed = take(&mut a.normed, rows * width);
        let inverse = take(&mut a.attention_inverse, rows);
        rms_norm(&a.input, &values[layer.attention_norm.clone()], normed, inverse, epsilon);
        let keys_values = take(&mut a.keys_values, rows * key_value);
        multiply_panels(keys_values, key_value, View::rows(normed, width), &panels.key_value, rows, false);
        let heads = config.key_value_heads;
        rotate(keys_values, key_value, heads, &batch.positions, &prepared.cosine, &prepared.sine, half);

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
        let queries = take(&mut a.queries, count * width);
        multiply_panels(queries, width, View::rows(normed, width), &panels.query, count, false);
        rotate(queries, width, config.heads, positions, &prepared.cosine, &prepared.sine, half);
        let kept = take(&mut a.probabilities, attention::probabilities(config, batch, top));
        let attended = take(&mut a.attended, count * width);
        attention::attention(config, batch, top, queries, keys_values, kept, attended);
        multiply_panels(middle, width, View::rows(attended, width), &panels.output, count, true);

        let normed = take(&mut a.feed_forward_normed, count * width);
        let inverse = take(&mut a.feed_forward_inverse, count);
        rms_norm(middle, &values[layer.feed_forward_norm.clone()], normed, inverse, epsilon);
        let gate_up = take(&mut a.gate_up, count * 2 * feed_forward);
        multiply_panels(gate_up, 2 * feed_forward, View::rows(normed, width), &panels.gate_up, count, false);
        let activated = take(&mut a.activated, count * feed_forward);
        swiglu(gate_up, activated, feed_forward);
        let next = take(above.first_mut().map_or(&mut *last, |above| &mut above.input), count * width);
        next.copy_from_slice(middle);
        multiply_panels(next, width, View::rows(activated, feed_forward), &panels.down, count, true);
    }
    let count = batch.outputs.len();
    let (hidden, inverse) = (take(hidden, count * width), take(last_inverse, count));
    rms_norm(last, &values[layout.norm.clone()], hidden, inverse, epsilon);
}

/// Copies the rows at these indices.
fn gather(from: &[f32], rows: &[usize], to: &mut [f32], width: usize) {
    for (to, row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[row * width..][..width]);
    }
}

/// Channels of all heads' keys and values.
pub(super) fn key_value_width(config: &Config) -> usize {
    2 * config.key_value_heads * config.head_width()
}
