//! Batches: checked, worked off, finished in any order, expired in the middle.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::chat;
use super::faults::mix;
use super::files;
use super::reply::{Reply, check_metadata, page};
use super::route::{Call, Outcome};
use super::script::{BatchEnd, BatchScript, RowFate};
use super::state::{Caller, State, World};

/// A batch.
#[derive(Clone)]
pub struct Batch {
    caller: Caller,
    created: Instant,
    lists_seen: u32,
    object: Value,
    plan: VecDeque<(&'static str, u32)>,
    script: BatchScript,
}

impl Batch {
    fn status(&self) -> &str {
        self.object["status"].as_str().unwrap_or_default()
    }
    fn is_over(&self) -> bool {
        matches!(self.status(), "completed" | "failed" | "expired" | "cancelled")
    }
    fn enter(&mut self, state: &State, status: &str) {
        self.object["status"] = json!(status);
        self.object[format!("{status}_at")] = json!(state.now());
    }
    fn shown(&self, forget_metadata: bool) -> Value {
        let mut object = self.object.clone();
        if forget_metadata {
            object["metadata"] = Value::Null;
        }
        object
    }
}

pub fn object(batch: &Batch) -> Value {
    batch.object.clone()
}

pub fn create(state: &State, call: &Call) -> Outcome {
    let request = call.json()?;
    let refuse = |param: &str, message: &str| Err(Box::new(Reply::bad(param, message)));
    let input = request["input_file_id"].as_str().unwrap_or_default();
    let mut world = state.world.lock().unwrap();
    match files::find(&world, &call.caller.project, input) {
        None => return refuse("input_file_id", &format!("File '{input}' does not exist")),
        Some(file) if file.purpose != "batch" => {
            return refuse("input_file_id", &format!("File '{input}' has the wrong purpose '{}'", file.purpose));
        }
        Some(_) => {}
    }
    if !["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions"]
        .iter()
        .any(|endpoint| request["endpoint"] == *endpoint)
    {
        return refuse("endpoint", "Invalid value for 'endpoint'.");
    }
    if request["completion_window"] != "24h" {
        return refuse("completion_window", "Invalid value for 'completion_window': supported is '24h'.");
    }
    check_metadata(&request["metadata"])?;
    let script = match world.next_batch_scripts.pop_front() {
        Some(script) => script,
        None => state.settings.read().unwrap().batch_script.clone(),
    };
    let now = state.now();
    let object = json!({
        "id": state.next_id("batch_"),
        "object": "batch",
        "endpoint": request["endpoint"],
        "input_file_id": input,
        "completion_window": "24h",
        "status": "validating",
        "created_at": now,
        "expires_at": now + 86_400,
        "request_counts": { "total": 0, "completed": 0, "failed": 0 },
        "metadata": request["metadata"],
    });
    let names = ["validating", "in_progress", "finalizing"];
    let plan = names.into_iter().zip(script.polls).collect();
    let caller = Caller::clone(&call.caller);
    let batch = Batch { caller, created: Instant::now(), lists_seen: 0, object, plan, script };
    let shown = batch.shown(state.settings.read().unwrap().forget_metadata);
    world.batches.push(batch);
    Ok(Reply::json(&shown))
}

fn find(world: &World, call: &Call, id: &str) -> Result<usize, Box<Reply>> {
    let is_it = |batch: &Batch| batch.object["id"] == id && batch.caller.project == call.caller.project;
    world
        .batches
        .iter()
        .position(is_it)
        .ok_or_else(|| Box::new(Reply::not_found(&format!("No batch found with id '{id}'."))))
}

pub fn list(state: &State, call: &Call) -> Outcome {
    let limit = call.query.iter().find(|(name, _)| name == "limit").and_then(|(_, value)| value.parse::<u32>().ok());
    if limit.is_some_and(|limit| limit > 100) {
        return Err(Box::new(Reply::bad("limit", "Invalid 'limit': expected an integer from 1 to 100.")));
    }
    let mut world = state.world.lock().unwrap();
    let settings = state.settings.read().unwrap();
    let mut objects = Vec::new();
    for batch in world.batches.iter_mut().rev().filter(|batch| batch.caller.project == call.caller.project) {
        batch.lists_seen += 1;
        if batch.lists_seen > settings.list_lag_calls && batch.created.elapsed() >= settings.list_lag {
            objects.push(batch.shown(settings.forget_metadata));
        }
    }
    Ok(Reply::json(&page(objects, &call.query, 20, settings.page_cap)?))
}

pub fn retrieve(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = find(&world, call, id)?;
    let forget_metadata = state.settings.read().unwrap().forget_metadata;
    let is_spent = |batch: &Batch| batch.plan.front().is_some_and(|(_, polls)| *polls == 0);
    while is_spent(&world.batches[index]) {
        advance(state, &mut world, index);
    }
    let shown = world.batches[index].shown(forget_metadata);
    advance(state, &mut world, index);
    Ok(Reply::json(&shown))
}

pub fn cancel(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = find(&world, call, id)?;
    let batch = &mut world.batches[index];
    if batch.is_over() {
        let message = format!("Cannot cancel a batch with status '{}'.", batch.status());
        return Err(Box::new(Reply::error(409, "invalid_request_error", None, None, &message)));
    }
    batch.enter(state, "cancelling");
    batch.plan = VecDeque::from([("cancelling", 1)]);
    Ok(Reply::json(&batch.object))
}

/// Counts one poll.
fn advance(state: &State, world: &mut World, index: usize) {
    let batch = &mut world.batches[index];
    if batch.is_over() {
        return;
    }
    if let Some((_, polls)) = batch.plan.front_mut().filter(|(_, polls)| *polls > 1) {
        *polls -= 1;
        return;
    }
    let left = batch.plan.pop_front().map(|(status, _)| status);
    match left {
        Some("validating") => {
            let checked = check_rows(world, index);
            let batch = &mut world.batches[index];
            let refused = match (&batch.script.end, checked) {
                (BatchEnd::Failed(code, message), _) => Err(json!({ "code": code, "message": message, "line": 1 })),
                (_, checked) => checked,
            };
            match refused {
                Ok(total) => {
                    batch.object["request_counts"]["total"] = json!(total);
                    batch.enter(state, "in_progress");
                }
                Err(error) => {
                    batch.plan.clear();
                    batch.object["errors"] = json!({ "object": "list", "data": [error] });
                    batch.enter(state, "failed");
                }
            }
        }
        Some("in_progress") => batch.enter(state, "finalizing"),
        Some("cancelling") => {
            // Half of the rows were done by then.
            let total = batch.object["request_counts"]["total"].as_u64().unwrap_or_default() as usize;
            finish(state, world, index, total / 2, "cancelled");
        }
        _ => match batch.script.end {
            BatchEnd::ExpiredAfter(rows) => finish(state, world, index, rows, "expired"),
            _ => finish(state, world, index, usize::MAX, "completed"),
        },
    }
}

fn rows(world: &World, index: usize) -> Vec<Result<Value, ()>> {
    let batch = &world.batches[index];
    let input = batch.object["input_file_id"].as_str().unwrap_or_default();
    let content = files::find(world, &batch.caller.project, input).map(|file| file.content.clone()).unwrap_or_default();
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|_| ())).collect()
}

