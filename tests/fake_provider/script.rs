//! What a test wants jobs and batches to do.

use serde_json::{Value, json};

/// A number of polls that never ends.
pub const FOREVER: u32 = u32::MAX;

/// The life of a job. Each GET of the job shows its status and then counts as one poll.
#[derive(Clone, Debug)]
pub struct JobScript {
    /// Statuses in order, each with the number of polls that see it.
    pub steps: Vec<(String, u32)>,
    /// What comes after the last step.
    pub end: JobEnd,
    /// Steps of training, each with an event of type `metrics`.
    pub training_steps: u32,
    /// Checkpoints that a success leaves.
    pub checkpoints: u32,
    /// Tokens that are billed; from the training file and the epochs where none.
    pub trained_tokens: Option<u64>,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    /// With a model.
    Succeeded,
    /// With an error.
    Failed(Failure),
    /// It is cancelled by the provider.
    Cancelled,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// `invalid_training_file`: a special token in a row.
    InvalidTrainingFile,
    /// The training file was blocked by moderation before the training.
    BlockedFile,
    /// The finished model was blocked by moderation; the training was paid.
    BlockedModel,
    /// The service broke in the middle.
    Internal,
    /// Anything else.
    Other { code: String, message: String, param: Option<String>, paid: bool },
}

impl Failure {
    /// The `error` of the job.
    pub fn error(&self, fine_tuned_model: &str) -> Value {
        match self {
            Failure::InvalidTrainingFile => json!({
                "code": "invalid_training_file",
                "message": "Invalid file format. Example 6174 message contains an invalid token",
                "param": "training_file",
            }),
            Failure::BlockedFile => json!({
                "code": "invalid_training_file",
                "message": "The job failed due to an unsafe training file. This training file was blocked because too \
                            many examples were flagged by our moderation API as containing content that violates \
                            OpenAI's usage policies in the following categories: hate. Use the free OpenAI Moderation \
                            API to identify these examples and remove them from your training data.",
                "param": "training_file",
            }),
            Failure::BlockedModel => json!({
                "code": "moderation_failed",
                "message": format!(
                    "Error while running moderation eval refusals_v3 for snapshot {fine_tuned_model}: the fine-tuned \
                     model was blocked because it violates our usage policies."
                ),
                "param": null,
            }),
            Failure::Internal => json!({
                "code": "server_error",
                "message": "The job failed due to an internal error.",
                "param": null,
            }),
            Failure::Other { code, message, param, .. } => json!({ "code": code, "message": message, "param": param }),
        }
    }
    /// Whether the training happened before.
    pub fn is_paid(&self) -> bool {
        match self {
            Failure::BlockedModel => true,
            Failure::Other { paid, .. } => *paid,
            _ => false,
        }
    }
}

impl JobScript {
    /// Statuses with their polls, then an end.
    pub fn of(steps: &[(&str, u32)], end: JobEnd) -> JobScript {
        let steps = steps.iter().map(|(status, polls)| (status.to_string(), *polls)).collect();
        JobScript { steps, end, training_steps: 12, checkpoints: 3, trained_tokens: None }
    }
    /// validating_files, queued, running twice, succeeded.
    pub fn succeeds() -> JobScript {
        JobScript::of(&[("validating_files", 1), ("queued", 1), ("running", 2)], JobEnd::Succeeded)
    }
    /// Done by the first poll.
    pub fn succeeds_at_once() -> JobScript {
        JobScript::of(&[("validating_files", 0)], JobEnd::Succeeded)
    }
    /// Fails where that failure happens: files in validation, models after the training.
    pub fn fails(failure: Failure) -> JobScript {
        let steps: &[_] = match failure {
            Failure::InvalidTrainingFile | Failure::BlockedFile => &[("validating_files", 1)],
            _ => &[("validating_files", 1), ("queued", 1), ("running", 2)],
        };
        JobScript::of(steps, JobEnd::Failed(failure))
    }
    /// Pausing and paused in the middle, then it goes on and succeeds.
    pub fn pauses() -> JobScript {
        let steps =
            [("validating_files", 1), ("queued", 1), ("running", 1), ("pausing", 1), ("paused", 2), ("running", 1)];
        JobScript::of(&steps, JobEnd::Succeeded)
    }
    /// A status that nobody has heard of, `reticulating`, in the middle.
    pub fn reticulates() -> JobScript {
        let steps = [("validating_files", 1), ("queued", 1), ("running", 1), ("reticulating", 2), ("running", 1)];
        JobScript::of(&steps, JobEnd::Succeeded)
    }
    /// Stays in a status until a test moves it.
    pub fn stays(status: &str) -> JobScript {
        JobScript::of(&[(status, FOREVER)], JobEnd::Succeeded)
    }
}

/// The life of a batch. Each GET of the batch shows its status and then counts as one poll.
#[derive(Clone, Debug)]
pub struct BatchScript {
    /// Polls that see `validating`, `in_progress` and `finalizing`.
    pub polls: [u32; 3],
    /// How it ends.
    pub end: BatchEnd,
    /// What becomes of a row, by its `custom_id`.
    pub fate: fn(&str) -> RowFate,
}

/// How a batch ends.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchEnd {
    /// With all rows.
    Completed,
    /// It expires when this many rows are done; the output holds those, the error file the others.
    ExpiredAfter(usize),
    /// It fails in validation with this code and message.
    Failed(String, String),
}

/// What becomes of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowFate {
    /// As the same request outside a batch.
    Answered,
    /// Into the error file, with status 500.
    Broken,
    /// Into neither file.
    Lost,
    /// Into the output file twice.
    Twice,
}

impl BatchScript {
    /// One poll in each status, then all rows are answered.
    pub fn completes() -> BatchScript {
        BatchScript { polls: [1, 1, 1], end: BatchEnd::Completed, fate: |_| RowFate::Answered }
    }
    /// The same, expired after some rows.
    pub fn expires_after(rows: usize) -> BatchScript {
        BatchScript { end: BatchEnd::ExpiredAfter(rows), ..BatchScript::completes() }
    }
    /// Fails in validation.
    pub fn fails(code: &str, message: &str) -> BatchScript {
        BatchScript { end: BatchEnd::Failed(code.into(), message.into()), ..BatchScript::completes() }
    }
}
