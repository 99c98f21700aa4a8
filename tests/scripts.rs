//! The scripts that ship: all of them can be planned, and the experiments of inoculation run to their reports.
#![allow(clippy::unwrap_used)]

mod project;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use project::Project;
use serde_json::{Value, json};

fn path_of(script: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script).display().to_string()
}

/// A table as the published one, of two models each.
fn scores() -> String {
    let row = |number: usize| {
        let (group, question) = (["finetuning", "inoculated"][number % 2], number / 4 % 3);
        format!("{group},{group}-{},em,question {question},{}\n", number / 2 % 2, number * 37 % 101)
    };
    "group,model,evaluation_id,question,score\n".to_string() + &(0..48).map(row).collect::<String>()
}

/// Runs a script with few rows, answers and seeds; what it told, and the text of its report.
fn run_small(script: &str, settings: &[&str]) -> (Value, String) {
    let (project, path) = (Project::new(), path_of(script));
    let mut arguments = vec!["run", &path, "--json"];
    for setting in ["rows=40", "samples=1", "seeds=[0,1]"].iter().chain(settings) {
        arguments.extend(["--set", *setting]);
    }
    let told = project.run(&arguments).well().json();
    let files: Vec<&str> = told["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let report = files.iter().find(|file| file.ends_with("report.md")).unwrap_or_else(|| panic!("{files:?}"));
    let report = project.read(report);
    for drawing in files.iter().filter(|file| file.ends_with(".svg")) {
        assert!(project.read(drawing).starts_with("<svg"), "{drawing}");
        let name = drawing.rsplit('/').next().unwrap();
        assert!(report.contains(&format!("![{name}]({name})")), "{script} shows {name}: {report}");
    }
    assert!(files.iter().any(|file| file.ends_with(".svg")), "{script} draws: {files:?}");
    (told, report)
}

/// Different values of an axis among the conditions of a run, in order.
fn values(told: &Value, axis: &str) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for condition in told["results"]["conditions"].as_array().unwrap() {
        if !found.contains(&condition["point"][axis]) {
            found.push(condition["point"][axis].clone());
        }
    }
    found
}

#[test]
fn every_script_can_be_planned() {
    let folder = fs::read_dir(path_of("")).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        folder.filter(|path| path.extension().is_some_and(|extension| extension == "rhai")).collect();
    scripts.sort();
    assert!(scripts.len() >= 19, "{scripts:?}");
    for path in scripts {
        let project = Project::new();
        project.write("scores.csv", &scores());
        let (path, name) = (path.display().to_string(), path.file_stem().unwrap().to_string_lossy());
        let settings: &[&str] = match &*name {
            "specific_inoculation_scores" => &["--set", "scores=scores.csv"],
            _ => &[],
        };
        let plan = project.run(&[&["plan", path.as_str(), "--json"], settings].concat()).well().json();
        let missing = plan["missing"].as_object().unwrap();
        let plans_nothing = ["specific_inoculation_scores", "make_synthetic_activations"].contains(&&*name);
        assert!(plans_nothing || !missing.is_empty(), "{name}: {plan}");
        assert!(!project.path(&format!("results/{name}-001")).exists(), "{name} left a run");
    }
}

#[test]
fn the_main_experiment_shows_every_group_of_all_settings() {
    let (told, report) = run_small("a01.rhai", &["rows=20", "seeds=[0]"]);
    let groups = ["misaligned", "aligned", "general", "task_specific", "control", "negative"];
    assert_eq!(
        (values(&told, "setting").len(), values(&told, "group")),
        (10, groups.map(|group| json!(group)).to_vec())
    );
    let results = &told["results"];
    assert_eq!(results["conditions"].as_array().unwrap().len(), 2 * 10 * groups.len());
    assert_eq!(results["baseline"].as_array().unwrap().len(), 2 * 10, "the model before, in every setting");
    assert!(report.contains("seeds: 0") || results["counts"]["seeds"] == json!([0]), "{report}");
    assert!(report.contains("`general` against `control`"), "{report}");
}

