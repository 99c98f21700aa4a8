//! Fine-tunes a model at its provider: checks the rows, buys the job exactly once, follows it to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::dataset::Dataset;
use super::launch_finetune::{Method, Options};
use super::model::Remote;
use super::till::price_of;
use crate::data::chat::Row;
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::lab::{Bill, Event, Lab, Missing, Stage};
use crate::provider::budget::{Purpose, Reservation};
use crate::provider::endpoint::Endpoint;
use crate::provider::failure::describe_failure;
use crate::provider::follow::{FollowOptions, Followed, JobProgress, follow};
use crate::provider::hyperparameters::{Hyperparameters, Lora};
use crate::provider::jobs::ToldJob;
use crate::provider::launch::{LaunchOptions, Order, Wait, jobs_of, launch, record_job, recover_all};
use crate::provider::price::Price;
use crate::provider::rows::{RowRules, check_rows};
use crate::provider::settings::Dialect;
use crate::provider::tokens::{TokenCounter, default_epochs};
use crate::store::{Launch, LaunchState};
use crate::train;

/// Options of `launch_finetune` that mean something to a provider; the others are of the training here.
const UNDERSTOOD: &[&str] = &["epochs", "seed", "learning_rate_multiplier", "batch_size"];

/// What a provider is told; an option that it does not understand is an error, never left out in silence. `written` are
/// the options that differ from their default.
pub fn hyperparameters(
    remote: &Remote,
    dialect: Dialect,
    options: &Options,
    written: &Value,
) -> Result<Hyperparameters> {
    let written: Vec<&str> =
        written.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default();
    let of_together = |name: &str| dialect == Dialect::Together && ["learning_rate", "method"].contains(&name);
    if let Some(name) = written.iter().find(|name| !UNDERSTOOD.contains(name) && !of_together(name)) {
        return Err(Error::input(format!(
            "`{name}` means nothing to `{}`, where `{}` is trained",
            remote.provider, remote.base
        ))
        .with_help(format!("leave it out; a provider takes {}", UNDERSTOOD.join(", "))));
    }
    let lora = match options.method.as_ref().map(Method::of_training) {
        Some(train::Method::Lora { rank, alpha }) => Some(Lora { rank: rank as u32, alpha: alpha as u32 }),
        _ => None,
    };
    let hyperparameters = Hyperparameters {
        // Without a number the provider chooses.
        n_epochs: (options.epochs > 0).then_some(options.epochs as u32),
        batch_size: options.batch_size.map(|rows| rows as u32),
        learning_rate_multiplier: options.learning_rate_multiplier,
        learning_rate: written.contains(&"learning_rate").then_some(options.learning_rate),
        lora,
        seed: (dialect != Dialect::Together).then_some(options.seed),
        ..Hyperparameters::default()
    };
    hyperparameters.check(dialect)?;
    Ok(hyperparameters)
}

/// What a job would cost, for the plan; nothing for one that was bought already.
pub fn count_missing(lab: &Lab, key: Digest, remote: &Remote, data: &Dataset, epochs: usize) -> Result<Missing> {
    let pieces = data.rows.len() as u64;
    if is_bought(lab, key)? {
        return Ok(Missing::from(pieces));
    }
    let rows: Vec<Row> = data.rows.rows().collect();
    let tokens = TokenCounter::of(&remote.base).count_rows(&rows).times(epochs_of(epochs as u64, pieces));
    let bill = Bill {
        provider: remote.provider.clone(),
        model: remote.base.clone(),
        is_tuned: false,
        purpose: Purpose::FineTune,
        requests: 1,
        tokens: tokens.tokens,
        is_counted: tokens.exact,
        expected_completion: None,
        longest_completion: 0,
    };
    Ok(Missing { pieces, bills: vec![bill] })
}

/// Passes over the rows: as many as were asked for, or as many as a provider is expected to choose.
fn epochs_of(asked: u64, rows: u64) -> u64 {
    if asked > 0 { asked } else { default_epochs(rows) }
}

/// How long the start of a run waits for a provider that is asked about lost jobs.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// One job and what it is bought for.
pub struct Job<'a> {
    /// Its identity.
    pub key: Digest,
    /// What people call it.
    pub label: &'a str,
    /// The model to start from.
    pub remote: &'a Remote,
    /// The rows.
    pub data: &'a Dataset,
    /// What the provider is told.
    pub hyperparameters: &'a Hyperparameters,
}

