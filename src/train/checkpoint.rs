//! The state of a training between two steps, in bytes: going on from it gives the weights that going on without a stop
//! would have given.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::objective::{Against, Change, Objective, Penalty};
use super::options::Options;
use crate::data::digest::Digest;
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// Version of the format.
const VERSION: u32 = 1;

/// What has been trained so far. Order of rows, dropped inputs and learning rates follow from the options and the step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Which run it belongs to.
    pub run: Digest,
    /// Counts and losses.
    pub progress: Progress,
    /// The trained values.
    pub values: Vec<f32>,
    /// Adam's first moments.
    pub first_moment: Vec<f32>,
    /// Adam's second moments.
    pub second_moment: Vec<f32>,
}

/// Counts and losses of the steps that are done; losses as bits, so that nothing is rounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps.
    pub steps: usize,
    /// Tokens read.
    pub tokens: usize,
    /// Loss before the first step.
    pub first_loss: u64,
    /// Loss of each step.
    pub losses: Vec<u64>,
    /// Value of each term in each step.
    pub readings: Vec<Vec<u64>>,
    /// Whether each term has had a value, and whether it has had a gradient.
    pub seen: Vec<(bool, bool)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    run: String,
    progress: Progress,
}

impl State {
    /// The bytes of a safetensors file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let broken =
            |error: &dyn std::fmt::Display| Error::internal(format!("a checkpoint cannot be written: {error}"));
        let header = Header { version: VERSION, run: self.run.to_string(), progress: self.progress.clone() };
        let header = serde_json::to_string(&header).map_err(|error| broken(&error))?;
        let tensors =
            [("values", &self.values), ("first_moment", &self.first_moment), ("second_moment", &self.second_moment)]
                .map(|(name, values)| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
        let view = |(name, bytes): &'_ (&'static str, Vec<u8>)| (*name, bytes.len() / 4);
        let mut views = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let (name, count) = view(tensor);
            let found = TensorView::new(Dtype::F32, vec![count], &tensor.1).map_err(|error| broken(&error))?;
            views.push((name, found));
        }
        let metadata = HashMap::from([("training".to_string(), header)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| broken(&error))
    }

    /// Reads them.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, or only the beginning of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::environment(format!("a checkpoint cannot be read: {error}")).with_help("delete it and start anew")
        };
        let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get("training"));
        let text = text.ok_or_else(|| broken(&"it has no header"))?;
        let header: Header = serde_json::from_str(text).map_err(|error| broken(&error))?;
        if header.version != VERSION {
            return Err(broken(&format!("it has version {}, this is version {VERSION}", header.version)));
        }
        let run = Digest::parse(&header.run).ok_or_else(|| broken(&"it does not say which run it belongs to"))?;
        let tensor = |name: &str| -> Result<Vec<f32>> {
            let view = file.tensor(name).map_err(|error| broken(&error))?;
            Ok(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        Ok(State {
            run,
            progress: header.progress,
            values: tensor("values")?,
            first_moment: tensor("first_moment")?,
            second_moment: tensor("second_moment")?,
        })
    }

    /// Refuses a state that belongs to another run.
    pub fn check_run(&self, run: &Digest, values: usize) -> Result<()> {
        ensure!(
            self.run == *run && self.values.len() == values && self.first_moment.len() == values
                && self.second_moment.len() == values,
            "the checkpoint belongs to another training";
            help: "go on with the same weights, rows, options and objective, or start anew"
        );
        Ok(())
    }
}

/// Identity of a run: equal runs compute the same weights.
pub fn run_digest(start: &Weights, rows: &[Example], objective: &Objective, options: &Options) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&start.digest()?.0);
    // Threads never change a result.
    hasher.update(format!("{:?}", Options { threads: 0, ..options.clone() }).as_bytes());
    hash_rows(&mut hasher, rows);
    hasher.update(format!("{:?}", objective.loss).as_bytes());
    hash_rows(&mut hasher, &objective.rejected);
    hasher.update(format!("{:?}", objective.edits).as_bytes());
    for term in &objective.terms {
        hasher.update(format!("{} {:?}", term.name, term.coefficient).as_bytes());
        match &term.penalty {
            Penalty::Distance => _ = hasher.update(b"distance"),
            Penalty::Ewc { fisher } => {
                hasher.update(b"ewc");
                hash_values(&mut hasher, fisher);
            }
            Penalty::Overlap { plane, overlap } => {
                hasher.update(format!("{overlap:?}").as_bytes());
                hash_values(&mut hasher, plane);
            }
            Penalty::Rows { loss, rows, rejected } => {
                hasher.update(format!("{loss:?}").as_bytes());
                hash_rows(&mut hasher, rows);
                hash_rows(&mut hasher, rejected);
            }
        }
    }
    for change in &objective.changes {
        match change {
            Change::Steer { plane, steering } => {
                hasher.update(format!("{steering:?}").as_bytes());
                hash_values(&mut hasher, plane);
            }
            Change::Project { against: Against::Plane(plane), projection } => {
                hasher.update(format!("{projection:?}").as_bytes());
                hash_values(&mut hasher, plane);
            }
            Change::Project { against: Against::Rows { loss, rows, sign }, projection } => {
                hasher.update(format!("{projection:?} {loss:?} {sign:?}").as_bytes());
                hash_rows(&mut hasher, rows);
            }
        }
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn hash_rows(hasher: &mut blake3::Hasher, rows: &[Example]) {
    hasher.update(&rows.len().to_le_bytes());
    for Example { ids, loss_mask, weight } in rows {
        hasher.update(&ids.len().to_le_bytes());
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        hasher.update(&bytes);
        hasher.update(&loss_mask.iter().map(|flag| u8::from(*flag)).collect::<Vec<u8>>());
        hasher.update(&weight.to_le_bytes());
    }
}

fn hash_values(hasher: &mut blake3::Hasher, values: &[f32]) {
    hasher.update(&values.len().to_le_bytes());
    for values in values.chunks(1 << 14) {
        hasher.update(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_and_a_part_of_them_is_refused() {
        let progress = Progress { steps: 3, first_loss: f64::NAN.to_bits(), losses: vec![1, 2], ..Progress::default() };
        let run = Digest::of(b"a run");
        let values = vec![1.0, -0.0, 1e-40];
        let state =
            State { run, progress, values: values.clone(), first_moment: values.clone(), second_moment: values };
        let bytes = state.to_bytes().unwrap();
        assert_eq!(State::from_bytes(&bytes).unwrap(), state);
        assert!(state.check_run(&Digest::of(b"another"), 3).is_err() && state.check_run(&state.run, 3).is_ok());
        for length in [0, 7, 100, bytes.len() - 1] {
            assert!(State::from_bytes(&bytes[..length]).unwrap_err().help.is_some());
        }
    }
}
