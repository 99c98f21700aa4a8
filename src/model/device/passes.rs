//! The decoder's forward and backward pass on a device.
//!
//! Only what goes into each block is kept; on the way back each block is computed again, so that a device holds the
//! values of one block at a time.

use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor};

use super::block::{Block, norm_backward};
use super::failed;
use super::frame::Frame;
use super::mirror::Mirror;
use crate::error;
use crate::model::adapter::Adapters;
use crate::model::batch::Batch;
use crate::model::forward::Prepared;
use crate::model::kernels::add;
use crate::model::tap::{Change, Edit, Rows, Taps};
use crate::model::weights::Weights;

/// What a forward pass left on a device.
pub struct Trace {
    frame: Frame,
    /// (rows, width): the residual stream before each block.
    inputs: Vec<Tensor>,
    /// (outputs, width): the residual stream after the last block.
    last: Tensor,
    /// States that somebody has looked at.
    states: Vec<OnceLock<Vec<f32>>>,
}

impl Trace {
    /// A state of the residual stream, as [`Activations::state`](crate::model::forward::Activations::state) gives it.
    pub fn state(&self, state: usize) -> error::Result<&[f32]> {
        let place = state.min(self.inputs.len());
        if let Some(values) = self.states[place].get() {
            return Ok(values);
        }
        let tensor = self.inputs.get(place).unwrap_or(&self.last);
        let values = tensor.flatten_all().and_then(|values| values.to_vec1()).map_err(failed)?;
        Ok(self.states[place].get_or_init(|| values))
    }
}

/// The block at this index of a mirrored decoder; adapters drop none of their inputs where there is no batch.
pub(super) fn block<'a>(
    weights: &'a Weights,
    mirror: &'a Mirror,
    adapters: Option<&'a Adapters>,
    index: usize,
    batch: Option<&'a Batch>,
) -> Block<'a> {
    let config = &weights.config;
    Block {
        config,
        layer: &weights.layout.layers[index],
        tensors: &mirror.layers[index],
        adapters,
        index,
        scoring: config.variant.scoring(index, config.head_width()),
        noise: batch.and_then(|batch| batch.noise),
        outputs: batch.map_or(&[], |batch| &batch.outputs),
    }
}

/// Runs the decoder; `hidden` becomes the outputs' rows (outputs, width) behind the last norm.
pub fn forward(
    weights: &Weights,
    (prepared, mirror): (&Prepared, &Mirror),
    batch: &Batch,
    edits: &[Edit],
    hidden: &mut Vec<f32>,
) -> error::Result<Trace> {
    if batch.outputs.is_empty() {
        return Err(error::Error::internal("a pass on a device has no outputs"));
    }
    let run = || -> Result<(Trace, Vec<f32>)> {
        let (config, device) = (&weights.config, &mirror.device);
        let frame = Frame::new(config, batch, device)?;
        let mut stream = embed(weights, mirror, &batch.ids)?;
        stream = edit(edits, 0, batch, false, stream)?;
        let mut inputs = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let (above, _) =
                block(weights, mirror, prepared.adapters.as_ref(), index, Some(batch)).forward(&frame, &stream)?;
            inputs.push(std::mem::replace(&mut stream, above));
            if index + 1 < config.layers {
                stream = edit(edits, index + 1, batch, false, stream)?;
            }
        }
        let last = edit(edits, config.layers, batch, true, stream.index_select(&outputs(batch, device)?, 0)?)?;
        let hidden = candle_nn::ops::rms_norm(&last, &mirror.gain, config.norm_epsilon as f32)?;
        let states = (0..=config.layers).map(|_| OnceLock::new()).collect();
        Ok((Trace { frame, inputs, last, states }, hidden.flatten_all()?.to_vec1()?))
    };
    let (trace, found) = run().map_err(failed)?;
    *hidden = found;
    Ok(trace)
}

