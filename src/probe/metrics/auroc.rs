//! The area under the ROC curve as the Mann-Whitney statistic, with DeLong's standard error and paired comparison.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;

use super::classes::TwoClasses;
use super::quantity::{Quantity, normal_reach};
use crate::data::statistics::Interval;
use crate::error::{Result, ensure};

/// A plain interval that stays within these ends is kept; any other is made on the logit scale.
const PLAIN_WITHIN: (f64, f64) = (0.1, 0.9);

/// Two probes on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of the first probe.
    pub auroc_a: f64,
    /// Of the second probe.
    pub auroc_b: f64,
    /// First minus second.
    pub difference: f64,
    /// Of the difference; 0 where both rank every pair of rows alike.
    pub standard_error: f64,
    /// Difference over its standard error; `None` where that is 0.
    pub z: Option<f64>,
    /// Two-sided; 1 where both rank alike, `None` where there is no standard error to compare a difference with.
    pub p: Option<f64>,
    /// Of the difference; `None` where `p` is.
    pub interval: Option<Interval>,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// `DeLong, paired`, or why there is no test.
    pub method: String,
}

/// AUROC: the probability that a positive scores higher than a negative, ties counting one half.
///
/// The standard error is DeLong's (1988) in O(n log n) (Sun and Xu 2014); where groups have several rows, Obuchowski's
/// (1997) for clustered data, which is the same formula over groups. Interval: normal, kept plain while it lies within
/// 0.1 to 0.9, otherwise on the logit scale. At 0 and 1, where DeLong's variance is 0, it is Clopper and Pearson's over
/// as many pairs of a positive and a negative as can be formed without using a row (or group) twice: those pairs are
/// independent, and all of them are ranked alike.
///
/// # Errors
/// A confidence outside of 0 to 1.
pub fn auroc(classes: &TwoClasses, confidence: f64) -> Result<Quantity> {
    let reach = normal_reach(confidence)?;
    let placements = Placements::of(classes);
    let value = placements.area;
    if value == 0.0 || value == 1.0 {
        return Ok(at_an_end(classes, value, confidence));
    }
    let Some(variance) = placements.variance(classes) else {
        let few = "a variance needs at least 2 independent rows of each class";
        return Ok(Quantity::without_interval(value, confidence, few));
    };
    if variance <= 0.0 {
        return Ok(Quantity::without_interval(value, confidence, "DeLong's variance is 0"));
    }
    let standard_error = variance.sqrt();
    let plain = Interval { low: value - reach * standard_error, high: value + reach * standard_error };
    let (interval, scale) = if plain.low >= PLAIN_WITHIN.0 && plain.high <= PLAIN_WITHIN.1 {
        (plain, "")
    } else {
        let on_logits = reach * standard_error / (value * (1.0 - value));
        let end = |side: f64| 1.0 / (1.0 + (1.0 - value) / value * (-side * on_logits).exp());
        (Interval { low: end(-1.0), high: end(1.0) }, " on the logit scale")
    };
    let clustered = if classes.is_grouped() { ", clustered by group" } else { "" };
    Ok(Quantity {
        value,
        standard_error: Some(standard_error),
        interval: Some(interval),
        confidence,
        method: format!("DeLong{scale}{clustered}"),
    })
}

