//! What every fit asks of its labels and row weights: one of each per row, and rows of both classes.

use super::product::Rows;
use super::scaler::Scaler;
use crate::error::{Result, ensure};

/// Sums of the row weights of class 0 and of class 1.
///
/// # Errors
/// Another number of labels or weights than rows, or of features in the scaler; a weight that is negative or not
/// finite; a class without a row whose weight is above 0.
pub fn weigh_classes(rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler) -> Result<[f64; 2]> {
    let (count, columns) = (rows.rows(), rows.columns());
    ensure!(labels.len() == count, "{} labels for {count} rows", labels.len(); help: "give one label per row");
    ensure!(weights.len() == count, "{} weights for {count} rows", weights.len(); help: "give one weight per row");
    ensure!(
        scaler.mean.len() == columns && scaler.scale.len() == columns,
        "a scaler of {} features for rows of {columns}", scaler.mean.len();
        help: "fit the scaler on the same features"
    );
    let mut sums = [0.0; 2];
    for (row, (label, weight)) in labels.iter().zip(weights).enumerate() {
        ensure!(weight.is_finite() && *weight >= 0.0, "row {row} has weight `{weight}`";
            help: "use weights of 0 or more, 0 to leave a row out");
        sums[usize::from(*label)] += weight;
    }
    for (class, sum) in sums.iter().enumerate() {
        ensure!(*sum > 0.0, "no row of class {class} is left to fit, a probe needs 2 classes";
            help: "add rows of class {class}, or give some of them a weight above 0");
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::{Matrix, Values};

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let matrix = Matrix::new(2, 1, Values::Dense64(vec![1.0, 2.0])).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        let scaler = Scaler { mean: vec![0.0], scale: vec![1.0] };
        let text =
            |labels: &[bool], weights: &[f64]| weigh_classes(&rows, labels, weights, &scaler).unwrap_err().message;
        assert_eq!(text(&[true], &[1.0, 1.0]), "1 labels for 2 rows");
        assert_eq!(text(&[true, false], &[1.0]), "1 weights for 2 rows");
        assert_eq!(text(&[true, false], &[1.0, f64::NAN]), "row 1 has weight `NaN`");
        assert!(text(&[true, false], &[0.0, 1.0]).starts_with("no row of class 1 is left"));
        assert_eq!(weigh_classes(&rows, &[true, false], &[3.0, 1.0], &scaler).unwrap(), [1.0, 3.0]);
    }
}
