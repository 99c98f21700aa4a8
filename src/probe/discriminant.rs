//! Linear discriminant analysis with a shrunk covariance, which is never formed where features are many.

use rayon::prelude::*;

use super::classes::weigh_classes;
use super::linear::Linear;
use super::means::class_means;
use super::product::{Rows, product, transposed_product};
use super::scaler::Scaler;
use crate::error::{Result, ensure};

/// How the covariance is shrunk and how exactly it is solved for.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscriminantOptions {
    /// Share a, 0 to 1, of the multiple of the identity in (1 - a) S + a trace(S) / features I.
    pub shrinkage: f64,
    /// Largest length of the residual, relative to the length of the difference of means, that counts as solved.
    pub tolerance: f64,
    /// Steps of conjugate gradients before the fit gives up.
    pub max_iterations: usize,
    /// Up to this many features the covariance is formed and factored.
    pub factored_features: usize,
}

impl Default for DiscriminantOptions {
    fn default() -> Self {
        DiscriminantOptions { shrinkage: 0.1, tolerance: 1e-10, max_iterations: 5000, factored_features: 1024 }
    }
}

/// The fitted probe and what certifies it.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscriminantFit {
    /// Its decision value is the log of the ratio of both classes' posterior probabilities.
    pub probe: Linear,
    /// Length of (shrunk covariance) w - (difference of means), relative to the length of that difference, as measured
    /// with the weights that were returned.
    pub residual: f64,
    /// Largest possible distance of the weights from the exact ones; absent without shrinkage.
    pub weight_error: Option<f64>,
    /// Steps of conjugate gradients; 0 where the covariance was factored.
    pub iterations: usize,
}

/// Solves ((1 - a) S + a trace(S) / features I) w = difference of class means, S being the covariance within classes
/// of standardised features, classes weighted by their share of the row weights; intercept = log of the ratio of the
/// shares - w . (sum of class means) / 2. The same as scikit-learn's
/// `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=a)`.
///
/// # Errors
/// Labels, weights or scaler that do not belong to the rows; one class only; a shrinkage outside 0 to 1; no shrinkage
/// and a covariance that cannot be inverted; conjugate gradients that do not reach the tolerance.
pub fn fit_discriminant(
    rows: &Rows,
    labels: &[bool],
    weights: &[f64],
    scaler: &Scaler,
    options: &DiscriminantOptions,
) -> Result<DiscriminantFit> {
    let DiscriminantOptions { shrinkage, tolerance, .. } = *options;
    ensure!((0.0..=1.0).contains(&shrinkage), "a shrinkage of `{shrinkage}` is not between 0 and 1";
        help: "use a shrinkage from 0 to 1");
    ensure!(tolerance > 0.0, "a tolerance of `{tolerance}` cannot be reached"; help: "use a tolerance above 0");
    let totals = weigh_classes(rows, labels, weights, scaler)?;
    let used = weights.iter().filter(|weight| **weight > 0.0).count();
    ensure!(
        shrinkage > 0.0 || rows.columns() + 2 <= used,
        "{} features of {used} rows have no covariance that can be inverted without shrinkage", rows.columns();
        help: "use a shrinkage above 0, for instance 0.1"
    );
    let means = class_means(rows, labels, weights, scaler)?;
    let apart = difference(&means[1], &means[0]);
    let length = norm(&apart);
    ensure!(length > 0.0 && length.is_finite(), "the means of the classes lie `{length}` apart";
        help: "check that the labels belong to these rows and that all features are finite");
    let within = Within::new(rows, labels, weights, scaler, &means, shrinkage);
    ensure!(
        within.floor > 0.0 || shrinkage == 0.0,
        "no feature varies within a class, there is no covariance to shrink";
        help: "use a difference of means"
    );
    let Solution { weights: solution, rest, iterations } = if rows.columns() <= options.factored_features {
        within.solve_factored(&apart)?
    } else {
        within.solve_iterated(&apart, tolerance, options.max_iterations)
    };
    let residual = rest / length;
    ensure!(
        residual <= tolerance,
        "the discriminant has a residual of {residual:.1e} after {iterations} steps, {tolerance:.1e} is asked for";
        help: "raise the shrinkage, now {shrinkage}, or the tolerance"
    );
    let weight_error = (shrinkage > 0.0).then(|| rest / within.floor);
    let middle: f64 = (0..solution.len()).map(|k| solution[k] * (means[0][k] + means[1][k]) / 2.0).sum();
    let intercept = (totals[1] / totals[0]).ln() - middle;
    let probe = Linear { weights: solution, intercept, scaler: scaler.clone() };
    Ok(DiscriminantFit { probe, residual, weight_error, iterations })
}

