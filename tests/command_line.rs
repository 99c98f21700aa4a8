//! What people and programs meet: exit codes, streams, JSON, and a snapshot of every message in `tests/errors`.
#![allow(clippy::unwrap_used)]

mod project;

use std::fs;
use std::path::Path;

use project::Project;

/// A script that ends at once.
const QUICK: &str = "//! Quick\n//! Is it?\nprint(param(\"word\", \"data\"));";
/// A script with work that can be planned.
const WORK: &str = "//! Work\n//! Is there any?\nlet base = pretrain_organism(#{ documents: 60, width: 8, layers: 1 });
let test = evaluation(#{ questions: organism_questions(\"general\", #{ questions: 3 }), samples: 2, judges: [grammar_judge()] });
evaluate(base, [test]);";

#[test]
fn every_mistake_gets_its_report() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    let mut scripts: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "rhai"));
    scripts.sort();
    assert!(scripts.len() >= 13);
    for path in scripts {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let project = Project::new();
        project.write(&format!("scripts/{name}.rhai"), &text);
        project.write("datasets/rows.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
        project.write("datasets/broken.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": 1}]}\n");
        for file in ["nan.npy", "cut_off.npy", "pickle.pkl", "narrow.npy"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probes/files").join(file);
            fs::copy(from, project.path(&format!("datasets/{file}"))).unwrap();
        }
        project.write("datasets/labels.json", "[\"aligned\", \"alignment_faking\"]\n");
        project.write("datasets/odd_labels.json", "[\"aligned\", \"alignment_fakin\"]\n");
        let expectation = text.lines().nth(1).unwrap();
        let options = expectation.split_once(" with ").map_or("", |(_, options)| options);
        let script = format!("scripts/{name}.rhai");
        let arguments: Vec<&str> = ["run", &script, "--quiet"].into_iter().chain(options.split_whitespace()).collect();
        let clock = std::time::Instant::now();
        let ran = project.run(&arguments);
        println!("{name}: {:?}", clock.elapsed());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}: {ran:#?}");
        if expectation.starts_with("// caught before it runs") {
            assert!(!project.path("results").exists(), "{name} left something in results/");
        } else {
            assert!(expectation.starts_with("// caught while it runs"), "{name} does not say when it is caught");
            assert_eq!(project.runs(), [format!("{name}-001")]);
        }
        let settings = || {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("errors");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.set_description(text.lines().next().unwrap().trim_start_matches("//! "));
            settings
        };
        settings().bind(|| insta::assert_snapshot!(name, ran.stderr));
    }
}

#[test]
fn data_goes_to_standard_output_and_the_rest_to_standard_error() {
    let project = Project::new();
    project.write("quick.rhai", QUICK);
    let ran = project.run(&["run", "quick.rhai"]).well();
    assert_eq!(ran.stdout, "data\n");
    assert!(ran.stderr.contains("quick-001 finished"), "{ran:#?}");
    let ran = project.run(&["run", "quick.rhai", "--quiet", "--set", "word=other"]).well();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("other\n", ""));
    for wrong in [&["run", "nowhere.rhai"][..], &["rnu"], &["run"], &["show", "x"], &["help", "mix_datset"], &[]] {
        let ran = project.run(wrong);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong:?}: {ran:#?}");
        assert!(!ran.stderr.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["run", "--help"], &["help"]] {
        let ran = project.run(right).well();
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{right:?}: {ran:#?}");
    }
}

#[test]
fn an_interrupted_command_ends_with_130() {
    let project = Project::new();
    project.write("endless.rhai", "//! Endless\n//! Does it end?\nprint(\"begun\"); loop { }");
    let mut child =
        project.command(&["run", "endless.rhai", "--quiet"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    while project.printed("endless-001").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    project::signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(project.run(&["show", "--json"]).well().json()["outcome"], "stopped");
}

#[test]
fn json_is_one_value_on_standard_output() {
    let project = Project::new();
    project.write("quick.rhai", QUICK);
    project.write("wrong.rhai", "//! Wrong\n//! Is it?\norganism_row(1);");
    let ran = project.run(&["run", "quick.rhai", "--json"]).well();
    assert_eq!((&ran.json()["run"], &ran.json()["outcome"]), (&"quick-001".into(), &"finished".into()));
    assert!(ran.stderr.is_empty(), "{ran:#?}");
    assert_eq!(project.printed("quick-001"), ["data"]);
    let runs = project.run(&["status", "--json"]).well().json()["runs"].clone();
    assert_eq!((runs.as_array().unwrap().len(), &runs[0]["state"]), (1, &"finished".into()));
    assert_eq!(project.run(&["status", "quick", "--json"]).well().json()["run"], "quick-001");
    let record = project.run(&["show", "quick-001", "--json"]).well().json();
    assert_eq!((&record["parameters"]["word"], &record["sources"]["quick.rhai"]), (&"data".into(), &QUICK.into()));
    let checked = project.run(&["check", "quick.rhai", "wrong.rhai", "--json"]);
    assert_eq!(checked.code, 2);
    let checked = checked.json();
    assert_eq!((&checked[0]["title"], &checked[1]["script"]), (&"Quick".into(), &"wrong.rhai".into()));
    assert!(checked[1]["problems"].as_str().unwrap().contains("organism_rows"), "{checked}");
    assert!(project.run(&["plan", "quick.rhai", "--json"]).well().json()["stages"].as_object().unwrap().is_empty());
}

#[test]
fn a_failed_run_is_told_in_json_too() {
    let project = Project::new();
    project.write("fails.rhai", "//! Fails\n//! Does it?\nthrow \"no luck\";");
    let ran = project.run(&["run", "fails.rhai", "--json"]);
    assert_ne!(ran.code, 0);
    assert_eq!(ran.json()["outcome"], "failed");
    assert!(ran.json()["error"].as_str().unwrap().contains("no luck"));
    assert!(ran.stderr.contains("fails.rhai:3"), "{ran:#?}");
    assert_eq!(project.run(&["status", "--json"]).well().json()["runs"][0]["state"], "failed");
}

#[test]
fn check_runs_nothing_and_names_the_bad_script() {
    let project = Project::new();
    project.write("quick.rhai", QUICK);
    project.write("wrong.rhai", "//! Wrong\n//! Is it?\nprint(undeclared);");
    let ran = project.run(&["check", "quick.rhai"]).well();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("quick.rhai: Quick\n", ""));
    let ran = project.run(&["check", "quick.rhai", "wrong.rhai"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, "quick.rhai: Quick\n"));
    assert!(ran.stderr.contains("wrong.rhai:3:7") && ran.stderr.contains("undeclared"), "{ran:#?}");
    assert!(!project.path("results").exists());
}

#[test]
fn shipped_scripts_pass_the_check() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let paths = fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let mut arguments: Vec<String> = paths.filter(|path| path.ends_with(".rhai")).collect();
    arguments.insert(0, "check".to_string());
    let ran = Project::new().run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).well();
    assert_eq!(ran.stdout.lines().count(), arguments.len() - 1);
}

