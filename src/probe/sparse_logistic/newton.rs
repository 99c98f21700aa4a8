//! Proximal Newton steps on a few columns: a quadratic model, coordinate descent on it, a line search.

use super::columns::gather_product;
use super::problem::{Penalty, Point, Problem};

/// Steps until no slope of these columns is farther than `target` from the subdifferential, or none makes progress.
/// Returns the number of steps.
pub(super) fn descend(
    problem: &Problem,
    point: &mut Point,
    penalty: Penalty,
    active: &[usize],
    target: f64,
    max_steps: usize,
) -> usize {
    for step in 0..max_steps {
        let pulls = problem.pulls(&point.f);
        let slope: f64 = pulls.iter().sum();
        let violations = active.iter().map(|column| {
            let gain = problem.columns.stored_product(*column, &pulls) - problem.columns.offset(*column) * slope;
            penalty.violation(point.w[*column], gain)
        });
        let violation = violations.fold(slope.abs(), f64::max);
        if violation <= target {
            return step;
        }
        let mut model = Model::new(problem, point, penalty, active, &pulls);
        model.minimise((0.1 * violation).min(0.5 * target.max(0.01 * violation)));
        if !model.search_line(problem, point, penalty, active, &pulls) {
            return step + 1;
        }
    }
    max_steps
}

/// The quadratic model around a point, with the intercept always at its optimum: the rest r = q - curvature (Z change),
/// kept as r over the root of the curvature.
struct Model {
    penalty: Penalty,
    /// Sum of the curvature of the loss over the rows.
    total: f64,
    rest: Vec<f64>,
    /// Sum of r.
    sum: f64,
    columns: Vec<ModelColumn>,
    rows: Vec<u32>,
    /// Stored value times root of curvature.
    values: Vec<f64>,
    /// Of each column.
    w: Vec<f64>,
    change: Vec<f64>,
}

struct ModelColumn {
    range: std::ops::Range<usize>,
    /// Sum of stored value times curvature.
    weight: f64,
    /// Of the model along the column, the intercept following.
    curvature: f64,
}

impl Model {
    fn new(problem: &Problem, point: &Point, penalty: Penalty, active: &[usize], pulls: &[f64]) -> Self {
        // A floor keeps rows that are all but certain from making the model flat; the line search keeps it honest.
        let curvatures = pulls.iter().zip(&problem.weights).map(|(pull, s)| {
            let share = pull.abs() / s;
            s * (share * (1.0 - share)).max(1e-10)
        });
        let roots: Vec<f64> = curvatures.map(f64::sqrt).collect();
        let total: f64 = roots.iter().map(|root| root * root).sum();
        let rest = pulls.iter().zip(&roots).map(|(pull, root)| pull / root).collect();
        let (mut rows, mut values, mut columns) = (Vec::new(), Vec::new(), Vec::with_capacity(active.len()));
        for column in active {
            let (places, stored) = problem.columns.column(*column);
            let start = rows.len();
            rows.extend_from_slice(places);
            values.extend(places.iter().zip(stored).map(|(row, value)| value * roots[*row as usize]));
            let values = &values[start..];
            let weight = gather_product(places, values, &roots);
            let square: f64 = values.iter().map(|value| value * value).sum();
            let curvature = (square - weight * weight / total).max(1e-12 * square);
            columns.push(ModelColumn { range: start..rows.len(), weight, curvature });
        }
        let w = active.iter().map(|column| point.w[*column]).collect();
        let sum = pulls.iter().sum();
        Model { penalty, total, rest, sum, columns, rows, values, w, change: vec![0.0; active.len()] }
    }

    /// Coordinate descent until a sweep over all columns finds no violation above `target`.
    fn minimise(&mut self, target: f64) {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let mut sweeps = 0;
        loop {
            let worst = self.sweep(&all);
            sweeps += 1;
            if worst <= target || sweeps >= 1000 {
                return;
            }
            // Sweeps over what is not 0 are cheaper and settle most of it.
            let moving: Vec<usize> = all.iter().copied().filter(|k| self.w[*k] + self.change[*k] != 0.0).collect();
            let mut inner = 0;
            while self.sweep(&moving) > 0.3 * target && inner < 1000 {
                inner += 1;
            }
        }
    }

    /// Moves each of the columns to its optimum; the largest violation met.
    fn sweep(&mut self, which: &[usize]) -> f64 {
        let Penalty { l1, l2 } = self.penalty;
        let mut worst: f64 = 0.0;
        for k in which {
            let ModelColumn { range, weight, curvature } = &self.columns[*k];
            let (rows, values) = (&self.rows[range.clone()], &self.values[range.clone()]);
            if rows.is_empty() {
                continue;
            }
            let gain = gather_product(rows, values, &self.rest) - weight * self.sum / self.total;
            let before = self.w[*k] + self.change[*k];
            worst = worst.max(self.penalty.violation(before, gain));
            let pull = curvature * before + gain;
            let after = pull.signum() * (pull.abs() - l1).max(0.0) / (curvature + l2);
            let step = after - before;
            if step != 0.0 {
                self.change[*k] = after - self.w[*k];
                rows.iter().zip(values).for_each(|(row, value)| self.rest[*row as usize] -= step * value);
                self.sum -= step * weight;
            }
        }
        worst
    }

    /// Goes along the change as far as the objective falls; false where it does not.
    fn search_line(
        &self,
        problem: &Problem,
        point: &mut Point,
        penalty: Penalty,
        active: &[usize],
        pulls: &[f64],
    ) -> bool {
        let shift = self.sum / self.total;
        let mut along = vec![shift; point.f.len()];
        for (k, column) in active.iter().enumerate().filter(|(k, _)| self.change[*k] != 0.0) {
            let (rows, values) = problem.columns.column(*column);
            rows.iter().zip(values).for_each(|(row, value)| along[*row as usize] += self.change[k] * value);
        }
        let penalty_at = |t: f64| -> f64 {
            self.w.iter().zip(&self.change).map(|(w, change)| penalty.of_weight(w + t * change)).sum()
        };
        let (loss, from) = (problem.loss(&point.f), penalty_at(0.0));
        let slope: f64 = pulls.iter().zip(&along).map(|(pull, along)| -pull * along).sum();
        let expected = slope + penalty_at(1.0) - from;
        // What rounding hides from the objective, a full step may still settle.
        let hidden = 1e-13 * (loss + from);
        let mut t = 1.0;
        for _ in 0..40 {
            let f: Vec<f64> = point.f.iter().zip(&along).map(|(f, along)| f + t * along).collect();
            if problem.loss(&f) + penalty_at(t) <= loss + from + 0.01 * t * expected.min(0.0) + hidden {
                point.f = f;
                point.b += t * shift;
                for (k, column) in active.iter().enumerate() {
                    point.w[*column] =
                        if t == 1.0 { self.w[k] + self.change[k] } else { self.w[k] + t * self.change[k] };
                }
                return true;
            }
            t *= 0.5;
        }
        false
    }
}
