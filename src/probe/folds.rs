//! Which fold each row is tested in: stratified as scikit-learn does it, by group, or one source at a time.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use super::legacy::Legacy;
use crate::error::{Result, bail, ensure};

/// A partition of the rows: each row is tested in one fold and trained on in all others. No fold is empty, and every
/// training part has all classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    /// For each row the fold that tests it, 0 to [`Folds::count`] - 1.
    pub of_row: Vec<u32>,
}

impl Folds {
    /// Number of folds.
    pub fn count(&self) -> usize {
        self.of_row.iter().max().map_or(0, |last| *last as usize + 1)
    }
    /// Rows that this fold tests, ascending.
    pub fn test_rows(&self, fold: usize) -> Vec<usize> {
        (0..self.of_row.len()).filter(|row| self.of_row[*row] as usize == fold).collect()
    }
    /// Rows that this fold trains on, ascending: all others.
    pub fn train_rows(&self, fold: usize) -> Vec<usize> {
        (0..self.of_row.len()).filter(|row| self.of_row[*row] as usize != fold).collect()
    }
}

/// scikit-learn's `StratifiedKFold(count, shuffle=seed is given, random_state=seed)`, row for row (1.9.1). Without a
/// seed each class is cut into contiguous blocks in row order, so that the order of the rows decides the folds.
///
/// # Errors
/// Fewer than 2 folds; one class only; a class with fewer rows than folds, at which scikit-learn only warns.
pub fn stratified_folds<L: PartialEq + Display>(labels: &[L], count: usize, seed: Option<u32>) -> Result<Folds> {
    let classes = Classes::of(labels, count)?;
    if let Some(class) = (0..classes.rows.len()).find(|class| classes.rows[*class] < count) {
        let (label, rows) = (&labels[classes.first[class]], classes.rows[class]);
        bail!("class `{label}` has {}, fewer than {count} folds", counted(rows, "row");
            help: "lower the number of folds to {}, or add rows of class `{label}`", rows.max(2));
    }
    // The rows, sorted by class, are dealt to the folds in turn; this says only how many of a class a fold gets.
    let sorted: Vec<usize> =
        classes.rows.iter().enumerate().flat_map(|(class, rows)| std::iter::repeat_n(class, *rows)).collect();
    let mut dealt = vec![vec![0; classes.rows.len()]; count];
    for (place, class) in sorted.iter().enumerate() {
        dealt[place % count][*class] += 1;
    }
    // One generator for all classes, fresh for each call.
    let mut legacy = seed.map(Legacy::new);
    let mut of_row = vec![0; labels.len()];
    for class in 0..classes.rows.len() {
        let blocks = dealt.iter().enumerate().map(|(fold, dealt)| std::iter::repeat_n(fold as u32, dealt[class]));
        let mut folds: Vec<u32> = blocks.flatten().collect();
        if let Some(legacy) = &mut legacy {
            legacy.shuffle(&mut folds);
        }
        let rows = of_row.iter_mut().zip(&classes.of_row).filter(|(_, of_class)| **of_class == class);
        rows.zip(folds).for_each(|((row, _), fold)| *row = fold);
    }
    Ok(Folds { of_row })
}

