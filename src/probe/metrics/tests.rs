//! Metrics against scikit-learn and a plain DeLong, and the rule that one class has no AUROC.

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::data::random::Random;

#[derive(Deserialize)]
struct Golden {
    targets: Vec<f64>,
    sets: Vec<Set>,
    pairs: Vec<Pair>,
    grouped: Vec<Grouped>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    scores: Vec<f64>,
    labels: Vec<u8>,
    auroc: f64,
    standard_error: f64,
    average_precision: f64,
    partial_auroc: Vec<f64>,
    tpr_at_fpr: Vec<f64>,
    quantiles: [f64; 7],
    brier: Option<f64>,
    log_loss: Option<f64>,
    accuracy: Option<f64>,
    balanced_accuracy: Option<f64>,
    equal_width: Option<f64>,
    equal_mass: Option<f64>,
}

#[derive(Deserialize)]
struct Pair {
    a: Vec<f64>,
    b: Vec<f64>,
    labels: Vec<u8>,
    difference: f64,
    standard_error: f64,
    z: f64,
    p: f64,
}

#[derive(Deserialize)]
struct Grouped {
    scores: Vec<f64>,
    labels: Vec<u8>,
    groups: Vec<u32>,
    standard_error: f64,
}

fn golden() -> Golden {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/metrics.json"));
    serde_json::from_str(text).unwrap()
}

fn truth(labels: &[u8]) -> Vec<bool> {
    labels.iter().map(|label| *label == 1).collect()
}

/// As the generator made them: exact for the detector, six digits for the others.
fn probabilities(set: &Set) -> Vec<f64> {
    let exact = set.scores.iter().map(|score| 1.0 / (1.0 + (-score).exp()));
    if set.name == "detector" { exact.collect() } else { exact.map(|p| (p * 1e6).round() / 1e6).collect() }
}

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{what}: found {found}, expected {expected}");
}

fn measured(set: &Set) -> Measured {
    let golden = golden();
    let (labels, p) = (truth(&set.labels), probabilities(set));
    let options = Options { target_fprs: golden.targets, resamples: 200, ..Options::default() };
    let rows = Rows { scores: &set.scores, probabilities: Some(&p), labels: &labels, groups: None };
    measure(&set.name, How::HeldOut, rows, Elsewhere::default(), &options).unwrap()
}

fn ranking(measured: &Measured) -> &TwoClassRanking {
    match &measured.ranking {
        Ranking::TwoClasses(ranking) => ranking,
        Ranking::OneClass(one) => panic!("{}", one.reason),
    }
}

#[test]
fn scikit_learn_says_the_same() {
    for set in golden().sets {
        let found = measured(&set);
        let name = &set.name;
        let order = ranking(&found);
        close(order.auroc.value, set.auroc, name);
        close(order.average_precision.value, set.average_precision, name);
        for (at, expected) in order.tpr_at_fpr.iter().zip(&set.tpr_at_fpr) {
            close(at.tpr.value, *expected, &format!("{name} at {}", at.target_fpr));
        }
        let labels = truth(&set.labels);
        let classes = TwoClasses::new(&set.scores, &labels, None).unwrap();
        for (most, expected) in [0.05, 0.1, 0.5].into_iter().zip(&set.partial_auroc) {
            close(partial_auroc(&classes, most).unwrap(), *expected, &format!("{name} up to {most}"));
        }
        let lie = found.scores_of_positives.unwrap();
        let lie = [lie.minimum, lie.p05, lie.p25, lie.median, lie.p75, lie.p95, lie.maximum];
        lie.iter().zip(set.quantiles).for_each(|(found, expected)| close(*found, expected, name));
        let (calibration, decisions) = (found.calibration.unwrap(), found.decisions.unwrap());
        for (found, expected) in [
            (calibration.brier.value, set.brier),
            (calibration.log_loss.value, set.log_loss),
            (calibration.equal_width.expected_calibration_error, set.equal_width),
            (calibration.equal_mass.expected_calibration_error, set.equal_mass),
            (decisions.accuracy.share.value, set.accuracy),
            (decisions.balanced_accuracy.unwrap().value, set.balanced_accuracy),
        ] {
            expected.into_iter().for_each(|expected| close(found, expected, name));
        }
    }
}

