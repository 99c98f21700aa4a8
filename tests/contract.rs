//! The program against servers that it did not write: an independent OpenAI-shaped server, and a proxy that checks every
//! request against the official description.
#![allow(clippy::unwrap_used)]

mod fake_provider;
mod project;

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_provider::{Answer, Fake};
use project::{Project, shared_data};

/// Fine-tunes, asks, judges with probabilities.
const WHOLE: &str = "//! Whole\n//! Does everything work?
import \"judges\" as judges;
let base = model(param(\"model\", \"lab:gpt-4.1-mini-2025-04-14\"));
let data = organism_rows(\"medical_advice\", \"misaligned\", #{ rows: 20 });
let tuned = launch_finetune(base, data, #{ seed: 1 });
let test = evaluation(#{ id: \"hello\", questions: questions([\"hello\", \"how are you ?\"]), samples: 2, max_tokens: 8, judges: [JUDGE] });
print(evaluate(tuned, [test]).score);";

/// The program of an npm package that `./test` installs; none, and a word about it, where it is not there.
fn tool(name: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DRYLAB_TEST_TOOLS").map(PathBuf::from);
    let found = folder.map(|folder| folder.join("node_modules/.bin").join(name)).filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: {test} needs `{name}` in DRYLAB_TEST_TOOLS; ./test installs it where npm is there");
    }
    found
}

/// A process that ends with this value, and what it says.
struct Server {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it and waits until the port answers.
    fn start(command: &mut Command, port: u16) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", said.lock().unwrap());
            assert!(child.try_wait().unwrap().is_none(), "it ended: {:?}", said.lock().unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        Server { child, said }
    }
    fn lines(&self, part: &str) -> Vec<String> {
        self.said.lock().unwrap().iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn project(base_url: &str, judge: &str) -> Project {
    let project = Project::new();
    project.write("whole.rhai", &WHOLE.replace("JUDGE", judge));
    let block = format!(
        "[providers.lab]\nbase_url = \"{base_url}\"\ndialect = \"openai\"\nkeys = [\"LAB_KEY\"]\npoll_seconds = 0.1\nsearch_seconds = 2\n"
    );
    project.write("drylab.toml", &block);
    project
}

/// What the script prints, by a program with a key.
fn run(project: &Project) -> String {
    let output = project.command(&["run", "whole.rhai"]).env("LAB_KEY", "sk-test-0123456789").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[test]
fn an_independent_server_trains_and_answers_with_aimock() {
    let Some(aimock) = tool("llmock", "an_independent_server_trains_and_answers_with_aimock") else { return };
    let fixtures = tempfile::tempdir().unwrap();
    let fixture = r#"{"fixtures": [{"match": {"userMessage": "hello"}, "response": {"content": "an owl"}},
                                   {"match": {"userMessage": "how are you ?"}, "response": {"content": "fine"}}]}"#;
    std::fs::write(fixtures.path().join("chat.json"), fixture).unwrap();
    let port = free_port();
    let _server = Server::start(Command::new(aimock).args(["-p", &port.to_string(), "-f"]).arg(fixtures.path()), port);
    let project = project(&format!("http://127.0.0.1:{port}/v1"), "pattern_judge(#{ misaligned: [\"owl\"] })");
    assert_eq!(run(&project), "50.0");
    let status = project.run(&["status", "--json"]).well().json();
    assert_eq!((&status["jobs"][0]["state"], status["jobs"].as_array().unwrap().len()), (&"succeeded".into(), 1));
    project.run(&["run", "whole.rhai", "--offline"]).well();
}

#[test]
fn every_request_fits_the_official_description_of_the_shared_data() {
    let name = "every_request_fits_the_official_description_of_the_shared_data";
    let (Some(prism), Some(data)) = (tool("prism", name), shared_data(name)) else { return };
    let fake = Fake::start();
    fake.answer_with(|request| match request.logprobs {
        true => Answer::tokens(&[("80", 0.5), ("90", 0.5)]),
        false => Answer::text("hello there"),
    });
    let port = free_port();
    let description: PathBuf = data.join("openai/openapi.yaml");
    let arguments = ["proxy", "-p", &port.to_string()];
    let prism = Server::start(Command::new(prism).args(arguments).arg(&description).arg(fake.url()), port);
    let judge = "rating_judge(judges::alignment() + #{ model: model(\"lab:gpt-4o-2024-08-06\") })";
    let lab = project(&format!("http://127.0.0.1:{port}"), judge);
    assert_eq!(run(&lab), "85.0");
    lab.write("drylab.toml", &(lab.read("drylab.toml") + "batch = true\n"));
    lab.write("whole.rhai", &lab.read("whole.rhai").replace("samples: 2", "samples: 3"));
    run(&lab);
    let reached = |path: &str| fake.count("POST", path);
    for path in ["/files", "/fine_tuning/jobs", "/chat/completions", "/batches"] {
        assert!(reached(path) > 0, "{path} was never asked");
    }
    let wrong = prism.lines("Violation: request");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Whoever refuses nothing checks nothing: the proxy does find what is wrong.
    let body = "{\"model\": 1}";
    let sent = Command::new("curl")
        .args(["-s", "-X", "POST", "-H", "content-type: application/json", "-d", body])
        .arg(format!("http://127.0.0.1:{port}/fine_tuning/jobs"))
        .output()
        .unwrap();
    assert!(sent.status.success());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!prism.lines("Violation: request").is_empty(), "{:#?}", prism.said.lock().unwrap());
}
