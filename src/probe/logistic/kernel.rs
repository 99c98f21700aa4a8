//! K = Z Z^T as an operator for the steps: the matrix itself where it fits, two passes over the rows where it does not.

use std::sync::Arc;

use super::LANES;
use super::Task;
use crate::probe::kept::Keeping;
use crate::probe::kernel::{InnerProducts, inner_products};
use crate::probe::matrix::{Matrix, Sparse, Values};
use crate::probe::product::{Rows, mapped_product, product, transposed_product};
use crate::probe::scaler::Scaler;

/// Up to this many rows that count, the matrix is kept: 268 MB.
const MOST_ROWS: usize = 8192;

/// Inner products of the rows that count, under one reference standardisation, and what corrects them for the features
/// that a fit scales otherwise. Residuals and proofs never use it.
pub(super) struct Kernel {
    /// Rows that count in some fit.
    pub(super) chosen: Vec<usize>,
    mean: Vec<f64>,
    inverse_square: Vec<f64>,
    matrix: Option<Arc<InnerProducts>>,
    /// Features whose scale differs between the fits, and the rows that count in these features only.
    unequal: Vec<usize>,
    part: Option<Matrix>,
}

/// Two scales of a feature count as one up to this relative difference of their squares: steps that are this much off
/// still lead to the same point.
const NEARLY: f64 = 0.1;

impl Kernel {
    /// The matrix is looked for in `keeping` first.
    pub(super) fn new(rows: &Rows, tasks: &[Task], keeping: Option<Keeping>) -> Self {
        Self::with_matrix_up_to(MOST_ROWS, rows, tasks, keeping)
    }

    fn with_matrix_up_to(most_rows: usize, rows: &Rows, tasks: &[Task], keeping: Option<Keeping>) -> Self {
        let counts = |row: &usize| tasks.iter().any(|task| task.weights[*row] > 0.0);
        let chosen: Vec<usize> = (0..rows.rows()).filter(counts).collect();
        let (mut mean, mut inverse_square) = (vec![0.0; rows.columns()], vec![0.0; rows.columns()]);
        let mut scalers: Vec<_> = tasks.iter().map(|task| task.scaler).collect();
        scalers.dedup_by(|a, b| std::ptr::eq(*a, *b));
        // The standardisation of a fit on all rows is the reference: it is the same whatever the folds and labels are,
        // so that other calls have a use for the matrix.
        let is_whole = |task: &&Task| chosen.iter().all(|row| task.weights[*row] > 0.0);
        let whole = tasks.iter().find(is_whole).map(|task| task.scaler);
        let varies = varying(rows, &chosen);
        for j in (0..rows.columns()).filter(|j| varies[*j]) {
            // A feature that is constant where a fit looks has scale 1 and no part in the fit. One that varies may have
            // scale 1 as well, but hardly beside another fit's other scale.
            let all_one = scalers.iter().all(|scaler| scaler.scale[j] == 1.0);
            let varying = scalers.iter().filter(|scaler| all_one || scaler.scale[j] != 1.0);
            // Without such a fit it is the widest scale: what the other fits add is positive, and nothing cancels.
            let widest = varying.max_by(|a, b| a.scale[j].total_cmp(&b.scale[j])).copied();
            if let Some(reference) = whole.filter(|whole| all_one || whole.scale[j] != 1.0).or(widest) {
                (mean[j], inverse_square[j]) = (reference.mean[j], reference.scale[j].powi(-2));
            }
        }
        // A value of the matrix costs about a ninth of what a value that is not 0 costs in two passes over the rows.
        let pays = chosen.len() <= most_rows && chosen.len() * chosen.len() <= 9 * rows.active();
        let take = || inner_products(rows, &chosen, &mean, &inverse_square);
        let matrix = pays.then(|| match keeping {
            Some(keeping) => keeping.get(rows, &chosen, (&mean, &inverse_square), take),
            None => Arc::new(take()),
        });
        let differs = |j: &usize| {
            let off = |scaler: &&Scaler| (part_of(scaler, *j) - inverse_square[*j]).abs() > NEARLY * inverse_square[*j];
            inverse_square[*j] > 0.0 && scalers.iter().any(off)
        };
        let unequal: Vec<usize> =
            if scalers.len() > 1 { (0..rows.columns()).filter(differs).collect() } else { Vec::new() };
        let part = (!unequal.is_empty()).then(|| restrict(rows, &chosen, &unequal));
        Kernel { chosen, mean, inverse_square, matrix, unequal, part }
    }

    /// What the fits of a pack add to the reference, per unequal feature.
    pub(super) fn correct(&self, tasks: &[Task]) -> Vec<[f32; LANES]> {
        let lane = |j: usize, k: usize| {
            tasks.get(k).map_or(0.0, |task| (part_of(task.scaler, j) - self.inverse_square[j]) as f32)
        };
        self.unequal.iter().map(|j| std::array::from_fn(|k| lane(*j, k))).collect()
    }

