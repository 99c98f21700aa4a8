//! The estimate of one group: a mean, the interval that its design allows, and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::distribution::t_quantile;
use super::interval::{Interval, clustered_mean, logistic, logit, logit_t, t_interval, wilson};
use super::missing::worst_case;
use super::{Observation, Range, check_confidence, mean, variance};
use crate::ensure;
use crate::error::{Error, Result};

/// A mean with its interval, and everything that must be written beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over seeds of the mean over their scored answers.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// How the interval was made and what it is about: `t over 3 seeds` speaks of other seeds with these questions,
    /// `t clustered by 8 questions` of other questions with this run.
    pub method: String,
    /// Training runs.
    pub seeds: usize,
    /// Different questions.
    pub questions: usize,
    /// Answers, with and without a score.
    pub samples: usize,
    /// Answers without a score, by reason.
    pub missing: BTreeMap<String, usize>,
    /// Mean of each seed, in the order of the seeds: the points to draw with the interval.
    pub seed_means: Vec<f64>,
    /// What the mean of all answers could be, had the missing ones scored lowest or highest.
    pub worst_case: Interval,
    /// The scale of the scores.
    pub range: Range,
}

/// Estimates the mean score of one group: from two seeds on t over the seeds' means; for one run Wilson or t over
/// questions, clustered by question where questions have several answers. An interval that leaves the range is made
/// on the logit scale.
///
/// Fails when a score lies outside the range, or no answer has a score.
pub fn estimate(observations: &[Observation], range: Range, confidence: f64) -> Result<Estimate> {
    check_confidence(confidence)?;
    let width = range.high - range.low;
    ensure!(width.is_finite() && width > 0.0, "a range of scores goes up, found {} to {}", range.low, range.high);
    let mut missing = BTreeMap::<String, usize>::new();
    let mut seeds = BTreeMap::<u64, Vec<f64>>::new();
    let mut scores = Vec::with_capacity(observations.len());
    for observation in observations {
        match &observation.score {
            Ok(score) => {
                ensure!(range.contains(*score), "score {score} is outside of {} to {}", range.low, range.high);
                seeds.entry(observation.seed).or_default().push(*score);
                scores.push((observation.question, *score));
            }
            Err(reason) => *missing.entry(reason.clone()).or_default() += 1,
        }
    }
    if scores.is_empty() {
        let reasons: Vec<_> = missing.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let found = if reasons.is_empty() { "no answers".to_string() } else { reasons.join(", ") };
        return Err(Error::experiment(format!("no answer has a score: found {found}")));
    }
    let seed_means: Vec<f64> = seeds.values().map(|scores| mean(scores)).collect();
    let group = Group { scores: &scores, range, confidence, words: &QUESTIONS };
    let (interval, method) = if seed_means.len() >= 2 {
        let counts: Vec<usize> = seeds.values().map(Vec::len).collect();
        group.over_means(&seed_means, &counts, "seeds")?
    } else {
        group.of_one_run()?
    };
    let sum = scores.iter().map(|(_, score)| score).sum();
    Ok(Estimate {
        mean: mean(&seed_means),
        low: interval.low,
        high: interval.high,
        confidence,
        method,
        seeds: seed_means.len(),
        questions: observations.iter().map(|observation| observation.question).collect::<BTreeSet<_>>().len(),
        samples: observations.len(),
        missing,
        seed_means,
        worst_case: worst_case(sum, scores.len(), observations.len() - scores.len(), range),
        range,
    })
}

/// The mean of values over rows of a table, of which those of one group are not independent: (group, value). Gives the
/// mean, its interval and how that was made, as [`estimate`] does for the answers of one run.
///
/// Fails when there is no value, or one lies outside the range.
pub fn estimate_rows(rows: &[(u32, f64)], range: Range, confidence: f64) -> Result<(f64, Interval, String)> {
    check_confidence(confidence)?;
    ensure!(!rows.is_empty(), "no row has a value");
    for (_, value) in rows {
        ensure!(range.contains(*value), "value {value} is outside of {} to {}", range.low, range.high);
    }
    let groups = rows.iter().map(|(group, _)| group).collect::<BTreeSet<_>>().len();
    let words = if groups < rows.len() { &GROUPS } else { &ROWS };
    let (interval, method) = Group { scores: rows, range, confidence, words }.of_one_run()?;
    let values: Vec<f64> = rows.iter().map(|(_, value)| *value).collect();
    Ok((mean(&values), interval, method))
}

/// What units are called when it is said how an interval was made.
struct Words {
    /// Independent ones.
    units: &'static str,
    /// Several values of a single unit.
    of_one_unit: &'static str,
    /// A single value.
    one_value: &'static str,
}

const QUESTIONS: Words = Words { units: "questions", of_one_unit: "answers to one question", one_value: "one answer" };
const ROWS: Words = Words { units: "rows", of_one_unit: "rows", one_value: "one row" };
const GROUPS: Words = Words { units: "groups", of_one_unit: "rows of one group", one_value: "one row" };

struct Group<'a> {
    /// (question, score)
    scores: &'a [(u32, f64)],
    range: Range,
    confidence: f64,
    words: &'static Words,
}

