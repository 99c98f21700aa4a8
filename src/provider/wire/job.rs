//! Fine-tuning jobs, their events and checkpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Where a job stands; providers add states without notice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// The rows are being checked.
    ValidatingFiles,
    /// It waits for a machine.
    Queued,
    /// It trains.
    Running,
    /// It is about to pause.
    Pausing,
    /// It pauses until somebody resumes it.
    Paused,
    /// It is done.
    Succeeded,
    /// It failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Something newer than this program.
    Other(String),
}

impl JobStatus {
    /// The states that this program knows, by their names.
    const NAMES: [(&str, JobStatus); 8] = [
        ("validating_files", JobStatus::ValidatingFiles),
        ("queued", JobStatus::Queued),
        ("running", JobStatus::Running),
        ("pausing", JobStatus::Pausing),
        ("paused", JobStatus::Paused),
        ("succeeded", JobStatus::Succeeded),
        ("failed", JobStatus::Failed),
        ("cancelled", JobStatus::Cancelled),
    ];

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            JobStatus::Other(name) => name,
            known => Self::NAMES.iter().find(|(_, status)| status == known).map_or("", |(name, _)| name),
        }
    }
    /// The state of this name; Together's names are understood too.
    pub fn parse(name: &str) -> Self {
        let known = match name {
            "pending" => "queued",
            "compressing" | "uploading" => "running",
            "completed" => "succeeded",
            "error" | "user_error" => "failed",
            "cancel_requested" | "canceled" => "cancelled",
            name => name,
        };
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == known);
        found.map_or_else(|| JobStatus::Other(name.to_string()), |(_, status)| status)
    }
    /// Whether it will never change again.
    pub fn is_final(&self) -> bool {
        matches!(self, JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled)
    }
}

impl Serialize for JobStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for JobStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(JobStatus::parse(&String::deserialize(deserializer)?))
    }
}

/// A job as the provider describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its number, `ftjob-…`.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// The model it started from.
    #[serde(default)]
    pub model: String,
    /// The model it made, once it is done.
    #[serde(default)]
    pub fine_tuned_model: Option<String>,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
    /// Seconds since 1970, once it has ended.
    #[serde(default)]
    pub finished_at: Option<f64>,
    /// When the provider thinks that it will end.
    #[serde(default)]
    pub estimated_finish: Option<f64>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<JobError>,
    /// The rows it trains on.
    #[serde(default)]
    pub training_file: String,
    /// Files with its curve.
    #[serde(default)]
    pub result_files: Vec<String>,
    /// Tokens that are billed.
    #[serde(default)]
    pub trained_tokens: Option<u64>,
    /// The seed that was used.
    #[serde(default)]
    pub seed: Option<i64>,
    /// The marks that whoever launched it gave it.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Its organisation.
    #[serde(default)]
    pub organization_id: Option<String>,
    /// The end of the model's name; a second mark.
    #[serde(default)]
    pub suffix: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Why a job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobError {
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobEvent {
    /// Its number.
    #[serde(default)]
    pub id: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
    /// info, warn, error.
    #[serde(default)]
    pub level: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Numbers of a step: `step`, `train_loss`, ...
    #[serde(default)]
    pub data: Option<Value>,
}

/// A model from the middle of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number.
    #[serde(default)]
    pub id: String,
    /// The name under which it answers.
    #[serde(default)]
    pub fine_tuned_model_checkpoint: String,
    /// After how many steps.
    #[serde(default)]
    pub step_number: u64,
    /// Losses and accuracies there.
    #[serde(default)]
    pub metrics: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_state_is_kept_as_it_is_and_is_not_final() {
        let job: Job = serde_json::from_str(r#"{"id": "ftjob-1", "status": "reticulating", "new": 1}"#).unwrap();
        assert_eq!(job.status, JobStatus::Other("reticulating".to_string()));
        assert!(!job.status.is_final());
        let back = serde_json::to_value(&job).unwrap();
        assert_eq!((&back["status"], &back["new"]), (&serde_json::json!("reticulating"), &serde_json::json!(1)));
        assert_eq!(JobStatus::parse("user_error"), JobStatus::Failed);
    }
}