/// Folds that never split a group. Groups, the largest first and among equals in order of appearance, go to the fold
/// where rows and classes stay most even: where the sum of squares of the shares of all rows and of each class grows
/// least, the first of equals. With few groups of a class a test part may lack that class.
///
/// # Errors
/// Fewer than 2 folds; one class only; fewer groups than folds; a class whose rows all fall into one fold, so that the
/// fold would train without that class; lists of different lengths.
pub fn group_folds<L: PartialEq + Display, G: Eq + Hash>(labels: &[L], groups: &[G], count: usize) -> Result<Folds> {
    check_lengths(labels.len(), groups.len(), "groups")?;
    let classes = Classes::of(labels, count)?;
    let (of_row, number) = number_by_appearance(groups);
    ensure!(number >= count, "{} cannot fill {count} folds", counted(number, "group");
        help: "lower the number of folds to {}", number.max(2));
    // Rows of each class, and of all classes, per group.
    let kinds = classes.rows.len() + 1;
    let mut sizes = vec![vec![0usize; kinds]; number];
    for (row, group) in of_row.iter().enumerate() {
        sizes[*group][classes.of_row[row]] += 1;
        sizes[*group][kinds - 1] += 1;
    }
    let totals: Vec<f64> = classes.rows.iter().chain([&labels.len()]).map(|rows| *rows as f64).collect();
    let mut order: Vec<usize> = (0..number).collect();
    order.sort_by_key(|group| std::cmp::Reverse(sizes[*group][kinds - 1]));
    let mut filled = vec![vec![0usize; kinds]; count];
    let mut fold_of_group = vec![0u32; number];
    for group in order {
        let size = &sizes[group];
        // (filled + size)² - filled², without size², which is the same for every fold.
        let growth = |fold: usize| -> f64 {
            (0..kinds).map(|kind| (filled[fold][kind] * size[kind]) as f64 / totals[kind].powi(2)).sum()
        };
        let fold = (0..count).min_by(|a, b| growth(*a).total_cmp(&growth(*b))).expect("there are at least 2 folds");
        filled[fold].iter_mut().zip(size).for_each(|(filled, size)| *filled += size);
        fold_of_group[group] = fold as u32;
    }
    for (class, first) in classes.first.iter().enumerate() {
        let whole = filled.iter().any(|fold| fold[class] == classes.rows[class]);
        ensure!(!whole, "all rows of class `{}` fall into one fold, which would train without them", labels[*first];
            help: "group the rows more finely, or add groups with class `{}`", labels[*first]);
    }
    Ok(Folds { of_row: of_row.into_iter().map(|group| fold_of_group[group]).collect() })
}

/// One fold per source, in order of appearance: it tests that source and trains on all others.
///
/// # Errors
/// One class only; one source only; a source without which one class is gone; lists of different lengths.
pub fn leave_one_source_out<L: PartialEq + Display, S: Eq + Hash + Display>(
    labels: &[L],
    sources: &[S],
) -> Result<Folds> {
    check_lengths(labels.len(), sources.len(), "sources")?;
    let (of_row, number) = number_by_appearance(sources);
    let classes = Classes::of(labels, number.max(2))?;
    ensure!(number >= 2, "source `{}` is the only one, nothing is left to train on without it", sources[0];
        help: "add rows of another source, or use stratified folds");
    let mut rows = vec![vec![0usize; classes.rows.len()]; number];
    (0..labels.len()).for_each(|row| rows[of_row[row]][classes.of_row[row]] += 1);
    for (row, source) in of_row.iter().enumerate() {
        let class = classes.of_row[row];
        ensure!(rows[*source][class] < classes.rows[class],
            "without source `{}` no row of class `{}` is left to train on", sources[row], labels[row];
            help: "add rows of class `{}` from another source, or leave `{}` in the training rows of every fold",
            labels[row], sources[row]);
    }
    Ok(Folds { of_row: of_row.into_iter().map(|source| source as u32).collect() })
}

/// Classes numbered by first appearance.
struct Classes {
    of_row: Vec<usize>,
    /// The first row of each class.
    first: Vec<usize>,
    /// Rows of each class.
    rows: Vec<usize>,
}