/// Whether one probe ranks the same rows better than another (DeLong 1988, for correlated curves): difference of the
/// AUROCs, its standard error from the rows' differences of placements, z test. Rows of equal `groups` are clustered.
///
/// # Errors
/// One class only; lengths that differ; a score that is not finite; a confidence outside of 0 to 1.
pub fn compare_delong(
    scores_a: &[f64],
    scores_b: &[f64],
    labels: &[bool],
    groups: Option<&[u32]>,
    confidence: f64,
) -> Result<Comparison> {
    ensure!(
        scores_a.len() == scores_b.len(),
        "a paired comparison needs the same rows twice, found {} and {}",
        scores_a.len(),
        scores_b.len()
    );
    let reach = normal_reach(confidence)?;
    let classes = TwoClasses::new(scores_a, labels, groups)?;
    let [a, b] = [Placements::of(&classes), Placements::of(&TwoClasses::new(scores_b, labels, groups)?)];
    let apart =
        Placements { of_rows: a.of_rows.iter().zip(&b.of_rows).map(|(a, b)| a - b).collect(), area: a.area - b.area };
    let difference = apart.area;
    let variance = apart.variance(&classes);
    let standard_error = variance.unwrap_or(0.0).max(0.0).sqrt();
    let clustered = if classes.is_grouped() { ", clustered by group" } else { "" };
    let alike = apart.of_rows.iter().all(|row| *row == 0.0);
    let (z, p, interval, method) = if standard_error > 0.0 {
        let z = difference / standard_error;
        let half_width = reach * standard_error;
        let interval = Interval { low: difference - half_width, high: difference + half_width };
        (Some(z), Some(erfc(z.abs() / 2f64.sqrt())), Some(interval), format!("DeLong, paired{clustered}"))
    } else if alike {
        let method = "both rank every pair of rows alike".to_string();
        (None, Some(1.0), Some(Interval { low: 0.0, high: 0.0 }), method)
    } else {
        let reason = match variance {
            None => "none: a variance needs at least 2 independent rows of each class",
            Some(_) => "none: DeLong's variance of the difference is 0",
        };
        (None, None, None, reason.to_string())
    };
    let (auroc_a, auroc_b) = (a.area, b.area);
    Ok(Comparison { auroc_a, auroc_b, difference, standard_error, z, p, interval, confidence, method })
}

/// For each row the share of the other class that it is ranked rightly against (V10 of positives, V01 of negatives).
struct Placements {
    of_rows: Vec<f64>,
    area: f64,
}

impl Placements {
    fn of(classes: &TwoClasses) -> Self {
        let (m, n) = (classes.positives() as u64, classes.negatives() as u64);
        let mut of_rows = vec![0.0; classes.order().len()];
        let (mut place, mut before, mut twice_right) = (0, (0, 0), 0u128);
        classes.descend(None, |above| {
            let (tied_positives, tied_negatives) = (above.positives - before.0, above.negatives - before.1);
            // Twice the count, so that the half of a tie is a whole number and sums are exact.
            let below = 2 * (n - above.negatives) + tied_negatives;
            let over = 2 * before.0 + tied_positives;
            for row in &classes.order()[place..place + (tied_positives + tied_negatives) as usize] {
                let (right, others) = if classes.label(*row) { (below, n) } else { (over, m) };
                of_rows[*row as usize] = right as f64 / (2 * others) as f64;
            }
            twice_right += u128::from(tied_positives) * u128::from(below);
            place += (tied_positives + tied_negatives) as usize;
            before = (above.positives, above.negatives);
        });
        Placements { of_rows, area: twice_right as f64 / (2.0 * m as f64 * n as f64) }
    }

    /// Variance of the area: S10/m + S01/n + 2 S11/(mn) over groups (Obuchowski 1997). With rows as their own groups
    /// S11 is 0 and S10, S01 are the sample variances of DeLong. `None` where a class has fewer than two groups.
    fn variance(&self, classes: &TwoClasses) -> Option<f64> {
        // Of each group: positives, negatives, and the sums of their placements less the mean.
        let mut groups = BTreeMap::<u32, (usize, usize, f64, f64)>::new();
        let (m, n) = (classes.positives() as f64, classes.negatives() as f64);
        // The mean placement of each class is the area, but for rounding.
        let mut means = (0.0, 0.0);
        for row in 0..self.of_rows.len() as u32 {
            let mean = if classes.label(row) { &mut means.0 } else { &mut means.1 };
            *mean += self.of_rows[row as usize];
        }
        let means = (means.0 / m, means.1 / n);
        for (row, placement) in self.of_rows.iter().enumerate() {
            let sums = groups.entry(classes.group(row as u32)).or_default();
            if classes.label(row as u32) {
                sums.0 += 1;
                sums.2 += placement - means.0;
            } else {
                sums.1 += 1;
                sums.3 += placement - means.1;
            }
        }
        let with = |has: fn(&(usize, usize, f64, f64)) -> bool| groups.values().filter(|sums| has(sums)).count() as f64;
        let (positive, negative, all) = (with(|sums| sums.0 > 0), with(|sums| sums.1 > 0), groups.len() as f64);
        if positive < 2.0 || negative < 2.0 {
            return None;
        }
        let sum = |product: fn(&(usize, usize, f64, f64)) -> f64| groups.values().map(product).sum::<f64>();
        let of_positives = positive / (positive - 1.0) * sum(|sums| sums.2 * sums.2) / (m * m);
        let of_negatives = negative / (negative - 1.0) * sum(|sums| sums.3 * sums.3) / (n * n);
        let of_both = all / (all - 1.0) * sum(|sums| sums.2 * sums.3) / (m * n);
        Some(of_positives + of_negatives + 2.0 * of_both)
    }
}

