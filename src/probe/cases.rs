//! Matrices and goldens that the tests of several estimators start from.

use serde::de::DeserializeOwned;

use super::matrix::{Matrix, Sparse, Values};
use super::product::Rows;
use super::scaler::{Scaler, fit_scalers};

/// Row after row, zeros kept.
pub fn dense(rows: usize, columns: usize, values: Vec<f64>) -> Matrix {
    Matrix::new(rows, columns, Values::Dense64(values)).unwrap()
}

/// The same values with zeros left out.
pub fn sparse(rows: usize, columns: usize, values: &[f64]) -> Matrix {
    let mut sparse = Sparse { starts: vec![0], columns: Vec::new(), values: Vec::new() };
    for row in 0..rows {
        for (column, value) in values[row * columns..][..columns].iter().enumerate().filter(|(_, v)| **v != 0.0) {
            sparse.columns.push(column as u32);
            sparse.values.push(*value);
        }
        sparse.starts.push(sparse.values.len());
    }
    Matrix::new(rows, columns, Values::Sparse64(sparse)).unwrap()
}

/// The standardisation of rows that count so often.
pub fn scaler(matrix: &Matrix, weights: &[f64]) -> Scaler {
    fit_scalers(&Rows::new(&[matrix]).unwrap(), &[weights]).remove(0)
}

/// Labels as files hold them.
pub fn booleans(labels: &[u8]) -> Vec<bool> {
    labels.iter().map(|label| *label == 1).collect()
}

/// What scikit-learn found for the cases of one estimator; made by tests/generators/probe_estimators.py.
pub fn golden<T: DeserializeOwned>(estimator: &str) -> Vec<T> {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/estimators.json"));
    let mut all: serde_json::Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(all[estimator].take()).unwrap()
}
