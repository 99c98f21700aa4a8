//! Products of small matrices: each element is summed over k in ascending order, whatever the number of rows.

use std::mem::MaybeUninit;

/// Columns of a panel: two AVX-512 or four AVX2 vectors.
const PANEL: usize = 32;
/// Rows of k that are packed at a time: 32 kB, which the first-level cache holds.
const BLOCK: usize = 256;
/// Rows of the left matrix that one pass over a panel computes.
const TILE: usize = 8;

/// A matrix inside a slice: element (row, column) is `values[row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows that are contiguous and `stride` apart.
    pub fn rows(values: &'a [f32], stride: usize) -> Self {
        View { values, row_stride: stride, column_stride: 1 }
    }
    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        View { values: self.values, row_stride: self.column_stride, column_stride: self.row_stride }
    }
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// A right-hand matrix cut into panels of 32 columns, for use in many products; empty before it is packed.
#[derive(Clone, Default)]
pub struct Panels {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Replaces the content by `matrix` of (rows, columns).
    pub fn pack(&mut self, matrix: View, rows: usize, columns: usize) {
        assert!(matrix.holds(rows, columns), "matrix is larger than its slice");
        self.rows = rows;
        self.columns = columns;
        self.values.resize(columns.div_ceil(PANEL) * rows * PANEL, 0.0);
        for (index, panel) in self.values.chunks_exact_mut(rows * PANEL).enumerate() {
            let first = index * PANEL;
            pack(matrix, 0, rows, first, PANEL.min(columns - first), panel);
        }
    }

    /// c (rows, outputs) = a (rows, inputs) times the transposed `matrix` (outputs, inputs), or added to it: from these
    /// panels of it, or where they are empty from the matrix itself, which costs time for want of memory. The bits are the
    /// same.
    pub fn multiply(&self, matrix: &[f32], (a, inputs): (&[f32], usize), c: &mut [f32], accumulate: bool) {
        let (rows, outputs) = (a.len() / inputs, matrix.len() / inputs);
        let view = View::rows(a, inputs);
        if self.values.is_empty() {
            let sizes = [rows, inputs, outputs];
            return multiply(c, outputs, view, View::rows(matrix, inputs).transposed(), sizes, accumulate);
        }
        multiply_panels(c, outputs, view, self, rows, accumulate);
    }
}

/// c (m rows, `c_stride` apart) = a (m, k) b (k, n), or added to it.
pub fn multiply_panels(c: &mut [f32], c_stride: usize, a: View, b: &Panels, m: usize, accumulate: bool) {
    let (k, n) = (b.rows, b.columns);
    assert!(a.holds(m, k) && View::rows(c, c_stride).holds(m, n), "matrix is larger than its slice");
    if m == 0 {
        return;
    }
    for (index, panel) in b.values.chunks_exact(k * PANEL).enumerate() {
        let first = index * PANEL;
        let operand = Operand { values: panel, stride: PANEL };
        // SAFETY: the views hold (m, k) and (m, n), and a panel holds k rows of 32 columns.
        unsafe { panel_product(&mut c[first..], c_stride, a, operand, [m, k, PANEL.min(n - first)], accumulate) }
    }
}

