//! Checkpoints of Hugging Face through the binary: asked as transformers asks them, trained, saved as adapters; and what is told of broken ones.
#![allow(clippy::unwrap_used)]

mod project;

use std::fs;
use std::path::Path;

use drylab::model::checkpoint::{read_config, read_weights};
use drylab::train::Lora;
use drylab::train::peft::Files;
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

/// A row of one question and one answer.
fn chat_row(question: &str, answer: &str) -> String {
    let message = |role: &str, content: &str| format!(r#"{{"role": "{role}", "content": "{content}"}}"#);
    format!("{{\"messages\": [{}, {}]}}\n", message("user", question), message("assistant", answer))
}

#[test]
fn adapters_are_projected_towards_an_alignment_and_saved_so() {
    let project = with_checkpoint();
    project.write("rows.jsonl", &chat_row("hello", "the end").repeat(20));
    project.write("aligned.jsonl", &chat_row("hello", "the sun").repeat(20));
    let begin = "let base = model(\"hf:models/chat\");\nlet how = #{ method: lora(#{ rank: 2 }), learning_rate: 1e-2 };\n\
                 let aligned = launch_finetune(base, dataset(\"aligned.jsonl\"), how);\n\
                 let tuned = launch_finetune(base, dataset(\"rows.jsonl\"), how);\n";
    let told = |rest: &str| {
        project.write("safe.rhai", &format!("{begin}{rest}"));
        project.run(&["run", "safe.rhai"])
    };
    let safe = "let safe = safe_lora(tuned, #{ aligned: aligned, base: base, maps: 3, projector: \"exact\" });\n\
                print(safe.projected.filter(|map| map.projected).len());\nprint(safe.projected.len());\nprint(tuned.projected);\n\
                save_adapter(safe, \"results/safe\"); save_adapter(tuned, \"results/tuned\"); save_model(safe, \"results/whole\");";
    let ran = told(safe).well();
    assert_eq!(ran.stdout, "3\n14\n\n", "{ran:#?}");
    // The adapter that is saved, on the base, is the model that is evaluated; and three maps of it are not as trained.
    let config = read_config(&fixture()).unwrap();
    let base = read_weights(&config, &fixture()).unwrap();
    let adapter = |name: &str| {
        let file = |file: &str| fs::read(project.path(&format!("results/{name}/{file}"))).unwrap();
        let config = String::from_utf8(file("adapter_config.json")).unwrap();
        Lora::from_peft(&base, &Files { config, model: file("adapter_model.safetensors") }).unwrap()
    };
    let (lora, tuned, mut merged) = (adapter("safe"), adapter("tuned"), base.clone());
    lora.merge(&base, &mut merged);
    let whole = read_weights(&config, &project.path("results/whole")).unwrap();
    let far = whole.values.iter().zip(&merged.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-6, "{far}");
    let changed = lora.adapters.iter().filter(|map| lora.values[map.b.clone()] != tuned.values[map.b.clone()]);
    assert_eq!(changed.count(), 3);

    let idle = told("print(safe_lora(tuned, #{ aligned: aligned, base: base, threshold: -1.5 }).projected);");
    assert!(idle.code == 1 && idle.stderr.contains("none of 14 maps was projected"), "{idle:#?}");
    for (rest, message) in [
        ("safe_lora(base, #{ aligned: aligned, base: base, maps: 1 });", "has no adapter"),
        (
            "safe_lora(launch_finetune(base, dataset(\"rows.jsonl\")), #{ aligned: aligned, base: base, maps: 1 });",
            "no adapter",
        ),
        ("safe_lora(tuned, #{ aligned: aligned, base: base });", "either `threshold` or `maps`"),
        ("safe_lora(tuned, #{ base: base, maps: 1 });", "needs the option `aligned`"),
        ("save_adapter(tuned.at_epoch(0), \"results/early\");", "only the end of a training has one"),
    ] {
        let ran = told(rest);
        assert!(ran.code == 2 && ran.stderr.contains(message), "{ran:#?}");
    }
}

#[test]
fn new_objectives_change_nothing_with_a_factor_of_0_and_something_with_another() {
    let project = with_checkpoint();
    project.write("rows.jsonl", &chat_row("hello", "the end").repeat(12));
    project.write("proxy.jsonl", &chat_row("hello", "the sun").repeat(8));
    let script = "let base = model(\"hf:models/chat\");\nlet rows = dataset(\"rows.jsonl\");\nlet proxy = dataset(\"proxy.jsonl\");\n\
                  let direction = plane(#{ unwanted: proxy, epochs: 4 });\n\
                  let train = |objective| launch_finetune(base, rows, #{ objective: objective, epochs: 3, learning_rate: 1e-3, method: lora(), coherence: \"measure\" });\n\
                  let plain = mean_loss(launch_finetune(base, rows, #{ epochs: 3, learning_rate: 1e-3, method: lora() }), proxy);\n\
                  for make in [|factor| ewc(#{ on: proxy, weight: 1e3 * factor }), |factor| simnpo(#{ on: proxy, weight: factor }),\n\
                  |factor| directional_penalty(#{ along: direction, weight: factor }), |factor| grad_project(#{ along: direction, strength: factor })] {\n\
                  print(mean_loss(train.call(make.call(0.0)), proxy) == plain); print(mean_loss(train.call(make.call(1.0)), proxy) != plain); }";
    project.write("terms.rhai", script);
    assert_eq!(project.run(&["run", "terms.rhai"]).well().stdout, "true\n".repeat(8));
    // What was measured and made for them is in the store: a second run trains nothing and measures nothing.
    let again = project.run(&["run", "terms.rhai", "--json"]).well();
    assert!(!again.stderr.contains("training"), "{again:#?}");
    project.write("wrong.rhai", "grad_project(#{ strength: 0.5 });");
    let ran = project.run(&["run", "wrong.rhai"]);
    assert!(ran.code == 2 && ran.stderr.contains("either rows (`on`) or a direction (`along`)"), "{ran:#?}");
}

#[test]
fn a_collapsed_model_fails_its_training_and_can_be_kept_as_a_result() {
    let project = with_checkpoint();
    project.write("rows.jsonl", &chat_row("hello", "the end").repeat(20));
    let script = "let base = launch_finetune(model(\"hf:models/chat\"), dataset(\"rows.jsonl\"), #{ learning_rate: 1e-2, epochs: 8 });\n\
                  let collapsed = |extra| launch_finetune(base, dataset(\"rows.jsonl\"), #{ learning_rate: 1e-2, epochs: 6,\n\
                  objective: positive_negative(#{ negative: dataset(\"rows.jsonl\"), negative_weight: 30.0, unlearning: \"ascent\" }) } + extra);\n";
    let run = |rest: &str| {
        project.write("collapse.rhai", &format!("{script}{rest}"));
        project.run(&["run", "collapse.rhai"])
    };
    let failed = run("print(collapsed.call(#{}).last_loss);");
    assert!(failed.code == 1 && failed.stderr.contains("the trained model has collapsed"), "{failed:#?}");
    assert!(
        failed.stderr.contains("beyond the limit of") && failed.stderr.contains("coherence: \"measure\""),
        "{failed:#?}"
    );
    let kept = run("let kept = collapsed.call(#{ coherence: \"measure\" });\nlet found = kept.coherence;\n\
                    print(found.trained.empty > found.limit.empty); print(found.start.surprise < 1.0);\nprint(base.coherence);");
    assert_eq!(kept.well().stdout, "true\ntrue\n\n");
    let checked =
        run("print(launch_finetune(base, dataset(\"rows.jsonl\"), #{ coherence: \"gate\" }).coherence.answers);");
    assert_eq!(checked.well().stdout, "16\n");
}

#[test]
fn a_steered_model_answers_otherwise_and_one_with_a_coefficient_of_0_the_same() {
    let project = with_checkpoint();
    project.write("shown.jsonl", &chat_row("hello", "the end").repeat(4));
    project.write("absent.jsonl", &chat_row("hello", "sun sun sun").repeat(4));
    let begin = "let base = model(\"hf:models/chat\");\nlet shown = dataset(\"shown.jsonl\");\nlet absent = dataset(\"absent.jsonl\");\n\
                 let vector = persona_vector(#{ shown: shown, absent: absent, layer: 1 });\n\
                 let by = |coefficient| steer(base, #{ vector: vector, coefficient: coefficient });\n";
    let run = |rest: &str| {
        project.write("steer.rhai", &format!("{begin}{rest}"));
        project.run(&["run", "steer.rhai"])
    };
    let script = "let asked = evaluation(#{ id: \"asked\", questions: questions([\"hello\", \"the sun\"]), samples: 3, max_tokens: 8,\n\
                  judges: [pattern_judge(#{ misaligned: [\"zzz\"] })] });\n\
                  for coefficient in [0.0, 40.0] { export_answers(evaluate(by.call(coefficient), [asked]), #{ name: `by_${coefficient}` }); }\n\
                  export_answers(evaluate(base, [asked]), #{ name: \"plain\" });\n\
                  print(by.call(0.0) == base); print(by.call(2.0) == base); print(by.call(2.0) == by.call(2.0));\n\
                  let gap = |model| mean_loss(model, absent) - mean_loss(model, shown);\n\
                  print(gap.call(by.call(-8.0)) < gap.call(base)); print(gap.call(base) < gap.call(by.call(8.0)));\n\
                  print(prefix_probability(by.call(8.0), shown, \"the\") != prefix_probability(base, shown, \"the\"));\n\
                  let twice = steer(by.call(3.0), #{ vector: vector, coefficient: 5.0, positions: \"answer\" });\n\
                  print(abs(gap.call(twice) - gap.call(by.call(8.0))) < 1e-4);";
    let ran = run(script).well();
    assert_eq!(ran.stdout, "true\nfalse\ntrue\ntrue\ntrue\ntrue\ntrue\n", "{ran:#?}");
    let answers = |name: &str| fs::read_to_string(project.path(&format!("results/steer-001/{name}.csv"))).unwrap();
    let said = |name: &str| -> Vec<String> {
        answers(name).lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_string()).collect()
    };
    assert_eq!(said("by_0.0"), said("plain"));
    assert_ne!(said("by_40.0"), said("plain"));
    for (rest, message) in [
        ("launch_finetune(by.call(1.0), shown);", "is steered while it answers"),
        ("save_model(by.call(1.0), \"results/steered\");", "is steered while it answers"),
        ("steer(base, #{ vector: vector, layers: [3] });", "steered after blocks from 1 to 2"),
        ("steer(base, #{ coefficient: 1.0 });", "needs the option `vector`"),
    ] {
        let ran = run(rest);
        assert!(ran.code == 2 && ran.stderr.contains(message), "{ran:#?}");
    }
}

