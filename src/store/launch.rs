//! The ledger of paid launches: what was meant to be bought, what was bought, and what became of it.

use std::time::SystemTime;

use rusqlite::{ErrorCode, OptionalExtension, Row, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::index::{has_version, read_json, read_time, time_text, unreadable};
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// Where an attempt to launch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchState {
    /// The request is about to be sent, or was sent by a process that died.
    Intent,
    /// The provider has told the job's number.
    Launched,
    /// The job has made a model.
    Succeeded,
    /// The job has failed; it may have cost something.
    Failed,
    /// Somebody cancelled the job.
    Cancelled,
    /// The request was sent and nobody knows whether a job came of it.
    Unknown,
    /// The provider said no: there is no job.
    Refused,
}

impl LaunchState {
    const ALL: [LaunchState; 7] = [
        LaunchState::Intent,
        LaunchState::Launched,
        LaunchState::Succeeded,
        LaunchState::Failed,
        LaunchState::Cancelled,
        LaunchState::Unknown,
        LaunchState::Refused,
    ];

    /// Its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            LaunchState::Intent => "intent",
            LaunchState::Launched => "launched",
            LaunchState::Succeeded => "succeeded",
            LaunchState::Failed => "failed",
            LaunchState::Cancelled => "cancelled",
            LaunchState::Unknown => "unknown",
            LaunchState::Refused => "refused",
        }
    }
    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
    /// Whether a job was bought and has ended.
    pub fn is_final(self) -> bool {
        matches!(self, LaunchState::Succeeded | LaunchState::Failed | LaunchState::Cancelled)
    }
    /// Whether a job may exist whose number is not known.
    pub fn is_open(self) -> bool {
        matches!(self, LaunchState::Intent | LaunchState::Unknown)
    }

    /// Whether an attempt that stands here may stand there next. A job, once known, is never forgotten.
    fn may_become(self, next: LaunchState) -> bool {
        use LaunchState::*;
        self == next
            || match self {
                Intent => matches!(next, Launched | Unknown | Refused),
                // A job that was found after all, even one of a request that was refused.
                Unknown | Refused => next == Launched,
                Launched => next.is_final(),
                Succeeded | Failed | Cancelled => false,
            }
    }
    /// Whether a new attempt may take the place of one that stands here.
    fn may_be_superseded(self) -> bool {
        use LaunchState::*;
        matches!(self, Failed | Cancelled | Unknown | Refused)
    }
}

/// Why an attempt or its job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    /// What kind of failure, in this program's words: `blocked_file`, `invalid_file`, `quota`, ….
    pub class: String,
    /// The provider's code.
    pub code: Option<String>,
    /// The provider's words.
    pub message: String,
}

/// One row of `launches`: an attempt to launch a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// What is bought.
    pub key: Digest,
    /// Which of several equal purchases, from 0; part of what `key` is a digest of.
    pub replicate: u32,
    /// What people call it.
    pub label: String,
    /// The attempt's mark at the provider: 32 hexadecimal digits, never used twice.
    pub attempt: String,
    /// Where it stands.
    pub state: LaunchState,
    /// The provider's name in model ids.
    pub provider: String,
    /// The organisation and project that pay, as of the intent.
    pub identity: String,
    /// What it starts from.
    pub model: String,
    /// The whole body that is sent.
    pub request: Value,
    /// End of the model's name, the second mark.
    pub suffix: String,
    /// The uploaded rows.
    pub file_id: String,
    /// The job, once it is known.
    pub job_id: Option<String>,
    /// The model that it made.
    pub fine_tuned_model: Option<String>,
    /// Where the job stands in the provider's words.
    pub status: Option<String>,
    /// Why it failed.
    pub error: Option<LaunchError>,
    /// Tokens that are billed.
    pub trained_tokens: Option<u64>,
    /// What it was expected to cost.
    pub estimated_dollars: Option<f64>,
    /// What it cost.
    pub dollars: Option<f64>,
    /// The run that launched it.
    pub run: String,
    /// The first attempt of this key.
    pub created_at: SystemTime,
    /// This attempt; kept to the millisecond, as the others.
    pub intent_at: SystemTime,
    /// The last change.
    pub updated_at: SystemTime,
    /// Since when another attempt counts instead.
    pub superseded_at: Option<SystemTime>,
}

const COLUMNS: &str = "attempt, key, replicate, label, state, provider, identity, model, request, suffix, file_id, \
     job_id, fine_tuned_model, status, error, trained_tokens, estimated_dollars, dollars, run, created_at, intent_at, \
     updated_at, superseded_at";

/// The version of the tables that has this one.
const SINCE: i64 = 2;

