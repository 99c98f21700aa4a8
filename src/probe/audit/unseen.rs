//! How much of a probe's weight lies on features that never occur where it is applied.

use serde::Serialize;

use crate::ensure;
use crate::error::Result;
use crate::probe::matrix::Matrix;

/// Weight of a probe on features that are 0 in every row of a target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unseen {
    /// Features with a weight that is not 0.
    pub weighted: usize,
    /// Those that are 0 in all rows of the target.
    pub dead: usize,
    /// `dead` over `weighted`; missing without weighted features.
    pub share_of_features: Option<f64>,
    /// Sum of abs(weight) x scale over dead features, over the sum over all; missing when that is 0.
    pub share_of_weight: Option<f64>,
    /// The same of the squares.
    pub share_of_squared_weight: Option<f64>,
}

/// The share of a probe's weight on features that `rows` of `matrix` never show.
///
/// `weights` are per unit of the raw feature and `scale` is the spread of each feature in training (1 for all when
/// omitted), so that their product is the weight of the scaled feature.
///
/// # Errors
/// Weights or scales that are not one per column; a row out of range; no rows.
pub fn weight_on_unseen(weights: &[f64], scale: Option<&[f64]>, matrix: &Matrix, rows: &[usize]) -> Result<Unseen> {
    let columns = matrix.columns();
    ensure!(weights.len() == columns, "the probe has {} weights for {columns} features", weights.len());
    if let Some(scale) = scale {
        ensure!(scale.len() == columns, "the probe has {} scales for {columns} features", scale.len());
    }
    ensure!(!rows.is_empty(), "no rows to look for the probe's features in");
    let mut seen = vec![false; columns];
    for row in rows {
        ensure!(*row < matrix.rows(), "row {row} is asked for of {} rows, counted from 0", matrix.rows());
        matrix.for_each(*row, |column, _| seen[column] = true);
    }
    let (mut weighted, mut dead) = (0, 0);
    // Sums of sizes and of their squares, over all features and over dead ones.
    let (mut all, mut unseen) = ([0.0; 2], [0.0; 2]);
    for (column, value) in weights.iter().enumerate().filter(|(_, value)| **value != 0.0) {
        let size = value.abs() * scale.map_or(1.0, |scale| scale[column]);
        weighted += 1;
        for (power, size) in [size, size * size].into_iter().enumerate() {
            all[power] += size;
            unseen[power] += if seen[column] { 0.0 } else { size };
        }
        dead += usize::from(!seen[column]);
    }
    Ok(Unseen {
        weighted,
        dead,
        share_of_features: (weighted > 0).then(|| dead as f64 / weighted as f64),
        share_of_weight: (all[0] > 0.0).then(|| unseen[0] / all[0]),
        share_of_squared_weight: (all[1] > 0.0).then(|| unseen[1] / all[1]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::Values;

    #[test]
    fn weight_on_features_that_never_occur_is_counted() {
        let matrix = Matrix::new(2, 4, Values::Dense64(vec![1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0])).unwrap();
        let weights = [0.5, -2.0, 0.0, 1.0];
        let unseen = weight_on_unseen(&weights, None, &matrix, &[0, 1]).unwrap();
        assert_eq!((unseen.weighted, unseen.dead), (3, 1));
        assert_eq!(unseen.share_of_features, Some(1.0 / 3.0));
        assert_eq!(unseen.share_of_weight, Some(2.0 / 3.5));
        assert_eq!(unseen.share_of_squared_weight, Some(4.0 / 5.25));
        // Without the first row two of three are dead, and the scale decides what they weigh.
        let scale = [2.0, 1.0, 9.0, 4.0];
        let unseen = weight_on_unseen(&weights, Some(&scale), &matrix, &[1]).unwrap();
        assert_eq!((unseen.dead, unseen.share_of_weight), (3, Some(1.0)));
        assert!(weight_on_unseen(&weights[..3], None, &matrix, &[0]).is_err());
        assert!(weight_on_unseen(&weights, None, &matrix, &[2]).is_err());
    }

    #[test]
    fn a_probe_without_weights_has_no_share() {
        let matrix = Matrix::new(1, 1, Values::Dense64(vec![1.0])).unwrap();
        let unseen = weight_on_unseen(&[0.0], None, &matrix, &[0]).unwrap();
        assert_eq!((unseen.share_of_features, unseen.share_of_weight), (None, None));
    }
}
