//! Laws of grouping and comparing, and what sentences may say.

use serde_json::json;

use super::samples::{a05b, inoculation, point};
use super::*;
use crate::data::evaluation::QuestionScores;
use crate::data::statistics::Direction;

fn points(cells: &[Cell]) -> Vec<Point> {
    cells.iter().map(|cell| cell.point.clone()).collect()
}

/// One answer per question and seed.
fn cell(fields: &[(&str, Value)], scores: &[f64]) -> Cell {
    let questions = scores.iter().enumerate().map(|(index, score)| QuestionScores {
        question: index.to_string(),
        scores: vec![*score],
        missing: BTreeMap::new(),
    });
    let scores = Scores { judge: "grammar".into(), questions: questions.collect(), agreement: BTreeMap::new(), cut: 0 };
    Cell { point: point(fields), evaluation: "e".into(), scores }
}

/// Seeds 0, 1, 2 at each x with these means.
fn grid(means: &[(f64, [f64; 3])]) -> Summary {
    let cells: Vec<Cell> = means
        .iter()
        .flat_map(|(x, means)| (0..3).map(move |seed| cell(&[("x", json!(x)), ("seed", json!(seed))], &[means[seed]])))
        .collect();
    summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, None, &SummaryOptions::default()).unwrap()
}

fn said(summary: &Summary) -> String {
    statements(summary).into_iter().flat_map(|(_, said)| said).collect::<Vec<_>>().join("\n")
}

#[test]
fn seeds_are_the_unit_and_every_count_is_there() {
    let summary = grid(&[(0.0, [47.75, 59.875, 46.5])]);
    let condition = &summary.conditions[0];
    let estimate = condition.estimate.as_ref().unwrap();
    // The reference page's seed means, as scores.
    assert!((estimate.mean - 51.375).abs() < 1e-9);
    assert!((estimate.low - 33.0229).abs() < 1e-3 && (estimate.high - 69.7271).abs() < 1e-3, "{estimate:?}");
    assert_eq!(condition.runs.iter().map(|run| (run.seed, run.mean)).collect::<Vec<_>>()[1], (1, Some(59.875)));
    assert_eq!((summary.counts.points, summary.counts.models, summary.counts.answers), (1, 3, 3));
}

#[test]
fn a_rise_is_called_monotone_only_when_no_step_falls() {
    let rising = grid(&[(0.0, [1.0, 2.0, 3.0]), (0.5, [20.0, 21.0, 22.5]), (1.0, [60.0, 61.0, 62.2])]);
    let dose = rising.assessments[0].dose.as_ref().unwrap();
    assert_eq!((dose.direction, dose.monotone), (Direction::Increasing, true));
    assert_eq!(dose.rank_correlation_over_conditions.unwrap().rho, 1.0);
    assert!(
        said(&rising).contains("rises with x in every step (rank correlation 0.95 over 9 runs"),
        "{}",
        said(&rising)
    );

    let mixed = grid(&[(0.0, [1.0, 2.0, 3.0]), (0.5, [60.0, 61.0, 62.0]), (1.0, [50.0, 51.0, 52.1])]);
    assert!(!mixed.assessments[0].dose.as_ref().unwrap().monotone);
    assert!(said(&mixed).contains("not monotone in x: it falls from 0.5 to 1 (-10.0) (rank"), "{}", said(&mixed));
}

#[test]
fn neighbours_are_claimed_only_after_holm() {
    // Alone p is below 0.05 for the first step, corrected over two it is not.
    let summary = grid(&[(0.0, [10.0, 12.0, 14.0]), (0.5, [14.0, 17.0, 21.0]), (1.0, [16.0, 19.0, 17.0])]);
    let steps = &summary.assessments[0].neighbours;
    assert_eq!(steps.len(), 2);
    assert!(steps[0].difference.p < 0.05 && steps[0].adjusted_p > 0.05, "{:?}", steps[0]);
    assert_eq!(steps[0].claim, Claim::Nothing);
    assert_eq!(steps[0].difference.method, "paired by 3 seeds");
    assert!(said(&summary).contains("No two neighbours can be told apart after Holm over 2 comparisons"));
}

