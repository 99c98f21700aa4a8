//! Forward and backward passes of a batch, cut into parts whose sums no number of threads can reorder.

use std::ops::Range;

use super::batch::{cut, runs};
use crate::data::random::Random;
use crate::error::Result;
use crate::model::adapter::Adapters;
use crate::model::backward::Scratch;
use crate::model::batch::Batch;
use crate::model::divergence::Divergence;
use crate::model::forward::{Activations, Prepared};
use crate::model::head::{Head, Target};
use crate::model::kernels::add;
use crate::model::share::share;
use crate::model::weights::Weights;

/// Tokens of a shard, the share of one thread: with fewer, adding up the shards' gradients would cost too much.
pub(super) const SHARD_TOKENS: usize = 1024;
/// Tokens that pass through the decoder at a time: enough to use each weight often, few enough that what the forward
/// pass leaves is still in the cache on the way back.
const RUN_TOKENS: usize = 256;
/// Values of blocks that a worker keeps for the way back, 256 MB; of longer rows it computes them twice.
pub(super) const KEPT_VALUES: usize = 1 << 26;
/// Values that one thread adds at a time.
const PIECE: usize = 1 << 16;

/// Buffers for the losses and gradients of batches.
pub struct Passes {
    prepared: Prepared,
    /// One per thread.
    workers: Vec<Worker>,
    /// The sum over the shards, then the gradients of the shards that run side by side.
    gradients: Vec<Vec<f32>>,
    /// Decides which inputs of adapters are dropped.
    noise: Option<Noise>,
}

/// A seed, and how many batches have used it.
struct Noise {
    seed: u64,
    batches: u64,
}

/// What one thread needs to run shard after shard.
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

impl Default for Worker {
    fn default() -> Self {
        Worker {
            batch: Batch::default(),
            targets: Vec::new(),
            activations: Activations::bounded(KEPT_VALUES),
            of_start: Activations::bounded(KEPT_VALUES),
            scratch: Scratch::default(),
            head: Head::default(),
            divergence: Divergence::default(),
            surprises: Vec::new(),
        }
    }
}

/// Computes the loss of some items of a batch, and adds its gradient where one is wanted.
pub type Run<'a> = dyn Fn(&mut Worker, &Prepared, Range<usize>, Option<&mut [f32]>) -> Result<f64> + Sync + 'a;

impl Passes {
    /// Buffers for these weights' shape and at most `threads` threads; with adapters, those are what gradients are of.
    pub fn new(weights: &Weights, adapters: Option<Adapters>, threads: usize) -> Result<Self> {
        let workers = (0..threads.max(1)).map(|_| Worker::default()).collect();
        let prepared = Prepared::for_batches(weights)?.beside(adapters);
        Ok(Passes { prepared, workers, gradients: Vec::new(), noise: None })
    }

    /// Lays out changed weights; what runs next is computed with them.
    pub fn update(&mut self, weights: &Weights) -> Result<()> {
        self.prepared.update(weights, self.workers.len())
    }

    /// Takes over changed adapters; what runs next is computed with them.
    pub fn update_adapters(&mut self, values: &[f32]) {
        if let Some(adapters) = &mut self.prepared.adapters {
            adapters.values.copy_from_slice(values);
        }
    }

    /// What is laid out, without adapters.
    pub fn prepared_weights(&self) -> Prepared {
        self.prepared.beside(None)
    }

    /// Decides anew which inputs of adapters are dropped.
    pub fn set_noise(&mut self, seed: u64) {
        self.noise = Some(Noise { seed, batches: 0 });
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

    /// Sum of what `run` returns for consecutive items with these `lengths` in tokens (at least one item). If a gradient is
    /// wanted, [`Passes::gradient`] is then the sum of theirs.
    pub fn run(&mut self, weights: &Weights, lengths: &[usize], wanted: bool, run: &Run) -> Result<f64> {
        let Passes { prepared, workers, gradients, noise } = self;
        let values = prepared.trained_values(weights);
        let (prepared, threads) = (&*prepared, workers.len());
        let noise = noise.as_mut().map(|noise| {
            noise.batches += 1;
            (noise.seed, noise.batches)
        });
        // A device takes as much at a time as it can, and needs no shards.
        let device_tokens = prepared.device_tokens();
        let shards = cut(lengths, device_tokens.map_or(SHARD_TOKENS, |_| usize::MAX));
        gradients.resize_with(gradients.len().max(shards.len().min(threads + 1)), Vec::new);
        let work = |(worker, items, gradient, loss): &mut (&mut Worker, Range<usize>, &mut Vec<f32>, Result<f64>)| {
            if wanted {
                gradient.resize(values, 0.0);
                gradient.fill(0.0);
            }
            let part = |part: Range<usize>| {
                let place = items.start + part.start..items.start + part.end;
                let seed = |(seed, batch)| Random::stream(seed, &[batch, place.start as u64]).next_u64();
                worker.batch.noise = noise.map(seed);
                run(worker, prepared, place, wanted.then_some(&mut gradient[..]))
            };
            let own = &lengths[items.clone()];
            let parts = match device_tokens {
                Some(_) => runs(own, device_tokens),
                None => cut(own, RUN_TOKENS),
            };
            *loss = parts.into_iter().map(part).sum();
        };
        let mut total = 0.0;
        // Shards run side by side in rounds and are added up in their order. The first is the sum from the start.
        for (round, shards) in shards.chunks(threads).enumerate() {
            let buffers = gradients.iter_mut().skip(usize::from(round > 0));
            let jobs = workers.iter_mut().zip(shards).zip(buffers);
            let mut jobs: Vec<_> =
                jobs.map(|((worker, items), gradient)| (worker, items.clone(), gradient, Ok(0.0))).collect();
            share(threads, &mut jobs, work);
            for (_, _, _, loss) in jobs {
                total += loss?;
            }
            if wanted {
                let (sum, others) = gradients.split_at_mut(1);
                let others = others.iter().take(shards.len() - usize::from(round == 0));
                others.for_each(|other| add_shared(threads, &mut sum[0], other));
            }
        }
        Ok(total)
    }
}

/// Adds up on several threads; the bits are those of one.
fn add_shared(threads: usize, sum: &mut [f32], other: &[f32]) {
    let mut parts: Vec<_> = sum.chunks_mut(PIECE).zip(other.chunks(PIECE)).collect();
    share(threads, &mut parts, |(sum, other)| add(sum, other));
}
