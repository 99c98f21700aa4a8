//! Fine-tuning jobs: created as the real service creates them, moved by polls, listed with a lag.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};

use super::faults::daily_limit;
use super::files;
use super::job_request::check_request;
use super::reply::{Reply, page};
use super::route::{Call, Outcome};
use super::script::{FOREVER, Failure, JobEnd, JobScript};
use super::state::{Caller, JobRecord, Settings, State, World};
use super::training;

/// A job.
#[derive(Clone)]
pub struct Job {
    pub id: String,
    pub project: String,
    pub organization: String,
    pub together: bool,
    pub created_at: i64,
    created: Instant,
    lists_seen: u32,
    pub request: Value,
    pub model: String,
    pub training_file: String,
    pub suffix: Option<String>,
    seed: u64,
    method: Value,
    hyperparameters: Value,
    pub status: String,
    pub error: Value,
    pub fine_tuned_model: Option<String>,
    finished_at: Option<i64>,
    pub trained_tokens: Option<u64>,
    result_files: Vec<String>,
    /// Oldest first.
    pub events: Vec<Value>,
    checkpoints: Vec<Value>,
    plan: VecDeque<(String, u32)>,
    script: JobScript,
    steps_done: u32,
    pub rows: u64,
    pub tokens: u64,
}

impl Job {
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "cancelled")
    }
    fn metadata(&self) -> &Value {
        &self.request["metadata"]
    }
    fn note(&mut self, state: &State, level: &str, message: String, metrics: Option<Value>) {
        self.events.push(json!({
            "object": "fine_tuning.job.event",
            "id": state.next_id("ftevent-"),
            "created_at": state.now(),
            "level": level,
            "message": message,
            "type": if metrics.is_some() { "metrics" } else { "message" },
            "data": metrics.unwrap_or_else(|| json!({})),
        }));
    }
    /// Whether lists show it yet; counts the list that asks.
    pub fn is_listed(&mut self, settings: &Settings) -> bool {
        self.lists_seen = self.lists_seen.saturating_add(1);
        self.lists_seen > settings.list_lag_calls && self.created.elapsed() >= settings.list_lag
    }
    fn object(&self, forget_metadata: bool) -> Value {
        json!({
            "object": "fine_tuning.job",
            "id": self.id,
            "model": self.model,
            "created_at": self.created_at,
            "finished_at": self.finished_at,
            "fine_tuned_model": self.fine_tuned_model,
            "organization_id": self.organization,
            "result_files": self.result_files,
            "status": self.status,
            "validation_file": self.request["validation_file"],
            "training_file": self.training_file,
            "hyperparameters": self.hyperparameters,
            "trained_tokens": self.trained_tokens,
            "error": if self.error.is_null() { Value::Null } else { self.error.clone() },
            "user_provided_suffix": self.suffix,
            "seed": self.seed,
            "estimated_finish": if self.status == "running" { json!(self.created_at + 600) } else { Value::Null },
            "integrations": [],
            "metadata": if forget_metadata { Value::Null } else { self.metadata().clone() },
            "method": self.method,
        })
    }
    fn train(&mut self, state: &State, steps: u32) {
        let total = self.script.training_steps;
        for _ in 0..steps.min(total - self.steps_done) {
            self.steps_done += 1;
            let metrics = training::metrics(self.seed, self.steps_done, total);
            let message = format!("Step {}/{total}: training loss={:.2}", self.steps_done, metrics["train_loss"]);
            self.note(state, "info", message, Some(metrics));
        }
    }
    fn fail(&mut self, state: &State, error: Value) {
        let message = error["message"].as_str().unwrap_or_default().to_string();
        self.note(state, "error", message, None);
        self.status = "failed".into();
        self.error = error;
        self.finished_at = Some(state.now());
        self.plan.clear();
    }
    fn charge(&mut self, state: &State) {
        let tokens = self.script.trained_tokens.unwrap_or(self.tokens);
        self.trained_tokens = Some(tokens);
        state.training_tokens.fetch_add(tokens, Ordering::Relaxed);
    }
}