    /// K u for the rows that count, up to one number per lane, with the pack's correction: (chosen, lane) from (chosen,
    /// lane). That number is nothing to vectors whose sum is 0, as those of a fit with a free intercept are.
    pub(super) fn product(&self, rows: &Rows, u: &[[f32; LANES]], correction: &[[f32; LANES]]) -> Vec<[f32; LANES]> {
        let mut out = self.reference_product(rows, u);
        if let Some(part) = &self.part {
            let part = Rows::new(&[part]).expect("one matrix");
            let mut g = transposed_product(&part, u, |x, _| x as f32);
            for (g, correction) in g.iter_mut().zip(correction) {
                (0..LANES).for_each(|k| g[k] *= correction[k]);
            }
            for (out, more) in out.iter_mut().zip(product(&part, &g)) {
                (0..LANES).for_each(|k| out[k] += more[k]);
            }
        }
        out
    }

    fn reference_product(&self, rows: &Rows, u: &[[f32; LANES]]) -> Vec<[f32; LANES]> {
        if let Some(matrix) = &self.matrix {
            return matrix.product(u);
        }
        let mut all = vec![[0.0f32; LANES]; rows.rows()];
        let mut sums = [0.0f32; LANES];
        for (row, u) in self.chosen.iter().zip(u) {
            all[*row] = *u;
            (0..LANES).for_each(|k| sums[k] += u[k]);
        }
        let mut g = transposed_product(rows, &all, |x, _| x as f32);
        let mut shift = [0.0f64; LANES];
        for ((g, mean), inverse) in g.iter_mut().zip(&self.mean).zip(&self.inverse_square) {
            for k in 0..LANES {
                g[k] = (g[k] - *mean as f32 * sums[k]) * *inverse as f32;
                shift[k] += f64::from(g[k]) * mean;
            }
        }
        let mut counts = vec![false; rows.rows()];
        self.chosen.iter().for_each(|row| counts[*row] = true);
        let out = mapped_product(rows, &g, |x, _| x as f32, |row| counts[row]);
        self.chosen.iter().map(|row| std::array::from_fn(|k| out[*row][k] - shift[k] as f32)).collect()
    }
}

/// 1 / scale^2 where a feature has a part in a fit.
fn part_of(scaler: &Scaler, j: usize) -> f64 {
    if scaler.scale[j] == 1.0 { 0.0 } else { scaler.scale[j].powi(-2) }
}

/// Some rows in some features.
fn restrict(rows: &Rows, chosen: &[usize], features: &[usize]) -> Matrix {
    let mut place = vec![None; rows.columns()];
    features.iter().enumerate().for_each(|(index, j)| place[*j] = Some(index as u32));
    let mut sparse = Sparse { starts: vec![0], columns: vec![], values: vec![] };
    for row in chosen {
        rows.for_each(*row, |j, x| {
            if let Some(index) = place[j] {
                sparse.columns.push(index);
                sparse.values.push(x as f32);
            }
        });
        sparse.starts.push(sparse.values.len());
    }
    Matrix::new(chosen.len(), features.len(), Values::Sparse32(sparse)).expect("columns ascend as they did in the rows")
}

/// Which features take more than one value among the rows.
fn varying(rows: &Rows, chosen: &[usize]) -> Vec<bool> {
    let mut seen = vec![(0, 0.0, false); rows.columns()]; // how often not 0, its first such value, another one
    for row in chosen {
        rows.for_each(*row, |j, x| {
            let (count, first, other) = &mut seen[j];
            if *count == 0 {
                *first = x;
            }
            *count += 1;
            *other |= x != *first;
        });
    }
    seen.into_iter().map(|(count, _, other)| other || (count > 0 && count < chosen.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::scaler::fit_scalers;

    #[test]
    fn products_are_the_same_with_and_without_the_matrix() {
        let (n, d) = (150, 70);
        let wave = |index: usize| ((index as f64) * 1.7).sin();
        let values = (0..n * d).map(|index| wave(index * index % 9973).max(0.0) * (1.0 + (index % d) as f64)).collect();
        let matrix = Matrix::new(n, d, Values::Dense64(values)).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        let weights: Vec<f64> = (0..n).map(|row| f64::from(u8::from(row % 4 != 1))).collect();
        let scaler = fit_scalers(&rows, &[&weights]).remove(0);
        let labels = vec![true; n];
        let tasks = [Task { labels: &labels, weights: &weights, scaler: &scaler, c: 1.0, start: None }];
        let (with, without) = (Kernel::new(&rows, &tasks, None), Kernel::with_matrix_up_to(10, &rows, &tasks, None));
        assert!(with.matrix.is_some() && without.matrix.is_none());
        let u: Vec<[f32; LANES]> =
            (0..with.chosen.len()).map(|row| std::array::from_fn(|k| wave(row * 8 + k) as f32)).collect();
        let (a, b) = (with.product(&rows, &u, &[]), without.product(&rows, &u, &[]));
        let size = a.iter().flatten().fold(0.0f32, |size, value| size.max(value.abs()));
        assert!(size > 1.0);
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() <= 1e-5 * size, "{a} with the matrix, {b} without");
        }
    }

    #[test]
    fn constant_features_are_told_from_varying_ones() {
        let values = vec![0., 3., 1., 0., -1., 0., 3., 2., 5., -1., 0., 4., 2., 0., -1.];
        let matrix = Matrix::new(3, 5, Values::Dense64(values)).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        assert_eq!(varying(&rows, &[0, 1, 2]), [false, true, true, true, false]);
        assert_eq!(varying(&rows, &[0, 1]), [false, false, true, true, false]);
    }
}
