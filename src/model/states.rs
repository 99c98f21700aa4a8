//! States of the residual stream, one row per chat: features for probes.

use super::batch::Batch;
use super::chat::Example;
use super::forward::{Activations, Prepared, forward_edited};
use super::sample::Steering;
use super::weights::Weights;
use crate::ensure;
use crate::error::Result;

/// Which tokens of a chat make its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The mean over the tokens of its answers.
    MeanOfAnswer,
    /// The mean over all tokens.
    MeanOfAll,
    /// The last token.
    Last,
    /// The last token before its first answer, from which that answer is drawn.
    LastOfPrompt,
}

/// Reads chats one by one, so that nothing but one chat is in memory.
pub struct StateReader<'a> {
    weights: &'a Weights,
    prepared: Prepared,
    steering: &'a [Steering],
    states: &'a [usize],
    position: Position,
    batch: Batch,
    activations: Activations,
}

impl<'a> StateReader<'a> {
    /// A reader of the residual stream after these blocks (each from 1 to as many as there are), of a model that is
    /// steered while it reads.
    ///
    /// # Errors
    /// A state that the model does not have.
    pub fn new(
        weights: &'a Weights,
        steering: &'a [Steering],
        states: &'a [usize],
        position: Position,
    ) -> Result<Self> {
        let layers = weights.config.layers;
        for state in states {
            ensure!(
                (1..=layers).contains(state),
                "states are taken after a block from 1 to {layers}, found `{state}`";
                help: "choose one in the middle of the model"
            );
        }
        steering.iter().try_for_each(|steering| steering.check(&weights.config))?;
        let (batch, activations) = (Batch::default(), Activations::default());
        Ok(StateReader { weights, prepared: Prepared::new(weights)?, steering, states, position, batch, activations })
    }

