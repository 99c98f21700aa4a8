//! Products of all rows with several vectors at once: the only thing that fits do with activations.
//!
//! Sums are taken in an order that depends on the rows alone, so results are the same bytes on any number of threads.

use rayon::prelude::*;

use super::matrix::{Matrix, Sparse, Values};
use super::vector::{self, Task};
use crate::error::{Result, ensure};

/// The rows of one or more matrices of the same features, numbered through.
pub struct Rows<'a> {
    parts: Vec<&'a Matrix>,
    rows: usize,
    columns: usize,
    active: usize,
    /// Rows that one task handles: of part, from, to, number of the first row.
    blocks: Vec<Block>,
    /// Blocks whose sums are taken together, about equally much to read.
    groups: Vec<std::ops::Range<usize>>,
    /// Features of a tile.
    tile: usize,
    /// Where every tile of features starts among the values of a row: (row, tiles + 1); 0 for dense parts.
    tiles: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Block {
    part: usize,
    from: usize,
    to: usize,
    first: usize,
}

/// Sums over rows are taken in up to this many groups, whatever the number of threads; in fewer where a group would have
/// less to read than to add up.
const GROUPS: usize = 8;
/// Features that a pass takes at a time, so that their vectors stay in the first-level cache.
const TILE: usize = 512;
/// Values that a row has in a tile on average at least; where it has fewer, a tile is all features.
const LEAST_IN_TILE: usize = 16;