/// The interval of an area of exactly 0 or 1.
fn at_an_end(classes: &TwoClasses, value: f64, confidence: f64) -> Quantity {
    let mut groups = BTreeMap::<u32, (bool, bool)>::new();
    for row in 0..classes.order().len() as u32 {
        let has = groups.entry(classes.group(row)).or_default();
        if classes.label(row) {
            has.0 = true;
        } else {
            has.1 = true;
        }
    }
    let with = |has: fn(&(bool, bool)) -> bool| groups.values().filter(|group| has(group)).count();
    let pairs = with(|has| has.0).min(with(|has| has.1)).min(groups.len() / 2);
    if pairs == 0 {
        return Quantity::without_interval(value, confidence, "all rows belong to one group");
    }
    // Clopper-Pearson where all of the trials succeed: the end at which that has probability (1 - confidence)/2.
    let end = ((1.0 - confidence) / 2.0).powf(1.0 / pairs as f64);
    let interval = if value == 1.0 { Interval { low: end, high: 1.0 } } else { Interval { low: 0.0, high: 1.0 - end } };
    let noun = if pairs == 1 { "pair" } else { "disjoint pairs" };
    Quantity::within(value, interval, confidence, format!("Clopper-Pearson over {pairs} {noun}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(scores: &[f64], labels: &[bool]) -> Quantity {
        auroc(&TwoClasses::new(scores, labels, None).unwrap(), 0.95).unwrap()
    }

    #[test]
    fn ties_count_one_half() {
        assert_eq!(area(&[1.0, 1.0], &[true, false]).value, 0.5);
        assert_eq!(area(&[2.0, 1.0, 1.0, 0.0], &[true, true, false, false]).value, 0.875);
    }

    #[test]
    fn a_perfect_separation_is_not_certain() {
        let scores: Vec<f64> = (0..60).map(f64::from).collect();
        let labels: Vec<bool> = (0..60).map(|row| row >= 40).collect();
        let perfect = area(&scores, &labels);
        assert_eq!((perfect.value, perfect.standard_error), (1.0, None));
        assert_eq!(perfect.method, "Clopper-Pearson over 20 disjoint pairs");
        // scipy.stats.binomtest(20, 20).proportion_ci().low
        assert!((perfect.interval.unwrap().low - 0.8315665290).abs() < 1e-9);
        let inverted: Vec<f64> = scores.iter().map(|score| -score).collect();
        let inverted = area(&inverted, &labels).interval.unwrap();
        assert!(inverted.low == 0.0 && (inverted.high - 0.1684334710).abs() < 1e-9);
        let groups: Vec<u32> = (0..60).map(|row| row / 10).collect();
        let grouped = auroc(&TwoClasses::new(&scores, &labels, Some(&groups)).unwrap(), 0.95).unwrap();
        assert_eq!(grouped.method, "Clopper-Pearson over 2 disjoint pairs");
    }

    #[test]
    fn no_interval_is_better_than_one_of_no_width() {
        let equal = area(&[1.0; 6], &[true, true, true, false, false, false]);
        assert_eq!((equal.value, equal.interval, equal.standard_error), (0.5, None, None));
        let lone = area(&[1.0, 0.0, 2.0], &[true, false, false]);
        assert_eq!((lone.value, lone.interval), (0.5, None));
        assert!(lone.method.starts_with("none: a variance needs at least 2"), "{}", lone.method);
    }

    #[test]
    fn a_difference_without_variance_has_no_p() {
        let labels = [true, true, false, false];
        let apart = compare_delong(&[3.0, 2.0, 1.0, 0.0], &[0.0, 1.0, 2.0, 3.0], &labels, None, 0.95).unwrap();
        assert_eq!((apart.difference, apart.z, apart.p, apart.interval), (1.0, None, None, None));
        assert!(apart.method.starts_with("none: "));
    }

    #[test]
    fn copies_of_rows_bring_no_certainty() {
        let scores = [0.1, 0.7, 0.4, 0.9, 0.3, 0.8, 0.2, 0.6];
        let labels = [false, false, false, true, true, true, false, true];
        let copied: Vec<f64> = scores.iter().flat_map(|score| [*score; 5]).collect();
        let labels_copied: Vec<bool> = labels.iter().flat_map(|label| [*label; 5]).collect();
        let parents: Vec<u32> = (0..8).flat_map(|row| [row; 5]).collect();
        let error = |groups| {
            let classes = TwoClasses::new(&copied, &labels_copied, groups).unwrap();
            auroc(&classes, 0.95).unwrap().standard_error.unwrap()
        };
        let once = area(&scores, &labels).standard_error.unwrap();
        assert!((error(Some(&parents[..])) - once).abs() < 1e-12);
        assert!(error(None) < 0.6 * once);
    }

    proptest! {
        #[test]
        fn only_the_order_matters_and_flipped_labels_give_the_rest(
            rows in prop::collection::vec((-20i32..20, any::<bool>()), 2..60),
        ) {
            let scores: Vec<f64> = rows.iter().map(|(score, _)| f64::from(*score)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|(_, label)| *label).collect();
            (labels[0], labels[1]) = (true, false);
            let bent: Vec<f64> = scores.iter().map(|score| (score / 7.0).exp() - 3.0).collect();
            let flipped: Vec<bool> = labels.iter().map(|label| !label).collect();
            let here = area(&scores, &labels);
            prop_assert_eq!(&here, &area(&bent, &labels));
            let there = area(&scores, &flipped);
            prop_assert!((here.value + there.value - 1.0).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&here.value));
            match (here.interval, there.interval) {
                (Some(here_ends), Some(there_ends)) => {
                    prop_assert!((here_ends.low + there_ends.high - 1.0).abs() < 1e-9);
                    prop_assert!(here_ends.contains(here.value) && here_ends.low >= 0.0 && here_ends.high <= 1.0);
                }
                (here, there) => prop_assert_eq!(here, there),
            }
        }

        #[test]
        fn a_probe_does_not_differ_from_itself(rows in prop::collection::vec((-5i32..5, any::<bool>()), 4..40)) {
            let scores: Vec<f64> = rows.iter().map(|(score, _)| f64::from(*score)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|(_, label)| *label).collect();
            (labels[0], labels[1]) = (true, false);
            let same = compare_delong(&scores, &scores, &labels, None, 0.95).unwrap();
            prop_assert_eq!((same.difference, same.standard_error, same.p), (0.0, 0.0, Some(1.0)));
        }

        #[test]
        fn a_comparison_turns_around(rows in prop::collection::vec((-9i32..9, -9i32..9, any::<bool>()), 6..40)) {
            let a: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let b: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|row| row.2).collect();
            (labels[0], labels[1]) = (true, false);
            let [here, there] = [(&a, &b), (&b, &a)].map(|(a, b)| compare_delong(a, b, &labels, None, 0.9).unwrap());
            prop_assert_eq!(here.difference, -there.difference);
            prop_assert_eq!((here.standard_error, here.p), (there.standard_error, there.p));
        }

        #[test]
        fn four_times_the_rows_halve_the_standard_error(
            rows in prop::collection::vec((-9i32..9, any::<bool>()), 20..40),
        ) {
            let scores: Vec<f64> = rows.iter().map(|(score, _)| f64::from(*score)).collect();
            let mut labels: Vec<bool> = rows.iter().map(|(_, label)| *label).collect();
            (labels[0], labels[1], labels[2], labels[3]) = (true, false, true, false);
            let (many, many_labels) = (scores.repeat(4), labels.repeat(4));
            let errors = [area(&scores, &labels), area(&many, &many_labels)].map(|area| area.standard_error);
            if let [Some(few), Some(many)] = errors {
                // 2 but for n - 1 against 4 n - 1, which only ever takes away.
                prop_assert!((2.0..3.5).contains(&(few / many)), "{few} {many}");
            }
        }
    }
}
