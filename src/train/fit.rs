//! The one training loop.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::batch::batches;
use super::lora::Lora;
use super::objective::sft::{Sft, has_loss, mean_loss, tokens};
use super::optimizer::{Adam, AdamOptions};
use super::schedule::Schedule;
use crate::data::random::Random;
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// Rows whose loss is taken before anything is trained.
const FIRST_ROWS: usize = 200;
/// Steps whose mean is the last loss.
const LAST_STEPS: usize = 20;

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
    /// Low-rank adapters of all linear maps, merged at the end.
    Lora {
        /// Inner size of an adapter.
        rank: usize,
        /// The adapters' factor is alpha / rank.
        alpha: f64,
    },
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Mean loss of the batch before the step, in nats per token.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens read in this step.
    pub tokens: usize,
}

/// What training gave.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The new weights.
    pub weights: Weights,
    /// Steps taken.
    pub steps: usize,
    /// Tokens read.
    pub tokens: usize,
    /// Mean loss over the first 200 rows under the untouched weights.
    pub first_loss: f64,
    /// Mean of the last 20 steps' losses.
    pub last_loss: f64,
    /// Step (from 1) and its loss.
    pub curve: Vec<(usize, f64)>,
}

/// Trains copies of `weights` on the examples that carry loss; `on_step` is called after every step and stops the
/// training by an error, which is then returned.
pub fn fit(
    weights: &Weights,
    examples: &[Example],
    options: &Options,
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Trained> {
    check(weights, examples, options)?;
    let rows: Vec<&Example> = examples.iter().filter(|example| has_loss(example)).collect();
    ensure!(!rows.is_empty() || options.epochs == 0, "no row has an assistant message to train on");
    let lengths: Vec<usize> = rows.iter().map(|row| tokens(row)).collect();
    let mut random = Random::stream(options.seed, &[0xF17]);
    let plan: Vec<Vec<usize>> =
        (0..options.epochs).flat_map(|_| batches(&lengths, options.batch_tokens, &mut random)).collect();

    let first_loss = mean_loss(weights, &rows[..rows.len().min(FIRST_ROWS)]);
    let mut model = Trainable::new(weights, options);
    let mut objective = Sft::new(weights, options.threads);
    let mut adam = Adam::new(adam_options(options), model.parts());
    let (mut curve, mut total_tokens) = (Vec::with_capacity(plan.len()), 0);
    for (index, batch) in plan.iter().enumerate() {
        let batch: Vec<&Example> = batch.iter().map(|row| rows[*row]).collect();
        let learning_rate = options.learning_rate * options.schedule.factor(index, plan.len(), options.warmup_fraction);
        let (loss, gradient) = objective.gradient(&model.weights, &batch);
        let gradient_norm = model.step(&mut adam, gradient, learning_rate);
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            let message =
                format!("loss is {loss} with gradient norm {gradient_norm} at step {} of {}", index + 1, plan.len());
            return Err(Error::experiment(message).with_help("lower `learning_rate`"));
        }
        let tokens = batch.iter().map(|row| tokens(row)).sum();
        total_tokens += tokens;
        curve.push((index + 1, loss));
        on_step(&Step { step: index + 1, steps: plan.len(), loss, gradient_norm, learning_rate, tokens })?;
    }
    let last = &curve[curve.len().saturating_sub(LAST_STEPS)..];
    let last_loss = last.iter().map(|(_, loss)| loss).sum::<f64>() / last.len() as f64;
    Ok(Trained { weights: model.weights, steps: plan.len(), tokens: total_tokens, first_loss, last_loss, curve })
}

fn check(weights: &Weights, examples: &[Example], options: &Options) -> Result<()> {
    let learns = options.learning_rate.is_finite() && options.learning_rate > 0.0;
    ensure!(learns, "`learning_rate` is {}, it is above 0", options.learning_rate);
    ensure!(options.batch_tokens > 0, "`batch_tokens` is 0, it is at least 1");
    ensure!((0.0..=1.0).contains(&options.warmup_fraction), "`warmup_fraction` is {}", options.warmup_fraction);
    if let Method::Lora { rank, .. } = options.method {
        ensure!(rank > 0, "`rank` is 0, it is at least 1");
    }
    let (context, vocabulary) = (weights.config.context, weights.config.vocabulary);
    for example in examples {
        ensure!(example.ids.len() == example.loss_mask.len(), "a row has other loss marks than tokens");
        ensure!(tokens(example) <= context, "a row has {} tokens, the model reads {}", tokens(example), context);
        let id = example.ids.iter().max().copied().unwrap_or(0);
        ensure!((id as usize) < vocabulary, "a row has token {}, the model has {}", id, vocabulary);
        ensure!(example.weight.is_finite(), "a row has the weight {}", example.weight);
    }
    Ok(())
}

