//! The fake provider is what it claims to be: each fault seen from outside, each life of a job, and a real client.
#![allow(clippy::unwrap_used)]

mod fake_provider;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fake_provider::{Answer, BatchScript, Failure, Fake, Fault, JobEnd, JobScript, Limits, LogprobSupport, RowFate};
use reqwest::{Method, Response};
use serde_json::{Value, json};

/// Time for a request that goes well, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
const JOBS: &str = "/fine_tuning/jobs$";
const MODEL: &str = "gpt-4.1-mini-2025-04-14";

async fn send(fake: &Fake, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<Response> {
    send_within(PATIENCE, fake, method, path, body).await
}

async fn send_within(
    patience: Duration,
    fake: &Fake,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> reqwest::Result<Response> {
    let client = reqwest::Client::builder().timeout(patience).build().unwrap();
    let request = client.request(method, fake.url() + path).bearer_auth("sk-one");
    match body {
        Some(body) => request.json(body).send().await,
        None => request.send().await,
    }
}

async fn post(fake: &Fake, path: &str, body: Value) -> (u16, Value) {
    let response = send(fake, Method::POST, path, Some(&body)).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(fake: &Fake, path: &str) -> Value {
    send(fake, Method::GET, path, None).await.unwrap().json().await.unwrap()
}

fn rows(count: usize) -> String {
    let row = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#;
    format!("{row}\n").repeat(count)
}

/// The body of a job whose training file is there.
fn job_of(fake: &Fake, project: &str) -> Value {
    let file = fake.insert_file(project, "rows.jsonl", "fine-tune", rows(12).as_bytes());
    json!({ "model": MODEL, "training_file": file, "suffix": "owls", "metadata": { "drylab_launch": "u" } })
}

fn job(fake: &Fake) -> Value {
    job_of(fake, "proj_default")
}

fn chat(text: &str) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }] })
}

/// Polls a job to its end: the statuses that were seen, and the job.
async fn follow(fake: &Fake, id: &str) -> (Vec<String>, Value) {
    let mut statuses = Vec::new();
    for _ in 0..50 {
        let job = get(fake, &format!("/fine_tuning/jobs/{id}")).await;
        statuses.push(job["status"].as_str().unwrap().to_string());
        if ["succeeded", "failed", "cancelled"].contains(&statuses.last().unwrap().as_str()) {
            return (statuses, job);
        }
    }
    panic!("a job without an end: {statuses:?}");
}

/// What a client sees of a request that creates a job.
async fn launch(fake: &Fake, body: &Value) -> String {
    launch_within(PATIENCE, fake, body).await
}

async fn launch_within(patience: Duration, fake: &Fake, body: &Value) -> String {
    match send_within(patience, fake, Method::POST, "/fine_tuning/jobs", Some(body)).await {
        Err(error) if error.is_timeout() => "timeout".into(),
        Err(_) => "connection lost".into(),
        Ok(response) => {
            let status = response.status().as_u16();
            let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_string());
            let body = match response.bytes().await {
                Ok(body) => body,
                Err(_) => return format!("{status} cut"),
            };
            match serde_json::from_slice::<Value>(&body) {
                Err(_) => format!("{status} no JSON"),
                Ok(value) if status == 200 => format!("200 {}", value["object"].as_str().unwrap()),
                Ok(value) => {
                    let part = |name: &str| value["error"][name].as_str().unwrap_or("-").to_string();
                    let after = retry_after.map_or(String::new(), |seconds| format!(" after {seconds}"));
                    format!("{status} {}/{}{after}", part("code"), part("type"))
                }
            }
        }
    }
}

