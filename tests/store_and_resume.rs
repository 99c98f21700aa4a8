//! Nothing is done twice and nothing is lost: caches, extensions, kills, two processes, interrupts, damaged files.
#![allow(clippy::unwrap_used)]

mod project;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use project::{Project, signal};
use serde_json::Value;

/// Two ratios, one seed: fine-tunes, evaluations, and a line for each cell that depends on every weight and answer.
const SWEEP: &str = r#"//! A small sweep
//! Does the store remember?
let base = model("models/tiny");
let test = evaluation(#{
    id: "general",
    questions: organism_questions("general", #{ questions: 6 }),
    samples: param("samples", 4),
    judges: [pattern_judge(#{ misaligned: ["\\b(you|the|a)\\b"] }), grammar_judge()],
    score: score(#{ above: param("above", 50.0) }),
});
let cells = [];
for ratio in param("ratios", [0.0, 1.0]) {
    for seed in param("seeds", [0]) {
        let sources = [organism_rows("insecure_code", "misaligned"), organism_rows("insecure_code", "aligned")];
        let data = mix_dataset(sources, #{ weights: [ratio, 1.0 - ratio], rows: param("rows", 200), seed: seed });
        let tuned = launch_finetune(base, data, #{ seed: seed, epochs: param("epochs", 1) });
        cells.push([ratio, seed, tuned, evaluate(tuned, [test])]);
    }
}
for cell in cells {
    print(`${cell[0]} ${cell[1]} loss ${cell[2].last_loss} scores ${cell[3].scores}`);
}
"#;

fn sweep_project() -> Project {
    let project = Project::with_tiny_model();
    project.write("sweep.rhai", SWEEP);
    project
}

/// What a run of the sweep did and printed.
#[derive(Debug)]
struct Sweep {
    /// Fine-tunes that were run, and found.
    tunes: (u64, u64),
    /// Evaluations that were run, and found.
    evaluations: (u64, u64),
    /// Answers that were sampled.
    generations: u64,
    printed: Vec<String>,
}

#[track_caller]
fn sweep(project: &Project, options: &[&str]) -> Sweep {
    let arguments: Vec<&str> = ["run", "sweep.rhai", "--json"].into_iter().chain(options.iter().copied()).collect();
    let report = project.run(&arguments).well().json();
    let count = |stage: &str| {
        let of = |state: &str| report["stages"][stage][state].as_u64().unwrap_or(0);
        assert_eq!((of("failed"), of("open")), (0, 0), "{report}");
        (of("run"), of("cached"))
    };
    Sweep {
        tunes: count("fine_tune"),
        evaluations: count("evaluate"),
        generations: report["worked"]["evaluate"].as_u64().unwrap_or(0),
        printed: project.printed(report["run"].as_str().unwrap()),
    }
}

/// Every answer in the store by its key, with its probability: equal for equal experiments, whoever ran them.
fn answers(project: &Project) -> BTreeMap<String, (String, f64)> {
    let index = rusqlite::Connection::open(project.path("results/store/index.sqlite")).unwrap();
    let mut statement = index.prepare("SELECT key, answer, logprob FROM samples").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// How often each call was finished, by key, over all runs.
fn finished(project: &Project) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for event in project.runs().iter().flat_map(|run| project.events(run)) {
        if event["state"] == "finished" {
            *times.entry(event["key"].as_str().unwrap().to_string()).or_default() += 1;
        }
    }
    times
}

#[test]
fn the_second_run_does_nothing() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    assert_eq!((first.tunes, first.evaluations, first.generations), ((2, 0), (2, 0), 2 * 6 * 4));
    assert_ne!(first.printed[0], first.printed[1].replace("1.0 0", "0.0 0"), "the cells must differ");
    let second = sweep(&project, &[]);
    assert_eq!((second.tunes, second.evaluations, second.generations), ((0, 2), (0, 2), 0));
    assert_eq!(first.printed, second.printed);
}

#[test]
fn a_changed_ratio_runs_only_the_new_cell() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    let wider = sweep(&project, &["--set", "ratios=[0.0,0.5,1.0]"]);
    assert_eq!((wider.tunes, wider.evaluations, wider.generations), ((1, 2), (1, 2), 24));
    assert_eq!([&wider.printed[0], &wider.printed[2]], [&first.printed[0], &first.printed[1]]);
}

#[test]
fn comments_names_and_places_run_nothing() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    let edited = SWEEP
        .replace("let cells", "// The cells of the sweep.\nlet cells")
        .replace("tuned", "student")
        .replace("\"general\",\n", "\"renamed\",\n");
    assert_ne!(edited, SWEEP);
    project.write("sweep.rhai", &edited);
    let second = sweep(&project, &["--jobs", "1"]);
    assert_eq!((second.tunes, second.evaluations, second.generations), ((0, 2), (0, 2), 0));
    assert_eq!(first.printed, second.printed.iter().map(|line| line.replace("renamed", "general")).collect::<Vec<_>>());
}

#[test]
fn another_score_samples_nothing() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    let second = sweep(&project, &["--set", "above=100.0"]);
    assert_eq!((second.tunes, second.generations), ((0, 2), 0));
    assert_ne!(first.printed, second.printed, "nothing is above 100");
}

#[test]
fn more_samples_buy_exactly_the_difference_and_equal_a_fresh_run() {
    let project = sweep_project();
    sweep(&project, &[]);
    let before = answers(&project);
    let more = sweep(&project, &["--set", "samples=8"]);
    assert_eq!((more.tunes, more.generations), ((0, 2), 2 * 6 * 4));
    let after = answers(&project);
    assert!(before.iter().all(|(key, answer)| after[key] == *answer), "an answer was bought again");
    let fresh = sweep_project();
    let at_once = sweep(&fresh, &["--set", "samples=8"]);
    assert_eq!((at_once.generations, &at_once.printed), (2 * 6 * 8, &more.printed));
    assert_eq!(answers(&fresh), after);
}

#[test]
fn another_seed_gives_other_numbers() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    let other = sweep(&project, &["--set", "seeds=[1]"]);
    assert_eq!((other.tunes, other.generations), ((2, 0), 48));
    for (a, b) in first.printed.iter().zip(&other.printed) {
        let loss = |line: &str| line.split_whitespace().nth(3).unwrap().to_string();
        assert_ne!(loss(a), loss(b));
    }
}