/// c (m rows, `c_stride` apart) = a (m, k) b (k, n), or added to it; `sizes` is [m, k, n].
pub fn multiply(c: &mut [f32], c_stride: usize, a: View, b: View, sizes: [usize; 3], accumulate: bool) {
    let [m, k, n] = sizes;
    assert!(a.holds(m, k) && b.holds(k, n) && View::rows(c, c_stride).holds(m, n), "matrix is larger than its slice");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 && !accumulate {
        c.chunks_mut(c_stride).take(m).for_each(|row| row[..n].fill(0.0));
    }
    let mut packed = [MaybeUninit::<f32>::uninit(); BLOCK * PANEL];
    for block in (0..k).step_by(BLOCK) {
        let depth = BLOCK.min(k - block);
        let a = View { values: &a.values[block * a.column_stride..], ..a };
        let accumulate = accumulate || block > 0;
        for first in (0..n).step_by(PANEL) {
            let columns = PANEL.min(n - first);
            let operand = if b.column_stride == 1 && columns == PANEL {
                Operand { values: &b.values[block * b.row_stride + first..], stride: b.row_stride }
            } else {
                // Half a panel is enough for one head of 16 channels.
                let width = if columns <= PANEL / 2 { PANEL / 2 } else { PANEL };
                let packed = &mut packed[..depth * width];
                // SAFETY: `f32` may be written where `MaybeUninit<f32>` stands, and `pack` writes every element before
                // any is read.
                let packed = unsafe { &mut *(std::ptr::from_mut(packed) as *mut [f32]) };
                pack(b, block, depth, first, columns, packed);
                Operand { values: packed, stride: width }
            };
            // SAFETY: the views hold (m, k) and (m, n), and the operand holds `depth` rows of its width.
            unsafe { panel_product(&mut c[first..], c_stride, a, operand, [m, depth, columns], accumulate) }
        }
    }
}

/// Copies rows `from..from + depth` and columns `first..first + columns` of a matrix to the rows of a panel, with zeros
/// in the columns that are left.
fn pack(matrix: View, from: usize, depth: usize, first: usize, columns: usize, panel: &mut [f32]) {
    let width = panel.len() / depth;
    let View { values, row_stride, column_stride } = matrix;
    if column_stride == 1 {
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            out[..columns].copy_from_slice(&values[(from + row) * row_stride + first..][..columns]);
            out[columns..].fill(0.0);
        }
        return;
    }
    if columns < width {
        panel.fill(0.0);
    }
    if row_stride != 1 {
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            for (column, out) in out[..columns].iter_mut().enumerate() {
                *out = values[(from + row) * row_stride + (first + column) * column_stride];
            }
        }
        return;
    }
    // A transpose, in squares of four so that both sides are read and written in runs.
    let column = |column: usize| &values[(first + column) * column_stride + from..][..depth];
    let whole = columns / 4 * 4;
    for left in (0..whole).step_by(4) {
        let sources: [&[f32]; 4] = std::array::from_fn(|offset| column(left + offset));
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            let out: &mut [f32; 4] = (&mut out[left..left + 4]).try_into().expect("four columns");
            *out = [sources[0][row], sources[1][row], sources[2][row], sources[3][row]];
        }
    }
    for left in whole..columns {
        for (out, value) in panel.chunks_exact_mut(width).zip(column(left)) {
            out[left] = *value;
        }
    }
}

/// Rows of 16 or 32 values, `stride` apart.
#[derive(Clone, Copy)]
struct Operand<'a> {
    values: &'a [f32],
    stride: usize,
}

/// The product with one panel; `sizes` is [m, k, columns].
///
/// # Safety
/// `a` holds (m, k), `c` holds m rows of `columns`, and `b` holds k rows of 32 values, or of 16 if its stride is 16.
unsafe fn panel_product(c: &mut [f32], c_stride: usize, a: View, b: Operand, sizes: [usize; 3], accumulate: bool) {
    let [m, k, columns] = sizes;
    let width = if b.stride == PANEL / 2 && columns <= PANEL / 2 { PANEL / 2 } else { PANEL };
    let tile = Tile {
        a: a.values.as_ptr(),
        a_row: a.row_stride,
        a_column: a.column_stride,
        b: b.values.as_ptr(),
        b_row: b.stride,
        c: c.as_mut_ptr(),
        c_row: c_stride,
        k,
        accumulate,
    };
    if columns == width {
        // SAFETY: the caller's promise.
        return unsafe { product(tile, m, width) };
    }
    // The last panel is computed whole beside `c`, and what belongs to `c` is copied.
    let mut edge = [0.0f32; TILE * PANEL];
    for first in (0..m).step_by(TILE) {
        let rows = TILE.min(m - first);
        if accumulate {
            for row in 0..rows {
                edge[row * PANEL..][..columns].copy_from_slice(&c[(first + row) * c_stride..][..columns]);
            }
        }
        // SAFETY: the caller's promise; `edge` holds `TILE` rows of 32.
        unsafe {
            let a = tile.a.add(first * a.row_stride);
            product(Tile { a, c: edge.as_mut_ptr(), c_row: PANEL, ..tile }, rows, width);
        }
        for row in 0..rows {
            c[(first + row) * c_stride..][..columns].copy_from_slice(&edge[row * PANEL..][..columns]);
        }
    }
}