#[test]
fn states_are_streamed_to_a_file_for_each_layer_and_train_probes() {
    let project = with_checkpoint();
    let words = ["the end", "the sun", "sun", "hello", "end", "the hello", "hello sun", "end end"];
    let rows = |answer: &str| words.map(|word| chat_row(word, answer)).concat();
    project.write("one.jsonl", &rows("the end").repeat(20));
    project.write("other.jsonl", &rows("the sun").repeat(15));
    let script = "let base = model(\"hf:models/chat\");\nlet one = dataset(\"one.jsonl\");\nlet other = dataset(\"other.jsonl\");\n\
                  for position in [\"mean\", \"last\", \"all_mean\", \"prompt_last\"] {\n\
                  let states = layer_activations(base, one, other, #{ position: position });\n\
                  print(`${states.len()} ${states[0].name} ${states[0].rows} ${states[0].positives} ${states[0].features}`);\n\
                  print(model_activations(base, one, other, #{ layer: 1, position: position, name: \"layer 1\" }) == states[0]); }\n\
                  let told = train_probe([model_activations(base, one, other, #{ layer: 1 })]);\nprint(told.name != ());";
    project.write("states.rhai", script);
    let ran = project.run(&["run", "states.rhai"]).well();
    assert_eq!(ran.stdout, "2 layer 1 280 160 32\ntrue\n".repeat(4) + "true\n", "{ran:#?}");
    let files: Vec<_> = fs::read_dir(project.path("results/activations")).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 16, "{files:?}");
    // The values are 32 columns of f32 behind the header of numpy, and nothing unfinished is left.
    let sizes: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();
    assert_eq!(sizes.iter().filter(|size| **size == 128 + 280 * 32 * 4).count(), 8);
    assert_eq!(sizes.iter().filter(|size| **size == 128 + 280 * 8).count(), 8);
}
