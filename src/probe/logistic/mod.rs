//! L2-penalised logistic regression at its exact optimum, with the proof of it.
//!
//! The objective is scikit-learn's: F(w, b) = sum of s_i log(1 + exp(-y_i (w x_i + b))) + |w|^2 / (2 C) on standardised
//! features, the intercept b free. F is 1/C-strongly convex in w once b is optimal, so |w - w*| <= C |dF/dw|: the
//! gradient proves how near a fit is. With few features Newton's method solves the normal equations; with many, eight
//! fits at a time share every pass over the rows (`pack`).

mod curve;
mod direct;
mod kernel;
mod pack;
mod progress;
#[cfg(test)]
mod tests;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kept::Keeping;
use super::linear::Linear;
use super::product::Rows;
use super::scaler::Scaler;
use crate::error::{Error, Result, ensure};
use progress::Progress;

/// One fit: which rows count how much, and how strong the penalty is.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The class of every row of all parts.
    pub labels: &'a [bool],
    /// How often every row counts; 0 leaves it out.
    pub weights: &'a [f64],
    /// The standardisation, usually of the rows that count.
    pub scaler: &'a Scaler,
    /// Inverse strength of the penalty, above 0.
    pub c: f64,
    /// [`Fit::dual`] of a similar fit to start from.
    pub start: Option<&'a [f64]>,
}

/// When a fit is good enough, and who watches.
pub struct Options<'a> {
    /// |w - w*| is proved to be at most this share of |w|.
    pub tolerance: f64,
    /// Products with the rows after which a fit is given up.
    pub most_products: usize,
    /// Called now and then, by one thread at a time, with the share of all fits that is done: 0 to 1, never less than
    /// before. An error stops the fits.
    pub follow: &'a (dyn Fn(f64) -> Result<()> + Sync),
    /// Where inner products of the rows are shared with other calls; none of it changes a result.
    pub keeping: Option<Keeping<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { tolerance: 1e-8, most_products: 20_000, follow: &|_| Ok(()), keeping: None }
    }
}

/// Proof of how near the optimum a fit is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// |dF/dw|, the Euclidean norm, with the intercept at its optimum.
    pub gradient_norm: f64,
    /// |dF/db| that is left.
    pub intercept_gradient: f64,
    /// C times the gradient norm: no weight vector that is further away is the optimum.
    pub distance_bound: f64,
    /// The bound as a share of |w|.
    pub relative_bound: f64,
    /// F at the fit.
    pub objective: f64,
    /// Newton steps taken.
    pub newton_steps: usize,
    /// Products with the rows, X^T u and X v counting as one.
    pub products: usize,
}

/// A fitted probe and what proves it.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The probe.
    pub probe: Linear,
    /// The proof.
    pub certificate: Certificate,
    /// Decision values of all rows, those left out included.
    pub decisions: Vec<f64>,
    /// Weights of the rows in w = sum of dual_i z_i, to start a similar fit from.
    pub dual: Vec<f64>,
}

/// Lanes of a pack: fits that share every pass over the rows.
const LANES: usize = 8;
/// Up to this many features the normal equations are solved directly.
const DIRECT: usize = 256;

/// Fits all tasks, each to its own optimum. With the same rows and scaler a fit's bytes do not depend on its companions;
/// with others its last digits do, within what its certificate proves.
///
/// # Errors
/// A class without rows that count, a C that is not above 0, or a fit that does not reach the tolerance.
pub fn fit_logistic(rows: &Rows, tasks: &[Task], options: &Options) -> Result<Vec<Fit>> {
    let kernel = kernel_for(rows, tasks, options)?;
    fit_with(rows, kernel.as_ref(), tasks, options, (&Progress::new(options, tasks.len()), 0))
}

