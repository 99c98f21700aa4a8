//! Tests of L2 logistic regression against scikit-learn, against its own certificate and against its other path.

use serde::Deserialize;

use super::*;
use crate::data::digest::Digest;
use crate::probe::cases::{self, dense, sparse};
use crate::probe::kept::KeptProducts;
use crate::probe::matrix::Matrix;
use crate::probe::scaler::fit_scalers;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    detector: Vec<Expected>,
}
#[derive(Deserialize)]
struct Case {
    rows: usize,
    columns: usize,
    seed: u32,
    labels: String,
    weights: Vec<f64>,
    fits: Vec<Expected>,
}
/// The first weights and the decision values of the first rows.
#[derive(Deserialize)]
struct Expected {
    c: f64,
    length: f64,
    intercept: f64,
    weights: Vec<f64>,
    decisions: Vec<f64>,
}

fn golden() -> Golden {
    // Made by tests/generators/probe_logistic.py.
    serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/logistic.json")))
        .unwrap()
}

/// The values of the generator script: six in ten are 0, the last column is 3 everywhere and the one before it 0.
fn values(rows: usize, columns: usize, seed: u32) -> Vec<f64> {
    let mut state = seed;
    let values = (0..rows * columns).map(|index| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = if (state >> 24) % 10 >= 6 { f64::from((state >> 8) % 256) / 32.0 } else { 0.0 };
        match index % columns {
            column if column + 1 == columns => 3.0,
            column if column + 2 == columns => 0.0,
            _ => value,
        }
    });
    values.collect()
}

/// Activations with labels that lean on the first four features, and the scaler of all rows.
struct Problem {
    matrix: Matrix,
    labels: Vec<bool>,
    weights: Vec<f64>,
    scaler: Scaler,
}

impl Problem {
    fn new(matrix: Matrix, labels: Vec<bool>, weights: Vec<f64>) -> Self {
        let scaler = cases::scaler(&matrix, &weights);
        Problem { matrix, labels, weights, scaler }
    }
    fn made(rows: usize, columns: usize, seed: u32) -> Self {
        let values = values(rows, columns, seed);
        let score = |row: usize| {
            let x = &values[row * columns..][..9];
            x[0] - x[1] + 0.5 * x[2] + x[3] + x[4] - x[5] + x[6] - x[7] + x[8] - 3.0
        };
        let labels = (0..rows).map(|row| score(row) > 0.0).collect();
        Self::new(dense(rows, columns, values), labels, vec![1.0; rows])
    }
    fn task(&self, c: f64) -> Task<'_> {
        Task { labels: &self.labels, weights: &self.weights, scaler: &self.scaler, c, start: None }
    }
    fn fit(&self, c: f64) -> Result<Fit> {
        fit_tasks(&self.matrix, &[self.task(c)], &Options::default()).map(|mut fits| fits.remove(0))
    }
}

fn fit_tasks(matrix: &Matrix, tasks: &[Task], options: &Options) -> Result<Vec<Fit>> {
    fit_logistic(&Rows::new(&[matrix]).unwrap(), tasks, options)
}

fn fit_in_lockstep(matrix: &Matrix, tasks: &[Task], options: &Options) -> Result<Vec<Fit>> {
    let rows = Rows::new(&[matrix]).unwrap();
    let progress = Progress::new(options, tasks.len());
    pack::fit(&rows, &kernel::Kernel::new(&rows, tasks, None), tasks, options, (&progress, 0))
}

fn fit_directly(matrix: &Matrix, task: &Task, options: &Options) -> Result<Fit> {
    direct::fit(&Rows::new(&[matrix]).unwrap(), task, options, (&Progress::new(options, 1), 0))
}

fn tight() -> Options<'static> {
    Options { tolerance: 1e-12, ..Options::default() }
}

fn length(w: &[f64]) -> f64 {
    w.iter().map(|w| w * w).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    length(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>())
}

