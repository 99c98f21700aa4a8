//! The estimators as linfa sees them, and linfa's own logistic regression as a second opinion.

use linfa::dataset::{AsSingleTargets, DatasetBase};
use linfa::traits::{Fit, PredictInplace};
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ArrayBase, Data, Ix2};

use super::classes::weigh_classes;
use super::discriminant::{DiscriminantOptions, fit_discriminant};
use super::linear::{Linear, probability};
use super::logistic::{Options, Task, fit_logistic};
use super::matrix::{Matrix, Values};
use super::means::{MeansOptions, fit_means};
use super::product::{Rows, transposed_product};
use super::scaler::{Scaler, fit_scalers};
use super::sparse_logistic::{SparseLogisticOptions, fit_sparse_logistic};
use crate::error::{Error, Result, ensure};

/// What can be fitted. Implements linfa's [`Fit`] for any labels of two kinds, the larger of which is class 1; features
/// are standardised over the rows of the data set, and its weights count rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Estimator {
    /// L2-penalised logistic regression.
    Logistic {
        /// Inverse strength of the penalty, above 0.
        c: f64,
    },
    /// L1 or elastic net logistic regression, with one C.
    SparseLogistic(SparseLogisticOptions),
    /// Difference of class means.
    Means(MeansOptions),
    /// Linear discriminant analysis.
    Discriminant(DiscriminantOptions),
}

impl Estimator {
    /// Fits the rows whose weight is above 0, standardised by this scaler.
    ///
    /// # Errors
    /// What the fit reports; more or fewer than one C for sparse logistic regression.
    pub fn fit_probe(&self, rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler) -> Result<Linear> {
        match self {
            Estimator::Logistic { c } => {
                let task = Task { labels, weights, scaler, c: *c, start: None };
                Ok(fit_logistic(rows, &[task], &Options::default())?.remove(0).probe)
            }
            Estimator::SparseLogistic(options) => {
                ensure!(options.c.len() == 1, "{} values of C for one probe", options.c.len(); help: "give one C");
                Ok(fit_sparse_logistic(rows, labels, weights, scaler, options)?.remove(0).probe)
            }
            Estimator::Means(options) => Ok(fit_means(rows, labels, weights, scaler, options)?.probe),
            Estimator::Discriminant(options) => Ok(fit_discriminant(rows, labels, weights, scaler, options)?.probe),
        }
    }
}

/// A fitted probe that answers with labels: class 1 where its decision value is above 0. Implements linfa's
/// [`PredictInplace`], and with it `Predict`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted<L> {
    /// The probe, its scaler inside.
    pub probe: Linear,
    /// The labels of class 0 and class 1.
    pub classes: [L; 2],
}

impl<D, L, T> Fit<ArrayBase<D, Ix2>, T, Error> for Estimator
where
    D: Data<Elem = f64>,
    L: Copy + Ord,
    T: AsSingleTargets<Elem = L>,
{
    type Object = Fitted<L>;

    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Fitted<L>> {
        let targets = dataset.targets().as_single_targets();
        let mut kinds: Vec<L> = targets.iter().copied().collect();
        kinds.sort_unstable();
        kinds.dedup();
        ensure!(kinds.len() == 2, "{} kinds of labels, a probe needs 2 classes", kinds.len();
            help: "leave the rows of all but 2 kinds out");
        let labels: Vec<bool> = targets.iter().map(|label| *label == kinds[1]).collect();
        let records = dataset.records();
        let matrix = Matrix::new(records.nrows(), records.ncols(), Values::Dense64(records.iter().copied().collect()))?;
        let rows = Rows::new(&[&matrix])?;
        let weights = match dataset.weights() {
            Some(weights) => weights.iter().map(|weight| f64::from(*weight)).collect(),
            None => vec![1.0; matrix.rows()],
        };
        ensure!(weights.len() == matrix.rows(), "{} weights for {} rows", weights.len(), matrix.rows();
            help: "give one weight per row");
        let scaler = fit_scalers(&rows, &[&weights]).remove(0);
        Ok(Fitted { probe: self.fit_probe(&rows, &labels, &weights, &scaler)?, classes: [kinds[0], kinds[1]] })
    }
}