impl<'a> Rows<'a> {
    /// # Errors
    /// No matrix, or matrices with different numbers of features.
    pub fn new(parts: &[&'a Matrix]) -> Result<Self> {
        ensure!(!parts.is_empty(), "there are no rows to fit");
        let columns = parts[0].columns();
        for part in parts {
            ensure!(
                part.columns() == columns,
                "activations with {} and {columns} features cannot stand in one matrix", part.columns();
                help: "use activations of the same layer and dictionary"
            );
        }
        let (mut blocks, mut first) = (Vec::new(), 0);
        for (part, matrix) in parts.iter().enumerate() {
            let step = 64;
            for from in (0..matrix.rows()).step_by(step) {
                let to = matrix.rows().min(from + step);
                blocks.push(Block { part, from, to, first: first + from });
            }
            first += matrix.rows();
        }
        let load: Vec<usize> = blocks
            .iter()
            .map(|block: &Block| match parts[block.part].values() {
                Values::Sparse32(sparse) => sparse.starts[block.to] - sparse.starts[block.from],
                Values::Sparse64(sparse) => sparse.starts[block.to] - sparse.starts[block.from],
                _ => (block.to - block.from) * columns,
            })
            .collect();
        let total: usize = load.iter().sum();
        let wanted = (total / (16 * columns.max(1))).clamp(1, GROUPS);
        let (mut groups, mut start, mut sum) = (Vec::with_capacity(GROUPS), 0, 0);
        for (block, load) in load.iter().enumerate() {
            sum += load;
            if sum * wanted >= total * (groups.len() + 1) || block + 1 == blocks.len() {
                groups.push(start..block + 1);
                start = block + 1;
            }
        }
        let tile = if total * TILE >= LEAST_IN_TILE * first * columns { TILE } else { columns.max(1) };
        let tiles = blocks.par_iter().flat_map_iter(|block| tile_starts(parts[block.part], block, tile)).collect();
        Ok(Rows { parts: parts.to_vec(), rows: first, columns, active: total, blocks, groups, tile, tiles })
    }
    /// Rows of all parts.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Features.
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// Calls `see(column, value)` for what is not 0 in a row.
    pub fn for_each(&self, row: usize, see: impl FnMut(usize, f64)) {
        let mut row = row;
        for part in &self.parts {
            if row < part.rows() {
                return part.for_each(row, see);
            }
            row -= part.rows();
        }
    }
    fn tiles_of(&self, block: &Block) -> &[u32] {
        let width = self.columns.div_ceil(self.tile) + 1;
        &self.tiles[block.first * width..][..(block.to - block.from) * width]
    }
    /// Values that a pass reads: those that are not 0, or all of dense parts.
    pub fn active(&self) -> usize {
        self.active
    }
    /// The matrices.
    pub fn parts(&self) -> &[&'a Matrix] {
        &self.parts
    }
}

fn tile_starts(matrix: &Matrix, block: &Block, tile: usize) -> Vec<u32> {
    let ends = || (0..=matrix.columns().div_ceil(tile)).map(|number| number * tile);
    let of_row = |columns: &[u32]| -> Vec<u32> {
        ends().map(|end| columns.partition_point(|column| (*column as usize) < end) as u32).collect()
    };
    let rows = (block.from..block.to).flat_map(|row| match matrix.values() {
        Values::Sparse32(x) => of_row(&x.columns[x.starts[row]..x.starts[row + 1]]),
        Values::Sparse64(x) => of_row(&x.columns[x.starts[row]..x.starts[row + 1]]),
        _ => ends().map(|_| 0).collect(),
    });
    rows.collect()
}

/// A number that a lane holds.
pub trait Lane: Copy + Default + Send + Sync + std::ops::AddAssign + PartialEq {
    /// Rounded to this type.
    fn of(value: f64) -> Self;
    /// self + a b, in one rounding where the processor can.
    fn plus_product<const FUSED: bool>(self, a: Self, b: Self) -> Self;
}

macro_rules! lane {
    ($type:ty) => {
        impl Lane for $type {
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn plus_product<const FUSED: bool>(self, a: Self, b: Self) -> Self {
                if FUSED { a.mul_add(b, self) } else { a * b + self }
            }
        }
    };
}
lane!(f32);
lane!(f64);

/// X v for `L` vectors: (rows, L) from (columns, L).
pub fn product<T: Lane, const L: usize>(rows: &Rows, v: &[[T; L]]) -> Vec<[T; L]> {
    mapped_product(rows, v, |value, _| T::of(value), |_| true)
}

/// The same with f(value, column) in place of each value, f(0, column) being 0, and only for the rows that are wanted;
/// the others are 0.
pub fn mapped_product<T: Lane, const L: usize>(
    rows: &Rows,
    v: &[[T; L]],
    map: impl Fn(f64, usize) -> T + Copy + Sync,
    wanted: impl Fn(usize) -> bool + Sync,
) -> Vec<[T; L]> {
    assert_eq!(v.len(), rows.columns, "one value per feature");
    let mut out = vec![[T::default(); L]; rows.rows];
    let mut left = out.as_mut_slice();
    let mut tasks = Vec::with_capacity(rows.blocks.len());
    for block in &rows.blocks {
        let (head, tail) = std::mem::take(&mut left).split_at_mut(block.to - block.from);
        tasks.push((*block, head));
        left = tail;
    }
    tasks.into_par_iter().for_each(|(block, out)| {
        let wanted = |row: usize| wanted(block.first + row - block.from);
        let from = block.from;
        let tiles = rows.tiles_of(&block);
        match rows.parts[block.part].values() {
            Values::Dense32(all) => {
                let x = Dense { values: all, columns: rows.columns };
                vector::run(Gather { x, v, out, from, map, wanted, tiles, tile: rows.tile });
            }
            Values::Dense64(all) => {
                let x = Dense { values: all, columns: rows.columns };
                vector::run(Gather { x, v, out, from, map, wanted, tiles, tile: rows.tile });
            }
            Values::Sparse32(x) => vector::run(Gather { x, v, out, from, map, wanted, tiles, tile: rows.tile }),
            Values::Sparse64(x) => vector::run(Gather { x, v, out, from, map, wanted, tiles, tile: rows.tile }),
        }
    });
    out
}

/// X^T u for `L` vectors, with f(value, column) in place of each value, f(0, column) being 0: (columns, L) from
/// (rows, L). Rows whose u is 0 in every lane are not read.
pub fn transposed_product<T: Lane, const L: usize>(
    rows: &Rows,
    u: &[[T; L]],
    map: impl Fn(f64, usize) -> T + Copy + Sync,
) -> Vec<[T; L]> {
    assert_eq!(u.len(), rows.rows, "one value per row");
    let partial: Vec<Vec<[T; L]>> = rows
        .groups
        .par_iter()
        .map(|group| {
            let mut sum = vec![[T::default(); L]; rows.columns];
            for block in &rows.blocks[group.clone()] {
                let u = &u[block.first..][..block.to - block.from];
                let (from, out) = (block.from, sum.as_mut_slice());
                let tiles = rows.tiles_of(block);
                match rows.parts[block.part].values() {
                    Values::Dense32(all) => {
                        let x = Dense { values: all, columns: rows.columns };
                        vector::run(Scatter { x, u, out, from, map, tiles, tile: rows.tile });
                    }
                    Values::Dense64(all) => {
                        let x = Dense { values: all, columns: rows.columns };
                        vector::run(Scatter { x, u, out, from, map, tiles, tile: rows.tile });
                    }
                    Values::Sparse32(x) => vector::run(Scatter { x, u, out, from, map, tiles, tile: rows.tile }),
                    Values::Sparse64(x) => vector::run(Scatter { x, u, out, from, map, tiles, tile: rows.tile }),
                }
            }
            sum
        })
        .collect();
    let mut partial = partial.into_iter();
    let mut total = partial.next().unwrap_or_else(|| vec![[T::default(); L]; rows.columns]);
    let rest: Vec<_> = partial.collect();
    total.par_chunks_mut(1024).enumerate().for_each(|(chunk, total)| {
        for part in &rest {
            for (total, value) in total.iter_mut().zip(&part[chunk * 1024..]) {
                (0..L).for_each(|lane| total[lane] += value[lane]);
            }
        }
    });
    total
}

/// The values of a row, in ascending order of columns.
trait Layout: Copy {
    type Value: Copy + Into<f64>;
    /// Columns (none when all are there) and values.
    fn row(&self, row: usize) -> (Option<&[u32]>, &[Self::Value]);
}

#[derive(Clone, Copy)]
struct Dense<'a, V> {
    values: &'a [V],
    columns: usize,
}

