//! Difference of means: the probe whose direction leads from the mean of class 0 to the mean of class 1.

use super::classes::weigh_classes;
use super::linear::Linear;
use super::product::{Rows, transposed_product};
use super::scaler::Scaler;
use crate::error::{Result, ensure};

/// How the direction is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeansOptions {
    /// Whether the direction is brought to length 1, so that a decision value is a distance from the midpoint.
    pub unit: bool,
}

/// The fitted probe. It has a closed form, so nothing remains to be certified.
#[derive(Clone, Debug, PartialEq)]
pub struct MeansFit {
    /// Its weights are the difference of the class means; its decision value is 0 half way between them.
    pub probe: Linear,
    /// Distance of the class means on standardised features, before the direction is brought to length 1.
    pub distance: f64,
}

/// Fits weights = mean of class 1 - mean of class 0 on standardised features, both means weighted by row; intercept =
/// - weights . (mean of class 0 + mean of class 1) / 2 (mass-mean probing, Marks and Tegmark 2023, arXiv 2310.06824).
///
/// # Errors
/// Labels, weights or scaler that do not belong to the rows; one class only; class means that are the same.
pub fn fit_means(
    rows: &Rows,
    labels: &[bool],
    weights: &[f64],
    scaler: &Scaler,
    options: &MeansOptions,
) -> Result<MeansFit> {
    let means = class_means(rows, labels, weights, scaler)?;
    let difference: Vec<f64> = means[1].iter().zip(&means[0]).map(|(one, zero)| one - zero).collect();
    let distance = difference.iter().map(|value| value * value).sum::<f64>().sqrt();
    ensure!(distance.is_finite(), "the means of the classes lie `{distance}` apart";
        help: "remove features that are not finite");
    ensure!(distance > 0.0, "both classes have the same mean, there is no direction between them";
        help: "add features, or check that the labels belong to these rows");
    let length = if options.unit { distance } else { 1.0 };
    let direction: Vec<f64> = difference.iter().map(|value| value / length).collect();
    let midpoint = direction.iter().zip(&means[0]).zip(&means[1]).map(|((w, zero), one)| w * (zero + one) / 2.0);
    let intercept = -midpoint.sum::<f64>();
    Ok(MeansFit { probe: Linear { weights: direction, intercept, scaler: scaler.clone() }, distance })
}

/// Weighted means of class 0 and class 1 per standardised feature. What lies nearer to the scaler's mean than a sum
/// over the rows can tell is 0, so that constant features get no weight.
///
/// # Errors
/// Labels, weights or scaler that do not belong to the rows; one class only.
pub(super) fn class_means(rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler) -> Result<[Vec<f64>; 2]> {
    let totals = weigh_classes(rows, labels, weights, scaler)?;
    let share = |row: usize, class: usize| {
        if usize::from(labels[row]) == class { weights[row] / totals[class] } else { 0.0 }
    };
    let shares: Vec<[f64; 2]> = (0..rows.rows()).map(|row| [share(row, 0), share(row, 1)]).collect();
    let sums = transposed_product(rows, &shares, |value, _| value); // (feature, class)
    Ok([0, 1].map(|class| {
        let standardised = sums.iter().zip(&scaler.mean).zip(&scaler.scale).map(|((sum, mean), scale)| {
            let offset = sum[class] - mean;
            if offset.abs() <= rows.rows() as f64 * f64::EPSILON * mean.abs() { 0.0 } else { offset / scale }
        });
        standardised.collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::{Matrix, Values};
    use crate::probe::scaler::fit_scalers;
    use proptest::prelude::*;

    fn fit(matrix: &Matrix, labels: &[bool], weights: &[f64], unit: bool) -> Result<MeansFit> {
        let rows = Rows::new(&[matrix]).unwrap();
        let scaler = fit_scalers(&rows, &[weights]).remove(0);
        fit_means(&rows, labels, weights, &scaler, &MeansOptions { unit })
    }

    #[test]
    fn weights_count_rows_and_half_way_is_zero() {
        // Class 0: (0, 0) and, left out, (9, 9); class 1: (2, 0) and twice (5, 6). Mean 3, 3; scale sqrt(18/4), 3.
        let values = vec![0., 0., 9., 9., 2., 0., 5., 6.];
        let matrix = Matrix::new(4, 2, Values::Dense64(values)).unwrap();
        let labels = [false, false, true, true];
        let fit = fit(&matrix, &labels, &[1., 0., 1., 2.], false).unwrap();
        let expected = [4.0 / 4.5f64.sqrt(), 4.0 / 3.0];
        for (found, expected) in fit.probe.weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let halves = Matrix::new(1, 2, Values::Dense64(vec![2.0, 2.0])).unwrap();
        assert!(fit.probe.decide(&Rows::new(&[&halves]).unwrap())[0].abs() < 1e-12);
    }

    #[test]
    fn equal_means_are_an_error() {
        let matrix = Matrix::new(4, 1, Values::Dense64(vec![1., 3., 1., 3.])).unwrap();
        let error = fit(&matrix, &[false, false, true, true], &[1.0; 4], false).unwrap_err();
        assert!(error.message.starts_with("both classes have the same mean"));
    }

    proptest! {
        #[test]
        fn unit_decisions_of_the_class_means_are_half_their_distance(
            values in proptest::collection::vec(-5.0f64..5.0, 24),
            weights in proptest::collection::vec(0.5f64..2.0, 8),
        ) {
            let matrix = Matrix::new(8, 3, Values::Dense64(values)).unwrap();
            let labels = [true, false, true, true, false, false, true, false];
            let fit = fit(&matrix, &labels, &weights, true).unwrap();
            let decisions = fit.probe.decide(&Rows::new(&[&matrix]).unwrap());
            for (class, sign) in [(true, 0.5), (false, -0.5)] {
                let of_class = || (0..8).filter(|row| labels[*row] == class);
                let total: f64 = of_class().map(|row| weights[row]).sum();
                let mean = of_class().map(|row| weights[row] * decisions[row]).sum::<f64>() / total;
                prop_assert!((mean - sign * fit.distance).abs() < 1e-9);
            }
        }
    }
}
