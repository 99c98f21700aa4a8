//! The one training loop.

use super::checkpoint::State;
use super::lora::Lora;
use super::objective::Objective;
pub use super::options::{Method, Options};
pub use super::training::{Reading, Step, Training};
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::weights::Weights;

/// What training gave.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The new weights.
    pub weights: Weights,
    /// The adapters that they were merged from, where those were trained.
    pub adapters: Option<Lora>,
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
    /// The same of every term and change of the objective, by name.
    pub terms: Vec<(String, Vec<(usize, f64)>)>,
}

/// What is told about a training while it runs; an error stops it and is returned.
pub struct Watch<'w> {
    /// Called at the end of every epoch, from epoch 0 before the first step, with the weights of that moment.
    pub on_epoch: &'w mut dyn FnMut(usize, &Weights) -> Result<()>,
    /// Called after every step, after `on_epoch`; the training gives a checkpoint to whoever asks for one.
    pub on_step: &'w mut dyn FnMut(&Step, &Training) -> Result<()>,
}

/// Trains copies of `weights` on the examples that carry loss; `on_step` is called after every step and stops the
/// training by an error, which is then returned.
pub fn fit(
    weights: &Weights,
    examples: &[Example],
    options: &Options,
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Trained> {
    let mut watch = Watch { on_epoch: &mut |_, _| Ok(()), on_step: &mut |step, _| on_step(step) };
    train(weights, examples, &Objective::sft(), options, None, &mut watch)
}

/// Minimises an objective: `examples` are its outcome rows. With a checkpoint of the same training, goes on from there
/// as if it had never stopped.
pub fn train(
    weights: &Weights,
    examples: &[Example],
    objective: &Objective,
    options: &Options,
    checkpoint: Option<&[u8]>,
    watch: &mut Watch,
) -> Result<Trained> {
    let mut training = Training::new(weights, examples, objective, options)?;
    if let Some(checkpoint) = checkpoint {
        training.resume(State::from_bytes(checkpoint)?)?;
    }
    go_on(training, watch, &mut |error, _| error)
}

/// Takes a training to its end from where it is. What stops it is first shown to `on_error`, with the training as it was
/// after its last step.
pub fn go_on(
    mut training: Training,
    watch: &mut Watch,
    on_error: &mut dyn FnMut(Error, &Training) -> Error,
) -> Result<Trained> {
    if training.done() == 0 {
        (watch.on_epoch)(0, training.weights())?;
    }
    while training.done() < training.steps() {
        let taken = training.step().and_then(|step| {
            if let Some(epoch) = step.epoch {
                (watch.on_epoch)(epoch, training.weights())?;
            }
            (watch.on_step)(&step, &training)
        });
        taken.map_err(|error| on_error(error, &training))?;
    }
    training.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::error::Kind;
    use crate::model::config::Config;
    use crate::model::config::tests::tiny;
    use crate::train::objective::sft::{self, Sft, mean_loss};

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
