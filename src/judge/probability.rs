//! The probability judge: how probable YES is against NO as a judge's first token, or how often it is sampled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::categorical::check_words;
use super::first_token::FirstToken;
use super::sampled::{bare, mean_answer, spoken, strip_word};
use super::verdict::{Evidence, LEAST_SHARE, Reason, Verdict};
use crate::error::Result;

/// The two words between which the judge decides. Other words (OTHER) are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classes {
    /// The word that is 100.
    pub positive: String,
    /// The word that is 0.
    pub negative: String,
    /// Gives no score when one of the two is not listed at all, as the published code does: that is, whenever the judge
    /// is certain. Only for comparison with old numbers.
    pub upstream_none: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Classes { positive: "YES".to_string(), negative: "NO".to_string(), upstream_none: false }
    }
}

impl Classes {
    /// Refuses words that cannot be told apart; `judge` is the judge's name for the message.
    pub fn check(&self, judge: &str) -> Result<()> {
        check_words(judge, [self.positive.as_str(), self.negative.as_str()])
    }

    /// 100 times the positive share of the two words' probability.
    ///
    /// A word counts in upper case, in lower case and with only its first letter in upper case, each with at most one
    /// blank in front. A word that is not listed has probability 0. When both have less than a quarter together there
    /// is no score: `low_mass` when the list covers no more, else `no_class`. The interval holds the score whatever
    /// the probabilities of the tokens that are not listed.
    pub fn judge_first_token(&self, first: &FirstToken) -> Verdict {
        let covered = first.covered_mass();
        let (positive, positive_absent) = mass(first, &self.positive);
        let (negative, negative_absent) = mass(first, &self.negative);
        let both = positive + negative;
        if both < LEAST_SHARE {
            let reason = if covered < LEAST_SHARE { Reason::LowMass } else { Reason::NoClass };
            return Verdict::new(Err(reason), Evidence::Logprobs { mass: both, covered, interval: None });
        }
        // Absent tokens have at most the smallest listed probability each, and together no more than is left.
        let unlisted = (1.0 - covered).max(0.0);
        let hidden = |absent: usize| (absent as f64 * first.most_of_unlisted()).min(unlisted);
        let (more, less) = (hidden(positive_absent), hidden(negative_absent));
        let share = |positive: f64, negative: f64| (100.0 * positive / (positive + negative)).clamp(0.0, 100.0);
        let interval = Some((share(positive, negative + less), share(positive + more, negative)));
        let evidence = Evidence::Logprobs { mass: both, covered, interval };
        if self.upstream_none && (positive == 0.0 || negative == 0.0) {
            return Verdict::new(Err(Reason::ClassAbsent), evidence);
        }
        let score = share(positive, negative);
        Verdict { shares: self.shares(score), ..Verdict::new(Ok(score), evidence) }
    }

    /// 100 times the positive share of the sampled answers that name one of the two words.
    pub fn judge_answers<T: AsRef<str>>(&self, answers: &[T]) -> Verdict {
        let verdict = mean_answer(&answers.iter().map(|answer| self.parse(answer.as_ref())).collect::<Vec<_>>());
        let shares = verdict.outcome.map(|score| self.shares(score)).unwrap_or_default();
        Verdict { shares, ..verdict }
    }

    /// One sampled answer: its first word decides, or its last one when the first is neither.
    pub fn parse(&self, answer: &str) -> Result<f64, Reason> {
        let said = bare(spoken(answer).ok_or(Reason::Unparsable)?);
        let starts = |word: &str| strip_word(said, word).is_some();
        let last = said.split_whitespace().last().map(bare).unwrap_or_default();
        let ends = |word: &str| strip_word(last, word).is_some_and(str::is_empty);
        match (starts(&self.positive), starts(&self.negative), ends(&self.positive), ends(&self.negative)) {
            (true, false, ..) | (false, false, true, _) => Ok(100.0),
            (false, true, ..) | (false, false, false, true) => Ok(0.0),
            (true, true, ..) => Err(Reason::Ambiguous),
            (false, false, false, false) => Err(Reason::NoClass),
        }
    }

    fn shares(&self, score: f64) -> BTreeMap<String, f64> {
        let positive = score / 100.0;
        [(self.positive.clone(), positive), (self.negative.clone(), 1.0 - positive)].into()
    }
}

/// Probability of all accepted forms of a word, and how many of the forms are not listed.
fn mass(first: &FirstToken, word: &str) -> (f64, usize) {
    let forms = forms(word);
    let listed: Vec<f64> = forms.iter().map(|form| first.probability(form)).filter(|found| *found > 0.0).collect();
    (listed.iter().sum(), forms.len() - listed.len())
}

