//! Passes over a model on a device of candle's, such as a GPU.
//!
//! A device computes the decoder's passes and nothing else: objectives, planes, the optimizer and the draws of sampling
//! stay on this processor, where each exists once. Values and gradients cross over at every step of a training of all
//! values; of adapters, the adapters alone.

mod block;
mod frame;
pub(super) mod head;
mod mirror;
pub(super) mod passes;
pub(super) mod sampling;

#[cfg(test)]
mod tests;

pub use mirror::Mirror;

use candle_core::Tensor;

use crate::error::Error;

/// Most tokens that pass through a device at a time, if no sequence alone has more.
pub const PASS_TOKENS: usize = 4096;

/// A device's own failure: its memory is full, or it went away.
fn failed(error: candle_core::Error) -> Error {
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or("no reason was given").to_string();
    let told = reason.to_lowercase().replace(['_', ' '], "");
    let full = ["outofmemory", "insufficientmemory", "allocfailed", "failedtocreatemetalresource"];
    let full = full.iter().any(|words| told.contains(words));
    match full {
        true => Error::environment(format!("the memory of the device is full: {reason}")).with_help(
            "train fewer tokens at a time (`batch_tokens`), with `lora`, or fewer calls side by side (`--jobs`)",
        ),
        false => Error::environment(format!("the device failed: {reason}")),
    }
}

/// Adds a tensor's values to as many of this processor's.
fn add_values(sum: &mut [f32], tensor: &Tensor) -> candle_core::Result<()> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    super::kernels::add(sum, &values);
    Ok(())
}
