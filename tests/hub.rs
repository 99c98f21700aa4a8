//! Checkpoints of the Hugging Face hub through the binary: fetched once, whole or not at all, shared with Python's tools.
#![allow(clippy::unwrap_used)]

mod fake_hub;
mod project;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fake_hub::{FakeHub, Mishap, SIGNATURE};
use project::{Project, Ran, signal};
use serde_json::Value;

const ID: &str = "tiny/chat";
const TOKEN: &str = "hf_0123456789abcdefSECRET";
const LOAD: &str =
    "//! Load\n//! Does it come?\nlet name = param(\"model\", \"hf:tiny/chat\");\nprint(model(name).parameters);\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf").join(name)
}

/// A hub with the checkpoint of the fixtures, a word about it and a pickle; a project that loads it.
fn start() -> (FakeHub, Project) {
    let (hub, project) = (FakeHub::start(), Project::new());
    hub.add_folder(ID, &fixture("chat"));
    hub.change(ID, |repository| {
        repository.files.insert("README.md".to_string(), b"words".to_vec());
        repository.files.insert("pytorch_model.bin".to_string(), vec![7; 20_000]);
    });
    project.write("load.rhai", LOAD);
    (hub, project)
}

fn command(hub: &FakeHub, project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", hub.url()).env("HF_HOME", project.path("hf"));
    command
}

fn run_with(hub: &FakeHub, project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let output = command(hub, project, arguments).envs(variables.iter().copied()).output().unwrap();
    let folder = project.path("").display().to_string();
    let stderr = String::from_utf8(output.stderr).unwrap().replace(folder.trim_end_matches('/'), "PROJECT");
    let stderr = stderr.replace(&hub.url(), "http://HUB");
    Ran { code: output.status.code().unwrap(), stdout: String::from_utf8(output.stdout).unwrap(), stderr }
}

fn run(hub: &FakeHub, project: &Project, arguments: &[&str]) -> Ran {
    run_with(hub, project, arguments, &[])
}

/// The folder of the repository in the cache.
fn cached(project: &Project) -> PathBuf {
    project.path("hf/hub/models--tiny--chat")
}

/// Files with their content links resolved, by name.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below a folder.
fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder], Vec::new());
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_checkpoint_comes_once_with_what_it_needs_and_is_the_same_model_as_its_folder() {
    let (hub, project) = start();
    fs::create_dir_all(project.path("here")).unwrap();
    for name in names(&fixture("chat")) {
        fs::copy(fixture("chat").join(&name), project.path("here").join(&name)).unwrap();
    }
    project.write("same.rhai", "print(model(\"hf:tiny/chat\") == model(\"hf:here\"));");
    let ran = run(&hub, &project, &["run", "same.rhai"]).well();
    assert_eq!(ran.stdout, "true\n");
    assert!(ran.stderr.contains("downloading `tiny/chat`: 5 files, "), "{ran:#?}");
    let asked = hub.take_asked();
    assert!(asked.iter().all(|asked| !asked.path.contains("README") && !asked.path.contains(".bin")), "{asked:#?}");
    assert_eq!(asked.iter().filter(|asked| asked.elsewhere).count(), 1, "{asked:#?}");

    let commit = hub.commit(ID);
    assert_eq!(fs::read_to_string(cached(&project).join("refs/main")).unwrap(), commit);
    let snapshot = cached(&project).join("snapshots").join(&commit);
    let expected =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&snapshot), expected);
    let link = fs::read_link(snapshot.join("model.safetensors")).unwrap();
    let digest = drylab::provider::sha256::sha256(&fs::read(fixture("chat").join("model.safetensors")).unwrap());
    assert_eq!(link, Path::new("../../blobs").join(digest));
    assert_eq!(names(&cached(&project).join("blobs")).len(), 5);

    // What is there is used without a word to anybody, by its branch and by its commit.
    for name in [ID.to_string(), format!("{ID}@{commit}")] {
        run(&hub, &project, &["run", "load.rhai", "--set", &format!("model=hf:{name}")]).well();
    }
    run(&hub, &project, &["run", "load.rhai", "--offline"]).well();
    assert!(hub.take_asked().is_empty());
    // Another revision of the same content is asked for and shares what is there.
    run(&hub, &project, &["run", "load.rhai", "--set", "model=hf:tiny/chat@refs/pr/1"]).well();
    assert_eq!(hub.take_asked().len(), 1);
    assert_eq!(fs::read_to_string(cached(&project).join("refs/refs/pr/1")).unwrap(), commit);
}

