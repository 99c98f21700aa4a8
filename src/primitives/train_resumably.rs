//! Trains as a call of this project does: within the memory, with checkpoints that the next run goes on from.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::digest::Digest;
use crate::error::{Error, Kind, Result, ensure};
use crate::lab::checkpoints::Checkpoints;
use crate::lab::memory::gigabytes;
use crate::lab::{Event, Lab};
use crate::model::chat::Example;
use crate::model::format::ChatFormat;
use crate::model::weights::Weights;
use crate::train::checkpoint::State;
use crate::train::memory::Memory;
use crate::train::{self, Objective, Options, Step, Trained, Training, Watch};

/// Name of a training's checkpoint in its folder.
pub const FILE: &str = "training.safetensors";
/// Steps between two words about how it goes.
const TOLD_EVERY: usize = 10;

/// A training that is a call.
pub struct Course<'a> {
    /// The key of the call.
    pub key: Digest,
    /// What people call it.
    pub label: &'a str,
    /// Where it starts.
    pub start: &'a Weights,
    /// What is written beside weights.
    pub format: &'a ChatFormat,
    /// The outcome rows.
    pub rows: &'a [Example],
    /// What is minimised.
    pub objective: &'a Objective,
    /// How.
    pub options: &'a Options,
    /// Whether the weights at the end of every epoch are stored.
    pub keep_epochs: bool,
}

/// What stands beside the state of a training in its checkpoint.
#[derive(Default, Serialize, Deserialize)]
pub struct Notes {
    /// What people call the training.
    pub label: String,
    /// Steps of the whole training.
    pub steps: usize,
    /// The epochs that were kept, as the outcome tells them.
    epochs: Vec<KeptEpoch>,
}

#[derive(Clone, Serialize, Deserialize)]
struct KeptEpoch {
    epoch: usize,
    blob: Digest,
}

/// Trains, from the last checkpoint where an earlier run left one; returns what was trained, and the epochs that were kept.
///
/// # Errors
/// Too little memory, and whatever stops a training. The last good checkpoint is kept then, and named.
pub fn train_resumably(lab: &Lab, course: &Course) -> Result<(Trained, Vec<Value>)> {
    let Course { key, label, start, rows, objective, options, .. } = *course;
    let memory = Memory::of(&start.config, start.processor, rows, objective, options);
    let _turn = lab
        .take_memory(key, memory.total(), &format!("training `{label}`"))
        .map_err(|error| explain_memory(error, &memory, options))?;
    let mut training = Training::new(start, rows, objective, options)?;
    let keeper =
        RefCell::new(Keeper { lab, course, checkpoints: lab.checkpoints(key), epochs: Vec::new(), lacks_epoch: false });
    keeper.borrow_mut().resume(&mut training)?;
    let mut watch = Watch {
        on_epoch: &mut |epoch, training| keeper.borrow_mut().end_epoch(epoch, training),
        on_step: &mut |step, training| keeper.borrow_mut().end_step(step, training),
    };
    let trained = train::go_on(training, &mut watch, &mut |error, training| keeper.borrow_mut().fail(error, training))?;
    let epochs = keeper.into_inner().epochs.into_iter().map(|kept| json!(kept)).collect();
    Ok((trained, epochs))
}

struct Keeper<'a> {
    lab: &'a Lab,
    course: &'a Course<'a>,
    checkpoints: Checkpoints<'a>,
    epochs: Vec<KeptEpoch>,
    /// Whether an epoch has ended whose weights could not be stored: no later checkpoint would have them.
    lacks_epoch: bool,
}

