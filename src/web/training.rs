//! Runs a fine-tuning job: the same call that a script's `launch_finetune` makes, so equal work is done once.

use std::sync::Arc;

use serde_json::Value;

use super::error::sentence;
use super::jobs::{FOUND, Job, Metric, Status};
use super::models::{Served, changed_base};
use super::rows::{mean_loss, read_rows};
use super::{Server, records};
use crate::error::{Error, Kind, Result};
use crate::primitives::launch_finetune::{self, Options};
use crate::primitives::model::Model;

/// Does a job from where it stands, and writes down how it ends.
pub async fn run(server: Arc<Server>, id: String) {
    loop {
        let failure = match train(&server, &id).await {
            Ok(()) => return,
            Err(failure) => failure,
        };
        let Ok(job) = server.jobs.get(&id) else { return };
        // The server stops: the next one goes on. Or the job was cancelled, and somebody has said so.
        if server.lab.cancelled() || job.status.is_final() {
            return;
        }
        if let Some(key) = job.key {
            server.lab.forget_call(key);
        }
        // An equal job was cancelled just now, and with it the training that both waited for.
        if failure.kind == Kind::Interrupted {
            continue;
        }
        let code = if failure.kind == Kind::Input { "invalid_training_file" } else { "training_failed" };
        // Where the disk is full there is no place to write that it is; the job is tried again at the next start.
        let _ = server.jobs.change(&server.lab, &id, |job| job.fail(code, sentence(&failure)));
        return;
    }
}

async fn train(server: &Arc<Server>, id: &str) -> Result<()> {
    let job = server.jobs.change(&server.lab, id, |job| {
        if job.status == Status::ValidatingFiles {
            job.say("info", "Files validated, moving job to queued state");
        }
        if !job.status.is_final() {
            job.status = Status::Queued;
        }
        job.metrics.clear();
    })?;
    let (model, outcome) = launch(server, &job).await?;
    let server = server.clone();
    tokio::task::spawn_blocking(move || finish(&server, job, &model, &outcome))
        .await
        .unwrap_or_else(|_| Err(Error::internal("the end of a job panicked")))
}

/// The model that a job trains, once it is trained; from the store when it was trained before.
pub async fn launch(server: &Arc<Server>, job: &Job) -> Result<(Model, Arc<Value>)> {
    let base = server.resolve(&job.model).await?;
    let (lab, jobs, job) = (server.lab.clone(), server.jobs.clone(), job.clone());
    let start = move || {
        let data = read_rows(&lab, &job.training_file, job.rows)?;
        let options = options_of(&job);
        let key = launch_finetune::key(&launch_finetune::call(&base.model, &data, &options)?)?.digest();
        match job.key {
            // A model is what it was: another base would give another one under the same name.
            Some(known) if known != key => return Err(changed_base(&job.model)),
            Some(_) => {}
            None => _ = jobs.change(&lab, &job.id, |job| job.key = Some(key))?,
        }
        if jobs.get(&job.id).is_ok_and(|job| job.status == Status::Cancelled) {
            return Err(Error::new(Kind::Interrupted, "the job was cancelled"));
        }
        launch_finetune::launch(&lab, base.model.clone(), data, options)
    };
    let model = tokio::task::spawn_blocking(start)
        .await
        .unwrap_or_else(|_| Err(Error::internal("the start of a job panicked")))?;
    let training = model.after().pop().ok_or_else(|| Error::internal("a training has no outcome"))?;
    let outcome = training.wait().await?;
    Ok((model, outcome))
}

/// What `launch_finetune` is told; whatever the job leaves to us is the same as in a script that says nothing.
fn options_of(job: &Job) -> Options {
    let default = Options::default();
    Options {
        learning_rate: default.learning_rate * job.hyperparameters.learning_rate_multiplier,
        epochs: job.hyperparameters.n_epochs,
        batch_tokens: job.batch_tokens,
        seed: job.seed,
        ..default
    }
}

/// Writes down what the training gave, and serves its model.
fn finish(server: &Server, job: Job, model: &Model, outcome: &Value) -> Result<()> {
    let lab = &server.lab;
    let full_valid_loss = match (&job.validation_file, job.validation_rows) {
        (Some(name), Some(blob)) => mean_loss(lab, model, &read_rows(lab, name, blob)?)?,
        _ => None,
    };
    let curve: Vec<(u64, f64)> = serde_json::from_value(outcome["curve"].clone())
        .map_err(|error| Error::internal(format!("the curve of a training: {error}")))?;
    let table = server.files.add(lab, "step_metrics.csv".to_string(), "fine-tune-results", csv(&curve).as_bytes())?;
    let base = job.model.strip_prefix("ft:").and_then(|rest| rest.split(':').next()).unwrap_or(&job.model);
    let digits: String = job.id.trim_start_matches("ftjob-").chars().take(8).collect();
    let name = format!("ft:{base}:drylab:{}:{digits}", job.suffix.as_deref().unwrap_or_default());
    server.models.keep(Arc::new(Served::new(name.clone(), model.clone())?));
    server.jobs.change(lab, &job.id, |job| {
        if job.status.is_final() {
            return;
        }
        if !job.has_started() {
            job.say("info", FOUND);
        }
        job.metrics = dated(&curve, &job.metrics);
        job.steps = outcome["steps"].as_u64();
        job.trained_tokens = outcome["tokens"].as_u64();
        job.last_loss = outcome["last_loss"].as_f64();
        job.full_valid_loss = full_valid_loss;
        job.result_files = vec![table.id.clone()];
        if let Some(cut) = outcome["rows_cut"].as_u64().filter(|cut| *cut > 0) {
            job.say("warn", format!("{cut} rows are longer than the model's context and were cut"));
        }
        job.say("info", format!("New fine-tuned model created: {name}"));
        job.fine_tuned_model = Some(name);
        job.end(Status::Succeeded);
        job.say("info", "The job has successfully completed");
    })?;
    Ok(())
}

/// Every step with the time at which this server knew of it: that of the next step that was told, or now.
fn dated(curve: &[(u64, f64)], told: &[Metric]) -> Vec<Metric> {
    let mut told = told.iter().peekable();
    let now = records::now();
    let metric = |(step, train_loss): &(u64, f64)| {
        while told.next_if(|metric| metric.step < *step).is_some() {}
        let created_at = told.peek().map_or(now, |metric| metric.created_at);
        Metric { created_at, step: *step, train_loss: *train_loss }
    };
    curve.iter().map(metric).collect()
}

/// The result file, with the columns that OpenAI's has.
fn csv(curve: &[(u64, f64)]) -> String {
    let rows = curve.iter().map(|(step, loss)| format!("{step},{loss},,,\n"));
    let header = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n".to_string();
    std::iter::once(header).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_dated_by_what_was_told() {
        let told = [Metric { created_at: 5, step: 2, train_loss: 1.0 }];
        let dated = dated(&[(1, 3.0), (2, 1.0), (3, 0.5)], &told);
        assert_eq!(dated.iter().map(|metric| metric.step).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((dated[0].created_at, dated[1].created_at), (5, 5));
        assert!(dated[2].created_at > 5);
        assert!(csv(&[(1, 3.5)]).ends_with("accuracy\n1,3.5,,,\n"));
    }
}