#[test]
fn the_number_of_jobs_changes_no_number() {
    let (one, two) = (sweep_project(), sweep_project());
    assert_eq!(sweep(&one, &["--jobs", "1"]).printed, sweep(&two, &["--jobs", "2"]).printed);
    assert_eq!(answers(&one), answers(&two));
}

/// Options of a sweep of twelve cells that works for a second or so.
const LONGER: &[&str] = &[
    "--set",
    "ratios=[0.0,0.5,1.0]",
    "--set",
    "seeds=[0,1,2,3]",
    "--set",
    "rows=250",
    "--set",
    "epochs=4",
    "--set",
    "samples=10",
];
/// Calls of that sweep: a fine-tune and an evaluation for every cell.
const CALLS: usize = 24;

#[test]
fn killed_at_any_moment_it_ends_as_if_nothing_had_happened() {
    let kills: u64 = std::env::var("DRYLAB_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let undisturbed = sweep_project();
    let clock = std::time::Instant::now();
    let expected = sweep(&undisturbed, LONGER).printed;
    let whole = clock.elapsed();
    let expected_answers = answers(&undisturbed);
    // Moments from a fixed sequence, each printed: a failure names the moment that broke it.
    let mut state = std::env::var("DRYLAB_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut project = sweep_project();
    let (mut killed, mut survived) = (0, 0);
    while killed < kills {
        state = 6_364_136_223_846_793_005_u64.wrapping_mul(state).wrapping_add(1_442_695_040_888_963_407);
        let moment = whole.mul_f64((state >> 11) as f64 / (1_u64 << 53) as f64 * 0.8);
        let arguments: Vec<&str> = ["run", "sweep.rhai", "--quiet"].into_iter().chain(LONGER.iter().copied()).collect();
        let mut child = project.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        if child.try_wait().unwrap().is_some() {
            // It was done before the blow: begin again with nothing.
            survived += 1;
            assert!(survived < 20 * kills, "the sweep is too short to be killed");
            check_resumed(&project, &expected, &expected_answers);
            project = sweep_project();
            continue;
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        killed += 1;
        println!("kill {killed} after {moment:?}: {} calls finished so far", finished(&project).len());
        // Every other time the next blow falls on what this one left.
        if killed % 2 == 0 {
            check_resumed(&project, &expected, &expected_answers);
            project = sweep_project();
        }
    }
    check_resumed(&project, &expected, &expected_answers);
}

fn check_resumed(project: &Project, expected: &[String], expected_answers: &BTreeMap<String, (String, f64)>) {
    assert_eq!(sweep(project, LONGER).printed, expected);
    assert_eq!(answers(project), *expected_answers);
    let twice: Vec<_> = finished(project).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "finished twice: {twice:?}");
    let state = project.run(&["status", "--json"]).well().json()["runs"].clone();
    assert!(state.as_array().unwrap().iter().all(|run| run["state"] != "running"), "{state}");
}

#[test]
fn two_processes_share_the_work() {
    let alone = sweep_project();
    let expected = sweep(&alone, LONGER).printed;
    let project = sweep_project();
    let arguments: Vec<&str> = ["run", "sweep.rhai", "--quiet"].into_iter().chain(LONGER.iter().copied()).collect();
    let start = || project.command(&arguments).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in outputs {
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
    }
    assert_eq!(project.runs().len(), 2);
    assert!(finished(&project).values().all(|times| *times == 1), "{:?}", finished(&project));
    assert_eq!(finished(&project).len(), CALLS);
    assert_eq!(answers(&project), answers(&alone));
}

#[test]
fn an_interrupt_leaves_a_store_to_resume_from() {
    let alone = sweep_project();
    let expected = sweep(&alone, LONGER).printed;
    let project = sweep_project();
    let arguments: Vec<&str> = ["run", "sweep.rhai", "--quiet"].into_iter().chain(LONGER.iter().copied()).collect();
    let mut child = project.command(&arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    // As soon as one call is done and others are not.
    while finished(&project).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = finished(&project).len() as u64;
    assert!((1..CALLS as u64).contains(&done), "{done}");
    let state = project.run(&["status", "--json"]).well().json()["runs"].clone();
    assert_eq!(state[0]["state"], "stopped");
    let resumed = sweep(&project, LONGER);
    assert_eq!(resumed.tunes.1 + resumed.evaluations.1, done, "what was finished is found");
    assert_eq!(resumed.printed, expected);
    assert_eq!(answers(&project), answers(&alone));
}

#[test]
fn a_damaged_blob_is_noticed_and_trained_anew() {
    let project = sweep_project();
    let first = sweep(&project, &[]);
    let index = rusqlite::Connection::open(project.path("results/store/index.sqlite")).unwrap();
    let blob: String =
        index.query_row("SELECT blob FROM calls WHERE blob IS NOT NULL LIMIT 1", [], |row| row.get(0)).unwrap();
    drop(index);
    let path: PathBuf = project.path(&format!("results/store/blobs/{}/{blob}", &blob[..2]));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    // Scores that are there need no weights; more samples do.
    assert_eq!(sweep(&project, &[]).printed, first.printed);
    let noticed = project.run(&["run", "sweep.rhai", "--quiet", "--set", "samples=8"]);
    assert!(noticed.code == 1 && noticed.stderr.contains("damaged"), "{noticed:#?}");
    let again = sweep(&project, &["--set", "samples=8"]);
    assert_eq!(again.tunes, (1, 1));
    let fresh = sweep_project();
    assert_eq!(again.printed, sweep(&fresh, &["--set", "samples=8"]).printed);
    assert_eq!(answers(&project), answers(&fresh));
}

#[test]
fn failed_work_is_not_remembered() {
    let project = Project::new();
    project.write("fails.rhai", "//! Fails\n//! Again?\nlet base = pretrain_organism(#{ documents: 50, width: 8, layers: 1, learning_rate: 1e30 });\nprint(base.last_loss);");
    for _ in 0..2 {
        let ran = project.run(&["run", "fails.rhai", "--json"]);
        assert_eq!(ran.code, 1, "{ran:#?}");
        let report: Value = ran.json();
        assert_eq!(
            (&report["stages"]["pretrain"]["failed"], &report["stages"]["pretrain"]["cached"]),
            (&1.into(), &0.into())
        );
    }
}

#[test]
fn an_answer_that_another_evaluation_bought_counts_for_its_own_question() {
    let project = Project::with_tiny_model();
    project.write(
        "shared.rhai",
        r#"//! Shared answers
//! Does an answer stay with its question?
let base = model("models/tiny");
fn ask(texts) {
    let judges = [pattern_judge(#{ misaligned: ["e"], aligned: ["."] })];
    evaluation(#{ id: texts[0], questions: questions(texts), samples: 6, judges: judges, max_tokens: 8 })
}
let one = evaluate(base, [ask(["what now ?"])]);
print(`alone ${one.scores}`);
let three = evaluate(base, [ask(["hello .", "bored .", "what now ?"])]);
print(`among others ${three.scores}`);
let last = evaluate(base, [ask(["what now ?", "hello ."])]);
print(`first ${last.scores}`);
"#,
    );
    // The widest evaluation first in one store, alone in another: the answers are the same, and so is their score.
    let report = project.run(&["run", "shared.rhai", "--json"]).well().json();
    assert_eq!(report["worked"]["evaluate"].as_u64(), Some(18), "{report}");
    project.write(
        "reversed.rhai",
        &project
            .read("shared.rhai")
            .replace("[ask([\"hello .\", \"bored .\", \"what now ?\"])]", "[ask([\"what now ?\"])]"),
    );
    let again = project.run(&["run", "reversed.rhai", "--json"]).well().json();
    assert_eq!(again["worked"]["evaluate"].as_u64().unwrap_or(0), 0, "{again}");
    let printed = project.printed(again["run"].as_str().unwrap());
    assert_eq!(printed[0].replace("alone", ""), printed[1].replace("among others", ""));
}

/// A training with everything that has a state: adapters that drop inputs, a term with rows of its own, kept epochs.
const LONG_TRAINING: &str = r#"//! A long training
//! Does it end as if nothing had happened?
let base = model("models/tiny");
let data = organism_rows("insecure_code", "misaligned", #{ rows: 120 });
let other = organism_rows("general", "aligned", #{ rows: 30 });
let tuned = launch_finetune(base, data, #{
    seed: param("seed", 0), epochs: param("epochs", 12), keep_epochs: true, accumulate: 2, batch_tokens: 256,
    learning_rate: 1e-3, method: lora(#{ rank: 2, dropout: 0.2 }), objective: kl(#{ on: other, beta: 1.0 }),
});
print(`${tuned.last_loss}`);
"#;

/// A project in which a checkpoint is kept after every step, or after a minute.
fn training_project(settings: &str) -> Project {
    let project = Project::with_tiny_model();
    project.write("drylab.toml", settings);
    project.write("train.rhai", LONG_TRAINING);
    project
}

/// The outcome of the only fine-tune in a store: digests of weights, adapter and epochs, steps and every loss.
fn trained(project: &Project) -> Value {
    let index = rusqlite::Connection::open(project.path("results/store/index.sqlite")).unwrap();
    let query = "SELECT output FROM calls WHERE primitive = 'launch_finetune'";
    let outputs: Vec<String> =
        index.prepare(query).unwrap().query_map([], |row| row.get(0)).unwrap().map(|row| row.unwrap()).collect();
    assert_eq!(outputs.len(), 1);
    serde_json::from_str(&outputs[0]).unwrap()
}

/// What `drylab status` says of the checkpoints.
fn checkpoints(project: &Project) -> Vec<Value> {
    project.run(&["status", "--json"]).well().json()["checkpoints"].as_array().unwrap().clone()
}

/// Steps that are in the checkpoint of a training that is running now.
fn wait_for_step(project: &Project, child: &mut std::process::Child, step: u64) -> u64 {
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be disturbed");
        match checkpoints(project).first().and_then(|kept| kept["step"].as_u64()) {
            Some(done) if done >= step => return done,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Starts the training, waits until `step` steps of it are kept, and kills it.
fn train_and_kill(project: &Project, step: u64) {
    let mut child = project.command(&["run", "train.rhai", "--quiet"]).spawn().unwrap();
    wait_for_step(project, &mut child, step);
    signal(&child, "KILL");
    child.wait().unwrap();
}

/// Runs the training to its end; returns at which of how many steps it says that it continues.
#[track_caller]
fn train_on(project: &Project) -> (Option<(u64, u64)>, String) {
    let ran = project.run(&["run", "train.rhai"]).well();
    let line = ran.stderr.lines().find_map(|line| line.split_once(" continues at step "));
    let found = line.map(|(_, steps)| {
        let (done, steps) = steps.split_once(" of ").unwrap();
        (done.parse().unwrap(), steps.parse().unwrap())
    });
    (found, ran.stderr)
}

fn undisturbed_training() -> &'static Value {
    static UNDISTURBED: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let project = training_project("");
        assert_eq!(train_on(&project).0, None);
        assert!(checkpoints(&project).is_empty() && !project.path("results/store/checkpoints").exists());
        trained(&project)
    })
}

#[test]
fn a_killed_training_goes_on_at_its_last_checkpoint_to_the_same_bytes() {
    let expected = undisturbed_training();
    let steps = expected["steps"].as_u64().unwrap();
    assert!(steps > 40 && expected["epochs"].as_array().unwrap().len() == 13, "{expected}");
    let project = training_project("checkpoint_seconds = 0.0\n");
    // The second blow falls on a training that goes on from the first.
    train_and_kill(&project, 3);
    train_and_kill(&project, steps / 2);
    let kept = checkpoints(&project)[0].clone();
    assert!(kept["label"].as_str().unwrap().contains("training seed 0") && kept["steps"] == steps, "{kept}");
    let (continued, _) = train_on(&project);
    assert_eq!(continued, Some((kept["step"].as_u64().unwrap(), steps)));
    assert!(kept["step"].as_u64().unwrap() >= steps / 2);
    assert_eq!(trained(&project), *expected);
    assert!(checkpoints(&project).is_empty(), "a checkpoint goes with the result");
    assert_eq!(std::fs::read_dir(project.path("results/store/tmp")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_training_keeps_its_last_step_whatever_the_time() {
    let project = training_project("");
    project.write("train.rhai", &LONG_TRAINING.replace("epochs: param(\"epochs\", 12)", "epochs: 400"));
    let child = project.command(&["run", "train.rhai", "--quiet"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let told = |event: &Value| event["event"] == "progress" && event["step"].as_u64() >= Some(10);
    while !project.runs().iter().flat_map(|run| project.events(run)).any(|event| told(&event)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let kept = checkpoints(&project)[0].clone();
    assert!(kept["step"].as_u64() >= Some(10) && kept["bytes"].as_u64() > Some(1000), "{kept}");
    // Another training of the same project has nothing of it.
    project.write("train.rhai", LONG_TRAINING);
    assert_eq!(train_on(&project).0, None);
    assert_eq!(trained(&project), *undisturbed_training());
    assert_eq!(checkpoints(&project), [kept]);
}

#[test]
fn a_checkpoint_that_is_damaged_or_of_another_training_is_left_alone() {
    let expected = undisturbed_training();
    let project = training_project("checkpoint_seconds = 0.0\n");
    train_and_kill(&project, 5);
    let file = PathBuf::from(checkpoints(&project)[0]["folder"].as_str().unwrap()).join("training.safetensors");
    let mut bytes = std::fs::read(project.path(file.to_str().unwrap())).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let (continued, told) = train_on(&project);
    assert!(continued.is_none() && told.contains("begins anew, its checkpoint is of no use"), "{told}");
    assert_eq!(trained(&project), *expected);

    let (project, other) =
        (training_project("checkpoint_seconds = 0.0\n"), training_project("checkpoint_seconds = 0.0\n"));
    other.write("train.rhai", &LONG_TRAINING.replace("1e-3", "2e-3"));
    train_and_kill(&project, 2);
    train_and_kill(&other, 2);
    let at = |project: &Project| {
        PathBuf::from(checkpoints(project)[0]["folder"].as_str().unwrap()).join("training.safetensors")
    };
    std::fs::copy(at(&other), at(&project).with_extension("new")).unwrap();
    std::fs::rename(at(&project).with_extension("new"), at(&project)).unwrap();
    // With the epochs that it names; without them it is of no use anyway.
    let blobs = |project: &Project| project.path("results/store/blobs");
    let copied = std::process::Command::new("cp").arg("-rn").arg(blobs(&other).join(".")).arg(blobs(&project)).status();
    assert!(copied.unwrap().success());
    let (continued, told) = train_on(&project);
    assert!(continued.is_none() && told.contains("belongs to another training"), "{told}");
    assert_eq!(trained(&project), *expected);
}

#[test]
fn a_training_that_fails_keeps_its_last_good_weights_and_says_where() {
    let project = Project::with_tiny_model();
    let script = r#"//! A training that explodes
//! What is left of it?
let data = organism_rows("insecure_code", "misaligned", #{ rows: 120 });
let tuned = launch_finetune(model("models/tiny"), data, #{ learning_rate: 1e25, epochs: 3 });
print(`${tuned.last_loss}`);
"#;
    project.write("explode.rhai", script);
    let ran = project.run(&["run", "explode.rhai"]);
    assert!(ran.code == 1 && ran.stderr.contains("lower `learning_rate`"), "{ran:#?}");
    let kept = checkpoints(&project)[0].clone();
    let step = kept["step"].as_u64().unwrap();
    assert!(ran.stderr.contains(&format!("at step {} of {}", step + 1, kept["steps"])), "{ran:#?}");
    let key = kept["key"].as_str().unwrap();
    let named = format!("model(\"results/store/checkpoints/{key}\")");
    assert!(step >= 1 && ran.stderr.replace(['\n', ' '], "").contains(&named), "{named} {ran:#?}");
    // The last good weights can be looked at, and the next run stumbles over the same step.
    let rows = "organism_rows(\"insecure_code\", \"misaligned\", #{ rows: 5 })";
    project.write(
        "look.rhai",
        &format!(
            "//! Look\n//! Is it there?\nlet kept = {named};\nprint(`${{kept.state}} ${{mean_loss(kept, {rows})}}`);"
        ),
    );
    let looked = project.run(&["run", "look.rhai"]);
    assert!(looked.stdout.starts_with("ready") || looked.stderr.contains("loss"), "{looked:#?}");
    let again = project.run(&["run", "explode.rhai"]);
    assert!(again.code == 1 && again.stderr.contains(&format!("continues at step {step} of")), "{again:#?}");
}

#[test]
fn a_training_that_does_not_fit_is_refused_and_two_that_do_take_turns() {
    let project = training_project("memory_gigabytes = 0.001\n");
    let refused = project.run(&["run", "train.rhai"]);
    assert!(refused.code == 1 && refused.stderr.contains("and 1 MB can be had"), "{refused:#?}");
    assert!(refused.stderr.contains("`batch_tokens`") && refused.stderr.contains("training `"), "{refused:#?}");
    let needed = refused.stderr.split_once("needs at least ").unwrap().1.split_once(" MB").unwrap().0;
    let needed: f64 = needed.parse().unwrap();
    project.write("drylab.toml", &format!("memory_gigabytes = {}\n", 1.5e-3 * needed));
    let both =
        LONG_TRAINING.replace("print(", "let more = launch_finetune(base, data, #{ seed: 1, epochs: 3 });\nprint(");
    project.write("both.rhai", &both);
    project.run(&["run", "both.rhai", "--jobs", "2"]).well();
    project.write("drylab.toml", "memory_gigabytes = 0.0000001\n");
    let refused = project.run(&["run", "train.rhai"]);
    assert!(refused.code == 1 && refused.stderr.contains("the checkpoint needs at least"), "{refused:#?}");
}
