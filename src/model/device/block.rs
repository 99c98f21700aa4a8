//! A block's parts on a device, and their gradients: the same arithmetic as [`block`](super::super::block), in tensors.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{rms_norm, sigmoid, softmax_last_dim};

use super::add_values;
use super::frame::{Frame, Kind};
use super::mirror::LayerMirror;
use crate::model::adapter::{Adapters, At, Map, Place};
use crate::model::config::Config;
use crate::model::kernels::Scoring;
use crate::model::layout::LayerLayout;

/// One block of a decoder on a device.
pub(super) struct Block<'a> {
    pub config: &'a Config,
    pub layer: &'a LayerLayout,
    pub tensors: &'a LayerMirror,
    pub adapters: Option<&'a Adapters>,
    pub index: usize,
    pub scoring: Scoring,
    /// Decides which inputs of adapters are dropped.
    pub noise: Option<u64>,
    /// Rows of a batch whose output is wanted.
    pub outputs: &'a [usize],
}

/// What the forward pass computed of a block, for the way back.
pub(super) struct Kept {
    normed: Tensor,
    /// Heads before their norm, (rows, heads, width); in families with such norms.
    query_raw: Option<Tensor>,
    key_raw: Option<Tensor>,
    /// (sequences, key heads, queries of a group, width).
    queries: Tensor,
    /// (sequences, key heads, longest, width).
    pub keys: Tensor,
    pub values: Tensor,
    /// Scores after their cap and before the mask; in families with a cap.
    capped: Option<Tensor>,
    probabilities: Tensor,
    attended: Tensor,
    above: Above,
}

/// What is computed behind attention.
pub(super) struct Above {
    /// What attention gives, before the norm that follows in some families.
    attention: Tensor,
    middle: Tensor,
    feed_forward_normed: Tensor,
    gate_up: Tensor,
    activated: Tensor,
    feed_forward: Tensor,
}

/// Gradients that a block adds to; none of values that are frozen.
pub(super) type Gradient<'g> = &'g mut [f32];

