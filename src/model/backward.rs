//! The decoder's backward pass, by hand: gradients of every value from the gradients of the output rows.

use std::ops::Range;

use super::adapter::Map;
use super::attention::{Backward, attention_backward};
use super::batch::Batch;
use super::block::{Block, Heads, branch_backward};
use super::device::passes;
use super::forward::{Activations, LayerActivations, Prepared, block_forward, take};
use super::kernels::{View, add, multiply, rms_norm_backward};
use super::tap::{Taps, edit_backward};
use super::weights::Weights;
use crate::error::{Error, Result};

/// Buffers of the backward pass, named for what they hold the gradient of; they grow to the largest batch and stay.
#[derive(Default)]
pub struct Scratch {
    stream: Vec<f32>,
    /// The residual stream of all rows, while that of the outputs alone stands in `stream`.
    whole_stream: Vec<f32>,
    normed: Vec<f32>,
    attended: Vec<f32>,
    queries: Vec<f32>,
    keys_values: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    scores: Vec<f32>,
    /// What attention's scores were before their cap.
    products: Vec<f32>,
    /// The heads of one row before their norm.
    heads: Vec<f32>,
    /// Gradients of gains that are frozen.
    unused: Vec<f32>,
    /// What attention or feed-forward gave before its norm; in the last block also the normed rows of the outputs.
    branch: Vec<f32>,
}

/// Adds to `gradient` (as long as the values, or as those of the adapters where there are some) what follows from `d_hidden` (outputs, width), the gradient of
/// [`Activations::hidden`] of the forward pass just done on this batch.
pub fn backward(
    weights: &Weights,
    prepared: &Prepared,
    batch: &Batch,
    activations: &mut Activations,
    d_hidden: &[f32],
    scratch: &mut Scratch,
    gradient: &mut [f32],
) -> Result<()> {
    backward_tapped(weights, prepared, batch, activations, d_hidden, Taps::default(), scratch, gradient)
}

/// [`backward`] of [`forward_edited`](super::forward::forward_edited), with gradients that enter on the way.
pub fn backward_tapped(
    weights: &Weights,
    prepared: &Prepared,
    batch: &Batch,
    activations: &mut Activations,
    d_hidden: &[f32],
    taps: Taps,
    scratch: &mut Scratch,
    gradient: &mut [f32],
) -> Result<()> {
    if let Some(mirror) = &prepared.mirror {
        // What the device keeps of the forward pass makes room.
        let trace =
            activations.trace.take().ok_or_else(|| Error::internal("a backward pass without a forward pass"))?;
        return passes::backward(weights, (prepared, mirror), batch, &trace, d_hidden, taps, gradient);
    }
    let Weights { config, layout, .. } = weights;
    let (width, feed_forward) = (config.width, config.feed_forward);
    let (query_width, key_value, rows) = (config.query_width(), 2 * config.key_width(), batch.ids.len());
    let frozen = prepared.adapters.is_some();
    // The last block is not run again: what it computed is still there.
    let recomputes = activations.layers.len() < config.layers;
    take(&mut scratch.stream, batch.outputs.len() * width).fill(0.0);
    let d_gain = of_gain(gradient, &layout.norm, frozen, &mut scratch.unused);
    let Activations { inputs, layers, last, last_inverse, .. } = activations;
    rms_norm_backward(d_hidden, last, &prepared.gain, last_inverse, &mut scratch.stream, d_gain);
    tap(taps, config.layers, batch, true, &mut scratch.stream, width);
    for index in (0..config.layers).rev() {
        let block = Block::of_batch(weights, prepared, index, batch);
        let (layer, panels, input) = (block.layer, block.panels, &inputs[index]);
        let top = index + 1 == config.layers;
        let (count, positions) =
            if top { (batch.outputs.len(), &batch.output_positions) } else { (rows, &batch.positions) };
        let Scratch { stream, whole_stream, branch, normed, attended, queries, keys_values, gate_up, .. } = scratch;
        let Scratch { activated, scores, products, heads, unused, .. } = scratch;
        let a = &mut layers[if recomputes { 0 } else { index }];
        if recomputes && !top {
            recompute(&block, batch, input, a, whole_stream);
        }

        let d_gain = of_gain(gradient, &layer.feed_forward_post_norm, frozen, unused);
        let d_out = branch_backward(stream, &a.feed_forward_branch, &panels.feed_forward_post_gain, d_gain, branch);
        let d_activated = take(activated, count * feed_forward);
        block.product_backward(Map::Down, d_out, &a.feed_forward.activated, d_activated, false, gradient);
        let d_gate_up = take(gate_up, count * 2 * feed_forward);
        block.feed_forward_backward(&a.feed_forward.gate_up, d_activated, d_gate_up);
        let d_normed = take(normed, count * width);
        block.product_backward(Map::GateUp, d_gate_up, &a.feed_forward.normed, d_normed, false, gradient);
        let d_gain = of_gain(gradient, &layer.feed_forward_norm, frozen, unused);
        rms_norm_backward(d_normed, &a.middle, &panels.feed_forward_gain, &a.feed_forward.inverse, stream, d_gain);

        let d_gain = of_gain(gradient, &layer.attention_post_norm, frozen, unused);
        let d_middle = branch_backward(stream, &a.attention_branch, &panels.attention_post_gain, d_gain, branch);
        let d_attended = take(attended, count * query_width);
        block.product_backward(Map::Output, d_middle, &a.attended, d_attended, false, gradient);
        let d_queries = take(queries, count * query_width);
        let d_keys_values = take(keys_values, rows * key_value);
        let buffers = Backward {
            queries: &a.queries,
            keys_values: &a.keys_values,
            kept: &a.probabilities,
            d_attended,
            d_queries,
            d_keys_values,
            scores,
            products,
        };
        attention_backward(config, batch, top, block.scoring, buffers);
        let of_queries = Heads { stride: query_width, count: config.heads, kept: &a.query_norm, keys: false };
        block.heads_backward(d_queries, positions, of_queries, gradient, (heads, unused));
        let of_keys = Heads { stride: key_value, count: config.key_value_heads, kept: &a.key_norm, keys: true };
        block.heads_backward(d_keys_values, &batch.positions, of_keys, gradient, (heads, unused));

        let d_normed = take(normed, rows * width);
        block.product_backward(Map::KeyValue, d_keys_values, &a.normed, d_normed, false, gradient);
        if top {
            // The outputs' rows go back to their places among all rows.
            let d_selected = take(branch, count * width);
            block.product_backward(Map::Query, d_queries, &a.selected, d_selected, false, gradient);
            take(whole_stream, rows * width).fill(0.0);
            for (output, row) in batch.outputs.iter().enumerate() {
                let (from, to) = (output * width..(output + 1) * width, row * width..(row + 1) * width);
                add(&mut d_normed[to.clone()], &d_selected[from.clone()]);
                whole_stream[to].copy_from_slice(&stream[from]);
            }
            std::mem::swap(stream, whole_stream);
        } else {
            block.product_backward(Map::Query, d_queries, &a.normed, d_normed, true, gradient);
        }
        let d_gain = of_gain(gradient, &layer.attention_norm, frozen, unused);
        rms_norm_backward(d_normed, input, &panels.attention_gain, &a.attention_inverse, stream, d_gain);
        tap(taps, index, batch, false, stream, width);
    }
    if frozen {
        return Ok(());
    }
    let (d_embedding, scale) = (&mut gradient[layout.embedding.clone()], config.embedding_scale());
    for (id, d) in batch.ids.iter().zip(scratch.stream.chunks_exact_mut(width)) {
        if scale != 1.0 {
            d.iter_mut().for_each(|value| *value *= scale);
        }
        add(&mut d_embedding[*id as usize * width..][..width], d);
    }
    Ok(())
}

