//! Buys fine-tuning jobs exactly once: the intent is durable before the one request, and what got lost is looked for.
//!
//! An attempt goes `intent -> launched(job) -> succeeded | failed | cancelled`, or `refused` (the provider said no:
//! there is no job), or `unknown` (no answer: there may be one). The caller holds the key's file lock; the ledger's one
//! counting row per key protects those who do not. Below that, no connection repeats a request that may have been read.

#[cfg(test)]
pub(super) mod fake;
mod intent;
mod mark;
mod recover;
#[cfg(test)]
mod tests;
mod turn;
mod upload;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::endpoint::Endpoint;
use super::failure::JobFailure;
use super::fault::{Class, Fault};
use super::hyperparameters::Hyperparameters;
use super::jobs::{Jobs, ToldJob};
use super::wire::job::{Job, JobStatus};
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::store::{Launch, LaunchState, Response, Store};
use intent::{Begun, Limits};
use recover::Found;

pub use recover::{Recovered, recover_all};

/// What is to be bought.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Its identity: equal orders have equal keys, and one key is bought once.
    pub key: Digest,
    /// Which of several equal purchases, from 0; `key` is a digest of it too.
    pub replicate: u32,
    /// What people call it.
    pub label: &'a str,
    /// The model to start from, in the provider's words.
    pub model: &'a str,
    /// The file of rows, as [`check_rows`](super::rows::check_rows) wrote it.
    pub rows: Bytes,
    /// The file of rows for validation.
    pub validation: Option<Bytes>,
    /// How to train.
    pub hyperparameters: &'a Hyperparameters,
    /// What it is expected to cost.
    pub estimated_dollars: Option<f64>,
    /// The run that asks.
    pub run: &'a str,
}

/// How a launch goes about it; none of it changes what is bought.
#[derive(Clone, Copy)]
pub struct LaunchOptions<'a> {
    /// Buys again what failed or was cancelled, and what is unknown once it has been looked for.
    pub relaunch: bool,
    /// How long a job is looked for that may or may not exist; lists lag.
    pub search_seconds: f64,
    /// Factor of every wait; 1 outside tests.
    pub pace: f64,
    /// The clock.
    pub now: &'a (dyn Fn() -> SystemTime + Sync),
    /// Told before every wait.
    pub on_wait: &'a (dyn Fn(&Wait) + Sync),
    /// Told what people should know, one sentence each.
    pub on_note: &'a (dyn Fn(&str) + Sync),
    /// Called where a process may die; an error stops the launch there as if it had. For tests.
    pub at: &'a (dyn Fn(KillPoint) -> Result<()> + Sync),
}

impl<'a> LaunchOptions<'a> {
    /// The usual way, in silence.
    pub fn new(now: &'a (dyn Fn() -> SystemTime + Sync)) -> Self {
        LaunchOptions {
            relaunch: false,
            search_seconds: 120.0,
            pace: 1.0,
            now,
            on_wait: &|_| {},
            on_note: &|_| {},
            at: &|_| Ok(()),
        }
    }
}

/// Where a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KillPoint {
    /// Nothing is written yet.
    BeforeIntent,
    /// The intent is durable and nothing is sent.
    AfterIntent,
    /// The request has been sent, and its answer has not been looked at.
    AfterSend,
    /// The answer has been read, and nothing of it is written.
    AfterResponse,
    /// The job's number is durable.
    AfterCommit,
    /// The job was found by its mark, and nothing of it is written.
    DuringRecovery,
}

/// Why a launch waits, and until when where that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// Why.
    pub reason: WaitReason,
    /// Until when at the latest.
    pub until: Option<SystemTime>,
}

/// Why a launch waits.
#[derive(Clone, Debug, PartialEq)]
pub enum WaitReason {
    /// As many jobs as may be are unfinished.
    Turn {
        /// Unfinished jobs of ours.
        unfinished: usize,
        /// As many as there may be.
        most: usize,
    },
    /// The day's fine-tunes of the model are used up, in the provider's words.
    DailyLimit(String),
    /// Too many requests, or no connection, in the provider's words.
    Busy(String),
    /// A job that may exist is looked for.
    Search {
        /// End of its model's name.
        suffix: String,
    },
    /// The provider is still reading the uploaded file.
    File,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Turn { unfinished, most } => write!(f, "{unfinished} of {most} jobs are unfinished"),
            WaitReason::DailyLimit(message) => write!(f, "the provider's daily limit: {message}"),
            WaitReason::Busy(message) => write!(f, "the provider is busy: {message}"),
            WaitReason::Search { suffix } => {
                write!(f, "looking for the job `…{suffix}`: the answer to its launch was lost")
            }
            WaitReason::File => f.write_str("the provider is still reading the uploaded rows"),
        }
    }
}

/// Buys a job, or finds what was bought: returns as soon as the ledger holds the job's number. A row that failed is
/// returned as it is unless `relaunch` says otherwise; see [`describe_failure`](super::failure::describe_failure).
///
/// # Errors
/// Refusals by the provider; an unknown outcome that a person must decide; a failing store.
pub async fn launch(
    store: &Store,
    endpoint: &Endpoint,
    order: &Order<'_>,
    options: &LaunchOptions<'_>,
) -> Result<Launch> {
    order.hyperparameters.check(endpoint.settings().dialect())?;
    let mut limits = Limits::default();
    let mut relaunch = options.relaunch;
    loop {
        let row = store.get_launch(order.key)?;
        if let Some(row) = &row {
            check_provider(row, endpoint)?;
            match row.state {
                LaunchState::Failed | LaunchState::Cancelled if relaunch => {}
                LaunchState::Launched | LaunchState::Succeeded | LaunchState::Failed | LaunchState::Cancelled => {
                    recover::cancel_others(store, endpoint, row, options).await?;
                    return Ok(row.clone());
                }
                LaunchState::Refused => {}
                LaunchState::Intent | LaunchState::Unknown => {
                    match recover::search(store, endpoint, row, relaunch, options).await? {
                        Found::Job(found) => return Ok(*found),
                        Found::Changed => continue,
                        Found::Nothing => recover::give_up(store, row, options)?,
                    }
                }
            }
        }
        // Once only: what this call itself launches is not bought again when it fails.
        relaunch = false;
        match intent::begin(store, endpoint, order, row.as_ref(), &mut limits, options).await? {
            Begun::Launched(launch) => {
                recover::cancel_others(store, endpoint, &launch, options).await?;
                return Ok(*launch);
            }
            Begun::Refused(fault) => limits.wait_for(endpoint, fault, options).await?,
            // The next turn looks for it, or finds that somebody else was faster.
            Begun::Unknown | Begun::Raced => {}
        }
    }
}