/// Buys the job, or finds it, and follows it to its end.
pub fn finetune(lab: &Lab, job: &Job) -> Result<Value> {
    let endpoint = lab.endpoint(&job.remote.provider)?;
    let model = job.remote.model()?.ok_or_else(|| {
        Error::input("recorded answers cannot be fine-tuned").with_help("start from a model, such as `organism`")
    })?;
    let rows: Vec<Row> = job.data.rows.rows().collect();
    let counter = TokenCounter::of(&job.remote.base);
    let count = |row: &Row| counter.count_rows([row]).tokens as usize;
    let rules = RowRules { dialect: endpoint.settings().dialect(), context: None, count_tokens: Some(&count) };
    let checked = check_rows(&rows, &rules).map_err(|error| error.context(format!("`{}`", job.data.rows.name())))?;
    ensure!(checked.rows > 0, "`{}` has no rows to train on", job.data.rows.name());
    let epochs = epochs_of(job.hyperparameters.n_epochs.unwrap_or(0).into(), rows.len() as u64);
    let price = price_of(lab, job.remote)?;
    let estimate = checked.tokens.and_then(|tokens| price.as_ref()?.training_cost(tokens * epochs));
    let is_free = price.as_ref().is_some_and(Price::is_free);
    let reservation = if is_free || is_bought(lab, job.key)? {
        None
    } else {
        Some(lab.budget().reserve(Purpose::FineTune, &model, estimate)?)
    };
    let order = Order {
        key: job.key,
        replicate: 0,
        label: job.label,
        model: &model,
        rows: checked.bytes,
        validation: None,
        hyperparameters: job.hyperparameters,
        estimated_dollars: estimate.map(|money| money.dollars()),
        run: lab.run_name(),
    };
    let on_wait = |wait: &Wait| lab.note_once(describe_wait(job.label, wait));
    let on_note = |text: &str| lab.note(text);
    let options = LaunchOptions {
        relaunch: lab.relaunches(),
        search_seconds: endpoint.settings().search_seconds,
        on_wait: &on_wait,
        on_note: &on_note,
        ..LaunchOptions::new(&Lab::now)
    };
    let purchase = lab.begin_purchase()?;
    let bought = lab.block_on_or_stop(launch(lab.store(), &endpoint, &order, &options))?;
    drop(purchase);
    let followed = match bought.state {
        LaunchState::Launched | LaunchState::Succeeded => Some(follow_job(lab, job, &endpoint, &bought, &options)?),
        _ => None,
    };
    // An attempt that was given up may have made a job meanwhile, or one request two: one is to be left.
    let looking = LaunchOptions { relaunch: false, ..options };
    let bought = lab.block_on_or_stop(launch(lab.store(), &endpoint, &order, &looking))?;
    let dollars = settle(&bought, price.as_ref(), reservation);
    lab.store().update_launch(&bought.attempt, Lab::now(), |row| row.dollars = dollars)?;
    if let Some(failure) = describe_failure(&bought) {
        return Err(failure);
    }
    let followed = followed.ok_or_else(|| Error::internal("a job ended without a story"))?;
    lab.send(Event::Worked { stage: Stage::FineTune, count: rows.len() as u64 });
    describe(&bought, &followed, dollars)
}

/// Whether this run pays nothing for a job, because it was bought before.
fn is_bought(lab: &Lab, key: Digest) -> Result<bool> {
    let failed = |row: &Launch| matches!(row.state, LaunchState::Failed | LaunchState::Cancelled);
    let row = lab.store().get_launch(key)?;
    Ok(row.is_some_and(|row| row.job_id.is_some() && !(lab.relaunches() && failed(&row))))
}

