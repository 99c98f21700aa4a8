//! The language-model head on a device, in blocks of rows.

use std::ops::Range;

use candle_core::{D, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::block::bend_slope;
use super::mirror::Mirror;
use super::{add_values, failed};
use crate::error;
use crate::model::divergence::{Direction, Side};
use crate::model::head::Target;
use crate::model::weights::Weights;

/// Logits that exist at a time, about; a divergence takes ten times their room.
const LOGITS: usize = 1 << 25;

/// Sum of the losses of some outputs, from their logits, and the gradient of these where one is wanted.
type OfRows<'l> = dyn FnMut(Range<usize>, &Tensor) -> error::Result<(f64, Option<Tensor>)> + 'l;

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
    blocks(weights, mirror, hidden, d_hidden, gradient, &mut |rows, logits| {
        cross_entropy(logits, &targets[rows], wanted).map_err(failed)
    })
}

/// As [`head::surprises`](crate::model::head::surprises) does.
pub fn surprises(
    weights: &Weights,
    mirror: &Mirror,
    hidden: &[f32],
    ids: &[u32],
    found: &mut Vec<f32>,
) -> error::Result<()> {
    blocks(weights, mirror, hidden, &mut [], None, &mut |rows, logits| {
        let (surprises, _) = negative_logarithms(logits, &ids[rows]).map_err(failed)?;
        found.extend(surprises);
        Ok((0.0, None))
    })
    .map(|_| ())
}

/// As [`divergence`](crate::model::divergence::divergence) does, of the trained side from the reference.
pub fn divergence(
    [(trained, mirror), (reference, of_reference)]: [(Side, &Mirror); 2],
    factors: &[f32],
    direction: Direction,
    d_hidden: &mut [f32],
    gradient: Option<(&mut [f32], bool)>,
) -> error::Result<f64> {
    let (wanted, width) = (gradient.is_some(), reference.weights.config.width);
    blocks(trained.weights, mirror, trained.hidden, d_hidden, gradient, &mut |rows, logits| {
        let run = || -> Result<(f64, Option<Tensor>)> {
            let hidden = &reference.hidden[rows.start * width..rows.end * width];
            let hidden = Tensor::from_slice(hidden, (rows.len(), width), &of_reference.device)?;
            let other = project(reference.weights, of_reference, &hidden)?;
            let (log_p, log_q) = (log_softmax(logits)?, log_softmax(&other)?);
            let (p, q, ratio) = (log_p.exp()?, log_q.exp()?, (&log_p - &log_q)?);
            let values = match direction {
                Direction::Forward => gaps(&q, &p, &ratio.neg()?)?,
                Direction::Reverse => gaps(&p, &q, &ratio)?,
            };
            let factors = &factors[rows];
            let told = values.flatten_all()?.to_vec1::<f32>()?;
            let total = told.iter().zip(factors).map(|(value, factor)| f64::from(*factor) * f64::from(*value)).sum();
            let factors = Tensor::from_slice(factors, (factors.len(), 1), logits.device())?;
            let d = || match direction {
                Direction::Forward => (p - q)?.broadcast_mul(&factors),
                Direction::Reverse => (p * ratio.broadcast_sub(&values)?)?.broadcast_mul(&factors),
            };
            Ok((total, wanted.then(d).transpose()?))
        };
        run().map_err(failed)
    })
}

/// KL(a ‖ b) of each row, (rows, 1), with `t` = log(a / b), as the sum of a (t - 1 + e^-t): each part is at least 0, so that
/// nothing cancels when the two are nearly the same.
fn gaps(a: &Tensor, b: &Tensor, t: &Tensor) -> Result<Tensor> {
    let mut series = Tensor::full(1f32 / 720.0, t.shape(), t.device())?;
    for coefficient in [-1.0 / 120.0, 1.0 / 24.0, -1.0 / 6.0, 0.5] {
        series = ((series * t)? + coefficient)?;
    }
    let near = ((a * t.sqr()?)? * series)?;
    let far = (((a * t)? - a)? + b)?;
    t.abs()?.lt(0.25)?.where_cond(&near, &far)?.sum_keepdim(D::Minus1)
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
    let most = (LOGITS / weights.config.vocabulary).clamp(16, 512);
    let (mut total, mut of_head): (f64, Option<Tensor>) = (0.0, None);
    for (block, hidden) in hidden.chunks(most * width).enumerate() {
        let outputs = block * most..block * most + hidden.len() / width;
        let rows = Tensor::from_slice(hidden, (outputs.len(), width), &mirror.device).map_err(failed)?;
        let logits = project(weights, mirror, &rows).map_err(failed)?;
        let (loss, d) = of_rows(outputs, &logits)?;
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
        d_hidden[block * most * width..][..rows.elem_count()].copy_from_slice(&back().map_err(failed)?);
    }
    if let (Some((gradient, false)), Some(of_head)) = (gradient, of_head) {
        add_values(&mut gradient[weights.layout.head.clone()], &of_head).map_err(failed)?;
    }
    Ok(total)
}

/// Sum of the targets' weights times their negative log-likelihood, and the gradient of the logits where one is wanted.
fn cross_entropy(logits: &Tensor, targets: &[Target], wanted: bool) -> Result<(f64, Option<Tensor>)> {
    let (rows, device) = (targets.len(), logits.device());
    let (surprises, ids) = negative_logarithms(logits, &targets.iter().map(|target| target.id).collect::<Vec<_>>())?;
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

/// Negative log-likelihood of each row's token, and the tokens (rows, 1).
fn negative_logarithms(logits: &Tensor, ids: &[u32]) -> Result<(Vec<f32>, Tensor)> {
    let ids = Tensor::from_slice(ids, (ids.len(), 1), logits.device())?;
    let found = (logits.log_sum_exp(D::Minus1)?.unsqueeze(1)? - logits.gather(&ids, 1)?)?;
    Ok((found.flatten_all()?.to_vec1()?, ids))
}

fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    logits.broadcast_sub(&logits.log_sum_exp(D::Minus1)?.unsqueeze(1)?)
}
