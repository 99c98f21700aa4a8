//! The same jobs in Together's shape, under `/fine-tunes`: other names for statuses, no metadata, no filter.

use serde_json::{Value, json};

use super::files;
use super::jobs::{self, Job};
use super::reply::Reply;
use super::route::{Call, Outcome};
use super::state::State;

/// Seconds since 1970 as `2026-11-20T10:00:00Z`.
fn timestamp(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn status(job: &Job) -> &str {
    match job.status.as_str() {
        "validating_files" => "pending",
        "succeeded" => "completed",
        "failed" => "error",
        other => other,
    }
}

fn object(job: &Job) -> Value {
    json!({
        "id": job.id,
        "status": status(job),
        "model": job.model,
        "training_file": job.training_file,
        "validation_file": job.request["validation_file"].as_str().unwrap_or_default(),
        "suffix": job.suffix,
        "n_epochs": job.request["n_epochs"].as_u64().unwrap_or(1),
        "n_checkpoints": job.request["n_checkpoints"].as_u64().unwrap_or(1),
        "batch_size": job.request.get("batch_size").cloned().unwrap_or_else(|| json!("max")),
        "learning_rate": job.request["learning_rate"].as_f64().unwrap_or(1e-5),
        "training_method": job.request.get("training_method").cloned().unwrap_or_else(|| json!({ "method": "sft" })),
        "training_type": job.request.get("training_type").cloned().unwrap_or_else(|| json!({ "type": "Lora" })),
        "from_checkpoint": job.request["from_checkpoint"],
        "model_output_name": job.fine_tuned_model,
        "token_count": job.trained_tokens,
        // The price is known only when the tokens are.
        "total_price": job.trained_tokens.map(|tokens| tokens * 480),
        "trainingfile_numlines": job.rows,
        "created_at": timestamp(job.created_at),
        "updated_at": timestamp(job.created_at),
        "events": event_list(job),
    })
}

fn event_list(job: &Job) -> Vec<Value> {
    let event = |event: &Value| {
        json!({
            "object": "fine-tune-event",
            "created_at": timestamp(event["created_at"].as_i64().unwrap_or_default()),
            "level": event["level"],
            "message": event["message"],
            "type": event["type"],
            "step": event["data"]["step"].as_u64().unwrap_or_default(),
            "total_steps": event["data"]["total_steps"].as_u64().unwrap_or_default(),
        })
    };
    job.events.iter().map(event).collect()
}

pub fn create(state: &State, call: &Call) -> Outcome {
    let request = call.json()?;
    let refuse = |param: &str, message: String| Err(Box::new(Reply::bad(param, &message)));
    let Some(model) = request["model"].as_str() else {
        return refuse("model", "Missing required field: model".into());
    };
    if !state.models.allows(model, &call.caller.project) {
        return Err(super::models::missing(model));
    }
    let mut world = state.world.lock().unwrap();
    let training_file = request["training_file"].as_str().unwrap_or_default();
    if files::find(&world, &call.caller.project, training_file).is_none() {
        return refuse("training_file", format!("Training file not found: {training_file}"));
    }
    let index = jobs::add(state, &mut world, &call.caller, request, true);
    Ok(Reply::json(&object(&world.jobs[index])))
}

pub fn list(state: &State, call: &Call) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let settings = state.settings.read().unwrap();
    let own = world.jobs.iter_mut().filter(|job| job.together && job.project == call.caller.project);
    let data: Vec<Value> = own.rev().filter_map(|job| job.is_listed(&settings).then(|| object(job))).collect();
    Ok(Reply::json(&json!({ "data": data })))
}

pub fn retrieve(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = jobs::find(&world, call, id, true)?;
    Ok(Reply::json(&object(&jobs::look(state, &mut world, index))))
}

pub fn events(state: &State, call: &Call, id: &str) -> Outcome {
    let world = state.world.lock().unwrap();
    let index = jobs::find(&world, call, id, true)?;
    Ok(Reply::json(&json!({ "data": event_list(&world.jobs[index]) })))
}

pub fn cancel(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    let index = jobs::find(&world, call, id, true)?;
    let job = &mut world.jobs[index];
    if job.is_over() {
        let message = format!("Cannot cancel a job that is {}: {id}", status(job));
        return Err(Box::new(Reply::error(400, "invalid_request_error", None, None, &message)));
    }
    job.status = "cancelled".into();
    Ok(Reply::json(&object(job)))
}
