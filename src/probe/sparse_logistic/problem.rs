//! The objective, its dual and the distance between them.

use super::super::linear::probability;
use super::columns::Columns;

/// Minimise sum_i s_i log(1 + exp(-y_i f_i)) + l1 |w|_1 + l2 |w|^2 / 2 with f = Z w + b.
pub(super) struct Problem {
    /// Z, the used rows.
    pub(super) columns: Columns,
    /// y, +1 or -1.
    pub(super) signs: Vec<f64>,
    /// s, above 0.
    pub(super) weights: Vec<f64>,
}

/// How strongly weights are penalised.
#[derive(Clone, Copy)]
pub(super) struct Penalty {
    pub(super) l1: f64,
    pub(super) l2: f64,
}

impl Penalty {
    pub(super) fn of_weight(self, w: f64) -> f64 {
        self.l1 * w.abs() + 0.5 * self.l2 * w * w
    }
    pub(super) fn of(self, weights: &[f64]) -> f64 {
        weights.iter().map(|w| self.of_weight(*w)).sum()
    }
    /// Distance from `gain`, minus the slope of the loss, to the subdifferential of the penalty.
    pub(super) fn violation(self, w: f64, gain: f64) -> f64 {
        if w == 0.0 { (gain.abs() - self.l1).max(0.0) } else { (gain - self.l2 * w - self.l1 * w.signum()).abs() }
    }
}

/// A point and what it costs.
#[derive(Clone)]
pub(super) struct Point {
    /// One per column.
    pub(super) w: Vec<f64>,
    /// Intercept on stored values, before offsets are taken off.
    pub(super) b: f64,
    /// Decision values of the used rows.
    pub(super) f: Vec<f64>,
}

/// How far a point is from the optimum.
pub(super) struct Certificate {
    pub(super) objective: f64,
    /// Objective - dual objective: no point can be better than this one by more.
    pub(super) gap: f64,
    /// Largest distance of a slope from the subdifferential.
    pub(super) violation: f64,
    /// Minus the slope of the loss, per column.
    pub(super) gains: Vec<f64>,
}

impl Problem {
    /// The loss at these decision values.
    pub(super) fn loss(&self, f: &[f64]) -> f64 {
        (0..f.len()).map(|row| self.weights[row] * softplus(-self.signs[row] * f[row])).sum()
    }

    /// Minus the slope of the loss by each decision value: s y (1 - probability of the own class).
    pub(super) fn pulls(&self, f: &[f64]) -> Vec<f64> {
        (0..f.len()).map(|row| self.weights[row] * self.signs[row] * probability(-self.signs[row] * f[row])).collect()
    }

    /// Moves the intercept to its optimum given the weights.
    pub(super) fn settle_intercept(&self, point: &mut Point) {
        for _ in 0..100 {
            let pulls = self.pulls(&point.f);
            let bends = pulls.iter().zip(&self.weights).map(|(pull, weight)| pull.abs() * (1.0 - pull.abs() / weight));
            let (slope, bend) = (pulls.iter().sum::<f64>(), bends.sum::<f64>());
            let step = (slope / bend.max(f64::MIN_POSITIVE)).clamp(-2.0, 2.0);
            point.b += step;
            point.f.iter_mut().for_each(|f| *f += step);
            if step.abs() <= 1e-13 * (1.0 + point.b.abs()) {
                break;
            }
        }
    }

    /// Certifies a point whose intercept is settled.
    pub(super) fn certify(&self, point: &Point, penalty: Penalty) -> Certificate {
        let objective = self.loss(&point.f) + penalty.of(&point.w);
        let mut pulls = self.pulls(&point.f);
        // A dual point sums to 0; the settled intercept has brought it near, shrinking the larger side keeps it valid.
        let above: f64 = pulls.iter().filter(|pull| **pull > 0.0).sum();
        let below: f64 = -pulls.iter().filter(|pull| **pull < 0.0).sum::<f64>();
        if above > 0.0 && below > 0.0 {
            let (shrink_above, shrink_below) = ((below / above).min(1.0), (above / below).min(1.0));
            pulls.iter_mut().for_each(|pull| *pull *= if *pull > 0.0 { shrink_above } else { shrink_below });
        }
        let gains = self.columns.product(&pulls);
        let largest = gains.iter().fold(0.0, |largest: f64, gain| largest.max(gain.abs()));
        let shrink = if largest > penalty.l1 { penalty.l1 / largest } else { 1.0 };
        let mut dual = self.dual(&pulls, &gains, shrink, penalty);
        if penalty.l2 > 0.0 {
            dual = dual.max(self.dual(&pulls, &gains, 1.0, penalty));
        }
        let violations = gains.iter().zip(&point.w).map(|(gain, w)| penalty.violation(*w, *gain));
        let violation = violations.fold(0.0, f64::max);
        // Below this, rounding of the sums decides.
        let gap = if dual > objective { f64::EPSILON * objective } else { objective - dual };
        Certificate { objective, gap, violation, gains }
    }

    /// Entropy of the pulls, shrunk, minus the conjugate of the penalty.
    fn dual(&self, pulls: &[f64], gains: &[f64], shrink: f64, penalty: Penalty) -> f64 {
        let entropy: f64 = pulls.iter().zip(&self.weights).map(|(pull, s)| s * entropy(shrink * pull.abs() / s)).sum();
        let excess = |gain: &f64| (shrink * gain.abs() - penalty.l1).max(0.0).powi(2);
        let conjugate = if penalty.l2 > 0.0 { gains.iter().map(excess).sum::<f64>() / (2.0 * penalty.l2) } else { 0.0 };
        entropy - conjugate
    }
}

/// log(1 + exp(x)).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn entropy(share: f64) -> f64 {
    let part = |p: f64, log: f64| if p > 0.0 { -p * log } else { 0.0 };
    part(share, share.ln()) + part(1.0 - share, (-share).ln_1p())
}
