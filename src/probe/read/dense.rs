//! Turns a dense array of floating point numbers into a matrix: sparse where few values are not 0, else dense.

use rayon::prelude::*;

use super::array::{Array, Element, widen_brain, widen_half};
use crate::error::{Result, bail, ensure};
use crate::probe::matrix::{Matrix, Sparse, Values};

/// Matrices with a smaller share of values that are not 0 are kept sparse: then 8 bytes a value take less room, and
/// passes over the rows less time, than 4 bytes for every place.
pub(super) const SPARSE_BELOW: f64 = 0.30;
/// Rows that one task reads: as many as fill the lines of the cache that a column-major file is read by.
const ROWS_PER_TASK: usize = 32;

/// Reads a two-dimensional array of floats. Halves and bfloat16 become f32, which holds them exactly. The bytes are
/// read twice, to count and to fill, and the result is the only copy.
///
/// # Errors
/// Elements that are no floats; another number of dimensions than two; no rows or columns.
pub(super) fn read_dense(array: &Array) -> Result<Matrix> {
    array.check_float()?;
    let narrow = (Values::Dense32 as fn(Vec<f32>) -> Values, Values::Sparse32 as fn(Sparse<f32>) -> Values);
    let wide = (Values::Dense64 as fn(Vec<f64>) -> Values, Values::Sparse64 as fn(Sparse<f64>) -> Values);
    match (&array.element, array.big_endian) {
        (Element::Float(2), false) => convert(array, |two| widen_half(u16::from_le_bytes(two)), narrow),
        (Element::Float(2), true) => convert(array, |two| widen_half(u16::from_be_bytes(two)), narrow),
        (Element::Brain, false) => convert(array, |two| widen_brain(u16::from_le_bytes(two)), narrow),
        (Element::Brain, true) => convert(array, |two| widen_brain(u16::from_be_bytes(two)), narrow),
        (Element::Float(4), false) => convert(array, f32::from_le_bytes, narrow),
        (Element::Float(4), true) => convert(array, f32::from_be_bytes, narrow),
        (Element::Float(8), false) => convert(array, f64::from_le_bytes, wide),
        (Element::Float(8), true) => convert(array, f64::from_be_bytes, wide),
        (element, _) => bail!("{} holds {}, which is not read", array.name, element.describe()),
    }
}

/// Makes the dense or the sparse form of the values.
type Forms<T> = (fn(Vec<T>) -> Values, fn(Sparse<T>) -> Values);

fn convert<const W: usize, T>(
    array: &Array,
    decode: impl Fn([u8; W]) -> T + Sync,
    (dense, sparse): Forms<T>,
) -> Result<Matrix>
where
    T: Copy + Default + PartialEq + Send + Sync,
{
    let (rows, columns) = array.matrix_shape()?;
    ensure!(u32::try_from(columns).is_ok(), "{} has {columns} columns, at most {} are possible", array.name, u32::MAX);
    let (words, _) = array.bytes.as_chunks::<W>();
    // Writes the rows from `first` on, as many as `out` has room for, row after row.
    let load = |first: usize, out: &mut [T]| {
        if array.column_major {
            for (column, values) in words.chunks_exact(rows).enumerate() {
                let band = &values[first..first + out.len() / columns];
                band.iter().enumerate().for_each(|(row, word)| out[row * columns + column] = decode(*word));
            }
        } else {
            let band = &words[first * columns..][..out.len()];
            out.iter_mut().zip(band).for_each(|(value, word)| *value = decode(*word));
        }
    };
    // A column-major file is read by bands of rows, any other by single rows, which stay in the nearest cache.
    let step = if array.column_major { ROWS_PER_TASK } else { 1 };
    let buffer = || vec![T::default(); step.min(rows) * columns];

    let mut active = vec![0usize; rows];
    active.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each_init(buffer, |buffer, (task, active)| {
        for (band, active) in active.chunks_mut(step).enumerate() {
            let buffer = &mut buffer[..active.len() * columns];
            load(task * ROWS_PER_TASK + band * step, buffer);
            active.iter_mut().zip(buffer.chunks_exact(columns)).for_each(|(active, row)| *active = count_active(row));
        }
    });
    let total: usize = active.iter().sum();
    if total as f64 >= SPARSE_BELOW * rows as f64 * columns as f64 {
        let mut values = vec![T::default(); rows * columns];
        let tasks = values.par_chunks_mut(ROWS_PER_TASK * columns).enumerate();
        tasks.for_each(|(task, values)| load(task * ROWS_PER_TASK, values));
        return Matrix::new(rows, columns, dense(values));
    }

    let mut starts = vec![0usize; rows + 1];
    (0..rows).for_each(|row| starts[row + 1] = starts[row] + active[row]);
    let (mut places, mut values) = (vec![0u32; total], vec![T::default(); total]);
    let mut tasks = Vec::with_capacity(rows.div_ceil(ROWS_PER_TASK));
    let (mut places_left, mut values_left) = (places.as_mut_slice(), values.as_mut_slice());
    for active in active.chunks(ROWS_PER_TASK) {
        let room: usize = active.iter().sum();
        let (task_places, task_values);
        (task_places, places_left) = places_left.split_at_mut(room);
        (task_values, values_left) = values_left.split_at_mut(room);
        tasks.push((active, task_places, task_values));
    }
    let scratch = || (buffer(), Compact::new(columns));
    tasks.into_par_iter().enumerate().for_each_init(scratch, |(buffer, compact), (task, (active, places, values))| {
        let mut at = 0;
        for (band, active) in active.chunks(step).enumerate() {
            let buffer = &mut buffer[..active.len() * columns];
            load(task * ROWS_PER_TASK + band * step, buffer);
            for (row, active) in buffer.chunks_exact(columns).zip(active) {
                let (row_places, row_values) = compact.row(row);
                places[at..at + active].copy_from_slice(row_places);
                values[at..at + active].copy_from_slice(row_values);
                at += active;
            }
        }
    });
    Matrix::new(rows, columns, sparse(Sparse { starts, columns: places, values }))
}

fn count_active<T: PartialEq + Default>(row: &[T]) -> usize {
    // Counted in pieces, so that the count of a piece fits the width of a value and the loop can be vectorised.
    row.chunks(4096)
        .map(|piece| piece.iter().map(|value| u32::from(*value != T::default())).sum::<u32>() as usize)
        .sum()
}

/// Finds what is not 0 in one row after the other, in room that is used again.
pub(super) struct Compact<T> {
    columns: Vec<u32>,
    values: Vec<T>,
}

impl<T: Copy + Default + PartialEq> Compact<T> {
    /// Room for rows of so many columns.
    pub fn new(columns: usize) -> Self {
        Compact { columns: vec![0; columns], values: vec![T::default(); columns] }
    }

    /// Columns and values of a row that are not 0.
    pub fn row(&mut self, row: &[T]) -> (&[u32], &[T]) {
        let mut found = 0;
        // Always written and sometimes kept: a branch would be guessed wrong at every other value.
        for (column, value) in row.iter().enumerate() {
            self.columns[found] = column as u32;
            self.values[found] = *value;
            found += usize::from(*value != T::default());
        }
        (&self.columns[..found], &self.values[..found])
    }
}