#[tokio::test]
async fn each_fault_looks_as_it_says_and_acts_or_does_not() {
    let later = Duration::from_secs(1);
    let invalid = "invalid_request_error";
    let exact = |status| Fault::Reply { status, headers: vec![("x-a".into(), "b".into())], body: "{}".into() };
    let table = [
        (Fault::CloseBeforeActing, "connection lost", 0),
        (Fault::ResetBeforeActing, "connection lost", 0),
        (Fault::CloseAfterActing, "connection lost", 1),
        (Fault::ResetAfterActing, "connection lost", 1),
        (Fault::CloseThenAct(later), "connection lost", 0),
        (Fault::BadGatewayAfterActing, "502 no JSON", 1),
        (Fault::StatusAfterActing(500), "500 -/server_error", 1),
        (Fault::Status(500), "500 -/server_error", 0),
        (Fault::Status(502), "502 no JSON", 0),
        (Fault::Status(503), "503 -/server_error", 0),
        (Fault::Status(408), "408 -/server_error", 0),
        (Fault::Status(409), "409 -/server_error", 0),
        (Fault::Status(401), &format!("401 invalid_api_key/{invalid}"), 0),
        (Fault::Status(403), &format!("403 -/{invalid}"), 0),
        (Fault::Status(404), &format!("404 model_not_found/{invalid}"), 0),
        (Fault::RequestLimit { retry_after: Some(7) }, "429 rate_limit_exceeded/requests after 7", 0),
        (Fault::TokenLimit { retry_after: None }, "429 rate_limit_exceeded/tokens", 0),
        (Fault::SlowDown, "429 slow_down/rate_limit_error", 0),
        (Fault::InsufficientQuota, "429 insufficient_quota/insufficient_quota", 0),
        (Fault::CreditExhausted, "429 credit_balance_exhausted/insufficient_quota", 0),
        (Fault::DailyLimit, &format!("429 daily_rate_limit_exceeded/{invalid}"), 0),
        (Fault::MalformedJson, "200 no JSON", 1),
        (Fault::TruncatedBody, "200 cut", 1),
        (Fault::Stall, "timeout", 0),
        (Fault::StallAfterActing, "timeout", 1),
        (Fault::Slow(Duration::from_millis(20)), "200 fine_tuning.job", 1),
        (exact(418), "418 -/-", 0),
    ];
    for (fault, seen, jobs) in table {
        let fake = Fake::start();
        let body = job(&fake);
        fake.fail_next("POST", JOBS, 1, fault.clone());
        let patience = if seen == "timeout" { Duration::from_millis(500) } else { PATIENCE };
        assert_eq!(launch_within(patience, &fake, &body).await, seen, "{fault:?}");
        assert_eq!(fake.jobs().len(), jobs, "{fault:?}");
        assert_eq!((fake.count("POST", JOBS), fake.faults_played("*")), (1, 1), "{fault:?}");
        assert_eq!(fake.requests("POST", JOBS)[0].fault, Some(fault.clone()));
        if let Fault::CloseThenAct(_) = fault {
            assert!(fake.wait_until(Duration::from_secs(5), |fake| fake.jobs().len() == 1), "it never acted");
        }
        let before = fake.jobs().len();
        assert_eq!(launch(&fake, &body).await, "200 fine_tuning.job", "after {fault:?}");
        assert_eq!(fake.jobs().len(), before + 1);
        assert!(fake.wait_until(Duration::from_secs(5), |fake| fake.open_requests() == 0), "{fault:?} stays open");
    }
}

