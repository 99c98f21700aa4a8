//! `/v1/fine_tuning/jobs`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use serde_json::Value;

use super::error::{ApiError, ApiResult, sentence};
use super::files::File;
use super::jobs::{Hyperparameters, Job, Status};
use super::models::Served;
use super::order::Order;
use super::page::page;
use super::rows::{mean_tokens, read_rows};
use super::{Server, query, records, training};
use crate::lab::Lab;
use crate::primitives::dataset::Dataset;
use crate::primitives::launch_finetune::Options;

/// Fewest rows that OpenAI trains on.
const LEAST_ROWS: usize = 10;

/// `POST /fine_tuning/jobs`.
pub async fn create(State(server): State<Arc<Server>>, body: Bytes) -> ApiResult<Json<Value>> {
    let order = Order::parse(&body)?;
    let base = server.model(&order.model).await?;
    let job = server.blocking(move |server| prepare(server, order, &base)).await?;
    tokio::spawn(training::run(server.clone(), job.id.clone()));
    Ok(Json(job.object()))
}

/// Checks everything that can be checked before a job is taken.
fn prepare(server: &Server, order: Order, base: &Served) -> ApiResult<Job> {
    let (file, data) = training_rows(server, &order.training_file, "training_file")?;
    let validation = order.validation_file.as_deref().map(|id| training_rows(server, id, "validation_file"));
    let validation = validation.transpose()?.map(|(file, _)| file);
    let count = data.rows.len();
    if count < LEAST_ROWS {
        let message = format!("Training file has {count} example(s), but must have at least {LEAST_ROWS} examples");
        return Err(ApiError::invalid("training_file", message).with_code("invalid_n_examples"));
    }
    let default = Options::default();
    // Our loop fills a batch with rows of similar length up to a number of tokens; so many hold about as many rows.
    let tokens = mean_tokens(&base.model, &data)?.max(1.0);
    let batch_tokens = order.batch_size.map_or(default.batch_tokens, |size| (size as f64 * tokens).ceil() as usize);
    let batch_size = order.batch_size.unwrap_or((batch_tokens as f64 / tokens).round().max(1.0) as usize);
    let id = records::new_id("ftjob-");
    let mut job = Job {
        number: 0,
        created_at: records::now(),
        finished_at: None,
        status: Status::ValidatingFiles,
        model: base.id.clone(),
        fine_tuned_model: None,
        training_file: file.id,
        rows: file.blob,
        validation_file: validation.as_ref().map(|file| file.id.clone()),
        validation_rows: validation.map(|file| file.blob),
        suffix: order.suffix,
        seed: order.seed.unwrap_or_else(|| Lab::random() % (1 << 31)),
        metadata: order.metadata,
        hyperparameters: Hyperparameters {
            n_epochs: order.epochs.unwrap_or(default.epochs),
            batch_size,
            learning_rate_multiplier: order.learning_rate_multiplier.unwrap_or(1.0),
        },
        batch_tokens,
        result_files: Vec::new(),
        trained_tokens: None,
        error: None,
        key: None,
        steps: None,
        last_loss: None,
        full_valid_loss: None,
        notices: Vec::new(),
        metrics: Vec::new(),
        deleted: false,
        id,
    };
    job.say("info", format!("Created fine-tuning job: {}", job.id));
    job.say("info", format!("Validating training file: {} ({count} rows)", job.training_file));
    Ok(server.jobs.add(&server.lab, job)?)
}

/// A file's rows, all of them good chat rows.
fn training_rows(server: &Server, id: &str, param: &str) -> ApiResult<(File, Dataset)> {
    let file = server.files.get(id, param).map_err(|error| {
        ApiError::invalid(param, format!("invalid {param}: {id}")).with_code(error.code.unwrap_or("not_found"))
    })?;
    if file.purpose != "fine-tune" {
        let message = format!("{id} has the purpose '{}', expected 'fine-tune'.", file.purpose);
        return Err(ApiError::invalid(param, message));
    }
    let invalid = |message: String| ApiError::invalid(param, message).with_code("invalid_training_file");
    let bytes = server.bytes(file.blob)?;
    let first = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    let first: Value = serde_json::from_slice(first.trim_ascii_start().strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first))
        .unwrap_or_default();
    if !first.is_object() || first.get("messages").is_none() {
        let message = "Invalid file format. Expected one JSON object with `messages` per line.";
        return Err(invalid(message.to_string()));
    }
    drop(bytes);
    let data = read_rows(&server.lab, &file.filename, file.blob)
        .map_err(|error| invalid(format!("Invalid file format. {}", sentence(&error))))?;
    Ok((file, data))
}

/// `GET /fine_tuning/jobs`.
pub async fn list(State(server): State<Arc<Server>>, RawQuery(text): RawQuery) -> ApiResult<Json<Value>> {
    let query = query(text)?;
    let matches = |job: &Job| {
        let metadata = |key: &str| job.metadata.as_ref().and_then(|metadata| metadata.get(key)).map(String::as_str);
        let none = query.get("metadata") != Some("null") || job.metadata.as_ref().is_none_or(|pairs| pairs.is_empty());
        none && query.pairs("metadata").all(|(key, value)| metadata(key) == Some(value))
    };
    let jobs = server.jobs.all().into_iter().filter(matches).map(|job| job.object()).collect();
    Ok(Json(page(jobs, &query, 20, 10_000)?))
}

/// `GET /fine_tuning/jobs/{id}`.
pub async fn retrieve(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(server.jobs.get(&id)?.object()))
}

/// `GET /fine_tuning/jobs/{id}/events`.
pub async fn events(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    RawQuery(text): RawQuery,
) -> ApiResult<Json<Value>> {
    Ok(Json(page(server.jobs.get(&id)?.events(), &query(text)?, 20, 10_000)?))
}

/// `GET /fine_tuning/jobs/{id}/checkpoints`: the final state, the only one that is kept; its name is the model's.
pub async fn checkpoints(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    RawQuery(text): RawQuery,
) -> ApiResult<Json<Value>> {
    Ok(Json(page(server.jobs.get(&id)?.checkpoints(), &query(text)?, 10, 10_000)?))
}

/// `POST /fine_tuning/jobs/{id}/cancel`.
pub async fn cancel(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    server.jobs.get(&id)?;
    let mut ended_before = false;
    let job = server.jobs.change(&server.lab, &id, |job| {
        ended_before = job.status.is_final();
        if !ended_before {
            job.end(Status::Cancelled);
            job.say("info", "The job was cancelled");
        }
    })?;
    if ended_before {
        return Err(ApiError::invalid("fine_tuning_job_id", format!("Job has already completed: {id}")));
    }
    // Equal jobs share a training; it goes on while one of them wants it.
    if let Some(key) = job.key.filter(|key| !server.jobs.needs(*key)) {
        server.lab.stop_call(key);
    }
    Ok(Json(job.object()))
}
