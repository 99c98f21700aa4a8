//! The difference of two groups: paired by seed, paired by question, or Welch over seed means.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::distribution::{t_probability, t_quantile};
use super::{Interval, Observation, check_confidence, mean, variance};
use crate::error::Result;
use crate::{bail, ensure};

/// What is held equal between the two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// Equal seeds share their data order: the unit is the difference within a seed.
    PairedBySeed,
    /// Equal questions: the unit is the difference within a question; says nothing about other seeds.
    PairedByQuestion,
    /// Independent seeds: the unit is the mean of a seed.
    Welch,
}

/// A difference of means, first group minus second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// First minus second.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// Of the difference.
    pub standard_error: f64,
    /// Of the t distribution.
    pub degrees_of_freedom: f64,
    /// Difference over standard error; infinite, and `null` in JSON, without spread.
    pub t: f64,
    /// Two-sided, not adjusted for other comparisons; see [`holm`](super::holm()).
    pub p: f64,
    /// Hedges' g: the difference over the standard deviation of the units (paired: of their differences; Welch: the
    /// root of the mean variance), times 1 - 3/(4·df - 1). Missing without spread.
    pub effect_size: Option<f64>,
    /// `paired by 3 seeds`, `paired by 16 questions`, `Welch over 3 and 3 seeds`.
    pub method: String,
}

/// The design that the data allow: by seed when `seeds_share_data_order` and both groups have the same two or more;
/// Welch when both have two or more; else by question.
pub fn suitable_design(a: &[Observation], b: &[Observation], seeds_share_data_order: bool) -> Design {
    let (a, b) = (means_by(a, |o| o.seed), means_by(b, |o| o.seed));
    if a.len() < 2 || b.len() < 2 {
        Design::PairedByQuestion
    } else if seeds_share_data_order && a.keys().eq(b.keys()) {
        Design::PairedBySeed
    } else {
        Design::Welch
    }
}

/// The difference of the mean scores of two groups. Answers without a score are left out of both.
///
/// Fails when the pairs do not match, and with fewer than two units.
pub fn compare(a: &[Observation], b: &[Observation], design: Design, confidence: f64) -> Result<Difference> {
    match design {
        Design::PairedBySeed => paired_by(a, b, |o| o.seed, "seed", confidence),
        Design::PairedByQuestion => paired_by(a, b, |o| u64::from(o.question), "question", confidence),
        Design::Welch => {
            let values = |group: &[Observation]| means_by(group, |o| o.seed).into_values().collect::<Vec<_>>();
            welch(&values(a), &values(b), confidence)
        }
    }
}

/// t over the differences `a[i] - b[i]`; at least two.
pub fn paired(a: &[f64], b: &[f64], confidence: f64) -> Result<Difference> {
    ensure!(a.len() == b.len(), "found {} and {} values where pairs are compared", a.len(), b.len());
    ensure!(a.len() >= 2, "a paired comparison needs at least 2 pairs, found {}", a.len());
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (n, variance) = (differences.len() as f64, variance(&differences));
    let units = Units {
        mean: mean(&differences),
        standard_error: (variance / n).sqrt(),
        degrees_of_freedom: n - 1.0,
        deviation: variance.sqrt(),
        degrees_of_deviation: n - 1.0,
    };
    units.difference(confidence, format!("paired over {} units", differences.len()))
}

/// Welch's t over independent values with unequal variances; at least two on each side.
pub fn welch(a: &[f64], b: &[f64], confidence: f64) -> Result<Difference> {
    ensure!(
        a.len() >= 2 && b.len() >= 2,
        "Welch's comparison needs at least 2 seeds on each side, found {} and {}", a.len(), b.len();
        help: "train more seeds, or compare by question"
    );
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let (variance_a, variance_b) = (variance(a), variance(b));
    let (v_a, v_b) = (variance_a / n_a, variance_b / n_b);
    let pooled = n_a + n_b - 2.0;
    let satterthwaite = (v_a + v_b).powi(2) / (v_a.powi(2) / (n_a - 1.0) + v_b.powi(2) / (n_b - 1.0));
    let units = Units {
        mean: mean(a) - mean(b),
        standard_error: (v_a + v_b).sqrt(),
        // Not a number without spread on either side.
        degrees_of_freedom: if satterthwaite.is_finite() { satterthwaite } else { pooled },
        deviation: ((variance_a + variance_b) / 2.0).sqrt(),
        degrees_of_deviation: pooled,
    };
    units.difference(confidence, format!("Welch over {} and {} seeds", a.len(), b.len()))
}

