//! Tests of sparse logistic regression against scikit-learn and against its own laws.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::probe::cases::{self, booleans, dense, sparse};
use crate::probe::matrix::Matrix;

#[derive(Deserialize)]
struct Case {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
    labels: Vec<u8>,
    row_weights: Vec<f64>,
    fits: Vec<Expected>,
}
#[derive(Deserialize)]
struct Expected {
    c: f64,
    l1_ratio: f64,
    objective: f64,
    intercept: f64,
    weights: Vec<f64>,
    non_zeros: Vec<usize>,
}

fn golden() -> Vec<Case> {
    cases::golden("sparse_logistic")
}

fn fit(
    matrix: &Matrix,
    labels: &[bool],
    weights: &[f64],
    options: &SparseLogisticOptions,
) -> Result<Vec<SparseLogisticFit>> {
    let rows = Rows::new(&[matrix]).unwrap();
    let scaler = cases::scaler(matrix, weights);
    fit_sparse_logistic(&rows, labels, weights, &scaler, options)
}

#[test]
fn fits_equal_scikit_learn() {
    let mut compared = 0;
    for case in golden() {
        let matrix = sparse(case.rows, case.columns, &case.values);
        for (ratio, tolerance) in [(1.0, 1e-9), (1.0, 1e-12), (0.5, 1e-12), (0.1, 1e-12)] {
            let expected: Vec<&Expected> = case.fits.iter().filter(|fit| fit.l1_ratio == ratio).collect();
            let options = SparseLogisticOptions {
                c: expected.iter().map(|fit| fit.c).collect(),
                l1_ratio: ratio,
                tolerance,
                ..SparseLogisticOptions::default()
            };
            let fits = fit(&matrix, &booleans(&case.labels), &case.row_weights, &options).unwrap();
            for (fit, expected) in fits.iter().zip(expected) {
                let name = format!("C {} L1 {ratio} columns {}", expected.c, case.columns);
                assert!((fit.objective / expected.objective - 1.0).abs() < 1e-9, "{name}");
                let weights = fit.probe.weights.iter().zip(&expected.weights);
                for (found, expected) in weights.chain([(&fit.probe.intercept, &expected.intercept)]) {
                    assert!((found - expected).abs() < 1e-5, "{name}: {found} {expected}");
                }
                let found = fit.probe.weights.iter().enumerate().filter(|(_, w)| **w != 0.0).map(|(k, _)| k);
                assert_eq!(found.collect::<Vec<_>>(), expected.non_zeros, "{name}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 36);
}

#[test]
fn the_model_is_empty_up_to_the_largest_empty_c() {
    for case in golden() {
        let matrix = sparse(case.rows, case.columns, &case.values);
        let labels = booleans(&case.labels);
        let rows = Rows::new(&[&matrix]).unwrap();
        let scaler = cases::scaler(&matrix, &case.row_weights);
        for l1_ratio in [1.0, 0.5] {
            let c = largest_empty_c(&rows, &labels, &case.row_weights, &scaler, l1_ratio).unwrap();
            let options = SparseLogisticOptions { c: vec![c * 1.001, c * 0.999], l1_ratio, ..Default::default() };
            let fits = fit(&matrix, &labels, &case.row_weights, &options).unwrap();
            assert!(fits[0].non_zeros >= 1 && fits[1].non_zeros == 0);
        }
    }
}

#[test]
fn an_offset_of_the_features_changes_no_weight() {
    let case = golden().remove(0);
    let probe = |offset: f64| {
        let values = case.values.iter().map(|value| value + offset).collect();
        let matrix = dense(case.rows, case.columns, values);
        let options = SparseLogisticOptions { c: vec![0.3], tolerance: 1e-12, ..Default::default() };
        fit(&matrix, &booleans(&case.labels), &case.row_weights, &options).unwrap().remove(0).probe
    };
    let (here, far) = (probe(0.0), probe(1e5));
    assert!(here.non_zeros() > 2);
    here.weights.iter().zip(&far.weights).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} {b}"));
}

#[test]
fn features_that_are_the_same_in_all_rows_get_no_weight() {
    let values = vec![7., 0., 1., 7., 0., 2., 7., 0., 3., 7., 0., 1.];
    let matrix = dense(4, 3, values);
    let options = SparseLogisticOptions { c: vec![1.0], ..Default::default() };
    let fit = fit(&matrix, &[false, true, true, false], &[1.0; 4], &options).unwrap().remove(0);
    assert_eq!(fit.probe.weights[..2], [0.0, 0.0]);
    assert_eq!(fit.non_zeros, 1);
}

#[test]
fn what_is_out_of_range_is_an_error() {
    let matrix = dense(4, 1, vec![1., 2., 3., 1.]);
    let message = |options: SparseLogisticOptions| {
        fit(&matrix, &[false, true, true, false], &[1.0; 4], &options).unwrap_err().message
    };
    let base = SparseLogisticOptions::default;
    assert!(message(SparseLogisticOptions { l1_ratio: 0.0, ..base() }).starts_with("an L1 share of `0`"));
    assert!(message(SparseLogisticOptions { c: vec![-1.0], ..base() }).starts_with("an inverse strength C of `-1`"));
    let hasty = SparseLogisticOptions { c: vec![1.0], max_rounds: 0, ..base() };
    assert!(message(hasty).starts_with("the fit at C = 1 has a relative duality gap"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// No point near the fit is better than the gap allows.
    #[test]
    fn the_gap_bounds_what_any_change_can_gain(
        values in proptest::collection::vec(prop_oneof![Just(0.0), 0.1f64..5.0], 60),
        labels in proptest::collection::vec(any::<bool>(), 12),
        direction in proptest::collection::vec(-1.0f64..1.0, 6),
        exponent in -4.0f64..0.0,
        l1_ratio in 0.05f64..1.0,
        c in 0.05f64..20.0,
    ) {
        prop_assume!(labels.contains(&true) && labels.contains(&false));
        let matrix = dense(12, 5, values.clone());
        let options = SparseLogisticOptions { c: vec![c], l1_ratio, ..Default::default() };
        let fit = fit(&matrix, &labels, &[1.0; 12], &options).unwrap().remove(0);
        let objective = |probe: &Linear| -> f64 {
            let decisions = probe.decide(&Rows::new(&[&matrix]).unwrap());
            let losses = decisions.iter().zip(&labels).map(|(f, y)| (if *y { -*f } else { *f }).exp().ln_1p());
            let penalties = probe.weights.iter().map(|w| l1_ratio * w.abs() + (1.0 - l1_ratio) * w * w / 2.0);
            losses.sum::<f64>() + penalties.sum::<f64>() / c
        };
        let here = objective(&fit.probe);
        prop_assert!((here / fit.objective - 1.0).abs() < 1e-9);
        let mut moved = fit.probe.clone();
        let step = 10f64.powf(exponent);
        moved.weights.iter_mut().zip(&direction).for_each(|(w, change)| *w += step * change);
        moved.intercept += step * direction[5];
        prop_assert!(objective(&moved) >= here - fit.gap - 1e-12 * here.abs());
    }
}