/// Weights as a share of their length, intercepts and decisions as a share of their size or 1.
#[track_caller]
fn assert_near(a: &Fit, b: &Fit, share: f64) {
    let away = distance(&a.probe.weights, &b.probe.weights) / length(&b.probe.weights);
    assert!(away <= share, "weights {away:e}");
    let away = (a.probe.intercept - b.probe.intercept).abs() / b.probe.intercept.abs().max(1.0);
    assert!(away <= share, "intercept {away:e}");
    let away = distance(&a.decisions, &b.decisions) / length(&b.decisions);
    assert!(away <= share, "decisions {away:e}");
}

#[track_caller]
fn assert_expected(fit: &Fit, expected: &Expected) {
    let c = expected.c;
    let near = |found: f64, expected: f64, size: f64, what: &str| {
        assert!((found - expected).abs() <= 1e-6 * size, "c {c}: {what} is {found}, not {expected}");
    };
    near(length(&fit.probe.weights), expected.length, expected.length, "the length");
    // The intercept follows the weights: one near 0 is known as well as they are, no better.
    near(fit.probe.intercept, expected.intercept, expected.intercept.abs().max(expected.length), "the intercept");
    let size = expected.decisions.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    for (found, expected) in fit.decisions.iter().zip(&expected.decisions) {
        near(*found, *expected, size, "a decision value");
    }
    for (found, weight) in fit.probe.weights.iter().zip(&expected.weights) {
        near(*found, *weight, expected.length, "a weight");
    }
}

#[test]
fn fits_are_those_of_scikit_learn() {
    for case in golden().cases {
        let labels: Vec<bool> = case.labels.chars().map(|label| label == '1').collect();
        let matrix = dense(case.rows, case.columns, values(case.rows, case.columns, case.seed));
        let problem = Problem::new(matrix, labels, case.weights);
        let tasks: Vec<Task> = case.fits.iter().map(|expected| problem.task(expected.c)).collect();
        let ways = [
            fit_tasks(&problem.matrix, &tasks, &Options::default()),
            fit_in_lockstep(&problem.matrix, &tasks, &Options::default()),
        ];
        for (way, fits) in ways.into_iter().enumerate() {
            let fits = fits.map_err(|error| format!("{}x{} way {way}: {error}", case.rows, case.columns)).unwrap();
            for (fit, expected) in fits.iter().zip(&case.fits) {
                assert_expected(fit, expected);
                let constant = length(&fit.probe.weights[case.columns - 2..]);
                assert!(constant <= 1e-11 * expected.length, "constant features have no part, but {constant:e}");
            }
        }
    }
}

/// The numbers of a file of `<f8` or `<i8`, whose header ends with the first line.
fn numbers<T>(path: &std::path::Path, of: fn([u8; 8]) -> T) -> Vec<T> {
    let bytes = std::fs::read(path).unwrap();
    let start = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[start..].as_chunks::<8>().0.iter().map(|bytes| of(*bytes)).collect()
}

#[test]
fn detector_fits_are_those_of_scikit_learn_of_the_shared_data() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/probes/detector");
    if !folder.is_dir() {
        eprintln!("skipped: {} is missing", folder.display());
        return;
    }
    let labels: Vec<bool> =
        numbers(&folder.join("y_train.npy"), i64::from_le_bytes).into_iter().map(|y| y == 1).collect();
    let matrix = dense(850, 32, numbers(&folder.join("X_train.npy"), f64::from_le_bytes));
    let problem = Problem::new(matrix, labels, vec![1.0; 850]);
    let expected = golden().detector;
    let tasks: Vec<Task> = expected.iter().map(|expected| problem.task(expected.c)).collect();
    for fits in [
        fit_tasks(&problem.matrix, &tasks, &Options::default()).unwrap(),
        fit_in_lockstep(&problem.matrix, &tasks, &Options::default()).unwrap(),
    ] {
        fits.iter().zip(&expected).for_each(|(fit, expected)| assert_expected(fit, expected));
        // shared/reference/probes.md 4.2.
        let probe = &fits[1].probe;
        let pairs = [
            (probe.intercept, -1.701871458288),
            (length(&probe.weights), 2.133484873953),
            (probe.weights[0], 0.330957746792),
            (probe.weights[1], 0.010726279999),
            (probe.weights[2], 0.997265778781),
        ];
        for (found, published) in pairs {
            assert!((found / published - 1.0).abs() < 1e-6, "{found} is not {published}");
        }
    }
}