impl<V: Copy + Into<f64>> Layout for Dense<'_, V> {
    type Value = V;
    #[inline(always)]
    fn row(&self, row: usize) -> (Option<&[u32]>, &[V]) {
        (None, &self.values[row * self.columns..][..self.columns])
    }
}

impl<V: Copy + Into<f64>> Layout for &Sparse<V> {
    type Value = V;
    #[inline(always)]
    fn row(&self, row: usize) -> (Option<&[u32]>, &[V]) {
        let range = self.starts[row]..self.starts[row + 1];
        (Some(&self.columns[range.clone()]), &self.values[range])
    }
}

struct Gather<'a, X, T, const L: usize, F, W> {
    x: X,
    v: &'a [[T; L]],
    out: &'a mut [[T; L]],
    from: usize,
    map: F,
    wanted: W,
    tiles: &'a [u32],
    tile: usize,
}

impl<X: Layout, T: Lane, const L: usize, F: Fn(f64, usize) -> T, W: Fn(usize) -> bool> Task
    for Gather<'_, X, T, L, F, W>
{
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let width = self.v.len().div_ceil(self.tile) + 1;
        for (tile, v) in self.v.chunks(self.tile).enumerate() {
            let first = tile * self.tile;
            for (index, out) in self.out.iter_mut().enumerate().filter(|(index, _)| (self.wanted)(self.from + index)) {
                // Four sums at a time hide the latency of an addition.
                let mut sums = [[T::default(); L]; 4];
                match self.x.row(self.from + index) {
                    (Some(columns), values) => {
                        let starts = &self.tiles[index * width + tile..];
                        let range = starts[0] as usize..starts[1] as usize;
                        let (fours, rest) = columns[range.clone()].as_chunks::<4>();
                        let (values, last) = values[range].as_chunks::<4>();
                        for (columns, values) in fours.iter().zip(values) {
                            for k in 0..4 {
                                let column = columns[k] as usize;
                                let x = (self.map)(values[k].into(), column);
                                add::<T, L, FUSED>(&mut sums[k], x, &v[column - first]);
                            }
                        }
                        for (column, value) in rest.iter().zip(last) {
                            let column = *column as usize;
                            let x = (self.map)((*value).into(), column);
                            add::<T, L, FUSED>(&mut sums[0], x, &v[column - first]);
                        }
                    }
                    (None, values) => {
                        let (fours, rest) = values[first..first + v.len()].as_chunks::<4>();
                        let (v, last) = v.as_chunks::<4>();
                        for (index, (values, v)) in fours.iter().zip(v).enumerate() {
                            for k in 0..4 {
                                let x = (self.map)(values[k].into(), first + 4 * index + k);
                                add::<T, L, FUSED>(&mut sums[k], x, &v[k]);
                            }
                        }
                        for (k, (value, v)) in rest.iter().zip(last).enumerate() {
                            let x = (self.map)((*value).into(), first + 4 * fours.len() + k);
                            add::<T, L, FUSED>(&mut sums[0], x, v);
                        }
                    }
                }
                for lane in 0..L {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|sum| sums[sum][lane]);
                    out[lane] += a;
                    out[lane] += b;
                    out[lane] += c;
                    out[lane] += d;
                }
            }
        }
    }
}