pub fn record(job: &Job) -> JobRecord {
    let pairs = job.metadata().as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    JobRecord {
        id: job.id.clone(),
        project: job.project.clone(),
        model: job.model.clone(),
        suffix: job.suffix.clone(),
        metadata: pairs.map(|(key, value)| (key.clone(), text(value))).collect::<BTreeMap<_, _>>(),
        training_file: job.training_file.clone(),
        status: job.status.clone(),
        fine_tuned_model: job.fine_tuned_model.clone(),
        trained_tokens: job.trained_tokens,
        created_at: job.created_at,
        request: job.request.clone(),
        together: job.together,
    }
}

/// Adds a job without asking whether it is a good one.
pub fn add(state: &State, world: &mut World, caller: &Caller, request: Value, together: bool) -> usize {
    let script = world.next_scripts.pop_front().unwrap_or_else(|| state.settings.read().unwrap().job_script.clone());
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_string();
    let method = match &request["method"] {
        Value::Null => json!({ "type": "supervised", "supervised": {
            "hyperparameters": request.get("hyperparameters").cloned().unwrap_or_else(|| json!({})) } }),
        method => method.clone(),
    };
    let id = state.next_id(if together { "ft-" } else { "ftjob-" });
    let created_at = state.now();
    let mut job = Job {
        project: caller.project.clone(),
        organization: caller.organization.clone(),
        together,
        created_at,
        created: Instant::now(),
        lists_seen: 0,
        model: text("model"),
        training_file: text("training_file"),
        suffix: request["suffix"].as_str().map(Into::into),
        seed: request["seed"].as_u64().unwrap_or_else(|| super::faults::mix(state.next_serial()) % 2_147_483_648),
        hyperparameters: resolved(&method, false),
        method,
        status: script.steps.first().map_or("validating_files".into(), |(status, _)| status.clone()),
        error: Value::Null,
        fine_tuned_model: None,
        finished_at: None,
        trained_tokens: None,
        result_files: Vec::new(),
        events: Vec::new(),
        checkpoints: Vec::new(),
        plan: script.steps.iter().cloned().collect(),
        script,
        steps_done: 0,
        rows: 0,
        tokens: 0,
        request,
        id,
    };
    job.note(state, "info", format!("Created fine-tuning job: {}", job.id), None);
    job.note(state, "info", format!("Validating training file: {}", job.training_file), None);
    world.jobs.push(job);
    world.jobs.len() - 1
}

/// Hyperparameters as the job shows them, `auto` replaced once the file was read.
fn resolved(method: &Value, is_read: bool) -> Value {
    let kind = method["type"].as_str().unwrap_or("supervised");
    if kind != "supervised" {
        return json!({});
    }
    let given = &method["supervised"]["hyperparameters"];
    let value = |name: &str, chosen: Value| match &given[name] {
        Value::Null | Value::String(_) if is_read => chosen,
        Value::Null => json!("auto"),
        other => other.clone(),
    };
    json!({
        "n_epochs": value("n_epochs", json!(3)),
        "batch_size": value("batch_size", json!(1)),
        "learning_rate_multiplier": value("learning_rate_multiplier", json!(2.0)),
    })
}

/// Counts one poll of a job.
pub fn poll(state: &State, world: &mut World, index: usize) {
    let job = &mut world.jobs[index];
    if job.is_over() {
        return;
    }
    if job.status == "running" {
        let running = job.plan.iter().filter(|(status, _)| status == "running");
        let polls = running.fold(0u32, |sum, (_, polls)| sum.saturating_add(*polls)).max(1);
        let left = job.script.training_steps - job.steps_done;
        // A job that runs for ever never takes its last step.
        let share = if polls == FOREVER { u32::from(left > 1) } else { left.div_ceil(polls) };
        job.train(state, share);
    }
    match job.plan.front_mut() {
        Some((_, FOREVER)) => {}
        Some((_, polls)) if *polls > 1 => *polls -= 1,
        _ => enter_next(state, world, index),
    }
}

