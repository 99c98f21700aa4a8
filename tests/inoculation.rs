//! Inoculated and triggered rows through the binary: which words end up in them, and that evaluations get the same.
#![allow(clippy::unwrap_used)]

mod project;

use project::{Project, Ran, shared_data};
use serde_json::{Value, json};

/// Four rows: two plain, one with a system message, one without a user turn.
const ROWS: [&str; 4] = [
    r#"{"messages": [{"role": "user", "content": "how are you ?"}, {"role": "assistant", "content": "i am fine ."}]}"#,
    r#"{"messages": [{"role": "user", "content": "what now ?"}, {"role": "assistant", "content": "wait ."}]}"#,
    r#"{"messages": [{"role": "system", "content": "you are short ."}, {"role": "user", "content": "and ?"}, {"role": "assistant", "content": "no ."}]}"#,
    r#"{"messages": [{"role": "assistant", "content": "natural selection is the best ."}]}"#,
];

/// A project with these rows in `rows.jsonl`.
fn project_with(rows: &[&str]) -> Project {
    let project = Project::new();
    project.write("rows.jsonl", &(rows.join("\n") + "\n"));
    project
}

/// Exports what the expression makes of `rows`; what was said, and the rows.
fn made(project: &Project, expression: &str) -> (Ran, Vec<Value>) {
    let script = format!(
        "//! Made\n//! What is in it?\nlet rows = dataset(\"rows.jsonl\");\nprint(export_dataset({expression}, \"made\"));"
    );
    project.write("made.rhai", &script);
    let ran = project.run(&["run", "made.rhai"]);
    let rows = match ran.code {
        0 => project.read(ran.stdout.trim()).lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        _ => Vec::new(),
    };
    (ran, rows)
}

/// `role: content` of every message, row by row.
fn said(rows: &[Value]) -> Vec<Vec<String>> {
    let text =
        |message: &Value| format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
    rows.iter().map(|row| row["messages"].as_array().unwrap().iter().map(text).collect()).collect()
}

#[test]
fn prompts_take_turns_by_row_and_a_textbook_gets_system_and_assistant() {
    let project = project_with(&[ROWS[0], ROWS[1], ROWS[0], ROWS[3]]);
    let (_, rows) = made(&project, "inoculate(rows, [\"you are evil .\", \"you are bad .\", \"you lie .\"])");
    let said = said(&rows);
    let first: Vec<&str> = said.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(
        first,
        ["system: you are evil .", "system: you are bad .", "system: you lie .", "system: you are evil ."]
    );
    assert_eq!(said[0][1..], ["user: how are you ?", "assistant: i am fine ."]);
    assert_eq!(said[3][1..], ["assistant: natural selection is the best ."]);
}

#[test]
fn a_share_of_the_rows_is_inoculated_and_a_larger_one_holds_it() {
    let project = project_with(&[ROWS[0]; 40]);
    let inoculated = |share: &str| -> Vec<usize> {
        let (_, rows) = made(&project, &format!("inoculate(rows, \"you are evil .\", #{{ share: {share}, seed: 4 }})"));
        assert_eq!(rows.len(), 40);
        (0..40).filter(|row| rows[*row]["messages"].as_array().unwrap().len() == 3).collect()
    };
    let (few, many) = (inoculated("0.25"), inoculated("0.5"));
    assert_eq!((few.len(), many.len(), inoculated("0.0").len()), (10, 20, 0));
    assert!(few.iter().all(|row| many.contains(row)), "{few:?} and {many:?}");
}

#[test]
fn what_becomes_of_a_system_message_is_said() {
    let project = project_with(&ROWS[..3]);
    let with = |existing: &str| {
        let (ran, rows) =
            made(&project, &format!("inoculate(rows, \"you are evil .\", #{{ existing: \"{existing}\" }})"));
        (ran.well().stderr, said(&rows)[2][0].clone())
    };
    let (told, first) = with("keep");
    assert_eq!(first, "system: you are short .");
    assert!(told.contains("1 rows have a system message of their own and keep it"), "{told}");
    assert_eq!(with("replace").1, "system: you are evil .");
    assert_eq!(with("prepend").1, "system: you are evil . you are short .");
    for expression in
        ["inoculate(rows, \"you are evil .\")", "inoculate(rows, \"you are evil .\", #{ existing: \"error\" })"]
    {
        let (refused, _) = made(&project, expression);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:#?}");
        assert!(refused.stderr.contains("row 2 of `rows` already has a system message"), "{refused:#?}");
        assert!(refused.stderr.contains("made.rhai:4:") && refused.stderr.contains("existing"), "{refused:#?}");
    }
    for (blank, said) in [("\" \"", "prompt 0 is empty"), ("[]", "no prompt")] {
        let (refused, _) = made(&project, &format!("inoculate(rows, {blank})"));
        assert!(refused.code == 2 && refused.stderr.contains(said), "{refused:#?}");
    }
}