struct Scatter<'a, X, T, const L: usize, F> {
    x: X,
    u: &'a [[T; L]],
    out: &'a mut [[T; L]],
    from: usize,
    map: F,
    tiles: &'a [u32],
    tile: usize,
}

impl<X: Layout, T: Lane, const L: usize, F: Fn(f64, usize) -> T> Task for Scatter<'_, X, T, L, F> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let width = self.out.len().div_ceil(self.tile) + 1;
        for (tile, out) in self.out.chunks_mut(self.tile).enumerate() {
            let first = tile * self.tile;
            for (index, u) in self.u.iter().enumerate().filter(|(_, u)| **u != [T::default(); L]) {
                match self.x.row(self.from + index) {
                    (Some(columns), values) => {
                        let starts = &self.tiles[index * width + tile..];
                        let range = starts[0] as usize..starts[1] as usize;
                        for (column, value) in columns[range.clone()].iter().zip(&values[range]) {
                            let column = *column as usize;
                            add::<T, L, FUSED>(&mut out[column - first], (self.map)((*value).into(), column), u);
                        }
                    }
                    (None, values) => {
                        for (column, (out, value)) in (first..).zip(out.iter_mut().zip(&values[first..])) {
                            add::<T, L, FUSED>(out, (self.map)((*value).into(), column), u);
                        }
                    }
                }
            }
        }
    }
}

