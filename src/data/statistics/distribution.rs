//! Quantiles and tail probabilities of Student's t and of the normal distribution.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::beta_reg;

/// How many standard errors a two-sided t interval reaches to each side; 4.303 for 95 % and 2 degrees of freedom.
pub(super) fn t_quantile(confidence: f64, degrees_of_freedom: f64) -> f64 {
    let t = StudentsT::new(0.0, 1.0, degrees_of_freedom).expect("degrees of freedom are positive");
    t.inverse_cdf(0.5 + confidence / 2.0)
}

/// The same for the normal distribution; 1.96 for 95 %.
pub(crate) fn normal_quantile(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 + confidence / 2.0)
}

/// Two-sided p of a t statistic. Through the incomplete beta function, so that small p keep their digits.
pub(super) fn t_probability(t: f64, degrees_of_freedom: f64) -> f64 {
    beta_reg(degrees_of_freedom / 2.0, 0.5, degrees_of_freedom / (degrees_of_freedom + t * t))
}
