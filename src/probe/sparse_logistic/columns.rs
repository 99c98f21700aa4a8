//! The used rows, column after column, standardised without being made dense.

use rayon::prelude::*;

use super::super::product::Rows;
use super::super::scaler::Scaler;

/// Compressed columns of the rows whose weight is above 0. The standardised value is the stored one - `offset`.
pub(super) struct Columns {
    /// Where each column begins; one more at the end.
    starts: Vec<usize>,
    /// Number of the row among the used ones.
    rows: Vec<u32>,
    /// Over the scale.
    values: Vec<f64>,
    /// Mean over scale; 0 for a column that is active in all rows, whose values are centred themselves, and for one
    /// that is the same in all rows, which is left empty.
    offset: Vec<f64>,
}

impl Columns {
    /// The rows whose weight is above 0.
    pub(super) fn new(rows: &Rows, weights: &[f64], scaler: &Scaler) -> Self {
        let count = rows.columns();
        let mut counts = vec![0usize; count];
        for_each_used(rows, weights, |_, column, _| counts[column] += 1);
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        for (column, count) in counts.iter().enumerate() {
            starts.push(starts[column] + count);
        }
        let mut next = starts.clone();
        let (mut places, mut values) = (vec![0u32; starts[count]], vec![0.0; starts[count]]);
        for_each_used(rows, weights, |row, column, value| {
            places[next[column]] = row as u32;
            values[next[column]] = value;
            next[column] += 1;
        });
        let used = weights.iter().filter(|weight| **weight > 0.0).count();
        let mut offset = vec![0.0; count];
        let (mut kept, mut kept_starts) = (0, Vec::with_capacity(count + 1));
        kept_starts.push(0);
        for column in 0..count {
            let range = starts[column]..starts[column + 1];
            let (mean, scale, full) = (scaler.mean[column], scaler.scale[column], range.len() == used);
            let constant =
                range.is_empty() || (full && values[range.clone()].iter().all(|v| *v == values[range.start]));
            if !constant {
                let shift = if full { mean } else { 0.0 };
                offset[column] = (mean - shift) / scale;
                for from in range {
                    places[kept] = places[from];
                    values[kept] = (values[from] - shift) / scale;
                    kept += 1;
                }
            }
            kept_starts.push(kept);
        }
        places.truncate(kept);
        values.truncate(kept);
        Columns { starts: kept_starts, rows: places, values, offset }
    }

    /// Number of columns.
    pub(super) fn count(&self) -> usize {
        self.offset.len()
    }
    /// What is taken off the stored values of a column.
    pub(super) fn offset(&self, column: usize) -> f64 {
        self.offset[column]
    }
    /// Rows and stored values of a column.
    pub(super) fn column(&self, column: usize) -> (&[u32], &[f64]) {
        let range = self.starts[column]..self.starts[column + 1];
        (&self.rows[range.clone()], &self.values[range])
    }
    /// Stored values of a column times u.
    pub(super) fn stored_product(&self, column: usize, u: &[f64]) -> f64 {
        let (rows, values) = self.column(column);
        gather_product(rows, values, u)
    }
    /// All columns, standardised, times u.
    pub(super) fn product(&self, u: &[f64]) -> Vec<f64> {
        let sum: f64 = u.iter().sum();
        let of_column = |column: usize| self.stored_product(column, u) - self.offset[column] * sum;
        (0..self.count()).into_par_iter().with_min_len(64).map(of_column).collect()
    }
}

/// Sum of value times u at its row, four sums at a time.
pub(super) fn gather_product(rows: &[u32], values: &[f64], u: &[f64]) -> f64 {
    let (fours, rest) = rows.as_chunks::<4>();
    let (heads, tail) = values.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (rows, values) in fours.iter().zip(heads) {
        (0..4).for_each(|k| sums[k] += values[k] * u[rows[k] as usize]);
    }
    let last: f64 = rest.iter().zip(tail).map(|(row, value)| value * u[*row as usize]).sum();
    sums[0] + sums[1] + sums[2] + sums[3] + last
}

fn for_each_used(rows: &Rows, weights: &[f64], mut see: impl FnMut(usize, usize, f64)) {
    let (mut number, mut used) = (0, 0);
    for part in rows.parts() {
        for row in 0..part.rows() {
            if weights[number] > 0.0 {
                part.for_each(row, |column, value| see(used, column, value));
                used += 1;
            }
            number += 1;
        }
    }
}
