//! A model's values on a device.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::failed;
use crate::error::Result;
use crate::model::adapter::{ALL_MAPS, MAPS};
use crate::model::weights::Weights;

/// The tensors of a decoder on a device.
#[derive(Clone)]
pub struct Mirror {
    /// Where they are.
    pub device: Device,
    pub(super) embedding: Tensor,
    /// (vocabulary, width).
    pub(super) head: Tensor,
    /// Of the last norm.
    pub(super) gain: Tensor,
    pub(super) layers: Vec<LayerMirror>,
}

/// One block's tensors; what a family does not have is none. Gains are as they multiply.
#[derive(Clone)]
pub(super) struct LayerMirror {
    /// (outputs, inputs) each.
    pub maps: [Tensor; MAPS],
    pub bias: Option<Tensor>,
    pub attention_gain: Tensor,
    pub query_gain: Option<Tensor>,
    pub key_gain: Option<Tensor>,
    pub attention_post_gain: Option<Tensor>,
    pub feed_forward_gain: Tensor,
    pub feed_forward_post_gain: Option<Tensor>,
}

impl Mirror {
    /// Copies values to a device.
    ///
    /// # Errors
    /// They do not fit.
    pub fn new(weights: &Weights, device: &Device) -> Result<Self> {
        Self::copy(weights, device).map_err(failed)
    }

    fn copy(weights: &Weights, device: &Device) -> candle_core::Result<Self> {
        let Weights { config, values, layout, .. } = weights;
        let matrix = |range: &Range<usize>, inputs: usize| {
            Tensor::from_slice(&values[range.clone()], (range.len() / inputs, inputs), device)
        };
        // Gemma stores its gains less 1.
        let one = if config.variant.family.is_gemma() { 1.0 } else { 0.0 };
        let gain = |range: &Range<usize>| Tensor::from_slice(&values[range.clone()], range.len(), device)? + one;
        let some = |range: &Range<usize>| (!range.is_empty()).then(|| gain(range)).transpose();
        let embedding = matrix(&layout.embedding, config.width)?;
        let head = if config.variant.tied { embedding.clone() } else { matrix(&layout.head, config.width)? };
        let layer = |layer: &crate::model::layout::LayerLayout| {
            let map = |map: crate::model::adapter::Map| matrix(&layer.map(map, config), map.inputs(config));
            let [query, key_value, output, gate_up, down] = ALL_MAPS.map(map);
            let bias = &layer.query_key_value_bias;
            let bias = (!bias.is_empty()).then(|| Tensor::from_slice(&values[bias.clone()], bias.len(), device));
            Ok(LayerMirror {
                maps: [query?, key_value?, output?, gate_up?, down?],
                bias: bias.transpose()?,
                attention_gain: gain(&layer.attention_norm)?,
                query_gain: some(&layer.query_norm)?,
                key_gain: some(&layer.key_norm)?,
                attention_post_gain: some(&layer.attention_post_norm)?,
                feed_forward_gain: gain(&layer.feed_forward_norm)?,
                feed_forward_post_gain: some(&layer.feed_forward_post_norm)?,
            })
        };
        let layers = layout.layers.iter().map(layer).collect::<candle_core::Result<_>>()?;
        Ok(Mirror { device: device.clone(), embedding, head, gain: gain(&layout.norm)?, layers })
    }
}