/// Computes again what the forward pass computed of a block and did not keep.
fn recompute(block: &Block, batch: &Batch, input: &[f32], a: &mut LayerActivations, spare: &mut Vec<f32>) {
    block_forward(block, batch, false, input, a);
    if !block.panels.feed_forward_post_gain.is_empty() {
        block.add_feed_forward(&a.feed_forward.activated, take(spare, input.len()), &mut a.feed_forward_branch);
    }
}

/// Where the gradient of a gain is added: aside where gains are frozen.
fn of_gain<'g>(gradient: &'g mut [f32], place: &Range<usize>, frozen: bool, unused: &'g mut Vec<f32>) -> &'g mut [f32] {
    if frozen { take(unused, place.len()) } else { &mut gradient[place.clone()] }
}

/// What happens to the gradient of a state on the way back.
fn tap(taps: Taps, state: usize, batch: &Batch, selected: bool, stream: &mut [f32], width: usize) {
    for injection in taps.injections.iter().filter(|injection| injection.state == state) {
        add(stream, &injection.gradient);
    }
    edit_backward(taps.edits, state, batch, selected, stream, width);
}

/// Rows and their width.
pub(super) type Rows<'a> = (&'a [f32], usize);

/// d_input (rows, inputs) = d_output (rows, outputs) · matrix (outputs, inputs), or added to it.
pub(super) fn input_gradient(d_output: Rows, matrix: Rows, d_input: &mut [f32], accumulate: bool) {
    let ((d_output, outputs), (matrix, inputs)) = (d_output, matrix);
    let sizes = [d_output.len() / outputs, outputs, inputs];
    multiply(d_input, inputs, View::rows(d_output, outputs), View::rows(matrix, inputs), sizes, accumulate);
}

/// d_matrix (outputs, inputs) += d_outputᵀ (outputs, rows) · input (rows, inputs).
pub(super) fn weight_gradient(d_output: Rows, input: Rows, d_matrix: &mut [f32]) {
    let ((d_output, outputs), (input, inputs)) = (d_output, input);
    let sizes = [outputs, d_output.len() / outputs, inputs];
    multiply(d_matrix, inputs, View::rows(d_output, outputs).transposed(), View::rows(input, inputs), sizes, true);
}
