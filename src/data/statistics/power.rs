//! Planning before spending: which difference can be found, with what power, by how many seeds or questions.

use serde::{Deserialize, Serialize};

use super::check_confidence;
use super::distribution::{normal_quantile, t_quantile};
use super::noncentral::noncentral_t_tail;
use crate::ensure;
use crate::error::Result;

/// The power that is meant where none is named.
pub const POWER: f64 = 0.8;

/// Seeds and questions beyond this number are not a plan.
const MOST: usize = 1_000_000;

/// How the seeds of the two groups that will be compared belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arms {
    /// Every seed stands alone; differences are measured in standard deviations of one seed.
    #[default]
    Independent,
    /// Equal seeds share their data order; differences are measured in standard deviations of the difference within a
    /// seed.
    Paired,
}

impl Arms {
    /// Of the t test over so many seeds in each group.
    pub(super) fn degrees_of_freedom(self, seeds: usize) -> f64 {
        match self {
            Arms::Independent => 2.0 * (seeds as f64 - 1.0),
            Arms::Paired => seeds as f64 - 1.0,
        }
    }
    /// Variance of the difference, in variances of one unit with `n` units in each group.
    pub(super) fn variance_of_difference(self, n: f64) -> f64 {
        match self {
            Arms::Independent => 2.0 / n,
            Arms::Paired => 1.0 / n,
        }
    }
}

/// The smallest difference that a two-sided t test finds with this power, in standard deviations (see [`Arms`]).
///
/// By the noncentral t distribution: with few seeds the normal approximation promises far too much.
pub fn seeds_detectable(seeds_per_arm: usize, arms: Arms, confidence: f64, power: f64) -> Result<f64> {
    ensure!(seeds_per_arm >= 2, "a plan over seeds needs at least 2 in each group, found {seeds_per_arm}");
    let standard_errors = detectable_standard_errors(arms.degrees_of_freedom(seeds_per_arm), confidence, power)?;
    Ok(standard_errors * arms.variance_of_difference(seeds_per_arm as f64).sqrt())
}

/// The probability that a two-sided t test over so many seeds in each group finds a difference of so many standard
/// deviations (see [`Arms`]); of no difference it is 1 - confidence.
pub fn power_of(difference_in_deviations: f64, seeds_per_arm: usize, arms: Arms, confidence: f64) -> Result<f64> {
    check_confidence(confidence)?;
    ensure!(difference_in_deviations.is_finite(), "a difference is a number, found {difference_in_deviations}");
    ensure!(seeds_per_arm >= 2, "a plan over seeds needs at least 2 in each group, found {seeds_per_arm}");
    let standard_error = arms.variance_of_difference(seeds_per_arm as f64).sqrt();
    Ok(power(difference_in_deviations / standard_error, arms.degrees_of_freedom(seeds_per_arm), confidence))
}

/// The least number of seeds in each group that finds a difference of so many standard deviations (see [`Arms`]) with
/// this power.
pub fn seeds_needed(difference_in_deviations: f64, arms: Arms, confidence: f64, power: f64) -> Result<usize> {
    check_power(confidence, power)?;
    let enough = |seeds| power_of(difference_in_deviations, seeds, arms, confidence).map(|found| found >= power);
    let (mut too_few, mut sufficient) = (1, 2);
    while !enough(sufficient)? {
        ensure!(
            sufficient < MOST,
            "a difference of {difference_in_deviations} standard deviations needs more than {sufficient} seeds";
            help: "plan for a larger difference"
        );
        (too_few, sufficient) = (sufficient, 2 * sufficient);
    }
    while sufficient - too_few > 1 {
        let middle = usize::midpoint(too_few, sufficient);
        if enough(middle)? {
            sufficient = middle;
        } else {
            too_few = middle;
        }
    }
    Ok(sufficient)
}

/// What varies when two models answer the same questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionSpread {
    /// Variance over questions of the difference of the two models' true means: Var(a) + Var(b) - 2 Cov(a, b).
    pub of_differences: f64,
    /// Variance of one model's answers to one question, first and second model.
    pub of_answers: [f64; 2],
    /// Answers that each model gives to one question.
    pub samples: [usize; 2],
}

/// How many questions two models must both answer so that a difference of their means is found: (z₁₋α/₂ + z₁₋β)²
/// (ω² + σ²_A/K_A + σ²_B/K_B)/δ² (Miller 2024). It speaks of these two models; other seeds of them vary more.
pub fn questions_needed(difference: f64, spread: &QuestionSpread, confidence: f64, power: f64) -> Result<usize> {
    check_power(confidence, power)?;
    ensure!(difference.is_finite() && difference != 0.0, "a difference to plan for is not 0, found {difference}");
    ensure!(spread.samples.iter().all(|samples| *samples > 0), "a question needs at least 1 answer, found 0");
    let [a, b] = [0, 1].map(|arm| spread.of_answers[arm] / spread.samples[arm] as f64);
    let variance = spread.of_differences + a + b;
    ensure!(variance.is_finite() && variance >= 0.0, "variances are not negative, found {variance} in all");
    // The normal quantile of a power is that of a two-sided confidence of 2·power - 1.
    let standard_errors = normal_quantile(confidence) + normal_quantile(2.0 * power - 1.0);
    let questions = (standard_errors.powi(2) * variance / difference.powi(2)).ceil().max(1.0);
    ensure!(
        questions <= MOST as f64,
        "a difference of {difference} needs {questions:.0} questions";
        help: "plan for a larger difference"
    );
    Ok(questions as usize)
}

