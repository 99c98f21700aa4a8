//! The mean of one group for other seeds and other questions at once: clustered both ways.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::t_quantile;
use super::interval::{Interval, logistic, logit, wilson};
use super::{Observation, Range, check_confidence, mean};
use crate::ensure;
use crate::error::Result;

/// A mean whose interval is about other seeds and other questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoWay {
    /// Mean over seeds of the mean over their scored answers, as in [`Estimate`](super::Estimate).
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// Of the mean.
    pub standard_error: f64,
    /// The lesser of seeds and questions, less 1.
    pub degrees_of_freedom: f64,
    /// Training runs with a score.
    pub seeds: usize,
    /// Questions with a score.
    pub questions: usize,
    /// `t clustered by 3 seeds and 8 questions`.
    pub method: String,
}

/// The mean with V = V_seed + V_question - V_seed×question, each a variance clustered by C clusters with the factor
/// C/(C - 1) (Cameron, Gelbach and Miller 2011), and t with min(seeds, questions) - 1 degrees of freedom. Where V is
/// not positive the larger of the first two takes its place. V_seed alone is that of t over the seeds' means.
///
/// An interval that leaves the range is made on the logit scale. Fails with fewer than two seeds or questions.
pub fn two_way(observations: &[Observation], range: Range, confidence: f64) -> Result<TwoWay> {
    check_confidence(confidence)?;
    let mut by_seed = BTreeMap::<u64, Vec<f64>>::new();
    for observation in observations {
        if let Ok(score) = observation.score {
            ensure!(range.contains(score), "score {score} is outside of {} to {}", range.low, range.high);
            by_seed.entry(observation.seed).or_default().push(score);
        }
    }
    let seeds = by_seed.len();
    let centre = mean(&by_seed.values().map(|scores| mean(scores)).collect::<Vec<_>>());
    let mut residuals = Residuals::default();
    for observation in observations {
        if let Ok(score) = observation.score {
            // What the answer moves the mean by: all seeds count equally, however many of their answers have a score.
            let residual = (score - centre) / (seeds * by_seed[&observation.seed].len()) as f64;
            residuals.add(observation.seed, observation.question, residual);
        }
    }
    let questions = residuals.by_question.len();
    ensure!(
        seeds >= 2 && questions >= 2,
        "an interval about seeds and questions needs at least 2 of each, found {seeds} and {questions}";
        help: "train another seed, or estimate over questions alone"
    );
    let standard_error = residuals.variance().sqrt();
    let units = seeds.min(questions);
    let degrees_of_freedom = (units - 1) as f64;
    let half_width = t_quantile(confidence, degrees_of_freedom) * standard_error;
    let share = range.share(centre);
    let plain = Interval::around(centre, half_width);
    let clusters = format!("{seeds} seeds and {questions} questions");
    let (interval, method) = if share <= 0.0 || share >= 1.0 {
        // Every answer at one end has no spread to learn from; it is still only so many agreements.
        let successes = if share <= 0.0 { 0.0 } else { units as f64 };
        let shares = wilson(successes, units, confidence)?;
        let name = if seeds <= questions { "seeds" } else { "questions" };
        (on_scale(shares, range), format!("no spread, Wilson over {units} {name}"))
    } else if plain.within(range) {
        (plain, format!("t clustered by {clusters}"))
    } else {
        // The standard error is carried to the logit scale by the delta method.
        let slope = (range.high - range.low) * share * (1.0 - share);
        let logits = Interval::around(logit(share), half_width / slope);
        let shares = Interval { low: logistic(logits.low), high: logistic(logits.high) };
        (on_scale(shares, range), format!("t on the logit scale clustered by {clusters}"))
    };
    Ok(TwoWay {
        mean: centre,
        low: interval.low,
        high: interval.high,
        confidence,
        standard_error,
        degrees_of_freedom,
        seeds,
        questions,
        method,
    })
}

/// Sums of residuals.
#[derive(Default)]
struct Residuals {
    by_seed: BTreeMap<u64, f64>,
    by_question: BTreeMap<u32, f64>,
    by_cell: BTreeMap<(u64, u32), f64>,
}

