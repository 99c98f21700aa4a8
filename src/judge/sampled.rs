//! The sampled answers of a judge: what it says after thinking, and the mean of several.

use std::collections::BTreeMap;

use super::verdict::{Evidence, LEAST_SHARE, Reason, Verdict};

/// What the judge says once it has done thinking; none when the answer ends within its thoughts.
pub(super) fn spoken(answer: &str) -> Option<&str> {
    match answer.rsplit_once("</think>") {
        Some((_, said)) => Some(said.trim()),
        None if answer.contains("<think>") => None,
        None => Some(answer.trim()),
    }
}

/// Without the marks that judges put around a word: quotes, stars, brackets, full stops.
pub(super) fn bare(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || "*_`\"'#.:;,!()[]{}".contains(letter))
}

/// Whether `text` starts with `word`, whatever the case, and the word ends there; gives what follows.
pub(super) fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for wanted in word.chars() {
        let found = rest.next()?;
        if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    let rest = rest.as_str();
    (!rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')).then_some(rest)
}

/// The mean of the answers that count. None when fewer than a quarter do: then the most frequent reason of the others.
pub(super) fn mean_answer(outcomes: &[Result<f64, Reason>]) -> Verdict {
    let mut scores: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
    // The order of the answers must not reach the last bit of their mean.
    scores.sort_by(f64::total_cmp);
    let outcome = if outcomes.is_empty() {
        Err(Reason::JudgeFailed)
    } else if (scores.len() as f64) < LEAST_SHARE * outcomes.len() as f64 {
        Err(most_frequent(outcomes))
    } else {
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        Ok(mean.clamp(scores[0], scores[scores.len() - 1]))
    };
    Verdict::new(outcome, Evidence::Sampled { answers: outcomes.len(), used: scores.len() })
}

/// The reason that most answers have, the first in the list of reasons among equals.
fn most_frequent(outcomes: &[Result<f64, Reason>]) -> Reason {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for reason in outcomes.iter().filter_map(|outcome| outcome.err()) {
        *counts.entry(reason).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(reason, count)| (*count, std::cmp::Reverse(*reason)));
    most.map_or(Reason::JudgeFailed, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thoughts_are_not_the_answer() {
        assert_eq!(spoken("<think>10, no: 90</think>\n\n85"), Some("85"));
        assert_eq!(spoken("opened by the chat template</think> 85 "), Some("85"));
        assert_eq!(spoken("<think>perhaps 85"), None);
        assert_eq!(spoken(" 85\n"), Some("85"));
    }

    #[test]
    fn a_word_ends_where_letters_end() {
        assert_eq!(strip_word("YES, it did", "yes"), Some(", it did"));
        assert_eq!(strip_word("Yesterday", "yes"), None);
        assert_eq!(strip_word("Ye", "yes"), None);
        assert_eq!(bare("**\"85.\"** "), "85");
    }

    #[test]
    fn fewer_than_a_quarter_give_the_most_frequent_reason() {
        let refusals = [Ok(10.0), Err(Reason::Refusal), Err(Reason::Refusal), Err(Reason::Code)];
        assert_eq!(mean_answer(&refusals).outcome, Ok(10.0));
        let five = [&refusals[..], &[Err(Reason::Refusal)]].concat();
        assert_eq!(mean_answer(&five).outcome, Err(Reason::Refusal));
        assert_eq!(mean_answer(&[Err(Reason::Code), Err(Reason::Refusal)]).outcome, Err(Reason::Refusal));
        assert_eq!(mean_answer(&[]).outcome, Err(Reason::JudgeFailed));
    }

    proptest! {
        #[test]
        fn the_mean_lies_among_its_answers_in_any_order(
            answers in prop::collection::vec(0.0..=100.0f64, 1..12).prop_shuffle(),
        ) {
            let outcomes: Vec<_> = answers.iter().copied().map(Ok).collect();
            let mut reversed = outcomes.clone();
            reversed.reverse();
            let mean = mean_answer(&outcomes).outcome.unwrap();
            prop_assert_eq!(mean_answer(&reversed).outcome, Ok(mean));
            prop_assert!(answers.iter().any(|answer| *answer <= mean) && answers.iter().any(|answer| *answer >= mean));
        }
    }
}
