//! The decoder's forward pass over sequences packed back to back, without padding.

use std::sync::Arc;

use super::adapter::{ALL_MAPS, Adapters, MAPS};
use super::attention;
use super::batch::Batch;
use super::block::{Block, Branch, FeedForward, HeadNorm};
use super::config::Config;
use super::device::passes::{self, Trace};
use super::device::{Mirror, PASS_TOKENS};
use super::kernels::{Panels, View, rms_norm};
use super::rotary::{Rotary, rotaries};
use super::share::share;
use super::tap::{Edit, edit};
use super::weights::Weights;
use crate::error::Result;

/// Most values of weights that are copied for passes over many tokens.
pub const COPIED_VALUES: usize = 1 << 26;

/// Weights laid out for the forward pass, the adapters beside them, and the rotary tables. Clones share what is laid out.
#[derive(Clone)]
pub struct Prepared {
    pub(super) layers: Arc<Vec<PreparedLayer>>,
    pub(super) head: Arc<Panels>,
    /// Of the last norm.
    pub(super) gain: Vec<f32>,
    /// Of blocks without a window, and of those with one where theirs are others.
    pub(super) rotaries: Arc<Vec<Rotary>>,
    /// What is trained beside frozen weights.
    pub adapters: Option<Adapters>,
    packs: bool,
    /// The values on the device that computes; nothing else is laid out then.
    pub(super) mirror: Option<Arc<Mirror>>,
}

/// One block's matrices, transposed and cut into panels, and the gains of its norms as they multiply; what a family does
/// not have is empty.
#[derive(Clone, Default)]
pub(super) struct PreparedLayer {
    pub maps: [Panels; MAPS],
    pub attention_gain: Vec<f32>,
    pub query_gain: Vec<f32>,
    pub key_gain: Vec<f32>,
    pub attention_post_gain: Vec<f32>,
    pub feed_forward_gain: Vec<f32>,
    pub feed_forward_post_gain: Vec<f32>,
}

impl Prepared {
    /// Lays out these weights.
    pub fn new(weights: &Weights) -> Result<Self> {
        Self::with(weights, true)
    }

    /// Lays out these weights for passes over many tokens at a time: large ones are not copied, and every pass lays out
    /// each part of a matrix as it comes to it, which many tokens share.
    pub fn for_batches(weights: &Weights) -> Result<Self> {
        Self::with(weights, weights.values.len() <= COPIED_VALUES)
    }

    /// The same with these adapters beside the weights; what is laid out is shared.
    pub fn beside(&self, adapters: Option<Adapters>) -> Self {
        Prepared { adapters, ..self.clone() }
    }

    /// Most tokens that are worth passing through at a time, where something else computes than this processor.
    pub fn device_tokens(&self) -> Option<usize> {
        self.mirror.is_some().then_some(PASS_TOKENS)
    }

    /// Number of values that a gradient has: of the adapters, where there are some.
    pub fn trained_values(&self, weights: &Weights) -> usize {
        self.adapters.as_ref().map_or(weights.values.len(), |adapters| adapters.values.len())
    }

    fn with(weights: &Weights, packs: bool) -> Result<Self> {
        let mut prepared = Prepared {
            layers: Arc::new((0..weights.config.layers).map(|_| PreparedLayer::default()).collect()),
            mirror: None,
            head: Arc::default(),
            gain: Vec::new(),
            rotaries: Arc::new(rotaries(&weights.config)),
            adapters: None,
            packs,
        };
        prepared.update(weights, 1)?;
        Ok(prepared)
    }

