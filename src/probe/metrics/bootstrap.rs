//! Percentile intervals from resampled rows or groups, each class for itself.

use rayon::prelude::*;

use super::classes::TwoClasses;
use super::quantity::{Quantity, normal_reach, quantile};
use crate::data::random::Random;
use crate::data::statistics::Interval;
use crate::error::{Result, ensure};

/// With fewer independent rows of a class the extremes of the resamples are the extremes of the rows.
const FEWEST: usize = 6;

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples, at least 100.
    pub resamples: usize,
    /// Decides the resamples; equal seeds give equal intervals on any number of threads.
    pub seed: u64,
    /// Of the interval, as a share.
    pub confidence: f64,
}

/// Percentile intervals of several numbers, resampling rows with replacement within each class (Efron 1979). Where
/// groups have several rows, whole groups are resampled: those with positives only, with negatives only, and with both,
/// each kind for itself, so that no resample lacks a class.
///
/// `numbers` computes from the weights of the rows in the order from the highest score down; `values` are the same
/// numbers of the rows as they are. A number that no resample changes has no interval: it would have no width.
///
/// # Errors
/// A confidence outside of 0 to 1; fewer than 100 resamples.
pub fn bootstrap(
    classes: &TwoClasses,
    plan: &Bootstrap,
    values: &[f64],
    numbers: impl Fn(&[u32]) -> Vec<f64> + Sync,
) -> Result<Vec<Quantity>> {
    normal_reach(plan.confidence)?;
    let count = plan.resamples;
    ensure!(count >= 100, "a percentile interval needs at least 100 resamples, found {count}"; help: "use 2000");
    let strata = Strata::of(classes);
    let none = |reason: &str| values.iter().map(|v| Quantity::without_interval(*v, plan.confidence, reason)).collect();
    if strata.fewest < FEWEST {
        let unit = if classes.is_grouped() { "groups" } else { "rows" };
        return Ok(none(&format!("{} {unit} of one class are too few to resample", strata.fewest)));
    }
    let drawn: Vec<Vec<f64>> = (0..plan.resamples)
        .into_par_iter()
        .map_init(
            || vec![0u32; classes.order().len()],
            |weights, index| {
                weights.fill(0);
                strata.draw(&mut Random::stream(plan.seed, &[index as u64]), weights);
                numbers(weights)
            },
        )
        .collect();
    let by = if classes.is_grouped() { "group, stratified by class" } else { "row, stratified by class" };
    let tail = (1.0 - plan.confidence) / 2.0;
    Ok(values
        .iter()
        .enumerate()
        .map(|(number, value)| {
            let mut sorted: Vec<f64> = drawn.iter().map(|numbers| numbers[number]).collect();
            sorted.sort_by(f64::total_cmp);
            if sorted[0] == sorted[sorted.len() - 1] {
                let reason = format!("all {} resamples gave the same number", plan.resamples);
                return Quantity::without_interval(*value, plan.confidence, &reason);
            }
            let interval = Interval { low: quantile(&sorted, tail), high: quantile(&sorted, 1.0 - tail) };
            let method = format!("bootstrap percentile, {} resamples by {by}", plan.resamples);
            Quantity::within(*value, interval, plan.confidence, method)
        })
        .collect())
}

/// Units that are drawn whole, by the classes they hold.
struct Strata {
    /// For each kind of unit, the units.
    kinds: Vec<Units>,
    /// Units with positives or units with negatives, whichever are fewer.
    fewest: usize,
}

/// Unit i is `members[starts[i]..starts[i + 1]]`, places in the order of the scores.
#[derive(Default)]
struct Units {
    starts: Vec<usize>,
    members: Vec<u32>,
}

impl Strata {
    fn of(classes: &TwoClasses) -> Self {
        let mut places: Vec<(u32, u32, bool)> = classes
            .order()
            .iter()
            .enumerate()
            .map(|(place, row)| (classes.group(*row), place as u32, classes.label(*row)))
            .collect();
        places.sort_unstable();
        let mut kinds: [Units; 3] = Default::default();
        for unit in places.chunk_by(|a, b| a.0 == b.0) {
            let has = |class: bool| unit.iter().any(|(_, _, label)| *label == class);
            let kind = &mut kinds[if has(true) && has(false) { 2 } else { usize::from(has(true)) }];
            kind.starts.push(kind.members.len());
            kind.members.extend(unit.iter().map(|(_, place, _)| *place));
        }
        let [negative, positive, both] = [0, 1, 2].map(|kind| kinds[kind].starts.len());
        for kind in &mut kinds {
            kind.starts.push(kind.members.len());
        }
        Strata { kinds: kinds.into(), fewest: both + positive.min(negative) }
    }