    /// One row of each state, in the order of the states; `index` is what errors call the chat.
    ///
    /// # Errors
    /// A chat without tokens or, where one is needed, without an answer.
    pub fn read(&mut self, index: usize, chat: &Example) -> Result<Vec<Vec<f32>>> {
        let (length, width) = (chat.ids.len(), self.weights.config.width);
        ensure!(length > 0, "row {index} has no tokens");
        // A steered answer is changed from the token on that it is drawn from, as when it is sampled.
        let answer = chat.loss_mask.iter().position(|flag| *flag).unwrap_or(length);
        let edits: Vec<_> =
            self.steering.iter().map(|steering| steering.edit(length, answer.saturating_sub(1))).collect();
        let chosen = |place: usize| match self.position {
            Position::MeanOfAnswer => chat.loss_mask[place],
            Position::MeanOfAll => true,
            Position::Last => place + 1 == length,
            Position::LastOfPrompt => place + 1 == answer && answer < length,
        };
        let chosen: Vec<usize> = (0..length).filter(|place| chosen(*place)).collect();
        ensure!(!chosen.is_empty(), "row {index} has no answer"; help: "take the last token: `position: \"last\"`");
        // The last block computes the rows that are wanted of it, and one at the least.
        let layers = self.weights.config.layers;
        let top = self.states.contains(&layers);
        self.batch.clear();
        self.batch.push(&chat.ids, if top { chosen.clone() } else { vec![length - 1] });
        forward_edited(self.weights, &self.prepared, &self.batch, &edits, &mut self.activations)?;
        let mean = |state: &usize| {
            let (mut sum, values) = (vec![0.0f64; width], self.activations.state(*state)?);
            for (output, place) in chosen.iter().enumerate() {
                let row = if *state == layers { output } else { *place };
                let values = &values[row * width..][..width];
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            Ok(sum.into_iter().map(|sum| (sum / chosen.len() as f64) as f32).collect())
        };
        self.states.iter().map(mean).collect()
    }
}

/// The residual stream after block `state`, (rows, width), handed to `take` row by row.
///
/// # Errors
/// As those of [`StateReader`].
pub fn row_states(
    weights: &Weights,
    rows: &[Example],
    state: usize,
    position: Position,
    take: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let states = [state];
    let mut reader = StateReader::new(weights, &[], &states, position)?;
    for (index, row) in rows.iter().enumerate() {
        take(&reader.read(index, row)?[0])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::config::tests::tiny;
    use crate::model::tap::Change;

    fn row(ids: &[u32]) -> Example {
        let loss_mask = (0..ids.len()).map(|place| place + 1 >= ids.len()).collect();
        Example { ids: ids.to_vec(), loss_mask, weight: 1.0 }
    }

    fn states(weights: &Weights, rows: &[Example], position: Position) -> Vec<f32> {
        let mut found = Vec::new();
        row_states(weights, rows, 2, position, &mut |state| {
            found.extend_from_slice(state);
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn an_answer_of_one_token_is_its_last_token_and_rows_do_not_touch_each_other() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let rows = [row(&[1, 4, 7, 9]), row(&[1, 8, 3])];
        let last = states(&weights, &rows, Position::Last);
        assert_eq!(last, states(&weights, &rows, Position::MeanOfAnswer));
        assert_eq!(last[weights.config.width..], states(&weights, &rows[1..], Position::Last));
        for state in [0, 4] {
            assert!(row_states(&weights, &rows, state, Position::Last, &mut |_| Ok(())).is_err());
        }
    }

    #[test]
    fn positions_are_parts_of_one_chat() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let (chat, width) = (row(&[1, 4, 7, 9]), weights.config.width);
        let of = |ids: &[u32], position| states(&weights, &[row(ids)], position);
        assert_eq!(of(&chat.ids, Position::LastOfPrompt), of(&[1, 4, 7], Position::Last));
        let lasts: Vec<Vec<f32>> = (1..=4).map(|length| of(&chat.ids[..length], Position::Last)).collect();
        let mean = of(&chat.ids, Position::MeanOfAll);
        for channel in 0..width {
            let wanted = lasts.iter().map(|last| f64::from(last[channel])).sum::<f64>() / 4.0;
            assert!((f64::from(mean[channel]) - wanted).abs() < 1e-6);
        }
        let silent = Example { loss_mask: vec![false; 4], ..chat };
        let mut reader = StateReader::new(&weights, &[], &[1], Position::LastOfPrompt).unwrap();
        assert!(reader.read(0, &silent).is_err());
    }

    #[test]
    fn several_states_are_read_at_once_and_steering_stands_in_them() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let chat = row(&[1, 4, 7, 9]);
        let read = |steering: &[Steering], states: &[usize]| {
            StateReader::new(&weights, steering, states, Position::Last).unwrap().read(0, &chat).unwrap()
        };
        let plain = read(&[], &[1, 2]);
        assert_eq!((&plain[..1], &plain[1..]), (&read(&[], &[1])[..], &read(&[], &[2])[..]));
        let vector = vec![0.5; weights.config.width];
        let steered = read(&[Steering { state: 1, prompt: false, change: Change::Add(vector) }], &[1, 2]);
        assert!(steered[0].iter().zip(&plain[0]).all(|(steered, plain)| (steered - plain - 0.5).abs() < 1e-6));
        assert_ne!(steered[1], plain[1]);
    }

    #[test]
    fn the_last_state_is_what_the_head_reads_before_its_norm() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let (chat, places) = (Example { loss_mask: vec![false, true, false, true], ..row(&[1, 4, 7, 9]) }, [1, 3]);
        let (prepared, mut activations) = (Prepared::new(&weights).unwrap(), Activations::default());
        let mut batch = Batch::default();
        batch.push(&chat.ids, places);
        let vector: Vec<f32> = (0..24).map(|channel| channel as f32 / 5.0).collect();
        let steering = [Steering { state: 3, prompt: false, change: Change::Add(vector.clone()) }];
        forward_edited(&weights, &prepared, &batch, &[], &mut activations).unwrap();
        let last = activations.state(3).unwrap();
        let read = |steering: &[Steering], states: &[usize]| {
            StateReader::new(&weights, steering, states, Position::MeanOfAnswer).unwrap().read(0, &chat).unwrap()
        };
        let (found, steered) = (read(&[], &[2, 3]), read(&steering, &[3]));
        assert_eq!(found[0], read(&[], &[2])[0]);
        for channel in 0..24 {
            assert!((found[1][channel] - (last[channel] + last[24 + channel]) / 2.0).abs() < 1e-6);
            assert!((steered[0][channel] - found[1][channel] - vector[channel]).abs() < 1e-5);
        }
    }
}
