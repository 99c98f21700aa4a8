//! Sequences packed back to back without padding, and the rows whose output is wanted.

/// A ragged batch.
///
/// Only the wanted rows pass through the last block's queries, output and feed-forward; the others lend it keys and
/// values.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens of all sequences.
    pub ids: Vec<u32>,
    /// Position of each token in its sequence.
    pub positions: Vec<u32>,
    /// Where each sequence begins, and the end of the last.
    pub bounds: Vec<usize>,
    /// Rows of `ids` whose output is wanted, ascending.
    pub outputs: Vec<usize>,
    /// Position of each output in its sequence.
    pub output_positions: Vec<u32>,
    /// Where each sequence's outputs begin in `outputs`, and the end of the last.
    pub output_bounds: Vec<usize>,
    /// Decides which inputs of adapters are dropped; none are where there is none.
    pub noise: Option<u64>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            ids: Vec::new(),
            positions: Vec::new(),
            bounds: vec![0],
            outputs: Vec::new(),
            output_positions: Vec::new(),
            output_bounds: vec![0],
            noise: None,
        }
    }
}

impl Batch {
    /// Empties the batch and keeps its memory and its noise.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.positions.clear();
        self.bounds.truncate(1);
        self.outputs.clear();
        self.output_positions.clear();
        self.output_bounds.truncate(1);
    }
    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
    /// Adds a sequence whose outputs at these ascending positions are wanted.
    pub fn push(&mut self, ids: &[u32], outputs: impl IntoIterator<Item = usize>) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend(0..ids.len() as u32);
        self.bounds.push(self.ids.len());
        for position in outputs {
            self.outputs.push(start + position);
            self.output_positions.push(position as u32);
        }
        self.output_bounds.push(self.outputs.len());
    }
}
