//! What is read off the ROC and precision-recall curves: points, average precision, TPR at a small FPR, partial area.

use serde::{Deserialize, Serialize};

use super::classes::TwoClasses;
use crate::error::{Result, ensure};

/// One threshold of a ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// Share of the negatives flagged.
    pub fpr: f64,
    /// Share of the positives flagged.
    pub tpr: f64,
    /// Rows with at least this score are flagged; `None` for the first point, which lies above every score.
    pub threshold: Option<f64>,
}

/// Where a ROC curve stands at a small FPR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtFpr {
    /// The largest TPR among the points of the curve with an FPR of at most the target. Nothing is interpolated.
    pub tpr: f64,
    /// The FPR there: at most the target.
    pub fpr: f64,
    /// The threshold there; `None` above every score.
    pub threshold: Option<f64>,
    /// The smallest FPR but 0 that so many negatives can show: 1 / n_negative.
    pub resolution: f64,
    /// Why the target cannot be estimated: it is finer than the resolution, so the TPR is that at an FPR of 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_estimable: Option<String>,
}

/// The ROC curve from (0, 0) to (1, 1): one point per different score, as scikit-learn's `roc_curve` without dropping.
pub fn roc(classes: &TwoClasses) -> Vec<RocPoint> {
    let (positives, negatives) = classes.totals(None);
    let mut points = vec![RocPoint { fpr: 0.0, tpr: 0.0, threshold: None }];
    classes.descend(None, |above| {
        let (fpr, tpr) = (above.negatives as f64 / negatives, above.positives as f64 / positives);
        points.push(RocPoint { fpr, tpr, threshold: Some(above.score) });
    });
    points
}

/// The same curve without the points that lie on a straight line between their neighbours: the line to draw.
pub fn roc_corners(classes: &TwoClasses) -> Vec<RocPoint> {
    // Counts instead of shares, so that "straight" is exact.
    let mut corners = vec![(0u64, 0u64, None)];
    classes.descend(None, |above| {
        let point = (above.negatives, above.positives, Some(above.score));
        if let [.., a, b] = corners[..] {
            let rise = (u128::from(b.1 - a.1)) * u128::from(point.0 - b.0);
            let run = (u128::from(b.0 - a.0)) * u128::from(point.1 - b.1);
            if rise == run {
                corners.pop();
            }
        }
        corners.push(point);
    });
    let (positives, negatives) = classes.totals(None);
    let share = |(fp, tp, threshold): (u64, u64, Option<f64>)| RocPoint {
        fpr: fp as f64 / negatives,
        tpr: tp as f64 / positives,
        threshold,
    };
    corners.into_iter().map(share).collect()
}

/// Average precision: Σ (R_n − R_{n−1}) P_n over the thresholds from high to low (scikit-learn's definition, without
/// interpolation). A ranking by chance gives about the share of positives.
pub fn average_precision(classes: &TwoClasses) -> f64 {
    average_precision_of(classes, None)
}

pub(super) fn average_precision_of(classes: &TwoClasses, weights: Option<&[u32]>) -> f64 {
    let (mut sum, mut before) = (0.0, 0);
    classes.descend(weights, |above| {
        if above.positives > before {
            let precision = above.positives as f64 / (above.positives + above.negatives) as f64;
            sum += (above.positives - before) as f64 * precision;
            before = above.positives;
        }
    });
    sum / classes.totals(weights).0
}

/// The largest TPR among the points of the ROC curve whose FPR is at most `target`.
///
/// # Errors
/// A target outside of 0 (included) to 1 (excluded).
pub fn tpr_at_fpr(classes: &TwoClasses, target: f64) -> Result<AtFpr> {
    check_target(target)?;
    let (positives, negatives) = classes.totals(None);
    let mut at = AtFpr {
        tpr: 0.0,
        fpr: 0.0,
        threshold: None,
        resolution: 1.0 / negatives,
        not_estimable: reason_not_estimable(target, classes.negatives()),
    };
    classes.descend(None, |above| {
        let (fpr, tpr) = (above.negatives as f64 / negatives, above.positives as f64 / positives);
        // The highest threshold of equal TPR, so that no negative is flagged for nothing.
        if fpr <= target && tpr > at.tpr {
            (at.tpr, at.fpr, at.threshold) = (tpr, fpr, Some(above.score));
        }
    });
    Ok(at)
}