impl Block<'_> {
    /// The residual stream (rows, width) after the block, and what the way back needs.
    pub fn forward(&self, frame: &Frame, stream: &Tensor) -> Result<(Tensor, Kept)> {
        let kind = frame.kind(self.windowed());
        let normed = self.norm(stream, &self.tensors.attention_gain)?;
        let (queries, query_raw) = self.queries(&normed, kind)?;
        let (keys, values, key_raw) = self.keys_values(&normed, kind)?;
        let groups = self.config.key_value_heads;
        let (keys, values) = (frame.spread(&keys, groups)?, frame.spread(&values, groups)?);
        let queries = self.group(&frame.spread(&queries, self.config.heads)?)?;
        let (probabilities, capped) = self.probabilities(&queries, &keys, &kind.mask)?;
        let attended = self.ungroup(&probabilities.matmul(&values)?, frame.longest)?;
        let attended = frame.gather(&attended)?;
        let (next, above) = self.above(stream, &attended)?;
        let kept = Kept { normed, query_raw, key_raw, queries, keys, values, capped, probabilities, attended, above };
        Ok((next, kept))
    }

    /// The residual stream after the block, from that before it and what attention gathered.
    pub fn above(&self, stream: &Tensor, attended: &Tensor) -> Result<(Tensor, Above)> {
        let attention = self.product(Map::Output, attended)?;
        let middle = (stream + self.after(&attention, &self.tensors.attention_post_gain)?)?;
        let feed_forward_normed = self.norm(&middle, &self.tensors.feed_forward_gain)?;
        let (gate_up, activated) = self.feed_forward(&feed_forward_normed)?;
        let feed_forward = self.product(Map::Down, &activated)?;
        let next = (&middle + self.after(&feed_forward, &self.tensors.feed_forward_post_gain)?)?;
        Ok((next, Above { attention, middle, feed_forward_normed, gate_up, activated, feed_forward }))
    }

    /// The gradient of `stream` from that of the stream after the block, `d`; adds those of the values, or of the
    /// adapters, to `gradient`.
    pub fn backward(
        &self,
        frame: &Frame,
        stream: &Tensor,
        kept: &Kept,
        d: &Tensor,
        gradient: Gradient,
    ) -> Result<Tensor> {
        let (tensors, layer) = (self.tensors, self.layer);
        let (kind, above) = (frame.kind(self.windowed()), &kept.above);
        let d_out = match &tensors.feed_forward_post_gain {
            None => d.clone(),
            Some(gain) => self.norm_backward(&above.feed_forward, gain, d, &layer.feed_forward_post_norm, gradient)?,
        };
        let d_activated = self.product_backward(Map::Down, &d_out, &above.activated, gradient)?;
        let d_gate_up = self.feed_forward_backward(&above.gate_up, &d_activated)?;
        let d_normed = self.product_backward(Map::GateUp, &d_gate_up, &above.feed_forward_normed, gradient)?;
        let (gain, place) = (&tensors.feed_forward_gain, &layer.feed_forward_norm);
        let d_middle = (d + self.norm_backward(&above.middle, gain, &d_normed, place, gradient)?)?;

        let d_out = match &tensors.attention_post_gain {
            None => d_middle.clone(),
            Some(gain) => {
                self.norm_backward(&above.attention, gain, &d_middle, &layer.attention_post_norm, gradient)?
            }
        };
        let d_attended = self.product_backward(Map::Output, &d_out, &kept.attended, gradient)?;
        let d_attended = self.group(&frame.spread(&d_attended, self.config.heads)?)?;
        let p = &kept.probabilities;
        let d_values = p.t()?.matmul(&d_attended)?;
        let d_p = d_attended.matmul(&kept.values.t()?)?;
        let mut d_scores = (p * d_p.broadcast_sub(&(p * &d_p)?.sum_keepdim(D::Minus1)?)?)?;
        if let Some(capped) = &kept.capped {
            d_scores = (d_scores * bend_slope(capped, f64::from(self.scoring.cap))?)?;
        }
        let d_scores = (d_scores * f64::from(self.scoring.scale))?;
        let d_queries = frame.gather(&self.ungroup(&d_scores.matmul(&kept.keys)?, frame.longest)?)?;
        let d_keys = frame.gather(&d_scores.t()?.matmul(&kept.queries)?)?;
        let d_values = frame.gather(&d_values)?;

        let d_queries = rotate(&self.heads(&d_queries)?, &kind.cosine, &kind.sine.neg()?)?;
        let d_keys = rotate(&self.heads(&d_keys)?, &kind.cosine, &kind.sine.neg()?)?;
        let d_queries = match (&tensors.query_gain, &kept.query_raw) {
            (Some(gain), Some(raw)) => self.norm_backward(raw, gain, &d_queries, &layer.query_norm, gradient)?,
            _ => d_queries,
        };
        let d_keys = match (&tensors.key_gain, &kept.key_raw) {
            (Some(gain), Some(raw)) => self.norm_backward(raw, gain, &d_keys, &layer.key_norm, gradient)?,
            _ => d_keys,
        };
        let d_queries = d_queries.flatten_from(1)?;
        let d_keys_values = Tensor::cat(&[&d_keys.flatten_from(1)?, &d_values], 1)?;
        if tensors.bias.is_some() && self.adapters.is_none() {
            let d_bias = Tensor::cat(&[d_queries.sum(0)?, d_keys_values.sum(0)?], 0)?;
            add_values(&mut gradient[layer.query_key_value_bias.clone()], &d_bias)?;
        }
        let d_normed = (self.product_backward(Map::Query, &d_queries, &kept.normed, gradient)?
            + self.product_backward(Map::KeyValue, &d_keys_values, &kept.normed, gradient)?)?;
        let (gain, place) = (&tensors.attention_gain, &layer.attention_norm);
        d_middle + self.norm_backward(stream, gain, &d_normed, place, gradient)?
    }

    /// Whether the block sees through a window.
    pub fn windowed(&self) -> bool {
        self.config.variant.is_windowed(self.index)
    }

    /// Rows / rms(rows) · gain over the last dimension.
    pub fn norm(&self, rows: &Tensor, gain: &Tensor) -> Result<Tensor> {
        rms_norm(&rows.contiguous()?, gain, self.config.norm_epsilon as f32)
    }

    /// Rotated queries (rows, heads · width) of normed rows, and the heads before their norm where there is one.
    pub fn queries(&self, normed: &Tensor, kind: &Kind) -> Result<(Tensor, Option<Tensor>)> {
        let projected = self.biased(self.product(Map::Query, normed)?, 0)?;
        self.rotated(&projected, &self.tensors.query_gain, kind)
    }

    /// Rotated keys and values (rows, key heads · width) of normed rows, and the keys' heads before their norm.
    pub fn keys_values(&self, normed: &Tensor, kind: &Kind) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let key = self.config.key_width();
        let projected = self.biased(self.product(Map::KeyValue, normed)?, self.config.query_width())?;
        let (keys, raw) = self.rotated(&projected.narrow(1, 0, key)?, &self.tensors.key_gain, kind)?;
        Ok((keys, projected.narrow(1, key, key)?, raw))
    }

    fn biased(&self, projected: Tensor, first: usize) -> Result<Tensor> {
        match &self.tensors.bias {
            Some(bias) => projected.broadcast_add(&bias.narrow(0, first, projected.dim(1)?)?),
            None => Ok(projected),
        }
    }

    fn rotated(&self, projected: &Tensor, gain: &Option<Tensor>, kind: &Kind) -> Result<(Tensor, Option<Tensor>)> {
        let heads = self.heads(projected)?;
        let (heads, raw) = match gain {
            Some(gain) => (self.norm(&heads, gain)?, Some(heads)),
            None => (heads, None),
        };
        Ok((rotate(&heads, &kind.cosine, &kind.sine)?.flatten_from(1)?, raw))
    }

    /// (rows, heads · width) to (rows, heads, width).
    fn heads(&self, rows: &Tensor) -> Result<Tensor> {
        let (count, channels) = rows.dims2()?;
        let width = self.config.head_width();
        rows.contiguous()?.reshape((count, channels / width, width))
    }

    /// (sequences, heads, queries, width) to (sequences, key heads, queries of a group, width): each key head serves a
    /// run of query heads.
    pub fn group(&self, heads: &Tensor) -> Result<Tensor> {
        let (sequences, count, queries, width) = heads.dims4()?;
        let groups = self.config.key_value_heads;
        heads.reshape((sequences, groups, count / groups * queries, width))
    }

    /// The other way.
    pub fn ungroup(&self, grouped: &Tensor, queries: usize) -> Result<Tensor> {
        let (sequences, _, _, width) = grouped.dims4()?;
        grouped.reshape((sequences, self.config.heads, queries, width))
    }

    /// Attention's probabilities (sequences, key heads, queries of a group, keys), and the scores after their cap where
    /// there is one. The mask is (queries, keys), or of every sequence, (sequences, 1, 1, queries, keys).
    pub fn probabilities(&self, queries: &Tensor, keys: &Tensor, mask: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let (sequences, groups, rows, _) = queries.dims4()?;
        let count = sequences * groups * rows * keys.dim(2)?;
        if count > i32::MAX as usize {
            // Beyond this, kernels count wrongly.
            candle_core::bail!("a text of {} tokens is too long for attention on a device", keys.dim(2)?);
        }
        let scores = (queries.matmul(&keys.t()?)? * f64::from(self.scoring.scale))?;
        let cap = f64::from(self.scoring.cap);
        let capped = if cap > 0.0 { Some(((scores.clone() / cap)?.tanh()? * cap)?) } else { None };
        let scores = capped.as_ref().unwrap_or(&scores);
        let keys = scores.dim(3)?;
        let queries = mask.dim(D::Minus2)?;
        let seen = scores.reshape((sequences, groups, rows / queries, queries, keys))?.broadcast_add(mask)?;
        let probabilities = softmax_last_dim(&seen)?.reshape((sequences, groups, rows, keys))?;
        Ok((probabilities, capped))
    }

    /// A branch behind the norm that follows it, where one does.
    fn after(&self, branch: &Tensor, gain: &Option<Tensor>) -> Result<Tensor> {
        gain.as_ref().map_or_else(|| Ok(branch.clone()), |gain| self.norm(branch, gain))
    }

    /// Gate and up of normed rows, and their product behind the gate's function.
    fn feed_forward(&self, normed: &Tensor) -> Result<(Tensor, Tensor)> {
        let gate_up = self.product(Map::GateUp, normed)?;
        let (gate, up) = self.gate_and_up(&gate_up)?;
        let gate = if self.config.variant.family.is_gemma() { gelu(&gate)?.0 } else { gate.silu()? };
        Ok((gate_up, (gate * up)?))
    }

    fn feed_forward_backward(&self, gate_up: &Tensor, d: &Tensor) -> Result<Tensor> {
        let (gate, up) = self.gate_and_up(gate_up)?;
        let (value, slope) = if self.config.variant.family.is_gemma() {
            gelu(&gate)?
        } else {
            let open = sigmoid(&gate)?;
            let value = (&gate * &open)?;
            // s + g s (1 - s)
            let slope = (&open + (&value - (&value * &open)?)?)?;
            (value, slope)
        };
        Tensor::cat(&[((d * up)? * slope)?, (d * value)?], 1)
    }

    fn gate_and_up(&self, gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = self.config.feed_forward;
        Ok((gate_up.narrow(1, 0, inner)?.contiguous()?, gate_up.narrow(1, inner, inner)?.contiguous()?))
    }

    /// A map of rows (rows, inputs), with its adapters.
    fn product(&self, map: Map, rows: &Tensor) -> Result<Tensor> {
        let mut output = rows.matmul(&self.tensors.maps[map as usize].t()?)?;
        for (adapters, place) in self.places(map) {
            let (a, b) = factors(adapters, place, rows)?;
            let kept = self.kept(map, adapters, place, rows)?;
            let input = kept.map_or_else(|| Ok(rows.clone()), |kept| rows * kept)?;
            let part = (input.matmul(&a.t()?)? * f64::from(adapters.scale))?.matmul(&b.t()?)?;
            let after = output.dim(1)? - place.outputs.end;
            output = (output + part.pad_with_zeros(1, place.outputs.start, after)?)?;
        }
        Ok(output)
    }

    /// The gradient of `rows` from that of their [`Block::product`]; adds that of the map's values, or of its adapters.
    fn product_backward(&self, map: Map, d: &Tensor, rows: &Tensor, gradient: Gradient) -> Result<Tensor> {
        let mut d_rows = d.matmul(&self.tensors.maps[map as usize])?;
        if self.adapters.is_none() {
            add_values(&mut gradient[self.layer.map(map, self.config)], &d.t()?.matmul(rows)?)?;
        }
        for (adapters, place) in self.places(map) {
            let (a, b) = factors(adapters, place, rows)?;
            let kept = self.kept(map, adapters, place, rows)?;
            let input = kept.as_ref().map_or_else(|| Ok(rows.clone()), |kept| rows * kept)?;
            let scale = f64::from(adapters.scale);
            let d = d.narrow(1, place.outputs.start, place.outputs.len())?.contiguous()?;
            let low = (input.matmul(&a.t()?)? * scale)?; // (rows, rank)
            add_values(&mut gradient[place.b.clone()], &d.t()?.matmul(&low)?)?;
            let d_low = (d.matmul(&b)? * scale)?; // (rows, rank)
            add_values(&mut gradient[place.a.clone()], &d_low.t()?.matmul(&input)?)?;
            let d_input = d_low.matmul(&a)?;
            d_rows = (d_rows + kept.map_or_else(|| Ok(d_input.clone()), |kept| &d_input * kept)?)?;
        }
        Ok(d_rows)
    }

    fn places(&self, map: Map) -> impl Iterator<Item = (&Adapters, &Place)> {
        let places =
            move |adapters| Adapters::places(adapters, self.index, map).iter().map(move |place| (adapters, place));
        self.adapters.into_iter().flat_map(places)
    }

    /// Factors (rows, inputs) of an adapter's inputs, 0 where they are dropped; none where nothing is.
    fn kept(&self, map: Map, adapters: &Adapters, place: &Place, rows: &Tensor) -> Result<Option<Tensor>> {
        if self.noise.is_none() || adapters.dropout == 0.0 {
            return Ok(None);
        }
        let (count, inputs) = rows.dims2()?;
        let at = At { layer: self.index, map, noise: self.noise };
        // Of the last block, our own arithmetic computes the outputs' rows alone; the others change nothing.
        let selected = self.index + 1 == self.config.layers && map != Map::KeyValue;
        let mut factors = vec![1.0; if selected { self.outputs.len() } else { count } * inputs];
        adapters.drop(at, place, &mut factors);
        if selected {
            let mut all = vec![1.0; count * inputs];
            for (factors, row) in factors.chunks_exact(inputs).zip(self.outputs) {
                all[row * inputs..][..inputs].copy_from_slice(factors);
            }
            factors = all;
        }
        Tensor::from_vec(factors, (count, inputs), rows.device()).map(Some)
    }

    /// The gradient of `rows` from that of their norm; adds that of the gain, which stands at `place`, unless it is
    /// frozen.
    fn norm_backward(
        &self,
        rows: &Tensor,
        gain: &Tensor,
        d: &Tensor,
        place: &std::ops::Range<usize>,
        gradient: Gradient,
    ) -> Result<Tensor> {
        let gradient = self.adapters.is_none().then(|| &mut gradient[place.clone()]);
        norm_backward(rows, gain, d, self.config.norm_epsilon, gradient)
    }
}

