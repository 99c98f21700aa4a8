//! Forward and backward passes of a batch, cut into parts whose sums no number of threads can reorder.

use std::ops::Range;

use super::batch::cut;
use crate::model::backward::Scratch;
use crate::model::batch::Batch;
use crate::model::divergence::Divergence;
use crate::model::forward::{Activations, Prepared};
use crate::model::head::{Head, Target};
use crate::model::kernels::add;
use crate::model::weights::Weights;

/// Tokens of a shard, the share of one thread: with fewer, adding up the shards' gradients would cost too much.
const SHARD_TOKENS: usize = 1024;
/// Tokens that pass through the decoder at a time: enough to use each weight often, few enough that what the forward
/// pass leaves is still in the cache on the way back.
const RUN_TOKENS: usize = 256;

/// Buffers for the losses and gradients of batches.
pub struct Passes {
    prepared: Prepared,
    /// One per thread.
    workers: Vec<Worker>,
    /// One gradient per shard; the first becomes their sum.
    gradients: Vec<Vec<f32>>,
}

/// What one thread needs to run shard after shard.
#[derive(Default)]
pub struct Worker {
    /// Sequences of the run.
    pub batch: Batch,
    /// What the outputs are to predict.
    pub targets: Vec<Target>,
    /// What the forward pass computed.
    pub activations: Activations,
    /// The same of the weights that training started from.
    pub of_start: Activations,
    /// Buffers of the backward pass.
    pub scratch: Scratch,
    /// Buffers of the head.
    pub head: Head,
    /// Buffers of a divergence.
    pub divergence: Divergence,
    /// Negative log-likelihood of each target.
    pub surprises: Vec<f32>,
}

/// Computes the loss of some items of a batch, and adds its gradient where one is wanted.
pub type Run<'a> = dyn Fn(&mut Worker, &Prepared, Range<usize>, Option<&mut [f32]>) -> f64 + Sync + 'a;

impl Passes {
    /// Buffers for these weights' shape and at most `threads` threads.
    pub fn new(weights: &Weights, threads: usize) -> Self {
        let workers = (0..threads.max(1)).map(|_| Worker::default()).collect();
        Passes { prepared: Prepared::new(weights), workers, gradients: Vec::new() }
    }

    /// Lays out changed weights; what runs next is computed with them.
    pub fn update(&mut self, weights: &Weights) {
        self.prepared.update(weights);
    }

    /// The gradient that [`Passes::run`] left.
    pub fn gradient(&self) -> &[f32] {
        &self.gradients[0]
    }

    /// Exchanges that gradient for a buffer. Done before a run too, it lends the run the buffer that is to hold its
    /// gradient, so that there is one and not two.
    pub fn exchange_gradient(&mut self, buffer: &mut Vec<f32>) {
        self.gradients.resize_with(self.gradients.len().max(1), Vec::new);
        std::mem::swap(&mut self.gradients[0], buffer);
    }

    /// Sum of what `run` returns for consecutive items with these `lengths` in tokens (at least one item). With a number
    /// of values that are trained, [`Passes::gradient`] is then the sum of their gradients.
    pub fn run(&mut self, lengths: &[usize], values: Option<usize>, run: &Run) -> f64 {
        let Passes { prepared, workers, gradients } = self;
        let shards = cut(lengths, SHARD_TOKENS);
        let count = shards.len();
        gradients.resize_with(gradients.len().max(count), Vec::new);
        let mut jobs: Vec<_> = shards.into_iter().zip(&mut *gradients).map(|job| (job.0, job.1, 0.0)).collect();
        let each = jobs.len().div_ceil(workers.len());
        let prepared = &*prepared;
        let work = |worker: &mut Worker, jobs: &mut [(Range<usize>, &mut Vec<f32>, f64)]| {
            for (items, gradient, loss) in jobs {
                if let Some(values) = values {
                    gradient.resize(values, 0.0);
                    gradient.fill(0.0);
                }
                let parts = cut(&lengths[items.clone()], RUN_TOKENS).into_iter();
                let part = |part: Range<usize>| {
                    let place = items.start + part.start..items.start + part.end;
                    run(worker, prepared, place, values.map(|_| &mut gradient[..]))
                };
                *loss = parts.map(part).sum();
            }
        };
        if each == jobs.len() {
            work(&mut workers[0], &mut jobs);
        } else {
            std::thread::scope(|scope| {
                for (worker, jobs) in workers.iter_mut().zip(jobs.chunks_mut(each)) {
                    scope.spawn(|| work(worker, jobs));
                }
            });
        }
        let loss = jobs.iter().map(|job| job.2).sum();
        if values.is_some() {
            let (first, others) = gradients[..count].split_at_mut(1);
            others.iter().for_each(|other| add(&mut first[0], other));
        }
        loss
    }
}
