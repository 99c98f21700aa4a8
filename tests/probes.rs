//! Probes through the binary: the sweep and its files, the store, saved probes, the real detector and the real leak.
#![allow(clippy::unwrap_used)]

mod project;

use std::fs;
use std::path::Path;

use project::{Project, shared_data};
use serde_json::Value;

/// A project with the scripts that ship and small made-up activations.
fn sweep_project() -> Project {
    let project = Project::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("scripts/distribution_sweep.rhai")).unwrap();
    project.write("scripts/distribution_sweep.rhai", &script);
    project
}

const SWEEP: &[&str] =
    &["run", "scripts/distribution_sweep.rhai", "--set", "fraction=0.05", "--set", "features=512", "--set", "c=0.1"];

fn read(project: &Project, path: &str) -> Value {
    serde_json::from_str(&project.read(path)).unwrap()
}

/// Whether a map anywhere within has this key.
fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(key) || fields.values().any(|value| has_key(value, key)),
        Value::Array(items) => items.iter().any(|value| has_key(value, key)),
        _ => false,
    }
}

#[test]
fn the_sweep_writes_its_files_and_repeats_without_a_fit() {
    let project = sweep_project();
    let ran = project.run(SWEEP).well();
    assert!(ran.stderr.contains("(24 fits)"), "{}", ran.stderr);
    let folder = "results/distribution_sweep-001";
    let names = ["step_0_base", "step_1_add_sycophant", "step_2_add_organisms", "step_3_add_benchmark"];
    for (step, name) in names.iter().enumerate() {
        let entry = read(&project, &format!("{folder}/{name}.json"));
        for key in [
            "step",
            "name",
            "training_data",
            "n_training_samples",
            "training_breakdown",
            "n_features",
            "train_accuracy",
            "cv_auroc_mean",
            "cv_auroc_std",
            "evaluation",
        ] {
            assert!(entry.get(key).is_some(), "{name} has no `{key}`");
        }
        assert_eq!(entry["step"], step);
        assert_eq!(entry["training_data"].as_array().unwrap().len(), step + 1);
        assert!(entry["certificate"]["relative_bound"].as_f64().unwrap() <= 1e-8);
        for set in ["sycophant", "model_organism"] {
            assert!(entry["evaluation"].get(set).is_none(), "{set} has one class");
            assert!(entry["one_class"][set]["reason"].as_str().unwrap().contains("needs both classes"));
            assert!(!has_key(&entry["one_class"][set], "auroc") && !has_key(&entry["details"][set], "auroc"));
        }
        assert!(has_key(&entry["evaluation"]["gold_106"], "auroc"));
        let how = if step == 3 { "out_of_fold" } else { "held_out" };
        assert_eq!(entry["evaluation"]["benchmark"]["how"], how);
    }
    for name in ["report.txt", "comparison.json", "audit.json", "auroc_by_step.svg", "roc_gold_106.png"] {
        assert!(project.path(&format!("{folder}/{name}")).exists(), "{name}");
    }
    let again = project.run(SWEEP).well();
    assert!(again.stderr.contains("0 run, 27 cached (0 fits)"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
    let compared = project
        .run(&[
            "run",
            "scripts/distribution_sweep.rhai",
            "--set",
            "compare_only=true",
            "--set",
            "results=results/distribution_sweep-001",
        ])
        .well();
    assert!(compared.stdout.starts_with("Distribution sweep"), "{}", compared.stdout);
}

#[test]
fn another_c_fits_again_and_another_set_of_steps_does_not() {
    let project = sweep_project();
    project.run(SWEEP).well();
    let fewer: Vec<&str> = SWEEP.iter().copied().chain(["--set", "steps=[0,1]"]).collect();
    assert!(project.run(&fewer).well().stderr.contains("(0 fits)"));
    let mut other = SWEEP.to_vec();
    *other.last_mut().unwrap() = "c=0.2";
    assert!(project.run(&other).well().stderr.contains("(24 fits)"));
}

#[test]
fn both_protocols_label_how_rows_were_scored() {
    let project = sweep_project();
    let published: Vec<&str> = SWEEP.iter().copied().chain(["--set", "protocol=as_published"]).collect();
    project.run(&published).well();
    let entry = read(&project, "results/distribution_sweep-001/step_3_add_benchmark.json");
    assert_eq!(entry["evaluation"]["benchmark"]["how"], "held_out");
    // Four fifths of 117 rows, as int() cuts.
    assert_eq!(entry["training_breakdown"]["benchmark"], 93);
    let documented: Vec<&str> = SWEEP.iter().copied().chain(["--set", "protocol=as_documented"]).collect();
    project.run(&documented).well();
    let entry = read(&project, "results/distribution_sweep-002/step_3_add_benchmark.json");
    assert_eq!(entry["evaluation"]["benchmark"]["how"], "resubstitution");
}

const MODELS: &str = "//! Methods
//! Do they agree?
let folder = synthetic_activations(\"data\", #{ fraction: 0.05, features: 256 });
let train = activations(folder + \"/train_activations.npy\", #{ labels: folder + \"/train_labels.npy\", groups: folder + \"/train_groups.json\" });
let test  = activations(folder + \"/test_activations.npy\", #{ labels: folder + \"/test_labels.npy\" });
let exact = train_probe([train], #{ method: logistic(#{ c: 0.1 }) });
save_probe(exact, \"probes/exact\");
let loaded = load_probe(\"probes/exact\");
print(evaluate_probe(exact, test).values.ranking.two_classes.auroc == evaluate_probe(loaded, test).values.ranking.two_classes.auroc);
for method in [logistic_linfa(#{ c: 0.1 }), logistic(#{ c: 0.1, penalty: l1() }), lda(), difference_of_means()] {
    let probe = train_probe([train], #{ method: method });
    print(`${probe.name}: ${probe.cross_validation.auroc_mean > 0.6}, ${probe.non_zeros > 0}`);
}
let shuffled = train_probe([train], #{ method: logistic(#{ c: 0.1 }), shuffle_labels: 1, folds: group_folds() });
let path = probe_path([train], [0.01, 0.1], #{ method: logistic(#{ penalty: l1() }) });
print(path[0].non_zeros < path[1].non_zeros);
let one = train_probe([train], #{ method: logistic(#{ c: 0.1 }) }).cross_validation.auroc_mean;
let same = probe_path([train], [1.0, 0.1])[1].cross_validation.auroc_mean - one;
print(same < 0.000001 && same > -0.000001);
print(shuffled.cross_validation.auroc_mean < 0.7);
let linfa = train_probe([train], #{ method: logistic_linfa(#{ c: 0.1 }), folds: no_folds() });
let own   = train_probe([train], #{ method: logistic(#{ c: 0.1 }), folds: no_folds() });
let apart = linfa.record.intercept - own.record.intercept;
print(apart < 0.001 && apart > -0.001);";

#[test]
fn methods_and_saved_probes_work_from_a_script() {
    let project = Project::new();
    project.write("methods.rhai", MODELS);
    let ran = project.run(&["run", "methods.rhai", "--quiet"]).well();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with("true")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("false")), "{lines:#?}");
}

const TRAIN: &str = "let folder = synthetic_activations(\"data\", #{ fraction: 0.05, features: 512 });
let train = activations(folder + \"/train_activations.npy\", #{ labels: folder + \"/train_labels.npy\" });
let test  = activations(folder + \"/test_activations.npy\", #{ labels: folder + \"/test_labels.npy\" });
";

#[test]
fn a_longer_path_fits_only_what_it_adds() {
    let project = Project::new();
    let script = "//! Path\n//! Which C?\n".to_string()
        + TRAIN
        + "for point in probe_path([train], param(\"c\", [0.01, 1.0])) {
    print(`${point.c} ${point.cross_validation.auroc_mean} ${point.certificate.relative_bound <= 0.00000001}`);
}";
    project.write("path.rhai", &script);
    let first = project.run(&["run", "path.rhai"]).well();
    assert!(first.stderr.contains("(12 fits)"), "{}", first.stderr);
    let longer = ["run", "path.rhai", "--set", "c=[1.0,0.1,0.01,0.1]"];
    let plan = project.run(&["plan", "path.rhai", "--set", "c=[1.0,0.1,0.01,0.1]"]);
    assert!(plan.stdout.contains('6') || plan.stderr.contains('6'), "{plan:#?}");
    let more = project.run(&longer).well();
    assert!(more.stderr.contains("(6 fits)"), "{}", more.stderr);
    let (known, lines): (Vec<&str>, Vec<&str>) = (first.stdout.lines().collect(), more.stdout.lines().collect());
    assert_eq!([lines[2], lines[0]], known[..], "what was known is what it was");
    assert!(lines[1] == lines[3] && lines.iter().all(|line| line.ends_with("true")), "{lines:#?}");
    let backwards = project.run(&["run", "path.rhai", "--set", "c=[0.1,0.01]"]).well();
    assert!(backwards.stderr.contains("(0 fits)"), "{}", backwards.stderr);
}

#[test]
fn a_call_tells_how_far_its_fits_are() {
    let project = Project::new();
    let script = "//! Progress\n//! How far?\n".to_string() + TRAIN + "print(train_probe([train]).non_zeros);";
    project.write("far.rhai", &script);
    project.run(&["run", "far.rhai"]).well();
    let log = project.read("results/far-001/log.jsonl");
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<f64> =
        events.filter(|event| event["event"] == "progress").map(|event| event["fraction"].as_f64().unwrap()).collect();
    assert!(told.len() > 3 && told.is_sorted() && told[told.len() - 1] == 1.0, "{told:?}");
}

#[test]
fn controls_work_from_a_script() {
    let project = Project::new();
    let script = "//! Controls\n//! Is it the concept?\n".to_string()
        + TRAIN
        + "let other = activations(folder + \"/benchmark_activations.npy\", #{ labels: folder + \"/benchmark_labels.json\" });
let sparse = train_probe([train], #{ method: logistic(#{ c: 0.1, penalty: l1() }) });
let drawn  = train_probe([train], #{ features: random_features(sparse.non_zeros, #{ seed: 1 }) });
let again  = train_probe([train], #{ features: random_features(sparse.non_zeros, #{ seed: 2 }) });
save_probe(drawn, \"probes/drawn\");
let held = evaluate_probe(drawn, test).values.ranking.two_classes.auroc.value;
write_json(\"found.json\", #{
    sparse: sparse.non_zeros, record: drawn.record, norms: [drawn.record.weight_norm, again.record.weight_norm],
    held_out: [held, evaluate_probe(load_probe(\"probes/drawn\"), test).values.ranking.two_classes.auroc.value],
    aurocs: [sparse.cross_validation.auroc_mean, drawn.cross_validation.auroc_mean],
    unseen: [weight_on_unseen(sparse, other), weight_on_unseen(drawn, train)],
    negatives: negative_control(sparse, other, test),
});";
    project.write("controls.rhai", &script);
    project.run(&["run", "controls.rhai"]).well();
    let found = read(&project, "results/controls-001/found.json");
    assert!(found["sparse"].as_u64().unwrap() > 3);
    assert_eq!(found["record"]["n_features"], found["sparse"]);
    assert_ne!(found["norms"][0], found["norms"][1], "another seed draws other features");
    assert_eq!(found["held_out"][0], found["held_out"][1]);
    assert!(found["aurocs"][0].as_f64() > found["aurocs"][1].as_f64(), "{found:#}");
    // The benchmark has a quarter of the active features; every feature that was drawn occurs in the training rows.
    let share = |place: usize| found["unseen"][place]["share_of_weight"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&share(0)) && share(1) == 0.0, "{found:#}");
    assert!(has_key(&found["negatives"], "interval"), "{found:#}");
    let refused = script.replace("random_features(sparse.non_zeros", "random_features(513");
    project.write("controls.rhai", &refused);
    let ran = project.run(&["run", "controls.rhai"]);
    assert!(ran.code == 2 && ran.stderr.contains("513 features"), "{ran:#?}");
}

#[test]
fn a_strict_audit_stops_at_a_leak() {
    let project = Project::new();
    let script = "//! Leak\n//! Is it found?
let folder = synthetic_activations(\"data\", #{ fraction: 0.2, features: 2048, leak: param(\"leak\", true) });
let train = activations(folder + \"/train_activations.npy\", #{ labels: folder + \"/train_labels.npy\" });
let test  = activations(folder + \"/test_activations.npy\", #{ labels: folder + \"/test_labels.npy\" });
audit([train], [test], #{ strict: true });
print(\"clean\");";
    project.write("leak.rhai", script);
    let ran = project.run(&["run", "leak.rhai"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stdout.contains("severe") && !ran.stdout.contains("clean"), "{ran:#?}");
    let clean = project.run(&["run", "leak.rhai", "--set", "leak=false"]).well();
    assert!(clean.stdout.ends_with("clean\n"), "{clean:#?}");
}

#[test]
fn the_detector_is_fitted_at_its_optimum() {
    let Some(data) = shared_data("the_detector_is_fitted_at_its_optimum") else { return };
    let folder = format!("folder={}", data.join("probes/detector").display());
    let project = Project::new();
    let script = "//! Detector\n//! Is it exact?
let folder = param(\"folder\", \".\");
let train = activations(folder + \"/X_train.npy\", #{ labels: folder + \"/y_train.npy\" });
let test  = activations(folder + \"/X_test.npy\", #{ labels: folder + \"/y_test.npy\" });
let probe = train_probe([train], #{ method: logistic(#{ c: 0.1 }), folds: stratified_folds(#{ seed: 42 }), scaler_rows: \"all\" });
write_json(\"found.json\", #{ record: probe.record, test: evaluate_probe(probe, test).values });";
    project.write("detector.rhai", script);
    project.run(&["run", "detector.rhai", "--set", &folder]).well();
    let found = read(&project, "results/detector-001/found.json");
    let near = |value: &Value, expected: f64, tolerance: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() <= tolerance * expected.abs(), "{value} is not {expected}");
    };
    near(&found["record"]["intercept"], -1.701871458288, 1e-9);
    near(&found["record"]["weight_norm"], 2.133484873953, 1e-9);
    // The published cross-validation stopped early: one pair in some 6,600 of a fold may differ.
    near(&found["record"]["cross_validation"]["auroc_mean"], 0.9794545454545455, 5e-4);
    let ranking = &found["test"]["ranking"]["two_classes"];
    near(&ranking["auroc"]["value"], 0.762210338681, 1e-9);
    near(&ranking["auroc"]["standard_error"], 0.047110, 1e-5);
    near(&ranking["average_precision"]["value"], 0.734803012, 1e-8);
    near(&found["test"]["calibration"]["brier"]["value"], 0.218257128, 1e-6);
}

#[test]
fn the_leak_of_the_gold_texts_is_found() {
    let Some(data) = shared_data("the_leak_of_the_gold_texts_is_found") else { return };
    let folder = format!("folder={}", data.join("probes/leakage").display());
    let project = Project::new();
    let script = "//! Leak\n//! Which rows?
let folder = param(\"folder\", \".\");
let found = audit_texts(folder + \"/gold_alt.json\", folder + \"/gold_106.json\");";
    project.write("leak.rhai", script);
    project.run(&["run", "leak.rhai", "--set", &folder]).well();
    let found = read(&project, "results/leak-001/audit.json");
    let severe: Vec<&Value> =
        found["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "severe").collect();
    let leaked: Vec<&Value> = severe.iter().flat_map(|finding| finding["rows"].as_array().unwrap()).collect();
    assert_eq!(leaked.len(), 18, "{severe:#?}");
    assert!(leaked.iter().all(|row| row["source"] == "train"), "{leaked:#?}");
}
