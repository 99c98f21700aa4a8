//! Fine-tuning jobs: their records, and what has become of each. A job is a call of `launch_finetune` and keeps its key.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::records;
use crate::data::digest::Digest;
use crate::error::Result;
use crate::lab::{Event, Lab, Outcome};

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The rows are good; nothing has begun.
    ValidatingFiles,
    /// It waits for its turn.
    Queued,
    /// It trains.
    Running,
    /// The model is there.
    Succeeded,
    /// There is no model.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl Status {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Cancelled)
    }
}

/// The hyperparameters as they are used; `batch_size` is the mean number of rows of a batch, rounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    /// Passes over the rows.
    pub n_epochs: usize,
    /// Rows of a batch, about.
    pub batch_size: usize,
    /// Factor of the learning rate that `launch_finetune` takes by itself.
    pub learning_rate_multiplier: f64,
}

/// Something worth telling.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Seconds since 1970.
    pub created_at: u64,
    /// `info` or `error`.
    pub level: String,
    /// What.
    pub text: String,
}

/// The loss of a step.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// When this server learned of it.
    pub created_at: u64,
    /// The step, from 1.
    pub step: u64,
    /// The loss of its batch.
    pub train_loss: f64,
}

/// A fine-tuning job, as it is kept and told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// `ftjob-…`.
    pub id: String,
    /// Counts up: the order in which jobs were created.
    pub number: u64,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Seconds since 1970.
    pub finished_at: Option<u64>,
    /// What has become of it.
    pub status: Status,
    /// The model to start from.
    pub model: String,
    /// The model's name once it is there.
    pub fine_tuned_model: Option<String>,
    /// The file of the rows.
    pub training_file: String,
    /// Its bytes in the store, which outlive the file.
    pub rows: Digest,
    /// The file of rows to measure the loss on.
    pub validation_file: Option<String>,
    /// Its bytes in the store.
    pub validation_rows: Option<Digest>,
    /// Part of the model's name.
    pub suffix: Option<String>,
    /// Decides the order of rows.
    pub seed: u64,
    /// The client's own words.
    pub metadata: Option<BTreeMap<String, String>>,
    /// What is used, `auto` filled in.
    pub hyperparameters: Hyperparameters,
    /// Tokens of a batch, which is what the training loop counts.
    pub batch_tokens: usize,
    /// Files that it made.
    pub result_files: Vec<String>,
    /// Tokens that were read.
    pub trained_tokens: Option<u64>,
    /// Why it failed: code and message.
    pub error: Option<(String, String)>,
    /// Identity of the training; the same as in scripts.
    pub key: Option<Digest>,
    /// Steps of the training.
    pub steps: Option<u64>,
    /// Mean loss of the last steps.
    pub last_loss: Option<f64>,
    /// Mean loss on all validation rows at the end.
    pub full_valid_loss: Option<f64>,
    /// What happened, in order.
    pub notices: Vec<Notice>,
    /// Losses, in order.
    pub metrics: Vec<Metric>,
    /// The model is served no more.
    pub deleted: bool,
}

impl Job {
    /// Adds a notice, as of now.
    pub fn say(&mut self, level: &str, text: impl Into<String>) {
        self.notices.push(Notice { created_at: records::now(), level: level.to_string(), text: text.into() });
    }

    /// The training begins.
    fn start(&mut self) {
        self.status = Status::Running;
        self.say("info", STARTED);
    }

    /// Ends without a model.
    pub fn fail(&mut self, code: &str, message: String) {
        self.end(Status::Failed);
        self.say("error", format!("The job failed: {message}"));
        self.error = Some((code.to_string(), message));
    }

    /// Enters a final state.
    pub fn end(&mut self, status: Status) {
        self.status = status;
        self.finished_at = Some(records::now());
    }

    /// The object that clients get.
    pub fn object(&self) -> Value {
        let used = json!(self.hyperparameters);
        json!({
            "id": self.id, "object": "fine_tuning.job", "created_at": self.created_at, "finished_at": self.finished_at,
            "status": self.status, "model": self.model, "fine_tuned_model": self.fine_tuned_model,
            "organization_id": "drylab", "training_file": self.training_file, "validation_file": self.validation_file,
            "seed": self.seed, "metadata": self.metadata, "suffix": self.suffix, "hyperparameters": used,
            "method": { "type": "supervised", "supervised": { "hyperparameters": used } },
            "result_files": self.result_files, "trained_tokens": self.trained_tokens, "estimated_finish": null,
            "integrations": [],
            "error": self.error.as_ref().map(|(code, message)| json!({ "code": code, "message": message, "param": null })),
        })
    }

