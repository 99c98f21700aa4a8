//! Whether probabilities mean what they say: Brier score, log-loss, calibration error, and decisions at one half.

use serde::{Deserialize, Serialize};

use super::quantity::{Quantity, Rate, mean_of, rate_of};
use crate::data::statistics::Range;
use crate::error::{Result, bail, ensure};

/// Where a probability becomes a decision: positive from here on.
const HALF: f64 = 0.5;

/// How well probabilities fit what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Mean squared distance of probability and label; 0 is best.
    pub brier: Quantity,
    /// Mean of −ln of the probability of the true class, in nats. Probabilities are kept 2.2e-16 away from 0 and 1, as
    /// scikit-learn does, so one row counts 36.04 at most.
    pub log_loss: Quantity,
    /// Expected calibration error over bins of equal width.
    pub equal_width: Reliability,
    /// Expected calibration error over bins of equally many rows.
    pub equal_mass: Reliability,
}

/// Bins of probabilities and the mean distance of what they promise and what they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Expected calibration error: Σ (rows of the bin / all rows) · |mean probability − share of positives|. It is
    /// biased upward, the more the fewer rows a bin has, so it has no interval.
    pub expected_calibration_error: f64,
    /// How rows were put into bins.
    pub binning: String,
    /// The bins that have rows, from low to high.
    pub bins: Vec<ReliabilityBin>,
}

/// Rows of similar probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Lower end: of the bin for bins of equal width, the lowest probability for bins of equal mass.
    pub low: f64,
    /// Upper end, likewise.
    pub high: f64,
    /// What the rows were said to be.
    pub mean_probability: f64,
    /// What they are: the share of positives.
    pub positives: Rate,
}

/// What comes of calling positive every row with a probability of at least one half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// 0.5.
    pub threshold: f64,
    /// Share of rows that are called rightly.
    pub accuracy: Rate,
    /// Share of positives called positive; `None` without positives.
    pub tpr: Option<Rate>,
    /// Share of negatives called positive; `None` without negatives.
    pub fpr: Option<Rate>,
    /// Mean of TPR and 1 − FPR; `None` for one class.
    pub balanced_accuracy: Option<Quantity>,
}

/// Compares probabilities of the positive class with labels. `bins` is the number of bins of either kind.
///
/// # Errors
/// No rows; lengths that differ; a probability outside of 0 to 1; no bins.
pub fn calibration(
    probabilities: &[f64],
    labels: &[bool],
    groups: Option<&[u32]>,
    bins: usize,
    confidence: f64,
) -> Result<Calibration> {
    check_probabilities(probabilities, labels, groups)?;
    ensure!(bins > 0, "a calibration error needs at least 1 bin, found 0");
    let losses = |loss: fn(f64) -> f64| -> Vec<f64> {
        let of_true_class = |(p, label): (&f64, &bool)| if *label { *p } else { 1.0 - *p };
        probabilities.iter().zip(labels).map(of_true_class).map(loss).collect()
    };
    let worst = -f64::EPSILON.ln();
    Ok(Calibration {
        brier: mean_of(&losses(|p| (1.0 - p) * (1.0 - p)), groups, Range::UNIT, confidence)?,
        log_loss: mean_of(
            &losses(|p| -p.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()),
            groups,
            Range { low: 0.0, high: worst },
            confidence,
        )?,
        equal_width: equal_width(probabilities, labels, groups, bins, confidence)?,
        equal_mass: equal_mass(probabilities, labels, groups, bins, confidence)?,
    })
}

/// Counts what comes of deciding at one half. The balanced accuracy is left without an interval.
///
/// # Errors
/// No rows; lengths that differ; a probability outside of 0 to 1.
pub fn decisions(probabilities: &[f64], labels: &[bool], groups: Option<&[u32]>, confidence: f64) -> Result<Decisions> {
    check_probabilities(probabilities, labels, groups)?;
    let all: Vec<usize> = (0..labels.len()).collect();
    let of_class = |class: bool| -> Vec<usize> { (0..labels.len()).filter(|row| labels[*row] == class).collect() };
    let rate = |rows: &[usize], hit: &dyn Fn(usize) -> bool| {
        let hits: Vec<bool> = rows.iter().map(|row| hit(*row)).collect();
        let groups: Option<Vec<u32>> = groups.map(|groups| rows.iter().map(|row| groups[*row]).collect());
        rate_of(&hits, groups.as_deref(), confidence)
    };
    let flagged = |row: usize| is_positive(probabilities[row]);
    let accuracy = rate(&all, &|row| flagged(row) == labels[row])?;
    let (tpr, fpr) = (rate(&of_class(true), &flagged)?, rate(&of_class(false), &flagged)?);
    let balanced_accuracy = tpr.as_ref().zip(fpr.as_ref()).map(|(tpr, fpr)| {
        let value = (tpr.share.value + 1.0 - fpr.share.value) / 2.0;
        Quantity::without_interval(value, confidence, "not resampled")
    });
    let accuracy = accuracy.expect("there is at least one row");
    Ok(Decisions { threshold: HALF, accuracy, tpr, fpr, balanced_accuracy })
}

/// The decision at one half.
pub(super) fn is_positive(probability: f64) -> bool {
    probability >= HALF
}

/// Bins [0, 1/B), [1/B, 2/B), …, [(B−1)/B, 1].
fn equal_width(
    p: &[f64],
    labels: &[bool],
    groups: Option<&[u32]>,
    bins: usize,
    confidence: f64,
) -> Result<Reliability> {
    let mut rows = vec![Vec::new(); bins];
    for (row, probability) in p.iter().enumerate() {
        rows[((probability * bins as f64) as usize).min(bins - 1)].push(row);
    }
    let edge = |bin: usize| bin as f64 / bins as f64;
    let rows = rows.into_iter().enumerate().map(|(bin, rows)| (edge(bin), edge(bin + 1), rows));
    reliability(p, labels, groups, rows, format!("{bins} bins of equal width"), confidence)
}

