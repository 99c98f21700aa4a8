//! What a run tells whoever watches: the log, the progress bars, the plan.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bill::Bill;
use crate::data::digest::Digest;

/// Kinds of work, in the order in which people think of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Training a network from nothing.
    Pretrain,
    /// Fine-tuning a model.
    FineTune,
    /// Fitting a judge.
    Judge,
    /// Asking a model and judging its answers.
    Evaluate,
    /// Fitting a probe on activations, or measuring one.
    Probe,
    /// Reading what a model thinks of given rows.
    Measure,
}

impl Stage {
    /// The stage in a table: many calls of it.
    pub fn title(self) -> &'static str {
        match self {
            Stage::Pretrain => "pre-trainings",
            Stage::FineTune => "fine-tunes",
            Stage::Judge => "judges",
            Stage::Evaluate => "evaluations",
            Stage::Probe => "probes",
            Stage::Measure => "likelihoods",
        }
    }
    /// What is counted within a call of this stage.
    pub fn unit(self) -> &'static str {
        match self {
            Stage::Pretrain | Stage::FineTune => "training rows",
            Stage::Judge => "labelled rows",
            Stage::Evaluate => "generations",
            Stage::Probe => "fits",
            Stage::Measure => "rows",
        }
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// It would have to work.
    Planned {
        /// Pieces of work in it that are not there yet.
        missing: u64,
        /// What of it must be bought.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bills: Vec<Bill>,
    },
    /// It waits for its inputs or its turn.
    Queued,
    /// It was there already.
    Cached {
        /// The run that did the work.
        run: String,
    },
    /// It works.
    Started,
    /// It is done.
    Finished {
        /// How long it worked.
        seconds: f64,
    },
    /// It failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// Something happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A call changed its state.
    Call {
        /// Identity of the call.
        key: Digest,
        /// Kind of work.
        stage: Stage,
        /// What people call it.
        label: String,
        /// Its state.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// Work within a call went on.
    Progress {
        /// Identity of the call.
        key: Digest,
        /// Share that is done, 0 to 1.
        fraction: f64,
        /// The step that was just done, for trainings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u64>,
        /// The latest loss, for trainings.
        #[serde(skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
    },
    /// Pieces of work were done that a cached run would not do.
    Worked {
        /// Kind of work.
        stage: Stage,
        /// How many pieces.
        count: u64,
    },
    /// A checkpoint comes from the hub; when planning, it would.
    Fetch {
        /// Its repository.
        name: String,
        /// The commit that its revision means.
        commit: String,
        /// Files that are not in the cache yet.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// How many of these have come.
        fetched: u64,
    },
    /// The user should know.
    Note {
        /// What.
        text: String,
    },
    /// The script printed.
    Print {
        /// What.
        text: String,
    },
    /// A file of the run was written.
    Wrote {
        /// Where, relative to the project.
        path: String,
    },
}

/// Where events go; clones share the listener.
#[derive(Clone)]
pub struct Events {
    listener: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Events {
    /// Sends every event to the listener, from any thread.
    pub fn new(listener: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Events { listener: Arc::new(listener) }
    }
    /// Nobody watches.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }
    /// Tells the listener.
    pub fn send(&self, event: Event) {
        (self.listener)(event);
    }
}
