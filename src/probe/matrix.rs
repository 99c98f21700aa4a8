//! A feature matrix: one row per text, one column per feature, dense or sparse, never changed after it was read.

use crate::error::{Result, ensure};

/// The numbers of a file of activations. Rows are texts, columns are features; values are kept as exact as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Values,
}

/// How the values lie in memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Row after row.
    Dense32(Vec<f32>),
    /// Row after row.
    Dense64(Vec<f64>),
    /// What is not 0, row after row.
    Sparse32(Sparse<f32>),
    /// What is not 0, row after row.
    Sparse64(Sparse<f64>),
}

/// Compressed sparse rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse<T> {
    /// Row i is `starts[i]..starts[i + 1]` of the other two.
    pub starts: Vec<usize>,
    /// The column of each value, ascending within a row.
    pub columns: Vec<u32>,
    /// The values, none of them 0.
    pub values: Vec<T>,
}

impl Matrix {
    /// A matrix of values that lie as `values` says.
    ///
    /// # Errors
    /// The number of values is not rows times columns; sparse starts or columns that are out of order or out of range.
    pub fn new(rows: usize, columns: usize, values: Values) -> Result<Self> {
        match &values {
            Values::Dense32(all) => check_dense(rows, columns, all.len())?,
            Values::Dense64(all) => check_dense(rows, columns, all.len())?,
            Values::Sparse32(sparse) => check_sparse(rows, columns, sparse)?,
            Values::Sparse64(sparse) => check_sparse(rows, columns, sparse)?,
        }
        Ok(Matrix { rows, columns, values })
    }

    /// Number of texts.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Number of features.
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// The values as they lie.
    pub fn values(&self) -> &Values {
        &self.values
    }
    /// Whether only what is not 0 is kept.
    pub fn is_sparse(&self) -> bool {
        matches!(self.values, Values::Sparse32(_) | Values::Sparse64(_))
    }

    /// Calls `see(column, value)` for every value of a row that is not 0, in ascending order of columns.
    pub fn for_each(&self, row: usize, mut see: impl FnMut(usize, f64)) {
        let dense = row * self.columns..(row + 1) * self.columns;
        match &self.values {
            Values::Dense32(all) => {
                all[dense].iter().enumerate().filter(|(_, v)| **v != 0.0).for_each(|(j, v)| see(j, f64::from(*v)));
            }
            Values::Dense64(all) => {
                all[dense].iter().enumerate().filter(|(_, v)| **v != 0.0).for_each(|(j, v)| see(j, *v));
            }
            Values::Sparse32(sparse) => sparse.row(row).for_each(|(j, v)| see(j, f64::from(v))),
            Values::Sparse64(sparse) => sparse.row(row).for_each(|(j, v)| see(j, v)),
        }
    }

    /// The same rows with these columns only, which ascend.
    pub fn with_columns(&self, columns: &[u32]) -> Self {
        let values = match &self.values {
            Values::Dense32(all) => Values::Dense32(self.dense_part(all, columns)),
            Values::Dense64(all) => Values::Dense64(self.dense_part(all, columns)),
            Values::Sparse32(sparse) => Values::Sparse32(self.sparse_part(sparse, columns)),
            Values::Sparse64(sparse) => Values::Sparse64(self.sparse_part(sparse, columns)),
        };
        Matrix { rows: self.rows, columns: columns.len(), values }
    }

    fn dense_part<T: Copy>(&self, all: &[T], columns: &[u32]) -> Vec<T> {
        let row = |row| columns.iter().map(move |column| all[row * self.columns + *column as usize]);
        (0..self.rows).flat_map(row).collect()
    }

    fn sparse_part<T: Copy>(&self, sparse: &Sparse<T>, columns: &[u32]) -> Sparse<T> {
        let mut place = vec![None; self.columns];
        (0..).zip(columns).for_each(|(index, column)| place[*column as usize] = Some(index));
        let mut part = Sparse { starts: vec![0], columns: vec![], values: vec![] };
        for row in 0..self.rows {
            for (index, value) in sparse.row(row).filter_map(|(column, value)| Some((place[column]?, value))) {
                part.columns.push(index);
                part.values.push(value);
            }
            part.starts.push(part.values.len());
        }
        part
    }

