//! Dose and response: rank correlation, whether the means go one way, and the slope over seeds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distribution::t_probability;
use super::interval::t_interval;
use super::{Interval, mean};
use crate::ensure;
use crate::error::Result;

/// The mean score of one run at one dose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrendPoint {
    /// The ratio, or the logarithm of a size.
    pub dose: f64,
    /// Which run.
    pub seed: u64,
    /// Its mean score.
    pub score: f64,
}

/// Where a sequence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Never down, and up at least once.
    Increasing,
    /// Never up, and down at least once.
    Decreasing,
    /// Every value the same.
    Constant,
    /// Up and down.
    Mixed,
}

/// Spearman's rank correlation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// From -1 to 1.
    pub rho: f64,
    /// Two-sided, by t with n - 2 degrees of freedom.
    pub p: f64,
    /// Pairs.
    pub n: usize,
}

/// How the score changes with the dose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Of dose and score over all runs; missing when one of them never changes or there are fewer than 3 runs.
    pub correlation: Option<Correlation>,
    /// Each dose, upwards, with the mean of its runs.
    pub means: Vec<(f64, f64)>,
    /// Where these means go.
    pub direction: Direction,
    /// Change of the score per unit of dose: the mean of the seeds' least-squares slopes.
    pub slope: f64,
    /// t over the seeds' slopes; missing with one seed.
    pub slope_interval: Option<Interval>,
    /// `t over the slopes of 3 seeds`.
    pub method: String,
}

/// The trend over runs; every seed needs scores at two doses or more.
pub fn trend(points: &[TrendPoint], confidence: f64) -> Result<Trend> {
    ensure!(points.iter().all(|point| point.dose.is_finite()), "a dose must be a finite number");
    let mut doses = BTreeMap::<u64, (f64, Vec<f64>)>::new();
    let mut seeds = BTreeMap::<u64, (Vec<f64>, Vec<f64>)>::new();
    for point in points {
        doses.entry(order_bits(point.dose)).or_insert_with(|| (point.dose, Vec::new())).1.push(point.score);
        let (dose, score) = seeds.entry(point.seed).or_default();
        dose.push(point.dose);
        score.push(point.score);
    }
    let means: Vec<(f64, f64)> = doses.into_values().map(|(dose, scores)| (dose, mean(&scores))).collect();
    ensure!(means.len() >= 2, "a trend needs at least 2 doses, found {}", means.len());
    let mut slopes = Vec::new();
    for (seed, (dose, score)) in &seeds {
        let slope = slope(dose, score);
        ensure!(slope.is_finite(), "seed {seed} has only one dose"; help: "train every seed at two doses or more");
        slopes.push(slope);
    }
    let n = slopes.len();
    let (dose, score): (Vec<f64>, Vec<f64>) = points.iter().map(|point| (point.dose, point.score)).unzip();
    Ok(Trend {
        correlation: spearman(&dose, &score)?,
        direction: direction(&means.iter().map(|(_, mean)| *mean).collect::<Vec<_>>()),
        means,
        slope: mean(&slopes),
        slope_interval: if n >= 2 { Some(t_interval(&slopes, confidence)?) } else { None },
        method: if n >= 2 { format!("t over the slopes of {n} seeds") } else { "one seed".to_string() },
    })
}

/// Spearman's rho: the correlation of the ranks, ties sharing their mean rank. Nothing with fewer than 3 pairs or when
/// one side never changes.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<Correlation>> {
    ensure!(x.len() == y.len(), "found {} and {} values where pairs are correlated", x.len(), y.len());
    ensure!(x.iter().chain(y).all(|value| !value.is_nan()), "a rank correlation cannot hold NaN");
    let n = x.len();
    let (x, y) = (ranks(x), ranks(y));
    let middle = (n as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = (product(&x, &x) * product(&y, &y)).sqrt();
    if n < 3 || spread == 0.0 {
        return Ok(None);
    }
    let rho = (product(&x, &y) / spread).clamp(-1.0, 1.0);
    let degrees_of_freedom = n as f64 - 2.0;
    let p = if rho.abs() == 1.0 {
        0.0
    } else {
        t_probability(rho * (degrees_of_freedom / (1.0 - rho * rho)).sqrt(), degrees_of_freedom)
    };
    Ok(Some(Correlation { rho, p, n }))
}

/// Where a sequence goes.
pub fn direction(values: &[f64]) -> Direction {
    let up = values.windows(2).any(|pair| pair[1] > pair[0]);
    let down = values.windows(2).any(|pair| pair[1] < pair[0]);
    match (up, down) {
        (true, true) => Direction::Mixed,
        (true, false) => Direction::Increasing,
        (false, true) => Direction::Decreasing,
        (false, false) => Direction::Constant,
    }
}

/// Ranks from 1; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|index| ranks[*index] = rank);
        first += tied.len();
    }
    ranks
}

/// Least squares; not finite when x never changes.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let covariance: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    if x.iter().all(|value| *value == x[0]) {
        return f64::NAN;
    }
    covariance / x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>()
}

/// Sorts as the floats do, so that they can be keys; 0 and -0 are one.
fn order_bits(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}