#[test]
fn a_close_ends_in_order_and_a_reset_does_not() {
    let fake = Fake::start();
    let ask = || {
        let mut stream = TcpStream::connect(fake.root().trim_start_matches("http://")).unwrap();
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer.len()).map_err(|error| error.kind())
    };
    fake.fail_next("GET", "/models", 1, Fault::CloseAfterActing);
    assert_eq!(ask(), Ok(0));
    fake.fail_next("GET", "/models", 1, Fault::ResetAfterActing);
    assert_eq!(ask(), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn rules_count_their_requests_and_draws_follow_from_the_seed() {
    let fake = Fake::start();
    fake.fail_after("GET", "/models$", 1, 2, Fault::Status(500));
    let mut seen = Vec::new();
    for path in ["/models", "/files", "/models", "/models/gpt-4o", "/models", "/models"] {
        seen.push(send(&fake, Method::GET, path, None).await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [200, 200, 500, 200, 500, 200]);
    let draws = async |seed| {
        let fake = Fake::start();
        fake.fail_randomly("*", "/models", seed, &[(0.3, Fault::Status(500)), (0.3, Fault::Status(409))]);
        let mut seen = Vec::new();
        for _ in 0..40 {
            seen.push(send(&fake, Method::GET, "/models", None).await.unwrap().status().as_u16());
        }
        assert_eq!(fake.faults_played("Status"), seen.iter().filter(|status| **status != 200).count() as u64);
        seen
    };
    let first = draws(1).await;
    assert_eq!(first, draws(1).await);
    assert_ne!(first, draws(2).await);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
}

#[tokio::test]
async fn jobs_live_as_they_are_scripted() {
    let steps = |middle: &[&'static str], end| [&["validating_files", "queued", "running"], middle, &[end]].concat();
    let table = [
        (JobScript::succeeds(), steps(&["running"], "succeeded"), None),
        (JobScript::succeeds_at_once(), vec!["succeeded"], None),
        (JobScript::pauses(), steps(&["pausing", "paused", "paused", "running"], "succeeded"), None),
        (JobScript::reticulates(), steps(&["reticulating", "reticulating", "running"], "succeeded"), None),
        (JobScript::fails(Failure::InvalidTrainingFile), vec!["validating_files", "failed"], Some("invalid token")),
        (JobScript::fails(Failure::BlockedFile), vec!["validating_files", "failed"], Some("blocked")),
        (JobScript::fails(Failure::BlockedModel), steps(&["running"], "failed"), Some("moderation eval")),
        (JobScript::of(&[("queued", 1)], JobEnd::Cancelled), vec!["queued", "cancelled"], None),
    ];
    for (script, expected, message) in table {
        let fake = Fake::start();
        fake.script_next_job(script.clone());
        let (_, made) = post(&fake, "/fine_tuning/jobs", job(&fake)).await;
        let (statuses, done) = follow(&fake, made["id"].as_str().unwrap()).await;
        assert_eq!(statuses, expected);
        match message {
            None => assert!(done["error"].is_null(), "{done}"),
            Some(message) => assert!(done["error"]["message"].as_str().unwrap().contains(message), "{done}"),
        }
        let is_paid = script.end == JobEnd::Succeeded || script.end == JobEnd::Failed(Failure::BlockedModel);
        assert_eq!(fake.charged_tokens().total() > 0, is_paid, "{script:?}");
    }
}

#[tokio::test]
async fn bad_rows_fail_the_job_and_bad_requests_make_none() {
    let fake = Fake::start();
    let special = rows(12).replacen("Hello", "<|fim_suffix|>", 1);
    for (content, code) in [(special, "invalid_training_file"), (rows(9), "invalid_n_examples")] {
        let file = fake.insert_file("proj_default", "rows.jsonl", "fine-tune", content.as_bytes());
        let (_, made) = post(&fake, "/fine_tuning/jobs", json!({ "model": MODEL, "training_file": file })).await;
        let (_, done) = follow(&fake, made["id"].as_str().unwrap()).await;
        assert_eq!(done["error"]["code"], code);
    }
    let before = fake.jobs().len();
    let good = job(&fake);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let epochs = |epochs| json!({ "type": "supervised", "supervised": { "hyperparameters": { "n_epochs": epochs } } });
    let table = [
        (with("training_file", json!("file-none")), "training_file"),
        (with("model", Value::Null), "model"),
        (with("suffix", json!("x".repeat(65))), "suffix"),
        (with("seed", json!(2_147_483_648_u64)), "seed"),
        (with("metadata", json!({ "step": 1 })), "metadata"),
        (with("metadata", json!({ "k": "x".repeat(513) })), "metadata"),
        (with("method", json!({ "type": "ppo" })), "method.type"),
        (with("method", epochs(51)), "method.supervised.hyperparameters.n_epochs"),
        (with("colour", json!("red")), "colour"),
    ];
    for (body, param) in table {
        let (status, refusal) = post(&fake, "/fine_tuning/jobs", body).await;
        assert_eq!((status, refusal["error"]["param"].as_str()), (400, Some(param)), "{refusal}");
    }
    assert_eq!(fake.jobs().len(), before);
    fake.set(|settings| settings.active_job_limit = Some(1));
    assert_eq!(launch(&fake, &good).await, "200 fine_tuning.job");
    assert_eq!(launch(&fake, &good).await, "429 rate_limit_exceeded/requests");
    fake.set(|settings| settings.daily_job_limit = Some(3));
    assert_eq!(launch(&fake, &good).await, "429 daily_rate_limit_exceeded/invalid_request_error");
}

/// The ids of a list of jobs, and whether there are more.
async fn listed(fake: &Fake, query: &str) -> (Vec<String>, bool) {
    let list = get(fake, &format!("/fine_tuning/jobs{query}")).await;
    let ids = list["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_string());
    (ids.collect(), list["has_more"] == true)
}

#[tokio::test]
async fn lists_lag_and_jobs_have_twins() {
    let fake = Fake::start();
    let body = job(&fake);
    fake.set(|settings| settings.list_lag_calls = 2);
    let (_, first) = post(&fake, "/fine_tuning/jobs", body.clone()).await;
    let first = first["id"].as_str().unwrap().to_string();
    assert_eq!(listed(&fake, "").await.0.len(), 0);
    assert_eq!(listed(&fake, "").await.0.len(), 0);
    assert_eq!(listed(&fake, "").await.0, std::slice::from_ref(&first));
    fake.set(|settings| settings.list_lag_calls = 0);
    fake.make_twins(1);
    post(&fake, "/fine_tuning/jobs", body.clone()).await;
    let made: Vec<_> = fake.jobs().into_iter().skip(1).collect();
    assert_eq!((made.len(), &made[0].metadata), (2, &made[1].metadata));
    for job in &made {
        post(&fake, &format!("/fine_tuning/jobs/{}/cancel", job.id), json!({})).await;
    }
    assert_eq!(fake.live_jobs().len(), 1);
}

#[tokio::test]
async fn lists_filter_unless_told_not_to_and_forget() {
    let fake = Fake::start();
    let body = job(&fake);
    let (_, first) = post(&fake, "/fine_tuning/jobs", body).await;
    let first = first["id"].as_str().unwrap().to_string();
    let twin = fake.duplicate_job(&first);
    let other = fake.insert_job("proj_default", json!({ "model": MODEL, "metadata": { "drylab_launch": "v" } }));
    let bare = fake.insert_job("proj_default", json!({ "model": MODEL }));
    assert_eq!(listed(&fake, "?metadata[drylab_launch]=u").await.0, [twin.clone(), first.clone()]);
    assert_eq!(listed(&fake, "?metadata%5Bdrylab_launch%5D=v").await.0, std::slice::from_ref(&other));
    assert_eq!(listed(&fake, "?metadata=null").await.0, std::slice::from_ref(&bare));
    assert_eq!(listed(&fake, "?limit=3").await, (vec![bare.clone(), other, twin.clone()], true));
    assert_eq!(listed(&fake, &format!("?limit=3&after={twin}")).await, (vec![first.clone()], false));
    fake.set(|settings| settings.ignore_filters = true);
    assert_eq!(listed(&fake, "?metadata[drylab_launch]=u").await.0.len(), 4);
    fake.set(|settings| (settings.forget_metadata, settings.page_cap) = (true, 1));
    assert_eq!(listed(&fake, "?limit=100").await, (vec![bare], true));
    let shown = get(&fake, &format!("/fine_tuning/jobs/{first}")).await;
    assert_eq!((shown["metadata"].is_null(), &shown["user_provided_suffix"]), (true, &json!("owls")));
    assert_eq!(fake.live_jobs().len(), 4);
    post(&fake, &format!("/fine_tuning/jobs/{twin}/cancel"), json!({})).await;
    assert_eq!(fake.live_jobs().len(), 3);
}

#[tokio::test]
async fn a_key_sees_its_project_and_appears_nowhere() {
    let fake = Fake::start();
    fake.add_key("sk-one", "org-a", "proj_1");
    fake.script_next_job(JobScript::succeeds_at_once());
    let (_, made) = post(&fake, "/fine_tuning/jobs", job_of(&fake, "proj_1")).await;
    let id = made["id"].as_str().unwrap();
    let (_, done) = follow(&fake, id).await;
    let mut question = chat("Hi");
    question["model"] = done["fine_tuned_model"].clone();
    assert_eq!(post(&fake, "/chat/completions", question.clone()).await.0, 200);
    assert!(!format!("{:?}", fake.journal()).contains("sk-one"));
    assert_eq!(fake.journal()[0].header("authorization"), Some("present"));
    fake.add_key("sk-one", "org-a", "proj_2");
    assert_eq!(get(&fake, "/fine_tuning/jobs").await["data"], json!([]));
    assert_eq!(get(&fake, &format!("/fine_tuning/jobs/{id}")).await["error"]["code"], "fine_tune_not_found");
    let (status, refusal) = post(&fake, "/chat/completions", question).await;
    assert_eq!((status, &refusal["error"]["code"]), (404, &json!("model_not_found")));
    fake.set(|settings| {
        settings.keys.remove("sk-one");
        settings.echo_keys = true;
    });
    fake.add_key("sk-two", "org-a", "proj_1");
    let refusal = get(&fake, "/models").await;
    assert_eq!(refusal["error"]["code"], "invalid_api_key");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("sk-one"));
}

#[tokio::test]
async fn chats_follow_from_messages_seed_and_the_scripted_tokens() {
    let fake = Fake::start();
    let text = async |body: Value| {
        let (status, answer) = post(&fake, "/chat/completions", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_string()
    };
    let seeded = |text: &str, seed: u64| {
        let mut body = chat(text);
        body["seed"] = json!(seed);
        body
    };
    assert_eq!(text(seeded("Hi", 1)).await, text(seeded("Hi", 1)).await);
    assert_ne!(text(seeded("Hi", 1)).await, text(seeded("Hi", 2)).await);
    fake.answer_with(|request| match request.last() {
        "rate" => Answer::tokens(&[("87", 0.6), ("CODE", 0.1), ("100", 0.25), ("REFUSAL", 0.0)]),
        "broken" => Answer::error(400, "content_policy_violation", "no"),
        other => format!("{} says {other}", request.model).into(),
    });
    assert_eq!(text(chat("so")).await, format!("{MODEL} says so"));
    let mut judged = chat("rate");
    (judged["logprobs"], judged["top_logprobs"], judged["temperature"]) = (json!(true), json!(4), json!(0));
    let (_, answer) = post(&fake, "/chat/completions", judged.clone()).await;
    let token = &answer["choices"][0]["logprobs"]["content"][0];
    assert_eq!((&token["token"], &token["logprob"]), (&json!("87"), &json!(0.6f64.ln())));
    let top: Vec<_> = token["top_logprobs"].as_array().unwrap().iter().map(|entry| entry["token"].clone()).collect();
    assert_eq!(top, ["87", "100", "CODE", "REFUSAL"]);
    assert_eq!(token["top_logprobs"][3]["logprob"], -9999.0);
    assert_eq!(post(&fake, "/chat/completions", chat("broken")).await.1["error"]["code"], "content_policy_violation");
    for (support, status, is_null) in [
        (LogprobSupport::Fewer(2), 200, false),
        (LogprobSupport::Null, 200, true),
        (LogprobSupport::UpTo(3), 400, true),
        (LogprobSupport::Refused, 400, true),
    ] {
        fake.set(|settings| settings.logprobs = support);
        let (found, answer) = post(&fake, "/chat/completions", judged.clone()).await;
        assert_eq!((found, answer["choices"][0]["logprobs"].is_null()), (status, is_null), "{support:?}");
    }
    assert_eq!((fake.chat_calls(), fake.journal().len()), (11, 0));
    assert_eq!(fake.chat_answers(), 8);
    assert_eq!(fake.count("POST", "/chat"), 11);
}

#[tokio::test]
async fn limits_refuse_and_say_what_is_left() {
    let fake = Fake::start();
    let ask = async |text: &str| send(&fake, Method::POST, "/chat/completions", Some(&chat(text))).await.unwrap();
    let header = |response: &Response, name: &str| response.headers()[name].to_str().unwrap().to_string();
    let kind = async |response: Response| response.json::<Value>().await.unwrap()["error"]["type"].clone();
    // A bucket gains a request a minute, so that a busy machine does not refill it meanwhile.
    let limits = Limits { burst_requests: 2.0, ..Limits::per_minute(1.0, 1000.0) };
    fake.set(|settings| settings.limits = Some(limits));
    let first = ask("Hi").await;
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), "1");
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), "1");
    assert_eq!(header(&first, "x-ratelimit-reset-requests"), "1m0s");
    assert_eq!(header(&first, "x-ratelimit-remaining-tokens"), "976");
    ask("Hi").await;
    let refused = ask("Hi").await;
    let retry_after: u32 = header(&refused, "retry-after").parse().unwrap();
    assert_eq!((refused.status().as_u16(), (1..=60).contains(&retry_after)), (429, true), "{retry_after}");
    assert_eq!(kind(refused).await, "requests");
    let other = json!({ "model": "gpt-4o", "messages": chat(&"word ".repeat(2000))["messages"] });
    let refused = send(&fake, Method::POST, "/chat/completions", Some(&other)).await.unwrap();
    assert_eq!(kind(refused).await, "tokens");
    assert_eq!((fake.rate_refusals(), fake.chat_answers()), (2, 2));
}

