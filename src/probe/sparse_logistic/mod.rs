//! Logistic regression with an L1 or elastic net penalty along a path of C, each fit certified by its duality gap.

mod columns;
mod newton;
mod problem;

use columns::Columns;
use problem::{Certificate, Penalty, Point, Problem};

use super::classes::weigh_classes;
use super::linear::Linear;
use super::product::Rows;
use super::scaler::Scaler;
use crate::error::{Result, ensure};

/// Which fits are made and how exact they are.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseLogisticOptions {
    /// Inverse strengths of the penalty, in any order, above 0.
    pub c: Vec<f64>,
    /// Share of L1 in the penalty, above 0 and up to 1; 1 is the lasso.
    pub l1_ratio: f64,
    /// Largest duality gap, relative to the objective, that counts as solved.
    pub tolerance: f64,
    /// Rounds in which columns may be added, per C.
    pub max_rounds: usize,
}

impl Default for SparseLogisticOptions {
    fn default() -> Self {
        SparseLogisticOptions { c: vec![0.1], l1_ratio: 1.0, tolerance: 1e-9, max_rounds: 200 }
    }
}

/// A fitted probe and what certifies it.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseLogisticFit {
    /// Most of its weights are exactly 0.
    pub probe: Linear,
    /// Inverse strength of the penalty.
    pub c: f64,
    /// Number of weights that are not 0.
    pub non_zeros: usize,
    /// Loss and penalty together.
    pub objective: f64,
    /// The objective is above the smallest one by no more than this.
    pub gap: f64,
    /// Largest possible distance of the weights from the optimal ones; absent without an L2 part.
    pub weight_error: Option<f64>,
    /// Largest distance of a slope from the subdifferential of the penalty.
    pub violation: f64,
    /// Newton steps, those of smaller C on the path not counted.
    pub iterations: usize,
}

/// Minimises sum_i s_i log(1 + exp(-y_i (w . z_i + b))) + (l1_ratio |w|_1 + (1 - l1_ratio) |w|^2 / 2) / C over weights
/// w and an unpenalised intercept b, z being standardised features and s the row weights. One fit per C, in the order
/// of the options, each started from the next smaller C. Working sets and proximal Newton steps as in celer and skglm
/// (Massias et al. 2018, Bertrand et al. 2022).
///
/// # Errors
/// Labels, weights or scaler that do not belong to the rows; one class only; options out of range; a fit whose duality
/// gap stays above the tolerance.
pub fn fit_sparse_logistic(
    rows: &Rows,
    labels: &[bool],
    weights: &[f64],
    scaler: &Scaler,
    options: &SparseLogisticOptions,
) -> Result<Vec<SparseLogisticFit>> {
    let SparseLogisticOptions { ref c, l1_ratio, tolerance, .. } = *options;
    ensure!(l1_ratio > 0.0 && l1_ratio <= 1.0, "an L1 share of `{l1_ratio}` is not above 0 and up to 1";
        help: "use logistic regression with an L2 penalty where no weight need be 0");
    ensure!(tolerance > 0.0, "a tolerance of `{tolerance}` cannot be reached"; help: "use a tolerance above 0");
    for c in c {
        ensure!(c.is_finite() && *c > 0.0, "an inverse strength C of `{c}` is not above 0"; help: "use C above 0");
    }
    let totals = weigh_classes(rows, labels, weights, scaler)?;
    let problem = gather(rows, labels, weights, scaler);
    let mut point = empty_point(&problem, totals);
    let mut order: Vec<usize> = (0..c.len()).collect();
    order.sort_by(|a, b| c[*a].total_cmp(&c[*b]));
    let mut fits: Vec<Option<SparseLogisticFit>> = vec![None; c.len()];
    for index in order {
        let penalty = Penalty { l1: l1_ratio / c[index], l2: (1.0 - l1_ratio) / c[index] };
        let (found, iterations) = solve(&problem, &mut point, penalty, options);
        let Certificate { objective, gap, violation, .. } = found;
        ensure!(
            gap <= tolerance * objective,
            "the fit at C = {} has a relative duality gap of {:.1e}, above {tolerance:.1e}, after {iterations} steps",
            c[index], gap / objective;
            help: "lower C, raise the tolerance, or remove features that are not finite"
        );
        let weight_error = (penalty.l2 > 0.0).then(|| (2.0 * gap / penalty.l2).sqrt());
        let probe = probe_of(&problem, &point, scaler);
        let non_zeros = probe.non_zeros();
        fits[index] = Some(SparseLogisticFit {
            probe,
            c: c[index],
            non_zeros,
            objective,
            gap,
            weight_error,
            violation,
            iterations,
        });
    }
    Ok(fits.into_iter().map(|fit| fit.expect("every C was fitted")).collect())
}