/// The number of rows, or what is wrong with one.
fn check_rows(world: &World, index: usize) -> Result<usize, Value> {
    let endpoint = &world.batches[index].object["endpoint"];
    let rows = rows(world, index);
    let wrong = |line: usize, code: &str, message: &str| {
        Err(json!({ "code": code, "message": message, "line": line, "param": null }))
    };
    if rows.is_empty() {
        return wrong(1, "empty_file", "The input file is empty.");
    }
    if rows.len() > 50_000 {
        return wrong(
            50_001,
            "too_many_tasks",
            "The batch input file contains too many requests. The limit is 50,000.",
        );
    }
    let (mut ids, mut models) = (BTreeSet::new(), BTreeSet::new());
    for (place, row) in rows.iter().enumerate() {
        let line = place + 1;
        let Ok(row) = row else {
            return wrong(line, "invalid_json_line", "This line is not parseable as valid JSON.");
        };
        let Some(id) = row["custom_id"].as_str() else {
            return wrong(line, "missing_required_parameter", "Missing required parameter: 'custom_id'.");
        };
        if !ids.insert(id) {
            return wrong(line, "duplicate_custom_id", "The custom_id for this request is a duplicate of another.");
        }
        if row["method"] != "POST" || &row["url"] != endpoint || !row["body"].is_object() {
            return wrong(line, "mismatched_url", "The method, URL or body does not match the batch's endpoint.");
        }
        models.insert(row["body"]["model"].as_str().unwrap_or_default());
        if models.len() > 1 {
            return wrong(line, "mismatched_model", "All requests of a batch must use the same model.");
        }
    }
    Ok(rows.len())
}

