//! What computes the passes over models that live here.

use std::sync::Arc;

use super::Lab;
use crate::model::processor::Processor;
use crate::model::weights::Weights;

impl Lab {
    /// What computes the passes over models: `--device`, or else what `drylab.toml` names.
    pub fn processor(&self) -> Processor {
        self.inner.processor
    }

    /// Weights whose passes this lab's processor computes.
    pub fn place(&self, weights: Arc<Weights>) -> Arc<Weights> {
        match weights.processor == self.processor() {
            true => weights,
            false => Arc::new(Arc::unwrap_or_clone(weights).on(self.processor())),
        }
    }

    /// The program, for records: on another device results have other last digits.
    pub fn program(&self) -> String {
        let program = concat!("drylab ", env!("CARGO_PKG_VERSION"));
        match self.processor() {
            Processor::Cpu => program.to_string(),
            device => format!("{program} on {device}"),
        }
    }

    /// Threads that a call that computes may use: its own, and those of the calls that could run beside it. The number
    /// must not change what it computes.
    pub fn threads(&self) -> usize {
        match self.processor() {
            Processor::Cpu => 1 + self.inner.engine.idle(),
            // The calls beside it wait for the device.
            _ => std::thread::available_parallelism().map_or(1, |count| count.get()),
        }
    }
}
