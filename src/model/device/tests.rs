//! Sampling and states on a device, against our own arithmetic.

use super::failed;
use crate::data::random::Random;
use crate::model::batch::Batch;
use crate::model::config::Config;
use crate::model::config::tests::{tiny, tiny_of};
use crate::model::forward::{Activations, Prepared, forward};
use crate::model::likelihood::{Continuation, log_probabilities};
use crate::model::processor::tests::tested;
use crate::model::sample::{Finish, Prompt, SampleOptions, Steering, sample, sample_steered};
use crate::model::sample_shared::sample_shared;
use crate::model::tap::Change;
use crate::model::variant::FAMILIES;
use crate::model::weights::Weights;
use crate::model::weights::tests::odd;

/// Prompts of 1 to 40 tokens, some of them equal.
fn prompts(count: usize) -> Vec<Prompt> {
    let mut random = Random::new(8);
    let texts: Vec<Vec<u32>> =
        (0..count / 3).map(|_| (0..1 + random.below(40)).map(|_| random.below(37) as u32).collect()).collect();
    (0..count).map(|index| Prompt { ids: texts[index * 5 % texts.len()].clone(), seed: index as u64 }).collect()
}

/// A model with a long context whose next tokens are not all equally likely.
fn model(config: Config, seed: u64) -> Weights {
    let mut weights = Weights::initial(&Config { context: 160, ..config }, seed).unwrap();
    let mut random = Random::new(seed);
    weights.values.iter_mut().for_each(|value| *value = *value * 1.7 + 0.1 * random.normal() as f32);
    let embedding = weights.layout.embedding.clone();
    weights.values[embedding].iter_mut().for_each(|value| *value *= 12.0);
    weights
}

#[test]
fn a_device_says_what_our_own_arithmetic_says() {
    let vector: Vec<f32> = (0..24).map(|channel| (channel as f32 - 11.0) / 5.0).collect();
    let prompts = prompts(60);
    let (mut stopped, mut longest) = (0, 0);
    for (place, family) in FAMILIES.into_iter().enumerate() {
        let weights = model(tiny_of(family), 5 + place as u64);
        let steer = |state, prompt| Steering { state, prompt, change: Change::Add(vector.clone()) };
        for steering in [vec![], vec![steer(1, true)], vec![steer(0, false), steer(2, false)]] {
            for temperature in [0.0, 1.0] {
                // Long enough that caches grow and some completions meet the end of the context.
                let options = SampleOptions { temperature, max_tokens: 130, stop: vec![3], ..SampleOptions::default() };
                let ours = sample_steered(&weights, &prompts, &options, &steering, &|| false).unwrap();
                let found = sample_steered(&weights.clone().on(tested()), &prompts, &options, &steering, &|| false);
                let found = found.unwrap();
                // What a device rounds otherwise may tip a draw now and then.
                let same = ours.iter().zip(&found).filter(|(a, b)| a.ids == b.ids && a.finish == b.finish).count();
                assert!(same >= 57, "{family:?} {temperature}: {same} of 60");
                for (a, b) in ours.iter().zip(&found).filter(|(a, b)| a.ids == b.ids) {
                    let apart = a.logprobs.iter().zip(&b.logprobs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(apart < 1e-3, "{family:?} {temperature}: {apart}");
                }
                stopped += ours.iter().filter(|completion| completion.finish == Finish::Stop).count();
                longest = ours.iter().map(|completion| completion.ids.len()).fold(longest, usize::max);
            }
        }
    }
    assert!(stopped > 100 && longest == 130, "{stopped} {longest}");
}

#[test]
fn threads_and_alternatives_are_as_without_a_device() {
    let weights = model(tiny(), 3);
    let prompts = prompts(30);
    let options = SampleOptions { max_tokens: 5, alternatives: 3, top_p: 0.9, temperature: 0.8, stop: vec![3] };
    let ours = sample(&weights, &prompts, &options, &|| false).unwrap();
    let on_device = weights.clone().on(tested());
    let laid_out = (&on_device, &Prepared::new(&on_device).unwrap());
    let found = sample_shared(laid_out, &prompts, &options, &[], 4, &|| false).unwrap();
    for (a, b) in ours.iter().zip(&found).filter(|(a, b)| a.ids == b.ids) {
        let ids = |of: &[Vec<(u32, f32)>]| of.iter().flatten().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(&a.alternatives), ids(&b.alternatives));
    }
    assert!(ours.iter().zip(&found).filter(|(a, b)| a.ids == b.ids).count() >= 29);
    let none = SampleOptions { max_tokens: 0, ..options.clone() };
    let found = sample(&weights.clone().on(tested()), &prompts, &none, &|| false).unwrap();
    assert!(found.iter().all(|completion| completion.ids.is_empty()));
    assert_eq!(sample(&weights.on(tested()), &prompts, &options, &|| true).unwrap_err().exit_code(), 130);
}

#[test]
fn states_and_likelihoods_are_those_of_our_own_arithmetic() {
    for family in FAMILIES {
        let weights = odd(family, 4);
        let mut batch = Batch::default();
        batch.push(&[1, 5, 9, 2, 30], [1, 4]);
        batch.push(&[7, 8], [1]);
        let states = |weights: &Weights| -> Vec<Vec<f32>> {
            let (prepared, mut activations) = (Prepared::new(weights).unwrap(), Activations::default());
            forward(weights, &prepared, &batch, &mut activations).unwrap();
            (0..=2).map(|state| activations.state(state).unwrap().to_vec()).collect()
        };
        for (state, (a, b)) in states(&weights).iter().zip(states(&weights.clone().on(tested()))).enumerate() {
            let size = a.iter().fold(0f32, |most, value| most.max(value.abs()));
            let error = a.iter().zip(&b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(a.len() == b.len() && error < 1e-5 * size, "{family:?} {state}: {error} of {size}");
        }
        let asked = [Continuation { prompt: vec![1, 5, 9], continuation: vec![2, 30] }];
        let [a, b] =
            [weights.clone(), weights.on(tested())].map(|weights| log_probabilities(&weights, &asked).unwrap()[0]);
        assert!((a - b).abs() < 1e-4, "{family:?}: {a} {b}");
    }
}

#[test]
fn a_device_whose_memory_is_full_says_what_to_do() {
    let told = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")\nwith a backtrace";
    let full = failed(candle_core::Error::Msg(told.to_string()));
    assert!(full.message.starts_with("the memory of the device is full: DriverError"), "{full}");
    assert!(full.help.is_some() && !full.message.contains("backtrace"));
    for told in ["CUBLAS_STATUS_ALLOC_FAILED", "Failed to create metal resource: Buffer", "Insufficient Memory (x)"] {
        assert!(failed(candle_core::Error::Msg(told.to_string())).help.is_some(), "{told}");
    }
    assert!(failed(candle_core::Error::Msg("lost".to_string())).message.contains("the device failed: lost"));
}
