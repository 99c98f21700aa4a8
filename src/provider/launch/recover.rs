//! Finds the jobs of attempts whose answer was lost, by their marks; where none is found a person decides.

use std::time::{Duration, SystemTime};

use super::{KillPoint, LaunchOptions, Wait, WaitReason, mark, record_job, seconds};
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::provider::endpoint::Endpoint;
use crate::provider::fault::Fault;
use crate::provider::hyperparameters::keeps_metadata;
use crate::provider::jobs::{Jobs, ToldJob};
use crate::provider::wire::job::Job;
use crate::store::{Launch, LaunchState, Store};

/// What a search ends with, where it does not end with a question.
pub(super) enum Found {
    /// The job, which the ledger knows now.
    Job(Box<Launch>),
    /// Somebody else changed the row meanwhile.
    Changed,
    /// Nothing, and a new attempt is allowed.
    Nothing,
}

/// What [`recover_all`] did.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Launches whose job was found.
    pub adopted: Vec<Launch>,
    /// Launches of which still nobody knows whether there is a job.
    pub open: Vec<Launch>,
}

/// A job and the attempt that it came of.
struct Sighting {
    job: Job,
    attempt: String,
    key: usize,
}

/// Clocks differ, and a request may have been on its way for a while.
const MARGIN_SECONDS: f64 = 600.0;
/// How much further back a list is read that was asked for by metadata: only servers that ignore the filter are long.
const FILTERED_MARGIN_SECONDS: f64 = 86_400.0;
/// Longest wait between two looks.
const LONGEST_GAP: Duration = Duration::from_secs(20);

/// Looks for the job of an open attempt until it is found, or long enough.
///
/// # Errors
/// Nothing was found and only a person can tell what to do.
pub(super) async fn search(
    store: &Store,
    endpoint: &Endpoint,
    row: &Launch,
    relaunch: bool,
    options: &LaunchOptions<'_>,
) -> Result<Found> {
    let window = Duration::try_from_secs_f64(options.search_seconds).unwrap_or_default();
    let started = (options.now)();
    let minutes = endpoint.settings().relaunch_unknown_after_minutes;
    let relaunch_at =
        minutes.map(|minutes| row.intent_at + Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default());
    let (mut waited, mut gap) = (Duration::ZERO, Duration::from_secs(1));
    loop {
        let current = store.get_launch(row.key)?;
        if !current.is_some_and(|current| current.attempt == row.attempt && current.state.is_open()) {
            return Ok(Found::Changed);
        }
        let (sightings, owners) = look(endpoint, row.key, &jobless(store, row.key)?, options).await?;
        if !sightings.is_empty() {
            return Ok(settle(store, endpoint, row, sightings, options)
                .await?
                .map_or(Found::Changed, |found| Found::Job(Box::new(found))));
        }
        if !owners.contains(&row.identity) {
            return Err(swapped(row, &owners));
        }
        let is_long_enough = waited >= window;
        match relaunch_at {
            _ if !is_long_enough => {}
            _ if relaunch => return Ok(Found::Nothing),
            Some(at) if (options.now)() >= at => return Ok(Found::Nothing),
            Some(_) => {}
            None => return Err(lost(row)),
        }
        let until = (started + window).max(relaunch_at.unwrap_or(started));
        let reason = WaitReason::Search { suffix: row.suffix.clone() };
        (options.on_wait)(&Wait { reason, until: Some(until) });
        tokio::time::sleep(gap.mul_f64(options.pace)).await;
        waited += gap;
        gap = gap.mul_f64(1.6).min(LONGEST_GAP);
    }
}

/// Makes room for a new attempt; the old one stays in the ledger and is looked for from now on too.
pub(super) fn give_up(store: &Store, row: &Launch, options: &LaunchOptions<'_>) -> Result<()> {
    let now = (options.now)();
    store.update_launch(&row.attempt, now, |row| {
        if row.state == LaunchState::Intent {
            row.state = LaunchState::Unknown;
        }
    })?;
    let when = humantime::format_rfc3339_seconds(row.intent_at);
    (options.on_note)(&format!("no trace of the launch of {when} ({}) was found: it is launched once more", row.label));
    Ok(())
}