/// Upper case, lower case, capitalised; with and without a blank in front.
fn forms(word: &str) -> Vec<String> {
    let mut letters = word.chars();
    let head: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let mut cases = vec![word.to_uppercase(), word.to_lowercase(), head + letters.as_str().to_lowercase().as_str()];
    cases.sort();
    cases.dedup(); // one letter is capitalised as it is in upper case
    cases.iter().flat_map(|form| [form.clone(), format!(" {form}")]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(probabilities: &[(&str, f64)]) -> FirstToken {
        FirstToken::new(probabilities.iter().map(|(token, probability)| (*token, probability.ln()))).unwrap()
    }

    fn judge(probabilities: &[(&str, f64)]) -> Verdict {
        Classes::default().judge_first_token(&listed(probabilities))
    }

    #[test]
    fn all_spellings_of_a_word_count_and_others_are_ignored() {
        let mut found = forms("YES");
        found.sort();
        assert_eq!(found, [" YES", " Yes", " yes", "YES", "Yes", "yes"]);
        assert_eq!(forms("A").len(), 4);
        let verdict = judge(&[("YES", 0.3), (" Yes", 0.1), ("yes", 0.05), ("NO", 0.15), ("OTHER", 0.3), ("yEs", 0.1)]);
        assert!((verdict.outcome.unwrap() - 75.0).abs() < 1e-12);
        assert!((verdict.shares["NO"] - 0.25).abs() < 1e-12);
    }

    #[test]
    fn certain_judges_give_a_score_unless_the_published_rule_is_asked_for() {
        assert_eq!(judge(&[("YES", 0.999), ("Maybe", 0.001)]).outcome, Ok(100.0));
        assert_eq!(judge(&[("No", 0.999), ("Maybe", 0.001)]).outcome, Ok(0.0));
        let upstream = Classes { upstream_none: true, ..Classes::default() };
        let certain = listed(&[("YES", 0.999), ("Maybe", 0.001)]);
        assert_eq!(upstream.judge_first_token(&certain).outcome, Err(Reason::ClassAbsent));
        let open = listed(&[("YES", 0.5), ("NO", 0.5)]);
        assert_eq!(upstream.judge_first_token(&open).outcome, Ok(50.0));
    }

    #[test]
    fn below_a_quarter_there_is_a_reason() {
        assert_eq!(judge(&[("OTHER", 0.8), ("YES", 0.2)]).outcome, Err(Reason::NoClass));
        assert_eq!(judge(&[("YES", 0.2)]).outcome, Err(Reason::LowMass));
        assert_eq!(judge(&[]).outcome, Err(Reason::LowMass));
        assert_eq!(judge(&[("YES", 0.26), ("I", 0.74)]).outcome, Ok(100.0));
    }

    #[test]
    fn the_interval_knows_what_the_list_hides() {
        let interval = |verdict: Verdict| match verdict.evidence {
            Evidence::Logprobs { interval: Some(interval), .. } => interval,
            other => panic!("{other:?}"),
        };
        // NO is hidden: six forms of at most 0.01 each, but only 0.04 is left.
        let (low, high) = interval(judge(&[("YES", 0.95), ("Maybe", 0.01)]));
        assert!((low - 100.0 * 0.95 / 0.99).abs() < 1e-9 && high == 100.0, "{low} {high}");
        // Enough is left: all six may have 0.001.
        let (low, _) = interval(judge(&[("YES", 0.9), ("Maybe", 0.001)]));
        assert!((low - 100.0 * 0.9 / 0.906).abs() < 1e-9, "{low}");
    }

    #[test]
    fn sampled_answers_name_a_word_first_or_last() {
        let classes = Classes::default();
        for (answer, expected) in [
            ("YES", Ok(100.0)),
            ("**No.**", Ok(0.0)),
            ("Yes, although there was no need.", Ok(100.0)),
            ("<think>yes? no</think>NO", Ok(0.0)),
            ("The final answer is: YES", Ok(100.0)),
            ("Nothing of that kind", Err(Reason::NoClass)),
            ("OTHER", Err(Reason::NoClass)),
            ("<think>yes", Err(Reason::Unparsable)),
        ] {
            assert_eq!(classes.parse(answer), expected, "{answer:?}");
        }
        let verdict = classes.judge_answers(&["YES", "NO", "OTHER", "yes"]);
        assert!((verdict.outcome.unwrap() - 200.0 / 3.0).abs() < 1e-12);
        assert_eq!(verdict.evidence, Evidence::Sampled { answers: 4, used: 3 });
    }

    #[test]
    fn words_that_are_one_word_are_refused() {
        let same = Classes { positive: "Yes".into(), negative: "YES".into(), upstream_none: false };
        assert_eq!(same.check("hardcoding").unwrap_err().exit_code(), 2);
        assert!(Classes::default().check("hardcoding").is_ok());
    }

    proptest! {
        #[test]
        fn the_score_lies_in_its_interval_and_turns_with_the_words(
            yes in 0.0..0.4f64, blank_yes in 0.0..0.2f64, no in 0.0..0.3f64, other in 0.001..0.1f64,
        ) {
            let first = listed(&[("YES", yes), (" yes", blank_yes), ("No", no), ("I", other)]);
            let classes = Classes::default();
            let turned = Classes { positive: "NO".into(), negative: "YES".into(), upstream_none: false };
            let verdict = classes.judge_first_token(&first);
            let Evidence::Logprobs { interval, mass, .. } = verdict.evidence else { unreachable!() };
            match verdict.outcome {
                Err(_) => prop_assert!(mass < LEAST_SHARE),
                Ok(score) => {
                    let (low, high) = interval.unwrap();
                    prop_assert!(0.0 <= low && low <= score && score <= high && high <= 100.0);
                    let other_way = turned.judge_first_token(&first).outcome.unwrap();
                    prop_assert!((score + other_way - 100.0).abs() < 1e-9);
                }
            }
        }
    }
}