impl Classes {
    fn of<L: PartialEq + Display>(labels: &[L], folds: usize) -> Result<Self> {
        ensure!(folds >= 2, "{} cannot test what was not trained on", counted(folds, "fold");
            help: "ask for 2 folds or more");
        ensure!(u32::try_from(labels.len()).is_ok(), "{} rows are too many for folds", labels.len();
            help: "use 2^32 - 1 rows at most");
        ensure!(!labels.is_empty(), "there are no rows to put into folds"; help: "give labels of at least 2 classes");
        let mut classes = Classes { of_row: Vec::with_capacity(labels.len()), first: Vec::new(), rows: Vec::new() };
        for (row, label) in labels.iter().enumerate() {
            let class = classes.first.iter().position(|first| labels[*first] == *label).unwrap_or_else(|| {
                classes.first.push(row);
                classes.rows.push(0);
                classes.first.len() - 1
            });
            classes.of_row.push(class);
            classes.rows[class] += 1;
        }
        ensure!(classes.rows.len() >= 2, "all {} are of class `{}`, a probe needs 2 classes",
            counted(labels.len(), "row"), labels[0]; help: "add rows of another class");
        Ok(classes)
    }
}

fn number_by_appearance<T: Eq + Hash>(items: &[T]) -> (Vec<usize>, usize) {
    let mut numbers = HashMap::new();
    let of_row = items.iter().map(|item| {
        let next = numbers.len();
        *numbers.entry(item).or_insert(next)
    });
    let of_row = of_row.collect();
    (of_row, numbers.len())
}