/// sum + x v, lane by lane. A function and not a closure: it must become part of its caller's vector code.
#[inline(always)]
fn add<T: Lane, const L: usize, const FUSED: bool>(sum: &mut [T; L], x: T, v: &[T; L]) {
    for lane in 0..L {
        sum[lane] = sum[lane].plus_product::<FUSED>(x, v[lane]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(row: usize, column: usize) -> f64 {
        let mixed = (row * 7919 + column * 104_729 + row * column * 31) % 1009;
        if mixed.is_multiple_of(3) { 0.0 } else { mixed as f64 / 64.0 - 7.0 }
    }

    fn wave(index: usize) -> f64 {
        (index as f64 * 1.7).sin()
    }

    /// The same 130 + 75 rows in all four layouts: more than a block of rows and, with 1100 columns, than two tiles.
    fn layouts(columns: usize, from: usize, rows: usize) -> Vec<Matrix> {
        let all: Vec<f64> = (0..rows * columns).map(|at| value(from + at / columns, at % columns)).collect();
        let (mut wide, mut narrow) = (Sparse::default(), Sparse::default());
        (wide.starts, narrow.starts) = (vec![0], vec![0]);
        for row in all.chunks(columns) {
            for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                wide.columns.push(column as u32);
                wide.values.push(*value);
                narrow.values.push(*value as f32);
            }
            wide.starts.push(wide.values.len());
        }
        (narrow.starts, narrow.columns) = (wide.starts.clone(), wide.columns.clone());
        let narrow_values = all.iter().map(|value| *value as f32).collect();
        let layouts =
            [Values::Dense64(all), Values::Dense32(narrow_values), Values::Sparse64(wide), Values::Sparse32(narrow)];
        layouts.into_iter().map(|values| Matrix::new(rows, columns, values).unwrap()).collect()
    }

    fn assert_near(found: &[[f64; 3]], expected: impl Fn(usize, usize) -> f64) {
        for (index, found) in found.iter().enumerate() {
            for (lane, found) in found.iter().enumerate() {
                let expected = expected(index, lane);
                assert!((found - expected).abs() <= 1e-10 * (1.0 + expected.abs()), "{index}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn products_are_the_sums_that_they_stand_for() {
        for columns in [1, 7, 512, 1100] {
            let v: Vec<[f64; 3]> = (0..columns).map(|j| std::array::from_fn(|k| wave(3 * j + k))).collect();
            let u: Vec<[f64; 3]> = (0..205).map(|row| std::array::from_fn(|k| wave(7 * row + k))).collect();
            for (first, second) in layouts(columns, 0, 130).iter().zip(layouts(columns, 130, 75).iter().rev()) {
                let rows = Rows::new(&[first, second]).unwrap();
                assert_eq!((rows.rows(), rows.columns()), (205, columns));
                assert_near(&product(&rows, &v), |row, k| (0..columns).map(|j| value(row, j) * v[j][k]).sum());
                assert_near(&transposed_product(&rows, &u, |x, _| x), |j, k| {
                    (0..205).map(|row| value(row, j) * u[row][k]).sum()
                });
            }
        }
    }

    #[test]
    fn maps_see_value_and_column_and_rows_that_are_not_wanted_are_skipped() {
        let columns = 600;
        let v: Vec<[f64; 3]> = (0..columns).map(|j| std::array::from_fn(|k| wave(3 * j + k))).collect();
        let map = |x: f64, column: usize| x * x * (1.0 + column as f64);
        let wanted = |row: usize| row % 3 == 1;
        for matrix in layouts(columns, 0, 140) {
            let rows = Rows::new(&[&matrix]).unwrap();
            let found = mapped_product(&rows, &v, map, wanted);
            assert_near(&found, |row, k| {
                let sum = (0..columns).map(|j| map(value(row, j), j) * v[j][k]).sum();
                if wanted(row) { sum } else { 0.0 }
            });
            assert!((0..140).filter(|row| !wanted(*row)).all(|row| found[row] == [0.0; 3]));
            let mut u = vec![[0.0; 3]; 140];
            (u[5], u[139]) = ([1.0, 0.0, -2.0], [0.0, 3.0, 1.0]);
            let found = transposed_product(&rows, &u, map);
            assert_near(&found, |j, k| map(value(5, j), j) * u[5][k] + map(value(139, j), j) * u[139][k]);
        }
    }

    #[test]
    fn products_are_the_same_bytes_on_any_number_of_threads() {
        let v: Vec<[f32; 8]> = (0..700).map(|j| [wave(j) as f32; 8]).collect();
        let u: Vec<[f32; 8]> = (0..500).map(|row| [wave(row) as f32; 8]).collect();
        for matrix in layouts(700, 0, 500) {
            let rows = Rows::new(&[&matrix]).unwrap();
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| (product(&rows, &v), transposed_product(&rows, &u, |x, _| x as f32)))
            };
            assert!(with(1) == with(3));
        }
    }

    #[test]
    fn rows_of_different_features_do_not_stand_together() {
        assert!(Rows::new(&[]).is_err());
        let (narrow, wide) = (layouts(2, 0, 3).remove(0), layouts(3, 0, 3).remove(0));
        assert!(Rows::new(&[&narrow, &wide]).err().unwrap().message.contains("3 and 2 features"));
    }

    #[test]
    fn rows_are_numbered_through_all_parts() {
        let (first, second) = (layouts(9, 0, 70).remove(0), layouts(9, 70, 4).remove(2));
        let rows = Rows::new(&[&first, &second]).unwrap();
        for row in [0, 69, 70, 73] {
            let mut seen = [0.0; 9];
            rows.for_each(row, |column, x| seen[column] = x);
            assert_eq!(seen, std::array::from_fn(|column| value(row, column)));
        }
    }
}