pub(super) fn tpr_at_fpr_of(classes: &TwoClasses, weights: &[u32], target: f64) -> f64 {
    let (positives, negatives) = classes.totals(Some(weights));
    let mut most = 0;
    classes.descend(Some(weights), |above| {
        if above.negatives as f64 / negatives <= target {
            most = above.positives;
        }
    });
    most as f64 / positives
}

/// Area under the ROC curve up to an FPR of `most`, as McClish (1989) standardises it: 0.5 for chance, 1 for a perfect
/// ranking (scikit-learn's `roc_auc_score` with `max_fpr`).
///
/// # Errors
/// `most` outside of 0 to 1.
pub fn partial_auroc(classes: &TwoClasses, most: f64) -> Result<f64> {
    ensure!(most > 0.0 && most < 1.0, "a partial area ends at an FPR between 0 and 1, found `{most}`");
    Ok(partial_auroc_of(classes, None, most))
}

pub(super) fn partial_auroc_of(classes: &TwoClasses, weights: Option<&[u32]>, most: f64) -> f64 {
    let (positives, negatives) = classes.totals(weights);
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    classes.descend(weights, |above| {
        let (fpr, tpr) = (above.negatives as f64 / negatives, above.positives as f64 / positives);
        if before.0 < most && fpr > before.0 {
            let end = fpr.min(most);
            let at_end = before.1 + (tpr - before.1) * (end - before.0) / (fpr - before.0);
            area += (end - before.0) * (before.1 + at_end) / 2.0;
        }
        before = (fpr, tpr);
    });
    let chance = most * most / 2.0;
    0.5 * (1.0 + (area - chance) / (most - chance))
}

/// Why so few negatives cannot show an FPR as small as the target.
pub(super) fn reason_not_estimable(target: f64, negatives: usize) -> Option<String> {
    let resolution = 1.0 / negatives as f64;
    // Written as a count, so that 1 % of 100 negatives is 1 and not a rounding below it.
    (target * (negatives as f64) < 1.0 - 1e-9).then(|| {
        format!(
            "an FPR of {} % is finer than the {:.2} % that {negatives} negatives can show: the TPR is that at FPR 0",
            round(100.0 * target),
            100.0 * resolution
        )
    })
}

/// Refuses what is no small share.
pub(super) fn check_target(target: f64) -> Result<()> {
    ensure!(
        (0.0..1.0).contains(&target),
        "an FPR to aim at lies from 0 to below 1, found `{target}`"; help: "write 0.01 for 1 %"
    );
    Ok(())
}

