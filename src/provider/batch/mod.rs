//! The batch service as another way to ask: at half the price, within a day, each file launched exactly once.

pub mod collect;
mod launch;
pub mod pack;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::Patience;
use super::endpoint::{Answer, Endpoint, Request};
use super::fault::Fault;
use super::wire::batch::{Batch, RequestCounts};
use crate::data::digest::Digest;
use crate::error::{Error, Kind, Result};
use collect::{Collected, OnAnswer, collect};
use pack::Pack;

/// How long the content of a file may take.
const DOWNLOAD: Duration = Duration::from_secs(1800);
/// Looks between two tries to launch a batch for which the provider's queue had no room.
const LOOKS_BETWEEN_TRIES: u32 = 30;

/// What has to be known of a batch to go on with it in another process. Everything that is not yet true of a step is
/// saved only when it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchState {
    /// Identity of its file; the mark `drylab_key` at the provider.
    pub key: Digest,
    /// The model that it asks.
    pub model: String,
    /// Requests in it.
    pub requests: usize,
    /// The environment variable of the key that it belongs to; none for a provider without keys.
    pub variable: Option<String>,
    /// The mark `drylab_launch` of the try to launch it.
    pub attempt: String,
    /// Marks of tries whose outcome was never known; searched for ever.
    pub lost_attempts: Vec<String>,
    /// When it was going to be launched, in seconds since 1970.
    pub intended_at: f64,
    /// Its file at the provider.
    pub file_id: String,
    /// Its number at the provider.
    pub batch_id: Option<String>,
    /// How far it is.
    pub step: BatchStep,
    /// The provider's own word for where it stands.
    pub status: String,
    /// Its progress.
    pub counts: Option<RequestCounts>,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStep {
    /// Its file is there; nothing was launched.
    Uploaded,
    /// It is about to be launched; nobody knows yet whether it was.
    Intended,
    /// The provider has it.
    Launched,
    /// All that it gave was taken.
    Collected,
    /// The provider did not take it, or it failed as a whole.
    Refused,
}

/// What batches need from whoever runs them.
pub struct BatchDesk<'a> {
    /// The provider.
    pub endpoint: &'a Endpoint,
    /// The key that new batches are launched by.
    pub key: usize,
    /// Makes a state durable, in place of the one with the same `key`; when it returns a lost process may be taken up.
    pub save: &'a dyn Fn(&BatchState) -> Result<()>,
    /// A mark that nobody else has.
    pub new_attempt: &'a dyn Fn() -> String,
    /// Seconds since 1970.
    pub now: &'a dyn Fn() -> f64,
    /// Whether somebody wants to stop.
    pub cancelled: &'a dyn Fn() -> bool,
    /// How long a launch whose answer was lost is looked for; at least two minutes outside of tests.
    pub search: Duration,
    /// How harmless calls are repeated.
    pub patience: Patience,
}

/// What came of all batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Requests with an answer, failed ones, and those to send again.
    pub collected: Collected,
    /// Batches that failed as a whole, and why.
    pub refused: Vec<(String, String)>,
}

/// Takes up the batches in `open`, launches one for each pack, waits for all and gives each answer, and each reason why
/// there cannot be one, to `on_answer`, which makes it durable; where an earlier process ended between that and the
/// last save, it is given them once more. Requests that expired or that the provider lost are given nothing: whoever asks
/// packs what is still missing, and calls again. What is missing is known only when the open ones are done.
///
/// # Errors
/// A launch whose outcome is unknown, a stop, and what `on_answer` and `save` say. The states are saved: calling again
/// with them goes on.
pub async fn run_batches(
    desk: &BatchDesk<'_>,
    open: Vec<BatchState>,
    packs: impl Iterator<Item = Result<Pack>>,
    on_answer: &mut OnAnswer<'_>,
) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome::default();
    let mut active: Vec<BatchState> = Vec::new();
    // Open ones first: what they hold must not be asked again.
    for mut state in open {
        if matches!(state.step, BatchStep::Uploaded | BatchStep::Intended) {
            desk.launch(&mut state).await?;
        }
        active.push(state);
    }
    for pack in packs {
        let mut state = desk.upload(&pack?).await?;
        desk.launch(&mut state).await?;
        active.push(state);
    }
    let mut looks = 0u32;
    loop {
        let mut ended = 0;
        let mut waiting = Vec::new();
        for mut state in active {
            if state.step == BatchStep::Launched {
                desk.look(&mut state, on_answer, &mut outcome).await?;
            }
            match state.step {
                BatchStep::Collected => ended += 1,
                BatchStep::Refused => outcome.refused.push((state.batch_id.unwrap_or_default(), state.status)),
                _ => waiting.push(state),
            }
        }
        active = waiting;
        if active.is_empty() {
            return Ok(outcome);
        }
        looks += 1;
        for state in active.iter_mut().filter(|state| state.step == BatchStep::Uploaded) {
            if ended > 0 || looks.is_multiple_of(LOOKS_BETWEEN_TRIES) {
                desk.launch(state).await?;
            }
        }
        let poll = Duration::try_from_secs_f64(desk.endpoint.settings().poll_seconds).unwrap_or(Duration::MAX);
        desk.pause(poll).await?;
    }
}