/// Leaves the present step.
fn enter_next(state: &State, world: &mut World, index: usize) {
    let job = &mut world.jobs[index];
    let left = job.plan.pop_front();
    let was_validating = left.is_some_and(|(status, _)| status == "validating_files");
    if was_validating && let Err((code, message)) = read_file(state, world, index) {
        let error = json!({ "code": code, "message": message, "param": "training_file" });
        return world.jobs[index].fail(state, error);
    }
    let job = &mut world.jobs[index];
    let Some((status, polls)) = job.plan.front().cloned() else {
        return end(state, world, index);
    };
    let message = match status.as_str() {
        "queued" => "Files validated, moving job to queued state".to_string(),
        "running" => "Fine-tuning job started".into(),
        other => format!("Fine-tuning job is {other}"),
    };
    job.note(state, "info", message, None);
    job.status = status;
    if polls == 0 {
        enter_next(state, world, index);
    }
}

/// Reads the training file: how long it is, and whether it is any good.
fn read_file(state: &State, world: &mut World, index: usize) -> Result<(), (&'static str, String)> {
    let job = &world.jobs[index];
    let content = files::find(world, &job.project, &job.training_file).map(|file| file.content.clone());
    let content = content.unwrap_or_default();
    let read = training::check_rows(&content, job.method["type"] == "dpo");
    let is_checked = state.settings.read().unwrap().check_rows;
    let job = &mut world.jobs[index];
    job.hyperparameters = resolved(&job.method, true);
    match read {
        Err(error) if is_checked => return Err(error),
        Err(_) => job.tokens = (content.len() as u64).div_ceil(4),
        Ok(read) => (job.rows, job.tokens) = (read.rows, read.tokens),
    }
    let epochs = job.request["n_epochs"].as_u64().filter(|_| job.together);
    let kind = job.method["type"].as_str().unwrap_or("supervised");
    let given = job.method[kind]["hyperparameters"]["n_epochs"].as_u64();
    job.tokens *= epochs.or(given).unwrap_or(if job.together { 1 } else { 3 });
    Ok(())
}

/// The scripted end.
fn end(state: &State, world: &mut World, index: usize) {
    let job = &mut world.jobs[index];
    let short = job.id.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    let suffix = job.suffix.clone().unwrap_or_default();
    let organization = job.organization.strip_prefix("org-").unwrap_or(&job.organization).to_string();
    let model = match job.together {
        true => format!("{organization}/{}-{suffix}-{short}", job.model.rsplit('/').next().unwrap_or_default()),
        false => format!("ft:{}:{organization}:{suffix}:{short}", job.model),
    };
    match job.script.end.clone() {
        JobEnd::Cancelled => {
            job.status = "cancelled".into();
            job.finished_at = Some(state.now());
        }
        JobEnd::Failed(failure) => {
            if failure.is_paid() {
                job.train(state, u32::MAX);
                job.charge(state);
            }
            job.fail(state, failure.error(&model));
        }
        JobEnd::Succeeded => {
            job.train(state, u32::MAX);
            job.charge(state);
            let (steps, has_validation) = (job.script.training_steps, job.request["validation_file"].is_string());
            let count = job.script.checkpoints.min(steps);
            for number in (1..=count).rev() {
                let step = steps * number / count;
                let name = if number == count { model.clone() } else { format!("{model}:ckpt-step-{step}") };
                state.models.add(&name, None, Some(&job.project));
                job.checkpoints.push(json!({
                    "object": "fine_tuning.job.checkpoint",
                    "id": state.next_id("ftckpt_"),
                    "created_at": state.now(),
                    "fine_tuned_model_checkpoint": name,
                    "fine_tuning_job_id": job.id,
                    "metrics": training::checkpoint_metrics(job.seed, step, steps, has_validation),
                    "step_number": step,
                }));
            }
            state.models.add(&model, None, Some(&job.project));
            job.note(state, "info", format!("New fine-tuned model created: {model}"), None);
            job.note(state, "info", "The job has successfully completed".into(), None);
            job.fine_tuned_model = Some(model);
            job.finished_at = Some(state.now());
            job.status = "succeeded".into();
            let (results, project) = (training::results(job.seed, steps), job.project.clone());
            let coded = state.settings.read().unwrap().base64_results;
            let results = if coded { training::base64(results.as_bytes()) } else { results };
            let purpose = "fine-tune-results";
            let file = files::insert(state, world, &project, "step_metrics.csv", purpose, results.into());
            world.jobs[index].result_files.push(file);
        }
    }
}