/// Fits all tasks at every C of `path`, in ascending order of C, each from the fit before: `[c][task]`, in the order of
/// `path`. The `c` and `start` of the tasks are not looked at. Inner products of rows are taken once for all.
///
/// # Errors
/// As [`fit_logistic`].
pub fn fit_path(rows: &Rows, tasks: &[Task], path: &[f64], options: &Options) -> Result<Vec<Vec<Fit>>> {
    ensure!(path.iter().all(|c| *c > 0.0 && c.is_finite()), "`c` is not above 0 everywhere in {path:?}";
        help: "write numbers above 0");
    let kernel = kernel_for(rows, tasks, options)?;
    let progress = Progress::new(options, tasks.len() * path.len());
    let mut order: Vec<usize> = (0..path.len()).collect();
    order.sort_by(|a, b| path[*a].total_cmp(&path[*b]));
    let mut fits: Vec<Vec<Fit>> = vec![Vec::new(); path.len()];
    // Duals move smoothly with the logarithm of C: the line through the two fits before points near the next one.
    let mut last: Option<usize> = None;
    let mut trail: Vec<(f64, Vec<Vec<f64>>)> = Vec::new();
    for place in order {
        if let Some(last) = last {
            let duals = fits[last].iter_mut().map(|fit: &mut Fit| std::mem::take(&mut fit.dual)).collect();
            trail.push((path[last].ln(), duals));
        }
        let starts: Vec<Vec<f64>> = match trail.as_slice() {
            [.., (c0, first), (c1, second)] if c1 > c0 => {
                let ahead = (path[place].ln() - c1) / (c1 - c0);
                let line = |(a, b): (&f64, &f64)| b + ahead * (b - a);
                first.iter().zip(second).map(|(a, b)| a.iter().zip(b).map(line).collect()).collect()
            }
            [.., (_, second)] => second.clone(),
            [] => Vec::new(),
        };
        if trail.len() > 1 {
            trail.remove(0);
        }
        let tasks: Vec<Task> = tasks
            .iter()
            .enumerate()
            .map(|(index, task)| Task { c: path[place], start: starts.get(index).map(Vec::as_slice), ..*task })
            .collect();
        fits[place] = fit_with(rows, kernel.as_ref(), &tasks, options, (&progress, place * tasks.len()))?;
        last = Some(place);
    }
    Ok(fits)
}

/// The inner products that fits with many features need; checks the tasks.
fn kernel_for(rows: &Rows, tasks: &[Task], options: &Options) -> Result<Option<kernel::Kernel>> {
    for task in tasks {
        check(rows, task)?;
    }
    Ok((rows.columns() > DIRECT).then(|| kernel::Kernel::new(rows, tasks, options.keeping)))
}

/// Fits all tasks, which are those from a number on for whoever follows.
fn fit_with(
    rows: &Rows,
    kernel: Option<&kernel::Kernel>,
    tasks: &[Task],
    options: &Options,
    (progress, first): (&Progress, usize),
) -> Result<Vec<Fit>> {
    let Some(kernel) = kernel else {
        let fit = |(index, task)| direct::fit(rows, task, options, (progress, first + index));
        return tasks.par_iter().enumerate().map(fit).collect();
    };
    let fit = |(index, tasks)| pack::fit(rows, kernel, tasks, options, (progress, first + index * LANES));
    let packs: Result<Vec<Vec<Fit>>> = tasks.par_chunks(LANES).enumerate().map(fit).collect();
    Ok(packs?.into_iter().flatten().collect())
}

fn check(rows: &Rows, task: &Task) -> Result<()> {
    let n = rows.rows();
    ensure!(
        task.labels.len() == n && task.weights.len() == n,
        "{n} rows have {} labels and {} weights",
        task.labels.len(),
        task.weights.len()
    );
    ensure!(task.scaler.mean.len() == rows.columns(), "the scaler is one of other features");
    ensure!(task.c > 0.0 && task.c.is_finite(), "`c` is {}", task.c; help: "write a number above 0");
    ensure!(task.weights.iter().all(|weight| *weight >= 0.0), "a row has a negative weight");
    for class in [true, false] {
        let rows = task.labels.iter().zip(task.weights).filter(|(label, weight)| **label == class && **weight > 0.0);
        ensure!(
            rows.count() > 0,
            "all rows that count are of class {}: a probe needs both classes", u8::from(!class);
            help: "add rows of class {}, or take folds that keep some", u8::from(class)
        );
    }
    Ok(())
}

/// What is left as a share of a length; 0 where nothing is left.
fn relative(left: f64, length: f64) -> f64 {
    if left > 0.0 { left / length } else { 0.0 }
}

fn not_converged(c: f64, bound: f64, tolerance: f64, products: usize) -> Error {
    Error::experiment(format!(
        "the fit with `c` {c} has not converged: after {products} products its weights are proved to {bound:.1e} of \
         their length, not to {tolerance:.0e}"
    ))
    .with_help("take a smaller `c`, or look for features of wildly different scales with `audit`")
}