struct Solution {
    weights: Vec<f64>,
    /// Length of the residual, measured with these weights.
    rest: f64,
    iterations: usize,
}

/// The shrunk covariance within classes, as an operator. A row of class c counts as x / scale - `centre[c]`.
struct Within<'a> {
    rows: &'a Rows<'a>,
    labels: &'a [bool],
    /// Share of each row, all together 1.
    shares: Vec<f64>,
    scale: &'a [f64],
    /// Means of class 0 and 1, raw, over scale.
    centre: [Vec<f64>; 2],
    shrinkage: f64,
    /// The multiple of the identity.
    floor: f64,
    /// Features that are the same in all rows of a class, for each class.
    constant: Vec<bool>,
}

impl<'a> Within<'a> {
    fn new(
        rows: &'a Rows<'a>,
        labels: &'a [bool],
        weights: &[f64],
        scaler: &'a Scaler,
        means: &[Vec<f64>; 2],
        shrinkage: f64,
    ) -> Self {
        let total: f64 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        let scale = scaler.scale.as_slice();
        let centre = [0, 1].map(|class: usize| {
            let raw =
                means[class].iter().zip(&scaler.mean).zip(scale).map(|((mean, shift), scale)| mean + shift / scale);
            raw.collect::<Vec<f64>>()
        });
        let lanes: Vec<[f64; 2]> =
            (0..rows.rows()).map(|row| if labels[row] { [0.0, shares[row]] } else { [shares[row], 0.0] }).collect();
        let share = [0, 1].map(|class: usize| lanes.iter().map(|lane| lane[class]).sum::<f64>());
        // Values that are 0 are not seen by a product, so their deviations are added afterwards.
        let noise = rows.rows() as f64 * f64::EPSILON;
        let one = |value: f64| f64::from(u8::from(value != 0.0));
        let active = transposed_product(rows, &lanes, |value, _| one(value)); // (feature, class)
        let seen = [0, 1].map(|class: usize| {
            transposed_product(rows, &lanes, |value, column| {
                let near = (value / scale[column] - centre[class][column]) * one(value);
                near * near
            })
        });
        let variances: Vec<f64> = (0..rows.columns())
            .map(|column| {
                let of_class = |class: usize| {
                    let left = share[class] - active[column][class];
                    let zeros = if left > noise { left } else { 0.0 };
                    seen[class][column][class] + zeros * centre[class][column].powi(2)
                };
                of_class(0) + of_class(1)
            })
            .collect();
        let rounding = |column: usize| {
            let size = centre[0][column].abs().max(centre[1][column].abs());
            (noise * size).powi(2)
        };
        let constant = (0..rows.columns()).map(|column| variances[column] <= rounding(column)).collect();
        let floor = shrinkage * variances.iter().sum::<f64>() / rows.columns() as f64;
        Within { rows, labels, shares, scale, centre, shrinkage, floor, constant }
    }

    fn apply(&self, v: &[f64]) -> Vec<f64> {
        let scaled: Vec<[f64; 1]> = v.iter().zip(self.scale).map(|(v, scale)| [v / scale]).collect();
        let shift = [0, 1].map(|class: usize| dot(&self.centre[class], v));
        let mut along = product(self.rows, &scaled); // (row)
        let mut sums = [0.0; 2];
        for (row, along) in along.iter_mut().enumerate() {
            let class = usize::from(self.labels[row]);
            along[0] = self.shares[row] * (along[0] - shift[class]);
            sums[class] += along[0];
        }
        let back = transposed_product(self.rows, &along, |value, _| value); // (feature)
        let keep = 1.0 - self.shrinkage;
        let of_feature = |k: usize| {
            let within = back[k][0] / self.scale[k] - self.centre[0][k] * sums[0] - self.centre[1][k] * sums[1];
            keep * within + self.floor * v[k]
        };
        (0..v.len()).map(of_feature).collect()
    }

