//! The divergence between two decoders' distributions of the next token, and its gradient.

use serde::{Deserialize, Serialize};

use super::device;
use super::forward::{Prepared, take};
use super::head::{self, Head};
use super::kernels::{exponentials, sum};
use super::weights::Weights;
use crate::error::Result;

/// Rows of the reference's logits at a time.
const ROWS: usize = 64;
/// Partial sums of a row, so that the compiler can use vectors and every machine adds in the same order.
const LANES: usize = 8;

/// Which distribution the divergence is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// KL(reference ‖ trained), as in distillation: what the reference says must stay likely.
    Forward,
    /// KL(trained ‖ reference): what the trained model says must be likely under the reference.
    Reverse,
}

/// A decoder and its hidden rows (outputs, width) of a batch.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Values.
    pub weights: &'a Weights,
    /// The same, laid out.
    pub prepared: &'a Prepared,
    /// Input of the language-model head.
    pub hidden: &'a [f32],
}

/// Buffers; they grow and stay.
#[derive(Default)]
pub struct Divergence {
    /// With the gradient of the trained decoder's hidden rows.
    pub head: Head,
    reference: Vec<f32>,
    ratio: Vec<f32>,
}

/// Sum over the outputs of `factors` times the divergence, in nats: at least 0, and exactly 0 where both decoders have the
/// same logits. With a `gradient`, the trained decoder's head is added to, and `buffers.head.d_hidden` is the gradient of
/// its hidden rows; the reference does not move.
pub fn divergence(
    trained: Side,
    reference: Side,
    factors: &[f32],
    direction: Direction,
    buffers: &mut Divergence,
    gradient: Option<&mut [f32]>,
) -> Result<f64> {
    if let (Some(of_trained), Some(of_reference)) = (&trained.prepared.mirror, &reference.prepared.mirror) {
        let gradient = gradient.map(|gradient| (gradient, trained.prepared.adapters.is_some()));
        let d_hidden = buffers.head.d_hidden_of(trained.hidden);
        let sides = [(trained, &**of_trained), (reference, &**of_reference)];
        return device::head::divergence(sides, factors, direction, d_hidden, gradient);
    }
    let (width, vocabulary) = (reference.weights.config.width, reference.weights.config.vocabulary);
    let Divergence { head, reference: of_reference, ratio } = buffers;
    let ratio = take(ratio, vocabulary);
    let of_row = |row: usize, logits: &mut [f32]| {
        if row.is_multiple_of(ROWS) {
            let end = factors.len().min(row + ROWS);
            let hidden = &reference.hidden[row * width..end * width];
            head::logits(reference.weights, reference.prepared, hidden, of_reference)?;
        }
        let other = &mut of_reference[row % ROWS * vocabulary..][..vocabulary];
        Ok(f64::from(factors[row]) * f64::from(row_divergence(logits, other, ratio, direction, factors[row])))
    };
    head::loss_of_rows(trained.weights, trained.prepared, trained.hidden, head, gradient, of_row)
}

/// Divergence of one row of logits, which become `factor` times its gradient; the reference's logits become
/// probabilities, `ratio` is a buffer.
fn row_divergence(
    logits: &mut [f32],
    reference: &mut [f32],
    ratio: &mut [f32],
    direction: Direction,
    factor: f32,
) -> f32 {
    for ((ratio, logit), reference) in ratio.iter_mut().zip(&*logits).zip(&*reference) {
        *ratio = logit - reference;
    }
    let shift = probabilities(logits) - probabilities(reference);
    ratio.iter_mut().for_each(|ratio| *ratio -= shift);
    let (p, q) = (logits, reference);
    match direction {
        Direction::Forward => {
            let value = sum_of_gaps(q, p, ratio, -1.0);
            p.iter_mut().zip(q).for_each(|(p, q)| *p = factor * (*p - *q));
            value
        }
        Direction::Reverse => {
            let value = sum_of_gaps(p, q, ratio, 1.0);
            p.iter_mut().zip(ratio).for_each(|(p, ratio)| *p *= factor * (*ratio - value));
            value
        }
    }
}