impl Keeper<'_> {
    /// Goes on from what an earlier run kept. What cannot be used is removed: the training is free work.
    fn resume(&mut self, training: &mut Training) -> Result<()> {
        let label = self.course.label;
        match self.read_and_resume(training) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let (done, steps) = (training.done(), training.steps());
                self.lab.note(format!("`{label}` continues at step {done} of {steps}"));
                let (key, fraction) = (self.course.key, done as f64 / steps as f64);
                self.lab.send(Event::Progress { key, fraction, step: Some(done as u64), loss: None });
                Ok(())
            }
            Err(error) => {
                self.epochs.clear();
                self.lab.note(format!("`{label}` begins anew, its checkpoint is of no use: {}", error.message));
                self.checkpoints.remove()
            }
        }
    }

    fn read_and_resume(&mut self, training: &mut Training) -> Result<bool> {
        let Some((mut file, length)) = self.checkpoints.open(FILE)? else { return Ok(false) };
        let state = State::read(&mut file, length)?;
        let notes: Notes = serde_json::from_str(&state.notes)
            .map_err(|error| Error::environment(format!("what stands beside it cannot be read: {error}")))?;
        let gone = notes.epochs.iter().find(|kept| !self.lab.store().blob_path(kept.blob).is_file());
        ensure!(gone.is_none(), "the weights of an epoch that it names are gone");
        training.resume(state)?;
        self.epochs = notes.epochs;
        Ok(true)
    }

    fn end_epoch(&mut self, epoch: usize, training: &Training) -> Result<()> {
        if self.course.keep_epochs {
            self.lacks_epoch = true;
            let blob = self.lab.store().put_blob(&training.weights().to_safetensors()?)?;
            self.epochs.push(KeptEpoch { epoch, blob });
            self.lacks_epoch = false;
        }
        Ok(())
    }

    /// Passes progress on, keeps a checkpoint when it is time, and stops the training when somebody asked to.
    fn end_step(&mut self, step: &Step, training: &Training) -> Result<()> {
        let (lab, key) = (self.lab, self.course.key);
        if step.step.is_multiple_of(TOLD_EVERY) {
            let fraction = step.step as f64 / step.steps as f64;
            lab.send(Event::Progress { key, fraction, step: Some(step.step as u64), loss: Some(step.loss) });
        }
        lab.check_call(key)?;
        if step.step < step.steps && self.checkpoints.is_due() {
            self.keep(training)?;
        }
        Ok(())
    }

    /// Keeps the state of the training in the place of the last one, if it is sound. A disk that is full stops no training.
    fn keep(&mut self, training: &Training) -> Result<bool> {
        let mut state = training.checkpoint()?;
        if self.lacks_epoch || !state.values.iter().all(|value| value.is_finite()) {
            return Ok(false);
        }
        let Course { label, .. } = *self.course;
        let notes = Notes { label: label.to_string(), steps: training.steps(), epochs: self.epochs.clone() };
        state.notes = serde_json::to_string(&notes).map_err(|error| Error::internal(error.to_string()))?;
        let kept = self.checkpoints.put(FILE, |file| state.write(file));
        if let Err(error) = &kept {
            self.lab.note_once(format!("no checkpoint of `{label}` is kept: {}", error.message));
        }
        Ok(kept.is_ok())
    }

    /// Keeps what there is before the training ends in an error, and says where.
    fn fail(&mut self, error: Error, training: &Training) -> Error {
        let stopped = error.kind == Kind::Interrupted;
        if training.done() == 0 || (stopped && !self.lab.cancelled()) {
            return error;
        }
        if !matches!(self.keep(training), Ok(true)) || stopped || self.keep_weights(&training.weights()).is_err() {
            return error;
        }
        let known = error.help.as_ref().map_or(String::new(), |help| format!("{help}; "));
        let help = format!(
            "{known}look at the weights after step {} of {}, the last good ones: `model(\"{}\")`",
            training.done(),
            training.steps(),
            self.checkpoints.folder_in_scripts()
        );
        error.with_help(help)
    }

    /// Writes weights beside the checkpoint as `save_model` does, for people to look at.
    fn keep_weights(&mut self, weights: &Weights) -> Result<()> {
        let config =
            serde_json::to_string_pretty(&weights.config).map_err(|error| Error::internal(error.to_string()))?;
        let files = [("config.json", config.into_bytes())].into_iter().chain(self.course.format.files());
        for (name, bytes) in files.chain([("model.safetensors", weights.to_safetensors()?)]) {
            self.checkpoints.put(name, |file| file.write_all(&bytes))?;
        }
        Ok(())
    }
}

/// Says what the memory is for, and how less would do.
fn explain_memory(error: Error, memory: &Memory, options: &Options) -> Error {
    if error.kind != Kind::Environment {
        return error;
    }
    let parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("moments", memory.moments),
        ("activations", memory.activations),
        ("saving", memory.saving),
    ];
    let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
    let parts: Vec<_> = parts.map(|(name, bytes)| format!("{name} {}", gigabytes(*bytes))).collect();
    let method = match options.method {
        train::Method::Full => "train with `method: lora(#{ rank: 8 })`, ",
        train::Method::Lora { .. } => "",
    };
    let help = format!(
        "{method}lower `batch_tokens` and raise `accumulate`, or use a machine with more ({})",
        parts.join(", ")
    );
    error.with_help(help)
}