    /// Conjugate gradients from 0 up to the tolerance.
    fn solve_iterated(&self, right: &[f64], tolerance: f64, max_iterations: usize) -> Solution {
        // Half of it, because the recurrence drifts from the true residual by rounding.
        let target = 0.5 * tolerance * norm(right);
        let rest_of = |weights: &[f64]| difference(right, &self.apply(weights));
        let mut solution = vec![0.0; right.len()];
        let (mut rest, mut direction) = (right.to_vec(), right.to_vec());
        let mut square = dot(&rest, &rest);
        let mut iterations = 0;
        while square.sqrt() > target && iterations < max_iterations {
            let image = self.apply(&direction);
            let step = square / dot(&direction, &image);
            for k in 0..rest.len() {
                solution[k] += step * direction[k];
                rest[k] -= step * image[k];
            }
            iterations += 1;
            if iterations % 64 == 0 {
                rest = rest_of(&solution);
            }
            let next = dot(&rest, &rest);
            let turn = next / square;
            direction.iter_mut().zip(&rest).for_each(|(direction, rest)| *direction = rest + turn * *direction);
            square = next;
        }
        Solution { rest: norm(&rest_of(&solution)), weights: solution, iterations }
    }

    /// Cholesky of the covariance, refined.
    fn solve_factored(&self, right: &[f64]) -> Result<Solution> {
        let size = right.len();
        let mut covariance = self.covariance();
        for k in 0..size {
            let pinned = self.shrinkage == 0.0 && self.constant[k];
            ensure!(!pinned || right[k] == 0.0, "feature {k} is constant within both classes and differs between them";
                help: "use a shrinkage above 0, or check whether feature {k} is the label in another form");
            covariance[k * size + k] += if pinned { 1.0 } else { self.floor };
        }
        let mut factor = covariance.clone();
        ensure!(factorise(&mut factor, size), "the covariance of {size} features cannot be inverted";
            help: "use a shrinkage above {}", self.shrinkage);
        let mut weights = solve_triangles(&factor, right);
        let rest_of = |weights: &[f64]| difference(right, &multiply(&covariance, weights));
        for _ in 0..2 {
            let better = solve_triangles(&factor, &rest_of(&weights));
            weights.iter_mut().zip(&better).for_each(|(value, change)| *value += change);
        }
        Ok(Solution { rest: norm(&rest_of(&weights)), weights, iterations: 0 })
    }

    /// (1 - a) S, row after row; only what lies left of the diagonal and on it.
    fn covariance(&self) -> Vec<f64> {
        let size = self.rows.columns();
        let mut covariance = vec![0.0; size * size];
        let mut chunk: Vec<Vec<f64>> = Vec::new();
        let mut add = |chunk: &mut Vec<Vec<f64>>| {
            covariance.par_chunks_mut(size).enumerate().for_each(|(k, out)| {
                for row in chunk.iter() {
                    out[..=k].iter_mut().zip(row).for_each(|(out, value)| *out += row[k] * value);
                }
            });
            chunk.clear();
        };
        let mut number = 0;
        for part in self.rows.parts() {
            for row in 0..part.rows() {
                let class = usize::from(self.labels[number]);
                let root = ((1.0 - self.shrinkage) * self.shares[number]).sqrt();
                let mut dense: Vec<f64> = self.centre[class].iter().map(|centre| -centre * root).collect();
                part.for_each(row, |k, value| dense[k] = (value / self.scale[k] - self.centre[class][k]) * root);
                (0..size).filter(|k| self.constant[*k]).for_each(|k| dense[k] = 0.0);
                chunk.push(dense);
                number += 1;
                if chunk.len() == 256 {
                    add(&mut chunk);
                }
            }
        }
        add(&mut chunk);
        covariance
    }
}

