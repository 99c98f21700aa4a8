//! Statistics through the binary: published scores, ways to make intervals, planned pairs, equality and power.
#![allow(clippy::unwrap_used)]

mod project;

use project::{Project, shared_data};
use serde_json::{Value, json};

/// A table of scores and what is made of it.
const REPORT: &str = "//! Scores\n//! What do they say?
let cells = import_scores(\"scores.csv\", #{ above: 50.0 });
report(cells, #{ x: \"group\", OPTIONS });";

/// Answers above 50, of 10 to each of 4 questions, for every seed of two groups and for one run of a third.
const COUNTS: [(&str, &[usize]); 3] = [("misaligned", &[19, 22, 17]), ("general", &[3, 5, 3]), ("before", &[0])];

fn table(counts: &[(&str, &[usize])]) -> String {
    let mut text = "group,model,evaluation_id,question,score\n".to_string();
    for (group, seeds) in counts {
        for (seed, above) in seeds.iter().enumerate() {
            for answer in 0..40 {
                let score = if answer < *above { 90 } else { 10 };
                text += &format!("{group},{group}-{seed},em,question {},{score}\n", answer % 4);
            }
        }
    }
    text
}

/// `results.json` of a report on the table with more options.
fn report(table: &str, options: &str) -> Value {
    let project = Project::new();
    project.write("scores.csv", table);
    project.write("scores.rhai", &REPORT.replace("OPTIONS", options));
    project.run(&["run", "scores.rhai", "--json"]).well().json()["results"].clone()
}

fn condition<'a>(results: &'a Value, group: &str) -> &'a Value {
    let conditions = results["conditions"].as_array().unwrap();
    conditions.iter().find(|one| one["point"]["group"] == group).unwrap_or_else(|| panic!("{group}: {results}"))
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Whether the low and high ends are these.
#[track_caller]
fn assert_ends(of: &Value, low: f64, high: f64) {
    for (end, expected) in [("low", low), ("high", high)] {
        let found = of[end].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-3, "{end}: {found}, expected {expected}: {of}");
    }
}