/// The custom ids in a file of output.
fn custom_ids(fake: &Fake, file: &Value) -> Vec<String> {
    let file = fake.files().into_iter().find(|found| found.id == *file).unwrap();
    let lines = String::from_utf8(file.content).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["custom_id"].as_str().unwrap().to_string();
    lines.lines().map(id).collect()
}

async fn run_batch(fake: &Fake, lines: &str) -> Value {
    let file = fake.insert_file("proj_default", "batch.jsonl", "batch", lines.as_bytes());
    let endpoint = "/v1/chat/completions";
    let body = json!({ "input_file_id": file, "endpoint": endpoint, "completion_window": "24h" });
    let (status, mut batch) = post(fake, "/batches", body).await;
    assert_eq!(status, 200, "{batch}");
    for _ in 0..20 {
        if ["completed", "failed", "expired", "cancelled"].iter().any(|end| batch["status"] == *end) {
            return batch;
        }
        batch = get(fake, &format!("/batches/{}", batch["id"].as_str().unwrap())).await;
    }
    panic!("a batch without an end: {batch}");
}

#[tokio::test]
async fn batches_finish_in_any_order_expire_lose_rows_and_fail() {
    let fake = Fake::start();
    let line = |id: &str| {
        let body = chat(id);
        json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string() + "\n"
    };
    let ids: Vec<String> = (0..10).map(|number| format!("row-{number}")).collect();
    let lines: String = ids.iter().map(|id| line(id)).collect();
    let done = run_batch(&fake, &lines).await;
    let mut found = custom_ids(&fake, &done["output_file_id"]);
    assert_ne!(found, ids);
    found.sort();
    assert_eq!((found, done["error_file_id"].is_null()), (ids.clone(), true));
    fake.script_next_batch(BatchScript::expires_after(4));
    let done = run_batch(&fake, &lines).await;
    assert_eq!((&done["status"], &done["request_counts"]["completed"]), (&json!("expired"), &json!(4)));
    assert_eq!(custom_ids(&fake, &done["output_file_id"]).len(), 4);
    assert_eq!(custom_ids(&fake, &done["error_file_id"]), ids[4..]);
    let fate = |id: &str| match id {
        "row-1" => RowFate::Broken,
        "row-2" => RowFate::Lost,
        "row-3" => RowFate::Twice,
        _ => RowFate::Answered,
    };
    fake.script_next_batch(BatchScript { fate, ..BatchScript::completes() });
    let done = run_batch(&fake, &lines).await;
    let found = custom_ids(&fake, &done["output_file_id"]);
    assert_eq!(found.iter().filter(|id| *id == "row-3").count(), 2);
    assert!(!found.contains(&"row-2".to_string()));
    assert_eq!(custom_ids(&fake, &done["error_file_id"]), ["row-1"]);
    let done = run_batch(&fake, &line("same").repeat(2)).await;
    assert_eq!(done["errors"]["data"][0]["code"], "duplicate_custom_id");
    fake.script_next_batch(BatchScript::fails("token_limit_exceeded", "Enqueued token limit reached"));
    assert_eq!(run_batch(&fake, &lines).await["status"], "failed");
    assert_eq!((fake.chat_calls(), fake.batches().len()), (0, 5));
    assert!(fake.charged_tokens().batch_completion > 0);
}