/// The attempt that counts for a key.
pub(super) fn get(transaction: &Transaction, key: Digest) -> rusqlite::Result<Option<Launch>> {
    if !has_version(transaction, SINCE)? {
        return Ok(None);
    }
    let query = format!("SELECT {COLUMNS} FROM launches WHERE key = ?1 AND superseded_at IS NULL");
    transaction.prepare_cached(&query)?.query_row([key], read).optional()
}

/// All attempts of a key, oldest first.
pub(super) fn attempts(transaction: &Transaction, key: Digest) -> rusqlite::Result<Vec<Launch>> {
    if !has_version(transaction, SINCE)? {
        return Ok(Vec::new());
    }
    let query = format!("SELECT {COLUMNS} FROM launches WHERE key = ?1 ORDER BY intent_at, rowid");
    transaction.prepare_cached(&query)?.query_map([key], read)?.collect()
}

/// The attempts that count, newest first.
pub(super) fn all(transaction: &Transaction) -> rusqlite::Result<Vec<Launch>> {
    if !has_version(transaction, SINCE)? {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT {COLUMNS} FROM launches WHERE superseded_at IS NULL ORDER BY created_at DESC, launches.rowid DESC"
    );
    transaction.prepare_cached(&query)?.query_map([], read)?.collect()
}

/// Attempts without a known job that another attempt has taken the place of: their jobs may still turn up.
pub(super) fn lost(transaction: &Transaction, provider: &str) -> rusqlite::Result<Vec<Launch>> {
    if !has_version(transaction, SINCE)? {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT {COLUMNS} FROM launches
         WHERE superseded_at IS NOT NULL AND state = 'unknown' AND provider = ?1 ORDER BY intent_at"
    );
    transaction.prepare_cached(&query)?.query_map([provider], read)?.collect()
}

/// Adds the first attempt of a key, or nothing where the key has an owner.
pub(super) fn begin(transaction: &Transaction, launch: &Launch) -> rusqlite::Result<bool> {
    match insert(transaction, launch) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            // An attempt's mark that was used before is a fault of ours, not another owner.
            if get(transaction, launch.key)?.is_some() { Ok(false) } else { Err(error) }
        }
        done => done.map(|()| true),
    }
}

/// Puts a new attempt in the place of another, which stays as it is; nothing where the other does not count any more.
pub(super) fn supersede(
    transaction: &Transaction,
    launch: &Launch,
    old: &str,
) -> rusqlite::Result<Result<Option<Launch>>> {
    let current = get(transaction, launch.key)?.filter(|current| current.attempt == old);
    let Some(current) = current else { return Ok(Ok(None)) };
    if !current.state.may_be_superseded() {
        return Ok(Err(illegal(&current, "a new attempt")));
    }
    let next = Launch { created_at: current.created_at, ..launch.clone() };
    set_superseded(transaction, old, Some(launch.intent_at))?;
    insert(transaction, &next)?;
    Ok(Ok(Some(next)))
}

/// Makes an old attempt count again, because its job was found; nothing where `current` does not count any more.
pub(super) fn revive(
    transaction: &Transaction,
    key: Digest,
    current: &str,
    old: &str,
    now: SystemTime,
) -> rusqlite::Result<Result<Option<Launch>>> {
    let Some(counting) = get(transaction, key)?.filter(|counting| counting.attempt == current) else {
        return Ok(Ok(None));
    };
    // A bought job is not put aside for another one, and a request on its way is not either.
    if !counting.state.may_be_superseded() || counting.state.is_final() {
        return Ok(Err(illegal(&counting, "an older attempt")));
    }
    let belongs = attempts(transaction, key)?.iter().any(|attempt| attempt.attempt == old);
    if !belongs {
        return Ok(Err(Error::internal(format!("`{old}` is no attempt of `{key}`"))));
    }
    set_superseded(transaction, current, Some(now))?;
    set_superseded(transaction, old, None)?;
    get(transaction, key).map(Ok)
}

