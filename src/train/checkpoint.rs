//! The state of a training between two steps, in bytes: going on from it gives the weights that going on without a stop
//! would have given.

use std::borrow::Cow;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::objective::{Against, Change, Objective, Penalty};
use super::options::Options;
use crate::data::digest::Digest;
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// Version of the format. 2: a digest of everything, and notes.
const VERSION: u32 = 2;
/// Values that are converted at a time.
const BLOCK: usize = 1 << 14;

/// What has been trained so far. Order of rows, dropped inputs and learning rates follow from the options and the step.
#[derive(Clone, Debug, PartialEq)]
pub struct State<'a> {
    /// Which run it belongs to.
    pub run: Digest,
    /// Counts and losses.
    pub progress: Progress,
    /// What the keeper of the checkpoint wants to find beside it; nothing here looks at it.
    pub notes: String,
    /// The trained values.
    pub values: Cow<'a, [f32]>,
    /// Adam's first moments.
    pub first_moment: Cow<'a, [f32]>,
    /// Adam's second moments.
    pub second_moment: Cow<'a, [f32]>,
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

/// Everything but the values.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    run: String,
    progress: Progress,
    notes: String,
}

/// The header of the safetensors file.
#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "__metadata__")]
    metadata: Metadata,
    values: Entry,
    first_moment: Entry,
    second_moment: Entry,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    /// A [`Header`].
    training: String,
    /// Of the header and all values.
    digest: String,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: [usize; 1],
    data_offsets: [usize; 2],
}

impl Entry {
    /// The place of one of the three buffers of this many values.
    fn of(place: usize, count: usize) -> Self {
        Entry { dtype: "F32".to_string(), shape: [count], data_offsets: [4 * place * count, 4 * (place + 1) * count] }
    }
}

impl State<'_> {
    /// Writes a safetensors file; needs no memory beside that of the values.
    pub fn write(&self, sink: &mut dyn Write) -> std::io::Result<()> {
        let header = Header {
            version: VERSION,
            run: self.run.to_string(),
            progress: self.progress.clone(),
            notes: self.notes.clone(),
        };
        let training = serde_json::to_string(&header)?;
        let buffers = [&self.values, &self.first_moment, &self.second_moment];
        let mut hasher = blake3::Hasher::new();
        hasher.update(training.as_bytes());
        for buffer in buffers {
            in_bytes(buffer, &mut |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
        }
        let digest = Digest(*hasher.finalize().as_bytes()).to_string();
        let [values, first_moment, second_moment] = [0, 1, 2].map(|place| Entry::of(place, self.values.len()));
        let file = File { metadata: Metadata { training, digest }, values, first_moment, second_moment };
        let file = serde_json::to_string(&file)?;
        let size = file.len().next_multiple_of(8);
        sink.write_all(&(size as u64).to_le_bytes())?;
        sink.write_all(file.as_bytes())?;
        sink.write_all(&b"       "[..size - file.len()])?;
        buffers.into_iter().try_for_each(|buffer| in_bytes(buffer, &mut |bytes| sink.write_all(bytes)))
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

    /// The bytes of that file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}

impl State<'static> {
    /// Reads a file of this length.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, only the beginning of one, or altered.
    pub fn read(source: &mut dyn Read, length: u64) -> Result<Self> {
        let (size, file, header) = read_header(source, length)?;
        let count = file.values.shape[0];
        let entries = [&file.values, &file.first_moment, &file.second_moment];
        let placed = entries.into_iter().enumerate().all(|(place, entry)| *entry == Entry::of(place, count));
        if !placed || (8 + size).checked_add(12 * count as u64) != Some(length) {
            return Err(broken(&"it is longer or shorter than its header says"));
        }
        let run = Digest::parse(&header.run).ok_or_else(|| broken(&"it does not say which run it belongs to"))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(file.metadata.training.as_bytes());
        let mut block = vec![0; 4 * BLOCK];
        let mut buffer = || -> Result<Cow<'static, [f32]>> {
            let mut values = Vec::with_capacity(count);
            while values.len() < count {
                let bytes = &mut block[..4 * BLOCK.min(count - values.len())];
                source.read_exact(bytes).map_err(|error| broken(&error))?;
                hasher.update(bytes);
                values.extend(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Ok(values.into())
        };
        let (values, first_moment, second_moment) = (buffer()?, buffer()?, buffer()?);
        if Digest(*hasher.finalize().as_bytes()).to_string() != file.metadata.digest {
            return Err(broken(&"its bytes are not those that were written"));
        }
        Ok(State { run, progress: header.progress, notes: header.notes, values, first_moment, second_moment })
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Those of [`State::read`].
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self> {
        let length = bytes.len() as u64;
        Self::read(&mut bytes, length)
    }
}

/// Counts, losses and notes of a file of this length, without its values and without proof that they are whole.
///
/// # Errors
/// Bytes that are no checkpoint.
pub fn read_progress(source: &mut dyn Read, length: u64) -> Result<(Progress, String)> {
    let (_, _, header) = read_header(source, length)?;
    Ok((header.progress, header.notes))
}

fn read_header(source: &mut dyn Read, length: u64) -> Result<(u64, File, Header)> {
    let mut size = [0; 8];
    source.read_exact(&mut size).map_err(|error| broken(&error))?;
    let size = u64::from_le_bytes(size);
    if size.checked_add(8).is_none_or(|end| end > length) {
        return Err(broken(&"it is cut off"));
    }
    let mut text = Vec::new();
    source.take(size).read_to_end(&mut text).map_err(|error| broken(&error))?;
    let file: File = serde_json::from_slice(&text).map_err(|error| broken(&error))?;
    let header: Header = serde_json::from_str(&file.metadata.training).map_err(|error| broken(&error))?;
    if header.version != VERSION {
        return Err(broken(&format!("it has version {}, this is version {VERSION}", header.version)));
    }
    Ok((size, file, header))
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::environment(format!("a checkpoint cannot be read: {error}")).with_help("delete it and start anew")
}

/// Hands out the values block by block.
fn in_bytes(values: &[f32], take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * BLOCK);
    for values in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
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
        let values: Cow<[f32]> = vec![1.0, -0.0, 1e-40].into();
        let state = State {
            run,
            progress,
            notes: "übermorgen".to_string(),
            values: values.clone(),
            first_moment: values.clone(),
            second_moment: values,
        };
        let bytes = state.to_bytes().unwrap();
        assert_eq!(State::from_bytes(&bytes).unwrap(), state);
        let (progress, notes) = read_progress(&mut &bytes[..], bytes.len() as u64).unwrap();
        assert_eq!((progress, notes), (state.progress.clone(), state.notes.clone()));
        assert!(state.check_run(&Digest::of(b"another"), 3).is_err() && state.check_run(&state.run, 3).is_ok());
        for length in 0..bytes.len() {
            assert!(State::from_bytes(&bytes[..length]).unwrap_err().help.is_some());
        }
        // Whatever bit is turned, it is noticed; spaces behind the header say nothing.
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let spaces = bytes[..header].iter().rev().take_while(|byte| **byte == b' ').count();
        for place in (0..header - spaces).chain(header..bytes.len()) {
            let mut altered = bytes.clone();
            altered[place] ^= 1;
            assert!(State::from_bytes(&altered).is_err(), "{place}");
        }
        assert!(safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor("second_moment").is_ok());
    }
}