/// Cancels the jobs beside the one that counts: those of attempts that were given up and turn up after all, and doubles
/// that a proxy or the provider made of one request. What cannot be looked for now is looked for next time.
pub(super) async fn cancel_others(
    store: &Store,
    endpoint: &Endpoint,
    row: &Launch,
    options: &LaunchOptions<'_>,
) -> Result<()> {
    let Some(counting) = row.job_id.as_deref() else { return Ok(()) };
    let mut attempts = jobless(store, row.key)?;
    // A job that went wrong has nothing to be doubled any more; a provider that cannot be reached must not hide why.
    if !matches!(row.state, LaunchState::Failed | LaunchState::Cancelled) {
        attempts.push(row.clone());
    } else if !attempts.iter().any(|attempt| attempt.state == LaunchState::Unknown) {
        return Ok(());
    }
    let Ok((sightings, _)) = look(endpoint, row.key, &attempts, options).await else { return Ok(()) };
    for other in sightings.into_iter().filter(|sighting| sighting.job.id != counting) {
        if other.attempt != row.attempt {
            retire(store, endpoint, &other, counting, options).await?;
        } else if !other.job.status.is_final() {
            let told = stop(endpoint, &other, options).await?;
            (options.on_note)(&double(counting, &told));
        }
    }
    Ok(())
}

/// Looks once for the jobs of all open attempts at a provider, as at the start of a run; what somebody works on is left
/// to them.
///
/// # Errors
/// A provider that does not answer, or a failing store.
pub async fn recover_all(store: &Store, endpoint: &Endpoint, options: &LaunchOptions<'_>) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    let rows = store.launches()?;
    let lost = store.lost_launches(endpoint.name())?;
    for row in rows.iter().filter(|row| row.provider == endpoint.name()) {
        let has_lost = lost.iter().any(|lost| lost.key == row.key);
        if !row.state.is_open() && !has_lost {
            continue;
        }
        let Some(_lock) = store.try_lock(row.key)? else { continue };
        let Some(row) = store.get_launch(row.key)? else { continue };
        if !row.state.is_open() {
            cancel_others(store, endpoint, &row, options).await?;
            continue;
        }
        let (sightings, _) = look(endpoint, row.key, &jobless(store, row.key)?, options).await?;
        let found = match sightings.is_empty() {
            true => None,
            false => settle(store, endpoint, &row, sightings, options).await?,
        };
        match found {
            Some(found) => recovered.adopted.push(found),
            None => recovered.open.push(row),
        }
    }
    Ok(recovered)
}

/// The attempts of a key whose job is not known.
fn jobless(store: &Store, key: Digest) -> Result<Vec<Launch>> {
    Ok(store.launch_attempts(key)?.into_iter().filter(|attempt| attempt.job_id.is_none()).collect())
}

/// The jobs of attempts of a key, as far as any key of the endpoint can see them, and the keys' owners.
async fn look(
    endpoint: &Endpoint,
    key: Digest,
    attempts: &[Launch],
    options: &LaunchOptions<'_>,
) -> Result<(Vec<Sighting>, Vec<String>)> {
    let is_sought = |attempt: &&Launch| attempt.state != LaunchState::Refused;
    let began = attempts.iter().filter(is_sought).map(|attempt| seconds(attempt.intent_at));
    let since = began.fold(seconds((options.now)()), f64::min) - MARGIN_SECONDS;
    let settings = endpoint.settings();
    let text = key.to_string();
    let filter =
        keeps_metadata(settings.dialect(), settings.api_version.as_deref()).then_some((mark::KEY, text.as_str()));
    let (mut sightings, mut owners, mut fault) = (Vec::<Sighting>::new(), Vec::new(), None);
    for number in 0..endpoint.keys().len().max(1) {
        let jobs = Jobs { endpoint, key: number, pace: options.pace };
        match list_both(&jobs, filter, since).await {
            Ok((listed, owner)) => {
                owners.push(owner);
                for job in listed {
                    let Some(attempt) = attempts.iter().find(|attempt| mark::is_of(&job, attempt)) else { continue };
                    if !sightings.iter().any(|sighting| sighting.job.id == job.id) {
                        sightings.push(Sighting { job, attempt: attempt.attempt.clone(), key: number });
                    }
                }
            }
            Err(found) => fault = fault.or(Some(found)),
        }
    }
    let owner_answered = attempts.iter().any(|attempt| owners.contains(&attempt.identity));
    match fault {
        // A key that does not answer may be the one that sees the job.
        Some(fault) if sightings.is_empty() && !owner_answered => {
            Err(fault.into_error(endpoint.name()).context("a job that was launched cannot be looked for"))
        }
        _ => Ok((sightings, owners)),
    }
}

