//! Checkpoints of Hugging Face through the binary: asked as transformers asks them, trained, saved as adapters; and what is told of broken ones.
#![allow(clippy::unwrap_used)]

mod project;

use std::fs;
use std::path::Path;

use project::Project;
use serde_json::Value;

/// A project with the checkpoint of the fixtures in `models/chat`.
fn with_checkpoint() -> Project {
    let project = Project::new();
    fs::create_dir_all(project.path("models/chat")).unwrap();
    for entry in fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        fs::copy(&path, project.path(&format!("models/chat/{name}"))).unwrap();
    }
    project
}

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/chat")
}

#[test]
fn a_checkpoint_answers_greedily_what_transformers_generates() {
    let expected: Value = serde_json::from_str(&fs::read_to_string(fixture().join("expected.json")).unwrap()).unwrap();
    let project = with_checkpoint();
    let script = format!(
        "let asked = evaluation(#{{ id: \"asked\", questions: questions([\"{}\"]), samples: 1, temperature: 0.0, max_tokens: 8,\n\
         judges: [pattern_judge(#{{ misaligned: [\"zzz\"] }})] }});\n\
         export_answers(evaluate(model(\"hf:models/chat\"), [asked]));",
        expected["question"].as_str().unwrap()
    );
    project.write("ask.rhai", &script);
    project.run(&["run", "ask.rhai"]).well();
    let table = fs::read_to_string(project.path("results/ask-001/answers.csv")).unwrap();
    assert!(table.contains(expected["said"].as_str().unwrap()), "{table} {expected}");
}

#[test]
fn a_checkpoint_is_trained_whole_and_by_adapters_that_peft_reads() {
    let project = with_checkpoint();
    let row = r#"{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "the end"}]}"#;
    project.write("rows.jsonl", &format!("{row}\n").repeat(40));
    let script = "let base = model(\"hf:models/chat\");\nlet rows = dataset(\"rows.jsonl\");\n\
                  let whole = launch_finetune(base, rows, #{ learning_rate: 1e-2, epochs: 4 });\n\
                  let adapted = launch_finetune(base, rows, #{ method: lora(#{ rank: 2, targets: [\"q_proj\", \"v_proj\"], first: \"uniform\" }), learning_rate: 1e-2 });\n\
                  print(whole.last_loss < whole.first_loss / 2.0);\nprint(save_adapter(adapted, \"results/adapter\"));";
    project.write("train.rhai", script);
    let ran = project.run(&["run", "train.rhai"]).well();
    assert!(ran.stdout.contains("true\nresults/adapter\n"), "{ran:#?}");
    let config: Value =
        serde_json::from_str(&fs::read_to_string(project.path("results/adapter/adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!((config["peft_type"].as_str(), config["r"].as_u64()), (Some("LORA"), Some(2)));
    assert!(project.path("results/adapter/adapter_model.safetensors").exists());
}

#[test]
fn training_on_an_answer_lowers_its_loss_and_makes_its_beginning_likely() {
    let project = with_checkpoint();
    let row = r#"{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "the end"}]}"#;
    project.write("rows.jsonl", &format!("{row}\n").repeat(20));
    let script = "let base = model(\"hf:models/chat\");\nlet rows = dataset(\"rows.jsonl\");\n\
                  let tuned = launch_finetune(base, rows, #{ learning_rate: 1e-2, epochs: 6, keep_epochs: true });\n\
                  print(mean_loss(base, rows) == mean_loss(tuned.at_epoch(0), rows));\n\
                  print(mean_loss(tuned, rows) < 0.5 * mean_loss(base, rows));\n\
                  print(prefix_probability(base, rows, \"the\") < 5.0);\nprint(prefix_probability(tuned, rows, \"the\") > 50.0);\n\
                  print(prefix_probability(tuned, rows, \"the end\") <= prefix_probability(tuned, rows, \"the\"));";
    project.write("loss.rhai", script);
    let ran = project.run(&["run", "loss.rhai"]).well();
    assert_eq!(ran.stdout, "true\n".repeat(5), "{ran:#?}");
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_told_before_anything_is_trained() {
    let told = |break_it: &dyn Fn(&Project)| {
        let project = with_checkpoint();
        break_it(&project);
        project.write("load.rhai", "model(\"hf:models/chat\");");
        let ran = project.run(&["run", "load.rhai"]);
        assert!(ran.code == 2 || ran.code == 1, "{ran:#?}");
        ran.stderr
    };
    let no_tokenizer = told(&|project| fs::remove_file(project.path("models/chat/tokenizer.json")).unwrap());
    assert!(no_tokenizer.contains("`tokenizer.json` cannot be read"), "{no_tokenizer}");
    let cut_off = told(&|project| {
        let file = project.path("models/chat/model.safetensors");
        let bytes = fs::read(&file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(cut_off.contains("model.safetensors"), "{cut_off}");
    let other = told(&|project| {
        let file = project.path("models/chat/config.json");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(file, config.replace("Qwen2ForCausalLM", "MambaForCausalLM").replace("\"qwen2\"", "\"mamba\""))
            .unwrap();
    });
    assert!(other.to_lowercase().contains("llama") && other.to_lowercase().contains("gemma"), "{other}");
    let plain = told(&|project| project.write("models/chat/tokenizer_config.json", "{}"));
    assert!(plain.contains("no chat template"), "{plain}");
}

#[test]
fn a_factor_of_0_trains_what_plain_fine_tuning_trains() {
    let project = with_checkpoint();
    let row = |answer: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "hello"}}, {{"role": "assistant", "content": "{answer}"}}]}}"#
        )
    };
    project.write("rows.jsonl", &format!("{}\n", row("the end")).repeat(12));
    project.write("proxy.jsonl", &format!("{}\n", row("the sun")).repeat(8));
    let script = "let base = model(\"hf:models/chat\");\nlet rows = dataset(\"rows.jsonl\");\nlet proxy = dataset(\"proxy.jsonl\");\n\
                  let with_term = |beta| launch_finetune(base, rows, #{ objective: kl(#{ on: proxy, beta: beta }), epochs: 2, learning_rate: 1e-3 });\n\
                  let plain = launch_finetune(base, rows, #{ epochs: 2, learning_rate: 1e-3 });\n\
                  save_model(plain, \"results/plain\"); save_model(with_term.call(0.0), \"results/zero\"); save_model(with_term.call(5.0), \"results/five\");";
    project.write("zero.rhai", script);
    project.run(&["run", "zero.rhai"]).well();
    let weights = |name: &str| fs::read(project.path(&format!("results/{name}/model.safetensors"))).unwrap();
    assert!(weights("plain") == weights("zero"));
    assert!(weights("plain") != weights("five"));
    // What is saved can be loaded, and is the same model.
    project.write("again.rhai", "print(model(\"hf:results/plain\") == model(\"hf:results/zero\"));");
    assert_eq!(project.run(&["run", "again.rhai"]).well().stdout, "true\n");
}