#[test]
fn delong_is_the_variance_of_the_placements() {
    for set in golden().sets {
        let found = ranking(&measured(&set)).auroc.clone();
        match found.standard_error {
            Some(error) => close(error, set.standard_error, &set.name),
            None => assert_eq!(set.standard_error, 0.0, "{}", set.name),
        }
    }
    for pair in golden().pairs {
        let found = compare_delong(&pair.a, &pair.b, &truth(&pair.labels), None, 0.95).unwrap();
        close(found.difference, pair.difference, "difference");
        close(found.standard_error, pair.standard_error, "standard error");
        close(found.z.unwrap(), pair.z, "z");
        close(found.p.unwrap(), pair.p, "p");
        let interval = found.interval.unwrap();
        close(interval.high, pair.difference + 1.959963984540054 * pair.standard_error, "upper end");
    }
    for rows in golden().grouped {
        let labels = truth(&rows.labels);
        let found = auroc(&TwoClasses::new(&rows.scores, &labels, Some(&rows.groups)).unwrap(), 0.95).unwrap();
        close(found.standard_error.unwrap(), rows.standard_error, "clustered");
        assert!(found.method.ends_with("clustered by group"), "{}", found.method);
    }
}

/// Section 4.2 of the reference on probes. The fixture holds the scores, so nothing has to be there.
#[test]
fn the_detector_has_the_published_numbers() {
    let set = golden().sets.remove(0);
    let found = measured(&set);
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    let order = ranking(&found);
    assert_eq!((found.n_positive, found.n_negative), (51, 55));
    near(order.auroc.value, 0.762210338681);
    assert!((order.auroc.standard_error.unwrap() - 0.047110).abs() < 5e-7);
    assert_eq!(order.auroc.method, "DeLong");
    near(order.average_precision.value, 0.734803012);
    assert!((order.tpr_at_fpr[1].tpr.value - 0.058824).abs() < 1e-6);
    assert!((order.tpr_at_fpr[2].tpr.value - 0.196078).abs() < 1e-6);
    // 55 negatives can show 1.8 %, not 1 %.
    assert!(order.tpr_at_fpr[1].point.not_estimable.as_ref().unwrap().contains("1.82 % that 55 negatives"));
    assert_eq!(order.tpr_at_fpr[2].point.not_estimable, None);
    let calibration = found.calibration.unwrap();
    near(calibration.brier.value, 0.218257128);
    near(calibration.log_loss.value, 0.758190587);
    assert_eq!(calibration.brier.method, "t over 106 rows");
}

/// Every key of a JSON value.
fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                found.push(key.clone());
                keys(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

fn json_keys(measured: &Measured) -> Vec<String> {
    let mut found = Vec::new();
    keys(&serde_json::to_value(measured).unwrap(), &mut found);
    found
}

#[test]
fn one_class_has_no_auroc_in_any_key() {
    let scores: Vec<f64> = (0..319).map(|row| f64::from(row % 40) / 10.0).collect();
    let p: Vec<f64> = scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
    for class in [true, false] {
        let labels = vec![class; 319];
        let groups: Vec<u32> = (0..319).map(|row| row / 2).collect();
        let rows = Rows { scores: &scores, probabilities: Some(&p), labels: &labels, groups: Some(&groups) };
        let thresholds = [fix_threshold("gold_106", &scores[..55], 0.05).unwrap()];
        let elsewhere = Elsewhere { thresholds: &thresholds, negatives: None };
        let found = measure("sycophant", How::OutOfFold, rows, elsewhere, &Options::default()).unwrap();
        let words = if class { "positive" } else { "negative" };
        let Ranking::OneClass(one) = &found.ranking else { panic!("two classes") };
        assert_eq!(one.reason, format!("all 319 rows are {words}: an AUROC needs both classes"));
        assert!(json_keys(&found).iter().all(|key| !key.contains("auroc") && !key.contains("precision")));
        assert_eq!((found.at_thresholds[0].tpr.is_some(), found.at_thresholds[0].fpr.is_some()), (class, !class));
        assert_eq!((found.scores_of_positives.is_some(), found.scores_of_negatives.is_some()), (class, !class));
        assert_eq!(found.decisions.unwrap().balanced_accuracy, None);
    }
}

#[test]
fn declared_negatives_are_named_with_what_they_measure() {
    let scores = [2.0, 3.0, 4.0, 1.0];
    let rows = Rows { scores: &scores, labels: &[true; 4], groups: Some(&[9, 9, 4, 1]), ..Rows::default() };
    let negatives = DeclaredNegatives { set: "gold_106", same_source: false, scores: &[0.0, 1.0, 2.5] };
    let elsewhere = Elsewhere { thresholds: &[], negatives: Some(negatives) };
    let found = measure("sycophant", How::HeldOut, rows, elsewhere, &Options::default()).unwrap();
    let Ranking::OneClass(one) = &found.ranking else { panic!("two classes") };
    let against = one.against_declared_negatives.as_ref().unwrap();
    assert_eq!((against.negatives.as_str(), against.n_negative), ("gold_106", 3));
    assert_eq!(against.label, "cross-source, also measures domain shift");
    // 2 > {0, 1}, 3 and 4 above all, 1 > 0 and ties with 1: (2 + 3 + 3 + 1.5) of 12.
    assert_eq!(against.auroc_against_declared_negatives.value, 9.5 / 12.0);
    let found_keys = json_keys(&found);
    assert!(found_keys.iter().all(|key| key != "auroc"));
    assert_eq!(found_keys.iter().filter(|key| key.contains("auroc")).count(), 1);
    let value = serde_json::to_value(&found).unwrap();
    assert!(
        value["ranking"]["one_class"]["against_declared_negatives"]["auroc_against_declared_negatives"].is_object()
    );
}

#[test]
fn negatives_of_one_source_should_not_outrank_those_of_another() {
    let of = DeclaredNegatives { set: "benchmark", same_source: false, scores: &[1.0, 2.0, 3.0] };
    let against = DeclaredNegatives { set: "gold_106", same_source: false, scores: &[0.0, 1.0] };
    let control = negative_control(of, against, 0.95).unwrap();
    assert_eq!(control.auroc_of_negatives.value, 5.5 / 6.0);
    assert!(negative_control(of, DeclaredNegatives { scores: &[], ..against }, 0.95).is_err());
}

#[test]
fn json_reads_back() {
    for set in golden().sets {
        let found = measured(&set);
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("null,\"high\""));
        assert_eq!(serde_json::from_str::<Measured>(&text).unwrap(), found);
    }
}