    /// Number of values of a row that are not 0.
    pub fn active(&self, row: usize) -> usize {
        match &self.values {
            Values::Sparse32(sparse) => sparse.starts[row + 1] - sparse.starts[row],
            Values::Sparse64(sparse) => sparse.starts[row + 1] - sparse.starts[row],
            _ => {
                let mut count = 0;
                self.for_each(row, |_, _| count += 1);
                count
            }
        }
    }
}

impl<T: Copy> Sparse<T> {
    /// Columns and values of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, T)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        self.columns[range.clone()].iter().map(|column| *column as usize).zip(self.values[range].iter().copied())
    }
}

fn check_dense(rows: usize, columns: usize, found: usize) -> Result<()> {
    ensure!(
        rows.checked_mul(columns) == Some(found),
        "{rows} rows of {columns} features need {} values, found {found}",
        rows.saturating_mul(columns)
    );
    Ok(())
}

fn check_sparse<T>(rows: usize, columns: usize, sparse: &Sparse<T>) -> Result<()> {
    let Sparse { starts, columns: places, values } = sparse;
    ensure!(starts.len() == rows + 1, "{rows} sparse rows need {} starts, found {}", rows + 1, starts.len());
    ensure!(
        starts.first() == Some(&0) && starts.last() == Some(&values.len()) && places.len() == values.len(),
        "sparse starts, columns and values do not fit together"
    );
    for (row, ends) in starts.windows(2).enumerate() {
        ensure!(ends[0] <= ends[1] && ends[1] <= values.len(), "sparse row {row} ends before it starts");
        let places = &places[ends[0]..ends[1]];
        ensure!(
            places.windows(2).all(|pair| pair[0] < pair[1])
                && places.last().is_none_or(|last| (*last as usize) < columns),
            "the columns of sparse row {row} are not ascending numbers below {columns}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_sparse_show_the_same_values() {
        let dense = Matrix::new(2, 3, Values::Dense64(vec![0.0, 1.5, 0.0, 2.0, 0.0, 3.0])).unwrap();
        let sparse = Sparse { starts: vec![0, 1, 3], columns: vec![1, 0, 2], values: vec![1.5, 2.0, 3.0] };
        let sparse = Matrix::new(2, 3, Values::Sparse64(sparse)).unwrap();
        for row in 0..2 {
            let seen = |matrix: &Matrix| {
                let mut seen = Vec::new();
                matrix.for_each(row, |column, value| seen.push((column, value)));
                seen
            };
            assert_eq!(seen(&dense), seen(&sparse));
            assert_eq!(dense.active(row), sparse.active(row));
        }
        let part = Matrix::new(2, 2, Values::Dense64(vec![0.0, 0.0, 2.0, 3.0])).unwrap();
        assert_eq!(dense.with_columns(&[0, 2]), part);
        let sparse_part = sparse.with_columns(&[0, 2]);
        assert_eq!((sparse_part.active(0), sparse_part.active(1), sparse_part.columns()), (0, 2, 2));
        assert!(sparse_part.is_sparse());
    }

    #[test]
    fn a_matrix_that_does_not_fit_together_is_refused() {
        assert!(Matrix::new(2, 3, Values::Dense32(vec![0.0; 5])).is_err());
        let unordered = Sparse { starts: vec![0, 2], columns: vec![1, 0], values: vec![1.0f32, 2.0] };
        assert!(Matrix::new(1, 3, Values::Sparse32(unordered)).is_err());
        let outside = Sparse { starts: vec![0, 1], columns: vec![3], values: vec![1.0f32] };
        assert!(Matrix::new(1, 3, Values::Sparse32(outside)).is_err());
    }
}