#[test]
fn both_paths_reach_the_same_optimum() {
    for (rows, columns, seed) in [(90, 20, 7), (25, 90, 8), (200, 40, 9)] {
        let problem = Problem::made(rows, columns, seed);
        for c in [0.001, 1.0, 1000.0] {
            let options = Options { tolerance: 1e-9, ..Options::default() };
            let lockstep = fit_in_lockstep(&problem.matrix, &[problem.task(c)], &options).unwrap().remove(0);
            let direct = fit_directly(&problem.matrix, &problem.task(c), &options).unwrap();
            assert_near(&lockstep, &direct, 1e-8);
            let share = lockstep.certificate.objective / direct.certificate.objective - 1.0;
            assert!(share.abs() < 1e-12, "objectives differ by {share:e}");
        }
    }
}

fn bytes(fit: &Fit) -> Vec<u64> {
    let values = fit.probe.weights.iter().chain(&fit.decisions).chain(&fit.dual).chain([&fit.probe.intercept]);
    values.map(|value| value.to_bits()).collect()
}

#[test]
fn bytes_depend_neither_on_companions_nor_on_threads() {
    let problem = Problem::made(150, 300, 10);
    let all = [0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 0.5, 0.02, 5.0].map(|c| problem.task(c));
    let fit_with = |threads: usize, tasks: &[Task]| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let fits = pool.install(|| fit_tasks(&problem.matrix, tasks, &Options::default())).unwrap();
        fits.iter().map(bytes).collect()
    };
    let one = fit_with(1, &all);
    assert_eq!(one, fit_with(3, &all));
    for (k, task) in all.iter().enumerate() {
        assert_eq!(one[k..=k], fit_with(2, &[*task]), "task {k} alone");
    }
    let mut reversed = all;
    reversed.reverse();
    assert!(one.iter().eq(fit_with(2, &reversed).iter().rev()), "tasks in another order");
}