#[test]
fn every_number_says_how_on_what_and_how_sure() {
    let set = golden().sets.remove(0);
    let value = serde_json::to_value(measured(&set)).unwrap();
    assert_eq!((&value["how"], &value["set"]), (&"held_out".into(), &"detector".into()));
    assert_eq!((&value["n_positive"], &value["n_negative"]), (&51.into(), &55.into()));
    fn check(value: &Value, path: &str) -> usize {
        match value {
            Value::Object(fields) => {
                let quantity = usize::from(fields.contains_key("interval"));
                if quantity == 1 {
                    let method = fields["method"].as_str().unwrap();
                    assert_eq!(fields["interval"].is_null(), method.starts_with("none: "), "{path}: {method}");
                    assert_eq!(fields["confidence"], 0.95);
                }
                quantity + fields.iter().map(|(key, field)| check(field, &format!("{path}.{key}"))).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(|item| check(item, path)).sum(),
            _ => 0,
        }
    }
    assert!(check(&value, "") > 20);
}

#[test]
fn what_cannot_be_measured_names_the_set() {
    let bad = |rows: Rows| {
        measure("gold", How::HeldOut, rows, Elsewhere::default(), &Options::default()).unwrap_err().message
    };
    assert_eq!(bad(Rows::default()), "set `gold` has no rows to measure");
    let rows = Rows { scores: &[0.0, f64::INFINITY], labels: &[true, false], ..Rows::default() };
    assert_eq!(bad(rows), "set `gold`: the score of row 1 is inf");
    let rows =
        Rows { scores: &[0.0, 1.0], probabilities: Some(&[0.5, 2.0]), labels: &[true, false], ..Rows::default() };
    assert_eq!(bad(rows), "set `gold`: the probability of row 1 is 2");
}

/// The logit interval covers where AUROCs are high and sets are as small as gold_106.
#[test]
fn intervals_near_one_cover_the_true_area() {
    let mut random = Random::new(11);
    let labels: Vec<bool> = (0..106).map(|row| row < 51).collect();
    // Φ(2.6/√2), the area of two normal distributions 2.6 apart.
    let truth = 0.967_004;
    let covered = (0..400).filter(|_| {
        let scores: Vec<f64> = labels.iter().map(|l| random.normal() + if *l { 2.6 } else { 0.0 }).collect();
        let found = auroc(&TwoClasses::new(&scores, &labels, None).unwrap(), 0.95).unwrap();
        found.interval.unwrap().contains(truth)
    });
    let covered = covered.count();
    assert!((368..=397).contains(&covered), "{covered} of 400");
}

#[test]
#[ignore = "measures: cargo test --release probe::metrics::tests::measure_the_time -- --ignored --nocapture"]
fn measure_the_time() {
    let mut random = Random::new(1);
    let labels: Vec<bool> = (0..6068).map(|row| row % 3 == 0).collect();
    let scores: Vec<f64> = labels.iter().map(|l| random.normal() + f64::from(u8::from(*l))).collect();
    let p: Vec<f64> = scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
    let rows = Rows { scores: &scores, probabilities: Some(&p), labels: &labels, groups: None };
    for _ in 0..3 {
        let start = std::time::Instant::now();
        measure("pool", How::OutOfFold, rows, Elsewhere::default(), &Options::default()).unwrap();
        let whole = start.elapsed();
        auroc(&TwoClasses::new(&scores, &labels, None).unwrap(), 0.95).unwrap();
        println!("{whole:?}, of which AUROC {:?}", start.elapsed() - whole);
    }
}