fn paired_by(
    a: &[Observation],
    b: &[Observation],
    unit: fn(&Observation) -> u64,
    name: &str,
    confidence: f64,
) -> Result<Difference> {
    let (a, b) = (means_by(a, unit), means_by(b, unit));
    let alone = a.keys().find(|key| !b.contains_key(key)).or_else(|| b.keys().find(|key| !a.contains_key(key)));
    if let Some(alone) = alone {
        bail!(
            "only one of the two groups has scores for {name} {alone}";
            help: "compare groups that answered the same {name}s"
        );
    }
    let (a, b): (Vec<f64>, Vec<f64>) = (a.into_values().collect(), b.into_values().collect());
    let pairs = a.len();
    Ok(Difference { method: format!("paired by {pairs} {name}s"), ..paired(&a, &b, confidence)? })
}

/// Mean score per unit, of the answers that have one.
fn means_by(observations: &[Observation], unit: fn(&Observation) -> u64) -> BTreeMap<u64, f64> {
    let mut sums = BTreeMap::<u64, (f64, usize)>::new();
    for observation in observations {
        if let Ok(score) = observation.score {
            let (sum, count) = sums.entry(unit(observation)).or_default();
            *sum += score;
            *count += 1;
        }
    }
    sums.into_iter().map(|(unit, (sum, count))| (unit, sum / count as f64)).collect()
}

struct Units {
    mean: f64,
    standard_error: f64,
    degrees_of_freedom: f64,
    /// The standard deviation that the effect size is measured in, and its degrees of freedom.
    deviation: f64,
    degrees_of_deviation: f64,
}

impl Units {
    fn difference(self, confidence: f64, method: String) -> Result<Difference> {
        check_confidence(confidence)?;
        // 0/0 is no difference, not an unknown one.
        let t = if self.mean == 0.0 { 0.0 } else { self.mean / self.standard_error };
        let interval =
            Interval::around(self.mean, t_quantile(confidence, self.degrees_of_freedom) * self.standard_error);
        let hedges = 1.0 - 3.0 / (4.0 * self.degrees_of_deviation - 1.0);
        Ok(Difference {
            mean: self.mean,
            low: interval.low,
            high: interval.high,
            confidence,
            standard_error: self.standard_error,
            degrees_of_freedom: self.degrees_of_freedom,
            t,
            p: if t.is_infinite() { 0.0 } else { t_probability(t, self.degrees_of_freedom) },
            effect_size: (self.deviation > 0.0).then(|| hedges * self.mean / self.deviation),
            method,
        })
    }
}

impl fmt::Display for Difference {
    /// `+12.3 [4.5, 20.1] (paired by 16 questions, t 3.4, p 0.0041)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.mean.abs().max(self.high - self.low) >= 1.0 { 1 } else { 3 };
        write!(f, "{:+.digits$} [{:.digits$}, {:.digits$}] ", self.mean, self.low, self.high)?;
        let p = if self.p < 0.0001 { "p < 0.0001".to_string() } else { format!("p {:.2}", Significant(self.p)) };
        write!(f, "({}, t {:.1}, {p})", self.method, self.t)
    }
}

/// Prints two significant digits.
struct Significant(f64);

impl fmt::Display for Significant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 > 0.0 { (1.0 - self.0.log10().floor()).max(0.0) as usize } else { 1 };
        write!(f, "{:.digits$}", self.0)
    }
}
