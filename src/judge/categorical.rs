//! The categorical judge: it picks one of given labels, each of which stands for a score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::first_token::FirstToken;
use super::sampled::{bare, mean_answer, spoken, strip_word};
use super::verdict::{Evidence, LEAST_SHARE, Reason, Verdict};
use crate::error::{Result, ensure};

/// Probability of tokens that begin several labels, as a share of all that begin any, up to which they are left out.
/// With more the first token cannot tell the labels apart.
const MOST_SHARED: f64 = 0.01;

/// The labels among which the judge picks, and the score of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels {
    scores: BTreeMap<String, f64>,
}

impl Labels {
    /// Two or more labels with scores of 0 to 100; `judge` is the judge's name for the message.
    pub fn new(judge: &str, scores: BTreeMap<String, f64>) -> Result<Self> {
        check_words(judge, scores.keys().map(String::as_str))?;
        for (label, score) in &scores {
            ensure!(
                (0.0..=100.0).contains(score),
                "`{}` gives the label `{}` the score {}", judge, label, score;
                help: "give every label a score from 0 to 100"
            );
        }
        Ok(Labels { scores })
    }

    /// Whether every label starts with another letter: then any first token tells them apart, and log-probabilities can
    /// be used. Otherwise the judge's answers should be sampled.
    pub fn first_letters_differ(&self) -> bool {
        let mut letters: Vec<String> =
            self.scores.keys().map(|label| label.chars().take(1).flat_map(char::to_lowercase).collect()).collect();
        letters.sort();
        letters.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// The mean score of the labels, weighted by the probabilities of the tokens that begin them.
    ///
    /// A token counts for a label that it begins, whatever the case and with blanks around it. No score when labels
    /// have less than a quarter of the probability (`no_class`, or `low_mass` when the list covers no more), or when
    /// tokens that begin several labels have more than a hundredth of it (`ambiguous`).
    pub fn judge_first_token(&self, first: &FirstToken) -> Verdict {
        let covered = first.covered_mass();
        let mut masses: BTreeMap<&str, f64> = BTreeMap::new();
        let mut shared = 0.0;
        for (token, probability) in first.tokens() {
            let mut begun = self.scores.keys().filter(|label| begins(token, label));
            match (begun.next(), begun.next()) {
                (Some(label), None) => *masses.entry(label).or_default() += probability,
                (Some(_), Some(_)) => shared += probability,
                (None, _) => {}
            }
        }
        let mass: f64 = masses.values().sum();
        let missing = |reason| Verdict::new(Err(reason), Evidence::Logprobs { mass, covered, interval: None });
        if mass + shared < LEAST_SHARE {
            return missing(if covered < LEAST_SHARE { Reason::LowMass } else { Reason::NoClass });
        }
        if shared > MOST_SHARED * (mass + shared) {
            return missing(Reason::Ambiguous);
        }
        let shares = masses.into_iter().map(|(label, part)| (label.to_string(), part / mass)).collect();
        let evidence = Evidence::Logprobs { mass, covered, interval: None };
        Verdict { outcome: Ok(self.mean(&shares)), evidence, shares }
    }

    /// The mean score of the labels that sampled answers name, when at least a quarter name one.
    pub fn judge_answers<T: AsRef<str>>(&self, answers: &[T]) -> Verdict {
        let labels: Vec<_> = answers.iter().map(|answer| self.parse(answer.as_ref())).collect();
        let verdict =
            mean_answer(&labels.iter().map(|label| label.map(|label| self.scores[label])).collect::<Vec<_>>());
        let mut shares: BTreeMap<String, f64> = BTreeMap::new();
        if verdict.outcome.is_ok() {
            let named: Vec<&str> = labels.into_iter().flatten().collect();
            for label in &named {
                *shares.entry(label.to_string()).or_default() += 1.0 / named.len() as f64;
            }
        }
        Verdict { shares, ..verdict }
    }

    /// The label that one sampled answer names: the one it starts with, else the only one it contains; of labels that
    /// begin alike the longest.
    pub fn parse(&self, answer: &str) -> Result<&str, Reason> {
        let said = bare(spoken(answer).ok_or(Reason::Unparsable)?);
        if let Some(label) = self.label_at(said) {
            return Ok(label);
        }
        let mut named: Vec<&str> = Vec::new();
        let mut rest = said;
        let mut inside_word = false;
        while let Some(letter) = rest.chars().next() {
            match self.label_at(rest).filter(|_| !inside_word) {
                Some(label) => {
                    named.push(label);
                    rest = strip_word(rest, label).expect("the rest starts with the label");
                    inside_word = false;
                }
                None => {
                    rest = &rest[letter.len_utf8()..];
                    inside_word = letter.is_alphanumeric() || letter == '_';
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        match named.as_slice() {
            [label] => Ok(label),
            [] => Err(Reason::NoClass),
            _ => Err(Reason::Ambiguous),
        }
    }

    /// The longest label that a text starts with.
    fn label_at(&self, text: &str) -> Option<&str> {
        let found = self.scores.keys().filter(|label| strip_word(text, label).is_some());
        found.max_by_key(|label| label.len()).map(String::as_str)
    }

    /// Mean score of a distribution over labels.
    fn mean(&self, shares: &BTreeMap<String, f64>) -> f64 {
        let scores = shares.keys().map(|label| self.scores[label]);
        let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)));
        shares.iter().map(|(label, share)| self.scores[label] * share).sum::<f64>().clamp(low, high)
    }
}

/// Whether a token is the beginning of a label, or a label with no further letters or digits after it.
fn begins(token: &str, label: &str) -> bool {
    let token = token.trim().to_lowercase();
    let label = label.to_lowercase();
    let closes = |rest: &str| !rest.chars().any(char::is_alphanumeric);
    !token.is_empty() && (label.starts_with(&token) || token.strip_prefix(&label).is_some_and(closes))
}

/// Checks that class words are there, are different, and have no blanks around them.
pub(super) fn check_words<'a>(judge: &str, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut seen: Vec<String> = Vec::new();
    for word in words {
        ensure!(
            !word.is_empty() && word.trim() == word,
            "`{}` has the class `{}`, which is empty or has blanks around it", judge, word;
            help: "write the word that the judge is to answer"
        );
        let lower = word.to_lowercase();
        ensure!(
            !seen.contains(&lower),
            "`{}` has the class `{}` twice", judge, word;
            help: "give classes names that differ in more than upper and lower case"
        );
        seen.push(lower);
    }
    let count = seen.len();
    ensure!(count > 1, "`{}` has too few classes: {}", judge, count; help: "give two or more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(scores: &[(&str, f64)]) -> Labels {
        let scores = scores.iter().map(|(label, score)| (label.to_string(), *score)).collect();
        Labels::new("language", scores).unwrap()
    }

