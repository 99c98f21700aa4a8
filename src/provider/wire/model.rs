//! Models as a provider lists them.

use serde::{Deserialize, Serialize};

/// A model that a key can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteModel {
    /// Its name in requests.
    pub id: String,
    /// Who made it.
    #[serde(default)]
    pub owned_by: String,
    /// The day on which it goes away, `YYYY-MM-DD`.
    #[serde(default)]
    pub shutdown_date: Option<String>,
    /// vLLM: the base of an adapter.
    #[serde(default)]
    pub parent: Option<String>,
}
