//! Per-column sums of each source's rows, in four cells: training or evaluation row, first or second half.

use rayon::prelude::*;

use super::Part;
use crate::ensure;
use crate::error::Result;
use crate::probe::matrix::Matrix;

/// Sums over some rows, per column.
#[derive(Clone, Default)]
pub(super) struct Cell {
    pub rows: usize,
    pub sum: Vec<f64>,
    pub square: Vec<f64>,
    /// Rows in which the column is not 0.
    pub active: Vec<u32>,
}

/// The cells of a source: `[role][half]`, role 0 for training rows.
pub(super) type Moments = [[Cell; 2]; 2];

impl Cell {
    /// Adds the sums of another cell.
    pub fn add(&mut self, other: &Cell) {
        if other.rows == 0 {
            return;
        }
        self.widen(other.sum.len());
        self.rows += other.rows;
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, more)| *sum += more);
        self.square.iter_mut().zip(&other.square).for_each(|(sum, more)| *sum += more);
        self.active.iter_mut().zip(&other.active).for_each(|(sum, more)| *sum += more);
    }

    /// Mean of a column.
    pub fn mean(&self, column: usize) -> f64 {
        self.sum[column] / self.rows as f64
    }

    /// Population variance of a column, 0 where rounding is all there is.
    pub fn variance(&self, column: usize) -> f64 {
        let (mean, rows) = (self.mean(column), self.rows as f64);
        let variance = self.square[column] / rows - mean * mean;
        if variance > 1e-12 * mean * mean { variance } else { 0.0 }
    }

    fn widen(&mut self, columns: usize) {
        self.sum.resize(columns, 0.0);
        self.square.resize(columns, 0.0);
        self.active.resize(columns, 0);
    }

    fn see(&mut self, matrix: &Matrix, row: usize) -> bool {
        self.widen(matrix.columns());
        self.rows += 1;
        let mut finite = true;
        matrix.for_each(row, |column, value| {
            self.sum[column] += value;
            self.square[column] += value * value;
            self.active[column] += 1;
            finite &= value.is_finite();
        });
        finite
    }
}

/// The half that a row belongs to: a coin that depends on its number only, so that no order of rows confounds it.
pub(super) fn half(row: usize) -> usize {
    let mixed = (row as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 63) as usize
}

/// Sums of the rows that are used, one entry per source; empty cells for a source without features.
///
/// # Errors
/// A value that is not finite.
pub(super) fn moments(parts: &[Part<'_>]) -> Result<Vec<Moments>> {
    parts.iter().map(of_source).collect()
}

fn of_source(part: &Part<'_>) -> Result<Moments> {
    let mut all = Moments::default();
    let Some(matrix) = part.source.matrix else { return Ok(all) };
    for (role, rows) in [&part.training, &part.evaluation].into_iter().enumerate() {
        // At most four blocks, whose sums are added in order: the same numbers on any number of threads.
        let block = rows.len().div_ceil(4).max(64);
        let sums = |rows: &[usize]| -> Result<[Cell; 2]> {
            let mut cells = <[Cell; 2]>::default();
            for row in rows {
                let finite = cells[half(*row)].see(matrix, *row);
                ensure!(finite, "row {row} of source `{}` has a value that is not a finite number", part.source.name;
                    help: "check how these features were computed");
            }
            Ok(cells)
        };
        let blocks: Vec<Result<[Cell; 2]>> = rows.par_chunks(block).map(sums).collect();
        for cells in blocks {
            cells?.iter().zip(&mut all[role]).for_each(|(cell, sum)| sum.add(cell));
        }
    }
    Ok(all)
}