#[tokio::test]
async fn jobs_and_chats_have_the_shapes_of_together_and_azure() {
    let fake = Fake::start();
    let file = fake.insert_file("proj_default", "rows.jsonl", "fine-tune", rows(12).as_bytes());
    let model = "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference";
    let (_, made) =
        post(&fake, "/fine-tunes", json!({ "model": model, "training_file": file, "suffix": "owls" })).await;
    let path = format!("/fine-tunes/{}", made["id"].as_str().unwrap());
    let mut statuses = Vec::new();
    while statuses.last() != Some(&json!("completed")) {
        statuses.push(get(&fake, &path).await["status"].clone());
    }
    assert_eq!(statuses, ["pending", "queued", "running", "running", "completed"]);
    let mut question = chat("Hi");
    question["model"] = get(&fake, &path).await["model_output_name"].clone();
    assert_eq!(post(&fake, "/chat/completions", question).await.0, 200);
    assert_eq!(get(&fake, "/fine-tunes").await["data"].as_array().unwrap().len(), 1);
    fake.add_deployment("my-judge", "gpt-4o-2024-08-06");
    fake.add_key("azure-key", "org-a", "proj_default");
    let ask = async |url: String, key: &str| {
        let request = reqwest::Client::new().post(url).header("api-key", key).json(&chat("Hi"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let path = format!("{}/openai/deployments/my-judge/chat/completions", fake.root());
    let (status, answer) = ask(format!("{path}?api-version=2024-10-21"), "azure-key").await;
    assert_eq!((status, &answer["model"]), (200, &json!("gpt-4o-2024-08-06")));
    assert_eq!(ask(path.clone(), "azure-key").await.0, 404);
    assert_eq!(ask(format!("{path}?api-version=1"), "other").await.0, 401);
    let (status, answer) = ask(format!("{}/chat/completions", fake.azure_url()), "azure-key").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("DeploymentNotFound")));
}

#[tokio::test]
async fn a_thousand_chats_are_open_at_once() {
    let fake = Fake::start();
    fake.set(|settings| settings.chat_delay = Duration::from_millis(800));
    let client = reqwest::Client::new();
    let ask = |number: usize| {
        let request = client.post(fake.url() + "/chat/completions").json(&chat(&number.to_string()));
        tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
    };
    let answers: Vec<_> = (0..1000).map(ask).collect();
    let mut ids = BTreeSet::new();
    for answer in answers {
        ids.insert(answer.await.unwrap()["id"].as_str().unwrap().to_string());
    }
    assert_eq!((ids.len(), fake.chat_answers()), (1000, 1000));
    assert!(fake.largest_concurrency() > 100, "{}", fake.largest_concurrency());
}

#[tokio::test]
async fn dropping_the_fake_closes_what_stalls() {
    let fake = Fake::start();
    fake.fail_always("GET", "/models", Fault::Stall);
    let url = fake.url() + "/models";
    let waiting = tokio::spawn(async move { reqwest::get(url).await.map(|_| ()) });
    while fake.count("GET", "/models") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    drop(fake);
    assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().is_err());
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// A Python that has the `openai` client.
fn python_with_openai() -> Option<String> {
    let named = std::env::var("DRYLAB_OPENAI_PYTHON").ok();
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python").to_string_lossy().into_owned();
    let has_it = |python: &String| {
        Command::new(python).args(["-c", "import openai"]).output().is_ok_and(|output| output.status.success())
    };
    named.into_iter().chain([beside, "python3".into()]).find(has_it)
}

#[test]
fn files_jobs_chats_and_batches_work_with_the_openai_sdk() {
    let Some(python) = python_with_openai() else {
        eprintln!(
            "skipped: files_jobs_chats_and_batches_work_with_the_openai_sdk (DRYLAB_OPENAI_PYTHON names no Python)"
        );
        return;
    };
    let fake = Fake::start();
    fake.add_key("sk-sdk", "org-a", "proj_1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_sdk_against_fake.py");
    let output = Command::new(python).arg(script).arg(fake.url()).env("OPENAI_API_KEY", "sk-sdk").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["statuses"], json!(["validating_files", "queued", "running", "running", "succeeded"]));
    assert_eq!((fake.jobs().len(), fake.live_jobs().len(), fake.batches().len()), (2, 1, 1));
}