    fn listed(probabilities: &[(&str, f64)]) -> FirstToken {
        FirstToken::new(probabilities.iter().map(|(token, probability)| (*token, probability.ln()))).unwrap()
    }

    #[test]
    fn the_mean_of_the_labels_scores_by_the_tokens_that_begin_them() {
        let languages = labels(&[("Spanish", 100.0), ("English", 0.0), ("mixed", 50.0)]);
        assert!(languages.first_letters_differ());
        let first = listed(&[("Sp", 0.3), (" spanish", 0.2), ("MIXED", 0.1), ("English.", 0.2), ("Spanglish", 0.2)]);
        let verdict = languages.judge_first_token(&first);
        assert!((verdict.outcome.unwrap() - (0.5 * 100.0 + 0.1 * 50.0) / 0.8).abs() < 1e-12);
        assert!((verdict.shares["English"] - 0.25).abs() < 1e-12);
        let reason = |probabilities: &[(&str, f64)]| languages.judge_first_token(&listed(probabilities)).outcome;
        assert_eq!(reason(&[("French", 0.8), ("Sp", 0.2)]), Err(Reason::NoClass));
        assert_eq!(reason(&[("Sp", 0.2)]), Err(Reason::LowMass));
    }

    #[test]
    fn labels_that_begin_alike_are_not_told_apart_by_one_token() {
        let scale = labels(&[("strongly agree", 100.0), ("agree", 75.0), ("strongly disagree", 0.0)]);
        assert!(!scale.first_letters_differ());
        let judge = |probabilities: &[(&str, f64)]| scale.judge_first_token(&listed(probabilities)).outcome;
        assert_eq!(judge(&[("strong", 0.5), ("agree", 0.5)]), Err(Reason::Ambiguous));
        assert_eq!(judge(&[("strong", 0.005), ("agree", 0.995)]), Ok(75.0));
        assert_eq!(scale.parse("Strongly agree."), Ok("strongly agree"));
        assert_eq!(scale.parse("I strongly disagree with that"), Ok("strongly disagree"));
        assert_eq!(scale.parse("I disagree"), Err(Reason::NoClass), "it is inside another word");
        assert_eq!(scale.parse("I agree, even strongly agree"), Err(Reason::Ambiguous));
    }

    #[test]
    fn sampled_labels_are_counted() {
        let letters = labels(&[("A", 100.0), ("B", 0.0), ("C", 40.0)]);
        let verdict = letters.judge_answers(&["A", "**b**", "(C) because of A", "none"]);
        assert!((verdict.outcome.unwrap() - 140.0 / 3.0).abs() < 1e-12);
        assert!((verdict.shares["A"] - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(verdict.evidence, Evidence::Sampled { answers: 4, used: 3 });
        assert!(letters.judge_answers(&["x", "y"]).shares.is_empty());
    }

    #[test]
    fn labels_must_be_distinct_words_with_scores_of_the_scale() {
        let fails = |scores: &[(&str, f64)]| {
            Labels::new("language", scores.iter().map(|(label, score)| (label.to_string(), *score)).collect()).is_err()
        };
        assert!(fails(&[("A", 0.0)]) && fails(&[("A", 0.0), ("a", 1.0)]) && fails(&[("A", 0.0), (" B", 1.0)]));
        assert!(fails(&[("A", 0.0), ("B", 101.0)]) && fails(&[("A", 0.0), ("B", f64::NAN)]));
    }

    proptest! {
        #[test]
        fn shares_add_to_one_and_the_score_is_their_mean(parts in prop::collection::vec(0.01..1.0f64, 4)) {
            let letters = labels(&[("A", 10.0), ("B", 90.0), ("C", 40.0)]);
            let total: f64 = parts.iter().sum();
            let of = |index: usize| parts[index] / total;
            let first = listed(&[("A", of(0)), ("B", of(1)), (" C", of(2)), ("hm", of(3))]);
            let verdict = letters.judge_first_token(&first);
            if let Ok(score) = verdict.outcome {
                prop_assert!((verdict.shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
                let expected = (10.0 * of(0) + 90.0 * of(1) + 40.0 * of(2)) / (of(0) + of(1) + of(2));
                prop_assert!((score - expected).abs() < 1e-9 && (10.0..=90.0).contains(&score));
            }
        }
    }
}