/// Writes what became of a job into its row.
///
/// # Errors
/// A failing store, or a step that cannot follow.
pub fn record_job(store: &Store, launch: &Launch, told: &ToldJob, now: SystemTime) -> Result<Launch> {
    let job = &told.job;
    let changed = store.update_launch(&launch.attempt, now, |row| {
        row.state = state_of(&job.status);
        row.job_id.get_or_insert_with(|| job.id.clone());
        row.status = Some(job.status.name().to_string());
        row.error = JobFailure::record(job);
        row.fine_tuned_model = job.fine_tuned_model.clone().or(row.fine_tuned_model.take());
        row.trained_tokens = job.trained_tokens.or(row.trained_tokens);
        row.dollars = row.dollars.or_else(|| price_of(job));
    })?;
    if job.status.is_final() {
        let request_id = told.facts.request_id.clone();
        let response = Response { key: response_key(&job.id), body: told.body.clone(), request_id, created_at: now };
        store.put_responses(&[response])?;
    }
    changed.ok_or_else(|| Error::internal(format!("attempt `{}` is not in the ledger", launch.attempt)))
}

/// Cancels the job of a launch and records it.
///
/// # Errors
/// A launch without a job, or a provider that does not obey.
pub async fn cancel_launch(
    store: &Store,
    endpoint: &Endpoint,
    launch: &Launch,
    options: &LaunchOptions<'_>,
) -> Result<Launch> {
    check_provider(launch, endpoint)?;
    let Some(id) = &launch.job_id else {
        return Err(Error::input(format!("`{}` has no job that is known", launch.label))
            .with_help("run its script again first: it looks for the job"));
    };
    let jobs = jobs_of(endpoint, launch, options.pace).await?;
    let told = jobs.cancel(id).await.map_err(|fault| fault.into_error(endpoint.name()))?;
    record_job(store, launch, &told, (options.now)())
}

/// The jobs that the key of a launch can see: the key of the same organisation and project, else the first.
///
/// # Errors
/// A provider that does not answer.
pub async fn jobs_of<'e>(endpoint: &'e Endpoint, launch: &Launch, pace: f64) -> Result<Jobs<'e>> {
    let count = endpoint.keys().len();
    for key in 0..if count > 1 { count } else { 0 } {
        let jobs = Jobs { endpoint, key, pace };
        // A key that is refused is not the one that launched it, and says so where it is needed.
        let Ok((_, facts)) = jobs.list(None, f64::INFINITY).await else { continue };
        if endpoint.identity(key, &facts) == launch.identity {
            return Ok(jobs);
        }
    }
    Ok(Jobs { endpoint, key: 0, pace })
}

/// The key under which the raw description of a job is kept.
pub fn response_key(job_id: &str) -> Digest {
    Digest::of(format!("fine-tuning job {job_id}").as_bytes())
}

fn check_provider(launch: &Launch, endpoint: &Endpoint) -> Result<()> {
    if launch.provider == endpoint.name() {
        return Ok(());
    }
    let Launch { label, provider, .. } = launch;
    Err(Error::input(format!("`{label}` was launched at `{provider}`, not at `{}`", endpoint.name()))
        .with_help(format!("use `{provider}` again: what was bought there is found there")))
}

fn state_of(status: &JobStatus) -> LaunchState {
    match status {
        JobStatus::Succeeded => LaunchState::Succeeded,
        JobStatus::Failed => LaunchState::Failed,
        JobStatus::Cancelled => LaunchState::Cancelled,
        _ => LaunchState::Launched,
    }
}

/// Together tells the price, in billionths of a dollar.
fn price_of(job: &Job) -> Option<f64> {
    job.other
        .get("total_price")
        .and_then(serde_json::Value::as_f64)
        .map(|price| price / 1e9)
        .filter(|price| *price > 0.0)
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Whether the provider said for certain that there is no job: everything else may have made one.
fn is_refusal(fault: &Fault) -> bool {
    match fault.status {
        // Redirects were not followed; the others are answers to a request that was read and turned down.
        Some(status) => matches!(status, 300..=399 | 400..=405 | 410 | 411 | 413 | 414 | 415 | 422 | 429 | 431),
        // A certificate that is refused, or a connection: no byte of the request was sent. A key that cannot be sent.
        None => matches!(fault.class, Class::NotSent | Class::Unreachable | Class::Authentication),
    }
}

/// Waits as long as `time`, by the clock on the wall: a machine that slept does not wait twice.
async fn wait_until(until: SystemTime, options: &LaunchOptions<'_>) {
    let left = || until.duration_since((options.now)()).unwrap_or_default();
    let mut rest = left();
    while !rest.is_zero() {
        let chunk = rest.min(Duration::from_secs(60));
        tokio::time::sleep(chunk.mul_f64(options.pace)).await;
        rest = (rest - chunk).min(left());
    }
}
