//! The negative log-likelihood of each target by itself, for losses that weigh tokens by how likely they are.

use super::forward::Prepared;
use super::head;
use super::kernels::cross_entropy;
use super::weights::Weights;

/// Rows of logits at a time.
const ROWS: usize = 64;

/// Replaces `surprises` by the negative log-likelihood of each of `ids` given its row of `hidden` (outputs, width), the
/// same bits that [`head::loss`] adds up; `logits` is a buffer.
pub fn surprises(
    weights: &Weights,
    prepared: &Prepared,
    hidden: &[f32],
    ids: impl IntoIterator<Item = u32>,
    logits: &mut Vec<f32>,
    surprises: &mut Vec<f32>,
) {
    let (width, vocabulary) = (weights.config.width, weights.config.vocabulary);
    let mut ids = ids.into_iter();
    surprises.clear();
    for hidden in hidden.chunks(ROWS * width) {
        head::logits(weights, prepared, hidden, logits);
        let rows = logits.chunks_exact_mut(vocabulary).zip(&mut ids);
        surprises.extend(rows.map(|(logits, id)| cross_entropy(logits, id, 0.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::Batch;
    use crate::model::config::tests::tiny;
    use crate::model::forward::{Activations, forward};
    use crate::model::head::{Head, Target};

    #[test]
    fn surprises_add_up_to_the_loss() {
        let weights = Weights::initial(&tiny(), 5).unwrap();
        let prepared = Prepared::new(&weights);
        let (mut batch, mut activations) = (Batch::default(), Activations::default());
        for _ in 0..8 {
            batch.push(&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9], 0..13);
        }
        let ids = |count: usize| (0..count).map(|row| (row * 7 % 37) as u32);
        forward(&weights, &prepared, &batch, &mut activations);
        let (mut logits, mut found) = (Vec::new(), Vec::new());
        surprises(&weights, &prepared, activations.hidden(), ids(104), &mut logits, &mut found);
        let targets: Vec<Target> = ids(104).map(|id| Target { id, weight: 1.0 }).collect();
        let loss = head::loss(&weights, &prepared, activations.hidden(), &targets, &mut Head::default(), None);
        assert_eq!(found.len(), 104);
        assert_eq!(found.iter().map(|surprise| f64::from(*surprise)).sum::<f64>(), loss);
    }
}