/// The jobs with the key's metadata, and those of the time in question: filters are ignored and lag as lists do.
async fn list_both(jobs: &Jobs<'_>, filter: Option<(&str, &str)>, since: f64) -> Result<(Vec<Job>, String), Fault> {
    let (mut listed, facts) = jobs.list(None, since).await?;
    if filter.is_some() {
        match jobs.list(filter, since - FILTERED_MARGIN_SECONDS).await {
            Ok((found, _)) => listed.extend(found),
            // A server that does not know the filter and says so.
            Err(fault) if !fault.is_retryable() => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok((listed, jobs.endpoint.identity(jobs.key, &facts)))
}

/// Adopts the oldest of the jobs that were found and cancels the others; nothing where the row changed meanwhile.
async fn settle(
    store: &Store,
    endpoint: &Endpoint,
    row: &Launch,
    mut sightings: Vec<Sighting>,
    options: &LaunchOptions<'_>,
) -> Result<Option<Launch>> {
    sightings.sort_by(|a, b| a.job.created_at.total_cmp(&b.job.created_at).then_with(|| a.job.id.cmp(&b.job.id)));
    let mut sightings = sightings.into_iter();
    let Some(kept) = sightings.next() else { return Ok(None) };
    // Before the ledger knows the one: who dies here finds all of them again.
    for other in sightings {
        if other.attempt == kept.attempt {
            let told = stop(endpoint, &other, options).await?;
            (options.on_note)(&double(&kept.job.id, &told));
        } else {
            retire(store, endpoint, &other, &kept.job.id, options).await?;
        }
    }
    (options.at)(KillPoint::DuringRecovery)?;
    if kept.attempt != row.attempt {
        give_up_quietly(store, row, (options.now)())?;
        if store.revive_launch(row.key, &row.attempt, &kept.attempt, (options.now)())?.is_none() {
            return Ok(None);
        }
    }
    store.update_launch(&kept.attempt, (options.now)(), |row| {
        if row.job_id.is_none() {
            row.state = LaunchState::Launched;
            row.job_id = Some(kept.job.id.clone());
            row.status = Some(kept.job.status.name().to_string());
            row.error = None;
        }
    })
}

fn give_up_quietly(store: &Store, row: &Launch, now: SystemTime) -> Result<()> {
    store.update_launch(&row.attempt, now, |row| {
        if row.state == LaunchState::Intent {
            row.state = LaunchState::Unknown;
        }
    })?;
    Ok(())
}

/// Cancels the job of an attempt that does not count, and writes it down.
async fn retire(
    store: &Store,
    endpoint: &Endpoint,
    late: &Sighting,
    counting: &str,
    options: &LaunchOptions<'_>,
) -> Result<()> {
    let told = stop(endpoint, late, options).await?;
    let now = (options.now)();
    let row = store.update_launch(&late.attempt, now, |row| {
        if row.job_id.is_none() {
            if row.state == LaunchState::Intent {
                row.state = LaunchState::Unknown;
            }
            row.job_id = Some(late.job.id.clone());
            row.state = LaunchState::Launched;
        }
    })?;
    if let Some(row) = row {
        record_job(store, &row, &told, now)?;
    }
    (options.on_note)(&double(counting, &told));
    Ok(())
}

/// Makes sure that a job has ended.
async fn stop(endpoint: &Endpoint, sighting: &Sighting, options: &LaunchOptions<'_>) -> Result<ToldJob> {
    let jobs = Jobs { endpoint, key: sighting.key, pace: options.pace };
    let told = if sighting.job.status.is_final() {
        jobs.fetch(&sighting.job.id).await
    } else {
        jobs.cancel(&sighting.job.id).await
    };
    told.map_err(|fault| {
        let circumstance = format!("job `{}` was launched twice and cannot be cancelled", sighting.job.id);
        fault.into_error(endpoint.name()).context(circumstance)
    })
}

fn double(kept: &str, other: &ToldJob) -> String {
    let (id, status) = (&other.job.id, other.job.status.name());
    format!("two jobs came of one launch: `{kept}` counts, `{id}` is {status}")
}

/// Nothing was found, and nobody said that it may be launched again.
fn lost(row: &Launch) -> Error {
    let when = humantime::format_rfc3339_seconds(row.intent_at);
    Error::environment(format!(
        "nobody knows whether `{}` has launched the job of {when} ({}): its answer was lost and its list of jobs \
         does not show it",
        row.provider, row.label
    ))
    .with_help(format!(
        "look for a job with the suffix `{}` on the provider's pages and run the same command again: if the job is \
         there, it is used as soon as the list shows it; if it is not, set `relaunch_unknown_after_minutes = 15` under \
         `[providers.{}]` in `drylab.toml`",
        row.suffix, row.provider
    ))
}

/// The key now is not of those who pay for the attempt, and so cannot see its job.
fn swapped(row: &Launch, owners: &[String]) -> Error {
    let owners: Vec<String> = owners.iter().map(|owner| format!("`{owner}`")).collect();
    Error::input(format!(
        "a job ({}) may have been launched for `{}` at `{}`, and the keys now belong to {}",
        row.label,
        row.identity,
        row.provider,
        owners.join(" and ")
    ))
    .with_help("use the key of that organisation and project again, so that the job can be found, then run again")
}
