//! "No difference" as a claim: two one-sided tests against a declared margin.

use serde::{Deserialize, Serialize};

use super::distribution::{t_probability, t_quantile};
use super::{Difference, Interval, check_confidence};
use crate::ensure;
use crate::error::Result;

/// What two one-sided tests allow to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The difference lies within the margin.
    Equivalent,
    /// Nothing: the difference may be large, or there were too few units to see that it is small.
    NotShown,
}

/// A difference held against a margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// Differences from -margin to margin are as good as none.
    pub margin: f64,
    /// Lower end of the interval that must lie within the margin.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of the interval: 0.9 for two one-sided tests at 5 %.
    pub confidence: f64,
    /// p of the test that the difference is greater than -margin.
    pub p_above: f64,
    /// p of the test that the difference is less than margin.
    pub p_below: f64,
    /// The verdict: both p are below the level, which is to say that the interval lies within the margin.
    pub verdict: Verdict,
}

/// Two one-sided t tests (Schuirmann 1987), each at the level 1 - `confidence`: 0.95 gives the 90 % interval.
///
/// The margin belongs declared before the data are seen. An interval that merely contains 0 shows nothing.
pub fn equivalence(difference: &Difference, margin: f64, confidence: f64) -> Result<Equivalence> {
    check_confidence(confidence)?;
    ensure!(
        confidence > 0.5,
        "one-sided tests need a confidence above 0.5, found `{confidence}`"; help: "write 0.95 for two tests at 5 %"
    );
    ensure!(margin.is_finite() && margin > 0.0, "a margin is greater than 0, found {margin}");
    let Difference { mean, standard_error, degrees_of_freedom, .. } = *difference;
    // Without the digits that binary fractions add.
    let confidence_of_interval = ((2.0 * confidence - 1.0) * 1e12).round() / 1e12;
    let half_width = t_quantile(confidence_of_interval, degrees_of_freedom) * standard_error;
    let Interval { low, high } = Interval::around(mean, half_width);
    let p = |distance: f64| tail(distance, standard_error, degrees_of_freedom);
    let (p_above, p_below) = (p(mean + margin), p(margin - mean));
    let shown = p_above.max(p_below) < 1.0 - confidence;
    let verdict = if shown { Verdict::Equivalent } else { Verdict::NotShown };
    Ok(Equivalence { margin, low, high, confidence: confidence_of_interval, p_above, p_below, verdict })
}

/// P(T > distance / standard error).
fn tail(distance: f64, standard_error: f64, degrees_of_freedom: f64) -> f64 {
    if standard_error == 0.0 {
        return if distance > 0.0 { 0.0 } else { 1.0 };
    }
    let t = distance / standard_error;
    let half = t_probability(t, degrees_of_freedom) / 2.0;
    if t > 0.0 { half } else { 1.0 - half }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{paired, welch};
    use super::*;

    #[test]
    fn both_tests_agree_with_statsmodels() {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        let mut verdicts = Vec::new();
        for case in all["equivalence"].as_array().unwrap() {
            let values = |name: &str| -> Vec<f64> { serde_json::from_value(case[name].clone()).unwrap() };
            let (a, b, margin) = (values("a"), values("b"), case["margin"].as_f64().unwrap());
            for (compared, expected) in [welch, paired].iter().zip(case["found"].as_array().unwrap()) {
                let found = equivalence(&compared(&a, &b, 0.95).unwrap(), margin, 0.95).unwrap();
                for (found, name) in [(found.p_above, "p_above"), (found.p_below, "p_below")] {
                    assert!((found - expected[name].as_f64().unwrap()).abs() < 1e-9, "{name}: {found}, {expected}");
                }
                assert_eq!(found.verdict == Verdict::Equivalent, expected["p"].as_f64().unwrap() < 0.05);
                // The same verdict, read off the interval.
                assert_eq!(found.verdict == Verdict::Equivalent, -margin < found.low && found.high < margin);
                verdicts.push(found.verdict);
            }
        }
        assert!(verdicts.contains(&Verdict::Equivalent) && verdicts.contains(&Verdict::NotShown));
    }

    #[test]
    fn an_interval_around_zero_shows_nothing_by_itself() {
        let difference = paired(&[1.0, -9.0, 8.0], &[0.0; 3], 0.95).unwrap();
        assert!(difference.low < 0.0 && difference.high > 0.0);
        let found = equivalence(&difference, 3.0, 0.95).unwrap();
        assert_eq!((found.verdict, found.confidence), (Verdict::NotShown, 0.9));
        assert!(equivalence(&difference, 0.0, 0.95).is_err() && equivalence(&difference, 3.0, 0.4).is_err());
    }

    #[test]
    fn without_spread_the_difference_itself_decides() {
        let difference = paired(&[3.0, 4.0], &[1.0, 2.0], 0.95).unwrap();
        let verdict = |margin| equivalence(&difference, margin, 0.95).unwrap().verdict;
        assert_eq!(
            [verdict(2.5), verdict(2.0), verdict(1.0)],
            [Verdict::Equivalent, Verdict::NotShown, Verdict::NotShown]
        );
    }
}