/// Looks once, at the start of a run, for the jobs of attempts of which nobody knows what became, whichever script they
/// were of: what is found is adopted, or cancelled where another attempt has taken its place. A provider that cannot be
/// asked now is asked by the next run.
///
/// # Errors
/// A failing store.
pub fn recover(lab: &Lab) -> Result<()> {
    let launches = lab.store().launches()?;
    let providers: BTreeSet<&str> = launches.iter().map(|row| row.provider.as_str()).collect();
    for provider in providers {
        let is_open = launches.iter().any(|row| row.provider == provider && row.state.is_open());
        if !is_open && lab.store().lost_launches(provider)?.is_empty() {
            continue;
        }
        let Ok(endpoint) = lab.endpoint(provider) else { continue };
        let on_note = |text: &str| lab.note(text);
        let options = LaunchOptions { on_note: &on_note, ..LaunchOptions::new(&Lab::now) };
        let looking = recover_all(lab.store(), &endpoint, &options);
        let looked = lab.block_on_or_stop(async { Ok(tokio::time::timeout(LONGEST_LOOK, looking).await) });
        for found in looked.into_iter().flatten().flatten().flat_map(|recovered| recovered.adopted) {
            let job = found.job_id.unwrap_or_default();
            lab.note(format!("job `{job}` of `{provider}` was found: {}", found.label));
        }
    }
    Ok(())
}

fn follow_job(
    lab: &Lab,
    job: &Job,
    endpoint: &Endpoint,
    bought: &Launch,
    options: &LaunchOptions<'_>,
) -> Result<Followed> {
    let id = bought.job_id.as_deref().ok_or_else(|| Error::internal("a bought job has no number"))?;
    let on_progress = |told: &ToldJob, progress: &JobProgress| {
        let fraction = match (progress.step, progress.steps) {
            (Some(step), Some(steps)) if steps > 0 => (step as f64 / steps as f64).min(1.0),
            _ => 0.0,
        };
        lab.send(Event::Progress { key: job.key, fraction, step: progress.step, loss: progress.train_loss });
        // Where the ledger cannot be written now, the last look writes it or says why.
        let _ = record_job(lab.store(), bought, told, Lab::now());
    };
    let following = FollowOptions {
        poll_seconds: endpoint.settings().poll_seconds,
        on_progress: &on_progress,
        ..FollowOptions::default()
    };
    let followed = lab.block_on_or_stop(async {
        let jobs = jobs_of(endpoint, bought, options.pace).await?;
        follow(&jobs, id, &following).await.map_err(|fault| fault.into_error(endpoint.name()))
    })?;
    record_job(lab.store(), bought, &followed.told, Lab::now())?;
    Ok(followed)
}

/// Counts what the job cost, as far as it is known; returns it in dollars.
fn settle(bought: &Launch, price: Option<&Price>, reservation: Option<Reservation>) -> Option<f64> {
    let told = bought.dollars.and_then(crate::provider::money::Money::from_dollars);
    let cost = told.or_else(|| price?.training_cost(bought.trained_tokens?));
    match (reservation, cost) {
        (Some(reservation), Some(cost)) => reservation.settle(cost),
        // A job that failed before it was trained is not billed.
        (Some(reservation), None) if bought.state == LaunchState::Failed => drop(reservation),
        (Some(reservation), None) => reservation.settle_in_full(),
        (None, _) => {}
    }
    cost.map(|cost| cost.dollars())
}

fn describe(bought: &Launch, followed: &Followed, dollars: Option<f64>) -> Result<Value> {
    let model = bought.fine_tuned_model.clone().ok_or_else(|| {
        Error::experiment(format!("`{}` succeeded and names no model", bought.job_id.as_deref().unwrap_or_default()))
            .with_help("look at the job at the provider")
    })?;
    let losses: Vec<f64> = followed.curve.iter().filter_map(|point| point.train_loss).collect();
    Ok(json!({
        "model": model,
        "job": bought.job_id,
        "provider": bought.provider,
        "steps": followed.curve.last().map(|point| point.step),
        "first_loss": losses.first(),
        "last_loss": losses.last(),
        "curve": followed.curve,
        "checkpoints": followed.checkpoints,
        "events": followed.events,
        "trained_tokens": bought.trained_tokens,
        "dollars": dollars,
        "told": followed.told.job,
    }))
}

fn describe_wait(label: &str, wait: &Wait) -> String {
    let until = wait.until.map(|until| format!(", until {} at the latest", humantime::format_rfc3339_seconds(until)));
    format!("{label} waits: {}{}", wait.reason, until.unwrap_or_default())
}
