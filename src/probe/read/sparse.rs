//! Puts rows that were stored sparse into the one form: columns ascending, none twice, nothing 0.

use std::ops::AddAssign;

use super::dense::SPARSE_BELOW;
use crate::error::{Result, ensure};
use crate::probe::matrix::{Matrix, Sparse, Values};

/// What was mended on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Rows whose columns were not ascending.
    pub unsorted_rows: usize,
    /// Values that were added to another of the same row and column.
    pub summed: usize,
    /// Values that were 0.
    pub zeros: usize,
}

impl Mended {
    /// What to tell about it; nothing where nothing was mended.
    pub fn notes(&self) -> Vec<String> {
        let told = [
            (self.unsorted_rows, "rows had unsorted columns: sorted"),
            (self.summed, "values stood at a place that was taken: added up"),
            (self.zeros, "stored values were 0: dropped"),
        ];
        told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// A matrix of sparse rows, kept sparse or made dense as its density asks for. Columns are below `columns`, `starts`
/// ascend from 0 to the number of values. Values of the same row and column are added up in the order they stand, as
/// scipy does.
pub(super) fn settle<T>(
    columns: usize,
    mut rows: Sparse<T>,
    dense: fn(Vec<T>) -> Values,
    sparse: fn(Sparse<T>) -> Values,
) -> Result<(Matrix, Mended)>
where
    T: Copy + Default + PartialEq + AddAssign,
{
    let mended = tidy(&mut rows);
    let count = rows.starts.len() - 1;
    if (rows.values.len() as f64) < SPARSE_BELOW * count as f64 * columns as f64 {
        return Ok((Matrix::new(count, columns, sparse(rows))?, mended));
    }
    let mut all = vec![T::default(); count * columns];
    for row in 0..count {
        rows.row(row).for_each(|(column, value)| all[row * columns + column] = value);
    }
    Ok((Matrix::new(count, columns, dense(all))?, mended))
}

fn tidy<T: Copy + Default + PartialEq + AddAssign>(rows: &mut Sparse<T>) -> Mended {
    let mut mended = Mended::default();
    let mut pairs: Vec<(u32, T)> = Vec::new();
    let (mut kept, mut start) = (0, 0);
    for row in 1..rows.starts.len() {
        let end = rows.starts[row];
        if !rows.columns[start..end].is_sorted() {
            mended.unsorted_rows += 1;
            pairs.clear();
            pairs.extend(rows.columns[start..end].iter().copied().zip(rows.values[start..end].iter().copied()));
            pairs.sort_by_key(|(column, _)| *column);
            for (place, (column, value)) in pairs.iter().enumerate() {
                (rows.columns[start + place], rows.values[start + place]) = (*column, *value);
            }
        }
        while start < end {
            let (column, mut value) = (rows.columns[start], rows.values[start]);
            start += 1;
            while start < end && rows.columns[start] == column {
                value += rows.values[start];
                mended.summed += 1;
                start += 1;
            }
            if value == T::default() {
                mended.zeros += 1;
            } else {
                (rows.columns[kept], rows.values[kept]) = (column, value);
                kept += 1;
            }
        }
        rows.starts[row] = kept;
    }
    rows.columns.truncate(kept);
    rows.values.truncate(kept);
    mended
}

/// Compressed columns made compressed rows; `places` are the rows, below `rows`.
pub(super) fn transpose<T: Copy + Default>(rows: usize, columns: Sparse<T>) -> Sparse<T> {
    let Sparse { starts: ends, columns: places, values: found } = columns;
    let mut starts = vec![0usize; rows + 1];
    places.iter().for_each(|row| starts[*row as usize + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let mut next = starts.clone();
    let (mut columns, mut values) = (vec![0u32; places.len()], vec![T::default(); places.len()]);
    for (column, ends) in ends.windows(2).enumerate() {
        for place in ends[0]..ends[1] {
            let at = &mut next[places[place] as usize];
            (columns[*at], values[*at]) = (column as u32, found[place]);
            *at += 1;
        }
    }
    Sparse { starts, columns, values }
}

/// Refuses starts that do not ascend from 0 to the number of values.
pub(super) fn check_starts(name: &str, starts: &[usize], lines: usize, values: usize) -> Result<()> {
    ensure!(
        starts.len() == lines + 1 && starts[0] == 0 && starts[lines] == values && starts.is_sorted(),
        "the `indptr` of {name} does not divide {values} values among {lines} rows or columns"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_added_up_and_lose_their_zeros() {
        let mut rows = Sparse {
            starts: vec![0, 4, 4, 6],
            columns: vec![5, 2, 5, 0, 1, 1],
            values: vec![1.0f32, 2.0, 4.0, 0.0, 3.0, -3.0],
        };
        let mended = tidy(&mut rows);
        assert_eq!(rows, Sparse { starts: vec![0, 2, 2, 2], columns: vec![2, 5], values: vec![2.0, 5.0] });
        assert_eq!(mended, Mended { unsorted_rows: 1, summed: 2, zeros: 2 });
        assert_eq!(mended.notes().len(), 3);
        assert!(Mended::default().notes().is_empty());
    }

    #[test]
    fn columns_become_rows() {
        let columns = Sparse { starts: vec![0, 2, 2, 3], columns: vec![1, 0, 1], values: vec![1.0f64, 2.0, 3.0] };
        let rows = Sparse { starts: vec![0, 1, 3], columns: vec![0, 0, 2], values: vec![2.0, 1.0, 3.0] };
        assert_eq!(transpose(2, columns), rows);
    }

    #[test]
    fn starts_that_do_not_fit_are_refused() {
        assert!(check_starts("`x`", &[0, 1, 3], 2, 3).is_ok());
        for starts in [&[0, 3][..], &[1, 1, 3], &[0, 1, 2], &[0, 4, 3]] {
            assert!(check_starts("`x`", starts, 2, 3).is_err(), "{starts:?}");
        }
    }
}
