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
    /// Called at the end of every epoch, from epoch 0 before the first step; the training gives its weights to whoever
    /// asks for them.
    pub on_epoch: &'w mut dyn FnMut(usize, &Training) -> Result<()>,
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
        (watch.on_epoch)(0, &training)?;
    }
    while training.done() < training.steps() {
        let taken = training.step().and_then(|step| {
            if let Some(epoch) = step.epoch {
                (watch.on_epoch)(epoch, &training)?;
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
    use crate::model::processor::tests::tested;
    use crate::model::variant::FAMILIES;
    use crate::model::weights::tests::odd;
    use crate::train::lora::AdapterOptions;
    use crate::train::objective::l2_start::distance;
    use crate::train::objective::loss::{Loss, Source};
    use crate::train::objective::sft::{self, Sft, mean_loss};
    use crate::train::passes::Passes;

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
            let end = mean_loss(&trained.weights, &examples.iter().collect::<Vec<_>>()).unwrap();
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
    fn adapters_beside_the_weights_are_adapters_merged_into_them() {
        for family in FAMILIES {
            let weights = odd(family, 1);
            let examples = examples(5, 20);
            let rows: Vec<&Example> = examples.iter().collect();
            let mut lora = Lora::new(&weights, 3, 6.0, 2);
            let mut random = Random::new(7);
            lora.values.iter_mut().for_each(|value| *value += 0.05 * random.normal() as f32);
            let mut merged = weights.clone();
            lora.merge(&weights, &mut merged);
            let expected = mean_loss(&merged, &rows).unwrap();
            let (loss, gradient) = beside(&lora, &weights, &rows, None);
            assert!((loss / expected - 1.0).abs() < 1e-5, "{loss} {expected}");
            // The chain rule through the merged weights.
            let mut whole = Sft::new(&merged, 1).unwrap();
            let (_, of_merged) = whole.gradient(&merged, &rows).unwrap();
            let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            for _ in 0..4 {
                let direction: Vec<f32> = gradient.iter().map(|_| random.normal() as f32).collect();
                let reach = 1e-3;
                let moved = |step: f32| {
                    let mut lora = lora.clone();
                    lora.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
                    let mut merged = weights.clone();
                    lora.merge(&weights, &mut merged);
                    merged.values
                };
                let slope =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let change: Vec<f32> =
                    moved(reach).iter().zip(moved(-reach)).map(|(more, less)| (more - less) / (2.0 * reach)).collect();
                let (found, expected) = (slope(&gradient, &direction), slope(of_merged, &change));
                assert!((found - expected).abs() < 1e-3 * size, "{family:?}: {found} {expected} {size}");
            }
        }
    }

    /// Loss and gradient of adapters beside frozen weights; with noise, some of their inputs are dropped.
    fn beside(lora: &Lora, weights: &Weights, rows: &[&Example], noise: Option<u64>) -> (f64, Vec<f32>) {
        let mut passes = Passes::new(weights, Some(lora.beside(weights)), 1).unwrap();
        noise.into_iter().for_each(|noise| passes.set_noise(noise));
        let rows: Vec<Example> = rows.iter().map(|row| (*row).clone()).collect();
        let source = Source::new(Loss::Sft, &rows, &[], None).unwrap();
        let all: Vec<usize> = (0..source.units.len()).collect();
        let amount = source.amount(std::slice::from_ref(&all));
        let loss = source.run(&mut passes, weights, None, &all, amount, true).unwrap();
        (loss, passes.gradient().to_vec())
    }

    #[test]
    fn a_device_trains_the_same_adapters() {
        for family in FAMILIES {
            let weights = odd(family, 1);
            let examples = examples(5, 20);
            let rows: Vec<&Example> = examples.iter().collect();
            let mut random = Random::new(7);
            for dropout in [0.0, 0.4] {
                let options = AdapterOptions { dropout, ..AdapterOptions::default() };
                let mut lora = Lora::with(&weights, 3, 6.0, &options, 2).unwrap();
                lora.values.iter_mut().for_each(|value| *value += 0.05 * random.normal() as f32);
                let (loss, gradient) = beside(&lora, &weights, &rows, Some(5));
                let (found, of_device) = beside(&lora, &weights.clone().on(tested()), &rows, Some(5));
                assert!((loss / found - 1.0).abs() < 1e-5, "{family:?} {dropout}: {found} is not {loss}");
                let size = gradient.iter().fold(0f32, |most, value| most.max(value.abs()));
                let error = gradient.iter().zip(&of_device).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(error < 1e-4 * size, "{family:?} {dropout}: {error} of {size}");
            }
        }
    }

    #[test]
    fn a_training_on_a_device_ends_where_ours_ends() {
        let weights = Weights::initial(&Config { context: 200, ..tiny() }, 1).unwrap();
        let examples = examples(40, 60);
        for method in [Method::Full, Method::Lora { rank: 2, alpha: 4.0 }] {
            let options = Options { batch_tokens: 400, epochs: 2, method, ..Options::default() };
            let ours = fit(&weights, &examples, &options, &mut silent).unwrap();
            let trained = fit(&weights.clone().on(tested()), &examples, &options, &mut silent).unwrap();
            assert_eq!(trained.weights.processor, tested());
            assert!((trained.first_loss / ours.first_loss - 1.0).abs() < 1e-5);
            assert!((trained.last_loss / ours.last_loss - 1.0).abs() < 1e-4);
            assert!(ours.last_loss < ours.first_loss);
            let moved = |values: &[f32], from: &[f32]| {
                values.iter().zip(from).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
            };
            let apart = moved(&trained.weights.values, &ours.weights.values);
            assert!(apart < 0.01 * moved(&ours.weights.values, &weights.values), "{method:?}: {apart}");
        }
    }

    #[test]
    fn dropped_inputs_neither_act_nor_learn() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let examples = examples(8, 20);
        let rows: Vec<&Example> = examples.iter().collect();
        let options = AdapterOptions { dropout: 0.5, ..AdapterOptions::default() };
        let mut lora = Lora::with(&weights, 2, 4.0, &options, 3).unwrap();
        let mut random = Random::new(8);
        lora.values.iter_mut().for_each(|value| *value += 0.1 * random.normal() as f32);
        let (none, some, other) = (
            beside(&lora, &weights, &rows, None),
            beside(&lora, &weights, &rows, Some(1)),
            beside(&lora, &weights, &rows, Some(2)),
        );
        assert_eq!(some, beside(&lora, &weights, &rows, Some(1)));
        assert!(none.0 != some.0 && some.0 != other.0 && some.1 != other.1);
        // With the same noise the loss is a function of the values, and this is its gradient.
        let direction: Vec<f32> = lora.values.iter().map(|_| random.normal() as f32).collect();
        let at = |step: f32| {
            let mut lora = lora.clone();
            lora.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
            beside(&lora, &weights, &rows, Some(1)).0
        };
        let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
        let slope: f64 = some.1.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let size = some.1.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!((difference - slope).abs() < 0.01 * size, "{difference} {slope} {size}");
        // On average, nothing is added: the mean over many drawings is near the loss without.
        let mean = (0..200).map(|noise| beside(&lora, &weights, &rows, Some(noise)).0).sum::<f64>() / 200.0;
        assert!((mean / none.0 - 1.0).abs() < 0.02, "{mean} {}", none.0);
    }

    #[test]
    fn distance_of_adapters_is_that_of_the_merged_weights() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let mut lora = Lora::new(&weights, 3, 6.0, 2);
        let mut gradient = vec![0.0; lora.values.len()];
        assert_eq!(lora.distance(0.5, Some(&mut gradient)), 0.0);
        assert!(gradient.iter().all(|value| *value == 0.0));
        let mut random = Random::new(7);
        lora.values.iter_mut().for_each(|value| *value += 0.3 * random.normal() as f32);
        let of_merged = |lora: &Lora| {
            let mut merged = weights.clone();
            lora.merge(&weights, &mut merged);
            distance(&merged.values, &weights.values, 1.0, None)
        };
        let found = lora.distance(0.5, Some(&mut gradient));
        assert!((found / of_merged(&lora) - 1.0).abs() < 1e-4);
        let direction: Vec<f32> = gradient.iter().map(|_| random.normal() as f32).collect();
        let at = |step: f32| {
            let mut lora = lora.clone();
            lora.values.iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
            0.5 * of_merged(&lora)
        };
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
        assert!((difference / slope - 1.0).abs() < 1e-2, "{difference} {slope}");
        // Weighed by 1 it is half of that; the weights decide what counts.
        let ones = vec![1.0; weights.values.len()];
        let mut weighed = vec![0.0; lora.values.len()];
        let (value, length) = lora.weighed_distance(&ones, 1.0, Some(&mut weighed));
        assert!((value / (0.5 * found) - 1.0).abs() < 1e-4);
        assert!(gradient.iter().zip(&weighed).all(|(a, b)| (a - b).abs() <= 1e-4 * length as f32));
        let mut one = vec![0.0; weights.values.len()];
        one[lora.adapters[1].matrix.clone()].fill(2.0);
        let (value, _) = lora.weighed_distance(&one, 1.0, None);
        let mut merged = weights.clone();
        lora.merge(&weights, &mut merged);
        let own = lora.adapters[1].matrix.clone();
        let expected = distance(&merged.values[own.clone()], &weights.values[own], 1.0, None);
        assert!((value / expected - 1.0).abs() < 1e-4, "{value} {expected}");
    }

    #[test]
    fn weights_of_rows_scale_their_loss() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let mut examples = examples(2, 12);
        let loss_of = |examples: &[&Example]| mean_loss(&weights, examples).unwrap();
        let alone = loss_of(&[&examples[0]]);
        examples[1].weight = 0.0;
        assert_eq!(loss_of(&examples.iter().collect::<Vec<_>>()), alone);
        examples[0].weight = 0.25;
        assert!((loss_of(&[&examples[0]]) - alone).abs() < 1e-6);
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