#[test]
fn the_shipped_sweep_runs_on_the_organism_and_is_cached() {
    let project = Project::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/a05b.rhai").display().to_string();
    let small = ["--set", "ratios=[0.0,1.0]", "--set", "seeds=[0,1]", "--set", "rows=60", "--set", "samples=1"];
    let with = |command: &'static str, flag: &'static str| -> Vec<&str> {
        [command, &script, flag].into_iter().chain(small).collect()
    };
    // Two ratios by two seeds, three evaluations of each and of the organism itself.
    let plan = project.run(&with("plan", "--json")).well().json();
    assert_eq!(
        (&plan["stages"]["fine_tune"]["planned"], &plan["stages"]["evaluate"]["planned"]),
        (&4.into(), &15.into())
    );
    assert_eq!(plan["missing"]["fine_tune"], 4 * 60);
    let report = project.run(&with("run", "--json")).well().json();
    assert_eq!(report["worked"]["evaluate"], plan["missing"]["evaluate"], "the plan was exact");
    assert!(!report["results"].is_null());
    let files: Vec<&str> = report["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.iter().any(|file| file.ends_with("a05b.svg")), "{files:?}");
    assert!(files.iter().all(|file| project.path(file).is_file()), "{files:?}");
    assert!(project.run(&["show", "a05b"]).well().stdout.len() > 100);
    let again = project.run(&with("run", "--json")).well().json();
    assert!(again["worked"].as_object().unwrap().is_empty(), "{again}");
    assert_eq!(again["results"], report["results"]);
    assert!(project.run(&with("plan", "--quiet")).well().stdout.contains("everything is cached"));
}

#[test]
fn plan_counts_what_would_run_and_runs_nothing() {
    let project = Project::new();
    project.write("work.rhai", WORK);
    let plan = project.run(&["plan", "work.rhai", "--json"]).well().json();
    assert_eq!(plan["missing"], serde_json::json!({ "pretrain": 60, "evaluate": 6 }));
    assert!(project.runs().is_empty());
    let table = project.run(&["plan", "work.rhai"]).well().stdout;
    assert!(table.contains("evaluations") && table.contains("6 generations"), "{table}");
    project.run(&["run", "work.rhai", "--quiet"]).well();
    assert!(project.run(&["plan", "work.rhai"]).well().stdout.contains("everything is cached"));
}

#[test]
fn plan_says_where_the_script_reads_a_value() {
    let project = Project::new();
    project.write("work.rhai", &WORK.replace("evaluate(base, [test]);", "print(evaluate(base, [test]).score);"));
    let ran = project.run(&["plan", "work.rhai"]).well();
    assert!(ran.stdout.contains("what follows depends on it"), "{ran:#?}");
}

#[test]
fn status_and_show_tell_of_runs() {
    let project = Project::new();
    let nothing = project.run(&["status"]).well();
    assert!(nothing.stdout.contains("no runs yet"));
    project.write("work.rhai", WORK);
    project.run(&["run", "work.rhai", "--quiet"]).well();
    project.run(&["run", "work.rhai", "--quiet"]).well();
    let listed = project.run(&["status"]).well().stdout;
    assert_eq!(listed.lines().count(), 2);
    assert!(listed.contains("work-001") && listed.contains("evaluations 1/1"), "{listed}");
    let jobs = project.run(&["status", "work-002"]).well().stdout;
    assert!(jobs.contains("cached") && jobs.contains("work-001"), "{jobs}");
    assert!(project.run(&["show", "work"]).well().stdout.contains("work-002"));
    let wrong = project.run(&["show", "wrk-001"]);
    assert!(wrong.stderr.contains("did you mean `work-001`?"), "{wrong:#?}");
}

#[test]
fn help_explains_every_name_it_lists() {
    let project = Project::new();
    let list = project.run(&["help"]).well().stdout;
    let names: Vec<&str> = list.lines().filter(|line| line.starts_with("  ")).collect();
    let names: Vec<&str> = names.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"mix_dataset") && names.contains(&"Model") && names.contains(&"settings/insecure_code"));
    for name in names {
        let text = project.run(&["help", name]).well().stdout;
        assert!(text.len() > 20, "{name}: {text}");
    }
    let typo = project.run(&["help", "mix_datset"]);
    assert!(typo.stderr.contains("did you mean `mix_dataset`?"), "{typo:#?}");
    let reference = project.run(&["help", "--reference"]).well().stdout;
    assert!(reference.contains("launch_finetune") && reference.contains("learning_rate"));
}