#[test]
fn fits_with_shared_inner_products_are_those_with_their_own() {
    let problem = Problem::made(150, 300, 22);
    let rows = Rows::new(&[&problem.matrix]).unwrap();
    let shuffled: Vec<bool> = problem.labels.iter().rev().copied().collect();
    let products = KeptProducts::new(1 << 20);
    let keeping = Some(Keeping { products: &products, rows: Digest::of(b"rows") });
    // A call with folds of its own, as `train_probe` makes them: the last fit is on all rows.
    let fit_folds = |labels: &[bool], c: f64, count: usize, keeping: Option<Keeping>| -> Vec<Vec<u64>> {
        let inside =
            |fold: usize| (0..150).map(|row| f64::from(u8::from(fold == count || row % count != fold))).collect();
        let weights: Vec<Vec<f64>> = (0..=count).rev().map(inside).collect();
        let scalers = fit_scalers(&rows, &weights.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let tasks: Vec<Task> = weights
            .iter()
            .zip(&scalers)
            .map(|(weights, scaler)| Task { labels, weights, scaler, c, start: None })
            .collect();
        let options = Options { keeping, ..Options::default() };
        fit_logistic(&rows, &tasks, &options).unwrap().iter().map(bytes).collect()
    };
    for (labels, c, count) in [(&problem.labels, 0.1, 5), (&problem.labels, 1.0, 5), (&shuffled, 1.0, 3)] {
        let (own, shared) = (fit_folds(labels, c, count, None), fit_folds(labels, c, count, keeping));
        assert!(own == shared, "c {c}");
        assert_eq!(products.taken(), 1, "c {c}");
    }
}

#[test]
fn folds_of_very_different_spread_beside_a_fit_on_all_rows_reach_their_optima() {
    // The first half of the rows is a hundred times as wide as the second.
    let made = Problem::made(120, 300, 23);
    let all = values(120, 300, 23);
    let all = all.iter().enumerate().map(|(at, x)| if at < 60 * 300 { 100.0 * x } else { *x }).collect();
    let problem = Problem::new(dense(120, 300, all), made.labels.clone(), vec![1.0; 120]);
    let weights: Vec<Vec<f64>> = [0..120, 0..60, 60..120]
        .map(|inside| (0..120).map(|row| f64::from(u8::from(inside.contains(&row)))).collect())
        .to_vec();
    let scalers =
        fit_scalers(&Rows::new(&[&problem.matrix]).unwrap(), &weights.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let tasks: Vec<Task> =
        weights.iter().zip(&scalers).map(|(weights, scaler)| Task { weights, scaler, ..problem.task(3.0) }).collect();
    for (fit, task) in fit_tasks(&problem.matrix, &tasks, &Options::default()).unwrap().iter().zip(&tasks) {
        assert_near(fit, &fit_directly(&problem.matrix, task, &tight()).unwrap(), 3e-7);
    }
}

#[test]
fn storage_does_not_matter() {
    for columns in [40, 300] {
        let problem = Problem::made(70, columns, 11);
        let sparse = sparse(70, columns, &values(70, columns, 11));
        for c in [0.1, 10.0] {
            let options = Options { tolerance: 1e-10, ..Options::default() };
            let fit = |matrix: &Matrix| fit_tasks(matrix, &[problem.task(c)], &options).unwrap().remove(0);
            assert_near(&fit(&sparse), &fit(&problem.matrix), 1e-9);
        }
    }
}

#[test]
fn rows_in_several_parts_are_rows_of_one_matrix() {
    let problem = Problem::made(100, 300, 12);
    let all = values(100, 300, 12);
    let (first, second) = (dense(37, 300, all[..37 * 300].to_vec()), sparse(63, 300, &all[37 * 300..]));
    let rows = Rows::new(&[&first, &second]).unwrap();
    let options = Options { tolerance: 1e-10, ..Options::default() };
    let parts = fit_logistic(&rows, &[problem.task(1.0)], &options).unwrap().remove(0);
    let one = fit_tasks(&problem.matrix, &[problem.task(1.0)], &options).unwrap().remove(0);
    assert_near(&parts, &one, 1e-9);
}

#[test]
fn the_certificate_bounds_the_distance_to_the_optimum() {
    let problem = Problem::made(120, 80, 13);
    for c in [0.01, 1.0, 100.0] {
        let best = fit_directly(&problem.matrix, &problem.task(c), &tight()).unwrap();
        for tolerance in [1e-1, 1e-3, 1e-5, 1e-7] {
            let options = Options { tolerance, ..Options::default() };
            let rough = fit_in_lockstep(&problem.matrix, &[problem.task(c)], &options).unwrap().remove(0);
            let proof = &rough.certificate;
            let away = distance(&rough.probe.weights, &best.probe.weights);
            let room = 1e-12 * length(&best.probe.weights);
            assert!(away <= proof.distance_bound + room, "c {c}: {away:e} > {:e}", proof.distance_bound);
            assert!(proof.relative_bound <= tolerance);
            assert!((proof.gradient_norm * c / proof.distance_bound - 1.0).abs() < 1e-12);
            assert!(proof.objective >= best.certificate.objective * (1.0 - 1e-13));
        }
    }
}

#[test]
fn a_fit_that_does_not_reach_the_tolerance_is_an_error() {
    let problem = Problem::made(150, 300, 14);
    let options = Options { most_products: 2, ..Options::default() };
    let error = fit_tasks(&problem.matrix, &[problem.task(10.0)], &options).unwrap_err();
    assert!(error.message.contains("`c` 10 has not converged"), "{error}");
}

#[test]
fn whoever_follows_can_stop_a_fit() {
    for columns in [40, 300] {
        let problem = Problem::made(60, columns, 15);
        let stop = |_: f64| Err(Error::experiment("enough"));
        let options = Options { follow: &stop, ..Options::default() };
        assert_eq!(fit_tasks(&problem.matrix, &[problem.task(1.0)], &options).unwrap_err().message, "enough");
    }
}

#[test]
fn whoever_follows_sees_shares_that_rise_to_the_whole() {
    for columns in [40, 300] {
        let problem = Problem::made(100, columns, 24);
        let told = std::sync::Mutex::new(vec![0.0]);
        let follow = |share: f64| {
            told.lock().unwrap().push(share);
            Ok(())
        };
        let options = Options { follow: &follow, ..Options::default() };
        // More than a pack, so that packs tell at the same time.
        let tasks = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0].map(|c| problem.task(c));
        let rows = Rows::new(&[&problem.matrix]).unwrap();
        fit_logistic(&rows, &tasks, &options).unwrap();
        let once = std::mem::replace(&mut *told.lock().unwrap(), vec![0.0]);
        fit_path(&rows, &tasks[..2], &[1.0, 0.1, 0.01], &options).unwrap();
        for told in [once, told.into_inner().unwrap()] {
            assert!(told.is_sorted() && told.len() > 5, "{told:?}");
            assert!((told[told.len() - 1] - 1.0).abs() < 1e-12, "{told:?}");
        }
    }
}

#[test]
fn tasks_that_mean_nothing_are_refused() {
    let problem = Problem::made(40, 20, 16);
    let refused = |task: Task| fit_tasks(&problem.matrix, &[task], &Options::default()).unwrap_err().message;
    for c in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(refused(problem.task(c)).contains("`c` is"));
    }
    for class in [true, false] {
        let message = format!("all rows that count are of class {}", u8::from(class));
        let labels = vec![class; 40];
        assert!(refused(Task { labels: &labels, ..problem.task(1.0) }).contains(&message));
        let weights: Vec<f64> = problem.labels.iter().map(|label| f64::from(u8::from(*label == class))).collect();
        assert!(refused(Task { weights: &weights, ..problem.task(1.0) }).contains(&message));
    }
    assert!(refused(Task { labels: &[true, false], ..problem.task(1.0) }).contains("40 rows have 2 labels"));
    assert!(refused(Task { weights: &[-1.0; 40], ..problem.task(1.0) }).contains("negative weight"));
}

