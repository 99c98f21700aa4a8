//! Changes of the residual stream while the outcome rows are trained, gone when training ends.

use crate::ensure;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::tap::{Change, Edit, Rows};
use crate::model::weights::Weights;

/// A change of one state of the residual stream: 0 is the embeddings, k what stands after block k.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEdit {
    /// As reports and errors name it.
    pub name: &'static str,
    /// Which state.
    pub state: usize,
    /// What happens to its rows.
    pub change: Change,
    /// Only where a token that carries loss is predicted, in place of everywhere.
    pub answers_only: bool,
}

impl StreamEdit {
    /// Refuses an edit that these weights have no place for, or that would do nothing.
    pub fn check(&self, weights: &Weights) -> Result<()> {
        let (name, width, layers) = (self.name, weights.config.width, weights.config.layers);
        ensure!(self.state <= layers, "`{name}` is of state {}, the model has {layers} blocks", self.state);
        let vectors = match &self.change {
            Change::Add(vector) => std::slice::from_ref(vector),
            Change::Remove(directions) => directions,
        };
        ensure!(!vectors.is_empty(), "`{name}` has no directions");
        for vector in vectors {
            let found = vector.len();
            ensure!(found == width, "a vector of `{name}` has {found} values, the model is {width} wide");
            ensure!(
                vector.iter().all(|value| value.is_finite()),
                "a vector of `{name}` has values that are no numbers"
            );
        }
        Ok(())
    }
}

/// The edits of this batch; those that add nothing are left out.
pub(super) fn edits_of_batch(edits: &[StreamEdit], batch: &Batch) -> Vec<Edit> {
    let acts = |edit: &&StreamEdit| match &edit.change {
        Change::Add(vector) => vector.iter().any(|value| *value != 0.0),
        Change::Remove(_) => true,
    };
    let of_batch = |edit: &StreamEdit| {
        let rows = if edit.answers_only { Rows::outputs(batch) } else { Rows::All };
        Edit { state: edit.state, rows, change: edit.change.clone() }
    };
    edits.iter().filter(acts).map(of_batch).collect()
}