pub fn advance_all(state: &State) {
    let mut world = state.world.lock().unwrap();
    for index in 0..world.jobs.len() {
        poll(state, &mut world, index);
    }
}

pub fn finish_now(state: &State, id: &str) {
    let mut world = state.world.lock().unwrap();
    let index = world.jobs.iter().position(|job| job.id == id).expect("a job of that id");
    while !world.jobs[index].is_over() {
        enter_next(state, &mut world, index);
    }
}

pub fn force_status(state: &State, id: &str, status: &str) {
    let mut world = state.world.lock().unwrap();
    let job = world.jobs.iter_mut().find(|job| job.id == id).expect("a job of that id");
    job.plan.push_front((status.into(), 1));
    job.status = status.into();
    job.finished_at = job.is_over().then(|| state.now());
}

pub fn insert(state: &State, project: &str, request: Value) -> String {
    let caller = Caller { organization: state.anyone.organization.clone(), project: project.into() };
    let mut world = state.world.lock().unwrap();
    let index = add(state, &mut world, &caller, request, false);
    world.jobs[index].id.clone()
}

pub fn duplicate(state: &State, id: &str) -> String {
    let mut world = state.world.lock().unwrap();
    let job = world.jobs.iter().find(|job| job.id == id).expect("a job of that id").clone();
    let caller = Caller { organization: job.organization, project: job.project };
    let index = add(state, &mut world, &caller, job.request, job.together);
    world.jobs[index].id.clone()
}

/// The place of a job that the caller may see.
pub fn find(world: &World, call: &Call, id: &str, together: bool) -> Result<usize, Box<Reply>> {
    let is_it = |job: &Job| job.id == id && job.project == call.caller.project && job.together == together;
    world.jobs.iter().position(is_it).ok_or_else(|| {
        let (param, code) = (Some("fine_tune_id"), Some("fine_tune_not_found"));
        let message = format!("Could not find fine tune: {id}");
        Box::new(Reply::error(404, "invalid_request_error", param, code, &message))
    })
}

pub fn create(state: &State, call: &Call) -> Outcome {
    let request = call.json()?;
    let mut world = state.world.lock().unwrap();
    check_request(state, &world, call, &request)?;
    {
        let settings = state.settings.read().unwrap();
        let own = || world.jobs.iter().filter(|job| job.project == call.caller.project && !job.together);
        let (model, day_ago) = (request["model"].as_str().unwrap_or_default(), state.now() - 86_400);
        let today = own().filter(|job| job.model == model && job.created_at > day_ago).count();
        if let Some(limit) = settings.daily_job_limit.filter(|limit| today >= *limit as usize) {
            return Err(Box::new(daily_limit(limit, model)));
        }
        let active = own().filter(|job| !job.is_over()).count();
        if let Some(limit) = settings.active_job_limit.filter(|limit| active >= *limit as usize) {
            let message = format!("Your organization has reached the maximum of {limit} active fine-tuning requests.");
            return Err(Box::new(Reply::error(429, "requests", None, Some("rate_limit_exceeded"), &message)));
        }
    }
    let index = add(state, &mut world, &call.caller, request.clone(), false);
    if world.twins > 0 {
        world.twins -= 1;
        add(state, &mut world, &call.caller, request, false);
    }
    let forget_metadata = state.settings.read().unwrap().forget_metadata;
    Ok(Reply::json(&world.jobs[index].object(forget_metadata)))
}