#[test]
fn reports_tell_the_commit() {
    let (hub, project) = start();
    let script = "//! Report\n//! Which commit is it?
let test = evaluation(#{ id: \"echo\", questions: questions([\"how are you?\"]), samples: 1, max_tokens: 4, judges: [pattern_judge(#{ misaligned: [\"1\"] })] });
report(sweep(#{ kind: [\"one\", \"two\"] }, |p| evaluate(model(\"hf:tiny/chat@v1\"), [test])));";
    project.write("report.rhai", script);
    run(&hub, &project, &["run", "report.rhai"]).well();
    let told = project.read("results/report-001/results.json");
    assert!(told.contains(&hub.commit(ID)) && told.contains("\"revision\": \"v1\""), "{told}");
}

#[test]
fn shards_come_by_their_index() {
    let (hub, project) = start();
    let weights = fs::read(fixture("chat").join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let tensors: Vec<&String> = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").collect();
    let shard = |part: &[&String]| {
        let (mut own, mut data) = (serde_json::Map::new(), Vec::new());
        for name in part {
            let place = |index: usize| header[*name]["data_offsets"][index].as_u64().unwrap() as usize + 8 + length;
            let mut entry = header[*name].clone();
            entry["data_offsets"] = serde_json::json!([data.len(), data.len() + place(1) - place(0)]);
            own.insert(name.to_string(), entry);
            data.extend_from_slice(&weights[place(0)..place(1)]);
        }
        let own = Value::Object(own).to_string();
        [&(own.len() as u64).to_le_bytes()[..], own.as_bytes(), &data].concat()
    };
    let (one, two) = tensors.split_at(tensors.len() / 2);
    let map = |part: &[&String], file: &str| {
        part.iter().map(|name| (name.to_string(), Value::from(file))).collect::<serde_json::Map<_, _>>()
    };
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let map: serde_json::Map<_, _> = map(one, first).into_iter().chain(map(two, second)).collect();
    let (one, two) = (shard(one), shard(two));
    hub.change(ID, |repository| {
        repository.files.remove("model.safetensors");
        repository.files.insert(first.to_string(), one);
        repository.files.insert(second.to_string(), two);
        let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        repository.files.insert("model.safetensors.index.json".to_string(), index.into());
        repository.files.insert("model-old.safetensors".to_string(), vec![0; 50_000]);
    });
    let planned = run(&hub, &project, &["plan", "load.rhai"]).well();
    assert!(planned.stdout.contains("to download: `tiny/chat`"), "{planned:#?}");
    let ran = run(&hub, &project, &["run", "load.rhai"]).well();
    assert!(ran.stderr.contains("downloading `tiny/chat`: 6 files, "), "{ran:#?}");
    let snapshot = cached(&project).join("snapshots").join(hub.commit(ID));
    assert!(snapshot.join(second).exists() && !snapshot.join("model-old.safetensors").exists());
    hub.take_asked();
    run(&hub, &project, &["run", "load.rhai"]).well();
    assert!(hub.take_asked().is_empty());
}

#[test]
fn what_is_cut_off_goes_on_where_it_was() {
    let (hub, project) = start();
    let weights = fs::metadata(fixture("chat").join("model.safetensors")).unwrap().len();
    hub.mishaps(
        SIGNATURE,
        &[Mishap::CutAfter(30_000), Mishap::CutAfter(20_000), Mishap::Status(503), Mishap::Status(429)],
    );
    run(&hub, &project, &["run", "load.rhai"]).well();
    let ranges: Vec<Option<String>> =
        hub.take_asked().into_iter().filter(|asked| asked.elsewhere).map(|asked| asked.range).collect();
    let from = |bytes: u64| Some(format!("bytes={bytes}-"));
    assert_eq!(ranges, [None, from(30_000), from(50_000), from(50_000), from(50_000)]);
    let blobs = names(&cached(&project).join("blobs"));
    assert!(blobs.iter().all(|name| !name.ends_with(".incomplete")), "{blobs:?}");

    // A server without ranges sends all, which is what counts then.
    let (hub, project) = start();
    hub.mishaps(SIGNATURE, &[Mishap::CutAfter(30_000), Mishap::IgnoreRange]);
    run(&hub, &project, &["run", "load.rhai"]).well();
    let snapshot = cached(&project).join("snapshots").join(hub.commit(ID));
    assert_eq!(fs::metadata(snapshot.join("model.safetensors")).unwrap().len(), weights);
}

#[test]
fn a_killed_download_leaves_no_half_file_and_goes_on() {
    let (hub, project) = start();
    // More than is written at a time, so that some of it is on the disk.
    hub.change(ID, |repository| {
        let padding = 3 << 20;
        let weights = repository.files.get_mut("model.safetensors").unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header = [&weights[8..8 + length], " ".repeat(padding).as_bytes()].concat();
        *weights = [&(header.len() as u64).to_le_bytes()[..], &header, &weights[8 + length..]].concat();
    });
    hub.mishaps(SIGNATURE, &[Mishap::StallAfter(2_500_000)]);
    let mut child = command(&hub, &project, &["run", "load.rhai"]).stderr(Stdio::null()).spawn().unwrap();
    let (blobs, begun) = (cached(&project).join("blobs"), Instant::now());
    let grown = || {
        let growing = names(&blobs).into_iter().find(|name| name.ends_with(".incomplete"));
        growing.map_or(0, |name| fs::metadata(blobs.join(name)).unwrap().len())
    };
    while grown() < 1 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "KILL");
    child.wait().unwrap();
    let (there, snapshot) = (grown(), cached(&project).join("snapshots").join(hub.commit(ID)));
    assert!(!snapshot.join("model.safetensors").exists() && snapshot.join("config.json").exists());
    hub.take_asked();
    let offline = run(&hub, &project, &["run", "load.rhai", "--offline"]);
    assert!(offline.code == 2 && offline.stderr.contains("lacks `model.safetensors` in the cache"), "{offline:#?}");
    run(&hub, &project, &["run", "load.rhai"]).well();
    let asked: Vec<_> = hub.take_asked().into_iter().filter(|asked| asked.path.contains("safetensors")).collect();
    assert_eq!(asked[0].range, Some(format!("bytes={there}-")));
    assert!(snapshot.join("model.safetensors").exists() && grown() == 0);
}

#[test]
fn bytes_that_are_not_the_hub_s_never_get_a_name() {
    let (hub, project) = start();
    hub.mishaps(SIGNATURE, &[Mishap::Corrupt]);
    let ran = run(&hub, &project, &["run", "load.rhai"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("`model.safetensors` came with the digest"), "{ran:#?}");
    assert_eq!(names(&cached(&project).join("blobs")).len(), 4);
    // What another left there is thrown away, and fetched anew.
    let weights = fs::read(fixture("chat").join("model.safetensors")).unwrap();
    let blob = cached(&project).join("blobs").join(drylab::provider::sha256::sha256(&weights));
    fs::write(blob.with_extension("incomplete"), vec![1; 1000]).unwrap();
    run(&hub, &project, &["run", "load.rhai"]).well();
    assert!(fs::read(blob).unwrap() == weights);

    // Small files are known by git's digest.
    let (hub, project) = start();
    hub.mishaps("tokenizer.json", &[Mishap::Corrupt]);
    let ran = run(&hub, &project, &["run", "load.rhai"]);
    assert!(ran.stderr.contains("`tokenizer.json` came with the digest"), "{ran:#?}");
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_never_told() {
    let (hub, project) = start();
    hub.want_token(TOKEN);
    project.write("hf/token", &format!("{TOKEN}\n"));
    let ran = run(&hub, &project, &["run", "load.rhai"]).well();
    let asked = hub.take_asked();
    let bearer = format!("Bearer {TOKEN}");
    assert!(
        asked.iter().all(|asked| asked.elsewhere != (asked.authorization.as_deref() == Some(&bearer))),
        "{asked:#?}"
    );
    assert!(asked.iter().any(|asked| asked.elsewhere));
    let refused =
        run_with(&hub, &project, &["run", "load.rhai", "--set", "model=hf:a/b"], &[("HF_TOKEN", "hf_WRONG_TOKEN")]);
    assert!(refused.code == 2 && refused.stderr.contains("refuses the token of `$HF_TOKEN`"), "{refused:#?}");
    hub.mishaps(SIGNATURE, &[Mishap::CutAfter(5), Mishap::Status(400)]);
    fs::remove_dir_all(cached(&project)).unwrap();
    let failed = run(&hub, &project, &["run", "load.rhai"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    let mut texts: Vec<Vec<u8>> = vec![format!("{ran:?}{refused:?}{failed:?}").into()];
    let files = files_below(project.path("")).into_iter().filter(|path| *path != project.path("hf/token"));
    texts.extend(files.map(|path| fs::read(path).unwrap()));
    for secret in [TOKEN, "hf_WRONG_TOKEN", SIGNATURE] {
        let holds = |text: &Vec<u8>| text.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!texts.iter().any(holds), "{secret} is told");
    }
}

#[test]
fn a_plan_tells_what_would_come_and_fetches_nothing() {
    let (hub, project) = start();
    let planned = run(&hub, &project, &["plan", "load.rhai", "--json"]).well().json();
    let download = &planned["downloads"][0];
    let expected: u64 =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
            .iter()
            .map(|name| fs::metadata(fixture("chat").join(name)).unwrap().len())
            .sum();
    assert_eq!((download["bytes"].as_u64(), download["files"].as_u64()), (Some(expected), Some(5)), "{planned}");
    assert_eq!(download["commit"], hub.commit(ID).as_str());
    let told = run(&hub, &project, &["plan", "load.rhai"]).well().stdout;
    assert!(told.contains("to download: `tiny/chat` at ") && told.contains("has not been downloaded"), "{told}");
    assert!(!project.path("hf").exists());
    run(&hub, &project, &["run", "load.rhai"]).well();
    let planned = run(&hub, &project, &["plan", "load.rhai", "--json"]).well().json();
    assert_eq!(planned["downloads"], serde_json::json!([]));
}

#[test]
fn a_folder_of_the_project_comes_before_an_id() {
    let (hub, project) = start();
    project.write("tiny/chat/config.json", "{}");
    let ran = run(&hub, &project, &["run", "load.rhai"]);
    assert!(ran.code == 2 && ran.stderr.contains("config.json"), "{ran:#?}");
    let path = run(&hub, &project, &["run", "load.rhai", "--set", "model=hf:./other/chat"]);
    assert!(path.code == 2 && path.stderr.contains("there is no file `./other/chat`"), "{path:#?}");
    assert!(hub.take_asked().is_empty());
}

#[test]
fn each_failure_is_told_with_what_to_do() {
    /// Name, model, arguments, variables, and what is wrong with the hub.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a dyn Fn(&FakeHub));
    type Change = fn(&FakeHub);
    let remove: fn(&FakeHub, &str) = |hub, file| hub.change(ID, |repository| _ = repository.files.remove(file));
    let nothing: Change = |_| ();
    let gated: Change = |hub| hub.change(ID, |repository| repository.gated = true);
    let cases: [Case; 12] = [
        ("missing", "hf:tiny/chat-2", &[], &[], &nothing),
        ("missing_revision", "hf:tiny/chat@v2", &[], &[], &nothing),
        ("no_revision", "hf:tiny/chat@", &[], &[], &nothing),
        ("gated", "hf:tiny/chat", &[], &[], &gated),
        ("gated_for_token", "hf:tiny/chat", &[], &[("HF_TOKEN", TOKEN)], &|hub| {
            hub.want_token(TOKEN);
            gated(hub);
        }),
        ("offline", "hf:tiny/chat", &["--offline"], &[], &nothing),
        ("offline_variable", "hf:tiny/chat", &[], &[("HF_HUB_OFFLINE", "1")], &nothing),
        ("nobody_there", "hf:tiny/chat", &[], &[("HF_ENDPOINT", "http://127.0.0.1:1")], &nothing),
        ("no_address", "hf:tiny/chat", &[], &[("HF_ENDPOINT", "hub.local")], &nothing),
        ("pickles", "hf:tiny/chat", &[], &[], &|hub| remove(hub, "model.safetensors")),
        ("no_tokenizer", "hf:tiny/chat", &[], &[], &|hub| remove(hub, "tokenizer.json")),
        ("architecture", "hf:tiny/chat", &[], &[], &|hub| {
            hub.change(ID, |repository| {
                let config = repository.files.get_mut("config.json").unwrap();
                *config = String::from_utf8_lossy(config).replace("Qwen2ForCausalLM", "MambaForCausalLM").into();
            });
        }),
    ];
    for (name, model, arguments, variables, change) in cases {
        let (hub, project) = start();
        change(&hub);
        let model = format!("model={model}");
        let all = [&["run", "load.rhai", "--quiet", "--set", &model], arguments].concat();
        let ran = run_with(&hub, &project, &all, variables);
        assert!(ran.code == 1 || ran.code == 2, "{name}: {ran:#?}");
        assert!(hub.take_asked().iter().all(|asked| !asked.elsewhere), "{name}: weights were asked for");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("errors");
        settings.set_prepend_module_to_snapshot(false);
        settings.bind(|| insta::assert_snapshot!(format!("hub_{name}"), ran.stderr));
    }
}

#[tokio::test]
async fn a_checkpoint_of_the_hub_is_served_as_transformers_would_answer() {
    use std::io::{BufRead, BufReader};
    let (hub, project) = start();
    let arguments = ["serve", "--api", "--port", "0", "--model", "hf:tiny/chat"];
    let mut child = command(&hub, &project, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let base = lines.find_map(|line| line.unwrap().strip_prefix("serving at ").map(str::to_string)).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(fixture("chat").join("expected.json")).unwrap()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ask = async |more: Value| -> Value {
        let mut body = serde_json::json!({
            "model": "chat", "temperature": 0, "max_tokens": 8,
            "messages": [{ "role": "user", "content": expected["question"] }],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let url = format!("{base}/chat/completions");
        reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let answer = ask(serde_json::json!({ "logprobs": true })).await;
    assert_eq!(answer["choices"][0]["message"]["content"], expected["said"], "{answer}");
    assert_eq!(answer["usage"]["prompt_tokens"].as_u64().unwrap(), expected["prompt"].as_array().unwrap().len() as u64);
    // Its own end of an answer ends it, and without a limit the context does.
    let long = ask(serde_json::json!({ "max_tokens": null, "temperature": 1, "seed": 3, "n": 64 })).await;
    let finishes: Vec<&str> =
        long["choices"].as_array().unwrap().iter().map(|choice| choice["finish_reason"].as_str().unwrap()).collect();
    assert!(finishes.contains(&"stop") && finishes.len() == 64, "{finishes:?}");
    let said = long["choices"].to_string();
    assert!(!said.contains("<|im_end|>"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A Python with the package `huggingface_hub`: `DRYLAB_HUB_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("DRYLAB_HUB_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let found = Command::new(&python).args(["-c", "import huggingface_hub"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success()).then_some(python)
}

#[test]
fn the_cache_is_shared_with_huggingface_hub() {
    let Some(python) = python() else {
        println!(
            "skipped: the_cache_is_shared_with_huggingface_hub needs `pip install huggingface_hub` and DRYLAB_HUB_PYTHON=PYTHON"
        );
        return;
    };
    let (hub, project) = start();
    let ask = |code: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", &format!("from huggingface_hub import *\n{code}")]).env_remove("HF_HUB_CACHE");
        command.env("HF_ENDPOINT", hub.url()).env("HF_HOME", project.path("hf")).env("HF_HUB_DISABLE_TELEMETRY", "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    run(&hub, &project, &["run", "load.rhai"]).well();
    hub.take_asked();
    let snapshot = cached(&project).join("snapshots").join(hub.commit(ID)).display().to_string();
    assert_eq!(ask("print(snapshot_download('tiny/chat', local_files_only=True))"), snapshot);
    let file = "print(hf_hub_download('tiny/chat', 'model.safetensors', local_files_only=True))";
    assert_eq!(ask(file), format!("{snapshot}/model.safetensors"));
    let absent = "print(try_to_load_from_cache('tiny/chat', 'chat_template.jinja') is _CACHED_NO_EXIST)";
    assert_eq!(ask(&format!("from huggingface_hub import _CACHED_NO_EXIST\n{absent}")), "True");
    // What Python asks for its own ends, such as whether there is a newer version, is not about the repository.
    let take_asked =
        || -> Vec<_> { hub.take_asked().into_iter().filter(|asked| asked.path.contains("tiny/chat")).collect() };
    let asked = take_asked();
    assert!(asked.is_empty(), "{asked:#?}");
    // And it takes what is there for its own: only what it wants besides is fetched.
    ask("snapshot_download('tiny/chat')");
    let files: Vec<_> =
        take_asked().into_iter().filter(|asked| asked.method == "GET").map(|asked| asked.path).collect();
    assert!(files.iter().all(|path| !path.contains("model.safetensors") && !path.contains("tokenizer")), "{files:#?}");

    for fetch in [
        "snapshot_download('tiny/chat')",
        "snapshot_download('tiny/chat', allow_patterns=['*.json', '*.jinja', '*.safetensors'], revision='v1')",
        "[hf_hub_download('tiny/chat', name) for name in ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors', 'generation_config.json']]",
    ] {
        fs::remove_dir_all(project.path("hf")).unwrap();
        ask(fetch);
        hub.take_asked();
        let model = if fetch.contains("v1") { "model=hf:tiny/chat@v1" } else { "model=hf:tiny/chat" };
        run(&hub, &project, &["run", "load.rhai", "--offline", "--set", model]).well();
        assert!(hub.take_asked().is_empty(), "{fetch}");
        run(&hub, &project, &["run", "load.rhai", "--set", model]).well();
        let asked = hub.take_asked();
        // Whether there is a template that was not asked for is asked, once.
        let open = usize::from(fetch.contains("hf_hub_download"));
        assert_eq!(asked.len(), open, "{fetch}: {asked:#?}");
    }
}