/// Where the operands of a product begin, and how far apart their rows and columns are.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    a_row: usize,
    a_column: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    k: usize,
    accumulate: bool,
}

/// # Safety
/// `tile` holds m rows of `width` (16 or 32) columns.
unsafe fn product(tile: Tile, m: usize, width: usize) {
    #[cfg(target_arch = "x86_64")]
    match super::unit() {
        // SAFETY: the caller's promise, and `unit` has found the features.
        super::Unit::Avx512 => return unsafe { avx512::product(tile, m, width) },
        // SAFETY: as above.
        super::Unit::Avx2 => return unsafe { avx2::product(tile, m, width) },
        super::Unit::Portable => {}
    }
    // SAFETY: the caller's promise.
    unsafe { portable(tile, m, width) }
}

/// # Safety
/// `tile` holds m rows of `width` (16 or 32) columns.
unsafe fn portable(tile: Tile, m: usize, width: usize) {
    for row in 0..m {
        let mut sums = [0.0f32; PANEL];
        // SAFETY: the caller's promise.
        unsafe {
            let c = std::slice::from_raw_parts_mut(tile.c.add(row * tile.c_row), width);
            if tile.accumulate {
                sums[..width].copy_from_slice(c);
            }
            for k in 0..tile.k {
                let a = *tile.a.add(row * tile.a_row + k * tile.a_column);
                let b = std::slice::from_raw_parts(tile.b.add(k * tile.b_row), width);
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = super::fused::<{ cfg!(target_arch = "aarch64") }>(a, *b, *sum);
                }
            }
            c.copy_from_slice(&sums[..width]);
        }
    }
}