/// Changes an attempt, old or current; nothing where there is no such attempt. Who it is and what was sent stay.
pub(super) fn update(
    transaction: &Transaction,
    attempt: &str,
    now: SystemTime,
    change: impl FnOnce(&mut Launch),
) -> rusqlite::Result<Result<Option<Launch>>> {
    let query = format!("SELECT {COLUMNS} FROM launches WHERE attempt = ?1");
    let found = transaction.prepare_cached(&query)?.query_row([attempt], read).optional()?;
    let Some(before) = found else { return Ok(Ok(None)) };
    let mut after = before.clone();
    change(&mut after);
    if !before.state.may_become(after.state) {
        return Ok(Err(illegal(&before, after.state.name())));
    }
    if before.job_id.is_some() && after.job_id != before.job_id {
        return Ok(Err(illegal(&before, "another job")));
    }
    let has_job = !matches!(after.state, LaunchState::Intent | LaunchState::Unknown | LaunchState::Refused);
    if after.job_id.is_some() != has_job {
        return Ok(Err(illegal(&before, &format!("{} with job {:?}", after.state.name(), after.job_id))));
    }
    transaction
        .prepare_cached(
            "UPDATE launches SET state = ?2, job_id = ?3, fine_tuned_model = ?4, status = ?5, error = ?6,
             trained_tokens = ?7, dollars = ?8, updated_at = ?9 WHERE attempt = ?1",
        )?
        .execute(rusqlite::params![
            attempt,
            after.state.name(),
            after.job_id,
            after.fine_tuned_model,
            after.status,
            after.error.as_ref().map(error_text),
            after.trained_tokens.map(|tokens| tokens.cast_signed()),
            after.dollars,
            time_text(now),
        ])?;
    transaction.prepare_cached(&query)?.query_row([attempt], read).optional().map(Ok)
}

fn illegal(launch: &Launch, next: &str) -> Error {
    let Launch { attempt, key, state, .. } = launch;
    Error::internal(format!("attempt `{attempt}` of `{}` is {}: {next} cannot follow", key.short(), state.name()))
}

fn set_superseded(transaction: &Transaction, attempt: &str, at: Option<SystemTime>) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("UPDATE launches SET superseded_at = ?2 WHERE attempt = ?1")?;
    statement.execute((attempt, at.map(time_text)))?;
    Ok(())
}

fn error_text(error: &LaunchError) -> String {
    serde_json::json!(error).to_string()
}

fn insert(transaction: &Transaction, launch: &Launch) -> rusqlite::Result<()> {
    let query = format!(
        "INSERT INTO launches ({COLUMNS}) VALUES
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)"
    );
    transaction.prepare_cached(&query)?.execute(rusqlite::params![
        launch.attempt,
        launch.key,
        launch.replicate,
        launch.label,
        launch.state.name(),
        launch.provider,
        launch.identity,
        launch.model,
        launch.request.to_string(),
        launch.suffix,
        launch.file_id,
        launch.job_id,
        launch.fine_tuned_model,
        launch.status,
        launch.error.as_ref().map(error_text),
        launch.trained_tokens.map(|tokens| tokens.cast_signed()),
        launch.estimated_dollars,
        launch.dollars,
        launch.run,
        time_text(launch.created_at),
        time_text(launch.intent_at),
        time_text(launch.updated_at),
        launch.superseded_at.map(time_text),
    ])?;
    Ok(())
}

