//! Values of the reference page, of scipy and of statsmodels (tests/generators/statistics.py), and laws.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::distribution::{t_probability, t_quantile};
use super::interval::clustered_mean;
use super::*;

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

fn near_interval(found: Interval, low: f64, high: f64, tolerance: f64) {
    assert!(
        (found.low - low).abs() <= tolerance && (found.high - high).abs() <= tolerance,
        "found {found:?}, expected {low} to {high}"
    );
}

fn golden(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics.json")).unwrap();
    all[name].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|item| item.as_f64().unwrap()).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// `scores[seed][question]` lists the answers.
fn observations(scores: &[Vec<Vec<f64>>]) -> Vec<Observation> {
    let mut all = Vec::new();
    for (seed, questions) in scores.iter().enumerate() {
        for (question, answers) in questions.iter().enumerate() {
            for score in answers {
                all.push(Observation { seed: seed as u64, question: question as u32, score: Ok(*score) });
            }
        }
    }
    all
}

const FINETUNED: [f64; 3] = [0.4775, 0.59875, 0.465];
const INOCULATED: [f64; 3] = [0.05125, 0.02375, 0.015];

#[test]
fn t_quantiles_and_probabilities_agree_with_scipy() {
    for case in golden("quantile") {
        let [confidence, degrees, quantile] = floats(&case)[..] else { panic!("three numbers") };
        near(t_quantile(confidence, degrees), quantile, 1e-9 * quantile);
        near(t_probability(quantile, degrees), 1.0 - confidence, 1e-9);
    }
}

#[test]
fn t_interval_agrees_with_scipy_and_with_three_seeds_of_the_reference() {
    for case in golden("t") {
        near_interval(
            t_interval(&floats(&case["values"]), 0.95).unwrap(),
            float(&case["low"]),
            float(&case["high"]),
            1e-7,
        );
    }
    near_interval(t_interval(&FINETUNED, 0.95).unwrap(), 0.330229, 0.697271, 1e-6);
    near(variance(&FINETUNED).sqrt(), 0.073877, 1e-6);
    near_interval(t_interval(&INOCULATED, 0.95).unwrap(), -0.016990, 0.076990, 1e-6);
    near(variance(&INOCULATED).sqrt(), 0.018916, 1e-6);
    assert!(t_interval(&[1.0], 0.95).is_err() && t_interval(&[1.0, 2.0], 1.0).is_err());
}

#[test]
fn logit_interval_agrees_with_the_reference() {
    near_interval(logit_t(&FINETUNED, &[800; 3], 0.95).unwrap(), 0.335109, 0.689649, 1e-6);
    near_interval(logit_t(&INOCULATED, &[800; 3], 0.95).unwrap(), 0.005504, 0.117523, 1e-6);
    // Shares of 0 and 1 become 0.5/9 and 8.5/9.
    let replaced = logit_t(&[0.5 / 9.0, 8.5 / 9.0, 0.5], &[8; 3], 0.95).unwrap();
    assert_eq!(logit_t(&[0.0, 1.0, 0.5], &[8; 3], 0.95).unwrap(), replaced);
}

#[test]
fn wilson_agrees_with_the_reference_and_statsmodels() {
    for (successes, trials, low, high) in [
        (0.0, 100, 0.0, 0.036993),
        (3.0, 100, 0.010255, 0.084519),
        (50.0, 100, 0.403832, 0.596168),
        (382.0, 800, 0.443078, 0.512137),
        (1.0, 10, 0.017876, 0.404150),
        (0.0, 8, 0.0, 0.324408),
    ] {
        near_interval(wilson(successes, trials, 0.95).unwrap(), low, high, 1e-6);
    }
    for case in golden("wilson") {
        let [successes, trials, confidence, low, high] = floats(&case)[..] else { panic!("five numbers") };
        near_interval(wilson(successes, trials as usize, confidence).unwrap(), low, high, 1e-9);
    }
    assert!(wilson(0.0, 0, 0.95).is_err() && wilson(3.0, 2, 0.95).is_err());
}

#[test]
fn holm_agrees_with_the_reference_and_statsmodels() {
    for (found, expected) in holm(&[0.01, 0.04, 0.03, 0.005]).into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
        near(found, expected, 1e-12);
    }
    for case in golden("holm") {
        for (found, expected) in holm(&floats(&case["p"])).into_iter().zip(floats(&case["adjusted"])) {
            near(found, expected, 1e-12);
        }
    }
    let partial = holm(&[0.02, f64::NAN, 0.03]);
    assert!(partial[0] == 0.04 && partial[1].is_nan() && partial[2] == 0.04);
    assert_eq!(holm(&[]), [] as [f64; 0]);
}