fn adam_options(options: &Options) -> AdamOptions {
    AdamOptions {
        beta1: options.beta1,
        beta2: options.beta2,
        epsilon: options.epsilon,
        weight_decay: options.weight_decay,
        clip: options.clip,
    }
}

/// The weights that are used, and what of them is trained.
struct Trainable<'a> {
    weights: Weights,
    adapters: Option<(&'a Weights, Lora, Vec<f32>)>,
}

impl<'a> Trainable<'a> {
    fn new(weights: &'a Weights, options: &Options) -> Self {
        let adapters = match options.method {
            Method::Full => None,
            Method::Lora { rank, alpha } => Some((weights, Lora::new(weights, rank, alpha, options.seed), Vec::new())),
        };
        Trainable { weights: weights.clone(), adapters }
    }

    /// Parts of the trained buffer, and whether they decay: matrices do, gains do not.
    fn parts(&self) -> Vec<(Range<usize>, bool)> {
        match &self.adapters {
            Some((_, lora, _)) => vec![(0..lora.values.len(), true)],
            None => self.weights.tensors().into_iter().map(|tensor| (tensor.range, tensor.shape.len() > 1)).collect(),
        }
    }

    fn step(&mut self, adam: &mut Adam, gradient: &[f32], learning_rate: f64) -> f64 {
        match &mut self.adapters {
            None => adam.step(&mut self.weights.values, gradient, learning_rate),
            Some((frozen, lora, of_adapters)) => {
                lora.gradient(gradient, of_adapters);
                let norm = adam.step(&mut lora.values, of_adapters, learning_rate);
                lora.merge(frozen, &mut self.weights);
                norm
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::config::Config;
    use crate::model::config::tests::tiny;
    use crate::train::objective::sft;

    fn examples(count: usize, length: usize) -> Vec<Example> {
        let mut random = Random::new(4);
        let row = |_| {
            let length = 4 + random.below(length - 3);
            let ids: Vec<u32> = (0..length).map(|_| random.below(37) as u32).collect();
            let loss_mask = (0..length).map(|position| position > length / 2).collect();
            Example { ids, loss_mask, weight: 1.0 }
        };
        (0..count).map(row).collect()
    }

    fn silent(_: &Step) -> Result<()> {
        Ok(())
    }

    #[test]
    fn a_few_rows_are_memorised() {
        let mut weights = Weights::initial(&tiny(), 1).unwrap();
        // Adapters leave the embedding as it is: it must be large enough to tell tokens apart.
        let embedding = weights.layout.embedding.clone();
        weights.values[embedding].iter_mut().for_each(|value| *value *= 30.0);
        let examples = examples(6, 20);
        let fast = Options { learning_rate: 1e-2, epochs: 150, batch_tokens: 64, ..Options::default() };
        let lora = Options { method: Method::Lora { rank: 16, alpha: 32.0 }, epochs: 400, ..fast.clone() };
        for options in [fast, lora] {
            let trained = fit(&weights, &examples, &options, &mut silent).unwrap();
            let end = mean_loss(&trained.weights, &examples.iter().collect::<Vec<_>>());
            assert!(trained.first_loss > 3.0 && end < 0.1, "{:?}: {} {end}", options.method, trained.first_loss);
        }
    }

    #[test]
    fn threads_never_change_a_bit() {
        let config = Config { context: 200, ..tiny() };
        let weights = Weights::initial(&config, 1).unwrap();
        let examples = examples(90, 150);
        for method in [Method::Full, Method::Lora { rank: 2, alpha: 4.0 }] {
            let run = |threads, seed| {
                let options = Options { threads, seed, batch_tokens: 4000, epochs: 2, method, ..Options::default() };
                let trained = fit(&weights, &examples, &options, &mut silent).unwrap();
                (trained.weights.digest().unwrap(), trained.curve)
            };
            let one = run(1, 0);
            assert_eq!(one, run(2, 0));
            assert_eq!(one, run(5, 0));
            assert_ne!(one.0, run(1, 1).0);
        }
    }

    #[test]
    fn lora_gradient_is_that_of_its_factors() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let examples = examples(5, 20);
        let rows: Vec<&Example> = examples.iter().collect();
        let mut lora = Lora::new(&weights, 3, 6.0, 2);
        let mut random = Random::new(7);
        lora.values.iter_mut().for_each(|value| *value += 0.05 * random.normal() as f32);
        let mut merged = weights.clone();
        let mut loss_and_gradient = |lora: &mut Lora| {
            lora.merge(&weights, &mut merged);
            let mut objective = Sft::new(&merged, 1);
            let (loss, gradient) = objective.gradient(&merged, &rows);
            let mut of_adapters = Vec::new();
            lora.gradient(gradient, &mut of_adapters);
            (loss, of_adapters)
        };
        let (_, gradient) = loss_and_gradient(&mut lora);
        let direction: Vec<f32> = gradient.iter().map(|_| random.normal() as f32).collect();
        let mut at = |step: f32| {
            let kept = lora.values.clone();
            lora.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
            let loss = loss_and_gradient(&mut lora).0;
            lora.values = kept;
            loss
        };
        let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!((difference - slope).abs() < 0.01 * size, "{difference} {slope} {size}");
    }

    #[test]
    fn weights_of_rows_scale_their_loss() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let mut examples = examples(2, 12);
        let alone = mean_loss(&weights, &[&examples[0]]);
        examples[1].weight = 0.0;
        assert_eq!(mean_loss(&weights, &examples.iter().collect::<Vec<_>>()), alone);
        examples[0].weight = 0.25;
        assert!((mean_loss(&weights, &[&examples[0]]) - alone).abs() < 1e-6);
        assert!(!sft::has_loss(&examples[1]));
    }

    #[test]
    fn failures_are_told() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let examples = examples(20, 20);
        let mut broken = weights.clone();
        broken.values[100] = f32::NAN;
        let options = Options { batch_tokens: 100, ..Options::default() };
        let error = fit(&broken, &examples, &options, &mut silent).unwrap_err();
        assert!(error.kind == Kind::Experiment && error.message.contains("step 1 of"), "{error}");
        let stop = |step: &Step| match step.step {
            2 => Err(Error::new(Kind::Interrupted, "enough")),
            _ => Ok(()),
        };
        assert_eq!(fit(&weights, &examples, &options, &mut { stop }).unwrap_err().kind, Kind::Interrupted);
        let question = Example { loss_mask: vec![false; 3], ids: vec![1, 2, 3], weight: 1.0 };
        assert_eq!(fit(&weights, &[question], &options, &mut silent).unwrap_err().kind, Kind::Input);
    }

