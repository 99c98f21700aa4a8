//! Standardisation: the mean and the population standard deviation of every feature over the rows that a fit may see.

use super::product::{Rows, transposed_product};

/// Maps a feature x to (x - mean) / scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// Mean per feature.
    pub mean: Vec<f64>,
    /// Square root of the population variance per feature; 1 where the feature is constant.
    pub scale: Vec<f64>,
}

/// Scalers for several sets of row weights at once, in three passes over the rows. `weights[k][row]` counts a row; 0
/// leaves it out. A feature is constant, with scale 1, where its variance is at most n eps var + (n mean eps)^2, as in
/// scikit-learn's `StandardScaler`.
pub fn fit_scalers(rows: &Rows, weights: &[&[f64]]) -> Vec<Scaler> {
    weights.chunks(8).flat_map(|pack| fit_pack(rows, pack)).collect()
}

fn fit_pack(rows: &Rows, weights: &[&[f64]]) -> Vec<Scaler> {
    let lanes: Vec<[f64; 8]> =
        (0..rows.rows()).map(|row| std::array::from_fn(|k| weights.get(k).map_or(0.0, |w| w[row]))).collect();
    let sums = transposed_product(rows, &lanes, |value, _| value); // (feature, lane)
    // Deviations from a mean that is near enough keep the difference of two large numbers small.
    let totals: [f64; 8] = std::array::from_fn(|k| weights.get(k).map_or(1.0, |w| w.iter().sum()));
    let pivots: Vec<f64> = sums.iter().map(|sum| sum[0] / totals[0]).collect();
    let one = |value: f64| f64::from(u8::from(value != 0.0));
    let counts = transposed_product(rows, &lanes, |value, _| one(value));
    let squares = transposed_product(rows, &lanes, |value, column| {
        let near = (value - pivots[column]) * one(value);
        near * near
    });
    let finish = |k: usize| {
        let n = totals[k];
        let mean: Vec<f64> = sums.iter().map(|sum| sum[k] / n).collect();
        let scale = (0..mean.len()).map(|column| {
            let (mean, pivot) = (mean[column], pivots[column]);
            let shift = mean - pivot;
            let zeros = (n - counts[column][k]) * pivot * pivot;
            let variance = ((squares[column][k] + zeros) / n - shift * shift).max(0.0);
            let floor = n * f64::EPSILON * variance + (n * mean * f64::EPSILON).powi(2);
            if variance <= floor { 1.0 } else { variance.sqrt() }
        });
        Scaler { scale: scale.collect(), mean }
    };
    (0..weights.len()).map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::{Matrix, Values};

    #[test]
    fn weights_count_rows_and_constants_keep_scale_one() {
        let matrix = Matrix::new(4, 3, Values::Dense64(vec![1., 5., 0., 3., 5., 0., 5., 5., 0., 1e6, 5., 7.])).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        let scalers = fit_scalers(&rows, &[&[1., 1., 1., 0.], &[1., 2., 0., 1.]]);
        assert!((scalers[0].mean[0] - 3.0).abs() < 1e-12);
        assert!((scalers[0].scale[0] - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((scalers[0].scale[1], scalers[0].scale[2]), (1.0, 1.0));
        let mean: f64 = (1.0 + 6.0 + 1e6) / 4.0;
        let square = |x: f64| (x - mean) * (x - mean);
        let variance = (square(1.0) + 2.0 * square(3.0) + square(1e6)) / 4.0;
        assert!((scalers[1].scale[0] / variance.sqrt() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_large_offset_does_not_drown_a_small_spread() {
        let values = (0..100).map(|row| 1e8 + f64::from(row % 2)).collect();
        let matrix = Matrix::new(100, 1, Values::Dense64(values)).unwrap();
        let scaler = fit_scalers(&Rows::new(&[&matrix]).unwrap(), &[&[1.0; 100]]).remove(0);
        assert!((scaler.scale[0] - 0.5).abs() < 1e-9, "{}", scaler.scale[0]);
    }
}