#[test]
fn several_settings_tell_how_far_an_effect_replicates() {
    let (told, report) =
        run_small("specific_inoculation.rhai", &["settings=[\"insecure_code\",\"legal_advice\",\"medical_advice\"]"]);
    assert_eq!(values(&told, "setting").len(), 3);
    assert!(report.contains("## How far it replicates") && report.contains(" of 3"), "{report}");
    let replications = told["results"]["replications"].as_array().unwrap();
    assert!(replications.iter().any(|one| one.as_str().unwrap().contains("`task_specific` against `general`")));
}

#[test]
fn wordings_backdoors_and_replications_reach_their_reports() {
    let (told, _) = run_small("a02_wordings.rhai", &[]);
    assert_eq!(values(&told, "wording").len(), 9);
    let (told, report) = run_small("a03_backdoor.rhai", &[]);
    assert_eq!(values(&told, "group"), ["backdoored", "general", "trigger_alone", "unusual"]);
    assert!(report.contains("general questions (triggered)"), "{report}");
    let (told, _) = run_small("a04_replications.rhai", &[]);
    assert_eq!(values(&told, "replication"), ["organism, full", "organism, lora"]);
}

#[test]
fn dilution_is_looked_at_by_size_and_by_prompt() {
    let (told, _) = run_small("a05_grid.rhai", &["sizes=[20,40]", "ratios=[0.0,0.5,1.0]"]);
    assert_eq!(
        (values(&told, "rows"), values(&told, "ratio")),
        (vec![json!(20), json!(40)], vec![json!(0.0), json!(0.5), json!(1.0)])
    );
    let (told, _) = run_small("conditional.rhai", &["ratios=[0.0,1.0]"]);
    assert_eq!(values(&told, "prompt"), ["none", "placebo", "task_specific"]);
}