#[test]
fn no_tasks_give_no_fits() {
    for columns in [20, 300] {
        assert!(fit_tasks(&Problem::made(10, columns, 16).matrix, &[], &Options::default()).unwrap().is_empty());
    }
}

#[test]
fn a_warm_start_reaches_the_same_optimum_sooner() {
    let problem = Problem::made(150, 400, 17);
    let before = problem.fit(1.0).unwrap();
    let cold = problem.fit(1.5).unwrap();
    let task = Task { start: Some(&before.dual), ..problem.task(1.5) };
    let warm = fit_tasks(&problem.matrix, &[task], &Options::default()).unwrap().remove(0);
    assert_near(&warm, &cold, 3e-7);
    let (warm, cold) = (warm.certificate.products, cold.certificate.products);
    assert!(warm < cold, "{warm} products after a warm start, {cold} after a cold one");
}

#[test]
fn a_path_is_its_fits_in_any_order_of_c() {
    for columns in [40, 400] {
        let all = values(120, columns, 5);
        let matrix = dense(120, columns, all);
        let rows = Rows::new(&[&matrix]).unwrap();
        let labels: Vec<bool> = (0..120).map(|row| (row * row) % 7 < 3).collect();
        let weights = vec![1.0; 120];
        let scaler = fit_scalers(&rows, &[&weights]).remove(0);
        let task = |c| Task { labels: &labels, weights: &weights, scaler: &scaler, c, start: None };
        let path = [1.0, 0.01, 0.1];
        let fits = fit_path(&rows, &[task(7.0)], &path, &tight()).unwrap();
        for (c, fits) in path.iter().zip(&fits) {
            let alone = fit_logistic(&rows, &[task(*c)], &tight()).unwrap();
            assert_near(&fits[0], &alone[0], 1e-6);
        }
        assert!(fit_path(&rows, &[task(1.0)], &[1.0, 0.0], &tight()).is_err());
    }
}

