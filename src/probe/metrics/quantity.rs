//! One measured number with its interval, its confidence and the words that say how the interval was made.

use serde::{Deserialize, Serialize};

use crate::data::statistics::{Interval, Range, estimate_rows, normal_quantile};
use crate::error::{Result, ensure};

/// A number and how sure it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantity {
    /// The number.
    pub value: f64,
    /// Where it can be computed and is not 0: a standard error of 0 from a finite sample says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// `None` where no interval is honest; `method` says why.
    pub interval: Option<Interval>,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// How the interval was made, such as `DeLong` or `Wilson over 55 rows`; `none: …` where there is none.
    pub method: String,
}

/// A share of some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Rows that were hit.
    pub hits: usize,
    /// Rows in all.
    pub of: usize,
    /// `hits / of` with its interval.
    #[serde(flatten)]
    pub share: Quantity,
}

impl Quantity {
    /// A number without an interval, and the reason.
    pub(super) fn without_interval(value: f64, confidence: f64, reason: &str) -> Self {
        Quantity { value, standard_error: None, interval: None, confidence, method: format!("none: {reason}") }
    }
    /// A number with an interval but no standard error.
    pub(super) fn within(value: f64, interval: Interval, confidence: f64, method: String) -> Self {
        Quantity { value, standard_error: None, interval: Some(interval), confidence, method }
    }
}

/// The mean of values in `range` over rows, with the interval that their grouping allows: Wilson or t over rows, or
/// t clustered by group where groups have several rows.
pub(super) fn mean_of(values: &[f64], groups: Option<&[u32]>, range: Range, confidence: f64) -> Result<Quantity> {
    let distinct = groups.map_or(values.len(), count_distinct);
    if distinct == 1 && values.len() > 1 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        return Ok(Quantity::without_interval(mean, confidence, "all rows belong to one group"));
    }
    let group = |row: usize| groups.map_or(row as u32, |groups| groups[row]);
    let rows: Vec<(u32, f64)> = values.iter().enumerate().map(|(row, value)| (group(row), *value)).collect();
    let (mean, interval, method) = estimate_rows(&rows, range, confidence)?;
    Ok(Quantity::within(mean, interval, confidence, method))
}

/// The share of rows that were hit; `None` of no rows.
pub(super) fn rate_of(hits: &[bool], groups: Option<&[u32]>, confidence: f64) -> Result<Option<Rate>> {
    if hits.is_empty() {
        return Ok(None);
    }
    let values: Vec<f64> = hits.iter().map(|hit| f64::from(u8::from(*hit))).collect();
    let share = mean_of(&values, groups, Range::UNIT, confidence)?;
    Ok(Some(Rate { hits: hits.iter().filter(|hit| **hit).count(), of: hits.len(), share }))
}

/// How many different groups there are.
pub(super) fn count_distinct(groups: &[u32]) -> usize {
    let mut sorted = groups.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

/// How many standard errors a two-sided normal interval reaches to each side.
pub(super) fn normal_reach(confidence: f64) -> Result<f64> {
    ensure!(
        confidence > 0.0 && confidence < 1.0,
        "a confidence lies between 0 and 1, found `{confidence}`"; help: "write 0.95 for 95 %"
    );
    Ok(normal_quantile(confidence))
}

/// The value below which this share of the sorted values lies, with straight lines between neighbours (type 7 of
/// Hyndman and Fan 1996, the default of numpy). There is at least one value.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_group_are_not_independent() {
        let hits: Vec<bool> = (0..40).map(|row| row % 8 < 4).collect();
        let pairs: Vec<u32> = (0..40).map(|row| row / 4).collect();
        let alone = rate_of(&hits, None, 0.95).unwrap().unwrap();
        assert_eq!((alone.hits, alone.of, alone.share.method.as_str()), (20, 40, "Wilson over 40 rows"));
        let grouped = rate_of(&hits, Some(&pairs), 0.95).unwrap().unwrap();
        assert_eq!(grouped.share.method, "t clustered by 10 groups");
        let width = |rate: &Rate| rate.share.interval.map(|interval| interval.high - interval.low).unwrap();
        assert!(width(&grouped) > 1.5 * width(&alone));
        let one = rate_of(&hits, Some(&[7; 40]), 0.95).unwrap().unwrap();
        assert_eq!((one.share.interval, one.share.method.as_str()), (None, "none: all rows belong to one group"));
    }

    #[test]
    fn wilson_is_that_of_the_reference() {
        let hits: Vec<bool> = (0..100).map(|row| row < 3).collect();
        let interval = rate_of(&hits, None, 0.95).unwrap().unwrap().share.interval.unwrap();
        assert!((interval.low - 0.010255).abs() < 1e-6 && (interval.high - 0.084519).abs() < 1e-6);
        assert_eq!(rate_of(&[], None, 0.95).unwrap(), None);
    }
}
