//! What is known of a matrix once every value was seen: counts, moments, identity, equal rows.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dense::Compact;
use crate::data::digest::Digest;
use crate::error::{Result, bail, ensure};
use crate::probe::matrix::{Matrix, Values};

/// What a matrix of activations is like. Equal numbers have equal facts, however their file stored them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Number of texts.
    pub rows: usize,
    /// Number of features.
    pub columns: usize,
    /// Values that are not 0.
    pub non_zeros: usize,
    /// Their share of all values, 0 to 1.
    pub density: f64,
    /// Features that are not 0, per row.
    pub active_per_row: Spread,
    /// Mean of all values, zeros among them.
    pub mean: f64,
    /// Features that are 0 in every row.
    pub columns_never_active: usize,
    /// Features with the same value in every row, those never active among them.
    pub columns_constant: usize,
    /// Values below 0.
    pub negative_values: usize,
    /// Whether every value is a bfloat16 number, so that two bytes would hold it exactly.
    pub bf16_exact: bool,
    /// Identity of shape and values: see [`measure`].
    pub digest: Digest,
    /// Rows, from 0, with equal values: every group has at least two, ascending, in order of its first row.
    pub duplicate_rows: Vec<Vec<usize>>,
}

/// Mean and extremes of a count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest.
    pub min: usize,
    /// Largest.
    pub max: usize,
}

/// Sums over the rows of one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Rows where it is not 0.
    pub active: usize,
    /// Sum of its values.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
}

/// Facts of a matrix with what they were gathered from.
pub struct Measured {
    /// The summary.
    pub facts: Facts,
    /// One per column; sums in order of rows.
    pub moments: Vec<Moment>,
    /// One per row: equal if and only if all of the rows' values are, also across matrices.
    pub row_digests: Vec<Digest>,
}

/// Looks at every value. `name` is what errors call the matrix, quoted.
///
/// The digest of a row is BLAKE3 over a byte that is 4 or 8, the columns of what is not 0 (u32) and their values: as
/// f32 (4) where all of them are exactly that, else as f64 (8); little-endian. The digest of a matrix is BLAKE3 over a
/// heading, the numbers of rows and columns (u64) and the digests of the rows. A row's digest is thus the same for
/// every width, layout and order of storage, and -0 is 0.
///
/// # Errors
/// NaN or an infinity, with its row and column; values whose squares are too large to be added up.
pub fn measure(name: &str, matrix: &Matrix) -> Result<Measured> {
    let columns = matrix.columns();
    let looks = match matrix.values() {
        Values::Dense32(all) => look_at_dense(all, columns),
        Values::Dense64(all) => look_at_dense(all, columns),
        Values::Sparse32(all) => look_at_sparse(&all.starts, &all.columns, &all.values),
        Values::Sparse64(all) => look_at_sparse(&all.starts, &all.columns, &all.values),
    };
    let moments = find_moments(matrix);
    let constant = count_constant(matrix, &moments);
    let mut tally = Tally::new();
    looks.into_iter().for_each(|look| tally.add(look));
    summarize(name, tally, moments, constant)
}

/// Facts of rows that are seen one by one, never together: the same as [`measure`] finds of all of them at once. What
/// it keeps of a row is its digest.
pub struct Measuring {
    tally: Tally,
    moments: Vec<Moment>,
    first: Vec<f32>,
    /// Columns that have had one value so far.
    constant: Vec<bool>,
    compact: Compact<f32>,
    buffer: Vec<u8>,
}

impl Measuring {
    /// Before the first row of so many columns.
    pub fn new(columns: usize) -> Self {
        Measuring {
            tally: Tally::new(),
            moments: vec![Moment::default(); columns],
            first: Vec::new(),
            constant: vec![true; columns],
            compact: Compact::new(columns),
            buffer: Vec::new(),
        }
    }

    /// Looks at the next row.
    pub fn add(&mut self, row: &[f32]) {
        if self.first.is_empty() {
            self.first = row.to_vec();
        }
        self.moments.iter_mut().zip(row).for_each(|(moment, value)| moment.add(f64::from(*value)));
        let same = self.first.iter().zip(row).map(|(first, value)| first == value);
        self.constant.iter_mut().zip(same).for_each(|(constant, same)| *constant &= same);
        let (columns, values) = self.compact.row(row);
        self.tally.add(look(columns, values, &mut self.buffer));
    }

