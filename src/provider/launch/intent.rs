//! One attempt: a turn, the uploaded rows, the durable intent, one request, and what came of it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{
    KillPoint, LaunchOptions, Order, Wait, WaitReason, is_refusal, mark, response_key, turn, upload, wait_until,
};
use crate::error::Result;
use crate::provider::endpoint::Endpoint;
use crate::provider::fault::{Class, Fault};
use crate::provider::hyperparameters::{Mark, longest_suffix};
use crate::provider::jobs::Jobs;
use crate::store::{Launch, LaunchError, LaunchState, Response, Store};

/// What came of an attempt.
pub(super) enum Begun {
    /// There is a job, and the ledger knows it.
    Launched(Box<Launch>),
    /// The provider said no.
    Refused(Fault),
    /// Nobody knows.
    Unknown,
    /// The row belongs to somebody else by now.
    Raced,
}

/// Which keys have used up their day, and how often the provider was busy.
#[derive(Default)]
pub(super) struct Limits {
    /// Until when, by the number of the key.
    days: HashMap<usize, SystemTime>,
    /// The key of the last attempt.
    key: usize,
    /// When the oldest launch of the last day leaves it, for the key of the last attempt.
    day_ends: Option<SystemTime>,
    busy: u32,
}

/// Longest wait between two looks for a turn.
const MINUTE: Duration = Duration::from_secs(60);
/// A day as providers count it.
const DAY: Duration = Duration::from_secs(86_400);
/// Between two tries while the day's limit holds, where nothing is known about its end.
const HOUR: Duration = Duration::from_secs(3_600);

/// Launches once.
pub(super) async fn begin(
    store: &Store,
    endpoint: &Endpoint,
    order: &Order<'_>,
    old: Option<&Launch>,
    limits: &mut Limits,
    options: &LaunchOptions<'_>,
) -> Result<Begun> {
    let Some((jobs, launch)) = write_intent(store, endpoint, order, old, limits, options).await? else {
        return Ok(Begun::Raced);
    };
    (options.at)(KillPoint::AfterIntent)?;
    let answer = jobs.create(&launch.request).await;
    (options.at)(KillPoint::AfterSend)?;
    let now = (options.now)();
    match answer {
        Ok(told) => {
            (options.at)(KillPoint::AfterResponse)?;
            let id = told.job.id.clone();
            let changed = store.update_launch(&launch.attempt, now, |row| {
                row.state = LaunchState::Launched;
                row.job_id = Some(id.clone());
                row.status = Some(told.job.status.name().to_string());
            })?;
            (options.at)(KillPoint::AfterCommit)?;
            let request_id = told.facts.request_id.clone();
            store.put_responses(&[Response {
                key: response_key(&id),
                body: told.body,
                request_id,
                created_at: now,
            }])?;
            match changed {
                Some(row) if row.superseded_at.is_none() => Ok(Begun::Launched(Box::new(row))),
                // Somebody without the key's lock gave this attempt up while its answer was on its way.
                _ => Ok(Begun::Raced),
            }
        }
        Err(fault) => {
            let state = if is_refusal(&fault) { LaunchState::Refused } else { LaunchState::Unknown };
            let error = LaunchError {
                class: class_name(fault.class).to_string(),
                code: fault.code.clone(),
                message: fault.message.clone(),
            };
            store.update_launch(&launch.attempt, now, |row| {
                // Somebody without the key's lock may have found the job already.
                if row.state.is_open() {
                    row.state = state;
                    row.error = Some(error);
                }
            })?;
            Ok(if state == LaunchState::Refused { Begun::Refused(fault) } else { Begun::Unknown })
        }
    }
}

/// Waits for a turn at one of the keys, uploads the rows and writes the intent; nothing where somebody was faster.
async fn write_intent<'e>(
    store: &Store,
    endpoint: &'e Endpoint,
    order: &Order<'_>,
    old: Option<&Launch>,
    limits: &mut Limits,
    options: &LaunchOptions<'_>,
) -> Result<Option<(Jobs<'e>, Launch)>> {
    let settings = endpoint.settings();
    let most = settings.most_jobs.max(1);
    let mut gap = Duration::try_from_secs_f64(settings.poll_seconds).unwrap_or(MINUTE).min(MINUTE);
    loop {
        let mut fewest = usize::MAX;
        for key in 0..endpoint.keys().len().max(1) {
            if limits.days.get(&key).is_some_and(|until| (options.now)() < *until) {
                continue;
            }
            let jobs = Jobs { endpoint, key, pace: options.pace };
            let (identity, unfinished) = turn::count_unfinished(store, &jobs, options).await?;
            if unfinished >= most {
                fewest = fewest.min(unfinished);
                continue;
            }
            let rows = upload::upload(store, &jobs, &identity, &order.rows, options).await?;
            let validation = match &order.validation {
                Some(bytes) => Some(upload::upload(store, &jobs, &identity, bytes, options).await?),
                None => None,
            };
            // Counted again, and alone: others wait for turns too.
            let turns = turn::lock_turns(store, endpoint.name(), options).await?;
            let (identity, unfinished) = turn::count_unfinished(store, &jobs, options).await?;
            if unfinished >= most {
                fewest = fewest.min(unfinished);
                continue;
            }
            let launch = prepare(endpoint, order, (&rows, validation.as_deref()), identity, options)?;
            limits.key = key;
            limits.day_ends = day_end(store, &launch)?;
            (options.at)(KillPoint::BeforeIntent)?;
            let is_owner = match old {
                None => store.begin_launch(&launch)?.then_some(launch),
                Some(old) => store.supersede_launch(&launch, &old.attempt)?,
            };
            drop(turns);
            return Ok(is_owner.map(|launch| (jobs, launch)));
        }
        if fewest == usize::MAX {
            // Every key has used up its day.
            let Some(until) = limits.days.values().min().copied() else { continue };
            wait_until(until, options).await;
            limits.days.retain(|_, day_ends| *day_ends > until);
            continue;
        }
        (options.on_wait)(&Wait { reason: WaitReason::Turn { unfinished: fewest, most }, until: None });
        tokio::time::sleep(gap.mul_f64(options.pace)).await;
        gap = gap.mul_f64(1.3).min(MINUTE);
    }
}

