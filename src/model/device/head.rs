//! The language-model head on a device, in blocks of rows.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::block::bend_slope;
use super::mirror::Mirror;
use super::{add_values, failed};
use crate::error;
use crate::model::head::Target;
use crate::model::weights::Weights;

/// Rows of logits at a time.
const ROWS: usize = 512;

/// Sum of the losses of rows of logits and the gradient of these logits, in their place.
type OfRows<'l> = dyn FnMut(usize, &Tensor) -> error::Result<(f64, Option<Tensor>)> + 'l;

/// As [`head::loss`](crate::model::head::loss) does; the gradient of the hidden rows is written to `d_hidden`.
pub fn loss(
    weights: &Weights,
    mirror: &Mirror,
    hidden: &[f32],
    targets: &[Target],
    d_hidden: &mut [f32],
    gradient: Option<(&mut [f32], bool)>,
) -> error::Result<f64> {
    let wanted = gradient.is_some();
    blocks(weights, mirror, hidden, d_hidden, gradient, &mut |first, logits| {
        cross_entropy(logits, &targets[first..first + logits.dim(0).map_err(failed)?], wanted).map_err(failed)
    })
}

/// As [`head::loss_of_rows`](crate::model::head::loss_of_rows) does: rows of logits come to this processor, and their
/// gradients go back.
pub fn loss_of_rows(
    weights: &Weights,
    mirror: &Mirror,
    hidden: &[f32],
    d_hidden: &mut [f32],
    gradient: Option<(&mut [f32], bool)>,
    of_row: &mut dyn FnMut(usize, &mut [f32]) -> error::Result<f64>,
) -> error::Result<f64> {
    let wanted = gradient.is_some();
    blocks(weights, mirror, hidden, d_hidden, gradient, &mut |first, logits| {
        let vocabulary = weights.config.vocabulary;
        let mut values = logits.flatten_all().and_then(|logits| logits.to_vec1::<f32>()).map_err(failed)?;
        let mut total = 0.0;
        for (row, logits) in values.chunks_exact_mut(vocabulary).enumerate() {
            total += of_row(first + row, logits)?;
        }
        let d = wanted.then(|| Tensor::from_vec(values, logits.shape(), logits.device()).map_err(failed));
        Ok((total, d.transpose()?))
    })
}

/// Logits (outputs, vocabulary) of hidden rows.
pub fn logits(weights: &Weights, mirror: &Mirror, hidden: &[f32], logits: &mut Vec<f32>) -> error::Result<()> {
    logits.clear();
    blocks(weights, mirror, hidden, &mut [], None, &mut |_, block| {
        logits.extend(block.flatten_all().and_then(|block| block.to_vec1::<f32>()).map_err(failed)?);
        Ok((0.0, None))
    })
    .map(|_| ())
}

/// Logits (rows, vocabulary) of hidden rows that are on the device.
pub(super) fn project(weights: &Weights, mirror: &Mirror, hidden: &Tensor) -> Result<Tensor> {
    let logits = hidden.matmul(&mirror.head.t()?)?;
    match weights.config.variant.logit_cap {
        Some(cap) => (logits / cap)?.tanh()? * cap,
        None => Ok(logits),
    }
}

/// Takes the loss of each block of rows; with a gradient, leaves that of the hidden rows in `d_hidden` and adds that of
/// the head unless the values are frozen, which the flag says.
fn blocks(
    weights: &Weights,
    mirror: &Mirror,
    hidden: &[f32],
    d_hidden: &mut [f32],
    gradient: Option<(&mut [f32], bool)>,
    of_rows: &mut OfRows,
) -> error::Result<f64> {
    let (width, cap) = (weights.config.width, weights.config.variant.logit_cap);
    let frozen = gradient.as_ref().is_none_or(|(_, frozen)| *frozen);
    let (mut total, mut of_head): (f64, Option<Tensor>) = (0.0, None);
    for (block, rows) in hidden.chunks(ROWS * width).enumerate() {
        let rows = Tensor::from_slice(rows, (rows.len() / width, width), &mirror.device).map_err(failed)?;
        let logits = project(weights, mirror, &rows).map_err(failed)?;
        let (loss, d) = of_rows(block * ROWS, &logits)?;
        total += loss;
        let Some(mut d) = d else { continue };
        let mut back = || -> Result<Vec<f32>> {
            if let Some(cap) = cap {
                d = (&d * bend_slope(&logits, cap)?)?;
            }
            if !frozen {
                let part = d.t()?.matmul(&rows)?;
                of_head = Some(of_head.take().map_or_else(|| Ok(part.clone()), |sum| sum + &part)?);
            }
            d.matmul(&mirror.head)?.flatten_all()?.to_vec1()
        };
        d_hidden[block * ROWS * width..][..rows.elem_count()].copy_from_slice(&back().map_err(failed)?);
    }
    if let (Some((gradient, false)), Some(of_head)) = (gradient, of_head) {
        add_values(&mut gradient[weights.layout.head.clone()], &of_head).map_err(failed)?;
    }
    Ok(total)
}

/// Sum of the targets' weights times their negative log-likelihood, and the gradient of the logits where one is wanted.
fn cross_entropy(logits: &Tensor, targets: &[Target], wanted: bool) -> Result<(f64, Option<Tensor>)> {
    let (rows, device) = (targets.len(), logits.device());
    let ids: Vec<u32> = targets.iter().map(|target| target.id).collect();
    let ids = Tensor::from_vec(ids, (rows, 1), device)?;
    let surprises = (logits.log_sum_exp(D::Minus1)?.unsqueeze(1)? - logits.gather(&ids, 1)?)?;
    let surprises = surprises.flatten_all()?.to_vec1::<f32>()?;
    let weighed =
        surprises.iter().zip(targets).map(|(surprise, target)| f64::from(*surprise) * f64::from(target.weight));
    let total = weighed.sum();
    if !wanted {
        return Ok((total, None));
    }
    let weights = Tensor::from_vec(targets.iter().map(|target| target.weight).collect(), (rows, 1), device)?;
    let missing = Tensor::full(-1f32, (rows, 1), device)?;
    let d = softmax_last_dim(logits)?.scatter_add(&ids, &missing, 1)?.broadcast_mul(&weights)?;
    Ok((total, Some(d)))
}