    /// What happened, newest first.
    pub fn events(&self) -> Vec<Value> {
        let object = |kind: &str, number: String, created_at: u64, level: &str, text: String, data: Value| {
            json!({
                "id": format!("ftevent-{}-{number}", self.id.trim_start_matches("ftjob-")), "created_at": created_at,
                "object": "fine_tuning.job.event", "level": level, "message": text, "type": kind, "data": data,
            })
        };
        let steps = self.steps.map_or("?".to_string(), |steps| steps.to_string());
        let notices = self.notices.iter().enumerate().map(|(index, notice)| {
            let (level, text) = (notice.level.as_str(), notice.text.clone());
            object("message", format!("m{index}"), notice.created_at, level, text, json!({}))
        });
        let metrics = self.metrics.iter().map(|metric| {
            let Metric { created_at, step, train_loss } = *metric;
            let text = format!("Step {step}/{steps}: training loss={train_loss:.4}");
            let data = json!({ "step": step, "train_loss": train_loss, "total_steps": self.steps });
            object("metrics", format!("s{step}"), created_at, "info", text, data)
        });
        let mut events: Vec<Value> = notices.collect();
        // Losses stand between the start of the training and what is said at its end.
        let start = self.notices.iter().rposition(Notice::is_start).map_or(events.len(), |index| index + 1);
        events.splice(start..start, metrics);
        events.reverse();
        events
    }

    /// Whether the training has begun, here or before.
    pub fn has_started(&self) -> bool {
        self.notices.iter().any(Notice::is_start)
    }

    /// The states of the model that were kept: the last one, which is the model.
    pub fn checkpoints(&self) -> Vec<Value> {
        let (Status::Succeeded, Some(model), Some(step)) = (self.status, &self.fine_tuned_model, self.steps) else {
            return Vec::new();
        };
        let mut metrics = json!({ "step": step });
        for (name, value) in [("train_loss", self.last_loss), ("full_valid_loss", self.full_valid_loss)] {
            if let Some(value) = value {
                metrics[name] = json!(value);
            }
        }
        vec![json!({
            "id": format!("ftckpt-{}", self.id.trim_start_matches("ftjob-")), "object": "fine_tuning.job.checkpoint",
            "created_at": self.finished_at, "fine_tuned_model_checkpoint": model, "fine_tuning_job_id": self.id,
            "step_number": step, "metrics": metrics,
        })]
    }
}

/// The notice between what is said before a training and its losses.
pub const STARTED: &str = "Fine-tuning job started";
/// The same when there is nothing to train.
pub const FOUND: &str = "The same training was done before: its model is used";

impl Notice {
    fn is_start(&self) -> bool {
        self.text == STARTED || self.text == FOUND
    }
}

/// All jobs.
pub struct Jobs {
    known: Mutex<BTreeMap<String, Job>>,
}

impl Jobs {
    /// No jobs yet: [`Jobs::read`] reads them once there is a lab.
    pub fn new() -> Self {
        Jobs { known: Mutex::default() }
    }

    /// Reads what an earlier server left.
    pub fn read(&self, lab: &Lab) -> Result<()> {
        let found: BTreeMap<String, Job> = records::read_all(lab, "jobs")?;
        self.known().extend(found);
        Ok(())
    }

    /// Takes a new job in, and numbers it.
    pub fn add(&self, lab: &Lab, mut job: Job) -> Result<Job> {
        let mut known = self.known();
        job.number = known.values().map(|job| job.number + 1).max().unwrap_or(0);
        records::write(lab, "jobs", &job.id, &job)?;
        known.insert(job.id.clone(), job.clone());
        Ok(job)
    }

    /// Every job, newest first.
    pub fn all(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.known().values().cloned().collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.number));
        jobs
    }

    /// The job of this id.
    pub fn get(&self, id: &str) -> ApiResult<Job> {
        let missing = || ApiError::missing("fine_tuning_job_id", format!("Could not find fine tune: {id}"));
        self.known().get(id).cloned().ok_or_else(missing)
    }

    /// The finished job that made the model of this name, which may be deleted since.
    pub fn of_model(&self, model: &str) -> Option<Job> {
        self.known().values().find(|job| job.fine_tuned_model.as_deref() == Some(model)).cloned()
    }

    /// Whether one of them made the model of this name, and nobody deleted it.
    pub fn serve(&self, model: &str) -> bool {
        self.known().values().any(|job| job.fine_tuned_model.as_deref() == Some(model) && !job.deleted)
    }

    /// Changes a job and its record; returns the job as it is then.
    pub fn change(&self, lab: &Lab, id: &str, change: impl FnOnce(&mut Job)) -> Result<Job> {
        let mut known = self.known();
        let job = known.get_mut(id).expect("jobs are never removed");
        change(job);
        records::write(lab, "jobs", id, job)?;
        Ok(job.clone())
    }

    /// Whether a job that goes on has this key.
    pub fn needs(&self, key: Digest) -> bool {
        self.known().values().any(|job| job.key == Some(key) && !job.status.is_final())
    }

    /// Follows a training that is shared by all jobs of its key; records are written when a job's state changes.
    pub fn follow(&self, event: &Event) {
        match event {
            Event::Call { key, outcome: Outcome::Started, .. } => self.each_of(*key, Job::start),
            Event::Progress { key, fraction, step: Some(step), loss: Some(loss) } => self.each_of(*key, |job| {
                if !job.has_started() {
                    job.start();
                }
                job.steps = Some((*step as f64 / fraction).round() as u64);
                job.metrics.push(Metric { created_at: records::now(), step: *step, train_loss: *loss });
            }),
            _ => {}
        }
    }

    fn each_of(&self, key: Digest, mut change: impl FnMut(&mut Job)) {
        let mut known = self.known();
        known.values_mut().filter(|job| job.key == Some(key) && !job.status.is_final()).for_each(&mut change);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.known.lock().expect("no panic while holding the jobs")
    }
}
