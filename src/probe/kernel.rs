//! Inner products of standardised rows: the matrix in which fits with many features and few rows are solved.

use rayon::prelude::*;

use super::product::{Lane, Rows, mapped_product};
use super::vector::{self, Task};

/// Rows whose inner products with all others are taken at a time.
const BLOCK: usize = 32;

/// Lanes of a product with the matrix.
const LANES: usize = 8;

/// The symmetric matrix of (x_a - mean) diag(inverse_square) (x_b - mean) for some rows, in f32.
pub struct InnerProducts {
    count: usize,
    /// Row after row.
    values: Vec<f32>,
}

/// Takes the inner products of the rows in `chosen`. Costs a multiply-add per value that is not 0 and chosen row, halved
/// by symmetry.
pub fn inner_products(rows: &Rows, chosen: &[usize], mean: &[f64], inverse_square: &[f64]) -> InnerProducts {
    let count = chosen.len();
    let mut all = vec![0.0f32; count * count];
    all.par_chunks_mut((BLOCK * count).max(1)).enumerate().for_each(|(block, out)| {
        let first = block * BLOCK;
        let members = &chosen[first..count.min(first + BLOCK)];
        let scale = |j: usize, x: f64| ((x - mean[j]) * inverse_square[j]) as f32;
        let mut v: Vec<[f32; BLOCK]> = (0..rows.columns())
            .map(|j| std::array::from_fn(|lane| if lane < members.len() { scale(j, 0.0) } else { 0.0 }))
            .collect();
        for (lane, row) in members.iter().enumerate() {
            rows.for_each(*row, |j, x| v[j][lane] = scale(j, x));
        }
        let mut shift = [0.0f64; BLOCK];
        for (v, mean) in v.iter().zip(mean) {
            (0..BLOCK).for_each(|lane| shift[lane] += f64::from(v[lane]) * mean);
        }
        // Rows before the block are taken from the other half afterwards.
        let products = mapped_product(rows, &v, |x, _| x as f32, |row| row >= members[0]);
        for (column, row) in chosen.iter().enumerate().skip(first) {
            for lane in 0..members.len() {
                out[lane * count + column] = products[*row][lane] - shift[lane] as f32;
            }
        }
    });
    for row in 1..count {
        let (above, below) = all.split_at_mut(row * count);
        for (column, value) in below[..row].iter_mut().enumerate() {
            *value = above[column * count + row];
        }
    }
    InnerProducts { count, values: all }
}

impl InnerProducts {
    /// The product with eight vectors, (row, lane) from (row, lane). Sums are taken in an order that depends on the
    /// number of rows alone.
    pub fn product(&self, u: &[[f32; LANES]]) -> Vec<[f32; LANES]> {
        assert_eq!(u.len(), self.count, "one value per row");
        let mut out = vec![[0.0f32; LANES]; self.count];
        out.par_chunks_mut(64).enumerate().for_each(|(block, out)| {
            let matrix = &self.values[block * 64 * self.count..][..out.len() * self.count];
            vector::run(Product { matrix, u, out });
        });
        out
    }
}

/// Rows of the matrix that meet a vector's value together: enough sums to hide the latency of an addition.
const ROWS: usize = 8;

struct Product<'a> {
    matrix: &'a [f32],
    u: &'a [[f32; LANES]],
    out: &'a mut [[f32; LANES]],
}

impl Task for Product<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let count = self.u.len();
        for (rows, out) in self.matrix.chunks(ROWS * count).zip(self.out.chunks_mut(ROWS)) {
            // A block that is not full computes its last row again.
            let last = out.len() - 1;
            let r: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row.min(last) * count..][..count]);
            let mut sums = [[0.0f32; LANES]; ROWS];
            for (j, u) in self.u.iter().enumerate() {
                add::<FUSED>(&mut sums[0], r[0][j], u);
                add::<FUSED>(&mut sums[1], r[1][j], u);
                add::<FUSED>(&mut sums[2], r[2][j], u);
                add::<FUSED>(&mut sums[3], r[3][j], u);
                add::<FUSED>(&mut sums[4], r[4][j], u);
                add::<FUSED>(&mut sums[5], r[5][j], u);
                add::<FUSED>(&mut sums[6], r[6][j], u);
                add::<FUSED>(&mut sums[7], r[7][j], u);
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
        }
    }
}

#[inline(always)]
fn add<const FUSED: bool>(sum: &mut [f32; LANES], x: f32, u: &[f32; LANES]) {
    for lane in 0..LANES {
        sum[lane] = sum[lane].plus_product::<FUSED>(x, u[lane]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::{Matrix, Values};

    #[test]
    fn inner_products_are_those_of_the_rows_that_were_chosen() {
        let (n, d) = (120, 40);
        let values: Vec<f64> = (0..n * d).map(|at| ((at * at % 97) as f64 / 9.0 - 4.0).max(0.0)).collect();
        let matrix = Matrix::new(n, d, Values::Dense64(values.clone())).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        let mean: Vec<f64> = (0..d).map(|j| 1.0 + (j as f64).sin()).collect();
        let inverse: Vec<f64> = (0..d).map(|j| if j == 3 { 0.0 } else { 1.5 + (j as f64).cos() }).collect();
        // 0, 1, 31, 32, 33 and 100 rows: no block, part of one, just one, and several.
        for count in [0, 1, 31, 32, 33, 100] {
            let chosen: Vec<usize> = (0..n).filter(|row| row % 6 != 2).take(count).collect();
            let exact = |a: usize, b: usize| -> f64 {
                let at = |row: usize, j: usize| values[row * d + j] - mean[j];
                (0..d).map(|j| at(chosen[a], j) * inverse[j] * at(chosen[b], j)).sum()
            };
            let found = inner_products(&rows, &chosen, &mean, &inverse);
            let size = (0..count).map(|row| exact(row, row)).fold(0.0, f64::max);
            for (index, value) in found.values.iter().enumerate() {
                let (a, b) = (index / count, index % count);
                assert!((f64::from(*value) - exact(a, b)).abs() <= 1e-5 * size, "{a} {b}: {value}");
                assert_eq!(*value, found.values[b * count + a], "the matrix is symmetric");
            }
            let u: Vec<[f32; LANES]> =
                (0..count).map(|row| std::array::from_fn(|k| ((row * LANES + k) as f32).sin())).collect();
            for (a, lanes) in found.product(&u).iter().enumerate() {
                for (k, value) in lanes.iter().enumerate() {
                    let expected: f64 = (0..count).map(|b| exact(a, b) * f64::from(u[b][k])).sum();
                    assert!((f64::from(*value) - expected).abs() <= 1e-5 * size * 10.0, "{a} {k}: {value}, {expected}");
                }
            }
        }
    }
}