/// Adds to `gradient` what follows from `d_hidden` and the injections, as
/// [`backward_tapped`](crate::model::backward::backward_tapped) does.
pub fn backward(
    weights: &Weights,
    (prepared, mirror): (&Prepared, &Mirror),
    batch: &Batch,
    trace: &Trace,
    d_hidden: &[f32],
    taps: Taps,
    gradient: &mut [f32],
) -> error::Result<()> {
    let mut run = || -> Result<Tensor> {
        let (config, device) = (&weights.config, &mirror.device);
        let (layers, width) = (config.layers, config.width);
        let frozen = prepared.adapters.is_some();
        let d_hidden = Tensor::from_slice(d_hidden, (batch.outputs.len(), width), device)?;
        let of_gain = (!frozen).then(|| &mut gradient[weights.layout.norm.clone()]);
        let d = norm_backward(&trace.last, &mirror.gain, &d_hidden, config.norm_epsilon, of_gain)?;
        let d = tap(taps, layers, batch, true, d)?;
        let mut d =
            Tensor::zeros((batch.ids.len(), width), d.dtype(), device)?.index_add(&outputs(batch, device)?, &d, 0)?;
        for index in (0..layers).rev() {
            let (block, input) =
                (block(weights, mirror, prepared.adapters.as_ref(), index, Some(batch)), &trace.inputs[index]);
            let (_, kept) = block.forward(&trace.frame, input)?;
            d = block.backward(&trace.frame, input, &kept, &d, gradient)?;
            d = tap(taps, index, batch, false, d)?;
        }
        d * f64::from(config.embedding_scale())
    };
    let d = run().map_err(failed)?;
    if prepared.adapters.is_none() {
        let (d, width) = (d.flatten_all().and_then(|d| d.to_vec1::<f32>()).map_err(failed)?, weights.config.width);
        let d_embedding = &mut gradient[weights.layout.embedding.clone()];
        for (id, d) in batch.ids.iter().zip(d.chunks_exact(width)) {
            add(&mut d_embedding[*id as usize * width..][..width], d);
        }
    }
    Ok(())
}

/// The rows of the residual stream with which these tokens begin.
pub(super) fn embed(weights: &Weights, mirror: &Mirror, ids: &[u32]) -> Result<Tensor> {
    let ids = Tensor::from_slice(ids, ids.len(), &mirror.device)?;
    mirror.embedding.index_select(&ids, 0)? * f64::from(weights.config.embedding_scale())
}

pub(super) fn outputs(batch: &Batch, device: &Device) -> Result<Tensor> {
    let outputs: Vec<u32> = batch.outputs.iter().map(|row| *row as u32).collect();
    Tensor::from_vec(outputs, batch.outputs.len(), device)
}

/// Makes the edits of this state in its rows; `selected` says that they are the batch's outputs alone.
pub(super) fn edit(edits: &[Edit], state: usize, batch: &Batch, selected: bool, mut stream: Tensor) -> Result<Tensor> {
    for edit in edits.iter().filter(|edit| edit.state == state) {
        let marks = marks(&edit.rows, batch, selected, stream.device())?;
        stream = change(&edit.change, marks.as_ref(), stream)?;
    }
    Ok(stream)
}

/// Changes the marked rows (rows, width), or all where there are no marks.
pub(super) fn change(change: &Change, marks: Option<&Tensor>, mut stream: Tensor) -> Result<Tensor> {
    let (width, device) = (stream.dim(1)?, stream.device().clone());
    let row = |vector: &[f32]| Tensor::from_slice(vector, (1, width), &device);
    match change {
        Change::Add(vector) => match marks {
            Some(marks) => stream + marks.matmul(&row(vector)?)?,
            None => stream.broadcast_add(&row(vector)?),
        },
        Change::Remove(directions) => {
            for direction in directions {
                stream = remove(&row(direction)?, marks, stream)?;
            }
            Ok(stream)
        }
    }
}

/// Takes the share along `direction` (1, width) out of the marked rows.
fn remove(direction: &Tensor, marks: Option<&Tensor>, stream: Tensor) -> Result<Tensor> {
    let mut share = stream.matmul(&direction.t()?)?; // (rows, 1)
    if let Some(marks) = marks {
        share = (share * marks)?;
    }
    &stream - share.matmul(direction)?
}

/// (rows, 1): 1 where a row is marked, else 0; none where all are.
fn marks(rows: &Rows, batch: &Batch, selected: bool, device: &Device) -> Result<Option<Tensor>> {
    let Rows::Marked(marks) = rows else { return Ok(None) };
    let marked = |row: usize| f32::from(marks.get(row).copied().unwrap_or(false));
    let marks: Vec<f32> = match selected {
        true => batch.outputs.iter().map(|row| marked(*row)).collect(),
        false => (0..batch.ids.len()).map(marked).collect(),
    };
    let count = marks.len();
    Tensor::from_vec(marks, (count, 1), device).map(Some)
}

/// What happens to the gradient of a state on the way back.
fn tap(taps: Taps, state: usize, batch: &Batch, selected: bool, mut d: Tensor) -> Result<Tensor> {
    for injection in taps.injections.iter().filter(|injection| injection.state == state) {
        d = (&d + Tensor::from_slice(&injection.gradient, d.shape(), d.device())?)?;
    }
    for edit in taps.edits.iter().rev().filter(|edit| edit.state == state) {
        let Change::Remove(directions) = &edit.change else { continue };
        let marks = marks(&edit.rows, batch, selected, d.device())?;
        for direction in directions.iter().rev() {
            let direction = Tensor::from_slice(direction, (1, direction.len()), d.device())?;
            d = remove(&direction, marks.as_ref(), d)?;
        }
    }
    Ok(d)
}