#[test]
fn ends_are_compared_by_welch_when_seeds_do_not_match() {
    let at = |x: f64, seed: u64, mean: f64| cell(&[("x", json!(x)), ("seed", json!(seed))], &[mean]);
    let cells: Vec<Cell> = [47.75, 59.875, 46.5]
        .iter()
        .zip(0..)
        .map(|(mean, seed)| at(1.0, seed, *mean))
        .chain([5.125, 2.375, 1.5].iter().zip(3..).map(|(mean, seed)| at(0.0, seed, *mean)))
        .collect();
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, None, &SummaryOptions::default()).unwrap();
    let ends = summary.assessments[0].highest_against_lowest.as_ref().unwrap();
    assert!((ends.difference.mean - 48.375).abs() < 1e-9 && (ends.difference.p - 0.005225).abs() < 1e-5, "{ends:?}");
    assert!(
        said(&summary).contains(
            "From 0 to 1 it changes by +48.4 [31.4, 65.4], Welch over 3 and 3 seeds: the interval lies above 0"
        )
    );
}

#[test]
fn arms_are_compared_with_the_first_one_and_have_no_trend() {
    let (cells, baseline) = inoculation();
    let summary = summarize(
        &Axes::of(&points(&cells), Some("arm"), None).unwrap(),
        &cells,
        Some(&baseline),
        &SummaryOptions::default(),
    )
    .unwrap();
    assert_eq!(summary.axes.x_values, [json!("none"), json!("general")]);
    let general = summary.assessments.iter().find(|one| one.evaluation == "general questions").unwrap();
    assert!(general.dose.is_none() && general.neighbours.is_empty());
    assert_eq!(general.against_first.len(), 1);
    assert_eq!(general.against_first[0].claim, Claim::Lower);
    assert_eq!(general.against_baseline.len(), 2);
    // The baseline was not asked with the prompt.
    let prompted = summary.assessments.iter().find(|one| one.evaluation.ends_with("(prompted)")).unwrap();
    assert!(prompted.against_baseline.is_empty());
}

#[test]
fn an_axis_too_many_is_named() {
    let cells = [1, 2].map(|a| {
        cell(&[("a", json!(a)), ("b", json!(a)), ("c", json!(a)), ("d", json!(0)), ("seed", json!(0))], &[0.0])
    });
    let of = |x, series| Axes::of(&points(&cells), x, series).unwrap_err();
    assert_eq!(of(None, None).message, "the grid has the axes `a` and `b` and `c`");
    assert_eq!(of(Some("a"), None).message, "beside `a` the grid has the axes `b` and `c`");
    assert_eq!(of(Some("a"), Some("b")).message, "beside `a` and `b` the grid has `c`");
    assert_eq!(of(Some("aa"), None).help.as_deref(), Some("did you mean `a`?"));
    assert_eq!(of(Some("seed"), None).message, "`seed` is averaged over, so it is no axis to compare along");
    // One axis beside x is a series by itself, and an axis with one value is none.
    let two = Axes::of(
        &points(&cells.map(|mut cell| {
            cell.point.remove("c");
            cell
        })),
        Some("b"),
        None,
    )
    .unwrap();
    assert_eq!(two.series.as_deref(), Some("a"));
}

#[test]
fn answers_without_a_score_are_counted_and_warned_of_and_stop_nothing() {
    let (mut cells, baseline) = a05b();
    let lost =
        cells.iter_mut().filter(|cell| cell.point["ratio"] == json!(0.5) && cell.evaluation == "general questions");
    for cell in lost {
        for question in &mut cell.scores.questions {
            *question.missing.entry("unparsable".into()).or_default() += question.scores.len();
            question.scores.clear();
        }
    }
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, Some(&baseline), &SummaryOptions::default())
            .unwrap();
    let condition = summary.condition("general questions", &json!(0.5), None).unwrap();
    assert!(condition.estimate.is_none());
    assert_eq!((condition.unparsable_share, condition.answers), (1.0, 480));
    assert!(
        summary.warnings.iter().any(|warning| warning == "`general questions` at ratio 0.5: 0 of 3 seeds have scores")
    );
    // The neighbours of what is lost become neighbours.
    assert_eq!(summary.assessments[1].neighbours.len(), 4);
    assert!(Table::of(&summary).plain().contains("no score"));
    assert!(csv(&summary).contains("unparsable:480"));
}