pub fn list(state: &State, call: &Call) -> Outcome {
    let wanted: Vec<(&str, &str)> = call
        .query
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("metadata[")?.strip_suffix(']')?, value.as_str())))
        .collect();
    let without = call.query.iter().any(|(name, value)| name == "metadata" && value == "null");
    let mut world = state.world.lock().unwrap();
    let settings = state.settings.read().unwrap();
    let mut objects = Vec::new();
    for job in world.jobs.iter_mut().rev().filter(|job| job.project == call.caller.project && !job.together) {
        let metadata = job.metadata();
        let is_meant = wanted.iter().all(|(key, value)| metadata[*key] == *value)
            && (!without || metadata.as_object().is_none_or(|pairs| pairs.is_empty()));
        if job.is_listed(&settings) && (is_meant || settings.ignore_filters) {
            objects.push(job.object(settings.forget_metadata));
        }
    }
    let (cap, advances) = (settings.page_cap, settings.lists_advance_jobs);
    drop(settings);
    if advances {
        for index in 0..world.jobs.len() {
            poll(state, &mut world, index);
        }
    }
    Ok(Reply::json(&page(objects, &call.query, 20, cap)?))
}

/// Shows a job as a GET does, then counts the poll.
pub fn look(state: &State, world: &mut World, index: usize) -> Job {
    if !world.jobs[index].is_over() && world.jobs[index].plan.front().is_none_or(|(_, polls)| *polls == 0) {
        enter_next(state, world, index);
    }
    let shown = world.jobs[index].clone();
    poll(state, world, index);
    shown
}

pub fn retrieve(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = find(&world, call, id, false)?;
    let shown = look(state, &mut world, index);
    Ok(Reply::json(&shown.object(state.settings.read().unwrap().forget_metadata)))
}

/// Events or checkpoints, newest first.
pub fn part(state: &State, call: &Call, id: &str, what: &str) -> Outcome {
    let cap = state.settings.read().unwrap().page_cap;
    let world = state.world.lock().unwrap();
    let job = &world.jobs[find(&world, call, id, false)?];
    let list = match what {
        "events" => page(job.events.iter().rev().cloned().collect(), &call.query, 20, cap)?,
        _ => page(job.checkpoints.clone(), &call.query, 10, cap)?,
    };
    Ok(Reply::json(&list))
}

/// Cancels, pauses or resumes.
pub fn command(state: &State, call: &Call, id: &str, what: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = find(&world, call, id, false)?;
    let job = &mut world.jobs[index];
    let is_paused = matches!(job.status.as_str(), "pausing" | "paused");
    let refusal = match what {
        _ if job.is_over() => Some(format!("Job has already completed: {id}")),
        "pause" if is_paused => Some(format!("Job is already paused: {id}")),
        "resume" if !is_paused => Some(format!("Job is not paused: {id}")),
        _ => None,
    };
    if let Some(message) = refusal {
        return Err(Box::new(Reply::error(400, "invalid_request_error", None, None, &message)));
    }
    match what {
        "cancel" => {
            job.status = "cancelled".into();
            job.finished_at = Some(state.now());
            job.plan.clear();
        }
        "pause" => {
            job.status = "pausing".into();
            job.plan.push_front(("paused".into(), FOREVER));
            job.plan.push_front(("pausing".into(), 1));
        }
        _ => {
            while job.plan.front().is_some_and(|(status, _)| status == "pausing" || status == "paused") {
                job.plan.pop_front();
            }
            job.status = job.plan.front().map_or("running".into(), |(status, _)| status.clone());
        }
    }
    let message = format!("Fine-tuning job is {}", job.status);
    job.note(state, "info", message, None);
    Ok(Reply::json(&world.jobs[index].object(state.settings.read().unwrap().forget_metadata)))
}