impl<D: Data<Elem = f64>, L: Copy> PredictInplace<ArrayBase<D, Ix2>, Array1<L>> for Fitted<L> {
    fn predict_inplace(&self, x: &ArrayBase<D, Ix2>, y: &mut Array1<L>) {
        assert_eq!(x.nrows(), y.len(), "one label per row");
        assert_eq!(x.ncols(), self.probe.weights.len(), "the features that the probe was fitted on");
        let (weights, intercept) = self.probe.raw();
        let decisions = x.dot(&Array1::from(weights));
        y.iter_mut().zip(decisions).for_each(|(y, decision)| {
            *y = self.classes[usize::from(decision + intercept > 0.0)];
        });
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<L> {
        Array1::from_elem(x.nrows(), self.classes[0])
    }
}

impl From<linfa::error::Error> for Error {
    fn from(error: linfa::error::Error) -> Self {
        Error::input(error.to_string())
    }
}

/// Standardised values that linfa's dense matrix may have: 512 MB.
const MOST_VALUES: usize = 64_000_000;
/// Iterations of L-BFGS that linfa may take.
const MOST_ITERATIONS: u64 = 20_000;
/// |w - w*| is proved to be at most this share of |w|; rounding of the cost keeps linfa from much better.
const TOLERANCE: f64 = 1e-3;

/// L2-penalised logistic regression by linfa-logistic, alpha = 1 / C, to cross-check our own. Its positive class is the
/// more frequent one; the probe that is returned is turned so that class 1 is above 0. linfa tells neither that it ran
/// out of iterations nor that its line search failed, so the gradient is measured here.
///
/// # Errors
/// Row weights other than 0 and 1; more than 64 million values; a C that is not above 0; labels or scaler that do not
/// belong to the rows; one class only; a gradient that does not prove |w - w*| <= 0.001 |w|.
pub fn fit_with_linfa(rows: &Rows, labels: &[bool], weights: &[f64], scaler: &Scaler, c: f64) -> Result<Linear> {
    ensure!(c.is_finite() && c > 0.0, "an inverse strength C of `{c}` is not above 0"; help: "use C above 0");
    weigh_classes(rows, labels, weights, scaler)?;
    let other = weights.iter().find(|weight| **weight != 0.0 && **weight != 1.0);
    ensure!(other.is_none(), "linfa knows no row weights, found `{}`", other.unwrap_or(&1.0);
        help: "use our own logistic regression, or weights of 0 and 1");
    let used: Vec<usize> = (0..rows.rows()).filter(|row| weights[*row] > 0.0).collect();
    let values = used.len().saturating_mul(rows.columns());
    ensure!(values <= MOST_VALUES, "{} rows of {} features are too many for linfa's dense matrix", used.len(),
        rows.columns(); help: "use our own logistic regression, or {MOST_VALUES} values at most");
    let targets: Array1<bool> = used.iter().map(|row| labels[*row]).collect();
    let dataset = DatasetBase::new(standardise(rows, weights, scaler, used.len()), targets);
    let model = LogisticRegression::default()
        .alpha(1.0 / c)
        .max_iterations(MOST_ITERATIONS)
        .gradient_tolerance(1e-9)
        .fit(&dataset)
        .map_err(|error| Error::experiment(format!("linfa's logistic regression failed: {error}")))?;
    let sign = if model.labels().pos.class { 1.0 } else { -1.0 };
    let probe = Linear {
        weights: model.params().iter().map(|weight| sign * weight).collect(),
        intercept: sign * model.intercept(),
        scaler: scaler.clone(),
    };
    let slope = gradient_norm(rows, labels, weights, &probe, c);
    let size = probe.weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    if c * slope <= TOLERANCE * size {
        return Ok(probe);
    }
    let message = format!("linfa's logistic regression stopped at C = {c} with a gradient of {slope:.1e}");
    Err(Error::experiment(message).with_help("use our own logistic regression, or a smaller C"))
}

/// The used rows, standardised and dense.
fn standardise(rows: &Rows, weights: &[f64], scaler: &Scaler, used: usize) -> Array2<f64> {
    let zero = scaler.mean.iter().zip(&scaler.scale).map(|(mean, scale)| -mean / scale);
    let zero: Array1<f64> = zero.collect();
    let mut dense = Array2::zeros((used, rows.columns()));
    let mut places = dense.rows_mut().into_iter();
    let mut number = 0;
    for part in rows.parts() {
        for row in 0..part.rows() {
            if weights[number] > 0.0 {
                let mut place = places.next().expect("a place per used row");
                place.assign(&zero);
                part.for_each(row, |k, value| place[k] = (value - scaler.mean[k]) / scaler.scale[k]);
            }
            number += 1;
        }
    }
    dense
}

/// Length of the gradient of the loss plus |w|^2 / (2 C) by w and by the intercept.
fn gradient_norm(rows: &Rows, labels: &[bool], weights: &[f64], probe: &Linear, c: f64) -> f64 {
    let decisions = probe.decide(rows);
    let pushes: Vec<[f64; 1]> = (0..decisions.len())
        .map(|row| [weights[row] * (probability(decisions[row]) - f64::from(u8::from(labels[row])))])
        .collect();
    let sum: f64 = pushes.iter().map(|push| push[0]).sum();
    let products = transposed_product(rows, &pushes, |value, _| value); // (feature)
    let Scaler { mean, scale } = &probe.scaler;
    let slopes = (0..products.len()).map(|k| (products[k][0] - mean[k] * sum) / scale[k] + probe.weights[k] / c);
    slopes.chain([sum]).map(|slope| slope * slope).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::probe::matrix::Sparse;
    use linfa::traits::Predict;
    use ndarray::array;

    /// Rows with zeros, in which feature 0 tells class 1, which `share` of the rows belong to.
    fn rows_of_two_classes(count: usize, columns: usize, share: f64) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(7);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let label = random.chance(share);
            let signal = if label { 1.0 } else { 0.0 };
            values.push(signal + random.normal());
            values.extend((1..columns).map(|_| if random.chance(0.5) { random.normal().exp() } else { 0.0 }));
            labels.push(label);
        }
        (Matrix::new(count, columns, Values::Dense64(values)).unwrap(), labels)
    }

    #[test]
    fn linfa_agrees_whichever_class_is_more_frequent() {
        for share in [0.25, 0.75] {
            let (matrix, labels) = rows_of_two_classes(80, 12, share);
            let rows = Rows::new(&[&matrix]).unwrap();
            let mut weights = vec![1.0; 80];
            weights[3] = 0.0;
            let scaler = fit_scalers(&rows, &[&weights]).remove(0);
            let theirs = fit_with_linfa(&rows, &labels, &weights, &scaler, 0.5).unwrap();
            let ours = Estimator::Logistic { c: 0.5 }.fit_probe(&rows, &labels, &weights, &scaler).unwrap();
            assert!(ours.weights[0] > 0.1);
            let pairs = ours.weights.iter().zip(&theirs.weights).chain([(&ours.intercept, &theirs.intercept)]);
            pairs.for_each(|(ours, theirs)| assert!((ours - theirs).abs() < 1e-6, "{share}: {ours} {theirs}"));
        }
    }

    #[test]
    fn what_linfa_cannot_do_is_an_error() {
        let (matrix, labels) = rows_of_two_classes(20, 2, 0.5);
        let rows = Rows::new(&[&matrix]).unwrap();
        let scaler = Scaler { mean: vec![0.0; 2], scale: vec![1.0; 2] };
        let error = fit_with_linfa(&rows, &labels, &[0.5; 20], &scaler, 1.0).unwrap_err();
        assert_eq!(error.message, "linfa knows no row weights, found `0.5`");
        let error = fit_with_linfa(&rows, &labels, &[1.0; 20], &scaler, 0.0).unwrap_err();
        assert!(error.message.starts_with("an inverse strength C of `0`"));
        let empty = Sparse { starts: vec![0; 8001], ..Sparse::default() };
        let large = Matrix::new(8000, 8001, Values::Sparse32(empty)).unwrap();
        let scaler = Scaler { mean: vec![0.0; 8001], scale: vec![1.0; 8001] };
        let labels: Vec<bool> = (0..8000).map(|row| row % 2 == 0).collect();
        let rows = Rows::new(&[&large]).unwrap();
        let error = fit_with_linfa(&rows, &labels, &[1.0; 8000], &scaler, 1.0).unwrap_err();
        assert!(error.message.starts_with("8000 rows of 8001 features are too many"));
    }

    #[test]
    fn a_fit_that_has_not_arrived_is_seen_in_its_gradient() {
        let (matrix, labels) = rows_of_two_classes(60, 4, 0.5);
        let rows = Rows::new(&[&matrix]).unwrap();
        let scaler = fit_scalers(&rows, &[&[1.0; 60]]).remove(0);
        let mut probe = fit_with_linfa(&rows, &labels, &[1.0; 60], &scaler, 1.0).unwrap();
        assert!(gradient_norm(&rows, &labels, &[1.0; 60], &probe, 1.0) < 1e-5);
        probe.weights[2] += 0.01;
        assert!(gradient_norm(&rows, &labels, &[1.0; 60], &probe, 1.0) > 1e-2);
    }

    #[test]
    fn every_estimator_fits_and_predicts_through_linfa() {
        let (matrix, labels) = rows_of_two_classes(60, 3, 0.5);
        let Values::Dense64(values) = matrix.values() else { unreachable!() };
        let records = Array2::from_shape_vec((60, 3), values.clone()).unwrap();
        let words: Array1<&str> = labels.iter().map(|label| if *label { "faking" } else { "aligned" }).collect();
        let dataset = DatasetBase::new(records, words);
        for estimator in [
            Estimator::Logistic { c: 1.0 },
            Estimator::SparseLogistic(SparseLogisticOptions { c: vec![1.0], ..Default::default() }),
            Estimator::Means(MeansOptions::default()),
            Estimator::Discriminant(DiscriminantOptions::default()),
        ] {
            let fitted = estimator.fit(&dataset).unwrap();
            assert_eq!(fitted.classes, ["aligned", "faking"]);
            let answers: Array1<&str> = fitted.predict(dataset.records());
            let decisions = fitted.probe.decide(&Rows::new(&[&matrix]).unwrap());
            assert!(answers.iter().zip(decisions).all(|(answer, decision)| (*answer == "faking") == (decision > 0.0)));
            let right = answers.iter().zip(dataset.targets()).filter(|(answer, label)| answer == label).count();
            assert!(right > 35, "{estimator:?}: {right} of 60");
        }
    }

    #[test]
    fn weights_of_a_data_set_count_rows() {
        let records = array![[0.0], [1.0], [3.0], [9.0]];
        let targets = array![0usize, 1, 1, 0];
        let dataset = DatasetBase::new(records, targets).with_weights(array![1.0, 1.0, 1.0, 0.0]);
        let fitted = Estimator::Means(MeansOptions::default()).fit(&dataset).unwrap();
        let answers: Array1<usize> = fitted.predict(&array![[0.9], [1.1]]);
        assert_eq!(answers, array![0, 1]);
        let three = DatasetBase::new(array![[0.0], [1.0], [2.0]], array![0usize, 1, 2]);
        let error = Estimator::Logistic { c: 1.0 }.fit(&three).unwrap_err();
        assert!(error.message.starts_with("3 kinds of labels"));
    }
}