    /// Lays out changed weights of the same shape, in place unless clones share it, on at most `threads` threads.
    ///
    /// # Errors
    /// A device that is not there or too small.
    pub fn update(&mut self, weights: &Weights, threads: usize) -> Result<()> {
        if let Some(device) = weights.processor.device()? {
            // The old values make room before the new ones come.
            self.mirror = None;
            self.mirror = Some(Arc::new(Mirror::new(weights, &device)?));
            return Ok(());
        }
        let Weights { config, values, layout, .. } = weights;
        let packs = self.packs;
        let pack = |panels: &mut Panels, matrix: &[f32], inputs: usize| {
            if packs {
                panels.pack(View::rows(matrix, inputs).transposed(), inputs, matrix.len() / inputs);
            }
        };
        // Gemma stores its gains less 1.
        let one = if config.variant.family.is_gemma() { 1.0 } else { 0.0 };
        let set = |gain: &mut Vec<f32>, range: &std::ops::Range<usize>| {
            gain.clear();
            gain.extend(values[range.clone()].iter().map(|value| value + one));
        };
        let layers = Arc::make_mut(&mut self.layers).iter_mut().zip(&layout.layers);
        share(threads, &mut layers.collect::<Vec<_>>(), |(prepared, layer)| {
            for map in ALL_MAPS {
                pack(&mut prepared.maps[map as usize], &values[layer.map(map, config)], map.inputs(config));
            }
            set(&mut prepared.attention_gain, &layer.attention_norm);
            set(&mut prepared.query_gain, &layer.query_norm);
            set(&mut prepared.key_gain, &layer.key_norm);
            set(&mut prepared.attention_post_gain, &layer.attention_post_norm);
            set(&mut prepared.feed_forward_gain, &layer.feed_forward_norm);
            set(&mut prepared.feed_forward_post_gain, &layer.feed_forward_post_norm);
        });
        set(&mut self.gain, &layout.norm);
        pack(Arc::make_mut(&mut self.head), &values[layout.head.clone()], config.width);
        Ok(())
    }
}

/// What the forward pass computed; buffers grow to the largest batch and stay.
#[derive(Default)]
pub struct Activations {
    /// (rows, width): residual stream before each block.
    pub(super) inputs: Vec<Vec<f32>>,
    /// Of every block; of the block that ran last alone where the batch was too large to keep them all, and the way back
    /// then computes each block anew.
    pub(super) layers: Vec<LayerActivations>,
    /// Most values of blocks that are kept; none is no bound.
    most: Option<usize>,
    /// (outputs, width): residual stream after the last block.
    pub(super) last: Vec<f32>,
    pub(super) last_inverse: Vec<f32>,
    /// (outputs, width): after the last norm, the input of the language-model head.
    pub(super) hidden: Vec<f32>,
    /// What a device computed in place of all but `hidden`.
    pub(super) trace: Option<Trace>,
}

/// What one block computed. In the last block, the rows from `queries` on are those of the outputs.
#[derive(Default)]
pub(super) struct LayerActivations {
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
    pub feed_forward: FeedForward,
    pub feed_forward_branch: Branch,
}

impl Activations {
    /// Activations that keep about this many values of blocks at most, and the blocks' inputs.
    pub fn bounded(most: usize) -> Self {
        Activations { most: Some(most), ..Activations::default() }
    }
    /// (outputs, width) of the last batch: the input of the language-model head.
    pub fn hidden(&self) -> &[f32] {
        &self.hidden
    }
    /// (rows, width) of the last batch: a state of the residual stream, counted as in [`tap`](super::tap) and as it was
    /// after any edits. Of the last state there are the outputs' rows alone.
    ///
    /// # Errors
    /// A device that went away.
    pub fn state(&self, state: usize) -> Result<&[f32]> {
        match &self.trace {
            Some(trace) => trace.state(state),
            None => Ok(self.inputs.get(state).unwrap_or(&self.last)),
        }
    }
}

/// The first `count` places of a buffer; it grows when it is shorter and keeps its memory when it is longer.
pub(super) fn take(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    buffer.resize(count, 0.0);
    buffer
}

/// Runs the decoder; `activations` then hold the outputs' hidden rows and all that the way back needs.
///
/// # Errors
/// A device whose memory is full, or that went away.
pub fn forward(weights: &Weights, prepared: &Prepared, batch: &Batch, activations: &mut Activations) -> Result<()> {
    forward_edited(weights, prepared, batch, &[], activations)
}