/// Turns logits into probabilities and returns the logarithm of the sum of their exponentials.
fn probabilities(logits: &mut [f32]) -> f32 {
    let log_sum = exponentials(logits, 1.0);
    let inverse = 1.0 / sum(logits);
    logits.iter_mut().for_each(|value| *value *= inverse);
    log_sum
}

/// KL(a ‖ b) with `sign` times `ratio` = log(a / b), as the sum of a (t - 1 + e^-t), t = log(a / b): each part is at least
/// 0, so that nothing cancels when the two are nearly the same.
fn sum_of_gaps(a: &[f32], b: &[f32], ratio: &[f32], sign: f32) -> f32 {
    let gap = |a: f32, b: f32, t: f32| {
        let series = t * t * (0.5 + t * (-1.0 / 6.0 + t * (1.0 / 24.0 + t * (-1.0 / 120.0 + t / 720.0))));
        if t.abs() < 0.25 { a * series } else { a * t - a + b }
    };
    let mut lanes = [0.0; LANES];
    let whole = a.len() / LANES * LANES;
    let blocks = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).zip(ratio.as_chunks::<LANES>().0);
    for ((a, b), ratio) in blocks {
        for lane in 0..LANES {
            lanes[lane] += gap(a[lane], b[lane], sign * ratio[lane]);
        }
    }
    let rest = (whole..a.len()).map(|index| gap(a[index], b[index], sign * ratio[index]));
    lanes.into_iter().chain(rest).sum::<f32>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;

    fn exact(logits: &[f32], reference: &[f32], direction: Direction) -> f64 {
        let log_probabilities = |row: &[f32]| {
            let total = row.iter().map(|value| f64::from(*value).exp()).sum::<f64>().ln();
            row.iter().map(|value| f64::from(*value) - total).collect::<Vec<_>>()
        };
        let (p, q) = (log_probabilities(logits), log_probabilities(reference));
        let (from, to) = if direction == Direction::Forward { (q, p) } else { (p, q) };
        from.iter().zip(&to).map(|(from, to)| from.exp() * (from - to)).sum()
    }

    #[test]
    fn a_row_is_the_definition_near_and_far() {
        let mut random = Random::new(2);
        for (count, spread) in [(37, 1e-3), (37, 0.1), (37, 3.0), (501, 10.0), (5, 1.0)] {
            let reference: Vec<f32> = (0..count).map(|_| 3.0 * random.normal() as f32).collect();
            let logits: Vec<f32> = reference.iter().map(|value| value + spread * random.normal() as f32).collect();
            for direction in [Direction::Forward, Direction::Reverse] {
                let run = |logits: &[f32]| {
                    let (mut logits, mut other) = (logits.to_vec(), reference.clone());
                    let value = row_divergence(&mut logits, &mut other, &mut vec![0.0; count], direction, 1.0);
                    (value, logits)
                };
                let (value, gradient) = run(&logits);
                let wanted = exact(&logits, &reference, direction);
                assert!((f64::from(value) - wanted).abs() <= 2e-3 * wanted, "{direction:?} {spread}: {value} {wanted}");
                for place in [0, count / 2, count - 1] {
                    let at = |step: f32| {
                        let mut moved = logits.clone();
                        moved[place] += step;
                        exact(&moved, &reference, direction)
                    };
                    let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                    let scale = gradient.iter().fold(0f32, |most, value| most.max(value.abs()));
                    assert!(
                        (slope - f64::from(gradient[place])).abs() <= 2e-2 * f64::from(scale) + 2e-6,
                        "{direction:?} {spread} {place}: {slope} {}",
                        gradient[place]
                    );
                }
            }
        }
    }

    #[test]
    fn equal_rows_have_no_divergence_and_no_gradient() {
        let mut random = Random::new(3);
        let row: Vec<f32> = (0..37).map(|_| 5.0 * random.normal() as f32).collect();
        for direction in [Direction::Forward, Direction::Reverse] {
            let mut logits = row.clone();
            let value = row_divergence(&mut logits, &mut row.clone(), &mut [0.0; 37], direction, 1.0);
            assert_eq!(value, 0.0);
            assert!(logits.iter().all(|gradient| *gradient == 0.0));
        }
    }
}
