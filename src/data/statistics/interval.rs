//! Intervals for one mean: t, t on the logit scale, Wilson, and the standard error of clustered scores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::{normal_quantile, t_quantile};
use super::{Range, check_confidence, mean, variance};
use crate::ensure;
use crate::error::Result;

/// Two ends, in the unit of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// `centre ± half_width`.
    pub(super) fn around(centre: f64, half_width: f64) -> Self {
        Interval { low: centre - half_width, high: centre + half_width }
    }
    /// Whether a value lies between the ends or on one.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
    pub(super) fn within(&self, range: Range) -> bool {
        range.low <= self.low && self.high <= range.high
    }
}

/// `mean ± t · s / √n` with n - 1 degrees of freedom, from at least two independent values.
pub fn t_interval(values: &[f64], confidence: f64) -> Result<Interval> {
    check_confidence(confidence)?;
    let n = values.len();
    ensure!(n >= 2, "a t interval needs at least 2 values, found {n}");
    let half_width = t_quantile(confidence, (n - 1) as f64) * (variance(values) / n as f64).sqrt();
    Ok(Interval::around(mean(values), half_width))
}

/// t interval of the logits of shares in [0, 1], transformed back: for shares whose t interval leaves [0, 1].
///
/// `counts[i]` answers lie behind `shares[i]`; a share of 0 or 1 is replaced by (k + 0.5) / (n + 1). It is an interval
/// of the mean logit, which is not the logit of the mean.
pub fn logit_t(shares: &[f64], counts: &[usize], confidence: f64) -> Result<Interval> {
    ensure!(shares.len() == counts.len(), "found {} shares and {} counts", shares.len(), counts.len());
    let logits: Vec<f64> = shares
        .iter()
        .zip(counts)
        .map(|(&share, &count)| {
            let n = count as f64;
            let inner = if share > 0.0 && share < 1.0 { share } else { (share * n + 0.5) / (n + 1.0) };
            logit(inner)
        })
        .collect();
    let on_logits = t_interval(&logits, confidence)?;
    Ok(Interval { low: logistic(on_logits.low), high: logistic(on_logits.high) })
}

/// Wilson's score interval for a share of `trials` (Wilson 1927). `successes` may be a sum of shares.
pub fn wilson(successes: f64, trials: usize, confidence: f64) -> Result<Interval> {
    check_confidence(confidence)?;
    ensure!(trials > 0, "a share needs at least 1 trial, found 0");
    let n = trials as f64;
    ensure!((0.0..=n).contains(&successes), "{successes} successes in {trials} trials are impossible");
    let share = successes / n;
    let z2 = normal_quantile(confidence).powi(2);
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half_width = (z2 * (share * (1.0 - share) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    // The ends of the scale are exact, which rounding would miss.
    Ok(Interval {
        low: if successes == 0.0 { 0.0 } else { (centre - half_width).max(0.0) },
        high: if successes == n { 1.0 } else { (centre + half_width).min(1.0) },
    })
}

/// Standard error of the mean of scores that come in clusters (answers to one question resemble each other):
/// √(Σ r²/(n(n-1)) + Σ_c Σ_{i≠j} r_i r_j / n²), r the distance from the mean (Miller 2024, equation 4).
///
/// `scores` are (cluster, score). Infinitely many clusters are assumed; with C of them multiply by √(C/(C-1)).
pub fn clustered_standard_error(scores: &[(u32, f64)]) -> Result<f64> {
    ensure!(scores.len() >= 2, "a standard error needs at least 2 scores, found {}", scores.len());
    let sums = Clusters::of(scores);
    let naive = sums.squares / (sums.n * (sums.n - 1.0));
    Ok((naive + (sums.of_clusters - sums.squares) / (sums.n * sums.n)).max(0.0).sqrt())
}

/// The mean and its standard error over C clusters with the factor √(C/(C-1)): for clusters of one size this is the
/// t interval's s/√C over the cluster means. Needs two clusters.
pub(super) fn clustered_mean(scores: &[(u32, f64)]) -> (f64, f64) {
    let sums = Clusters::of(scores);
    let factor = sums.count / (sums.count - 1.0);
    (sums.mean, (sums.of_clusters * factor).sqrt() / sums.n)
}

struct Clusters {
    n: f64,
    count: f64,
    mean: f64,
    /// Σ r².
    squares: f64,
    /// Σ_c (Σ_i r_ic)².
    of_clusters: f64,
}

impl Clusters {
    fn of(scores: &[(u32, f64)]) -> Self {
        let n = scores.len() as f64;
        let mean = scores.iter().map(|(_, score)| score).sum::<f64>() / n;
        let mut sums = BTreeMap::<u32, f64>::new();
        for (cluster, score) in scores {
            *sums.entry(*cluster).or_default() += score - mean;
        }
        Clusters {
            n,
            count: sums.len() as f64,
            mean,
            squares: scores.iter().map(|(_, score)| (score - mean).powi(2)).sum(),
            of_clusters: sums.values().map(|sum| sum * sum).sum(),
        }
    }
}

pub(super) fn logit(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

pub(super) fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