/// Cholesky in place of the lower triangle; false where a pivot is not clearly positive.
fn factorise(matrix: &mut [f64], size: usize) -> bool {
    for k in 0..size {
        let (above, here) = matrix.split_at_mut(k * size);
        for j in 0..k {
            let other = &above[j * size..=j * size + j];
            here[j] = (here[j] - dot(&here[..j], &other[..j])) / other[j];
        }
        let diagonal = here[k];
        let pivot = diagonal - dot(&here[..k], &here[..k]);
        let clear = pivot > size as f64 * f64::EPSILON * diagonal;
        if !clear {
            return false;
        }
        here[k] = pivot.sqrt();
    }
    true
}

fn solve_triangles(factor: &[f64], right: &[f64]) -> Vec<f64> {
    let size = right.len();
    let mut x = right.to_vec();
    for k in 0..size {
        let row = &factor[k * size..=k * size + k];
        x[k] = (x[k] - dot(&row[..k], &x[..k])) / row[k];
    }
    for k in (0..size).rev() {
        let row = &factor[k * size..=k * size + k];
        let value = x[k] / row[k];
        x[k] = value;
        x[..k].iter_mut().zip(row).for_each(|(x, factor)| *x -= factor * value);
    }
    x
}

/// A symmetric matrix of which only the lower triangle is read, times v.
fn multiply(matrix: &[f64], v: &[f64]) -> Vec<f64> {
    let size = v.len();
    let mut out = vec![0.0; size];
    for k in 0..size {
        let row = &matrix[k * size..=k * size + k];
        out[k] += dot(row, &v[..=k]);
        out[..k].iter_mut().zip(row).for_each(|(out, value)| *out += value * v[k]);
    }
    out
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Eight sums at a time, in one order whatever the processor.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (heads, tail) = a.as_chunks::<8>();
    let (others, rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in heads.iter().zip(others) {
        (0..8).for_each(|k| sums[k] += a[k] * b[k]);
    }
    sums.iter().sum::<f64>() + tail.iter().zip(rest).map(|(a, b)| a * b).sum::<f64>()
}

fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::cases::{self, booleans, dense};
    use crate::probe::matrix::Matrix;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        rows: usize,
        columns: usize,
        values: Vec<f64>,
        labels: Vec<u8>,
        shrinkage: f64,
        decisions: Vec<f64>,
    }

    fn golden() -> Vec<Case> {
        cases::golden("discriminant")
    }

    fn fit(
        matrix: &Matrix,
        labels: &[bool],
        weights: &[f64],
        options: &DiscriminantOptions,
    ) -> Result<DiscriminantFit> {
        let rows = Rows::new(&[matrix]).unwrap();
        let scaler = cases::scaler(matrix, weights);
        fit_discriminant(&rows, labels, weights, &scaler, options)
    }

    #[test]
    fn decisions_equal_scikit_learn() {
        let cases = golden();
        assert!(cases.len() >= 5);
        for case in cases {
            let matrix = dense(case.rows, case.columns, case.values);
            let labels = booleans(&case.labels);
            let largest = case.decisions.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            for factored_features in [0, 1024] {
                let options = DiscriminantOptions {
                    shrinkage: case.shrinkage,
                    tolerance: 1e-11,
                    factored_features,
                    ..DiscriminantOptions::default()
                };
                let fit = fit(&matrix, &labels, &vec![1.0; case.rows], &options).unwrap();
                let found = fit.probe.decide(&Rows::new(&[&matrix]).unwrap());
                for (found, expected) in found.iter().zip(&case.decisions) {
                    assert!((found - expected).abs() <= 1e-8 * largest, "{} {found} {expected}", case.shrinkage);
                }
            }
        }
    }

    #[test]
    fn a_weight_of_two_is_a_row_that_stands_twice() {
        let case = golden().remove(0);
        let columns = case.columns;
        let labels = booleans(&case.labels);
        let once = dense(case.rows, columns, case.values.clone());
        let mut weights = vec![1.0; case.rows];
        (weights[3], weights[5]) = (2.0, 0.0);
        let mut doubled = case.values[3 * columns..4 * columns].to_vec();
        doubled.extend((0..case.rows).filter(|row| *row != 5).flat_map(|row| &case.values[row * columns..][..columns]));
        let twice = dense(case.rows, columns, doubled);
        let mut twice_labels = vec![labels[3]];
        twice_labels.extend((0..case.rows).filter(|row| *row != 5).map(|row| labels[row]));
        let options = DiscriminantOptions::default();
        let a = fit(&once, &labels, &weights, &options).unwrap().probe;
        let b = fit(&twice, &twice_labels, &vec![1.0; case.rows], &options).unwrap().probe;
        for (a, b) in a.weights.iter().zip(&b.weights).chain([(&a.intercept, &b.intercept)]) {
            assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn an_offset_of_the_features_changes_no_weight() {
        let case = golden().remove(1);
        let labels = booleans(&case.labels);
        let probe = |offset: f64| {
            let values = case.values.iter().map(|value| value + offset).collect();
            let matrix = dense(case.rows, case.columns, values);
            fit(&matrix, &labels, &vec![1.0; case.rows], &DiscriminantOptions::default()).unwrap().probe
        };
        let (here, far) = (probe(0.0), probe(1e5));
        here.weights.iter().zip(&far.weights).for_each(|(a, b)| assert!((a - b).abs() < 1e-8, "{a} {b}"));
    }

    #[test]
    fn the_residual_bounds_the_error_of_the_weights() {
        let case = golden().remove(0);
        let labels = booleans(&case.labels);
        let matrix = dense(case.rows, case.columns, case.values);
        let options = |tolerance, factored_features| DiscriminantOptions {
            tolerance,
            factored_features,
            ..DiscriminantOptions::default()
        };
        let exact = fit(&matrix, &labels, &vec![1.0; case.rows], &options(1e-10, 1024)).unwrap();
        let rough = fit(&matrix, &labels, &vec![1.0; case.rows], &options(1e-2, 0)).unwrap();
        let distances = exact.probe.weights.iter().zip(&rough.probe.weights).map(|(a, b)| (a - b).powi(2));
        let distance = distances.sum::<f64>().sqrt();
        assert!(distance > 1e-9 && distance <= rough.weight_error.unwrap(), "{distance}");
    }

    #[test]
    fn what_cannot_be_inverted_is_an_error() {
        let none = DiscriminantOptions { shrinkage: 0.0, ..DiscriminantOptions::default() };
        let message = |columns: usize, values: &[f64], options: &DiscriminantOptions| {
            let matrix = dense(values.len() / columns, columns, values.to_vec());
            let labels: Vec<bool> = (0..values.len() / columns).map(|row| row % 2 == 1).collect();
            fit(&matrix, &labels, &vec![1.0; labels.len()], options).unwrap_err()
        };
        let wide = message(3, &[1., 2., 3., 4., 5., 7., 1., 0., 2., 6., 5., 5.], &none);
        assert!(wide.message.starts_with("3 features of 4 rows have no covariance"));
        assert_eq!(wide.help.unwrap(), "use a shrinkage above 0, for instance 0.1");
        let twins = [1., 1., 2., 2., 4., 4., 3., 3., 7., 7., 5., 5.];
        assert!(message(2, &twins, &none).message.starts_with("the covariance of 2 features cannot"));
        let label = [1., 0., 2., 1., 4., 0., 3., 1., 7., 0., 5., 1.];
        assert!(message(2, &label, &none).message.starts_with("feature 1 is constant within both classes"));
        let outside = DiscriminantOptions { shrinkage: 1.5, ..DiscriminantOptions::default() };
        assert!(message(1, &[1., 2., 4., 5.], &outside).message.starts_with("a shrinkage of `1.5`"));
        let hasty = DiscriminantOptions { max_iterations: 1, factored_features: 0, ..DiscriminantOptions::default() };
        assert!(message(2, &label, &hasty).message.contains("after 1 steps"));
    }
}
