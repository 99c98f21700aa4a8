//! Waits for a turn: so many jobs at a time and no more.

use std::collections::HashSet;
use std::time::Duration;

use super::{LaunchOptions, mark, seconds};
use crate::data::digest::Digest;
use crate::error::Result;
use crate::provider::fault::Fault;
use crate::provider::jobs::Jobs;
use crate::store::{KeyLock, Launch, LaunchState, Store};

/// How far back unfinished jobs are looked for.
const LONGEST_JOB_SECONDS: f64 = 14.0 * 86_400.0;
/// How long a job may be missing from the provider's list before it is not counted.
const LONGEST_LAG_SECONDS: f64 = 600.0;

/// Who pays, and how many jobs of ours are unfinished there: those that the provider lists, and those that the ledger
/// knows and its list does not show yet.
pub(super) async fn count_unfinished(
    store: &Store,
    jobs: &Jobs<'_>,
    options: &LaunchOptions<'_>,
) -> Result<(String, usize)> {
    let now = seconds((options.now)());
    let told = |fault: Fault| fault.into_error(jobs.endpoint.name());
    let (listed, facts) = jobs.list(None, now - LONGEST_JOB_SECONDS).await.map_err(told)?;
    let identity = jobs.endpoint.identity(jobs.key, &facts);
    let is_here = |row: &Launch| row.provider == jobs.endpoint.name() && row.identity == identity;
    let rows: Vec<Launch> = store.launches()?.into_iter().filter(is_here).collect();
    let suffixes: Vec<&str> = rows.iter().map(|row| row.suffix.as_str()).collect();
    let numbers: HashSet<&str> = rows.iter().filter_map(|row| row.job_id.as_deref()).collect();
    let unfinished = listed
        .iter()
        .filter(|job| !job.status.is_final() && (numbers.contains(job.id.as_str()) || mark::is_ours(job, &suffixes)));
    let is_listed = |row: &&Launch| {
        listed.iter().any(|job| row.job_id.as_deref() == Some(job.id.as_str()) || mark::is_of(job, row))
    };
    let hidden = rows.iter().filter(|row| {
        matches!(row.state, LaunchState::Intent | LaunchState::Unknown | LaunchState::Launched)
            && now - seconds(row.intent_at) < LONGEST_LAG_SECONDS
            && !is_listed(row)
    });
    let count = unfinished.count() + hidden.count();
    Ok((identity, count))
}

/// The lock under which turns are counted and taken.
pub(super) async fn lock_turns(store: &Store, provider: &str, options: &LaunchOptions<'_>) -> Result<KeyLock> {
    wait_for_lock(store, Digest::of(format!("turns at {provider}").as_bytes()), options).await
}

/// Waits for a lock without holding up the other tasks of the thread.
pub(super) async fn wait_for_lock(store: &Store, key: Digest, options: &LaunchOptions<'_>) -> Result<KeyLock> {
    loop {
        if let Some(lock) = store.try_lock(key)? {
            return Ok(lock);
        }
        tokio::time::sleep(Duration::from_millis(100).mul_f64(options.pace.max(0.01))).await;
    }
}