impl Residuals {
    fn add(&mut self, seed: u64, question: u32, residual: f64) {
        *self.by_seed.entry(seed).or_default() += residual;
        *self.by_question.entry(question).or_default() += residual;
        *self.by_cell.entry((seed, question)).or_default() += residual;
    }
    fn variance(&self) -> f64 {
        let (seed, question) = (clustered(self.by_seed.values()), clustered(self.by_question.values()));
        let both = seed + question - clustered(self.by_cell.values());
        if both > 0.0 { both } else { seed.max(question) }
    }
}

/// C/(C - 1) Σ_c (Σ_i r_ic)².
fn clustered<'a>(sums: impl ExactSizeIterator<Item = &'a f64>) -> f64 {
    let count = sums.len() as f64;
    count / (count - 1.0) * sums.map(|sum| sum * sum).sum::<f64>()
}

fn on_scale(shares: Interval, range: Range) -> Interval {
    Interval { low: range.score(shares.low), high: range.score(shares.high) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::t_interval;
    use super::*;

    fn observations(scores: &[(u64, u32, f64)]) -> Vec<Observation> {
        scores.iter().map(|&(seed, question, score)| Observation { seed, question, score: Ok(score) }).collect()
    }

    const REALS: Range = Range { low: -1000.0, high: 1000.0 };

    #[test]
    fn errors_clustered_both_ways_agree_with_statsmodels() {
        // Made by tests/generators/statistics_power.py.
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        for case in all["two_way"].as_array().unwrap() {
            let scores: Vec<(u64, u32, f64)> = serde_json::from_value(case["scores"].clone()).unwrap();
            let found = two_way(&observations(&scores), REALS, 0.95).unwrap();
            for (found, name) in [
                (found.mean, "mean"),
                (found.standard_error, "standard_error"),
                (found.low, "low"),
                (found.high, "high"),
            ] {
                let expected = case[name].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-8 * expected.abs(), "{name}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn without_spread_of_questions_it_is_t_over_seeds() {
        let means = [10.0, 20.0, 40.0];
        let scores: Vec<_> = (0..3u64).flat_map(|s| (0..8).map(move |q| (s, q, means[s as usize]))).collect();
        let found = two_way(&observations(&scores), REALS, 0.95).unwrap();
        let t = t_interval(&means, 0.95).unwrap();
        // V_question is 0 and V_seed×question a part of V_seed, which it takes away: the interval is a little narrower.
        assert!(found.low > t.low && found.high < t.high && found.low < t.low + 5.0, "{found:?}, {t:?}");
        assert_eq!((found.degrees_of_freedom, found.method.as_str()), (2.0, "t clustered by 3 seeds and 8 questions"));
    }

    #[test]
    fn a_variance_that_is_not_positive_gives_way_to_the_larger_one() {
        // Seed means 50 and 40, question means 40 and 50: either alone gives 5, their meeting takes away more.
        let scores = [(0, 0, 0.0), (0, 1, 100.0), (1, 0, 80.0), (1, 1, 0.0)];
        let found = two_way(&observations(&scores), REALS, 0.95).unwrap();
        assert!((found.standard_error - 5.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn interval_stays_in_the_range_and_no_spread_is_not_certainty() {
        let scores: Vec<_> =
            (0..3).flat_map(|s| (0..4).map(move |q| (s, q, if s + u64::from(q) == 0 { 90.0 } else { 1.0 }))).collect();
        let found = two_way(&observations(&scores), Range::default(), 0.95).unwrap();
        assert!(0.0 < found.low && found.high < 100.0 && found.method.contains("logit"), "{found:?}");
        let zeros: Vec<_> = (0..3).flat_map(|s| (0..8).map(move |q| (s, q, 0.0))).collect();
        let found = two_way(&observations(&zeros), Range::default(), 0.95).unwrap();
        assert!(found.low == 0.0 && found.high > 50.0 && found.method == "no spread, Wilson over 3 seeds", "{found:?}");
        assert!(two_way(&observations(&[(0, 0, 1.0), (0, 1, 2.0)]), Range::default(), 0.95).is_err());
        assert!(two_way(&[], Range::default(), 0.95).is_err());
    }
}