fn check_lengths(labels: usize, found: usize, what: &str) -> Result<()> {
    ensure!(labels == found, "{} but {found} {what}", counted(labels, "label"); help: "give one of the {what} per row");
    Ok(())
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        stratified: Vec<Case>,
        grouped: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        folds: usize,
        #[serde(default)]
        seed: Option<u32>,
        labels: String,
        #[serde(default)]
        groups: Vec<usize>,
        of_row: String,
    }

    fn golden() -> Golden {
        // Made by tests/generators/probe_folds.py.
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/folds.json"));
        serde_json::from_str(text).unwrap()
    }

    fn digits(text: &str) -> Vec<u32> {
        text.chars().map(|digit| digit.to_digit(10).unwrap()).collect()
    }

    #[test]
    fn stratified_folds_equal_scikit_learn() {
        let cases = golden().stratified;
        assert!(cases.len() > 50);
        for case in cases {
            let folds = stratified_folds(&digits(&case.labels), case.folds, case.seed).unwrap();
            assert_eq!(folds.of_row, digits(&case.of_row), "{} folds of {}", case.folds, case.labels);
        }
    }

    /// The largest distance of a fold's share of `rows` from an even one.
    fn unevenness(of_row: &[u32], count: usize, rows: impl Fn(usize) -> bool) -> f64 {
        let mut sizes = vec![0.0; count];
        (0..of_row.len()).filter(|row| rows(*row)).for_each(|row| sizes[of_row[row] as usize] += 1.0);
        let total: f64 = sizes.iter().sum();
        sizes.iter().map(|size| (size / total - 1.0 / count as f64).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn group_folds_are_about_as_even_as_those_of_scikit_learn() {
        let (mut ours, mut theirs) = (0.0, 0.0);
        for case in golden().grouped {
            let labels = digits(&case.labels);
            let found = group_folds(&labels, &case.groups, case.folds).unwrap();
            assert_eq!(found.count(), case.folds);
            for (of_row, sum) in [(&found.of_row, &mut ours), (&digits(&case.of_row), &mut theirs)] {
                *sum += unevenness(of_row, case.folds, |_| true)
                    + unevenness(of_row, case.folds, |row| labels[row] == 0)
                    + unevenness(of_row, case.folds, |row| labels[row] == 1);
            }
        }
        assert!(ours <= theirs, "unevenness {ours}, scikit-learn has {theirs}");
    }

    #[test]
    fn folds_of_real_rows_start_as_published_of_the_shared_data() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/probes/detector/y_train.npy");
        let Ok(bytes) = std::fs::read(path) else {
            eprintln!("skipped: {path} is missing");
            return;
        };
        let labels: Vec<i64> = bytes[128..].as_chunks().0.iter().map(|value| i64::from_le_bytes(*value)).collect();
        assert_eq!(labels.len(), 850);
        let shuffled = stratified_folds(&labels, 5, Some(42)).unwrap();
        let starts = [[3, 8, 11, 13], [7, 20, 21, 24], [2, 9, 18, 19], [0, 4, 5, 6], [1, 16, 22, 23]];
        for (fold, start) in starts.iter().enumerate() {
            assert_eq!(&shuffled.test_rows(fold)[..4], start);
        }
        let plain = stratified_folds(&labels, 5, None).unwrap();
        for (fold, first) in [0, 60, 120, 180, 240].into_iter().enumerate() {
            assert_eq!(plain.test_rows(fold)[..6], (first..first + 6).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sources_are_left_out_one_by_one() {
        let folds = leave_one_source_out(&[true, false, true, true, false], &["b", "b", "a", "b", "a"]).unwrap();
        assert_eq!(folds.of_row, [0, 0, 1, 0, 1]);
        assert_eq!((folds.test_rows(1), folds.train_rows(1)), (vec![2, 4], vec![0, 1, 3]));
    }

    #[test]
    fn what_cannot_be_folded_is_an_error() {
        let labels = [1, 1, 0, 0, 0, 0];
        let text = |result: Result<Folds>| result.unwrap_err().to_string();
        assert_eq!(
            text(stratified_folds(&labels, 3, None)),
            "class `1` has 2 rows, fewer than 3 folds\nhelp: lower the number of folds to 2, or add rows of class `1`"
        );
        assert_eq!(
            text(stratified_folds(&[true; 6], 3, None)),
            "all 6 rows are of class `true`, a probe needs 2 classes\nhelp: add rows of another class"
        );
        assert!(text(stratified_folds(&labels, 1, None)).starts_with("1 fold cannot test"));
        assert!(text(stratified_folds::<u8>(&[], 2, None)).starts_with("there are no rows"));
        assert!(text(group_folds(&labels, &[0, 0, 0, 1, 1, 1], 3)).starts_with("2 groups cannot fill 3 folds"));
        assert!(
            text(group_folds(&labels, &[0, 0, 1, 2, 3, 4], 3)).starts_with("all rows of class `1` fall into one fold")
        );
        assert!(text(group_folds(&labels, &[0; 5], 3)).starts_with("6 labels but 5 groups"));
        assert!(text(leave_one_source_out(&labels, &["a"; 6])).starts_with("source `a` is the only one"));
        assert!(
            text(leave_one_source_out(&labels, &["a", "a", "a", "b", "b", "b"]))
                .starts_with("without source `a` no row of class `1` is left")
        );
    }

    proptest! {
        #[test]
        fn stratified_folds_deal_classes_evenly(
            labels in proptest::collection::vec(0u8..3, 20..200), count in 2usize..6, seed: Option<u32>,
        ) {
            let Ok(folds) = stratified_folds(&labels, count, seed) else { return Ok(()) };
            prop_assert_eq!(folds.count(), count);
            for class in 0..3 {
                let sizes: Vec<usize> = (0..count)
                    .map(|fold| folds.test_rows(fold).into_iter().filter(|row| labels[*row] == class).count())
                    .collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }

        #[test]
        fn groups_are_never_split(
            rows in proptest::collection::vec((any::<bool>(), 0u8..30), 20..200), count in 2usize..6,
        ) {
            let (labels, groups): (Vec<bool>, Vec<u8>) = rows.into_iter().unzip();
            let Ok(folds) = group_folds(&labels, &groups, count) else { return Ok(()) };
            prop_assert_eq!(&folds, &group_folds(&labels, &groups, count).unwrap());
            let mut sizes = vec![0usize; count];
            let mut of_group = HashMap::new();
            for (group, fold) in groups.iter().zip(&folds.of_row) {
                prop_assert_eq!(of_group.entry(group).or_insert(fold), &fold);
                sizes[*fold as usize] += 1;
            }
            prop_assert!(sizes.iter().all(|size| *size > 0));
            for fold in 0..count {
                let train = folds.train_rows(fold);
                prop_assert!([true, false].iter().all(|class| train.iter().any(|row| labels[*row] == *class)));
            }
        }
    }
}
