//! Batches of requests that are answered within a day at half the price.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A batch as the provider describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Its number.
    pub id: String,
    /// validating, failed, in_progress, finalizing, completed, expired, cancelling, cancelled, or something newer.
    pub status: String,
    /// The requests.
    #[serde(default)]
    pub input_file_id: String,
    /// Answers, in any order.
    #[serde(default)]
    pub output_file_id: Option<String>,
    /// Requests that failed.
    #[serde(default)]
    pub error_file_id: Option<String>,
    /// Why the whole batch failed.
    #[serde(default)]
    pub errors: Option<Value>,
    /// The marks that whoever launched it gave it.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// How many requests it has and how many are done.
    #[serde(default)]
    pub request_counts: Option<RequestCounts>,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
}

impl Batch {
    /// Whether it will never change again.
    pub fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "failed" | "completed" | "expired" | "cancelled")
    }
}

/// Progress of a batch.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCounts {
    /// All.
    pub total: u64,
    /// Answered.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// One line of an output or error file.
#[derive(Clone, Debug, Deserialize)]
pub struct BatchLine {
    /// The mark of the request.
    pub custom_id: String,
    /// The answer, where there is one.
    #[serde(default)]
    pub response: Option<BatchAnswer>,
    /// Why there is none.
    #[serde(default)]
    pub error: Option<Value>,
}

/// The answer to one request of a batch.
#[derive(Clone, Debug, Deserialize)]
pub struct BatchAnswer {
    /// HTTP status that a single call would have had.
    #[serde(default)]
    pub status_code: u16,
    /// Its number at the provider.
    #[serde(default)]
    pub request_id: String,
    /// What a single call would have got.
    #[serde(default)]
    pub body: Value,
}
