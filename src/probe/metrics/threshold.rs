//! Thresholds fixed on named negatives, the rates of other rows at them, and where scores lie.

use serde::{Deserialize, Serialize};

use super::classes::{check_finite, check_rows};
use super::curve::{check_target, reason_not_estimable};
use super::quantity::{Rate, quantile, rate_of};
use crate::error::{Result, ensure};

/// A threshold with its origin: rows whose score is at least `value` are flagged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Name of the set whose negatives fixed it.
    pub fixed_on: String,
    /// How many negatives fixed it.
    pub n_negative: usize,
    /// The share of them that may be flagged at most.
    pub target_fpr: f64,
    /// The lowest score that is flagged.
    pub value: f64,
    /// The share of them that is flagged; below the target where scores tie or negatives are few.
    pub fpr: f64,
    /// Why the target cannot be reached: fewer negatives than its inverse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_estimable: Option<String>,
}

/// What a threshold that was fixed elsewhere does to a set. Intervals are given the threshold: that it was fixed on
/// finitely many negatives is not in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtThreshold {
    /// Where the threshold comes from.
    pub threshold: Threshold,
    /// Share of the positives flagged; `None` without positives.
    pub tpr: Option<Rate>,
    /// Share of the negatives flagged; `None` without negatives.
    pub fpr: Option<Rate>,
}

/// Where the scores of a class lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The lowest.
    pub minimum: f64,
    /// 5 % lie below.
    pub p05: f64,
    /// A quarter lies below.
    pub p25: f64,
    /// Half lies below.
    pub median: f64,
    /// A quarter lies above.
    pub p75: f64,
    /// 5 % lie above.
    pub p95: f64,
    /// The highest.
    pub maximum: f64,
}

/// The lowest threshold at which at most the share `target_fpr` of these negatives is flagged: just above the highest
/// negative that must not be.
///
/// # Errors
/// No negatives; a score that is not finite; a target outside of 0 (included) to 1 (excluded).
pub fn fix_threshold(fixed_on: &str, negatives: &[f64], target_fpr: f64) -> Result<Threshold> {
    check_target(target_fpr)?;
    ensure!(
        !negatives.is_empty(),
        "a threshold cannot be fixed on `{fixed_on}`, which has no negatives"; help: "name a set with negatives"
    );
    check_finite(negatives)?;
    let mut sorted = negatives.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let n = sorted.len();
    // The most that may be flagged, by the comparison that the ROC curve makes.
    let most = (0..n).take_while(|count| *count as f64 / n as f64 <= target_fpr).last().unwrap_or(0);
    let value = just_above(sorted[most]);
    Ok(Threshold {
        fixed_on: fixed_on.to_string(),
        n_negative: n,
        target_fpr,
        value,
        fpr: sorted.iter().filter(|score| **score >= value).count() as f64 / n as f64,
        not_estimable: reason_not_estimable(target_fpr, n),
    })
}

/// Rates of a set at a threshold that was fixed elsewhere, with Wilson intervals (t clustered by group where groups
/// have several rows).
///
/// # Errors
/// Lengths that differ; a score that is not finite.
pub fn rates_at(
    threshold: &Threshold,
    scores: &[f64],
    labels: &[bool],
    groups: Option<&[u32]>,
    confidence: f64,
) -> Result<AtThreshold> {
    check_rows(scores, labels, groups)?;
    let rate = |class: bool| {
        let rows: Vec<usize> = (0..labels.len()).filter(|row| labels[*row] == class).collect();
        let hits: Vec<bool> = rows.iter().map(|row| scores[*row] >= threshold.value).collect();
        let groups: Option<Vec<u32>> = groups.map(|groups| rows.iter().map(|row| groups[*row]).collect());
        rate_of(&hits, groups.as_deref(), confidence)
    };
    Ok(AtThreshold { threshold: threshold.clone(), tpr: rate(true)?, fpr: rate(false)? })
}

/// Where these scores lie; `None` of no scores.
pub fn quantiles(scores: impl IntoIterator<Item = f64>) -> Option<Quantiles> {
    let mut sorted: Vec<f64> = scores.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return None;
    }
    let [minimum, p05, p25, median, p75, p95, maximum] =
        [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0].map(|share| quantile(&sorted, share));
    Some(Quantiles { minimum, p05, p25, median, p75, p95, maximum })
}

/// The next number above, which both zeros share.
fn just_above(score: f64) -> f64 {
    if score == 0.0 { 0f64.next_up() } else { score.next_up() }
}

#[cfg(test)]
mod tests {
    use super::super::classes::TwoClasses;
    use super::super::curve::tpr_at_fpr;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_threshold_names_its_negatives_and_flags_no_more_than_it_may() {
        let negatives: Vec<f64> = (0..100).map(f64::from).collect();
        let threshold = fix_threshold("alpaca", &negatives, 0.05).unwrap();
        assert_eq!((threshold.fixed_on.as_str(), threshold.n_negative, threshold.fpr), ("alpaca", 100, 0.05));
        assert!(threshold.value > 94.0 && threshold.value < 95.0);
        // 29 of 100 are 0.29, although 0.29 times 100 is a little less than 29.
        assert_eq!(fix_threshold("alpaca", &negatives, 0.29).unwrap().fpr, 0.29);
        let at = rates_at(&threshold, &[96.0, 10.0, 94.0], &[true; 3], None, 0.95).unwrap();
        let tpr = at.tpr.unwrap();
        assert_eq!((tpr.hits, tpr.of, at.fpr), (1, 3, None));
        assert_eq!(tpr.share.method, "Wilson over 3 rows");
    }

    #[test]
    fn tied_negatives_are_all_flagged_or_none() {
        let threshold = fix_threshold("chat", &[0.5, 0.5, 0.5, 0.1], 0.5).unwrap();
        assert_eq!((threshold.fpr, threshold.value > 0.5), (0.0, true));
        let zeros = fix_threshold("chat", &[-0.0, 0.0, -1.0], 0.4).unwrap();
        assert_eq!(zeros.fpr, 0.0);
    }

    #[test]
    fn a_threshold_needs_negatives_and_says_when_they_are_few() {
        assert!(
            fix_threshold("sycophant", &[], 0.01).unwrap_err().message.contains("`sycophant`, which has no negatives")
        );
        assert!(fix_threshold("gold", &[0.0; 55], 0.01).unwrap().not_estimable.is_some());
        assert!(fix_threshold("gold", &[0.0; 55], 0.05).unwrap().not_estimable.is_none());
    }

    #[test]
    fn quantiles_of_nothing_are_nothing() {
        assert_eq!(quantiles([]), None);
        let one = quantiles([2.0]).unwrap();
        assert_eq!((one.minimum, one.median, one.maximum), (2.0, 2.0, 2.0));
    }

    proptest! {
        #[test]
        fn a_threshold_on_own_negatives_is_the_point_of_the_curve(
            rows in prop::collection::vec((-9i32..9, any::<bool>()), 2..50), target in 0.0f64..0.95,
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            (labels[0], labels[1]) = (true, false);
            let negatives: Vec<f64> = (0..scores.len()).filter(|row| !labels[*row]).map(|row| scores[row]).collect();
            let threshold = fix_threshold("own", &negatives, target).unwrap();
            let at = rates_at(&threshold, &scores, &labels, None, 0.95).unwrap();
            let point = tpr_at_fpr(&TwoClasses::new(&scores, &labels, None).unwrap(), target).unwrap();
            prop_assert_eq!(at.tpr.unwrap().share.value, point.tpr);
            prop_assert!(at.fpr.unwrap().share.value <= target);
        }
    }
}