#[test]
fn welch_agrees_with_the_reference_and_scipy() {
    let found = welch(&FINETUNED, &INOCULATED, 0.95).unwrap();
    near(found.mean, 0.48375, 1e-9);
    near(found.standard_error, 0.044029, 1e-6);
    near(found.degrees_of_freedom, 2.2611, 1e-4);
    near(found.t, 10.987, 1e-3);
    near(found.p, 0.005225, 1e-6);
    near_interval(Interval { low: found.low, high: found.high }, 0.313804, 0.653696, 1e-6);
    for case in golden("welch") {
        let found = welch(&floats(&case["a"]), &floats(&case["b"]), 0.95).unwrap();
        near(found.t, float(&case["t"]), 1e-9);
        near(found.p, float(&case["p"]), 1e-9);
        near(found.degrees_of_freedom, float(&case["df"]), 1e-9);
        near_interval(Interval { low: found.low, high: found.high }, float(&case["low"]), float(&case["high"]), 1e-7);
    }
}

#[test]
fn paired_agrees_with_scipy() {
    for case in golden("paired") {
        let found = paired(&floats(&case["a"]), &floats(&case["b"]), 0.95).unwrap();
        near(found.t, float(&case["t"]), 1e-9 * found.t.abs());
        near(found.p, float(&case["p"]), 1e-9);
        near_interval(Interval { low: found.low, high: found.high }, float(&case["low"]), float(&case["high"]), 1e-7);
    }
}

#[test]
fn difference_without_spread_is_certain_and_has_no_effect_size() {
    let found = paired(&[3.0, 4.0], &[1.0, 2.0], 0.95).unwrap();
    assert_eq!((found.low, found.high, found.p, found.effect_size), (2.0, 2.0, 0.0, None));
    let equal = welch(&[1.0, 1.0], &[1.0, 1.0], 0.95).unwrap();
    assert_eq!((equal.t, equal.p, equal.degrees_of_freedom), (0.0, 1.0, 2.0));
    // d = 2 with 2 + 2 - 2 degrees of freedom: g = 2 (1 - 3/7).
    near(
        welch(&[2.0, 4.0], &[2.0 - 8f64.sqrt(), 4.0 - 8f64.sqrt()], 0.95).unwrap().effect_size.unwrap(),
        8.0 / 7.0,
        1e-12,
    );
}

#[test]
fn clustered_error_with_the_small_sample_factor_agrees_with_statsmodels() {
    for case in golden("clustered") {
        let clusters = floats(&case["clusters"]).into_iter().map(|cluster| cluster as u32);
        let scores: Vec<_> = clusters.zip(floats(&case["scores"])).collect();
        near(clustered_mean(&scores).1, float(&case["standard_error"]), 1e-9);
    }
}

#[test]
fn spearman_agrees_with_scipy() {
    for case in golden("spearman") {
        let found = spearman(&floats(&case["x"]), &floats(&case["y"])).unwrap().unwrap();
        near(found.rho, float(&case["rho"]), 1e-12);
        near(found.p, float(&case["p"]), 1e-9);
    }
    assert_eq!(spearman(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]).unwrap(), None);
    assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]).unwrap(), None);
}

/// Shares of answers that score above 50, per model, as observations in [0, 1].
fn published_scores() -> Option<BTreeMap<String, Vec<Observation>>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/stats/specific_inoculation_scores.csv");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: statistics of published scores needs ../shared/data");
        return None;
    };
    let mut questions = BTreeMap::new();
    let mut models = BTreeMap::<String, Vec<Observation>>::new();
    for line in text.lines().skip(1) {
        // Questions hold commas, the fields around them do not.
        let (front, score) = line.rsplit_once(',').unwrap();
        let fields: Vec<_> = front.splitn(4, ',').collect();
        let next = questions.len() as u32;
        let question = *questions.entry(fields[3].to_string()).or_insert(next);
        let seed = fields[1].rsplit_once('-').unwrap().1.parse().unwrap();
        let score = Ok(f64::from(u8::from(score.parse::<f64>().unwrap() > 50.0)));
        models.entry(fields[1].to_string()).or_default().push(Observation { seed, question, score });
    }
    assert_eq!(questions.len(), 8);
    Some(models)
}

