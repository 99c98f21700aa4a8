//! States of the residual stream, one row per chat: features for probes.

use super::batch::Batch;
use super::chat::Example;
use super::forward::{Activations, Prepared, forward};
use super::weights::Weights;
use crate::ensure;
use crate::error::Result;

/// Which tokens of a chat make its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The mean over the tokens of its answers.
    MeanOfAnswer,
    /// The last token.
    Last,
}

/// The residual stream after block `state` (from 1 to one less than there are), (rows, width), handed to `take` row by
/// row so that nothing but one chat is in memory.
///
/// # Errors
/// A state that the model does not have, a chat without tokens or, for the mean, without an answer.
pub fn row_states(
    weights: &Weights,
    rows: &[Example],
    state: usize,
    position: Position,
    take: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let (layers, width) = (weights.config.layers, weights.config.width);
    ensure!(
        state >= 1 && state < layers,
        "states are taken after a block from 1 to {}, found `{state}`", layers - 1;
        help: "choose one in the middle of the model"
    );
    let prepared = Prepared::new(weights);
    let (mut batch, mut activations) = (Batch::default(), Activations::default());
    for (index, row) in rows.iter().enumerate() {
        ensure!(!row.ids.is_empty(), "row {index} has no tokens");
        batch.clear();
        batch.push(&row.ids, [row.ids.len() - 1]);
        forward(weights, &prepared, &batch, &mut activations);
        let states = || activations.state(state).chunks_exact(width);
        let chosen = |place: usize| match position {
            Position::MeanOfAnswer => row.loss_mask[place],
            Position::Last => place + 1 == row.ids.len(),
        };
        let mut sum = vec![0.0f64; width];
        let mut count = 0;
        for (_, values) in states().enumerate().filter(|(place, _)| chosen(*place)) {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1;
        }
        ensure!(count > 0, "row {index} has no answer"; help: "take the last token: `position: \"last\"`");
        let mean: Vec<f32> = sum.into_iter().map(|sum| (sum / f64::from(count)) as f32).collect();
        take(&mean)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::config::tests::tiny;

    fn row(ids: &[u32]) -> Example {
        let loss_mask = (0..ids.len()).map(|place| place + 1 >= ids.len()).collect();
        Example { ids: ids.to_vec(), loss_mask, weight: 1.0 }
    }

    #[test]
    fn an_answer_of_one_token_is_its_last_token_and_rows_do_not_touch_each_other() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let rows = [row(&[1, 4, 7, 9]), row(&[1, 8, 3])];
        let states = |rows: &[Example], position| {
            let mut found = Vec::new();
            row_states(&weights, rows, 2, position, &mut |state| {
                found.extend_from_slice(state);
                Ok(())
            })
            .map(|()| found)
        };
        let last = states(&rows, Position::Last).unwrap();
        assert_eq!(last, states(&rows, Position::MeanOfAnswer).unwrap());
        assert_eq!(last[weights.config.width..], states(&rows[1..], Position::Last).unwrap());
        assert!(row_states(&weights, &rows, 3, Position::Last, &mut |_| Ok(())).is_err());
    }
}