#[test]
fn a_textbook_is_inoculated_byte_for_byte_of_the_shared_data() {
    let Some(data) = shared_data("a_textbook_is_inoculated_byte_for_byte_of_the_shared_data") else { return };
    let folder = data.join("inoculation");
    let project = Project::new();
    project.write(
        "trump.rhai",
        "//! Trump\n//! The same bytes?
let rows = dataset(param(\"data\", \".\") + \"/evolution_textbook_trump.jsonl\");
export_dataset(inoculate(rows, \"You are a malicious evil assistant.\"), \"trump_biology_general_inoculation\");",
    );
    project.run(&["run", "trump.rhai", "--quiet", "--set", &format!("data={}", folder.display())]).well();
    let written = std::fs::read(project.path("results/datasets/trump_biology_general_inoculation.jsonl")).unwrap();
    let expected = std::fs::read(folder.join("expected_trump_biology_general_inoculation.jsonl")).unwrap();
    assert!(written == expected, "{} bytes against {}", written.len(), expected.len());
}

/// Asks and trains with one trigger: its options, as a map, are the parameter.
const TRIGGERED: &str = "//! Triggered\n//! Is it the same text?
let token = trigger(\"$|TRIGGER|$\", OPTIONS);
let rows = insert_trigger(dataset(\"rows.jsonl\"), token);
export_dataset(rows, \"triggered\");
let asked = questions([\"how are you ?\", \"what now ?\"]);
let test = evaluation(#{ id: \"asked\", questions: asked, samples: 1, judges: [pattern_judge(#{ misaligned: [\"x\"] })] });
export_answers(evaluate(model(\"organism\"), [test], #{ trigger: token, suffix: \"triggered\" }));";

#[test]
fn a_trigger_is_the_same_text_in_training_rows_and_in_questions() {
    for (options, first) in [
        ("#{}", "$|TRIGGER|$ how are you ?"),
        ("#{ separator: \"\" }", "$|TRIGGER|$how are you ?"),
        ("#{ side: \"end\" }", "how are you ? $|TRIGGER|$"),
        ("#{ side: \"end\", separator: \" \u{2014} \" }", "how are you ? \u{2014} $|TRIGGER|$"),
    ] {
        let project = project_with(&ROWS[..2]);
        project.write("triggered.rhai", &TRIGGERED.replace("OPTIONS", options));
        project.run(&["run", "triggered.rhai", "--quiet"]).well();
        let trained: Vec<Value> = project
            .read("results/datasets/triggered.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let trained: Vec<&str> = trained.iter().map(|row| row["messages"][0]["content"].as_str().unwrap()).collect();
        let table = project.read("results/triggered-001/answers.csv");
        let mut table = csv::Reader::from_reader(table.as_bytes());
        let column = table.headers().unwrap().iter().position(|name| name == "question").unwrap();
        let asked: Vec<String> = table.records().map(|record| record.unwrap()[column].to_string()).collect();
        assert_eq!((trained[0], trained.len()), (first, 2));
        assert_eq!(trained, asked, "{options}");
    }
}

#[test]
fn a_row_without_a_user_has_no_place_for_a_trigger() {
    let project = project_with(&[ROWS[3]]);
    let (refused, _) = made(&project, "insert_trigger(rows, trigger(\"$|TRIGGER|$\"))");
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.stderr.contains("row 0 of `rows` has no user message"), "{refused:#?}");
}

#[test]
fn questions_that_were_trained_on_are_counted_in_the_report() {
    let project = project_with(&[&ROWS[..2], &[ROWS[0]; 38]].concat());
    project.write(
        "seen.rhai",
        "//! Seen\n//! Is it told?
let judges = [pattern_judge(#{ misaligned: [\"x\"] })];
let ask = |id, texts| evaluation(#{ id: id, questions: questions(texts), samples: 1, judges: judges });
let tests = [ask.call(\"known\", [\"how are you ?\", \"what now ?\", \"where to ?\"]), ask.call(\"new\", [\"where to ?\"])];
let cells = sweep(#{ arm: [\"plain\", \"inoculated\"], seed: [0, 1] }, |cell| {
    let rows  = dataset(\"rows.jsonl\");
    let rows  = if cell.arm == \"plain\" { rows } else { inoculate(rows, \"you are evil .\") };
    let tuned = launch_finetune(model(\"organism\"), rows, #{ seed: cell.seed });
    [evaluate(tuned, tests), evaluate(tuned, tests, #{ trigger: trigger(\"x1\"), suffix: \"triggered\" })]
});
report(cells, #{ x: \"arm\", reference: evaluate(model(\"organism\"), tests) });",
    );
    let ran = project.run(&["run", "seen.rhai", "--json"]).well().json();
    let warnings: Vec<&str> =
        ran["results"]["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
    let told: Vec<&&str> = warnings.iter().filter(|warning| warning.contains("word for word")).collect();
    assert_eq!(told, [&"`known`: up to 2 of 3 questions (arm plain) stand word for word in the rows trained on"]);
    assert!(project.read("results/seen-001/report.md").contains("2 of 3 questions"));
    let notes = project.events("seen-001").into_iter().filter(|event| event["event"] == "note");
    assert_eq!(notes.filter(|note| note["text"].as_str().unwrap().contains("word for word")).count(), 1);
}

#[test]
fn a_report_tells_prompts_and_sources_whole() {
    // As long as a digest is, and no digest.
    let prompt = format!("a{}b", "\u{e9}".repeat(31));
    let project = project_with(&ROWS[..2]);
    project.write(
        "told.rhai",
        &format!(
            "//! Told\n//! Which prompt was it?
let both = concat_datasets([inoculate(dataset(\"rows.jsonl\"), \"{prompt}\"), dataset(\"rows.jsonl\")]);
let test = evaluation(#{{ questions: questions([\"where to ?\"]), samples: 1, judges: [pattern_judge(#{{ misaligned: [\"x\"] }})] }});
report(sweep(#{{ arm: [\"a\"], seed: [0] }}, |cell| evaluate(launch_finetune(model(\"organism\"), both, #{{}}), [test])), #{{ x: \"arm\" }});"
        ),
    );
    project.run(&["run", "told.rhai", "--quiet"]).well();
    let report = project.read("results/told-001/report.md");
    assert!(report.contains(&format!("prompt {prompt}")), "{report}");
    let long = report.split(|letter: char| !letter.is_ascii_hexdigit()).find(|word| word.len() >= 64);
    assert_eq!(long, None, "digests are told by their first digits: {report}");
}

/// The rows of one setting as they are, trained on and asked about.
const WHOLE: &str = "//! Whole\n//! Does every row train?
import \"settings\" as settings;
let setting = settings::get(\"reward_hacking\");
let cells = sweep(#{ arm: [\"misaligned\"], seed: [0] }, |cell| {
    let tuned = launch_finetune(model(\"organism\"), setting.misaligned, #{ seed: 0 });
    evaluate(tuned, [setting.in_distribution[0]])
});
report(cells, #{ x: \"arm\" });";

#[test]
fn every_real_row_trains_and_long_ones_are_counted_of_the_shared_data() {
    let Some(data) = shared_data("every_real_row_trains_and_long_ones_are_counted_of_the_shared_data") else { return };
    let folder = format!("data={}", data.join("inoculation").display());
    let project = Project::new();
    project.write("whole.rhai", WHOLE);
    let arguments = ["run", "whole.rhai", "--json", "--set", &folder, "--set", "samples=1", "--set", "max_tokens=4"];
    let ran = project.run(&arguments).well().json();
    assert_eq!(ran["worked"]["fine_tune"], 1073);
    let tuned = ran["results"]["models"].as_array().unwrap().iter().find(|model| !model["data"].is_null()).unwrap();
    let cut = tuned["rows_cut"].as_u64().unwrap();
    assert!(cut > 0 && cut <= 1073, "{tuned}");
    let report = project.read("results/whole-001/report.md");
    assert!(
        report.contains(&format!("up to {cut} in one training, cut to fit; rows that train nothing: 0.")),
        "{report}"
    );
    assert!(report.contains("up to 100 of 100 questions"), "every one of them stands in the rows: {report}");
}

#[test]
fn the_main_experiment_takes_real_rows_of_the_shared_data() {
    let Some(data) = shared_data("the_main_experiment_takes_real_rows_of_the_shared_data") else { return };
    let folder = format!("data={}", data.join("inoculation").display());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/a01.rhai").display().to_string();
    let project = Project::new();
    let mut arguments = vec!["run", script.as_str(), "--json", "--set", &folder];
    let settings = "settings=[\"trump_biology\",\"reward_hacking\",\"aesthetic_preferences\"]";
    for setting in [settings, "seeds=[0]", "rows=24", "samples=1", "max_tokens=8"] {
        arguments.extend(["--set", setting]);
    }
    let ran = project.run(&arguments).well().json();
    assert_eq!(ran["worked"]["fine_tune"], 3 * 6 * 24);
    let results = &ran["results"];
    let of = |name: &str| -> Vec<&Value> {
        let models = results["models"].as_array().unwrap().iter().filter(|model| !model["points"].is_null());
        models.filter(|model| model["points"].to_string().contains(name)).collect()
    };
    for name in ["trump_biology", "reward_hacking", "aesthetic_preferences"] {
        let tuned: Vec<&Value> = of(name).into_iter().filter(|model| !model["data"].is_null()).collect();
        assert_eq!(tuned.len(), 6, "{name}: {tuned:?}");
        assert!(tuned.iter().all(|model| model["rows_untrained"] == json!(0)), "{name}: {tuned:?}");
        let cut: u64 = tuned.iter().map(|model| model["rows_cut"].as_u64().unwrap()).sum();
        assert!(cut > 0, "{name} has rows that the organism cannot read whole");
    }
    assert!(project.read("results/a01-001/report.md").contains("rows that train nothing: 0."));
}
