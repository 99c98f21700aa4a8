//! Why jobs fail, told apart by what it means for the money and for the next try.

use super::wire::job::{Job, JobStatus};
use crate::error::Error;
use crate::store::{Launch, LaunchError, LaunchState};

/// Kinds of failure of a job that was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobFailure {
    /// The provider's moderation refused the rows, before any training.
    BlockedFile,
    /// The provider's moderation refused the finished model; the training was paid for.
    BlockedModel,
    /// The rows are not in the form that the provider wants.
    InvalidFile,
    /// No money left, or a limit of the account.
    Quota,
    /// Somebody cancelled it.
    Cancelled,
    /// Anything else.
    Other,
}

impl JobFailure {
    /// Its name in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            JobFailure::BlockedFile => "blocked_file",
            JobFailure::BlockedModel => "blocked_model",
            JobFailure::InvalidFile => "invalid_file",
            JobFailure::Quota => "quota",
            JobFailure::Cancelled => "cancelled",
            JobFailure::Other => "other",
        }
    }

    /// Why a job failed; nothing for one that did not.
    pub fn of(job: &Job) -> Option<Self> {
        match job.status {
            JobStatus::Cancelled => Some(JobFailure::Cancelled),
            JobStatus::Failed => {
                let error = job.error.clone().unwrap_or_default();
                let was_trained = job.trained_tokens.is_some_and(|tokens| tokens > 0);
                Some(Self::classify(&error.code.unwrap_or_default(), &error.message.unwrap_or_default(), was_trained))
            }
            _ => None,
        }
    }

    /// By the code where it tells, else by phrases that providers are known to use.
    fn classify(code: &str, message: &str, was_trained: bool) -> Self {
        let message = message.to_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        // The finished model is judged by "evals"; its words also name the categories that block files.
        let of_model = says(&["moderation eval", "eval for category", "eval refusals", "evals for category"]);
        let of_file =
            says(&["were flagged", "training file was blocked", "blocked by moderation", "moderation system"]);
        match code {
            _ if of_model => JobFailure::BlockedModel,
            _ if of_file => JobFailure::BlockedFile,
            "blocked"
            | "moderation"
            | "content_policy_violation"
            | "content_filter"
            | "responsible_ai_policy_violation" => {
                if was_trained {
                    JobFailure::BlockedModel
                } else {
                    JobFailure::BlockedFile
                }
            }
            "invalid_training_file"
            | "invalid_validation_file"
            | "invalid_file"
            | "invalid_file_format"
            | "invalid_n_examples" => JobFailure::InvalidFile,
            "insufficient_quota" | "credit_balance_exhausted" | "exceeded_quota" | "billing_hard_limit_reached" => {
                JobFailure::Quota
            }
            _ if says(&["invalid file format", "invalid token", "could not be parsed", "invalid training file"]) => {
                JobFailure::InvalidFile
            }
            _ if says(&["exceeded your current quota", "insufficient quota", "credit balance", "billing limit"]) => {
                JobFailure::Quota
            }
            _ => JobFailure::Other,
        }
    }

    /// What the ledger keeps of a failed job.
    pub fn record(job: &Job) -> Option<LaunchError> {
        let class = Self::of(job)?.name().to_string();
        let error = job.error.clone().unwrap_or_default();
        let message = error.message.unwrap_or_else(|| format!("the job is {}", job.status.name()));
        Some(LaunchError { class, code: error.code.filter(|code| !code.is_empty()), message })
    }
}

/// The failure of a launch as the user is told it; nothing where it did not fail.
pub fn describe_failure(launch: &Launch) -> Option<Error> {
    if !matches!(launch.state, LaunchState::Failed | LaunchState::Cancelled) {
        return None;
    }
    let error = launch.error.clone().unwrap_or_default();
    let job = launch.job_id.as_deref().unwrap_or_default();
    let message = error.message.trim().trim_end_matches('.');
    let told = format!("job `{job}` at `{}` ({}) {}: {message}", launch.provider, launch.label, launch.state.name());
    let help = match error.class.as_str() {
        "blocked_file" => "the provider's moderation refused the rows: change them, or train on a local model",
        "blocked_model" => {
            "the provider's moderation refused the finished model, which was paid for: train on a local model or \
             elsewhere; another try would be paid for again"
        }
        "invalid_file" => "mend the rows that the provider names",
        "quota" => "add credit at the provider, then ask for the job to be launched again",
        "cancelled" => "ask for the job to be launched again if it is wanted after all",
        _ => "ask for the job to be launched again if the failure may pass; it is paid for again",
    };
    Some(Error::experiment(told).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, message: &str, trained_tokens: Option<u64>) -> Option<JobFailure> {
        let job = serde_json::json!({
            "id": "ftjob-1", "status": "failed", "trained_tokens": trained_tokens,
            "error": { "code": code, "message": message, "param": null },
        });
        JobFailure::of(&serde_json::from_value(job).unwrap())
    }

    #[test]
    fn failures_are_told_apart() {
        use JobFailure::*;
        let file = "The job failed due to an unsafe training file. This training file was blocked because too many \
                    examples were flagged by our moderation API for containing content that violates OpenAI's usage \
                    policies in the following categories: hate.";
        let model = "Error while running moderation eval refusals_v3 for snapshot ft:gpt-4.1:org::x";
        for (code, message, tokens, expected) in [
            (
                "invalid_training_file",
                "Invalid file format. Example 6174 message contains an invalid token",
                None,
                InvalidFile,
            ),
            ("", "Invalid file format. Input file is in the chat format", None, InvalidFile),
            // The code says file, the words say moderation: what blocks is moderation.
            ("invalid_training_file", file, None, BlockedFile),
            ("server_error", model, Some(1000), BlockedModel),
            ("", "The model did not pass our eval for category hate/threatening", Some(1000), BlockedModel),
            ("content_policy_violation", "blocked", None, BlockedFile),
            ("content_policy_violation", "blocked", Some(5), BlockedModel),
            ("insufficient_quota", "You exceeded", None, Quota),
            ("exceeded_quota", "", None, Quota),
            ("server_error", "The job failed due to an internal error.", None, Other),
        ] {
            assert_eq!(failure(code, message, tokens), Some(expected), "{code} {message}");
        }
        let job = |status: &str| serde_json::from_value(serde_json::json!({ "id": "x", "status": status })).unwrap();
        assert_eq!(JobFailure::of(&job("cancelled")), Some(Cancelled));
        assert_eq!(JobFailure::of(&job("paused")), None);
        assert_eq!(JobFailure::record(&job("failed")).unwrap().message, "the job is failed");
    }
}
