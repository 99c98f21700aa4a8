//! Gradient steering: a fixed direction is added to every gradient, or every step is followed by a step against it.

use serde::{Deserialize, Serialize};

use super::Change;

/// How much of the direction is added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steering {
    /// Factor of the direction. AdamW rescales the sum, so that it acts relative to the gradient's norm.
    pub alpha: f64,
    /// The factor of the last step, towards which it moves in a straight line; the same throughout when left out.
    pub final_alpha: Option<f64>,
    /// Steps before it begins to move.
    pub warmup_steps: usize,
    /// Leaves the gradient as it is and moves the values by -learning rate x alpha x direction after the step.
    pub direct: bool,
}

impl Default for Steering {
    fn default() -> Self {
        Steering { alpha: 0.5, final_alpha: None, warmup_steps: 5, direct: false }
    }
}

/// Steers along `plane`, a gradient: steps move against it.
pub fn steering_gradient(plane: Vec<f32>, steering: Steering) -> Change {
    Change::Steer { plane, steering }
}

impl Steering {
    /// Factor of step `step` (from 0) of `steps`.
    pub fn alpha_at(&self, step: usize, steps: usize) -> f64 {
        let Some(last) = self.final_alpha else { return self.alpha };
        let moving = steps.saturating_sub(self.warmup_steps + 1).max(1);
        let share = step.saturating_sub(self.warmup_steps) as f64 / moving as f64;
        self.alpha + (last - self.alpha) * share.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_moves_in_a_straight_line_after_its_warm_up() {
        let steering = Steering { alpha: 0.5, final_alpha: Some(0.1), warmup_steps: 5, direct: false };
        let at: Vec<f64> = [0, 5, 10, 15, 20].map(|step| steering.alpha_at(step, 16)).to_vec();
        assert!(
            at.iter().zip([0.5, 0.5, 0.3, 0.1, 0.1]).all(|(found, wanted)| (found - wanted).abs() < 1e-12),
            "{at:?}"
        );
        assert_eq!(Steering { final_alpha: None, ..steering }.alpha_at(15, 16), 0.5);
    }
}
