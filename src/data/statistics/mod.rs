//! What may be said about a group of runs, a difference, a trend: estimates with intervals whose unit is the training seed.
//!
//! Three seeds with eight questions of a hundred answers are not 2,400 independent observations: answers are
//! summarised per run, and the spread between runs decides the interval. With a single run the questions are the
//! clusters (Miller, Adding Error Bars to Evals, 2024, arXiv:2411.00640).

mod agreement;
mod binomial;
mod bootstrap;
mod difference;
mod distribution;
mod equivalence;
mod estimate;
mod holm;
mod interval;
mod missing;
mod noncentral;
mod pareto;
mod plan;
mod power;
mod trend;
mod two_way;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use agreement::{Agreement, agreement, share_near};
pub use binomial::{clopper_pearson, jeffreys};
pub use bootstrap::{
    BootstrapOptions, Bootstrapped, Ends as BootstrapEnds, Resampling, hierarchical_bootstrap, percentile_over_seeds,
};
pub use difference::{Design, Difference, compare, paired, suitable_design, welch};
pub(crate) use distribution::normal_quantile;
pub use equivalence::{Equivalence, Verdict, equivalence};
pub use estimate::{Estimate, estimate, estimate_rows};
pub use holm::holm;
pub use interval::{Interval, clustered_standard_error, logit_t, t_interval, wilson};
pub use missing::{missing_warnings, worst_case};
pub use pareto::{Wanted, hypervolume, non_dominated};
pub use plan::{Claim, Components, Plan, PlanOptions, components, components_of_difference, plans, variance_of_mean};
pub use power::{Arms, POWER, QuestionSpread, power_of, questions_needed, seeds_detectable, seeds_needed};
pub use trend::{Correlation, Direction, Trend, TrendPoint, direction, spearman, trend};
pub use two_way::{TwoWay, two_way};

use crate::ensure;
use crate::error::Result;

/// The confidence that is meant where none is named.
pub const CONFIDENCE: f64 = 0.95;

/// The scale on which scores are declared; both ends are possible scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Least possible score.
    pub low: f64,
    /// Greatest possible score.
    pub high: f64,
}

impl Range {
    /// Shares and probabilities: 0 to 1.
    pub const UNIT: Range = Range { low: 0.0, high: 1.0 };

    /// Where a score lies, 0 at the low end and 1 at the high end.
    fn share(&self, score: f64) -> f64 {
        (score - self.low) / (self.high - self.low)
    }
    fn score(&self, share: f64) -> f64 {
        (self.low + share * (self.high - self.low)).clamp(self.low, self.high)
    }
    fn contains(&self, score: f64) -> bool {
        (self.low..=self.high).contains(&score)
    }
}

impl Default for Range {
    /// The scale of judges: 0 to 100.
    fn default() -> Self {
        Range { low: 0.0, high: 100.0 }
    }
}

/// One scored answer, or the reason why it has no score.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Which training run gave it; one number for all answers of a model that was not trained here.
    pub seed: u64,
    /// Which question it answers; equal numbers are equal questions in every group that is compared.
    pub question: u32,
    /// The score, or why there is none (`unparsable`, `refused`, …).
    pub score: std::result::Result<f64, String>,
}

/// Arithmetic mean; NaN of nothing.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance, with n - 1; needs two values.
fn variance(values: &[f64]) -> f64 {
    // Equal values have no spread, whatever the rounding of their mean says.
    if values.iter().all(|value| *value == values[0]) {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

fn check_confidence(confidence: f64) -> Result<()> {
    ensure!(
        confidence > 0.0 && confidence < 1.0,
        "a confidence lies between 0 and 1, found `{confidence}`"; help: "write 0.95 for 95 %"
    );
    Ok(())
}