/// Asks the provider to stop a batch; what is answered by then is billed and can be collected.
///
/// # Errors
/// As [`Endpoint::send`].
pub async fn cancel_batch(endpoint: &Endpoint, key: usize, batch_id: &str) -> Result<Batch, Fault> {
    let request = Request { key, ..Request::post(format!("/batches/{batch_id}/cancel"), &serde_json::json!({})) };
    Ok(endpoint.fetch(&request).await?.0)
}

impl BatchDesk<'_> {
    /// Looks at a launched batch once, and collects it where it has ended.
    async fn look(
        &self,
        state: &mut BatchState,
        on_answer: &mut OnAnswer<'_>,
        outcome: &mut BatchOutcome,
    ) -> Result<()> {
        let key = self.key_of(state)?;
        let id = state.batch_id.clone().expect("a launched batch has a number");
        let batch: Batch = self.read(&self.get(&Request { key, ..Request::get(format!("/batches/{id}")) }).await?)?;
        if state.status != batch.status || state.counts.map(|counts| counts.completed) != completed(&batch) {
            state.status.clone_from(&batch.status);
            state.counts = batch.request_counts;
            (self.save)(state)?;
        }
        if !batch.is_final() {
            return Ok(());
        }
        if batch.status == "failed" {
            let (code, reason) = reason_of(&batch);
            if code == "token_limit_exceeded" {
                // The queue of the model is full: the same file may be launched again later.
                (state.step, state.batch_id, state.status) = (BatchStep::Uploaded, None, reason);
            } else {
                (state.step, state.status) = (BatchStep::Refused, reason);
            }
            return (self.save)(state);
        }
        for file in [&batch.output_file_id, &batch.error_file_id].into_iter().flatten() {
            let request = Request { key, timeout: DOWNLOAD, ..Request::get(format!("/files/{file}/content")) };
            let content = self.get(&request).await?;
            let found = collect(&content.body, on_answer)?;
            outcome.collected.answered += found.answered;
            outcome.collected.failed += found.failed;
            outcome.collected.again.extend(found.again);
        }
        state.step = BatchStep::Collected;
        (self.save)(state)
    }

    /// A call that may be repeated, until it succeeds.
    async fn get(&self, request: &Request) -> Result<Answer> {
        let mut tries = 0;
        loop {
            let fault = match self.endpoint.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            tries += 1;
            if !fault.is_retryable() || tries >= self.endpoint.settings().most_tries {
                return Err(fault.into_error(self.endpoint.name()));
            }
            self.pause(fault.retry_after.unwrap_or(self.patience.delay(0, tries as u32))).await?;
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, answer: &Answer) -> Result<T> {
        answer.read().map_err(|fault| fault.into_error(self.endpoint.name()))
    }

    /// Waits, unless somebody wants to stop.
    async fn pause(&self, time: Duration) -> Result<()> {
        let mut left = time;
        loop {
            if (self.cancelled)() {
                return Err(Error::new(Kind::Interrupted, "stopped while batches are under way")
                    .with_help("run the same command again: it waits for the same batches"));
            }
            if left.is_zero() {
                return Ok(());
            }
            let step = left.min(Duration::from_millis(100));
            tokio::time::sleep(step).await;
            left -= step;
        }
    }

    /// The key that a batch belongs to.
    fn key_of(&self, state: &BatchState) -> Result<usize> {
        let Some(variable) = &state.variable else { return Ok(0) };
        let found = self.endpoint.keys().iter().position(|key| key.variable == *variable);
        found.ok_or_else(|| {
            let id = state.batch_id.as_deref().unwrap_or("that was not launched yet");
            Error::input(format!("the batch {id} belongs to the key in `{variable}`, which is not there"))
                .with_help(format!("set `{variable}` and name it in `keys` of the provider"))
        })
    }
}

fn completed(batch: &Batch) -> Option<u64> {
    batch.request_counts.map(|counts| counts.completed)
}

/// The code and the words with which a batch failed as a whole.
fn reason_of(batch: &Batch) -> (String, String) {
    let errors = batch.errors.as_ref().unwrap_or(&Value::Null);
    let first = errors["data"].get(0).unwrap_or(&errors[0]);
    let text = |name: &str| first[name].as_str().unwrap_or_default().to_string();
    let line = first["line"].as_u64().map(|line| format!(" (line {line})")).unwrap_or_default();
    let message = Some(text("message")).filter(|message| !message.is_empty()).unwrap_or_else(|| errors.to_string());
    (text("code"), format!("{message}{line}"))
}