/// [`forward`] with changes of the residual stream on the way.
pub fn forward_edited(
    weights: &Weights,
    prepared: &Prepared,
    batch: &Batch,
    edits: &[Edit],
    activations: &mut Activations,
) -> Result<()> {
    let (config, width) = (&weights.config, weights.config.width);
    let (rows, count) = (batch.ids.len(), batch.outputs.len());
    let Activations { inputs, layers, most, last, last_inverse, hidden, trace } = activations;
    if let Some(mirror) = &prepared.mirror {
        *trace = None;
        *trace = Some(passes::forward(weights, (prepared, mirror), batch, edits, hidden)?);
        return Ok(());
    }
    inputs.resize_with(config.layers, Vec::new);
    let kept = config.layers * block_values(config, batch);
    layers.resize_with(if most.is_some_and(|most| kept > most) { 1 } else { config.layers }, LayerActivations::default);
    let input = take(&mut inputs[0], rows * width);
    embed(config, &weights.values[weights.layout.embedding.clone()], &batch.ids, input);
    edit(edits, 0, batch, false, input, width);
    for index in 0..config.layers {
        let block = Block::of_batch(weights, prepared, index, batch);
        let top = index + 1 == config.layers;
        let place = if layers.len() == 1 { 0 } else { index };
        let (below, above) = inputs.split_at_mut(index + 1);
        block_forward(&block, batch, top, &below[index], &mut layers[place]);
        let next = take(above.first_mut().unwrap_or(&mut *last), if top { count } else { rows } * width);
        let LayerActivations { middle, feed_forward, feed_forward_branch, .. } = &mut layers[place];
        next.copy_from_slice(middle);
        block.add_feed_forward(&feed_forward.activated, next, feed_forward_branch);
        edit(edits, index + 1, batch, top, next, width);
    }
    let (hidden, inverse) = (take(hidden, count * width), take(last_inverse, count));
    rms_norm(last, &prepared.gain, hidden, inverse, config.norm_epsilon as f32);
    Ok(())
}

/// Everything that a block computes of `input` (rows, width) but what it adds to the stream at last.
pub(super) fn block_forward(block: &Block, batch: &Batch, top: bool, input: &[f32], a: &mut LayerActivations) {
    let config = block.config;
    let (width, query, key) = (config.width, config.query_width(), config.key_width());
    let (rows, epsilon) = (batch.ids.len(), config.norm_epsilon as f32);
    let (count, positions) =
        if top { (batch.outputs.len(), &batch.output_positions) } else { (rows, &batch.positions) };

    let normed = take(&mut a.normed, rows * width);
    let inverse = take(&mut a.attention_inverse, rows);
    rms_norm(input, &block.panels.attention_gain, normed, inverse, epsilon);
    let keys_values = take(&mut a.keys_values, rows * 2 * key);
    block.keys_values(normed, &batch.positions, keys_values, &mut a.key_norm);

    let middle = take(&mut a.middle, count * width);
    let normed = if top {
        let selected = take(&mut a.selected, count * width);
        gather(normed, &batch.outputs, selected, width);
        gather(input, &batch.outputs, middle, width);
        &*selected
    } else {
        middle.copy_from_slice(input);
        &*normed
    };
    let queries = take(&mut a.queries, count * query);
    block.queries(normed, positions, queries, &mut a.query_norm);
    let kept = take(&mut a.probabilities, attention::probabilities(config, batch, top));
    let attended = take(&mut a.attended, count * query);
    attention::attention(config, batch, top, block.scoring, queries, keys_values, kept, attended);
    block.add_attention(attended, middle, &mut a.attention_branch);

    block.feed_forward(middle, &mut a.feed_forward);
}

/// About how many values a block computes of a batch, attention's probabilities among them.
fn block_values(config: &Config, batch: &Batch) -> usize {
    let row = 3 * config.width + 2 * config.query_width() + 2 * config.key_width() + 3 * config.feed_forward;
    batch.ids.len() * row + attention::probabilities(config, batch, false)
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
