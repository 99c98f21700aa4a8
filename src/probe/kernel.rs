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
    all.par_chunks_mut(BLOCK * count).enumerate().for_each(|(block, out)| {
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
        // Chunk after chunk and lane after lane, so that a row of the matrix meets them value by value.
        let lanes: Vec<Chunk> = u
            .chunks(WIDTH)
            .map(|rows| std::array::from_fn(|lane| std::array::from_fn(|w| rows.get(w).map_or(0.0, |u| u[lane]))))
            .collect();
        let mut out = vec![[0.0f32; LANES]; self.count];
        out.par_chunks_mut(64).enumerate().for_each(|(block, out)| {
            let matrix = &self.values[block * 64 * self.count..];
            vector::run(Product { matrix, count: self.count, lanes: &lanes, out });
        });
        out
    }
}

/// Values of a row that are multiplied at a time.
const WIDTH: usize = 8;

/// That many rows of all lanes.
type Chunk = [[f32; WIDTH]; LANES];

struct Product<'a> {
    matrix: &'a [f32],
    count: usize,
    lanes: &'a [Chunk],
    out: &'a mut [[f32; LANES]],
}

impl Task for Product<'_> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (pairs, single) = self.out.as_chunks_mut::<2>();
        let mut matrix = self.matrix.chunks_exact(self.count);
        for pair in pairs {
            if let (Some(a), Some(b)) = (matrix.next(), matrix.next()) {
                *pair = two_rows::<FUSED>(a, b, self.lanes);
            }
        }
        for (out, row) in single.iter_mut().zip(matrix) {
            *out = two_rows::<FUSED>(row, row, self.lanes)[0];
        }
    }
}

/// Two rows of the matrix times all lanes.
#[inline(always)]
fn two_rows<const FUSED: bool>(a: &[f32], b: &[f32], lanes: &[Chunk]) -> [[f32; LANES]; 2] {
    let mut sums = [[[0.0f32; WIDTH]; LANES]; 2];
    let (a, a_rest) = a.as_chunks::<WIDTH>();
    let (b, b_rest) = b.as_chunks::<WIDTH>();
    for ((a, b), lanes) in a.iter().zip(b).zip(lanes) {
        add_chunk::<FUSED>(&mut sums, a, b, lanes);
    }
    if let (false, Some(lanes)) = (a_rest.is_empty(), lanes.last()) {
        let mut padded = [[0.0f32; WIDTH]; 2];
        padded[0][..a_rest.len()].copy_from_slice(a_rest);
        padded[1][..b_rest.len()].copy_from_slice(b_rest);
        add_chunk::<FUSED>(&mut sums, &padded[0], &padded[1], lanes);
    }
    sums.map(|row| row.map(|sum| sum.iter().sum()))
}

#[inline(always)]
fn add_chunk<const FUSED: bool>(sums: &mut [Chunk; 2], a: &[f32; WIDTH], b: &[f32; WIDTH], lanes: &Chunk) {
    for lane in 0..LANES {
        for w in 0..WIDTH {
            sums[0][lane][w] = sums[0][lane][w].plus_product::<FUSED>(a[w], lanes[lane][w]);
            sums[1][lane][w] = sums[1][lane][w].plus_product::<FUSED>(b[w], lanes[lane][w]);
        }
    }
}