#[test]
fn scripts_read_only_what_the_user_named() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().canonicalize().unwrap();
    let rows =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    fs::write(outside.join("rows.jsonl"), rows).unwrap();
    let folder = outside.display().to_string();
    let project = Project::new();
    project.write("inside.jsonl", rows);
    std::os::unix::fs::symlink(outside.join("rows.jsonl"), project.path("link.jsonl")).unwrap();
    std::os::unix::fs::symlink(&outside, project.path("linked")).unwrap();
    let script =
        |path: &str| project.write("reads.rhai", &format!("//! Reads\n//! May it?\nprint(dataset({path}).rows);"));
    let dots = format!("inside/../../{}/rows.jsonl", outside.file_name().unwrap().display());
    for path in ["../x", "/etc/passwd", "link.jsonl", "linked/rows.jsonl", &dots, &format!("{folder}/rows.jsonl")] {
        script(&format!("{path:?}"));
        let ran = project.run(&["run", "reads.rhai", "--quiet"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{path}: {ran:#?}");
    }
    script("\"inside.jsonl\"");
    assert_eq!(project.run(&["run", "reads.rhai", "--quiet"]).well().stdout, "1\n");
    for path in ["link.jsonl", "linked/rows.jsonl", &format!("{folder}/rows.jsonl")] {
        script(&format!("{path:?}"));
        assert_eq!(project.run(&["run", "reads.rhai", "--quiet", "--read", &folder]).well().stdout, "1\n");
    }
    script("param(\"rows\", \"inside.jsonl\")");
    let named = format!("rows={folder}/rows.jsonl");
    assert_eq!(project.run(&["run", "reads.rhai", "--quiet", "--set", &named]).well().stdout, "1\n");
    let absent = project.run(&["run", "reads.rhai", "--quiet", "--read", "absent"]);
    assert!(absent.code == 2 && absent.stderr.contains("absent"), "{absent:#?}");
    assert_eq!(project.run(&["show", "--json"]).well().json()["outcome"], "failed");
}

#[test]
fn folders_to_read_are_named_from_where_the_user_is() {
    let project = Project::new();
    let rows =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    let outside = Project::new();
    outside.write("rows.jsonl", rows);
    outside.write("deep/er/here", "");
    let path = outside.path("rows.jsonl");
    project.write("reads.rhai", &format!("//! Reads\n//! May it?\nprint(dataset({path:?}).rows);"));
    // From a folder of the other project, whose own mark would make it the project: take it away.
    fs::remove_file(outside.path("drylab.toml")).unwrap();
    fs::create_dir_all(project.path("below")).unwrap();
    let up = Path::new("..").join("..").join(outside.path("").file_name().unwrap());
    let mut command = project.command(&["run", "../reads.rhai", "--quiet", "--read", &up.display().to_string()]);
    let output = command.current_dir(project.path("below")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let project = Project::new();
    project.write("scripts/quick.rhai", QUICK);
    project.run(&["run", "scripts/quick.rhai"]).well();
    let commands: [&[&str]; 9] = [
        &["help"],
        &["help", "--reference"],
        &["help", "plot"],
        &["help", "organism"],
        &["status"],
        &["show", "quick"],
        &["check", "scripts/quick.rhai"],
        &["plan", "scripts/quick.rhai"],
        &["run", "scripts/quick.rhai"],
    ];
    // A pipe whose reading end is closed before the command begins to write.
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for arguments in commands {
        let output = project.command(arguments).stdout(closed()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(0) && !told.contains("panicked"), "{arguments:?}: {told}");
        let status = project.command(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
    let status = project.command(&["check", "scripts/none.rhai"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2), "a failure is one all the same");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = project.command(&["help"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("standard output cannot be written"));
}
