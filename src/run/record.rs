//! The record of a run, `run.json`: what was run, with which parameters, how it ended, and what it used.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Name of the record in the run's folder.
const FILE: &str = "run.json";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is going on, or its process died.
    Running,
    /// It came to its end.
    Finished,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

/// One run of one script.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its name, which is its folder's.
    pub name: String,
    /// Path of the script.
    pub script: String,
    /// First line of the script's `//!` comment.
    pub title: String,
    /// Text of the script and of every module it imported, by path.
    pub sources: BTreeMap<String, String>,
    /// Every parameter and its value.
    pub parameters: BTreeMap<String, Value>,
    /// How it ended.
    pub outcome: Outcome,
    /// Message of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Process that runs it.
    pub process: u32,
    /// When it began, RFC 3339.
    pub began: String,
    /// How long it took.
    pub seconds: f64,
    /// The program that ran it.
    pub program: String,
    /// Calls in it, by key: label and state.
    #[serde(default)]
    pub calls: Vec<Value>,
    /// Files it wrote, relative to the project.
    #[serde(default)]
    pub files: Vec<String>,
}

impl RunRecord {
    /// Writes the record whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
        let temporary = folder.join(format!(".{FILE}.{}", self.process));
        std::fs::write(&temporary, text + "\n")?;
        std::fs::rename(&temporary, folder.join(FILE))?;
        Ok(())
    }

    /// Reads the record of a run.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::environment(format!("`{}` cannot be read: {error}", path.display())))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::environment(format!("`{}` is damaged: {error}", path.display())))
    }
}