/// The row of a new attempt.
fn prepare(
    endpoint: &Endpoint,
    order: &Order<'_>,
    files: (&str, Option<&str>),
    identity: String,
    options: &LaunchOptions<'_>,
) -> Result<Launch> {
    let settings = endpoint.settings();
    let now = (options.now)();
    let attempt = mark::new_attempt(order.key, now);
    let hyperparameters = order.hyperparameters;
    let suffix = mark::suffix_of(hyperparameters.suffix.as_deref(), &attempt, longest_suffix(settings.dialect()));
    let metadata = mark::metadata_of(order.key, &attempt);
    let request = hyperparameters.request(
        settings.dialect(),
        settings.api_version.as_deref(),
        order.model,
        files,
        &Mark { suffix: &suffix, metadata: &metadata },
    )?;
    Ok(Launch {
        key: order.key,
        replicate: order.replicate,
        label: order.label.to_string(),
        attempt,
        state: LaunchState::Intent,
        provider: endpoint.name().to_string(),
        identity,
        model: order.model.to_string(),
        request,
        suffix,
        file_id: files.0.to_string(),
        job_id: None,
        fine_tuned_model: None,
        status: None,
        error: None,
        trained_tokens: None,
        estimated_dollars: order.estimated_dollars,
        dollars: None,
        run: order.run.to_string(),
        created_at: now,
        intent_at: now,
        updated_at: now,
        superseded_at: None,
    })
}

/// When the oldest of the last day's launches of a model leaves the day.
fn day_end(store: &Store, launch: &Launch) -> Result<Option<SystemTime>> {
    let rows = store.launches()?;
    let same = |row: &&Launch| {
        (&row.provider, &row.identity, &row.model) == (&launch.provider, &launch.identity, &launch.model)
            && row.job_id.is_some()
            && row.intent_at + DAY > launch.intent_at
    };
    Ok(rows.iter().filter(same).map(|row| row.intent_at + DAY).min())
}

impl Limits {
    /// Waits after a refusal until another attempt may help.
    ///
    /// # Errors
    /// The refusal, where none does: money, keys, permissions, mistakes.
    pub(super) async fn wait_for(
        &mut self,
        endpoint: &Endpoint,
        fault: Fault,
        options: &LaunchOptions<'_>,
    ) -> Result<()> {
        let now = (options.now)();
        match fault.class {
            Class::DailyLimit => {
                let told = fault.retry_after.map(|wait| now + wait.max(Duration::from_secs(1)));
                // Jobs of others count too, so that ours tell only when it may end; and an hour is no busy loop.
                let until = told.or(self.day_ends).filter(|until| *until > now).unwrap_or(now + HOUR).min(now + DAY);
                self.days.insert(self.key, until);
                let keys = endpoint.keys().len().max(1);
                let is_spent = |key: &usize| self.days.get(key).is_some_and(|until| now < *until);
                if (0..keys).all(|key| is_spent(&key)) {
                    let until = self.days.values().min().copied();
                    (options.on_wait)(&Wait { reason: WaitReason::DailyLimit(fault.message), until });
                }
                Ok(())
            }
            Class::NotSent | Class::RateLimit | Class::SlowDown
                if !fault.is_final && (self.busy as usize) < endpoint.settings().most_tries =>
            {
                let gap = Duration::from_millis(500) * 2u32.pow(self.busy.min(7));
                self.busy += 1;
                let until = now + fault.retry_after.unwrap_or(gap).max(Duration::from_millis(100));
                (options.on_wait)(&Wait { reason: WaitReason::Busy(fault.message), until: Some(until) });
                wait_until(until, options).await;
                Ok(())
            }
            _ => Err(fault.into_error(endpoint.name()).context("no job was launched")),
        }
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::NotSent => "not_sent",
        Class::Unreachable => "unreachable",
        Class::Lost => "lost",
        Class::Server => "server",
        Class::Malformed => "malformed",
        Class::Loading => "loading",
        Class::RateLimit => "rate_limit",
        Class::SlowDown => "slow_down",
        Class::DailyLimit => "daily_limit",
        Class::Quota => "quota",
        Class::Authentication => "authentication",
        Class::Forbidden => "forbidden",
        Class::NotFound => "not_found",
        Class::BadRequest => "bad_request",
    }
}
