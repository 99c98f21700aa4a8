//! Sampling on several threads: each completion is what one thread would have made.

use super::forward::Prepared;
use super::sample::{Completion, Prompt, SampleOptions, Steering, sample_prepared};
use super::share::share;
use super::weights::Weights;
use crate::error::Result;

/// Fewest completions for which a thread is worth its start.
const COMPLETIONS: usize = 8;

/// [`sample_steered`](super::sample::sample_steered) with weights that are laid out, on at most `threads` threads.
pub fn sample_shared(
    (weights, prepared): (&Weights, &Prepared),
    prompts: &[Prompt],
    options: &SampleOptions,
    steering: &[Steering],
    threads: usize,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Completion>> {
    let threads = threads.min(prompts.len() / COMPLETIONS).max(1);
    if threads == 1 || prepared.mirror.is_some() {
        return sample_prepared(weights, prepared, prompts, options, steering, threads, cancelled);
    }
    // Prompts that begin alike stay together, because one thread reads once what they share.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by(|a, b| prompts[*a].ids.cmp(&prompts[*b].ids));
    let mut parts: Vec<(Vec<usize>, Result<Vec<Completion>>)> =
        (0..threads).map(|_| (Vec::new(), Ok(vec![]))).collect();
    let (mut part, mut done) = (0, 0);
    for group in order.chunk_by(|a, b| prompts[*a].ids == prompts[*b].ids) {
        while done * threads >= (part + 1) * prompts.len() {
            part += 1;
        }
        parts[part].0.extend_from_slice(group);
        done += group.len();
    }
    share(threads, &mut parts, |(indices, found)| {
        let prompts: Vec<Prompt> = indices.iter().map(|index| prompts[*index].clone()).collect();
        *found = sample_prepared(weights, prepared, &prompts, options, steering, 1, cancelled);
    });
    let mut completions: Vec<Option<Completion>> = vec![None; prompts.len()];
    for (indices, found) in parts {
        for (index, completion) in indices.into_iter().zip(found?) {
            completions[index] = Some(completion);
        }
    }
    Ok(completions.into_iter().map(|completion| completion.expect("every prompt is in one part")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::config::tests::tiny;
    use crate::model::sample::sample;

    #[test]
    fn threads_change_no_completion() {
        let weights = Weights::initial(&tiny(), 21).unwrap();
        let mut random = Random::new(3);
        let mut prompt =
            |seed| Prompt { ids: (0..1 + random.below(2)).map(|_| random.below(4) as u32).collect(), seed };
        let prompts: Vec<Prompt> = (0..60).map(&mut prompt).collect();
        let options = SampleOptions { max_tokens: 7, ..SampleOptions::default() };
        let alone = sample(&weights, &prompts, &options, &|| false).unwrap();
        let laid_out = (&weights, &Prepared::new(&weights).unwrap());
        for threads in [1, 2, 3, 9] {
            assert_eq!(sample_shared(laid_out, &prompts, &options, &[], threads, &|| false).unwrap(), alone);
        }
        assert!(sample_shared(laid_out, &prompts, &options, &[], 2, &|| true).is_err());
    }
}