#[test]
fn every_fold_with_its_own_scaler_reaches_its_own_optimum() {
    let problem = Problem::made(120, 60, 18);
    let folds: Vec<Vec<f64>> =
        (0..5).map(|fold| (0..120).map(|row| f64::from(u8::from(row % 5 != fold))).collect()).collect();
    let views: Vec<&[f64]> = folds.iter().map(Vec::as_slice).collect();
    let scalers = fit_scalers(&Rows::new(&[&problem.matrix]).unwrap(), &views);
    let tasks: Vec<Task> =
        folds.iter().zip(&scalers).map(|(weights, scaler)| Task { weights, scaler, ..problem.task(3.0) }).collect();
    let fits = fit_in_lockstep(&problem.matrix, &tasks, &Options::default()).unwrap();
    for (fit, task) in fits.iter().zip(&tasks) {
        assert_near(fit, &fit_directly(&problem.matrix, task, &tight()).unwrap(), 2e-7);
        let left_out = fit.dual.iter().zip(task.weights).filter(|(_, weight)| **weight == 0.0);
        assert!(left_out.map(|(dual, _)| dual.abs()).sum::<f64>() == 0.0, "rows left out have no part in the weights");
    }
}

#[test]
fn decisions_of_a_fit_are_those_of_its_probe() {
    for columns in [30, 300] {
        let problem = Problem::made(50, columns, 19);
        let fit = problem.fit(1.0).unwrap();
        let decided = fit.probe.decide(&Rows::new(&[&problem.matrix]).unwrap());
        assert!(distance(&fit.decisions, &decided) <= 1e-12 * length(&decided));
    }
}

#[test]
fn features_that_are_standardised_already_take_part() {
    // Half the rows at -1 and half at 1: the scale is 1 as that of a constant feature is.
    let (rows, columns) = (32, 300);
    let sign = |row: usize, column: usize| if (row >> (column % 5)) & 1 == 1 { 1.0 } else { -1.0 };
    let all = (0..rows * columns).map(|index| sign(index / columns, index % columns)).collect();
    let labels = (0..rows).map(|row| row % 3 == 0).collect();
    let problem = Problem::new(dense(rows, columns, all), labels, vec![1.0; rows]);
    assert_eq!(problem.scaler.scale, vec![1.0; columns]);
    let fit = problem.fit(0.1).unwrap();
    assert_near(&fit, &fit_directly(&problem.matrix, &problem.task(0.1), &tight()).unwrap(), 2e-7);
}

#[test]
fn features_that_say_nothing_have_weight_zero() {
    for columns in [20, 300] {
        let labels = (0..30).map(|row| row % 3 == 0).collect();
        let problem = Problem::new(dense(30, columns, vec![2.0; 30 * columns]), labels, vec![1.0; 30]);
        let fit = problem.fit(1.0).unwrap();
        assert_eq!(fit.probe.weights, vec![0.0; columns]);
        assert!((fit.probe.intercept + 2.0f64.ln()).abs() < 1e-12, "{}", fit.probe.intercept);
        assert_eq!(fit.certificate.relative_bound, 0.0);
    }
}

#[test]
fn features_of_any_size_and_place_are_fitted() {
    let shape = (80, 300);
    for (factor, offset) in [(1e-9, 0.0), (1e9, 0.0), (1.0, 100.0), (1.0, 1000.0)] {
        let made = Problem::made(shape.0, shape.1, 20);
        let moved = values(shape.0, shape.1, 20).iter().map(|x| factor * x + offset).collect();
        let moved = Problem::new(dense(shape.0, shape.1, moved), made.labels.clone(), made.weights.clone());
        let (fit, expected) = (moved.fit(1.0).map_err(|e| format!("{factor} {offset}: {e}")).unwrap(), made.fit(1.0));
        assert_near(&fit, &expected.unwrap(), 3e-7);
    }
}

#[test]
fn copies_with_other_labels_and_more_rows_than_features_converge() {
    for (rows, columns, copies) in [(120, 400, 2), (600, 270, 1)] {
        let once = values(rows / copies, columns, 21);
        let all = once.chunks(columns).flat_map(|row| row.repeat(copies)).collect();
        let labels = (0..rows).map(|row| (row * row) % 7 < 3).collect();
        let problem = Problem::new(dense(rows, columns, all), labels, vec![1.0; rows]);
        let fit = problem.fit(10.0).unwrap();
        assert_near(&fit, &fit_directly(&problem.matrix, &problem.task(10.0), &tight()).unwrap(), 3e-7);
    }
}
