//! K = Z Z^T as an operator for the steps: the matrix itself where it fits, two passes over the rows where it does not.

use super::LANES;
use super::Task;
use crate::probe::kernel::{InnerProducts, inner_products};
use crate::probe::product::{Rows, mapped_product, transposed_product};

/// Up to this many rows that count, the matrix is kept: 268 MB.
const MOST_ROWS: usize = 8192;

/// Inner products of the rows that count, under one reference standardisation. Fits whose own scaler differs a little
/// take steps that are a little off, and the same points: residuals and proofs never use it.
pub(super) struct Kernel {
    /// Rows that count in some fit.
    pub(super) chosen: Vec<usize>,
    mean: Vec<f64>,
    inverse_square: Vec<f64>,
    matrix: Option<InnerProducts>,
}

impl Kernel {
    pub(super) fn new(rows: &Rows, tasks: &[Task]) -> Self {
        let counts = |row: &usize| tasks.iter().any(|task| task.weights[*row] > 0.0);
        let chosen: Vec<usize> = (0..rows.rows()).filter(counts).collect();
        let (mut mean, mut inverse_square) = (vec![0.0; rows.columns()], vec![0.0; rows.columns()]);
        let mut scalers: Vec<_> = tasks.iter().map(|task| task.scaler).collect();
        scalers.dedup_by(|a, b| std::ptr::eq(*a, *b));
        for j in 0..rows.columns() {
            // A feature that is constant where a fit looks has scale 1 and no part in the fit.
            let varying = scalers.iter().filter(|scaler| scaler.scale[j] != 1.0);
            let count = varying.clone().count() as f64;
            if count > 0.0 {
                mean[j] = varying.clone().map(|scaler| scaler.mean[j]).sum::<f64>() / count;
                inverse_square[j] = varying.map(|scaler| scaler.scale[j].powi(-2)).sum::<f64>() / count;
            }
        }
        let matrix = (chosen.len() <= MOST_ROWS).then(|| inner_products(rows, &chosen, &mean, &inverse_square));
        Kernel { chosen, mean, inverse_square, matrix }
    }

    /// K u for the rows that count: (chosen, lane) from (chosen, lane).
    pub(super) fn product(&self, rows: &Rows, u: &[[f32; LANES]]) -> Vec<[f32; LANES]> {
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
