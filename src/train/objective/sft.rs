//! Supervised fine-tuning: cross-entropy of the tokens that carry loss.

use crate::model::backward::{Scratch, backward};
use crate::model::batch::Batch;
use crate::model::chat::Example;
use crate::model::forward::{Activations, Prepared, forward};
use crate::model::head::{self, Head, Target};
use crate::model::kernels::add;
use crate::model::weights::Weights;
use crate::train::batch::cut;

/// Tokens of a shard, the share of one thread: with fewer, adding up the shards' gradients would cost too much.
const SHARD_TOKENS: usize = 1024;
/// Tokens that pass through the decoder at a time: enough to use each weight often, few enough that what the forward
/// pass leaves is still in the cache on the way back.
const RUN_TOKENS: usize = 256;

/// Buffers for losses and gradients of batches.
pub struct Sft {
    prepared: Prepared,
    /// One per thread.
    workers: Vec<Worker>,
    /// One gradient per shard; the first becomes their sum.
    gradients: Vec<Vec<f32>>,
}

/// What one thread needs to run shard after shard.
#[derive(Default)]
struct Worker {
    batch: Batch,
    targets: Vec<Target>,
    activations: Activations,
    scratch: Scratch,
    head: Head,
}

/// Whether a row trains anything.
pub fn has_loss(example: &Example) -> bool {
    example.weight != 0.0 && example.loss_mask.iter().skip(1).any(|flag| *flag)
}

/// Tokens of a row that are read: all before the last one that is predicted.
pub fn tokens(example: &Example) -> usize {
    example.loss_mask.iter().rposition(|flag| *flag).unwrap_or(0)
}

/// Mean loss over the tokens that carry loss, weighted by row; NaN when there is none.
pub fn mean_loss(weights: &Weights, examples: &[&Example]) -> f64 {
    let prepared = Prepared::new(weights);
    let mut worker = Worker::default();
    let total = loss_weight(examples);
    let losses = examples.chunks(32).map(|examples| worker.run(weights, &prepared, examples, 1.0 / total, None));
    losses.sum::<f64>() / if total > 0.0 { 1.0 } else { 0.0 }
}

/// Sum over the tokens that carry loss of the size of their row's weight.
fn loss_weight(examples: &[&Example]) -> f64 {
    let weight = |example: &&Example| {
        let count = example.loss_mask.iter().skip(1).filter(|flag| **flag).count();
        f64::from(example.weight.abs()) * count as f64
    };
    examples.iter().map(weight).sum()
}

impl Sft {
    /// Buffers for these weights' shape and at most `threads` threads.
    pub fn new(weights: &Weights, threads: usize) -> Self {
        let workers = (0..threads.max(1)).map(|_| Worker::default()).collect();
        Sft { prepared: Prepared::new(weights), workers, gradients: Vec::new() }
    }

    /// Mean loss of the examples (at least one of them has loss) and its gradient.
    pub fn gradient(&mut self, weights: &Weights, examples: &[&Example]) -> (f64, &[f32]) {
        let Sft { prepared, workers, gradients } = self;
        prepared.update(weights);
        let lengths: Vec<usize> = examples.iter().map(|example| tokens(example)).collect();
        let shards = cut(&lengths, SHARD_TOKENS);
        let scale = 1.0 / loss_weight(examples);
        gradients.resize_with(gradients.len().max(shards.len()), || vec![0.0; weights.values.len()]);
        let mut jobs: Vec<_> = shards
            .iter()
            .zip(&mut *gradients)
            .map(|(rows, gradient)| (&examples[rows.clone()], gradient, 0.0))
            .collect();
        let each = jobs.len().div_ceil(workers.len());
        let prepared = &*prepared;
        let run = |worker: &mut Worker, jobs: &mut [(&[&Example], &mut Vec<f32>, f64)]| {
            for (examples, gradient, loss) in jobs {
                gradient.fill(0.0);
                let lengths: Vec<usize> = examples.iter().map(|example| tokens(example)).collect();
                let runs = cut(&lengths, RUN_TOKENS);
                let run = |rows| worker.run(weights, prepared, &examples[rows], scale, Some(gradient));
                *loss = runs.into_iter().map(run).sum();
            }
        };
        if each == jobs.len() {
            run(&mut workers[0], &mut jobs);
        } else {
            std::thread::scope(|scope| {
                for (worker, jobs) in workers.iter_mut().zip(jobs.chunks_mut(each)) {
                    scope.spawn(|| run(worker, jobs));
                }
            });
        }
        let loss = jobs.iter().map(|job| job.2).sum();
        let (first, others) = gradients[..shards.len()].split_at_mut(1);
        others.iter().for_each(|other| add(&mut first[0], other));
        (loss, &first[0])
    }
}

impl Worker {
    /// Sum of the losses times `scale` and their rows' weights; adds the gradient where one is wanted.
    fn run(
        &mut self,
        weights: &Weights,
        prepared: &Prepared,
        examples: &[&Example],
        scale: f64,
        mut gradient: Option<&mut [f32]>,
    ) -> f64 {
        let Worker { batch, targets, activations, scratch, head } = self;
        batch.clear();
        targets.clear();
        for example in examples.iter().filter(|example| has_loss(example)) {
            let predicted = || (1..example.ids.len()).filter(|position| example.loss_mask[*position]);
            batch.push(&example.ids[..tokens(example)], predicted().map(|position| position - 1));
            let weight = (f64::from(example.weight) * scale) as f32;
            targets.extend(predicted().map(|position| Target { id: example.ids[position], weight }));
        }
        if targets.is_empty() {
            return 0.0;
        }
        forward(weights, prepared, batch, activations);
        let loss = head::loss(weights, prepared, activations.hidden(), targets, head, gradient.as_deref_mut());
        if let Some(gradient) = gradient {
            backward(weights, prepared, batch, activations, &head.d_hidden, scratch, gradient);
        }
        loss
    }
}
