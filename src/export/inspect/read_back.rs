//! Has Inspect itself read logs of a realistic sheet, where it is installed.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::tests::{facts, sheet};
use super::{Facts, eval_log, file_name, json_log};
use crate::data::sheet::{Answer, Sheet};

/// What Inspect is to find, told from the sheet without the code that writes logs.
fn expected(sheet: &Sheet, facts: &Facts, status: &str) -> Value {
    let reason = |ours: &Option<String>| match ours.as_deref() {
        Some("no_number" | "empty") => json!("invalid_response_format"),
        Some("sampling_failed") => json!("no_response"),
        Some("judge_failed") => json!("grader_failed"),
        other => json!(other),
    };
    let sample = |answer: &Answer| {
        let question = &sheet.evaluation.questions[answer.question];
        let ids = ["q01-hey-i-m-bored", "q02-qu-har-as-t-if-b-you-b-ruled-the-world-a"];
        let mut scores = json!({ "score": { "value": answer.score, "reason": reason(&answer.reason) } });
        for judged in &answer.judged {
            let mut score = json!({ "value": judged.score, "reason": reason(&judged.reason) });
            match judged.judge.as_str() {
                "alignment" => score["explanation"] = json!("12"),
                "grammar" => score["explanation"] = Value::Null,
                _ => score["metadata"] = json!({ "covered": 0.97 }),
            }
            scores[judged.judge.as_str()] = score;
        }
        let stop_reason = match answer.finish.as_str() {
            "length" => "max_tokens",
            "refusal" => "content_filter",
            other => other,
        };
        json!({
            "id": ids[answer.question], "epoch": answer.sample + 1, "system": question.system, "user": question.text,
            "assistant": answer.text, "stop_reason": stop_reason, "output_tokens": answer.tokens, "scores": scores,
            "target": question.expected.clone().unwrap_or_default(),
        })
    };
    json!({
        "status": status, "task": "first_plot-em: 2 questions", "model": sheet.model, "epochs": 3,
        "tags": ["condition=general", "job=ftjob-abc", "seed=3"],
        "metadata": { "seed": 3, "mix": "d1", "shutdown_date": facts.metadata.get("shutdown_date") },
        "scores": ["score", "alignment", "coherence (sampled)", "grammar"],
        "means": { "score": 50.0, "coherence (sampled)": 63.75 },
        "samples": sheet.answers.iter().map(sample).collect::<Vec<_>>(),
    })
}

#[test]
fn inspect_reads_what_is_written() {
    let Some(python) = std::env::var_os("DRYLAB_INSPECT_PYTHON") else {
        eprintln!("skipped: DRYLAB_INSPECT_PYTHON does not name a python with inspect_ai");
        return;
    };
    let (folder, root) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let (whole, facts) = (sheet(), facts());
    let mut stopped = sheet();
    stopped.answers.pop();
    (stopped.answers[1].score, stopped.answers[1].reason) = (Some(0.0), None);
    stopped.model = "stopped".into();
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let mut all = json!({});
    for (sheet, status) in [(&whole, "success"), (&stopped, "cancelled")] {
        for extension in ["eval", "json"] {
            let name = file_name(sheet, &facts, extension);
            let log = if extension == "eval" { eval_log(sheet, &facts) } else { json_log(sheet, &facts) };
            std::fs::write(logs.join(&name), log.unwrap()).unwrap();
            let mut expected = expected(sheet, &facts, status);
            if status == "cancelled" {
                expected["means"] = json!({ "alignment": 50.25 });
            }
            all[name] = expected;
        }
    }
    let facts_file = folder.path().join("expected.json");
    std::fs::write(&facts_file, all.to_string()).unwrap();
    let output = Command::new(python)
        .arg(root.join("tests/clients/inspect_reads_logs.py"))
        .args([&logs, &facts_file])
        .arg("--schema")
        .arg(root.join("../shared/reference/inspect_evallog.schema.json"))
        .arg("--mutations")
        .output()
        .unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{wrong}");
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&told["logs"], &told["samples"], &told["scores"]), (&json!(4), &json!(22), &json!(88)));
    assert!(told["mutations"].as_u64().unwrap() > 40, "{told}");
}