/// Defines `product` for one vector unit: tiles of up to `$rows` rows and `$vectors` vectors stay in registers.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_unit {
    ($unit:ident, $features:literal, $vector:ident, $lanes:literal, $rows:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fused:ident) => {
        mod $unit {
            use std::arch::x86_64::*;

            use super::Tile;

            /// # Safety
            /// As [`super::product`].
            #[target_feature(enable = $features)]
            pub unsafe fn product(tile: Tile, m: usize, width: usize) {
                // SAFETY: the caller's promise.
                unsafe {
                    for left in (0..width).step_by(2 * $lanes) {
                        let part = Tile { b: tile.b.add(left), c: tile.c.add(left), ..tile };
                        if width - left == $lanes {
                            columns::<1>(part, m);
                        } else {
                            columns::<2>(part, m);
                        }
                    }
                }
            }

            /// # Safety
            /// As [`super::product`], for `VECTORS` vectors of columns.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn columns<const VECTORS: usize>(tile: Tile, m: usize) {
                let mut row = 0;
                while row < m {
                    // SAFETY: the caller's promise, `row` is below m.
                    unsafe {
                        let rows = Tile { a: tile.a.add(row * tile.a_row), c: tile.c.add(row * tile.c_row), ..tile };
                        row += match m - row {
                            $rows.. => rows_columns::<$rows, VECTORS>(rows),
                            4.. => rows_columns::<4, VECTORS>(rows),
                            2.. => rows_columns::<2, VECTORS>(rows),
                            _ => rows_columns::<1, VECTORS>(rows),
                        };
                    }
                }
            }

            /// # Safety
            /// As [`super::product`], for `ROWS` rows and `VECTORS` vectors of columns.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn rows_columns<const ROWS: usize, const VECTORS: usize>(tile: Tile) -> usize {
                // SAFETY: the caller's promise.
                unsafe {
                    let mut sums: [[$vector; VECTORS]; ROWS] = [[$zero(); VECTORS]; ROWS];
                    if tile.accumulate {
                        for row in 0..ROWS {
                            for vector in 0..VECTORS {
                                sums[row][vector] = $load(tile.c.add(row * tile.c_row + vector * $lanes));
                            }
                        }
                    }
                    let (mut a, mut b) = (tile.a, tile.b);
                    for _ in 0..tile.k {
                        let mut right: [$vector; VECTORS] = [$zero(); VECTORS];
                        for vector in 0..VECTORS {
                            right[vector] = $load(b.add(vector * $lanes));
                        }
                        for row in 0..ROWS {
                            let left = $splat(*a.add(row * tile.a_row));
                            for vector in 0..VECTORS {
                                sums[row][vector] = $fused(left, right[vector], sums[row][vector]);
                            }
                        }
                        a = a.wrapping_add(tile.a_column);
                        b = b.wrapping_add(tile.b_row);
                    }
                    for row in 0..ROWS {
                        for vector in 0..VECTORS {
                            $store(tile.c.add(row * tile.c_row + vector * $lanes), sums[row][vector]);
                        }
                    }
                }
                ROWS
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
vector_unit!(
    avx512,
    "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma",
    __m512,
    16,
    8,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
vector_unit!(
    avx2,
    "avx2,fma",
    __m256,
    8,
    6,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..count).map(|_| random.normal() as f32).collect()
    }

    /// The definition, in f64.
    fn reference(a: View, b: View, [m, k, n]: [usize; 3]) -> Vec<f64> {
        let at = |view: View, row: usize, column: usize| {
            f64::from(view.values[row * view.row_stride + column * view.column_stride])
        };
        let element = |index: usize| (0..k).map(|k| at(a, index / n, k) * at(b, k, index % n)).sum();
        (0..m * n).map(element).collect()
    }

    #[test]
    fn products_agree_with_the_definition() {
        for (index, sizes) in
            [[1, 1, 1], [13, 7, 5], [8, 64, 32], [30, 16, 30], [30, 30, 16], [5, 300, 70], [64, 513, 33], [3, 9, 31]]
                .into_iter()
                .enumerate()
        {
            let [m, k, n] = sizes;
            let (a, b) = (noise(m * k, index as u64), noise(k * n, 99 + index as u64));
            let lefts = [View::rows(&a, k), View::rows(&a, m).transposed()];
            let rights = [View::rows(&b, n), View::rows(&b, k).transposed()];
            for (left, right) in lefts.into_iter().flat_map(|left| rights.map(|right| (left, right))) {
                let expected = reference(left, right, sizes);
                let stride = n + 3;
                let mut c = vec![0.5; m * stride];
                multiply(&mut c, stride, left, right, sizes, true);
                let mut panels = Panels::default();
                panels.pack(right, k, n);
                let mut d = vec![0.0; m * stride];
                multiply_panels(&mut d, stride, left, &panels, m, false);
                for (index, expected) in expected.iter().enumerate() {
                    let at = index / n * stride + index % n;
                    assert!((f64::from(c[at]) - 0.5 - expected).abs() < 1e-4, "{sizes:?} {index}");
                    assert!((f64::from(d[at]) - expected).abs() < 1e-4, "{sizes:?} {index}");
                }
                assert!((0..m).all(|row| c[row * stride + n..][..3] == [0.5; 3]), "wrote beside {sizes:?}");
            }
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_company() {
        let (m, k, n) = (29, 300, 70);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let mut panels = Panels::default();
        panels.pack(View::rows(&b, n), k, n);
        let run = |rows: std::ops::Range<usize>| {
            let mut c = vec![0.0; rows.len() * n];
            multiply_panels(&mut c, n, View::rows(&a[rows.start * k..], k), &panels, rows.len(), false);
            c
        };
        let all = run(0..m);
        for row in 0..m {
            assert_eq!(run(row..row + 1), all[row * n..][..n]);
        }
        assert_eq!(run(3..16), all[3 * n..16 * n]);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn vector_units_agree_bit_for_bit() {
        if super::super::unit() != super::super::Unit::Avx512 {
            return;
        }
        let (m, k) = (11, 77);
        let (a, b) = (noise(m * k, 3), noise(k * PANEL, 4));
        let [mut wide, mut narrow] = [vec![0.0f32; m * PANEL], vec![0.0; m * PANEL]];
        let tile = Tile {
            a: a.as_ptr(),
            a_row: k,
            a_column: 1,
            b: b.as_ptr(),
            b_row: PANEL,
            c: wide.as_mut_ptr(),
            c_row: PANEL,
            k,
            accumulate: false,
        };
        // SAFETY: the sizes are those of the buffers, and AVX-512 implies AVX2.
        unsafe {
            avx512::product(tile, m, PANEL);
            avx2::product(Tile { c: narrow.as_mut_ptr(), ..tile }, m, PANEL);
        }
        assert_eq!(wide, narrow);
    }

    /// `cargo test --release --lib speed_of_products -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_products() {
        let measure = |name: &str, [m, k, n]: [usize; 3], run: &mut dyn FnMut()| {
            let best = (0..200).map(|_| {
                let start = std::time::Instant::now();
                (0..10).for_each(|_| run());
                start.elapsed().as_secs_f64() / 10.0
            });
            let best = best.fold(f64::INFINITY, f64::min);
            println!("{name} {m} {k} {n}: {:.0} GFLOP/s, {:.2} us", 2e-9 * (m * k * n) as f64 / best, best * 1e6);
        };
        for [m, k, n] in [[512, 64, 64], [512, 64, 384], [512, 192, 64], [64, 64, 2500]] {
            let (a, b, mut c) = (noise(m * k, 1), noise(n * k, 2), vec![0.0; m * n]);
            let mut panels = Panels::default();
            measure("pack", [1, k, n], &mut || panels.pack(View::rows(&b, k).transposed(), k, n));
            measure("forward", [m, k, n], &mut || multiply_panels(&mut c, n, View::rows(&a, k), &panels, m, false));
            let mut d_input = vec![0.0; m * k];
            let sizes = [m, n, k];
            measure("d_input", sizes, &mut || {
                multiply(&mut d_input, k, View::rows(&c, n), View::rows(&b, k), sizes, false);
            });
            let mut d_matrix = vec![0.0; n * k];
            let sizes = [n, m, k];
            measure("d_matrix", sizes, &mut || {
                let d = View::rows(&c, n).transposed();
                multiply(&mut d_matrix, k, d, View::rows(&a, k), sizes, false);
            });
        }
        let (q, mut p, mut out) = (noise(30 * 128, 3), vec![0.0; 900], vec![0.0; 30 * 64]);
        measure("scores", [30, 16, 30], &mut || {
            let keys = View::rows(&q[64..], 128).transposed();
            multiply(&mut p, 30, View::rows(&q, 128), keys, [30, 16, 30], false);
        });
        measure("values", [30, 30, 16], &mut || {
            multiply(&mut out, 64, View::rows(&p, 30), View::rows(&q[64..], 128), [30, 30, 16], false);
        });
        measure("d_values", [30, 30, 16], &mut || {
            multiply(&mut out, 64, View::rows(&p, 30).transposed(), View::rows(&q, 64), [30, 30, 16], false);
        });
    }

    #[test]
    fn a_matrix_that_is_not_packed_gives_the_same_bits() {
        for [rows, inputs, outputs] in [[1, 5, 3], [9, 300, 70], [64, 512, 33]] {
            let (a, matrix) = (noise(rows * inputs, 1), noise(outputs * inputs, 2));
            let mut panels = Panels::default();
            panels.pack(View::rows(&matrix, inputs).transposed(), inputs, outputs);
            for accumulate in [false, true] {
                let (mut packed, mut plain) = (noise(rows * outputs, 3), noise(rows * outputs, 3));
                panels.multiply(&matrix, (&a, inputs), &mut packed, accumulate);
                Panels::default().multiply(&matrix, (&a, inputs), &mut plain, accumulate);
                assert_eq!(packed, plain);
            }
        }
    }
}