/// Without the digits that binary fractions add.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use proptest::prelude::*;

    fn rows(count: usize) -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
        prop::collection::vec((-12i32..12, any::<bool>()), 2..count).prop_map(|rows| {
            let scores = rows.iter().map(|(score, _)| f64::from(*score)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|(_, label)| *label).collect();
            (labels[0], labels[1]) = (true, false);
            (scores, labels)
        })
    }

    #[test]
    fn a_target_below_the_resolution_is_flagged() {
        let scores: Vec<f64> = (0..106).map(f64::from).collect();
        let labels: Vec<bool> = (0..106).map(|row| row % 2 == 0 && row < 102 || row == 105).collect();
        let classes = TwoClasses::new(&scores, &labels, None).unwrap();
        assert_eq!(classes.negatives(), 54);
        let at = tpr_at_fpr(&classes, 0.01).unwrap();
        let reason = "an FPR of 1 % is finer than the 1.85 % that 54 negatives can show: the TPR is that at FPR 0";
        assert_eq!((at.fpr, at.tpr, at.not_estimable.as_deref()), (0.0, 1.0 / 52.0, Some(reason)));
        assert_eq!(tpr_at_fpr(&classes, 0.05).unwrap().not_estimable, None);
        assert!(tpr_at_fpr(&classes, 1.0).is_err() && tpr_at_fpr(&classes, f64::NAN).is_err());
    }

    #[test]
    fn one_percent_of_a_hundred_negatives_is_one_negative() {
        assert_eq!(reason_not_estimable(0.01, 100), None);
        assert!(reason_not_estimable(0.01, 99).is_some());
        assert_eq!(reason_not_estimable(0.07, 100), None);
    }

    proptest! {
        #[test]
        fn corners_draw_the_same_curve((scores, labels) in rows(80)) {
            let classes = TwoClasses::new(&scores, &labels, None).unwrap();
            let (all, corners) = (roc(&classes), roc_corners(&classes));
            let area = |points: &[RocPoint]| {
                let strip = |pair: &[RocPoint]| (pair[1].fpr - pair[0].fpr) * (pair[0].tpr + pair[1].tpr) / 2.0;
                points.windows(2).map(strip).sum::<f64>()
            };
            prop_assert!((area(&all) - area(&corners)).abs() < 1e-12);
            prop_assert!(corners.iter().all(|corner| all.contains(corner)));
            prop_assert_eq!((corners[0], corners[corners.len() - 1]), (all[0], all[all.len() - 1]));
            let whole = super::super::auroc::auroc(&classes, 0.95).unwrap().value;
            prop_assert!((area(&all) - whole).abs() < 1e-12);
        }

        #[test]
        fn average_precision_lies_between_the_worst_and_the_best_order((scores, labels) in rows(60)) {
            let classes = TwoClasses::new(&scores, &labels, None).unwrap();
            let (m, n) = (classes.positives(), classes.negatives());
            let worst = (1..=m).map(|k| k as f64 / (k + n) as f64).sum::<f64>() / m as f64;
            let value = average_precision(&classes);
            prop_assert!((worst - 1e-12..=1.0 + 1e-12).contains(&value), "{value}");
        }

        #[test]
        fn tpr_rises_with_the_target((scores, labels) in rows(60), low in 0.0f64..0.99, more in 0.0f64..0.99) {
            let classes = TwoClasses::new(&scores, &labels, None).unwrap();
            let at = |target| tpr_at_fpr(&classes, target).unwrap();
            let (low, high) = (low.min(more), low.max(more));
            prop_assert!(at(low).tpr <= at(high).tpr && at(low).fpr <= low);
        }

        #[test]
        fn a_weight_is_a_number_of_copies((scores, labels) in rows(40), seed in any::<u64>(), target in 0.0f64..0.9) {
            let classes = TwoClasses::new(&scores, &labels, None).unwrap();
            let mut random = Random::new(seed);
            let weights: Vec<u32> = scores.iter().map(|_| 1 + random.below(3) as u32).collect();
            let rows = || classes.order().iter().zip(&weights);
            let copies = || rows().flat_map(|(row, weight)| vec![*row as usize; *weight as usize]);
            let (many, many_labels): (Vec<f64>, Vec<bool>) = copies().map(|row| (scores[row], labels[row])).unzip();
            let many = TwoClasses::new(&many, &many_labels, None).unwrap();
            let pairs = [
                (average_precision_of(&classes, Some(&weights)), average_precision(&many)),
                (tpr_at_fpr_of(&classes, &weights, target), tpr_at_fpr(&many, target).unwrap().tpr),
                (partial_auroc_of(&classes, Some(&weights), 0.3), partial_auroc(&many, 0.3).unwrap()),
            ];
            for (weighted, copied) in pairs {
                prop_assert!((weighted - copied).abs() < 1e-12, "{weighted} {copied}");
            }
        }
    }
}