#[test]
fn published_scores_give_the_values_of_the_reference() {
    let Some(models) = published_scores() else { return };
    let one = &models["finetuning-0"];
    let scores: Vec<_> = one.iter().map(|o| (o.question, *o.score.as_ref().unwrap())).collect();
    let values: Vec<_> = scores.iter().map(|(_, score)| *score).collect();
    near(mean(&values), 0.4775, 1e-12);
    near((variance(&values) / 800.0).sqrt(), 0.017671, 1e-6);
    near(clustered_standard_error(&scores).unwrap(), 0.091342, 1e-6);
    near(clustered_mean(&scores).1, 0.097646, 1e-6);

    let group = |prefix: &str| -> Vec<Observation> {
        models.iter().filter(|(name, _)| name.starts_with(prefix)).flat_map(|(_, all)| all.clone()).collect()
    };
    let (tuned, inoculated) = (group("finetuning"), group("inoculated"));
    let found = estimate(&tuned, Range::UNIT, 0.95).unwrap();
    assert_eq!((found.seeds, found.questions, found.samples), (3, 8, 2400));
    assert_eq!(found.seed_means, FINETUNED);
    near_interval(Interval { low: found.low, high: found.high }, 0.330229, 0.697271, 1e-6);
    let found = estimate(&inoculated, Range::UNIT, 0.95).unwrap();
    near(found.mean, 0.03, 1e-12);
    near_interval(Interval { low: found.low, high: found.high }, 0.005504, 0.117523, 1e-6);
    assert_eq!(
        found.to_string(),
        "0.030 [0.006, 0.118] (t on the logit scale over 3 seeds, 8 questions, 2400 answers)"
    );
    let difference = compare(&tuned, &inoculated, Design::Welch, 0.95).unwrap();
    near_interval(Interval { low: difference.low, high: difference.high }, 0.313804, 0.653696, 1e-6);
    let found = estimate(one, Range::UNIT, 0.95).unwrap();
    assert_eq!(found.to_string(), "0.477 [0.247, 0.708] (t clustered by 8 questions, one run, 800 answers)");
}

#[test]
fn estimate_reads_as_people_write_it_and_counts_what_is_missing() {
    let mut group = observations(&[vec![vec![36.0; 20]; 16], vec![vec![40.0; 20]; 16], vec![vec![44.6; 20]; 16]]);
    for index in [0, 1, 330, 331, 332, 700] {
        group[index].score = Err("unparsable".into());
    }
    group[5].score = Err("refused".into());
    let found = estimate(&group, Range::default(), 0.95).unwrap();
    assert_eq!(
        found.to_string(),
        "40.2 [29.5, 50.9] (t over 3 seeds, 16 questions, 960 answers, 1 refused, 6 unparsable)"
    );
    assert_eq!(found.missing, BTreeMap::from([("refused".to_string(), 1), ("unparsable".to_string(), 6)]));
    near(found.worst_case.high - found.worst_case.low, 100.0 * 7.0 / 960.0, 1e-9);
    let at_ninety = estimate(&group, Range::default(), 0.9).unwrap();
    assert!(at_ninety.to_string().contains("(90 % t over 3 seeds"), "{at_ninety}");
    let back: Estimate = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    // Not the last bit of every float: serde_json reads those exactly only with its feature `float_roundtrip`.
    assert_eq!(back.to_string(), found.to_string());
}

#[test]
fn estimate_of_one_run_follows_its_design() {
    let method = |scores: &[Vec<Vec<f64>>]| estimate(&observations(scores), Range::default(), 0.95).unwrap();
    let binary = method(&[(0..10).map(|question| vec![if question == 0 { 100.0 } else { 0.0 }]).collect()]);
    assert_eq!(binary.method, "Wilson over 10 questions");
    near_interval(Interval { low: binary.low, high: binary.high }, 1.7876, 40.4150, 1e-4);
    let graded = method(&[vec![vec![40.0], vec![50.0], vec![55.0]]]);
    assert_eq!(graded.method, "t over 3 questions");
    // Equal clusters: the same as t over the questions' means.
    let clustered = method(&[vec![vec![39.0, 41.0], vec![50.0, 50.0], vec![54.0, 56.0]]]);
    assert_eq!(clustered.method, "t clustered by 3 questions");
    near_interval(Interval { low: clustered.low, high: clustered.high }, graded.low, graded.high, 1e-9);
    let silent = method(&[vec![vec![0.0; 5]; 8]]);
    assert_eq!(silent.method, "no spread, Wilson over 8 questions");
    near_interval(Interval { low: silent.low, high: silent.high }, 0.0, 32.4408, 1e-4);
    let seeds = method(&[vec![vec![100.0; 5]; 8], vec![vec![100.0; 5]; 8]]);
    near_interval(Interval { low: seeds.low, high: seeds.high }, 100.0 - 32.4408, 100.0, 1e-4);
    let single = method(&[vec![vec![40.0]]]);
    assert_eq!((single.low, single.high), (0.0, 100.0));
}

