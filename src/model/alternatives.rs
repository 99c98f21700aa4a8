//! The likeliest tokens at one place, as the model sees them: temperature 1, no top-p.

use super::kernels::exponentials;

/// At most `count` tokens and their log-probabilities, most likely first; of equal ones the smaller id. `row` is
/// scratch space.
pub fn likeliest(logits: &[f32], count: usize, row: &mut Vec<f32>) -> Vec<(u32, f32)> {
    row.clear();
    row.extend_from_slice(logits);
    let log_total = exponentials(row, 1.0);
    let count = count.min(logits.len());
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids.into_iter().map(|id| (id, logits[id as usize] - log_total)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::model::sample::{Prompt, SampleOptions, sample};
    use crate::model::weights::Weights;

    #[test]
    fn the_likeliest_come_first_and_ties_by_number() {
        let found = likeliest(&[0.0, 3.0, 1.0, 3.0, -2.0], 3, &mut Vec::new());
        assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 2]);
        let all = likeliest(&[0.0, 3.0, 1.0, 3.0, -2.0], 9, &mut Vec::new());
        let total: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!(all.len() == 5 && (total - 1.0).abs() < 1e-6, "{all:?}");
    }

    #[test]
    fn alternatives_change_nothing_that_is_drawn() {
        let weights = Weights::initial(&tiny(), 21).unwrap();
        let prompts: Vec<Prompt> = (0..40).map(|seed| Prompt { ids: vec![1, 5, 9], seed }).collect();
        for (temperature, top_p) in [(1.0, 1.0), (0.7, 0.8), (0.0, 1.0)] {
            let plain = SampleOptions { temperature, top_p, max_tokens: 8, stop: vec![3], alternatives: 0 };
            let told = SampleOptions { alternatives: 5, ..plain.clone() };
            let without = sample(&weights, &prompts, &plain, &|| false).unwrap();
            let with = sample(&weights, &prompts, &told, &|| false).unwrap();
            for (without, mut with) in without.into_iter().zip(with) {
                assert_eq!(with.alternatives.len(), with.ids.len());
                for ((id, logprob), likely) in with.ids.iter().zip(&with.logprobs).zip(&with.alternatives) {
                    assert_eq!(likely.len(), 5);
                    if let Some((_, same)) = likely.iter().find(|(other, _)| other == id) {
                        assert_eq!(same.to_bits(), logprob.to_bits());
                    }
                    assert!(temperature > 0.0 || likely[0].0 == *id);
                }
                with.alternatives.clear();
                assert_eq!(with, without);
            }
        }
    }
}
