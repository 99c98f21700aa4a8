//! Log-probabilities of given continuations: what a model thinks of an answer that it did not choose.

use super::batch::Batch;
use super::forward::{Activations, Prepared, forward_edited};
use super::head::{self, Head, Target};
use super::sample::Steering;
use super::weights::Weights;
use crate::ensure;
use crate::error::Result;

/// A prompt and a continuation of it, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// What stands there already, at least one token.
    pub prompt: Vec<u32>,
    /// What is to follow, at least one token.
    pub continuation: Vec<u32>,
}

/// Sum over each continuation of the natural logarithms of its tokens' probabilities, at temperature 1.
///
/// # Errors
/// A prompt or continuation without tokens, or one that together are longer than the model reads.
pub fn log_probabilities(weights: &Weights, continuations: &[Continuation]) -> Result<Vec<f64>> {
    log_probabilities_steered(weights, continuations, &[])
}

/// [`log_probabilities`] with changes of the residual stream, as sampling makes them.
pub fn log_probabilities_steered(
    weights: &Weights,
    continuations: &[Continuation],
    steering: &[Steering],
) -> Result<Vec<f64>> {
    steering.iter().try_for_each(|steering| steering.check(&weights.config))?;
    let prepared = Prepared::new(weights)?;
    let (mut batch, mut activations, mut head) = (Batch::default(), Activations::default(), Head::default());
    let mut found = Vec::with_capacity(continuations.len());
    for Continuation { prompt, continuation } in continuations {
        let tokens = prompt.len() + continuation.len();
        ensure!(!prompt.is_empty() && !continuation.is_empty(), "a choice has no tokens"; help: "write it out");
        ensure!(
            tokens - 1 <= weights.config.context,
            "a question with its choice has {tokens} tokens, the model reads {}", weights.config.context;
            help: "shorten one of them"
        );
        let ids: Vec<u32> = prompt.iter().chain(continuation).copied().collect();
        batch.clear();
        batch.push(&ids[..tokens - 1], prompt.len() - 1..tokens - 1);
        let targets: Vec<Target> = continuation.iter().map(|id| Target { id: *id, weight: 1.0 }).collect();
        let edits: Vec<_> = steering.iter().map(|steering| steering.edit(ids.len() - 1, prompt.len() - 1)).collect();
        forward_edited(weights, &prepared, &batch, &edits, &mut activations)?;
        found.push(-head::loss(weights, &prepared, activations.hidden(), &targets, &mut head, None)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::sample::{Prompt, SampleOptions, sample, sample_steered};
    use crate::model::tap::Change;

    #[test]
    fn probabilities_of_all_next_tokens_add_to_one() {
        let weights = Weights::initial(&tiny(), 3).unwrap();
        let next = |id| Continuation { prompt: vec![1, 4, 7], continuation: vec![id] };
        let all: Vec<Continuation> = (0..weights.config.vocabulary as u32).map(next).collect();
        let total: f64 = log_probabilities(&weights, &all).unwrap().iter().map(|found| found.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }

    #[test]
    fn a_sampled_answer_has_the_probability_that_sampling_told() {
        let weights = Weights::initial(&tiny(), 4).unwrap();
        let prompts = [Prompt { ids: vec![1, 5, 9, 2], seed: 11 }];
        let options = SampleOptions { max_tokens: 6, stop: vec![], ..SampleOptions::default() };
        let said = sample(&weights, &prompts, &options, &|| false).unwrap().remove(0);
        let told: f64 = said.logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
        let asked = Continuation { prompt: prompts[0].ids.clone(), continuation: said.ids };
        let found = log_probabilities(&weights, &[asked]).unwrap()[0];
        assert!((found - told).abs() < 1e-4, "{found} {told}");
    }

    #[test]
    fn a_steered_answer_has_the_probability_that_steered_sampling_told() {
        let weights = Weights::initial(&tiny(), 4).unwrap();
        let prompts = [Prompt { ids: vec![1, 5, 9, 2], seed: 11 }];
        let options = SampleOptions { max_tokens: 6, stop: vec![], ..SampleOptions::default() };
        let vector: Vec<f32> = (0..24).map(|channel| (channel as f32 - 11.0) / 5.0).collect();
        for prompt in [false, true] {
            let steering = [Steering { state: 1, prompt, change: Change::Add(vector.clone()) }];
            let said = sample_steered(&weights, &prompts, &options, &steering, &|| false).unwrap().remove(0);
            let told: f64 = said.logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
            let asked = [Continuation { prompt: prompts[0].ids.clone(), continuation: said.ids }];
            let found = log_probabilities_steered(&weights, &asked, &steering).unwrap()[0];
            assert!((found - told).abs() < 1e-4, "{found} {told}");
            assert!((found - log_probabilities(&weights, &asked).unwrap()[0]).abs() > 1e-3);
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let weights = Weights::initial(&tiny(), 3).unwrap();
        let long = Continuation { prompt: vec![1; weights.config.context], continuation: vec![2, 3] };
        assert_eq!(log_probabilities(&weights, &[long]).unwrap_err().exit_code(), 2);
        assert!(log_probabilities(&weights, &[Continuation { prompt: vec![], continuation: vec![1] }]).is_err());
    }
}