/// The gradient of `rows` from that of rows / rms(rows) · gain; adds that of the gain where one is wanted.
pub(super) fn norm_backward(
    rows: &Tensor,
    gain: &Tensor,
    d: &Tensor,
    epsilon: f64,
    gradient: Option<Gradient>,
) -> Result<Tensor> {
    let inverse = (rows.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?.recip()?;
    let unit = rows.broadcast_mul(&inverse)?;
    if let Some(gradient) = gradient {
        let channels = gain.dim(0)?;
        add_values(gradient, &(d * &unit)?.reshape(((), channels))?.sum(0)?)?;
    }
    let d = d.broadcast_mul(gain)?;
    let share = (&d * &unit)?.mean_keepdim(D::Minus1)?;
    (d - unit.broadcast_mul(&share)?)?.broadcast_mul(&inverse)
}

/// Rotates heads (rows, heads, width) by angles of (rows, 1, width / 2).
fn rotate(heads: &Tensor, cosine: &Tensor, sine: &Tensor) -> Result<Tensor> {
    let half = heads.dim(2)? / 2;
    let (low, high) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let turned_low = (low.broadcast_mul(cosine)? - high.broadcast_mul(sine)?)?;
    let turned_high = (high.broadcast_mul(cosine)? + low.broadcast_mul(sine)?)?;
    Tensor::cat(&[turned_low, turned_high], 2)
}

/// The slope of cap · tanh(x / cap) where that is `bent`.
pub(super) fn bend_slope(bent: &Tensor, cap: f64) -> Result<Tensor> {
    (bent / cap)?.sqr()?.affine(-1.0, 1.0)
}

/// GELU in its tanh form, and its slope.
fn gelu(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (factor, cubic) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
    let square = x.sqr()?;
    let bent = ((x * square.affine(cubic, 1.0)?)? * factor)?.tanh()?;
    let half = bent.affine(0.5, 0.5)?;
    let inner = (square.affine(3.0 * cubic, 1.0)? * factor)?;
    let slope = (&half + ((x * 0.5)? * (bent.sqr()?.affine(-1.0, 1.0)? * inner)?)?)?;
    Ok(((x * half)?, slope))
}

/// An adapter's A (rank, inputs) and B (outputs, rank), where the rows are.
fn factors(adapters: &Adapters, place: &Place, rows: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rank, device) = (adapters.rank, rows.device());
    let a = Tensor::from_slice(&adapters.values[place.a.clone()], (rank, place.inputs), device)?;
    let b = Tensor::from_slice(&adapters.values[place.b.clone()], (place.outputs.len(), rank), device)?;
    Ok((a, b))
}
