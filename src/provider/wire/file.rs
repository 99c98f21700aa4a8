//! Uploaded files.

use serde::{Deserialize, Serialize};

/// A file at the provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Its number.
    pub id: String,
    /// The name that it was uploaded under.
    #[serde(default)]
    pub filename: String,
    /// Its size.
    #[serde(default)]
    pub bytes: u64,
    /// fine-tune, batch, ...
    #[serde(default)]
    pub purpose: String,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
}
