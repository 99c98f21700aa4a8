//! The learning rate over a run: warm-up times decay to zero.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line.
    Linear,
    /// As half a cosine.
    Cosine,
}

impl Schedule {
    /// Factor in (0, 1] of step `step` (from 0) of `steps`: decay over all steps, times a linear rise over the first
    /// `warmup_fraction` of them.
    pub fn factor(self, step: usize, steps: usize, warmup_fraction: f64) -> f64 {
        let rise = ((step + 1) as f64 / (warmup_fraction * steps as f64).max(1.0)).min(1.0);
        let progress = step as f64 / steps as f64;
        let decay = match self {
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        };
        rise * decay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_zero() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            let factors: Vec<f64> = (0..100).map(|step| schedule.factor(step, 100, 0.1)).collect();
            assert!(factors[..10].is_sorted() && factors[9..].is_sorted_by(|a, b| a >= b));
            assert!(factors.iter().all(|factor| *factor > 0.0 && *factor <= 1.0) && factors[99] < 0.02);
        }
        assert_eq!(Schedule::Linear.factor(0, 4, 0.0), 1.0);
        assert_eq!(Schedule::Linear.factor(1, 4, 0.0), 0.75);
    }
}