    /// Draws as many units of each kind as there are and counts how often each of their rows came.
    fn draw(&self, random: &mut Random, weights: &mut [u32]) {
        for Units { starts, members } in &self.kinds {
            let count = starts.len() - 1;
            for _ in 0..count {
                let unit = random.below(count);
                for place in &members[starts[unit]..starts[unit + 1]] {
                    weights[*place as usize] += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::curve::{average_precision, average_precision_of};
    use super::*;

    const PLAN: Bootstrap = Bootstrap { resamples: 400, seed: 5, confidence: 0.95 };

    fn rows(count: usize) -> (Vec<f64>, Vec<bool>) {
        let mut random = Random::new(9);
        let labels: Vec<bool> = (0..count).map(|row| row % 3 == 0).collect();
        (labels.iter().map(|label| random.normal() + f64::from(u8::from(*label))).collect(), labels)
    }

    fn precision(classes: &TwoClasses) -> Quantity {
        let value = average_precision(classes);
        bootstrap(classes, &PLAN, &[value], |weights| vec![average_precision_of(classes, Some(weights))])
            .unwrap()
            .remove(0)
    }

    #[test]
    fn resamples_keep_the_number_of_each_class() {
        let (scores, labels) = rows(30);
        let classes = TwoClasses::new(&scores, &labels, None).unwrap();
        let strata = Strata::of(&classes);
        let mut weights = vec![0; 30];
        strata.draw(&mut Random::new(1), &mut weights);
        assert_eq!(classes.totals(Some(&weights)), (10.0, 20.0));
        assert!(weights.contains(&0) && weights.iter().any(|weight| *weight > 1));
    }

    #[test]
    fn threads_do_not_matter() {
        let (scores, labels) = rows(90);
        let classes = TwoClasses::new(&scores, &labels, None).unwrap();
        let on = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| precision(&classes))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn groups_are_drawn_whole_and_widen_the_interval() {
        let (scores, labels) = rows(90);
        let (scores, labels): (Vec<f64>, Vec<bool>) = (scores.repeat(6), labels.repeat(6));
        let groups: Vec<u32> = (0..540).map(|row| row % 90).collect();
        let width = |groups| {
            let interval = precision(&TwoClasses::new(&scores, &labels, groups).unwrap()).interval.unwrap();
            interval.high - interval.low
        };
        assert!(width(Some(&groups[..])) > 1.7 * width(None));
        let grouped = precision(&TwoClasses::new(&scores, &labels, Some(&groups)).unwrap());
        assert_eq!(grouped.method, "bootstrap percentile, 400 resamples by group, stratified by class");
    }

    #[test]
    fn few_rows_and_constant_numbers_have_no_interval() {
        let few = precision(&TwoClasses::new(&[4.0, 3.0, 2.0, 1.0], &[true, false, true, false], None).unwrap());
        assert_eq!((few.interval, few.method.as_str()), (None, "none: 2 rows of one class are too few to resample"));
        let scores: Vec<f64> = (0..40).map(f64::from).collect();
        let labels: Vec<bool> = (0..40).map(|row| row >= 20).collect();
        let perfect = precision(&TwoClasses::new(&scores, &labels, None).unwrap());
        assert_eq!((perfect.value, perfect.interval), (1.0, None));
        assert_eq!(perfect.method, "none: all 400 resamples gave the same number");
    }

    #[test]
    fn mixed_groups_count_for_both_classes() {
        let (scores, labels) = rows(30);
        let groups: Vec<u32> = (0..30).map(|row| row / 3).collect();
        let strata = Strata::of(&TwoClasses::new(&scores, &labels, Some(&groups)).unwrap());
        assert_eq!(strata.fewest, 10);
    }

    #[test]
    fn the_interval_covers_what_it_should() {
        // The standard deviation of average precision over fresh samples against the width over resamples of one.
        let mut random = Random::new(2);
        let fresh: Vec<f64> = (0..200)
            .map(|_| {
                let labels: Vec<bool> = (0..200).map(|row| row % 2 == 0).collect();
                let scores: Vec<f64> =
                    labels.iter().map(|label| random.normal() + f64::from(u8::from(*label))).collect();
                average_precision(&TwoClasses::new(&scores, &labels, None).unwrap())
            })
            .collect();
        let mean = fresh.iter().sum::<f64>() / 200.0;
        let deviation = (fresh.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 199.0).sqrt();
        let labels: Vec<bool> = (0..200).map(|row| row % 2 == 0).collect();
        let scores: Vec<f64> = labels.iter().map(|label| random.normal() + f64::from(u8::from(*label))).collect();
        let interval = precision(&TwoClasses::new(&scores, &labels, None).unwrap()).interval.unwrap();
        let ratio = (interval.high - interval.low) / (2.0 * 1.96 * deviation);
        assert!((0.75..1.3).contains(&ratio), "{ratio}");
    }
}
