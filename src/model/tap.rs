//! Reaching into the residual stream: adding to it, taking a direction out, and gradients that enter there.
//!
//! State 0 is the embeddings, state k the residual stream after block k (from 1), as the `hidden_states` of
//! transformers count them; the last one stands before the final norm.

use super::batch::Batch;

/// A change of one state, made before the next block reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Which state.
    pub state: usize,
    /// Which rows of it.
    pub rows: Rows,
    /// What happens to each of them.
    pub change: Change,
}

/// Rows of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// All of them.
    All,
    /// Of each row of [`Batch::ids`], whether it is one of them.
    Marked(Vec<bool>),
}

/// What happens to a row of the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This vector is added (steering).
    Add(Vec<f32>),
    /// Its share along these orthonormal directions is taken out (ablation).
    Remove(Vec<Vec<f32>>),
}

/// A gradient that enters at a state, beside that of the outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Which state.
    pub state: usize,
    /// As long as `Activations::state` gives it: of every row of the batch, of the last state of the outputs alone.
    pub gradient: Vec<f32>,
}

/// What a backward pass meets on its way besides the blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taps<'a> {
    /// The edits that the forward pass made.
    pub edits: &'a [Edit],
    /// Gradients of states as they are after the edits.
    pub injections: &'a [Injection],
}

impl Rows {
    /// The batch's outputs.
    pub fn outputs(batch: &Batch) -> Self {
        let mut marks = vec![false; batch.ids.len()];
        batch.outputs.iter().for_each(|row| marks[*row] = true);
        Rows::Marked(marks)
    }
}

impl Change {
    /// Changes one row.
    pub fn apply(&self, row: &mut [f32]) {
        match self {
            Change::Add(vector) => row.iter_mut().zip(vector).for_each(|(value, add)| *value += add),
            Change::Remove(directions) => directions.iter().for_each(|direction| remove(row, direction)),
        }
    }

    /// Turns the gradient of a changed row into that of the row before.
    fn apply_backward(&self, d: &mut [f32]) {
        if let Change::Remove(directions) = self {
            directions.iter().rev().for_each(|direction| remove(d, direction));
        }
    }
}

fn remove(row: &mut [f32], direction: &[f32]) {
    let share: f64 = row.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    row.iter_mut().zip(direction).for_each(|(value, part)| *value -= share as f32 * part);
}

/// Makes the edits of this state in its rows; `selected` says that they are the batch's outputs alone.
pub(super) fn edit(edits: &[Edit], state: usize, batch: &Batch, selected: bool, stream: &mut [f32], width: usize) {
    for edit in edits.iter().filter(|edit| edit.state == state) {
        for_rows(edit, batch, selected, stream, width, |row| edit.change.apply(row));
    }
}

/// Gradient of [`edit`], in place.
pub(super) fn edit_backward(
    edits: &[Edit],
    state: usize,
    batch: &Batch,
    selected: bool,
    stream: &mut [f32],
    width: usize,
) {
    for edit in edits.iter().rev().filter(|edit| edit.state == state) {
        for_rows(edit, batch, selected, stream, width, |row| edit.change.apply_backward(row));
    }
}

fn for_rows(
    edit: &Edit,
    batch: &Batch,
    selected: bool,
    stream: &mut [f32],
    width: usize,
    mut change: impl FnMut(&mut [f32]),
) {
    for (index, row) in stream.chunks_exact_mut(width).enumerate() {
        let place = if selected { batch.outputs[index] } else { index };
        let meant = match &edit.rows {
            Rows::All => true,
            Rows::Marked(marks) => marks.get(place).copied().unwrap_or(false),
        };
        if meant {
            change(row);
        }
    }
}
