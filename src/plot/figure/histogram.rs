//! Input of histograms: how the scores of every group are spread, one row each.

use serde::{Deserialize, Serialize};

use super::density::BINS;
use super::{Axis, Scale, check_axis, scores_of};
use crate::ensure;
use crate::error::Result;

/// The most rows.
pub const MOST_ROWS: usize = 12;

/// Rows of bars below each other, on the same axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The score, linear; from 0 to 100 where no range is given.
    pub x: Axis,
    /// What the heights are.
    #[serde(default = "default_label")]
    pub y_label: String,
    /// One per group.
    pub rows: Vec<Scores>,
    /// Bins of equal width, each closed on the left, the last one on the right too.
    #[serde(default = "default_bins")]
    pub bins: usize,
    /// Where a dashed line parts the scores; one that lies on it belongs to the right.
    #[serde(default)]
    pub threshold: Option<f64>,
}

fn default_label() -> String {
    "share of answers".to_string()
}

fn default_bins() -> usize {
    20
}

/// The scores of one group, as they are or counted; without any, its row says `n/a`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Its name.
    pub label: String,
    /// Every score that is there; empty when `counts` are given.
    #[serde(default)]
    pub values: Vec<f64>,
    /// How many scores lie in each bin, from left to right; empty when `values` are given.
    #[serde(default)]
    pub counts: Vec<u64>,
}

pub(super) fn check_histogram(title: &str, histogram: &Histogram) -> Result<()> {
    ensure!(!histogram.rows.is_empty(), "figure `{title}` has no rows"; help: "give at least one group of scores");
    ensure!(
        histogram.rows.len() <= MOST_ROWS,
        "figure `{title}` has {} rows, more than {MOST_ROWS}", histogram.rows.len(); help: "split it into two figures"
    );
    let bins = histogram.bins;
    ensure!((1..=BINS).contains(&bins), "{bins} bins cannot be drawn"; help: "choose 1 to {BINS}");
    check_axis("x", &histogram.x)?;
    ensure!(histogram.x.scale == Scale::Linear, "bins on a log axis are not equally wide"; help: "use a linear x axis");
    let (low, high) = scores_of(&histogram.x);
    for (index, row) in histogram.rows.iter().enumerate() {
        let label = &row.label;
        let appears_before = histogram.rows[..index].iter().any(|earlier| &earlier.label == label);
        ensure!(!appears_before, "row `{label}` appears twice"; help: "join its scores or rename one");
        ensure!(
            row.values.is_empty() || row.counts.is_empty(),
            "row `{label}` has both values and counts"; help: "give one of them"
        );
        ensure!(
            row.counts.is_empty() || row.counts.len() == bins,
            "row `{label}` has {} counts and there are {bins} bins", row.counts.len(); help: "give one count per bin"
        );
        for value in &row.values {
            ensure!(
                (low..=high).contains(value),
                "row `{label}` has the score {value}, outside of {low} to {high}";
                help: "give the x axis a `range` that holds all scores and leave out missing ones"
            );
        }
    }
    let is_empty = histogram.rows.iter().all(|row| row.values.is_empty() && row.counts.iter().all(|count| *count == 0));
    ensure!(!is_empty, "figure `{title}` has no scores in any row"; help: "give at least one score");
    let threshold = histogram.threshold.unwrap_or(low);
    ensure!(
        (low..=high).contains(&threshold),
        "the threshold {threshold} lies outside of the x axis from {low} to {high}"; help: "choose one on the axis"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::super::{Kind, check};
    use super::*;

    #[test]
    fn refusals_name_the_row() {
        let good = samples::histogram(2);
        assert_eq!(check(&good), Ok(()));
        let changed = |change: &dyn Fn(&mut Histogram)| {
            let mut figure = good.clone();
            let Kind::Histogram(histogram) = &mut figure.kind else { panic!("no histogram") };
            change(histogram);
            check(&figure).map_err(|error| error.message)
        };
        let message = |change: &dyn Fn(&mut Histogram)| changed(change).unwrap_err();
        assert_eq!(
            message(&|histogram| histogram.rows[1].values[0] = 100.5),
            "row `aligned` has the score 100.5, outside of 0 to 100"
        );
        assert!(message(&|histogram| histogram.rows[0].values[0] = f64::NAN).contains("`base` has the score NaN"));
        assert!(message(&|histogram| histogram.rows[1].counts = vec![1; 20]).contains("`aligned` has both"));
        assert_eq!(
            message(
                &|histogram| histogram.rows[1] = Scores { label: "x".into(), counts: vec![1; 3], ..Scores::default() }
            ),
            "row `x` has 3 counts and there are 20 bins"
        );
        assert!(message(&|histogram| histogram.rows[1].label = "base".into()).contains("`base` appears twice"));
        assert!(message(&|histogram| histogram.threshold = Some(101.0)).starts_with("the threshold 101"));
        assert!(
            message(&|histogram| histogram.rows.iter_mut().for_each(|row| row.values.clear())).ends_with("any row")
        );
        assert_eq!(changed(&|histogram| histogram.rows[1].values.clear()), Ok(()));
    }
}