/// The largest C at which all weights are 0: l1_ratio / max_j |z_j . s (y - mean y)|. Infinite where no feature tells
/// the classes apart.
///
/// # Errors
/// Labels, weights or scaler that do not belong to the rows; one class only.
pub fn largest_empty_c(rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler, l1_ratio: f64) -> Result<f64> {
    let totals = weigh_classes(rows, labels, weights, scaler)?;
    let problem = gather(rows, labels, weights, scaler);
    let pulls = problem.pulls(&empty_point(&problem, totals).f);
    let gains = problem.columns.product(&pulls);
    Ok(l1_ratio / gains.iter().fold(0.0, |largest: f64, gain| largest.max(gain.abs())))
}

/// Rounds of: certify, add the columns that violate most, descend on them.
fn solve(
    problem: &Problem,
    point: &mut Point,
    penalty: Penalty,
    options: &SparseLogisticOptions,
) -> (Certificate, usize) {
    let (mut iterations, mut added, mut target) = (0, 10, f64::INFINITY);
    problem.settle_intercept(point);
    let mut found = problem.certify(point, penalty);
    for _ in 0..options.max_rounds {
        // A gap that is not a number ends the rounds, too.
        let open = found.gap > options.tolerance * found.objective;
        if !open {
            break;
        }
        let support = point.w.iter().filter(|w| **w != 0.0).count();
        added = added.max(support);
        let mut outside: Vec<usize> =
            (0..point.w.len()).filter(|k| point.w[*k] == 0.0 && found.gains[*k].abs() > penalty.l1).collect();
        outside.sort_by(|a, b| found.gains[*b].abs().total_cmp(&found.gains[*a].abs()).then(a.cmp(b)));
        outside.truncate(added);
        let mut active: Vec<usize> = (0..point.w.len()).filter(|k| point.w[*k] != 0.0).collect();
        active.extend(outside);
        active.sort_unstable();
        target = (0.1 * found.violation).min(0.5 * target);
        iterations += newton::descend(problem, point, penalty, &active, target, 50);
        problem.settle_intercept(point);
        found = problem.certify(point, penalty);
    }
    (found, iterations)
}

fn gather(rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler) -> Problem {
    let used = || (0..labels.len()).filter(|row| weights[*row] > 0.0);
    Problem {
        columns: Columns::new(rows, weights, scaler),
        signs: used().map(|row| if labels[row] { 1.0 } else { -1.0 }).collect(),
        weights: used().map(|row| weights[row]).collect(),
    }
}

/// No weights, and the intercept that is best without them.
fn empty_point(problem: &Problem, totals: [f64; 2]) -> Point {
    let b = (totals[1] / totals[0]).ln();
    Point { w: vec![0.0; problem.columns.count()], b, f: vec![b; problem.signs.len()] }
}

fn probe_of(problem: &Problem, point: &Point, scaler: &Scaler) -> Linear {
    let offset: f64 = point.w.iter().enumerate().map(|(k, w)| w * problem.columns.offset(k)).sum();
    Linear { weights: point.w.clone(), intercept: point.b + offset, scaler: scaler.clone() }
}

#[cfg(test)]
mod tests;
