//! How far two judges of the same answers agree.

use serde::{Deserialize, Serialize};

use super::{mean, variance};
use crate::ensure;
use crate::error::Result;

/// Scores at most this far from a threshold count as near it: a judge that errs by as much would change their side.
pub const NEAR: f64 = 5.0;

/// Two judges of the same answers, or one judge and people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Answers that both judges scored. All that follows but the last is about these.
    pub both: usize,
    /// Answers that only one of the two scored.
    pub only_one: usize,
    /// Share of the answers that both put on the same side of the threshold: above it, or not.
    pub same_side: f64,
    /// Cohen's kappa of the sides: agreement beyond that of two judges with these shares who do not look, as a share of
    /// what is possible. Missing when both put all answers on one side.
    pub kappa: Option<f64>,
    /// Krippendorff's alpha of the scores, interval metric: 1 is perfect, 0 is chance. Missing when all are equal.
    pub alpha: Option<f64>,
    /// Krippendorff's alpha of the sides, nominal metric. Missing when all are one side.
    pub alpha_of_sides: Option<f64>,
    /// Pearson's correlation of the scores, which does not see a bias; missing without spread.
    pub correlation: Option<f64>,
    /// Mean of second minus first.
    pub bias: f64,
    /// Share of all scores of both judges within 5 points of the threshold, ends included.
    pub near_threshold: f64,
}

/// Compares the scores (first, second) of two judges. A score above the threshold is on its upper side, as in
/// [`Score::of`](crate::data::evaluation::Score::of).
///
/// Fails when no answer has both scores.
pub fn agreement(scores: &[(Option<f64>, Option<f64>)], threshold: f64) -> Result<Agreement> {
    let present: Vec<f64> = scores.iter().flat_map(|(a, b)| [*a, *b]).flatten().collect();
    ensure!(present.iter().all(|score| score.is_finite()), "a score is a number, found one that is not");
    let (a, b): (Vec<f64>, Vec<f64>) = scores.iter().filter_map(|(a, b)| Some(((*a)?, (*b)?))).unzip();
    let both = a.len();
    ensure!(both > 0, "no answer has a score by both judges"; help: "let the second judge score the same answers");
    let sides = |scores: &[f64]| scores.iter().map(|score| f64::from(u8::from(*score > threshold))).collect::<Vec<_>>();
    let (side_a, side_b) = (sides(&a), sides(&b));
    let same_side = side_a.iter().zip(&side_b).filter(|(a, b)| a == b).count() as f64 / both as f64;
    let differences: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b - a).collect();
    Ok(Agreement {
        both,
        only_one: present.len() - 2 * both,
        same_side,
        kappa: kappa(same_side, mean(&side_a), mean(&side_b)),
        alpha: alpha(&a, &b),
        // The squared difference of two sides is 1 where they differ, so that the nominal metric is the interval one.
        alpha_of_sides: alpha(&side_a, &side_b),
        correlation: correlation(&a, &b),
        bias: mean(&differences),
        near_threshold: share_near(&present, threshold),
    })
}

/// Share of scores within 5 points of a threshold, ends included; NaN of no scores.
pub fn share_near(scores: &[f64], threshold: f64) -> f64 {
    scores.iter().filter(|score| (*score - threshold).abs() <= NEAR).count() as f64 / scores.len() as f64
}

/// From the share of equal sides and each judge's share of upper ones.
fn kappa(same: f64, upper_a: f64, upper_b: f64) -> Option<f64> {
    let by_chance = upper_a * upper_b + (1.0 - upper_a) * (1.0 - upper_b);
    (by_chance < 1.0).then(|| (same - by_chance) / (1.0 - by_chance))
}

/// 1 - observed over expected disagreement. For two judges the first is the mean of (a - b)² and the second that over
/// all pairs of different values, which is twice their variance.
fn alpha(a: &[f64], b: &[f64]) -> Option<f64> {
    let observed = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64;
    let expected = 2.0 * variance(&[a, b].concat());
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 2 || variance(a) == 0.0 || variance(b) == 0.0 {
        return None;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    let covariance = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / (a.len() - 1) as f64;
    Some((covariance / (variance(a) * variance(b)).sqrt()).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn agreement_agrees_with_scikit_learn_scipy_and_krippendorff() {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        for case in all["agreement"].as_array().unwrap() {
            let pairs: Vec<(Option<f64>, Option<f64>)> = serde_json::from_value(case["pairs"].clone()).unwrap();
            let found = serde_json::to_value(agreement(&pairs, 50.0).unwrap()).unwrap();
            for name in
                ["both", "same_side", "kappa", "alpha", "alpha_of_sides", "correlation", "bias", "near_threshold"]
            {
                let (found, expected) = (found[name].as_f64().unwrap(), case[name].as_f64().unwrap());
                assert!((found - expected).abs() < 1e-9, "{name}: {found}, expected {expected}");
            }
            let alone = pairs.iter().filter(|(a, b)| a.is_some() != b.is_some()).count();
            assert_eq!(found["only_one"], alone);
        }
    }

    #[test]
    fn what_cannot_be_said_is_missing() {
        let equal = agreement(&[(Some(90.0), Some(90.0)), (Some(90.0), Some(90.0)), (None, None)], 50.0).unwrap();
        assert_eq!((equal.both, equal.same_side, equal.bias), (2, 1.0, 0.0));
        assert_eq!((equal.kappa, equal.alpha, equal.alpha_of_sides, equal.correlation), (None, None, None, None));
        assert!(agreement(&[(Some(1.0), None), (None, Some(1.0))], 50.0).is_err() && agreement(&[], 50.0).is_err());
        assert!(agreement(&[(Some(f64::NAN), Some(1.0))], 50.0).is_err());
    }

    #[test]
    fn a_score_on_the_threshold_is_not_above_it_and_a_bias_is_no_lack_of_correlation() {
        let found = agreement(&[(Some(50.0), Some(60.0)), (Some(40.0), Some(50.0)), (Some(90.0), Some(100.0))], 50.0);
        let found = found.unwrap();
        assert_eq!((found.same_side, found.bias, found.near_threshold), (2.0 / 3.0, 10.0, 2.0 / 6.0));
        assert!(found.correlation.unwrap() > 1.0 - 1e-12 && found.alpha.unwrap() < 1.0);
    }
}
