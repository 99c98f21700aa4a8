//! The table of intervals under the names of the published code's `{setting}_ci.csv`.

use std::borrow::Cow;

use super::columns::{Column, Values};
use super::csv;

/// One group on one evaluation: the mean over seeds of the means of their models, with an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The mean; absent, as its bounds are, when nothing could be scored.
    pub mean: Option<f64>,
    /// Lower bound of the interval.
    pub lower_bound: Option<f64>,
    /// Upper bound of the interval.
    pub upper_bound: Option<f64>,
    /// Models that the mean is over, one per seed.
    pub count: usize,
    /// Confidence of the interval, 0.95 usually.
    pub confidence: f64,
    /// What the models have in common.
    pub group: String,
    /// Name of the evaluation.
    pub evaluation_id: String,
}

/// One line per row by RFC 4180 with the columns `mean`, `lower_bound`, `upper_bound`, `count`, `confidence`, `group` and
/// `evaluation_id`. Numbers stay in the unit that they are given in; the published tables are in shares of 0 to 1.
pub fn aggregate_csv(rows: &[Aggregate]) -> Vec<u8> {
    let column = |name: &str, values| Column { name: name.to_string(), values };
    let number = |value: fn(&Aggregate) -> Option<f64>| {
        Values::Number(rows.iter().map(|row| value(row).filter(|number| number.is_finite())).collect())
    };
    let counts = rows.iter().map(|row| i64::try_from(row.count).ok()).collect();
    let text = |value: for<'a> fn(&'a Aggregate) -> &'a String| {
        Values::Text(rows.iter().map(|row| Some(Cow::Borrowed(value(row).as_str()))).collect())
    };
    csv::write(&[
        column("mean", number(|row| row.mean)),
        column("lower_bound", number(|row| row.lower_bound)),
        column("upper_bound", number(|row| row.upper_bound)),
        column("count", Values::Count(counts)),
        column("confidence", number(|row| Some(row.confidence))),
        column("group", text(|row| &row.group)),
        column("evaluation_id", text(|row| &row.evaluation_id)),
    ])
}
