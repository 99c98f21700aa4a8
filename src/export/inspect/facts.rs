//! What an Inspect log says beyond the answers: the script, the statistics, the judges' models, what was used and paid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde_json::Value;

use crate::data::digest::Digest;
use crate::data::statistics::Estimate;

/// Facts of one log that its sheet does not hold; every field may be left as it is by default.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The script's file.
    pub script: String,
    /// The experiment's title.
    pub title: String,
    /// Version of drylab.
    pub version: String,
    /// When the log was made; the first answer's time when absent, so that equal results give equal bytes.
    pub created: Option<SystemTime>,
    /// What all logs of one run have in common; the evaluation's digest when absent.
    pub run: Option<String>,
    /// Name of the group in figures; the point without its seed when absent, or else the model.
    pub group: Option<String>,
    /// What may be said about the score of this one model.
    pub statistics: Option<Estimate>,
    /// Name of the model behind every asked judge, by the judge's name.
    pub judge_models: BTreeMap<String, String>,
    /// What the answers used.
    pub usage: Option<Usage>,
    /// What each asked judge used, by the judge's name.
    pub judge_usage: BTreeMap<String, Usage>,
    /// State of the project's git repository.
    pub revision: Option<Revision>,
    /// Further metadata of the whole log: shutdown date of the model, history of rate limits.
    pub metadata: BTreeMap<String, Value>,
    /// Keys of the answers that were there before this run.
    pub cached: BTreeSet<Digest>,
    /// Whether the token probabilities of judges are written; they make logs large.
    pub probabilities: bool,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens that went in, without those that the provider had cached.
    pub input_tokens: u64,
    /// Tokens that went in and were cached by the provider.
    pub cached_input_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// What it cost, where that is known.
    pub dollars: Option<f64>,
}

/// State of a git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Address that it was cloned from.
    pub origin: String,
    /// The commit.
    pub commit: String,
    /// Whether files differ from the commit.
    pub dirty: bool,
}

impl Usage {
    /// Both together; the cost is known where one of them is.
    pub(super) fn plus(self, other: Usage) -> Usage {
        let dollars = match (self.dollars, other.dollars) {
            (None, None) => None,
            (one, another) => Some(one.unwrap_or(0.0) + another.unwrap_or(0.0)),
        };
        Usage {
            input_tokens: self.input_tokens + other.input_tokens,
            cached_input_tokens: self.cached_input_tokens + other.cached_input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            dollars,
        }
    }
}