    /// `cargo test --release --lib speed_of_training -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_training() {
        let config = Config {
            vocabulary: 2500,
            width: 64,
            layers: 4,
            heads: 4,
            key_value_heads: 4,
            feed_forward: 192,
            context: 160,
            ..tiny()
        };
        let weights = Weights::initial(&config, 1).unwrap();
        let mut random = Random::new(4);
        for (mean, loss, batch_tokens) in [(30, 10, 512), (49, 20, 1536)] {
            let mut row = || {
                let length = mean * 2 / 3 + random.below(mean * 2 / 3);
                let ids: Vec<u32> = (0..length).map(|_| random.below(2500) as u32).collect();
                let loss_mask = (0..length).map(|position| position + loss >= length).collect();
                Example { ids, loss_mask, weight: 1.0 }
            };
            let examples: Vec<Example> = (0..2000).map(|_| row()).collect();
            for (threads, method) in [(1, Method::Full), (1, Method::Lora { rank: 8, alpha: 16.0 }), (2, Method::Full)]
            {
                let options = Options { batch_tokens, threads, method, ..Options::default() };
                let mut last = std::time::Instant::now();
                let mut rates = Vec::new();
                let mut on_step = |step: &Step| {
                    rates.push(step.tokens as f64 / last.elapsed().as_secs_f64());
                    last = std::time::Instant::now();
                    Ok(())
                };
                fit(&weights, &examples, &options, &mut on_step).unwrap();
                rates.remove(0);
                rates.sort_by(f64::total_cmp);
                let at = |share: f64| rates[(rates.len() as f64 * share) as usize];
                println!(
                    "{batch_tokens} {method:?} threads {threads}: median {:.0} tokens/s, 90th percentile {:.0}",
                    at(0.5),
                    at(0.9)
                );
            }
        }
    }
}