fn read(row: &Row) -> rusqlite::Result<Launch> {
    let state: String = row.get(4)?;
    let no_state = || unreadable(4, Error::internal(format!("`{state}` is no state of a launch")));
    let error = read_json(row, 14)?.map(serde_json::from_value).transpose();
    Ok(Launch {
        attempt: row.get(0)?,
        key: row.get(1)?,
        replicate: row.get(2)?,
        label: row.get(3)?,
        state: LaunchState::parse(&state).ok_or_else(no_state)?,
        provider: row.get(5)?,
        identity: row.get(6)?,
        model: row.get(7)?,
        request: read_json(row, 8)?.unwrap_or(Value::Null),
        suffix: row.get(9)?,
        file_id: row.get(10)?,
        job_id: row.get(11)?,
        fine_tuned_model: row.get(12)?,
        status: row.get(13)?,
        error: error.map_err(|error| unreadable(14, error))?,
        trained_tokens: row.get::<_, Option<i64>>(15)?.map(i64::cast_unsigned),
        estimated_dollars: row.get(16)?,
        dollars: row.get(17)?,
        run: row.get(18)?,
        created_at: read_time(row, 19)?,
        intent_at: read_time(row, 20)?,
        updated_at: read_time(row, 21)?,
        superseded_at: match row.get_ref(22)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(read_time(row, 22)?),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::Store;
    use super::*;

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn launch(key: &str, attempt: &str) -> Launch {
        Launch {
            key: Digest::of(key.as_bytes()),
            replicate: 0,
            label: "gpt on rows".into(),
            attempt: attempt.into(),
            state: LaunchState::Intent,
            provider: "openai".into(),
            identity: "org/project".into(),
            model: "gpt".into(),
            request: json!({ "model": "gpt" }),
            suffix: "drylab-12345678".into(),
            file_id: "file-1".into(),
            job_id: None,
            fine_tuned_model: None,
            status: None,
            error: None,
            trained_tokens: None,
            estimated_dollars: Some(1.5),
            dollars: None,
            run: "run".into(),
            created_at: time(1),
            intent_at: time(2),
            updated_at: time(2),
            superseded_at: None,
        }
    }

    fn set(store: &Store, attempt: &str, state: LaunchState, job: Option<&str>) -> Result<Option<Launch>> {
        store.update_launch(attempt, time(9), |launch| {
            launch.state = state;
            launch.job_id = launch.job_id.take().or(job.map(str::to_string));
        })
    }

    #[test]
    fn a_purchase_has_one_owner_and_all_of_it_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = launch("k", "a1");
        assert!(store.begin_launch(&first).unwrap());
        assert!(!store.begin_launch(&launch("k", "a2")).unwrap());
        assert!(store.begin_launch(&launch("other", "a1")).is_err(), "a mark was used twice");
        let filled = store.update_launch("a1", time(7), |launch| {
            launch.state = LaunchState::Launched;
            launch.job_id = Some("ftjob-1".into());
            launch.status = Some("running".into());
        });
        assert_eq!(filled.unwrap().unwrap().updated_at, time(7));
        let error = LaunchError { class: "blocked_file".into(), code: None, message: "no".into() };
        let ended = store.update_launch("a1", time(8), |launch| {
            launch.state = LaunchState::Failed;
            launch.error = Some(error.clone());
            launch.trained_tokens = Some(12);
            launch.dollars = Some(0.25);
        });
        let ended = ended.unwrap().unwrap();
        assert_eq!((ended.error.as_ref(), ended.trained_tokens, ended.dollars), (Some(&error), Some(12), Some(0.25)));
        drop(store);
        for store in [Store::open(folder.path()).unwrap(), Store::open_read_only(folder.path()).unwrap()] {
            assert_eq!(store.get_launch(first.key).unwrap().as_ref(), Some(&ended));
            assert_eq!(store.launches().unwrap(), std::slice::from_ref(&ended));
        }
    }

    #[test]
    fn illegal_steps_are_refused_and_change_nothing() {
        use LaunchState::*;
        let legal = [
            (Intent, Launched),
            (Intent, Unknown),
            (Intent, Refused),
            (Unknown, Launched),
            (Refused, Launched),
            (Launched, Succeeded),
            (Launched, Failed),
            (Launched, Cancelled),
        ];
        for from in LaunchState::ALL {
            for to in LaunchState::ALL {
                assert_eq!(from.may_become(to), from == to || legal.contains(&(from, to)), "{from:?} {to:?}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.begin_launch(&launch("k", "a1")).unwrap();
        let error = set(&store, "a1", Succeeded, Some("j")).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Internal);
        assert!(set(&store, "a1", Launched, None).is_err(), "launched without a job");
        assert!(store.supersede_launch(&launch("k", "a2"), "a1").is_err(), "a request on its way was put aside");
        set(&store, "a1", Launched, Some("j")).unwrap();
        let other = store.update_launch("a1", time(9), |launch| launch.job_id = Some("another".into()));
        assert!(other.is_err());
        assert!(store.supersede_launch(&launch("k", "a2"), "a1").is_err(), "a job that goes well was put aside");
        assert_eq!(store.get_launch(Digest::of(b"k")).unwrap().unwrap().job_id.as_deref(), Some("j"));
        assert_eq!(set(&store, "nobody", Launched, Some("j")).unwrap(), None);
    }

    #[test]
    fn old_attempts_are_kept_and_can_count_again() {
        use LaunchState::*;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let key = Digest::of(b"k");
        store.begin_launch(&launch("k", "a1")).unwrap();
        set(&store, "a1", Unknown, None).unwrap();
        let second = Launch { intent_at: time(5), created_at: time(5), ..launch("k", "a2") };
        let second = store.supersede_launch(&second, "a1").unwrap().unwrap();
        assert_eq!(second.created_at, time(1), "the purchase is as old as its first attempt");
        assert_eq!(store.supersede_launch(&launch("k", "a3"), "a1").unwrap(), None, "another was faster");
        assert_eq!(store.lost_launches("openai").unwrap().len(), 1);
        assert!(store.revive_launch(key, "a2", "a1", time(6)).is_err(), "a request on its way was put aside");
        set(&store, "a2", Unknown, None).unwrap();
        assert_eq!(store.revive_launch(key, "a2", "a1", time(6)).unwrap().unwrap().attempt, "a1");
        let attempts = store.launch_attempts(key).unwrap();
        let counting: Vec<_> = attempts.iter().map(|one| (one.attempt.as_str(), one.superseded_at)).collect();
        assert_eq!(counting, [("a1", None), ("a2", Some(time(6)))]);
    }
}