    /// What was found. `name` is what errors call the rows, quoted.
    ///
    /// # Errors
    /// As those of [`measure`], and no rows.
    pub fn finish(self, name: &str) -> Result<Facts> {
        ensure!(!self.tally.digests.is_empty(), "{name} has no rows");
        let constant = self.constant.iter().filter(|constant| **constant).count();
        Ok(summarize(name, self.tally, self.moments, constant)?.facts)
    }
}

/// What the rows are like together.
struct Tally {
    digests: Vec<Digest>,
    active: usize,
    least: usize,
    most: usize,
    negative: usize,
    bf16: bool,
    /// Row, column and value of the first that is not finite.
    bad: Option<(usize, (usize, f64))>,
}

impl Tally {
    fn new() -> Self {
        Tally { digests: Vec::new(), active: 0, least: usize::MAX, most: 0, negative: 0, bf16: true, bad: None }
    }

    fn add(&mut self, look: Look) {
        self.bad = self.bad.or(look.bad.map(|bad| (self.digests.len(), bad)));
        self.digests.push(look.digest);
        self.active += look.active;
        self.least = self.least.min(look.active);
        self.most = self.most.max(look.active);
        self.negative += look.negative;
        self.bf16 &= look.bf16;
    }
}

fn summarize(name: &str, tally: Tally, moments: Vec<Moment>, columns_constant: usize) -> Result<Measured> {
    let (rows, columns) = (tally.digests.len(), moments.len());
    if let Some((row, (column, value))) = tally.bad {
        let what = if value.is_nan() { "NaN" } else { "infinity" };
        bail!("{name} holds {what} in row {row}, column {column}";
            help: "mend or drop the row; rows and columns are counted from 0");
    }
    if let Some(column) = moments.iter().position(|moment| !moment.squares.is_finite()) {
        bail!("{name} holds values too large to be squared in column {column}";
            help: "divide the column; columns are counted from 0");
    }
    let places = rows as f64 * columns as f64;
    let mut heading = blake3::Hasher::new();
    heading.update(b"drylab activations 1\n");
    heading.update(&(rows as u64).to_le_bytes());
    heading.update(&(columns as u64).to_le_bytes());
    tally.digests.iter().for_each(|digest| {
        heading.update(&digest.0);
    });
    let facts = Facts {
        rows,
        columns,
        non_zeros: tally.active,
        density: tally.active as f64 / places,
        active_per_row: Spread {
            mean: tally.active as f64 / rows as f64,
            min: if rows == 0 { 0 } else { tally.least },
            max: tally.most,
        },
        mean: moments.iter().map(|moment| moment.sum).sum::<f64>() / places,
        columns_never_active: moments.iter().filter(|moment| moment.active == 0).count(),
        columns_constant,
        negative_values: tally.negative,
        bf16_exact: tally.bf16,
        digest: Digest(*heading.finalize().as_bytes()),
        duplicate_rows: group_equal(&tally.digests),
    };
    Ok(Measured { facts, moments, row_digests: tally.digests })
}

/// What one row is like.
struct Look {
    digest: Digest,
    active: usize,
    negative: usize,
    bf16: bool,
    /// Column and value of the first that is not finite.
    bad: Option<(usize, f64)>,
}

fn look_at_dense<T>(all: &[T], columns: usize) -> Vec<Look>
where
    T: Copy + Default + PartialEq + Into<f64> + Send + Sync,
{
    let room = || (Compact::new(columns), Vec::new());
    let rows = all.par_chunks_exact(columns);
    let looks = rows.map_init(room, |(compact, buffer), row| {
        let (columns, values) = compact.row(row);
        look(columns, values, buffer)
    });
    looks.collect()
}

fn look_at_sparse<T: Copy + Into<f64> + Send + Sync>(starts: &[usize], columns: &[u32], values: &[T]) -> Vec<Look> {
    let rows = starts.par_windows(2);
    rows.map_init(Vec::new, |buffer, ends| look(&columns[ends[0]..ends[1]], &values[ends[0]..ends[1]], buffer))
        .collect()
}

