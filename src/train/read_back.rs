//! The proof that what was saved is what was trained.

use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::chat::Example;
use crate::model::forward::{Activations, Prepared, forward};
use crate::model::head;
use crate::model::weights::Weights;

/// Reads a `model.safetensors` back and compares its logits on a row with those of the weights that it was made from.
///
/// # Errors
/// A logit that differs in any bit.
pub fn check_saved(weights: &Weights, bytes: &[u8], row: &Example) -> Result<()> {
    let read = Weights::from_safetensors(&weights.config, bytes)?.on(weights.processor);
    check_equal(weights, &read, row)
}

/// Compares the logits of two sets of weights on a row.
///
/// # Errors
/// A logit that differs in any bit.
pub fn check_equal(weights: &Weights, read: &Weights, row: &Example) -> Result<()> {
    let (trained, read) = (logits(weights, row)?, logits(read, row)?);
    let differ = trained.iter().zip(&read).filter(|(trained, read)| trained.to_bits() != read.to_bits()).count();
    if differ > 0 || trained.len() != read.len() {
        let message = format!("{differ} of {} logits differ after saving and reading back", trained.len());
        return Err(Error::internal(message).with_help("look at the disk, and report this"));
    }
    Ok(())
}

fn logits(weights: &Weights, row: &Example) -> Result<Vec<f32>> {
    let prepared = Prepared::new(weights)?;
    let (mut batch, mut activations, mut logits) = (Batch::default(), Activations::default(), Vec::new());
    let count = row.ids.len().min(weights.config.context);
    batch.push(&row.ids[..count], 0..count);
    forward(weights, &prepared, &batch, &mut activations)?;
    head::logits(weights, &prepared, activations.hidden(), &mut logits)?;
    Ok(logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::config::tests::tiny;

    #[test]
    fn one_changed_bit_is_seen() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let row = Example { ids: vec![1, 5, 9, 2], loss_mask: vec![true; 4], weight: 1.0 };
        check_saved(&weights, &weights.to_safetensors().unwrap(), &row).unwrap();
        let mut other = weights.clone();
        let place = other.layout.layers[1].down.start;
        other.values[place] = f32::from_bits(other.values[place].to_bits() ^ 1 << 18);
        assert_eq!(check_equal(&weights, &other, &row).unwrap_err().kind, Kind::Internal);
    }
}
