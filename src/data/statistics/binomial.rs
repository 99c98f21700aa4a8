//! Exact and Bayesian intervals for a share of trials: Clopper-Pearson and Jeffreys.

use statrs::function::beta::beta_reg;

use super::{Interval, check_confidence};
use crate::ensure;
use crate::error::Result;

/// Clopper and Pearson's interval for a share of `trials`: it covers at least as often as its confidence says, and so
/// is wider than [`wilson`](super::wilson()).
pub fn clopper_pearson(successes: f64, trials: usize, confidence: f64) -> Result<Interval> {
    let tail = tail_of(successes, trials, confidence)?;
    let failures = trials as f64 - successes;
    Ok(Interval {
        low: if successes == 0.0 { 0.0 } else { beta_quantile(tail, successes, failures + 1.0) },
        high: if failures == 0.0 { 1.0 } else { 1.0 - beta_quantile(tail, failures, successes + 1.0) },
    })
}

/// The middle of the Beta(k + 1/2, n - k + 1/2) posterior of a share, with the ends 0 and 1 where no or all trials
/// succeed (Brown, Cai and DasGupta 2001). It covers as often as its confidence says on average; for few trials.
pub fn jeffreys(successes: f64, trials: usize, confidence: f64) -> Result<Interval> {
    let tail = tail_of(successes, trials, confidence)?;
    let failures = trials as f64 - successes;
    let (a, b) = (successes + 0.5, failures + 0.5);
    Ok(Interval {
        low: if successes == 0.0 { 0.0 } else { beta_quantile(tail, a, b) },
        high: if failures == 0.0 { 1.0 } else { 1.0 - beta_quantile(tail, b, a) },
    })
}

fn tail_of(successes: f64, trials: usize, confidence: f64) -> Result<f64> {
    check_confidence(confidence)?;
    ensure!(trials > 0, "a share needs at least 1 trial, found 0");
    ensure!((0.0..=trials as f64).contains(&successes), "{successes} successes in {trials} trials are impossible");
    Ok((1.0 - confidence) / 2.0)
}

/// The x with P(Beta(a, b) < x) = probability, by halving until no number lies between.
fn beta_quantile(probability: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high || high - low < 1e-14 * high {
            return middle;
        }
        if beta_reg(a, b, middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::wilson;
    use super::*;

    fn golden(name: &str) -> Vec<[f64; 5]> {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        serde_json::from_value(all[name].clone()).unwrap()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "found {found}, expected {expected}");
    }

    #[test]
    fn exact_interval_agrees_with_scipy() {
        for [successes, trials, confidence, low, high] in golden("exact") {
            let found = clopper_pearson(successes, trials as usize, confidence).unwrap();
            near(found.low, low);
            near(found.high, high);
        }
    }

    #[test]
    fn jeffreys_interval_agrees_with_statsmodels_but_for_the_ends_of_the_scale() {
        for [successes, trials, confidence, low, high] in golden("jeffreys") {
            let found = jeffreys(successes, trials as usize, confidence).unwrap();
            near(found.low, if successes == 0.0 { 0.0 } else { low });
            near(found.high, if successes == trials { 1.0 } else { high });
        }
    }

    #[test]
    fn exact_covers_at_least_as_often_as_it_says_and_is_wider_than_jeffreys() {
        let (trials, share) = (12, 0.3);
        let (mut covered, mut probability) = (0.0, 0.7f64.powi(12));
        for successes in 0..=trials {
            let k = f64::from(successes);
            let exact = clopper_pearson(k, trials as usize, 0.95).unwrap();
            covered += if exact.contains(share) { probability } else { 0.0 };
            probability *= f64::from(trials - successes) / (k + 1.0) * 0.3 / 0.7;
            let jeffreys = jeffreys(k, trials as usize, 0.95).unwrap();
            assert!(exact.low <= jeffreys.low && jeffreys.high <= exact.high);
            assert!(jeffreys.contains(k / 12.0) && wilson(k, 12, 0.95).unwrap().contains(k / 12.0));
        }
        assert!((0.95..1.0).contains(&covered), "{covered}");
        assert!(clopper_pearson(0.0, 0, 0.95).is_err() && jeffreys(3.0, 2, 0.95).is_err());
    }
}