fn look<T: Copy + Into<f64>>(columns: &[u32], values: &[T], buffer: &mut Vec<u8>) -> Look {
    let (mut negative, mut finite, mut narrow, mut low_bits) = (0u32, true, true, 0u32);
    for value in values {
        let wide: f64 = (*value).into();
        negative += u32::from(wide < 0.0);
        finite &= wide.is_finite();
        narrow &= f64::from(wide as f32) == wide;
        low_bits |= (wide as f32).to_bits() & 0xffff;
    }
    let width = if narrow { 4 } else { 8 };
    buffer.clear();
    buffer.resize(1 + (4 + width) * values.len(), 0);
    buffer[0] = width as u8;
    let (places, numbers) = buffer[1..].split_at_mut(4 * values.len());
    let places = places.as_chunks_mut::<4>().0;
    places.iter_mut().zip(columns).for_each(|(bytes, column)| *bytes = column.to_le_bytes());
    if narrow {
        let numbers = numbers.as_chunks_mut::<4>().0;
        numbers.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = ((*value).into() as f32).to_le_bytes());
    } else {
        let numbers = numbers.as_chunks_mut::<8>().0;
        numbers.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = (*value).into().to_le_bytes());
    }
    let mut pairs = columns.iter().zip(values).map(|(column, value)| (*column as usize, (*value).into()));
    Look {
        digest: Digest::of(buffer),
        active: values.len(),
        negative: negative as usize,
        bf16: narrow && low_bits == 0,
        bad: if finite { None } else { pairs.find(|(_, value)| !value.is_finite()) },
    }
}

/// Every column is summed in order of rows, whatever the number of threads and the layout.
fn find_moments(matrix: &Matrix) -> Vec<Moment> {
    let mut moments = vec![Moment::default(); matrix.columns()];
    let stripe = matrix.columns().div_ceil(rayon::current_num_threads());
    moments.par_chunks_mut(stripe).enumerate().for_each(|(index, moments)| match matrix.values() {
        Values::Dense32(all) => add_dense(all, matrix.columns(), index * stripe, moments),
        Values::Dense64(all) => add_dense(all, matrix.columns(), index * stripe, moments),
        Values::Sparse32(all) => add_sparse(&all.starts, &all.columns, &all.values, index * stripe, moments),
        Values::Sparse64(all) => add_sparse(&all.starts, &all.columns, &all.values, index * stripe, moments),
    });
    moments
}

fn add_dense<T: Copy + Into<f64>>(all: &[T], columns: usize, from: usize, moments: &mut [Moment]) {
    for row in all.chunks_exact(columns) {
        moments.iter_mut().zip(&row[from..]).for_each(|(moment, value)| moment.add((*value).into()));
    }
}

fn add_sparse<T: Copy + Into<f64>>(
    starts: &[usize],
    columns: &[u32],
    values: &[T],
    from: usize,
    moments: &mut [Moment],
) {
    for ends in starts.windows(2) {
        let places = &columns[ends[0]..ends[1]];
        let first = places.partition_point(|column| (*column as usize) < from);
        let length = places[first..].partition_point(|column| (*column as usize) < from + moments.len());
        let range = ends[0] + first..ends[0] + first + length;
        for (column, value) in columns[range.clone()].iter().zip(&values[range]) {
            moments[*column as usize - from].add((*value).into());
        }
    }
}

impl Moment {
    fn add(&mut self, value: f64) {
        self.active += usize::from(value != 0.0);
        self.sum += value;
        self.squares += value * value;
    }
}

fn count_constant(matrix: &Matrix, moments: &[Moment]) -> usize {
    let rows = matrix.rows();
    let never = moments.iter().filter(|moment| moment.active == 0).count();
    // Only a column that is active in every row, with next to no variance, is worth comparing value by value.
    let steady = |moment: &Moment| {
        let variance = moment.squares * rows as f64 - moment.sum * moment.sum;
        moment.active == rows && variance <= 1e-6 * moment.squares * rows as f64
    };
    let mut firsts: Vec<Option<f64>> = vec![None; moments.len()];
    matrix.for_each(0, |column, value| firsts[column] = Some(value).filter(|_| steady(&moments[column])));
    let mut left = firsts.iter().flatten().count();
    for row in 1..rows {
        if left == 0 {
            break;
        }
        matrix.for_each(row, |column, value| {
            if firsts[column].is_some_and(|first| first != value) {
                firsts[column] = None;
                left -= 1;
            }
        });
    }
    never + left
}

/// Rows of equal digests: with 256 bits these are rows of equal values.
fn group_equal(digests: &[Digest]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..digests.len()).collect();
    order.sort_unstable_by_key(|row| (digests[*row].0, *row));
    let same = order.chunk_by(|a, b| digests[*a] == digests[*b]);
    let mut groups: Vec<Vec<usize>> = same.filter(|group| group.len() > 1).map(<[usize]>::to_vec).collect();
    groups.sort();
    groups
}