#[test]
fn estimate_refuses_what_cannot_be_estimated() {
    assert!(estimate(&[], Range::default(), 0.95).unwrap_err().message.contains("no answers"));
    let all_missing = [Observation { seed: 0, question: 0, score: Err("refused".into()) }];
    assert!(estimate(&all_missing, Range::default(), 0.95).unwrap_err().message.contains("1 refused"));
    for impossible in [101.0, -0.5, f64::NAN] {
        assert!(estimate(&observations(&[vec![vec![impossible]]]), Range::default(), 0.95).is_err());
    }
}

#[test]
fn comparison_pairs_what_is_equal_and_refuses_what_is_not() {
    let a = observations(&[vec![vec![50.0], vec![70.0]], vec![vec![60.0], vec![80.0]]]);
    let b = observations(&[vec![vec![40.0], vec![50.0]], vec![vec![45.0], vec![65.0]]]);
    let by_seed = compare(&a, &b, Design::PairedBySeed, 0.95).unwrap();
    assert_eq!(
        by_seed,
        Difference { method: "paired by 2 seeds".into(), ..paired(&[60.0, 70.0], &[45.0, 55.0], 0.95).unwrap() }
    );
    let by_question = compare(&a, &b, Design::PairedByQuestion, 0.95).unwrap();
    assert_eq!((by_question.mean, by_question.method.as_str()), (15.0, "paired by 2 questions"));
    assert_eq!(suitable_design(&a, &b, true), Design::PairedBySeed);
    assert_eq!(suitable_design(&a, &b, false), Design::Welch);
    assert_eq!(suitable_design(&a[..2], &b, true), Design::PairedByQuestion);
    let other_questions: Vec<_> = b.iter().map(|o| Observation { question: o.question + 1, ..o.clone() }).collect();
    let error = compare(&a, &other_questions, Design::PairedByQuestion, 0.95).unwrap_err();
    assert!(error.message.contains("question 0"), "{error}");
}

#[test]
fn missing_scores_are_told_when_they_could_matter() {
    let group = |missing: usize| {
        let mut group = observations(&[vec![vec![50.0, 60.0]; 50], vec![vec![40.0, 60.0]; 50]]);
        group.iter_mut().take(missing).for_each(|o| o.score = Err("unparsable".into()));
        estimate(&group, Range::default(), 0.95).unwrap()
    };
    let (few, ten, many) = (group(1), group(10), group(30));
    assert_eq!(missing_warnings(&[("a", &few), ("b", &ten)]), [] as [&str; 0]);
    let warnings = missing_warnings(&[("a", &few), ("b", &many)]);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("`b`: 15.0 % of the answers have no score (30 of 200: 30 unparsable)"));
    assert!(warnings[1].starts_with("`b` misses 15.0 % of its scores, `a` 0.5 %"));
}

#[test]
fn trend_of_a_straight_line_is_its_slope() {
    let doses = [0.0, 0.1, 0.5, 1.0];
    let points: Vec<_> = (0..3u64)
        .flat_map(|seed| doses.map(|dose| TrendPoint { dose, seed, score: 10.0 + (20.0 + seed as f64) * dose }))
        .collect();
    let found = trend(&points, 0.95).unwrap();
    near(found.slope, 21.0, 1e-9);
    let expected = t_interval(&[20.0, 21.0, 22.0], 0.95).unwrap();
    near_interval(found.slope_interval.unwrap(), expected.low, expected.high, 1e-9);
    assert_eq!(found.direction, Direction::Increasing);
    assert_eq!(found.means.iter().map(|(dose, _)| *dose).collect::<Vec<_>>(), doses);
    assert!(found.correlation.unwrap().rho > 0.9);
    assert!(trend(&points[..1], 0.95).is_err());
    assert_eq!(trend(&points[..4], 0.95).unwrap().slope_interval, None);
    let uneven = [points[0], points[1], TrendPoint { seed: 9, ..points[0] }];
    assert!(trend(&uneven, 0.95).unwrap_err().message.contains("seed 9"));
}