/// Bins of n/B neighbouring rows; equal probabilities stay in one bin, so that the order of rows does not matter.
fn equal_mass(p: &[f64], labels: &[bool], groups: Option<&[u32]>, bins: usize, confidence: f64) -> Result<Reliability> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut starts: Vec<usize> = (0..=bins).map(|bin| bin * p.len() / bins).collect();
    for start in &mut starts {
        while *start > 0 && *start < p.len() && p[order[*start]] == p[order[*start - 1]] {
            *start += 1;
        }
    }
    let rows = starts.windows(2).filter(|ends| ends[0] < ends[1]).map(|ends| {
        let mut rows = order[ends[0]..ends[1]].to_vec();
        let (low, high) = (p[rows[0]], p[rows[rows.len() - 1]]);
        rows.sort_unstable();
        (low, high, rows)
    });
    reliability(p, labels, groups, rows, format!("{bins} bins of equally many rows"), confidence)
}

fn reliability(
    p: &[f64],
    labels: &[bool],
    groups: Option<&[u32]>,
    rows_of_bins: impl Iterator<Item = (f64, f64, Vec<usize>)>,
    binning: String,
    confidence: f64,
) -> Result<Reliability> {
    let mut bins = Vec::new();
    let mut error = 0.0;
    for (low, high, rows) in rows_of_bins {
        let hits: Vec<bool> = rows.iter().map(|row| labels[*row]).collect();
        let of_bin: Option<Vec<u32>> = groups.map(|groups| rows.iter().map(|row| groups[*row]).collect());
        let Some(positives) = rate_of(&hits, of_bin.as_deref(), confidence)? else { continue };
        let mean_probability = rows.iter().map(|row| p[*row]).sum::<f64>() / rows.len() as f64;
        error += rows.len() as f64 * (mean_probability - positives.share.value).abs();
        bins.push(ReliabilityBin { low, high, mean_probability, positives });
    }
    Ok(Reliability { expected_calibration_error: error / p.len() as f64, binning, bins })
}

fn check_probabilities(probabilities: &[f64], labels: &[bool], groups: Option<&[u32]>) -> Result<()> {
    ensure!(!labels.is_empty(), "there are no rows to measure");
    ensure!(
        probabilities.len() == labels.len(),
        "found {} probabilities and {} labels",
        probabilities.len(),
        labels.len()
    );
    if let Some(groups) = groups {
        ensure!(groups.len() == labels.len(), "found {} groups and {} labels", groups.len(), labels.len());
    }
    if let Some(row) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        bail!(
            "the probability of row {row} is {}", probabilities[row];
            help: "give decision values as scores, not as probabilities"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_certain_mistake_is_finite() {
        let sure = calibration(&[1.0, 0.0], &[false, false], None, 10, 0.95).unwrap();
        assert!((sure.log_loss.value - 36.04365338911715 / 2.0).abs() < 1e-12);
        assert_eq!(sure.brier.value, 0.5);
    }

    #[test]
    fn the_last_bin_holds_one_and_bins_without_rows_are_left_out() {
        let one = calibration(&[1.0, 0.95, 0.1, 0.05], &[true, true, false, false], None, 10, 0.95).unwrap();
        let edges: Vec<(f64, usize)> = one.equal_width.bins.iter().map(|bin| (bin.low, bin.positives.of)).collect();
        assert_eq!(edges, [(0.0, 1), (0.1, 1), (0.9, 2)]);
        assert_eq!(one.equal_mass.bins.len(), 4);
    }

    #[test]
    fn equal_probabilities_stay_together() {
        let ties = calibration(&[0.3; 7], &[true, false, true, false, false, false, false], None, 3, 0.95).unwrap();
        assert_eq!((ties.equal_mass.bins.len(), ties.equal_mass.bins[0].positives.of), (1, 7));
        assert!((ties.equal_mass.expected_calibration_error - (0.3f64 - 2.0 / 7.0).abs()).abs() < 1e-12);
    }

    #[test]
    fn one_class_has_an_accuracy_and_no_balanced_one() {
        let one = decisions(&[0.9, 0.4, 0.5], &[true; 3], None, 0.95).unwrap();
        assert_eq!((one.accuracy.hits, one.fpr, one.balanced_accuracy), (2, None, None));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let refused = calibration(&[0.5, 1.5], &[true, false], None, 10, 0.95).unwrap_err();
        assert_eq!(refused.message, "the probability of row 1 is 1.5");
        assert!(decisions(&[f64::NAN], &[true], None, 0.95).is_err());
        assert!(calibration(&[], &[], None, 10, 0.95).is_err() && calibration(&[0.5], &[true], None, 0, 0.95).is_err());
    }

    proptest! {
        #[test]
        fn bins_hold_every_row_once(
            rows in prop::collection::vec((0u32..=20, any::<bool>()), 1..80), bins in 1usize..15,
        ) {
            let p: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 20.0).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let found = calibration(&p, &labels, None, bins, 0.95).unwrap();
            for kind in [&found.equal_width, &found.equal_mass] {
                prop_assert_eq!(kind.bins.iter().map(|bin| bin.positives.of).sum::<usize>(), rows.len());
                prop_assert!(kind.bins.len() <= bins && (0.0..=1.0).contains(&kind.expected_calibration_error));
                prop_assert!(kind.bins.windows(2).all(|pair| pair[0].mean_probability < pair[1].mean_probability));
            }
        }
    }
}
