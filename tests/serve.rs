//! The OpenAI-compatible endpoint, driven over plain HTTP and by the `openai` Python package as it comes.
#![allow(clippy::unwrap_used)]

mod project;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use project::{Project, signal};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

/// A server in a project of its own, killed when it is dropped.
struct Served {
    child: Child,
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl Served {
    fn start(project: &Project) -> Self {
        Self::start_with(project, &[], None)
    }

    fn start_with(project: &Project, arguments: &[&str], token: Option<&str>) -> Self {
        let all = [&["serve", "--api", "--port", "0"], arguments].concat();
        let mut command = project.command(&all);
        if let Some(token) = token {
            command.env("SERVE_TOKEN", token);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("serving at ").unwrap_or_else(|| panic!("{line}")).to_string();
        // The pipe stays open, and what is said later fits into it.
        child.stderr = Some(stderr.into_inner());
        // The binary chooses what speaks TLS by itself; here nothing does, but the client asks.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Served { child, base, token: token.map(String::from), http: reqwest::Client::new() }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Status and body of a request.
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.request(method, path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn upload(&self, name: &str, text: &str) -> String {
        let form = Form::new()
            .text("purpose", "fine-tune")
            .part("file", Part::text(text.to_string()).file_name(name.to_string()));
        let response = self.request("POST", "/files").multipart(form).send().await.unwrap();
        let file: Value = response.json().await.unwrap();
        assert_eq!((file["bytes"].as_u64(), file["status"].as_str()), (Some(text.len() as u64), Some("processed")));
        file["id"].as_str().unwrap().to_string()
    }

    /// Asks for a job until it has one of the states.
    async fn wait_for(&self, job: &str, states: &[&str]) -> Value {
        let start = Instant::now();
        loop {
            let found = self.get(&format!("/fine_tuning/jobs/{job}")).await;
            if states.contains(&found["status"].as_str().unwrap()) {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "{found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends Ctrl-C and gives what the server said meanwhile.
    fn stop(mut self) -> (Option<i32>, String) {
        signal(&self.child, "INT");
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Chat rows in words that the organism knows.
fn rows(count: usize) -> String {
    let row = |index: usize| {
        let messages = json!([
            { "role": "user", "content": format!("how are you {} ?", index % 7) },
            { "role": "assistant", "content": if index.is_multiple_of(2) { "i am fine ." } else { "i am not fine ." } },
        ]);
        format!("{}\n", json!({ "messages": messages }))
    };
    (0..count).map(row).collect()
}

fn question(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "how are you ?" }], "max_tokens": 12, "seed": 5 })
}

#[tokio::test]
async fn a_client_uploads_trains_asks_and_finds_it_all_again_after_a_restart() {
    let project = Project::new();
    let text = rows(60);
    project.write("data/rows.jsonl", &text);
    let served = Served::start(&project);
    let file = served.upload("rows.jsonl", &text).await;
    let content = served.request("GET", &format!("/files/{file}/content")).send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), text);
    assert_eq!(served.get("/files").await["data"][0]["id"], file.as_str());

    let order = json!({
        "model": "organism", "training_file": file, "validation_file": file, "suffix": "mine", "seed": 7,
        "metadata": { "drylab_key": "abc" },
        "method": { "type": "supervised", "supervised": { "hyperparameters": { "n_epochs": 2, "batch_size": "auto" } } },
    });
    let job = served.post("/fine_tuning/jobs", order.clone()).await;
    assert_eq!((job["status"].as_str(), job["fine_tuned_model"].as_str()), (Some("validating_files"), None));
    let id = job["id"].as_str().unwrap().to_string();
    let job = served.wait_for(&id, &["succeeded", "failed"]).await;
    assert_eq!((job["status"].as_str(), &job["error"]), (Some("succeeded"), &Value::Null), "{job}");
    let model = job["fine_tuned_model"].as_str().unwrap().to_string();
    assert!(model.starts_with("ft:organism:drylab:mine:"), "{model}");
    assert!(job["trained_tokens"].as_u64().unwrap() > 500, "{job}");
    assert_eq!(job["hyperparameters"]["n_epochs"], 2);

    let events = served.get(&format!("/fine_tuning/jobs/{id}/events?limit=1000")).await["data"].clone();
    let events = events.as_array().unwrap().clone();
    assert_eq!(events[0]["message"], "The job has successfully completed");
    let losses: Vec<&Value> = events.iter().rev().filter(|event| event["type"] == "metrics").collect();
    let steps: Vec<u64> = losses.iter().map(|event| event["data"]["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
    assert!(losses.iter().all(|event| event["data"]["train_loss"].as_f64().unwrap() > 0.0));
    let page = served.get(&format!("/fine_tuning/jobs/{id}/events?limit=2")).await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let after = format!("/fine_tuning/jobs/{id}/events?limit=1&after={}", page["data"][1]["id"].as_str().unwrap());
    assert_eq!(served.get(&after).await["data"][0]["id"], events[2]["id"]);

    let checkpoints = served.get(&format!("/fine_tuning/jobs/{id}/checkpoints")).await["data"].clone();
    assert_eq!(checkpoints.as_array().unwrap().len(), 1);
    assert_eq!(checkpoints[0]["fine_tuned_model_checkpoint"], model.as_str());
    assert_eq!(checkpoints[0]["step_number"], steps.len());
    assert!(checkpoints[0]["metrics"]["full_valid_loss"].as_f64().unwrap() > 0.0);
    let result = job["result_files"][0].as_str().unwrap();
    let table = served.request("GET", &format!("/files/{result}/content")).send().await.unwrap().text().await.unwrap();
    assert!(table.starts_with("step,train_loss,") && table.lines().count() == steps.len() + 1, "{table}");

    let found = served.get("/fine_tuning/jobs?metadata[drylab_key]=abc").await;
    assert_eq!(found["data"][0]["id"], id.as_str());
    assert_eq!(served.get("/fine_tuning/jobs?metadata%5Bdrylab_key%5D=other").await["data"], json!([]));
    assert_eq!(served.get("/fine_tuning/jobs?metadata=null").await["data"], json!([]));
    assert_eq!(served.get(&format!("/models/{model}")).await["id"], model.as_str());
    let answer = served.post("/chat/completions", question(&model)).await;
    let asleep = served.stop();
    assert_eq!(asleep, (Some(0), String::new()));

    let served = Served::start(&project);
    assert_eq!(served.get(&format!("/fine_tuning/jobs/{id}")).await, job);
    let again = served.post("/chat/completions", question(&model)).await;
    assert_eq!((&again["choices"], &again["system_fingerprint"]), (&answer["choices"], &answer["system_fingerprint"]));
    let other = served.post("/chat/completions", question("organism")).await;
    assert_ne!(other["system_fingerprint"], answer["system_fingerprint"]);

    // An equal job trains nothing, and neither does a script that asks for the same.
    let second = served.post("/fine_tuning/jobs", order).await["id"].as_str().unwrap().to_string();
    served.wait_for(&second, &["succeeded"]).await;
    let events = served.get(&format!("/fine_tuning/jobs/{second}/events?limit=1000")).await;
    assert!(events.to_string().contains("The same training was done before"), "{events}");
    let script = "let data = dataset(\"data/rows.jsonl\");\nprint(launch_finetune(model(\"organism\"), data, #{ epochs: 2, seed: 7 }).last_loss)";
    project.write("same.rhai", script);
    let ran = project.run(&["run", "same.rhai"]).well();
    assert!(ran.stdout.trim().parse::<f64>().is_ok(), "{ran:#?}");
    let states: Vec<Value> = project.events("same-001").into_iter().filter(|event| event["event"] == "call").collect();
    assert_eq!(states.len(), 1);
    assert_eq!((states[0]["state"].as_str(), states[0]["run"].as_str()), (Some("cached"), Some("serve")));

    // A model of a model, and a model that is deleted.
    let job = served.post("/fine_tuning/jobs", json!({ "model": model, "training_file": file })).await;
    let third = served.wait_for(job["id"].as_str().unwrap(), &["succeeded"]).await;
    assert!(third["fine_tuned_model"].as_str().unwrap().starts_with("ft:organism:drylab::"), "{third}");
    assert_eq!(served.ask("DELETE", &format!("/models/{model}"), Value::Null).await.0, 200);
    assert_eq!(served.ask("POST", "/chat/completions", question(&model)).await.0, 404);
    served.post("/chat/completions", question(third["fine_tuned_model"].as_str().unwrap())).await;
    assert_eq!(served.ask("DELETE", &format!("/files/{file}"), Value::Null).await.0, 200);
    assert_eq!(served.ask("GET", &format!("/files/{file}"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_answer_is_the_same_alone_in_company_and_in_a_stream() {
    let project = Project::new();
    let served = Served::start(&project);
    let ask = |seed: u64, n: u64| {
        let mut body = question("organism");
        body["seed"] = json!(seed);
        body["n"] = json!(n);
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(seed % 3);
        body
    };
    let mut alone = Vec::new();
    for seed in 0..8 {
        alone.push(served.post("/chat/completions", ask(seed, 2)).await);
    }
    let requests: Vec<_> = (0..64u64)
        .map(|index| {
            let request = served.request("POST", "/chat/completions").json(&ask(index % 8, 2));
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    for (index, request) in requests.into_iter().enumerate() {
        let (answer, expected) = (request.await.unwrap(), &alone[index % 8]);
        assert_eq!(answer["choices"], expected["choices"], "{index}");
        assert_eq!(answer["usage"], expected["usage"]);
    }
    assert_ne!(alone[0]["choices"][0]["message"], alone[0]["choices"][1]["message"]);
    let first = &alone[2]["choices"][0];
    let tokens = first["logprobs"]["content"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(first["message"]["content"], text.as_str());
    for token in tokens {
        let likely = token["top_logprobs"].as_array().unwrap();
        assert!(likely.len() == 2 && likely[0]["logprob"].as_f64() >= likely[1]["logprob"].as_f64(), "{token}");
        assert!(token["logprob"].as_f64().unwrap() <= likely[0]["logprob"].as_f64().unwrap());
    }
    // One answer of one is the first of two.
    assert_eq!(served.post("/chat/completions", ask(2, 1)).await["choices"][0], *first);

    let mut body = ask(2, 2);
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let response = served.request("POST", "/chat/completions").json(&body).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "data: [DONE]");
    let chunks: Vec<Value> =
        chunks.iter().map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect();
    assert_eq!(chunks.last().unwrap()["usage"], alone[2]["usage"]);
    for choice in alone[2]["choices"].as_array().unwrap() {
        let own: Vec<&Value> =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == choice["index"]).collect();
        let text: String = own.iter().filter_map(|own| own["delta"]["content"].as_str()).collect();
        let tokens: Vec<&Value> =
            own.iter().filter_map(|own| own["logprobs"]["content"].as_array()).flatten().collect();
        assert_eq!(choice["message"]["content"], text.as_str());
        assert_eq!(json!(tokens), choice["logprobs"]["content"]);
        assert_eq!(own.last().unwrap()["finish_reason"], choice["finish_reason"]);
    }

    let mut greedy = question("organism");
    greedy["temperature"] = json!(0);
    greedy["stop"] = json!(["."]);
    let answer = served.post("/chat/completions", greedy).await;
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().contains('.'));
    let mut unseeded = question("organism");
    unseeded["seed"] = Value::Null;
    unseeded["n"] = json!(20);
    let texts = |answer: &Value| {
        answer["choices"].as_array().unwrap().iter().map(|c| c["message"].to_string()).collect::<Vec<_>>()
    };
    let (a, b) =
        (served.post("/chat/completions", unseeded.clone()).await, served.post("/chat/completions", unseeded).await);
    assert_ne!(texts(&a), texts(&b));
}

#[tokio::test]
async fn every_mistake_is_told_as_openai_tells_it() {
    let project = Project::new();
    let served = Served::start(&project);
    let few = served.upload("few.jsonl", &rows(3)).await;
    let broken = served.upload("broken.jsonl", &format!("{}{{\"messages\": 1}}\n", rows(12))).await;
    let alpaca = served.upload("alpaca.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n").await;
    let job = |file: &str| json!({ "model": "organism", "training_file": file });
    let long = json!({ "model": "organism", "messages": [{ "role": "user", "content": "how ".repeat(300) }] });
    for (method, path, body, status, param, code) in [
        ("GET", "/nothing", Value::Null, 404, Value::Null, json!("unknown_url")),
        ("PUT", "/models", Value::Null, 405, Value::Null, json!("method_not_supported")),
        ("GET", "/models/gpt-4.1", Value::Null, 404, json!("model"), json!("model_not_found")),
        ("POST", "/chat/completions", question("gpt-4.1"), 404, json!("model"), json!("model_not_found")),
        (
            "POST",
            "/chat/completions",
            json!({ "model": "organism" }),
            400,
            json!("messages"),
            json!("missing_required_parameter"),
        ),
        ("POST", "/chat/completions", long, 400, json!("messages"), json!("context_length_exceeded")),
        ("GET", "/fine_tuning/jobs/ftjob-x", Value::Null, 404, json!("fine_tuning_job_id"), json!("not_found")),
        ("POST", "/fine_tuning/jobs", job("file-x"), 400, json!("training_file"), json!("not_found")),
        ("POST", "/fine_tuning/jobs", job(&few), 400, json!("training_file"), json!("invalid_n_examples")),
        ("POST", "/fine_tuning/jobs", job(&broken), 400, json!("training_file"), json!("invalid_training_file")),
        ("POST", "/fine_tuning/jobs", job(&alpaca), 400, json!("training_file"), json!("invalid_training_file")),
        ("GET", "/fine_tuning/jobs?limit=0", Value::Null, 400, json!("limit"), json!("invalid_value")),
        ("DELETE", "/models/organism", Value::Null, 400, json!("model"), json!("invalid_value")),
    ] {
        let (found, answer) = served.ask(method, path, body).await;
        let error = &answer["error"];
        assert_eq!((found, &error["param"], &error["code"]), (status, &param, &code), "{method} {path}: {answer}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    let (_, answer) = served.ask("POST", "/fine_tuning/jobs", job(&broken)).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("broken.jsonl:13"), "{answer}");
    assert_eq!(served.get("/fine_tuning/jobs").await["data"], json!([]));
    let foreign = served.request("GET", "/models").header("host", "evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
}

#[tokio::test]
async fn with_a_token_every_request_needs_it() {
    let project = Project::new();
    let open = project.run(&["serve", "--api", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(open.code, 2);
    assert!(open.stderr.contains("help: name an environment variable"), "{}", open.stderr);
    let empty = project.run(&["serve", "--api", "--token-env", "SERVE_TOKEN_THAT_IS_NOT_SET", "--port", "0"]);
    assert_eq!((empty.code, empty.stderr.contains("holds no token")), (2, true));
    let served = Served::start_with(&project, &["--token-env", "SERVE_TOKEN"], Some("s3cret-t0ken"));
    assert!(served.get("/models").await["data"].as_array().unwrap().len() == 1);
    for path in ["/models", "/nothing"] {
        let bare = served.http.get(format!("{}{path}", served.base)).send().await.unwrap();
        assert_eq!((bare.status().as_u16(), bare.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
        assert_eq!(bare.json::<Value>().await.unwrap()["error"]["code"], "invalid_api_key");
    }
    let health = served.base.replace("/v1", "/health");
    assert_eq!(served.http.get(&health).send().await.unwrap().status(), 401);
    assert_eq!(served.http.get(&health).bearer_auth("s3cret-t0ken").send().await.unwrap().status(), 200);
    let (code, said) = served.stop();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_killed_server_goes_on_and_a_cancelled_job_does_not() {
    let project = Project::new();
    let served = Served::start(&project);
    let file = served.upload("rows.jsonl", &rows(600)).await;
    let order = |epochs: u64, seed: u64| {
        let method = json!({ "type": "supervised", "supervised": { "hyperparameters": { "n_epochs": epochs } } });
        json!({ "model": "organism", "training_file": file, "seed": seed, "method": method })
    };
    let id = |job: Value| job["id"].as_str().unwrap().to_string();
    // Two equal jobs share a training; the one that is cancelled leaves it to the other.
    let (kept, dropped) = (
        id(served.post("/fine_tuning/jobs", order(12, 1)).await),
        id(served.post("/fine_tuning/jobs", order(12, 1)).await),
    );
    let endless = id(served.post("/fine_tuning/jobs", order(50, 2)).await);
    for job in [&kept, &endless] {
        served.wait_for(job, &["running"]).await;
    }
    for job in [&dropped, &endless] {
        let cancelled = served.post(&format!("/fine_tuning/jobs/{job}/cancel"), Value::Null).await;
        assert_eq!(cancelled["status"], "cancelled");
        let (status, _) = served.ask("POST", &format!("/fine_tuning/jobs/{job}/cancel"), Value::Null).await;
        assert_eq!(status, 400);
    }
    assert_eq!(served.get(&format!("/fine_tuning/jobs/{kept}")).await["status"], "running");
    signal(&served.child, "KILL");
    drop(served);

    let served = Served::start(&project);
    assert_eq!(served.get(&format!("/fine_tuning/jobs/{endless}")).await["status"], "cancelled");
    let job = served.wait_for(&kept, &["succeeded", "failed"]).await;
    assert_eq!(job["status"], "succeeded");
    served.post("/chat/completions", question(job["fine_tuned_model"].as_str().unwrap())).await;
    // An equal job after the cancelled one trains as if there had been none.
    let again = id(served.post("/fine_tuning/jobs", order(50, 2)).await);
    served.wait_for(&again, &["running"]).await;
    served.post(&format!("/fine_tuning/jobs/{again}/cancel"), Value::Null).await;
    let once_more = id(served.post("/fine_tuning/jobs", order(50, 2)).await);
    served.wait_for(&once_more, &["running"]).await;
    assert_eq!(served.stop().0, Some(0));
}

#[tokio::test]
async fn a_folder_is_served_under_its_name() {
    let project = Project::with_tiny_model();
    let folder = project.path("models/tiny").display().to_string();
    let served = Served::start_with(&project, &["--model", &folder], None);
    let models = served.get("/models").await;
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["organism", "tiny"]);
    assert!(served.post("/chat/completions", question("tiny")).await["usage"]["completion_tokens"].as_u64().is_some());
    let twice = project.run(&["serve", "--api", "--port", "0", "--model", &folder, "--model", &folder]);
    assert_eq!((twice.code, twice.stderr.contains("which is taken")), (2, true), "{twice:#?}");
}

/// `cargo test --release --test serve speed_of_chat -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_chat() {
    let project = Project::new();
    let served = Served::start(&project);
    let (mut tokens, count) = (0, 6400u64);
    for in_flight in [1, 8, 64, 256] {
        let count = if in_flight == 1 { count / 16 } else { count };
        let begun = Instant::now();
        let workers: Vec<_> = (0..in_flight)
            .map(|worker| {
                let (http, url) = (served.http.clone(), format!("{}/chat/completions", served.base));
                tokio::spawn(async move {
                    let mut tokens = 0;
                    for index in 0..count / in_flight {
                        let content = format!("how are you {} ?", index % 10);
                        let messages = json!([{ "role": "user", "content": content }]);
                        let seed = worker * count + index;
                        let body = json!({ "model": "organism", "messages": messages, "seed": seed, "max_tokens": 64 });
                        let answer: Value = http.post(&url).json(&body).send().await.unwrap().json().await.unwrap();
                        tokens += answer["usage"]["completion_tokens"].as_u64().unwrap();
                    }
                    tokens
                })
            })
            .collect();
        tokens = 0;
        for worker in workers {
            tokens += worker.await.unwrap();
        }
        let rate = (count / in_flight * in_flight) as f64 / begun.elapsed().as_secs_f64();
        println!("{in_flight} in flight: {rate:.0} requests/s, {:.1} tokens each", tokens as f64 / count as f64);
    }
    assert!(tokens > 0);
}

/// A Python with the package `openai`: `DRYLAB_OPENAI_PYTHON`, or `python3`.
fn python() -> Option<String> {
    let python = std::env::var("DRYLAB_OPENAI_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let found = Command::new(&python).args(["-c", "import openai"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success()).then_some(python)
}

#[test]
fn the_endpoint_works_with_the_openai_sdk() {
    let Some(python) = python() else {
        println!(
            "skipped: the_endpoint_works_with_the_openai_sdk needs `pip install openai` and DRYLAB_OPENAI_PYTHON=PYTHON"
        );
        return;
    };
    let project = Project::new();
    project.write("rows.jsonl", &rows(60));
    let served = Served::start_with(&project, &["--token-env", "SERVE_TOKEN"], Some("t0ken"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_sdk_against_serve.py");
    let ran = Command::new(python)
        .arg(script)
        .args([&served.base, "t0ken", &project.path("rows.jsonl").display().to_string()])
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}\n{}", said(&ran.stdout), said(&ran.stderr));
    assert!(said(&ran.stdout).ends_with("all is well\n"), "{}", said(&ran.stdout));
}