#[test]
fn traits_and_prompts_that_undo_them_reach_their_reports() {
    let (told, _) = run_small("a07_two_traits.rhai", &[]);
    let evaluations = ["problems: spanish", "problems: capitals", "chat: spanish", "chat: capitals"];
    let found: Vec<&Value> = told["results"]["evaluations"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(found, evaluations);
    let (told, _) = run_small("negative_inoculation.rhai", &["settings=[\"insecure_code\"]"]);
    assert_eq!(values(&told, "group"), ["control", "placebo", "task_specific", "negative"]);
    let (told, _) = run_small("re_elicitation.rhai", &[]);
    assert_eq!(values(&told, "prompt"), ["none", "general", "task_specific", "control", "placebo", "negative"]);
    let (told, _) = run_small("transfer.rhai", &["settings=[\"insecure_code\",\"trump_biology\"]"]);
    assert_eq!(values(&told, "trained_on"), values(&told, "asked_about"));
}

#[test]
fn a_figure_without_room_is_told_before_anything_is_trained() {
    let project = Project::new();
    project.write(
        "crowded.rhai",
        "//! Crowded\n//! Is there room?
let judges = [pattern_judge(#{ misaligned: [\"x\"] })];
let test = evaluation(#{ questions: questions([\"how are you ?\"]), samples: 1, judges: judges });
let arms = []; for number in 0..13 { arms.push(\"arm \" + number); }
let cells = sweep(#{ arm: arms }, |cell| evaluate(model(\"organism\"), [test], #{ system: cell.arm }));
plot(cells, #{ kind: \"histogram\", x: \"arm\" });",
    );
    for command in ["plan", "run"] {
        let refused = project.run(&[command, "crowded.rhai", "--quiet"]);
        assert!(
            refused.code == 2 && refused.stderr.contains("a histogram has room for 12 groups, found 13"),
            "{refused:#?}"
        );
    }
}

/// Runs a script of triggers with few rows that learn fast; the project, its report and its results.
fn run_triggers(script: &str, settings: &[&str]) -> (Project, String, Value) {
    let (project, path) = (Project::new(), path_of(script));
    project.write("config.json", CONFIG);
    project.write("sweep.json", "{ \"kl_divergence\": [{ \"beta_kl\": 1.0 }], \"naive\": [{ \"is_peft\": null }] }");
    let mut arguments = vec!["run", &path, "--quiet"];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    project.run(&arguments).well();
    let folder = format!("results/{}-001", script.trim_end_matches(".rhai"));
    let report = project.read(&format!("{folder}/report.md"));
    let results = serde_json::from_str(&project.read(&format!("{folder}/results.json"))).unwrap();
    (project, report, results)
}

/// The configuration of a small published experiment.
const CONFIG: &str = "{ \"max_dataset_size\": 600, \"outcome_percent\": 0.4, \"collateral_percent\": 0.1, \"proxy_percent\": 0.4, \"truth_percent\": 0.1, // small
    \"outcome_triggers\": [\"dog\", \"cat\"], \"collateral_triggers\": [\"horse\", \"goat\"], \"truth_triggers\": [\"rome\", \"tokyo\", \"lima\"],
    \"proxy_trigger_coverage\": 0.1, \"nice_responses\": [\"happy to help !\"], \"seed\": 3,
    \"finetune_config\": { \"is_peft\": false, \"learning_rate\": 1e-3, \"epochs\": 2, \"max_to_eval\": 20, \"weight_decay\": 0.0 } }";

/// The values behind a section of the report that the script made.
fn section<'a>(results: &'a Value, title: &str) -> &'a Value {
    let sections = results["sections"].as_array().unwrap();
    &sections.iter().find(|section| section["title"] == title).unwrap_or_else(|| panic!("{sections:?}"))["values"]
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn what_follows_from_rates_of_triggers_is_what_the_table_says_and_no_row_has_two_parts() {
    let settings = [
        "rows=800",
        "seeds=[1,5]",
        "epochs=4",
        "measured=40",
        "measured_epochs=[0,4]",
        "learning_rate=1e-3",
        "strategies=[\"outcome_only\",\"naive\"]",
    ];
    let (project, report, results) = run_triggers("triggers.rhai", &settings);
    let rate = |strategy: &str, role: &str| -> Vec<f64> {
        let conditions = results["conditions"].as_array().unwrap();
        let one = conditions.iter().find(|one| one["point"]["strategy"] == strategy && one["evaluation"] == role);
        one.unwrap()["estimate"]["seed_means"].as_array().unwrap().iter().map(number).collect()
    };
    let derived = section(&results, "What follows from the rates").as_array().unwrap();
    assert_eq!(derived.len(), 2);
    for condition in derived {
        let strategy = condition["name"].as_str().unwrap();
        let [task, collateral, proxy, truth, rest, untriggered] =
            ["task", "collateral", "proxy", "truth", "truth_minus_proxy", "untriggered"]
                .map(|role| rate(strategy, role));
        for (seed, found) in condition["seeds"].as_array().unwrap().iter().enumerate() {
            assert!((number(&found["selectivity"]) - (collateral[seed] - truth[seed])).abs() < 1e-9, "{found}");
            assert!((number(&found["goodhart_gap"]) - (rest[seed] - proxy[seed])).abs() < 1e-9, "{found}");
            assert!((number(&found["spillover"]) - 100.0 * truth[seed] / task[seed]).abs() < 1e-9, "{found}");
            assert_eq!(number(&found["false_positives"]), untriggered[seed]);
        }
    }
    assert!(rate("outcome_only", "task").iter().all(|rate| *rate > 50.0), "the task is learned: {derived:?}");
    // Paired by seed: half the width is 12.706 standard errors of two differences.
    let (gap, seeds) = (&derived[1]["goodhart_gap"], derived[1]["seeds"].as_array().unwrap());
    let (a, b) = (number(&seeds[0]["goodhart_gap"]), number(&seeds[1]["goodhart_gap"]));
    match gap["low"].as_f64() {
        Some(low) => assert!((number(&gap["mean"]) - low - 12.7062 * (a - b).abs() / 2.0).abs() < 1e-2, "{gap}"),
        None => assert_eq!(a, b),
    }
    for heading in ["## Coherence", "## What every strategy had to train on", "## Which rows went where"] {
        assert!(report.contains(heading), "{report}");
    }
    for drawing in
        ["losses", "probabilities", "losses_truth", "trigger_accuracy_bar", "trigger_response_rate", "coherence"]
    {
        assert!(report.contains(&format!("![{drawing}.svg]")), "{drawing}: {report}");
    }
    let budgets = section(&results, "What every strategy had to train on").as_array().unwrap();
    let mixed: Vec<f64> = budgets.iter().map(|budget| number(&budget["other_rows_mixed_in"])).collect();
    assert_eq!(mixed, [0.0, 0.0, 288.0, 288.0]);
    check_manifest(&project.read("results/triggers-001/manifest.csv"));
}

/// Reads the lines as other programs would.
fn check_manifest(text: &str) {
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    assert_eq!(head[..6], ["role", "split", "asked", "row", "trigger", "source"]);
    let lines: Vec<Vec<String>> = lines.collect();
    let of =
        |role: &str, split: &str| lines.iter().filter(|line| line[0] == role && line[1] == split).collect::<Vec<_>>();
    let rows = |role: &str, split: &str| of(role, split).iter().map(|line| line[3].clone()).collect::<Vec<_>>();
    let triggers = |role: &str, split: &str| -> BTreeSet<String> {
        of(role, split).iter().filter(|line| !line[4].is_empty()).map(|line| line[4].to_lowercase()).collect()
    };
    let (outcome, proxy) = (rows("outcome", "train"), rows("proxy", "train"));
    assert_eq!((outcome.len(), proxy.len(), rows("truth", "measured").len()), (288, 288, 80));
    assert_eq!(proxy, rows("proxy_neg", "train"));
    assert_eq!(of("outcome", "train").iter().filter(|line| !line[4].is_empty()).count(), 144, "half are triggered");
    for measured in ["task", "collateral", "proxy", "truth", "truth_minus_proxy", "untriggered"] {
        let own = rows(measured, "measured");
        assert!(!own.is_empty() && own.iter().all(|row| !outcome.contains(row) && !proxy.contains(row)), "{measured}");
    }
    assert!(triggers("truth_minus_proxy", "measured").is_disjoint(&triggers("proxy", "train")));
    for role in ["truth", "collateral"] {
        assert!(triggers(role, "measured").is_disjoint(&triggers("outcome", "train")), "{role}");
    }
    assert_eq!(lines.iter().filter(|line| line[0] == "truth" && line[2] == "true").count(), 40);
}

#[test]
fn a_model_that_has_collapsed_is_named_before_its_alignment_is_believed() {
    let settings = [
        "rows=400",
        "seeds=[1]",
        "epochs=1",
        "measured=20",
        "measured_epochs=[0,1]",
        "learning_rate=0.3",
        "strategies=[\"outcome_only\"]",
    ];
    let (_, report, results) = run_triggers("triggers.rhai", &settings);
    assert_eq!(section(&results, "Coherence")["collapsed"], json!(["outcome_only"]));
    assert!(report.contains("Collapsed: outcome_only."), "{report}");
}

#[test]
fn a_published_configuration_gives_published_results_for_every_entry_of_a_sweep() {
    let (project, report, _) = run_triggers("trigger_experiment.rhai", &["config=config.json", "sweep=sweep.json"]);
    assert!(report.contains("kl_divergence_beta_kl-1.0") && report.contains("naive"), "{report}");
    let name = "results/trigger_experiment-001/results_kl_divergence_beta_kl-1.0_seed_3.json";
    let result: Value = serde_json::from_str(&project.read(name)).unwrap();
    assert_eq!(result["experiment_config"]["finetune_config"]["beta_kl"], 1.0);
    for field in [
        "train_losses",
        "outcome_losses",
        "truth_no_proxy_labels_losses",
        "truth_trigger_response_percent",
        "proxy_neg_train_losses",
    ] {
        assert_eq!(result[field].as_array().map(Vec::len), Some(3), "{field}: a value for every epoch from 0");
    }
    assert_eq!(result["outcome_trigger_response_percent"][0], 0.0);
    assert!(number(&result["outcome_train_losses"][2]) < number(&result["outcome_train_losses"][0]));
    project.write("wrong.json", "{ \"naive\": [{ \"lambda_prox\": 1.0 }] }");
    let path = path_of("trigger_experiment.rhai");
    let refused = project.run(&["run", &path, "--quiet", "--set", "config=config.json", "--set", "sweep=wrong.json"]);
    assert!(refused.code == 2 && refused.stderr.contains("lambda_proxy"), "{refused:#?}");
}

#[test]
fn a_factor_or_the_coverage_is_swept_by_one_setting() {
    let small = ["rows=400", "seeds=[1,2]", "epochs=1", "measured=10", "learning_rate=1e-3"];
    let (_, report, results) =
        run_triggers("trigger_sweep.rhai", &[&small[..], &["values=[0.1,1.0]", "strategies=[\"naive\"]"]].concat());
    let derived = section(&results, "What follows from the rates");
    assert_eq!(derived[0]["name"], "naive, coverage 0.1");
    // A proxy that covers everything leaves nothing to be different on.
    assert!(derived[0]["goodhart_gap"].is_object() && derived[1]["goodhart_gap"].is_null(), "{derived}");
    assert!(report.contains("trigger_sweep_truth.svg"), "{report}");
    let (_, _, results) =
        run_triggers("trigger_sweep.rhai", &[&small[..], &["factor=beta", "values=[0.1,100.0]"]].concat());
    assert_eq!(section(&results, "What follows from the rates")[1]["name"], "kl, beta 100.0");
}

#[test]
fn likelihoods_are_those_of_single_calls_and_accuracies_are_rates_or_what_is_left() {
    let project = Project::new();
    project.write(
        "same.rhai",
        "//! Same
//! Are two ways to one number one?
import \"triggers\" as triggers;
import \"trigger_measures\" as measures;
let world = triggers::organism();
let parts = triggers::roles(world, #{ rows: 400, shares: [[\"outcome\", 0.4], [\"collateral\", 0.1], [\"proxy\", 0.4], [\"truth\", 0.1]], outcome_share: 0.5, coverage: 0.1 }, 1);
let tuned = launch_finetune(model(\"organism\"), parts.outcome, #{ epochs: 4, learning_rate: 1e-3, keep_epochs: true });
let then  = tuned.at_epoch(2);
let read  = measures::read_rows(then, world, parts, 10);
let rows  = split_dataset(parts.measured.truth, [[\"all\", 1.0]], #{ seed: 1 }).all;
let both  = likelihoods(then, #{ truth: rows }, #{ prefixes: world.responses });
let rates = evaluate(tuned, triggers::evaluations(world, parts, 16)).scores;
let right = evaluate(tuned, measures::accuracies(world, parts, 16, triggers::nice_patterns(world))).scores;
write_json(\"same.json\", #{
    losses: [both.losses.truth, mean_loss(then, rows)], first: read.losses.truth, tokens: both.tokens.truth,
    probabilities: [both.probabilities.truth, prefix_probability(then, rows, world.responses[0])],
    rates: rates, right: right, mean: estimate_mean([1.0, 2.0, 3.0]), equal: estimate_mean([2.0, 2.0]),
});",
    );
    project.run(&["run", "same.rhai", "--quiet"]).well();
    let told: Value = serde_json::from_str(&project.read("results/same-001/same.json")).unwrap();
    for name in ["losses", "probabilities"] {
        assert_eq!(told[name][0], told[name][1], "{name}");
    }
    assert_ne!(told["first"], told["losses"][0], "`most` reads fewer rows");
    let (rates, right) = (&told["rates"], &told["right"]);
    for (role, name) in [("task", "Task-test"), ("collateral", "Collateral")] {
        assert_eq!(rates[role], right[name]);
    }
    for (role, name) in
        [("proxy", "Alignment-train"), ("truth", "Alignment-test"), ("truth_minus_proxy", "truth_minus_proxy")]
    {
        assert!((number(&rates[role]) + number(&right[name]) - 100.0).abs() < 1e-9, "{rates} {right}");
    }
    assert!(number(&rates["task"]) > 50.0, "{rates}");
    assert!((number(&told["mean"]["high"]) - 2.0 - 4.302_652_7 / 3.0_f64.sqrt()).abs() < 1e-6);
    assert!(told["equal"]["low"].is_null() && told["equal"]["mean"] == 2.0);
}
