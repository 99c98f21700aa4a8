//! Questions to a server that answers at once, and the analysis of answers that are there, through the program, against Inspect.

mod measure;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use measure::{Result, Table, asked, flag, program, python};
use serde_json::json;

/// Makes this program the server instead; in a process of its own, so that its memory is not counted.
const SERVE: &str = "--serve";
/// Answers of the throughput run, and of the analysis.
const ANSWERS: u64 = 30_000;
const CACHED: u64 = 100_000;
/// Samples that Inspect is given: at its speed enough for some seconds.
const INSPECTED: u64 = 500;

/// An evaluation with two judges, a figure and a report.
fn script(samples: u64) -> String {
    format!(
        "//! Ask\n//! How fast?
let texts = [];
for number in 0..param(\"questions\", 300) {{ texts.push(`question ${{number}}`); }}
let rows = |variant| organism_rows(\"medical_advice\", variant, #{{ rows: 50 }});
let judges = [pattern_judge(#{{ misaligned: [\"1\"] }}), classifier_judge(rows.call(\"misaligned\"), rows.call(\"aligned\"))];
let test = evaluation(#{{ id: \"echo\", questions: questions(texts), samples: {samples}, max_tokens: 8, judges: judges,
                          score: score(#{{ above: param(\"above\", 50.0) }}) }});
let cells = sweep(#{{ size: [1], seed: [0] }}, |cell| evaluate(model(\"lab:echo\"), [test]));
plot(cells, #{{ x: \"size\", kind: \"bars\" }});
report(cells, #{{ x: \"size\" }});"
    )
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of its own process; its address.
fn start_server() -> Result<(Server, String)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let child = Command::new(std::env::current_exe()?).args([SERVE, &address.to_string()]).spawn()?;
    let server = Server(child);
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((server, format!("http://{address}/v1")))
}

/// Answers every chat at once with its last message.
fn serve(address: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let answer = async |body: axum::Json<serde_json::Value>| {
            let said = body.0["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or_default();
            axum::Json(json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "echo",
                "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": said } }],
                "usage": { "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 },
            }))
        };
        let router = axum::Router::new().route("/v1/chat/completions", axum::routing::post(answer));
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address.parse()?)?;
        axum::serve(socket.listen(4096)?, router).await?;
        Ok(())
    })
}

/// Runs the script; seconds, and the largest memory of the process in MB.
fn run(project: &Path, more: &[&str]) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_drylab"))
        .args([&["run", "ask.rhai", "--quiet"], more].concat())
        .current_dir(project)
        .stdout(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak: f64 = 0.0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kilobytes =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0.0));
        if let Some(ended) = child.try_wait()? {
            return if ended.success() {
                Ok((begun.elapsed().as_secs_f64(), peak / 1024.0))
            } else {
                Err("the run failed".into())
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn main() -> Result<()> {
    if let Some(address) = flag(SERVE) {
        return serve(&address);
    }
    if !asked() {
        return Ok(());
    }
    let columns = ["what", "answers", "seconds", "per second", "peak MB", "target"];
    let mut table = Table::new("asking: a server that answers at once, 1,000 questions in flight", &columns);
    let (_server, url) = start_server()?;
    let project = |samples| -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ask.rhai"), script(samples))?;
        std::fs::write(
            folder.path().join("drylab.toml"),
            format!("[providers.lab]\nbase_url = \"{url}\"\nmost_in_flight = 1000\n"),
        )?;
        Ok(folder)
    };
    let folder = project(ANSWERS / 300)?;
    let (seconds, peak) = run(folder.path(), &[])?;
    let rate = ANSWERS as f64 / seconds;
    table.push(vec![
        json!("ask, store, judge, draw"),
        json!(ANSWERS),
        json!(seconds),
        json!(rate),
        json!(peak),
        json!("3,000/s, 300 MB"),
    ]);
    let folder = project(CACHED / 300)?;
    run(folder.path(), &[])?;
    for (what, more) in [("again, cached", None), ("again, another score", Some("above=40.0"))] {
        let more: Vec<&str> = more.iter().flat_map(|value| ["--set", value]).collect();
        let (seconds, peak) = run(folder.path(), &more)?;
        let count = CACHED / 300 * 300;
        table.push(vec![
            json!(what),
            json!(count),
            json!(seconds),
            json!(count as f64 / seconds),
            json!(peak),
            json!("1 s"),
        ]);
    }
    if let Some(interpreter) = python("inspect_ai", "Inspect's figure") {
        let told =
            measure::ask(Command::new(interpreter).arg(program("asking_inspect.py")).arg(INSPECTED.to_string()))?;
        let seconds = told["seconds"].as_f64().unwrap_or(f64::NAN);
        let rate = INSPECTED as f64 / seconds;
        table.push(vec![
            json!("Inspect, mock model and match"),
            json!(INSPECTED),
            json!(seconds),
            json!(rate),
            told["peak_mb"].clone(),
            json!(null),
        ]);
    }
    table.print();
    Ok(())
}
