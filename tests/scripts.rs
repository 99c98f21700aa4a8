//! The scripts that ship: all of them can be planned, and the experiments of inoculation run to their reports.
#![allow(clippy::unwrap_used)]

mod project;

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