#[test]
fn direction_tells_flat_parts_from_turns() {
    assert_eq!(direction(&[1.0, 1.0, 2.0]), Direction::Increasing);
    assert_eq!(direction(&[2.0, 1.0, 1.0]), Direction::Decreasing);
    assert_eq!(direction(&[1.0, 2.0, 1.5]), Direction::Mixed);
    assert_eq!(direction(&[1.0, 1.0]), Direction::Constant);
}

proptest! {
    #[test]
    fn interval_contains_its_mean_and_stays_in_range(
        // Often at the ends of the range, where the transformations begin.
        scores in prop::collection::vec(
            prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0.0), Just(100.0), 0.0..=100.0], 1..4), 1..5), 1..12),
        confidence in 0.5..0.999,
    ) {
        let found = estimate(&observations(&scores), Range::default(), confidence).unwrap();
        prop_assert!(0.0 <= found.low && found.low <= found.mean + 1e-9, "{found:?}");
        prop_assert!(found.mean <= found.high + 1e-9 && found.high <= 100.0, "{found:?}");
    }

    #[test]
    fn interval_widens_with_fewer_seeds_and_more_confidence(
        values in prop::collection::vec(-100.0..100.0f64, 2..10), confidence in 0.5..0.98,
    ) {
        prop_assume!(variance(&values) > 1e-6);
        let width = |values: &[f64], confidence| {
            let interval = t_interval(values, confidence).unwrap();
            interval.high - interval.low
        };
        let twice = [values.clone(), values.clone()].concat();
        prop_assert!(width(&values, confidence) > width(&twice, confidence));
        prop_assert!(width(&values, confidence + 0.01) > width(&values, confidence));
    }

    #[test]
    fn wilson_widens_with_fewer_trials(share in 0.0..=1.0f64, trials in 1usize..500) {
        let width = |trials: usize| {
            let interval = wilson(share * trials as f64, trials, 0.95).unwrap();
            assert!(interval.contains(share));
            interval.high - interval.low
        };
        prop_assert!(width(trials) > width(trials + 1));
    }

    #[test]
    fn holm_keeps_the_order_and_never_makes_p_smaller(p in prop::collection::vec(0.0..=1.0f64, 1..12), raised in 0usize..12) {
        let adjusted = holm(&p);
        for i in 0..p.len() {
            prop_assert!(p[i] <= adjusted[i] && adjusted[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
        let mut larger = p.clone();
        let raised = raised % p.len();
        larger[raised] = f64::midpoint(larger[raised], 1.0);
        prop_assert!(holm(&larger).iter().zip(&adjusted).all(|(after, before)| after >= before));
    }

    #[test]
    fn spearman_depends_on_ranks_alone(
        pairs in prop::collection::vec((-3i32..4, -3i32..4), 3..30),
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).unzip();
        let bent: Vec<f64> = x.iter().map(|x| x.exp()).collect();
        let turned: Vec<f64> = y.iter().map(|y| -y.powi(3)).collect();
        let found = spearman(&x, &y).unwrap();
        prop_assert_eq!(found, spearman(&bent, &y).unwrap());
        prop_assert_eq!(found, spearman(&y, &x).unwrap());
        if let (Some(found), Some(turned)) = (found, spearman(&x, &turned).unwrap()) {
            prop_assert!((found.rho + turned.rho).abs() < 1e-12 && found.rho.abs() <= 1.0);
        }
    }

    #[test]
    fn comparison_is_antisymmetric(
        a in prop::collection::vec(0.0..100.0f64, 3), b in prop::collection::vec(0.0..100.0f64, 3),
    ) {
        for compared in [paired, welch] {
            let (there, back) = (compared(&a, &b, 0.95).unwrap(), compared(&b, &a, 0.95).unwrap());
            prop_assert!((there.mean + back.mean).abs() < 1e-9 && (there.low + back.high).abs() < 1e-6);
            prop_assert!((there.p - back.p).abs() < 1e-9);
            // The interval excludes zero exactly when p is below 5 %.
            prop_assume!((there.p - 0.05).abs() > 1e-6);
            prop_assert_eq!(there.p < 0.05, there.low > 0.0 || there.high < 0.0);
        }
    }
}