impl Group<'_> {
    /// From the means of independent units, each of so many answers; at least two.
    fn over_means(&self, means: &[f64], counts: &[usize], units: &str) -> Result<(Interval, String)> {
        let n = means.len();
        if variance(means) == 0.0 {
            if means[0] == self.range.low || means[0] == self.range.high {
                return self.without_spread(means[0]);
            }
            // Seeds that agree to the last digit do not tell how far apart seeds can be; the answers' own spread does.
            if units == "seeds" {
                let (interval, method) = self.of_one_run()?;
                return Ok((interval, format!("equal seeds, {method}")));
            }
        }
        let plain = t_interval(means, self.confidence)?;
        if plain.within(self.range) {
            return Ok((plain, format!("t over {n} {units}")));
        }
        let shares: Vec<f64> = means.iter().map(|mean| self.range.share(*mean)).collect();
        let on_logits = self.scores_of(logit_t(&shares, counts, self.confidence)?);
        // It is an interval of the mean logit; where one unit is far from the rest the mean itself may lie outside.
        if on_logits.contains(mean(means)) {
            return Ok((on_logits, format!("t on the logit scale over {n} {units}")));
        }
        let clipped = Interval { low: plain.low.max(self.range.low), high: plain.high.min(self.range.high) };
        Ok((clipped, format!("t clipped to the range over {n} {units}")))
    }

    fn of_one_run(&self) -> Result<(Interval, String)> {
        let questions: BTreeSet<u32> = self.scores.iter().map(|(question, _)| *question).collect();
        let values: Vec<f64> = self.scores.iter().map(|(_, score)| *score).collect();
        let (n, clusters) = (values.len(), questions.len());
        let binary = values.iter().all(|value| *value == self.range.low || *value == self.range.high);
        if clusters >= 2 && clusters < n {
            return self.clustered(clusters);
        }
        let units = if clusters == n { self.words.units } else { self.words.of_one_unit };
        if binary {
            let successes: f64 = values.iter().map(|value| self.range.share(*value)).sum();
            let interval = self.scores_of(wilson(successes, n, self.confidence)?);
            return Ok((interval, format!("Wilson over {n} {units}")));
        }
        if n == 1 {
            let whole = Interval { low: self.range.low, high: self.range.high };
            return Ok((whole, format!("the whole range, for {}", self.words.one_value)));
        }
        self.over_means(&values, &vec![1; n], units)
    }

    /// Several answers per question: t with C - 1 degrees of freedom; beyond the range on the logit scale, with the
    /// standard error carried there by the delta method.
    fn clustered(&self, clusters: usize) -> Result<(Interval, String)> {
        let (mean, error) = clustered_mean(self.scores);
        let share = self.range.share(mean);
        if share <= 0.0 || share >= 1.0 {
            return self.without_spread(mean);
        }
        let quantile = t_quantile(self.confidence, (clusters - 1) as f64);
        let plain = Interval::around(mean, quantile * error);
        if plain.within(self.range) {
            return Ok((plain, format!("t clustered by {clusters} {}", self.words.units)));
        }
        let error_of_share = error / (self.range.high - self.range.low);
        let on_logits = Interval::around(logit(share), quantile * error_of_share / (share * (1.0 - share)));
        let interval = self.scores_of(Interval { low: logistic(on_logits.low), high: logistic(on_logits.high) });
        Ok((interval, format!("t on the logit scale clustered by {clusters} {}", self.words.units)))
    }

    /// Every answer at one end of the range has no spread to learn from. That all questions agree is still only so
    /// many agreements: Wilson with the questions as trials.
    fn without_spread(&self, score: f64) -> Result<(Interval, String)> {
        let questions = self.scores.iter().map(|(question, _)| question).collect::<BTreeSet<_>>().len();
        let successes = if score == self.range.low { 0.0 } else { questions as f64 };
        let interval = self.scores_of(wilson(successes, questions, self.confidence)?);
        Ok((interval, format!("no spread, Wilson over {questions} {}", self.words.units)))
    }

    fn scores_of(&self, shares: Interval) -> Interval {
        Interval { low: self.range.score(shares.low), high: self.range.score(shares.high) }
    }
}

impl fmt::Display for Estimate {
    /// `40.2 [35.1, 45.3] (t over 3 seeds, 16 questions, 960 answers, 12 unparsable)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.range.high - self.range.low >= 10.0 { 1 } else { 3 };
        write!(f, "{:.digits$} [{:.digits$}, {:.digits$}] (", self.mean, self.low, self.high)?;
        if self.confidence != super::CONFIDENCE {
            write!(f, "{} % ", round(100.0 * self.confidence))?;
        }
        write!(f, "{}", self.method)?;
        if self.seeds == 1 {
            write!(f, ", one run")?;
        }
        if !self.method.ends_with(&counted(self.questions, "question")) {
            write!(f, ", {}", counted(self.questions, "question"))?;
        }
        write!(f, ", {}", counted(self.samples, "answer"))?;
        for (reason, count) in &self.missing {
            write!(f, ", {count} {reason}")?;
        }
        write!(f, ")")
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Without the digits that binary fractions add.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