/// Answers the first `done` rows and ends the batch.
fn finish(state: &State, world: &mut World, index: usize, done: usize, status: &str) {
    let rows = rows(world, index);
    let (caller, fate) = (world.batches[index].caller.clone(), world.batches[index].script.fate);
    let (mut outputs, mut errors) = (Vec::new(), Vec::new());
    let (mut completed, mut failed) = (0u64, 0u64);
    for (place, row) in rows.iter().flatten().enumerate() {
        let custom_id = row["custom_id"].as_str().unwrap_or_default();
        let line = |response: Value, error: Value| {
            let id = state.next_id("batch_req_");
            json!({ "id": id, "custom_id": custom_id, "response": response, "error": error }).to_string()
        };
        let response = |status: u16, body: &[u8]| {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            json!({ "status_code": status, "request_id": state.next_id("req_"), "body": body })
        };
        if place >= done {
            failed += 1;
            let message = "This request could not be executed before the completion window expired.";
            let error = json!({ "code": format!("batch_{status}"), "message": message });
            errors.push(line(Value::Null, error));
            continue;
        }
        match fate(custom_id) {
            RowFate::Lost => continue,
            RowFate::Broken => {
                failed += 1;
                errors.push(line(response(500, &super::faults::usual(500).body), Value::Null));
                continue;
            }
            RowFate::Answered | RowFate::Twice => {}
        }
        match chat::complete_row(state, &caller, &Bytes::from(row["body"].to_string())) {
            Ok((body, usage)) => {
                completed += 1;
                state.batch_prompt_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
                state.batch_completion_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
                let copies = if fate(custom_id) == RowFate::Twice { 2 } else { 1 };
                outputs.extend((0..copies).map(|_| line(response(200, &body), Value::Null)));
            }
            Err(refusal) => {
                failed += 1;
                errors.push(line(response(refusal.status, &refusal.body), Value::Null));
            }
        }
    }
    // Nobody promises an order.
    let mut places: Vec<usize> = (0..outputs.len()).collect();
    places.sort_by_key(|place| mix(*place as u64));
    let outputs: Vec<String> = places.into_iter().map(|place| outputs[place].clone()).collect();
    for (field, name, lines) in [("output_file_id", "output", outputs), ("error_file_id", "errors", errors)] {
        if lines.is_empty() {
            continue;
        }
        let id = world.batches[index].object["id"].as_str().unwrap_or_default().to_string();
        let (name, content) = (format!("{id}_{name}.jsonl"), Bytes::from(lines.join("\n") + "\n"));
        let file = files::insert(state, world, &caller.project, &name, "batch_output", content);
        world.batches[index].object[field] = json!(file);
    }
    let batch = &mut world.batches[index];
    batch.object["request_counts"] = json!({ "total": rows.len(), "completed": completed, "failed": failed });
    batch.enter(state, status);
}
