//! How to train, and the checks of it.

use serde::{Deserialize, Serialize};

use super::lora::AdapterOptions;
use super::optimizer::AdamOptions;
use super::schedule::Schedule;
use crate::ensure;
use crate::error::Result;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Passes over the rows.
    pub epochs: usize,
    /// Most tokens of a batch.
    pub batch_tokens: usize,
    /// Share of the steps over which the learning rate rises.
    pub warmup_fraction: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Decoupled decay of matrices.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Longest gradient.
    pub clip: f64,
    /// Decides the order of rows and the first adapters.
    pub seed: u64,
    /// What is trained.
    pub method: Method,
    /// How adapters are made, where the method trains them.
    pub adapters: AdapterOptions,
    /// Batches of a step; losses are means over all of them.
    pub accumulate: usize,
    /// Most threads; never changes the result.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            learning_rate: 1.2e-4,
            epochs: 1,
            batch_tokens: 512,
            warmup_fraction: 0.1,
            schedule: Schedule::Linear,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            clip: 1.0,
            seed: 0,
            method: Method::Full,
            adapters: AdapterOptions::default(),
            accumulate: 1,
            threads: 1,
        }
    }
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every value.
    Full,
    /// Low-rank adapters of linear maps, merged at the end.
    Lora {
        /// Inner size of an adapter.
        rank: usize,
        /// The adapters' factor is alpha / rank, or alpha / sqrt(rank).
        alpha: f64,
    },
}

impl Options {
    /// Refuses what cannot be trained with.
    pub fn check(&self) -> Result<()> {
        let learns = self.learning_rate.is_finite() && self.learning_rate > 0.0;
        ensure!(learns, "`learning_rate` is {}, it is above 0", self.learning_rate);
        ensure!(self.batch_tokens > 0, "`batch_tokens` is 0, it is at least 1");
        ensure!(self.accumulate > 0, "`accumulate` is 0, it is at least 1");
        ensure!((0.0..=1.0).contains(&self.warmup_fraction), "`warmup_fraction` is {}", self.warmup_fraction);
        if let Method::Lora { rank, .. } = self.method {
            ensure!(rank > 0, "`rank` is 0, it is at least 1");
            self.adapters.check()?;
        }
        Ok(())
    }

    /// What the optimizer needs of them.
    pub fn adam(&self) -> AdamOptions {
        AdamOptions {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
        }
    }
}
