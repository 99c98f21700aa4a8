//! The loss as a function of decision values: the best intercept, the residuals, the curvature.

use super::Task;

/// Rows that count, seen by one fit. All vectors are over all rows; rows that do not count have weight 0.
pub(super) struct Curve {
    pub(super) labels: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) c: f64,
}

impl Curve {
    pub(super) fn new(task: &Task) -> Self {
        let labels = task.labels.iter().map(|label| f64::from(u8::from(*label))).collect();
        Curve { labels, weights: task.weights.to_vec(), c: task.c }
    }

    /// The intercept that minimises the loss for decision values f + b, and the derivative that is left there. The
    /// derivative rises in b, so Newton's steps are kept within the bracket that its signs have shown.
    pub(super) fn settle(&self, f: &[f64], start: f64) -> (f64, f64) {
        let (mut low, mut high, mut b) = (f64::NEG_INFINITY, f64::INFINITY, start);
        let (mut best, mut left) = (start, f64::INFINITY);
        let scale: f64 = self.weights.iter().sum();
        for _ in 0..200 {
            let (mut slope, mut bend) = (0.0, 0.0);
            for ((y, s), f) in self.labels.iter().zip(&self.weights).zip(f) {
                let away = miss(*y, f + b);
                slope -= s * away;
                bend += s * away.abs() * (1.0 - away.abs());
            }
            if slope.abs() < left.abs() {
                (best, left) = (b, slope);
            }
            if slope.abs() <= 1e-15 * scale {
                break;
            }
            if slope > 0.0 {
                high = high.min(b)
            } else {
                low = low.max(b)
            }
            let newton = b - slope / bend;
            let step = (newton - b).clamp(-4.0, 4.0);
            let mut next = if step.is_finite() { b + step } else { b - slope.signum() * 4.0 };
            if next <= low || next >= high {
                next = 0.5 * (low + high);
            }
            if next == b || !next.is_finite() {
                break;
            }
            b = next;
        }
        (best, left)
    }

    /// C s (y - p) - dual: what the dual still has to move, 0 at the optimum.
    pub(super) fn residual(&self, f: &[f64], b: f64, dual: &[f64]) -> Vec<f64> {
        let rows = self.labels.iter().zip(&self.weights).zip(f.iter().zip(dual));
        rows.map(|((y, s), (f, dual))| self.c * s * miss(*y, f + b) - dual).collect()
    }

    /// C s p (1 - p): the curvature of every row.
    pub(super) fn bends(&self, f: &[f64], b: f64) -> Vec<f64> {
        let rows = self.labels.iter().zip(&self.weights).zip(f);
        rows.map(|((y, s), f)| {
            let away = miss(*y, f + b).abs();
            self.c * s * away * (1.0 - away)
        })
        .collect()
    }

    /// The loss without the penalty.
    pub(super) fn loss(&self, f: &[f64], b: f64) -> f64 {
        let rows = self.labels.iter().zip(&self.weights).zip(f);
        rows.map(|((y, s), f)| {
            let margin = if *y > 0.5 { f + b } else { -(f + b) };
            s * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0))
        })
        .sum()
    }
}

/// y - p at a decision value, without cancellation.
fn miss(y: f64, f: f64) -> f64 {
    if y > 0.5 { 1.0 / (1.0 + f.exp()) } else { -1.0 / (1.0 + (-f).exp()) }
}