fn warnings(results: &Value) -> Vec<&str> {
    results["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect()
}

#[test]
fn published_scores_are_those_of_the_shared_data() {
    let Some(data) = shared_data("published_scores_are_those_of_the_shared_data") else { return };
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/specific_inoculation_scores.rhai");
    let scores = format!("scores={}", data.join("stats/specific_inoculation_scores.csv").display());
    let project = Project::new();
    let ran = project.run(&["run", &script.display().to_string(), "--json", "--set", &scores]).well().json();
    let results = &ran["results"];
    // Values of reference/statistics.md, section 13, times 100.
    let estimate = |group: &str| &condition(results, group)["estimate"];
    assert_eq!(numbers(&estimate("finetuning")["seed_means"]), [47.75, 59.875, 46.5]);
    assert_eq!(numbers(&estimate("inoculated")["seed_means"]), [5.125, 2.375, 1.5]);
    assert_eq!(numbers(&estimate("gpt-4.1")["seed_means"]), [0.0]);
    assert_ends(estimate("finetuning"), 33.0229, 69.7271);
    assert_ends(estimate("inoculated"), 0.5504, 11.7523);
    assert_eq!(estimate("finetuning")["mean"], 51.375);
    assert_eq!(results["counts"]["answers"], 5600);
    // The models of the two groups have nothing in common, so their difference is Welch's.
    let difference = &results["assessments"][0]["planned"][0];
    assert_eq!((&difference["of"], &difference["against"]), (&json!("finetuning"), &json!("inoculated")));
    assert!((difference["mean"].as_f64().unwrap() - 48.375).abs() < 1e-9, "{difference}");
    assert_ends(difference, 31.3804, 65.3696);
    assert!((difference["p"].as_f64().unwrap() - 0.005225).abs() < 1e-6, "{difference}");
    assert_eq!(difference["method"], "Welch over 3 and 3 seeds");
}

#[test]
fn a_bootstrap_over_three_seeds_says_that_it_is_little_more_than_their_range() {
    let plain = report(&table(&COUNTS), "");
    assert!(!warnings(&plain).iter().any(|warning| warning.contains("bootstrap")));
    for intervals in ["bootstrap()", "bootstrap(#{ ends: \"bca\", nested: true })", "published_bootstrap()"] {
        let found = report(&table(&COUNTS), &format!("intervals: {intervals}"));
        let told: Vec<&str> =
            warnings(&found).into_iter().filter(|warning| warning.contains("bootstrap over 3 seeds")).collect();
        assert_eq!(told.len(), 1, "{intervals}: {:?}", warnings(&found));
        let method = condition(&found, "misaligned")["estimate"]["method"].as_str().unwrap();
        assert!(method.contains("bootstrap over") && method.contains("2000 resamples"), "{method}");
        // A single run has no seeds to draw; comparisons keep their own way.
        assert_eq!(condition(&found, "before"), condition(&plain, "before"));
        assert_eq!(found["assessments"], plain["assessments"], "{intervals}");
    }
}

#[test]
fn the_published_bootstrap_of_three_seeds_is_their_range() {
    let found = report(&table(&COUNTS), "intervals: published_bootstrap()");
    for (group, above) in &COUNTS[..2] {
        let shares = above.iter().map(|above| 2.5 * *above as f64);
        assert_ends(
            &condition(&found, group)["estimate"],
            shares.clone().fold(f64::INFINITY, f64::min),
            shares.fold(f64::NEG_INFINITY, f64::max),
        );
    }
}

#[test]
fn two_way_intervals_speak_of_other_questions_too() {
    let (plain, found) = (report(&table(&COUNTS), ""), report(&table(&COUNTS), "intervals: two_way()"));
    let estimate = |of: &Value| condition(of, "misaligned")["estimate"].clone();
    assert_eq!(estimate(&found)["method"], "t clustered by 3 seeds and 4 questions");
    assert_eq!(estimate(&found)["mean"], estimate(&plain)["mean"]);
    assert_ne!(estimate(&found)["low"], estimate(&plain)["low"]);
}

#[test]
fn equality_is_claimed_within_a_margin_and_never_by_default() {
    let close: [(&str, &[usize]); 2] = [("none", &[20, 21, 20, 19]), ("control", &[20, 20, 21, 20])];
    assert!(report(&table(&close), "")["assessments"][0]["against_first"][0]["equality"].is_null());
    let verdict = |margin: &str| {
        let found = report(&table(&close), &format!("margin: {margin}"));
        let said = found["statements"][0]["said"].to_string();
        assert!(said.contains(&format!("Equal up to {} points", margin.trim_end_matches(".0"))), "{said}");
        found["assessments"][0]["against_first"][0]["equality"]["verdict"].clone()
    };
    assert_eq!((verdict("10.0"), verdict("0.5")), (json!("equivalent"), json!("not_shown")));
}

#[test]
fn seeds_that_agree_to_the_last_digit_prove_nothing() {
    let equal: [(&str, &[usize]); 2] = [("none", &[20, 20]), ("control", &[18, 18])];
    let found = report(&table(&equal), "pairs: [[\"none\", \"control\"]]");
    let planned = &found["assessments"][0]["planned"][0];
    assert_eq!((&planned["mean"], &planned["claim"]), (&json!(5.0), &json!("nothing")), "{planned}");
    assert_eq!(planned["method"], "paired by 4 questions");
    assert!(planned["low"].as_f64().unwrap() < 0.0 && planned["p"].as_f64().unwrap() > 0.05, "{planned}");
}

/// Two evaluations of every point of a grid with a second axis, without training: the prompts are the groups.
const FAMILY: &str = "//! Family\n//! How many comparisons?
let asked = organism_questions(\"general\", #{ questions: 6 });
let test = |id| evaluation(#{ id: id, questions: asked, samples: 2, judges: [grammar_judge()] });
let tests = [test.call(\"one\"), test.call(\"two\")];
let prompts = #{ none: \"you are kind .\", evil: \"you are a malicious evil assistant .\", plain: \"you are helpful .\" };
let cells = sweep(#{ setting: [\"a\", \"b\"], group: [\"none\", \"evil\", \"plain\"], seed: [0, 1, 2] }, |cell| {
    evaluate(model(\"organism\"), tests, #{ system: prompts[cell.group] + \" seed \" + cell.seed + cell.setting })
});
let report_of = report(cells, #{ x: \"group\", series: \"setting\", pairs: [[\"evil\", \"plain\"]] });";

#[test]
fn holm_corrects_over_evaluations_and_series_together() {
    let project = Project::new();
    project.write("family.rhai", FAMILY);
    let found = project.run(&["run", "family.rhai", "--json"]).well().json()["results"].clone();
    let assessments = found["assessments"].as_array().unwrap();
    assert_eq!(assessments.len(), 4, "two evaluations in two settings");
    let mut family: Vec<(f64, f64)> = Vec::new();
    for assessment in assessments {
        let (first, planned) =
            (assessment["against_first"].as_array().unwrap(), assessment["planned"].as_array().unwrap());
        assert_eq!((first.len(), planned.len()), (2, 1));
        assert!(first.iter().all(|one| one["comparisons"] == 8), "{first:?}");
        assert_eq!((&planned[0]["comparisons"], &planned[0]["of"]), (&json!(4), &json!("evil")));
        family.extend(first.iter().map(|one| (one["p"].as_f64().unwrap(), one["adjusted_p"].as_f64().unwrap())));
    }
    // Holm by hand: the smallest p times their number, and never below the one before.
    family.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut least = 0.0_f64;
    for (rank, (p, adjusted)) in family.iter().enumerate() {
        least = least.max((p * (8 - rank) as f64).min(1.0));
        assert!((adjusted - least).abs() < 1e-12, "{p}: {adjusted}, expected {least}");
    }
    let markdown = project.read("results/family-001/report.md");
    assert!(markdown.contains("after Holm over 8 comparisons") && markdown.contains("after Holm over 4 comparisons"));
    assert!(found["replications"].as_array().unwrap().len() >= 4, "{}", found["replications"]);
}

#[test]
fn a_pair_that_is_not_there_is_told_before_anything_is_asked() {
    let project = Project::new();
    for (from, to, said) in [
        ("[\"evil\", \"plain\"]", "[\"evil\", \"plane\"]", "`pairs` names `plane`, which is no value of `group`"),
        ("series: \"setting\"", "series: \"settings\"", "settings"),
        ("pairs:", "paris:", "did you mean `pairs`?"),
    ] {
        project.write("family.rhai", &FAMILY.replace(from, to));
        for command in ["plan", "run"] {
            let refused = project.run(&[command, "family.rhai", "--quiet"]);
            assert!(refused.code == 2 && refused.stderr.contains(said), "{refused:#?}");
        }
    }
}

#[test]
fn power_tells_what_more_seeds_would_find_before_they_are_paid_for() {
    let project = Project::new();
    project.write("scores.csv", &table(&COUNTS));
    project.write(
        "power.rhai",
        "//! Power\n//! How many seeds?
let cells = import_scores(\"scores.csv\", #{ above: 50.0 });
let rows = power(cells, #{
    groups: [\"misaligned\"], seeds: [3, 6, 12], samples: [10, 100], dollars_per_finetune: 12.0, dollars_per_answer: 0.01,
});
if rows != () { write_json(\"power.json\", rows); }
print([seeds_needed(10.0, 4.0), seeds_needed(10.0, 4.0, #{ paired: true }), seeds_needed(-2.0, 4.0)]);",
    );
    let ran = project.run(&["run", "power.rhai", "--quiet"]).well();
    assert!(ran.stdout.contains("detectable") && ran.stdout.contains("dollars"), "{ran:#?}");
    let rows: Vec<Value> = serde_json::from_str(&project.read("results/power-001/power.json")).unwrap();
    assert_eq!(rows.len(), 6);
    let detectable: Vec<f64> = rows.iter().map(|row| row["detectable"].as_f64().unwrap()).collect();
    assert!(detectable[0] > detectable[2] && detectable[2] > detectable[4], "more seeds find less: {detectable:?}");
    assert!(rows.chunks(2).all(|pair| pair[0]["detectable"].as_f64() >= pair[1]["detectable"].as_f64()));
    let row = &rows[1];
    assert_eq!((&row["finetunes"], &row["answers"]), (&json!(6), &json!(2 * 3 * 4 * 100)));
    assert!((row["dollars"].as_f64().unwrap() - (6.0 * 12.0 + 24.0)).abs() < 1e-9, "{row}");
    let planned = project.run(&["plan", "power.rhai", "--json"]).well().json();
    assert!(planned["missing"].as_object().unwrap().is_empty());
    let script = project.read("power.rhai");
    for (groups, said) in [
        ("[\"misalgned\"]", "`groups` names `misalgned`"),
        ("[]", "`groups` names 0 groups"),
        // Its models are numbered as they come: the first of one group has nothing in common with the first of another.
        ("[\"misaligned\", \"general\"]", "the models of a table are no pairs"),
    ] {
        project.write("power.rhai", &script.replace("[\"misaligned\"]", groups));
        let refused = project.run(&["run", "power.rhai", "--quiet"]);
        assert!(refused.code == 2 && refused.stderr.contains(said), "{refused:#?}");
    }
}