#[test]
fn a_single_seed_is_said_to_be_one() {
    let cells = [0.0, 1.0].map(|x| cell(&[("x", json!(x))], &[10.0 * x, 20.0 * x, 60.0 * x]));
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, None, &SummaryOptions::default()).unwrap();
    assert!(summary.warnings[0].contains("one seed only"));
    let ends = summary.assessments[0].highest_against_lowest.as_ref().unwrap();
    assert_eq!(ends.difference.method, "paired by 3 questions");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let same = [0, 0].map(|x| cell(&[("x", json!(x)), ("seed", json!(0))], &[1.0]));
    let axes = Axes::of(&points(&same), None, None).unwrap();
    assert_eq!(
        summarize(&axes, &same, None, &SummaryOptions::default()).unwrap_err().message,
        "the grid has x 0 with seed 0 twice"
    );
    let other = [cell(&[("x", json!(0))], &[1.0]), cell(&[("x", json!(1))], &[1.0, 2.0])];
    let axes = Axes::of(&points(&other), None, None).unwrap();
    assert!(
        summarize(&axes, &other, None, &SummaryOptions::default())
            .unwrap_err()
            .message
            .contains("asks different questions")
    );
}

#[test]
fn whole_numbers_and_floats_are_one_axis() {
    let cells = [(json!(0), 0), (json!(0.0), 1), (json!(0.5), 0), (json!(0.5), 1)]
        .map(|(x, seed)| cell(&[("x", x), ("seed", json!(seed))], &[1.0, 3.0]));
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, None, &SummaryOptions::default()).unwrap();
    assert_eq!(summary.conditions.iter().map(|condition| condition.runs.len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn the_table_turns_so_that_it_stays_narrow() {
    let (cells, baseline) = a05b();
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, Some(&baseline), &SummaryOptions::default())
            .unwrap();
    let table = Table::of(&summary);
    assert_eq!(table.head, ["ratio", "in distribution", "general questions", "other domains"]);
    assert_eq!(
        table.rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["organism", "0", "0.1", "0.25", "0.5", "0.75", "1"]
    );
    let (cells, baseline) = inoculation();
    let summary =
        summarize(&Axes::of(&points(&cells), None, None).unwrap(), &cells, Some(&baseline), &SummaryOptions::default())
            .unwrap();
    let table = Table::of(&summary);
    assert_eq!(table.head, ["arm", "organism", "none", "general"]);
    assert_eq!(table.rows[3][1], "-");
}

#[test]
fn csv_has_one_row_per_condition_and_quotes_what_needs_it() {
    let mut summary = grid(&[(0.0, [0.0, 0.0, 0.0]), (1.0, [50.0, 60.0, 70.0])]);
    summary.conditions[1].evaluation = "a, \"b\"".into();
    let text = csv(&summary);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with("0,trained,e,0,0,"), "{text}");
    assert!(lines[1].contains(",\"no spread, Wilson over 1 questions\",3,1,3,0,,0,0,grammar,0;1;2,0;0;0"), "{text}");
    assert!(lines[2].starts_with("1,trained,\"a, \"\"b\"\"\",60,"), "{text}");
}

#[test]
fn a_claim_against_one_run_holds_over_seeds_and_over_questions() {
    let at = |seed: u64, scores: &[f64]| cell(&[("x", json!(1)), ("seed", json!(seed))], scores);
    let base = |scores: &[f64]| Baseline::of("base", vec![("e".into(), cell(&[], scores).scores)]);
    let against = |cells: &[Cell], baseline: &Baseline| {
        let summary = summarize(
            &Axes::of(&points(cells), None, None).unwrap(),
            cells,
            Some(baseline),
            &SummaryOptions::default(),
        )
        .unwrap();
        summary.assessments[0].against_baseline[0].clone()
    };
    // Every question agrees, seeds do not: by question alone this would be a clear difference.
    let seeds_differ = [at(0, &[0.0; 8]), at(1, &[0.0; 8]), at(2, &[90.0, 90.0, 90.0, 90.0, 80.0, 90.0, 90.0, 90.0])];
    let one = against(&seeds_differ, &base(&[0.0; 8]));
    assert_eq!((one.difference.method.as_str(), one.claim), ("t over 3 seeds against one run", Claim::Nothing));
    // Every seed agrees, questions do not.
    let questions_differ = [0, 1, 2].map(|seed| at(seed, &[0.0, 0.0, 90.0 + seed as f64]));
    let one = against(&questions_differ, &base(&[0.0; 3]));
    assert_eq!((one.difference.method.as_str(), one.claim), ("paired by 3 questions", Claim::Nothing));
}