/// The difference, in its own standard errors, that is found with this power.
pub(super) fn detectable_standard_errors(degrees_of_freedom: f64, confidence: f64, power: f64) -> Result<f64> {
    check_power(confidence, power)?;
    let enough = |standard_errors| self::power(standard_errors, degrees_of_freedom, confidence) >= power;
    let (mut low, mut high) = (0.0, 1.0);
    while !enough(high) {
        (low, high) = (high, 2.0 * high);
    }
    while high - low > 1e-12 * high {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// Power of the two-sided t test; the far tail counts as found, too.
fn power(standard_errors: f64, degrees_of_freedom: f64, confidence: f64) -> f64 {
    let t = t_quantile(confidence, degrees_of_freedom);
    let tail = |noncentrality| noncentral_t_tail(t, degrees_of_freedom, noncentrality);
    (tail(standard_errors) + tail(-standard_errors)).min(1.0)
}

fn check_power(confidence: f64, power: f64) -> Result<()> {
    check_confidence(confidence)?;
    ensure!(
        power > 1.0 - confidence && power < 1.0,
        "a power lies between {:.3} (chance alone) and 1, found `{power}`", 1.0 - confidence; help: "write 0.8 for 80 %"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden<const N: usize>(name: &str) -> Vec<[f64; N]> {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        all[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let row: Vec<f64> = serde_json::from_value(row.clone()).unwrap();
                row.try_into().unwrap()
            })
            .collect()
    }

    #[test]
    fn detectable_differences_agree_with_statsmodels_and_within_half_a_percent_with_the_reference_page() {
        let page = [[5.67, 11.6], [3.07, 3.26], [2.38, 2.13], [2.03, 1.69], [1.80, 1.44], [1.33, 1.00]];
        for ([seeds, independent, paired], page) in golden("detectable").into_iter().zip(page) {
            for (arms, expected, page) in [(Arms::Independent, independent, page[0]), (Arms::Paired, paired, page[1])] {
                let found = seeds_detectable(seeds as usize, arms, 0.95, 0.8).unwrap();
                assert!((found - expected).abs() < 1e-6 * expected, "{seeds} {arms:?}: {found}, {expected}");
                // The page has 5.67 where scipy, statsmodels and simulation say 5.654.
                assert!((found / page - 1.0).abs() < 0.005, "{seeds} {arms:?}: {found}, {page}");
            }
        }
        assert!(seeds_detectable(1, Arms::Paired, 0.95, 0.8).is_err());
        assert!(seeds_detectable(3, Arms::Paired, 0.95, 0.05).is_err());
        assert!(seeds_detectable(3, Arms::Paired, 0.95, 1.0).is_err());
    }

    #[test]
    fn power_agrees_with_statsmodels() {
        for [difference, seeds, independent, paired] in golden("power") {
            for (arms, expected) in [(Arms::Independent, independent), (Arms::Paired, paired)] {
                let found = power_of(difference, seeds as usize, arms, 0.95).unwrap();
                assert!((found - expected).abs() < 1e-9, "{difference} {seeds} {arms:?}: {found}, {expected}");
                assert_eq!(found, power_of(-difference, seeds as usize, arms, 0.95).unwrap());
            }
        }
        assert!((power_of(0.0, 3, Arms::Paired, 0.95).unwrap() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn seeds_needed_agree_with_statsmodels_and_are_the_least_that_suffice() {
        for [difference, independent, paired] in golden("seeds") {
            for (arms, expected) in [(Arms::Independent, independent), (Arms::Paired, paired)] {
                let found = seeds_needed(difference, arms, 0.95, 0.9).unwrap();
                assert_eq!(found, expected as usize, "{difference}, {arms:?}");
                let detectable = |seeds| seeds_detectable(seeds, arms, 0.95, 0.9).unwrap();
                assert!(detectable(found) <= difference && detectable(found - 1) > difference);
            }
        }
        assert_eq!(seeds_needed(100.0, Arms::Paired, 0.95, 0.8).unwrap(), 2);
        assert!(seeds_needed(0.0, Arms::Paired, 0.95, 0.8).is_err());
        assert!(seeds_needed(f64::NAN, Arms::Paired, 0.95, 0.8).is_err());
    }

    #[test]
    fn three_points_need_about_a_thousand_questions() {
        let spread = QuestionSpread { of_differences: 0.075, of_answers: [0.2, 0.2], samples: [10, 10] };
        // 7.849 x 0.115 / 0.0009.
        assert_eq!(questions_needed(0.03, &spread, 0.95, 0.8).unwrap(), 1003);
        let more = QuestionSpread { samples: [100, 20], ..spread };
        assert_eq!(questions_needed(-0.03, &more, 0.95, 0.8).unwrap(), (7.8489f64 * 0.087 / 0.0009).ceil() as usize);
        assert!(questions_needed(0.0, &spread, 0.95, 0.8).is_err());
        assert!(questions_needed(0.03, &QuestionSpread { samples: [0, 1], ..spread }, 0.95, 0.8).is_err());
    }
}
