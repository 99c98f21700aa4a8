//! The SQLite file that says what is known: one writer, readers beside it, every commit durable.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior};
use serde_json::Value;

use super::filesystem::FileSystem;
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// Version of the tables, kept in `user_version`. Migrations go forward only.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// What leads from each version to the next; a new file goes through all of them.
const MIGRATIONS: [&str; 2] = [SCHEMA, PURCHASES];

/// How long a statement waits for another process's commit.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The tables. SQLite keeps the comments: `sqlite3 index.sqlite .schema` shows them.
const SCHEMA: &str = "
CREATE TABLE calls ( -- one row per finished call of a primitive
  key        TEXT PRIMARY KEY, -- BLAKE3 of `components`, 64 hexadecimal digits
  primitive  TEXT NOT NULL,
  version    INTEGER NOT NULL, -- behaviour version of the primitive
  components TEXT NOT NULL,    -- canonical JSON of everything that decides the result
  options    TEXT,             -- JSON, with all defaults filled in
  output     TEXT,             -- JSON: small results
  blob       TEXT,             -- digest of the file blobs/ab/abcdef... with a large result
  started_at TEXT NOT NULL,    -- RFC 3339, UTC
  seconds    REAL NOT NULL,    -- duration
  program    TEXT NOT NULL,    -- name and version of what computed it
  run        TEXT NOT NULL,    -- the run that computed it first
  host       TEXT NOT NULL
) STRICT;
CREATE INDEX calls_by_primitive ON calls (primitive, started_at);

CREATE TABLE samples ( -- one row per answer of a model
  key            TEXT PRIMARY KEY, -- digest of the request and the sample's number
  call           TEXT NOT NULL,    -- calls.key of the call that asked first; missing while that call is unfinished
  question_index INTEGER NOT NULL, -- from 0, in that call
  sample_index   INTEGER NOT NULL, -- from 0, of the same question
  answer         TEXT NOT NULL,
  finish         TEXT NOT NULL,    -- why the answer ended: stop, length, ...
  tokens         INTEGER NOT NULL, -- of the answer
  logprob        REAL,             -- natural logarithm of the answer's probability, where known
  created_at     TEXT NOT NULL     -- RFC 3339, UTC
) STRICT;
CREATE INDEX samples_by_call ON samples (call, question_index, sample_index);

CREATE TABLE judgements ( -- one row per verdict on an answer
  key    TEXT PRIMARY KEY, -- digest of judge, its parameters, question and answer
  sample TEXT,             -- samples.key of the answer it was made for; an equal answer shares the verdict
  judge  TEXT NOT NULL,
  score  REAL,             -- missing when there is none
  reason TEXT,             -- why there is no score: refused, unparsable, ...
  detail TEXT              -- what the judge said, or JSON
) STRICT;
CREATE INDEX judgements_by_sample ON judgements (sample);
";

/// What version 2 adds: everything that is bought. Nothing in these tables is ever deleted by age.
const PURCHASES: &str = "
CREATE TABLE launches ( -- one row per attempt to launch a paid job
  attempt           TEXT PRIMARY KEY, -- 32 hexadecimal digits, the job's mark at the provider
  key               TEXT NOT NULL,    -- what is bought: calls.key of the launch
  replicate         INTEGER NOT NULL, -- from 0, of the same launch
  label             TEXT NOT NULL,    -- what people call it
  state             TEXT NOT NULL CHECK (state IN
                      ('intent', 'launched', 'succeeded', 'failed', 'cancelled', 'unknown', 'refused')),
  provider          TEXT NOT NULL,    -- name in model ids
  identity          TEXT NOT NULL,    -- organisation and project that pay, as of the intent
  model             TEXT NOT NULL,    -- what it starts from
  request           TEXT NOT NULL,    -- JSON, the whole body that is sent
  suffix            TEXT NOT NULL,    -- end of the model's name, the second mark
  file_id           TEXT NOT NULL,    -- uploaded rows
  job_id            TEXT,             -- once the provider has told it
  fine_tuned_model  TEXT,             -- once the job has succeeded
  status            TEXT,             -- in the provider's words
  error             TEXT,             -- JSON: class, code, message
  trained_tokens    INTEGER,          -- billed
  estimated_dollars REAL,             -- before the launch
  dollars           REAL,             -- from trained_tokens, or the provider's own number
  run               TEXT NOT NULL,    -- the run that launched it
  created_at        TEXT NOT NULL,    -- RFC 3339, UTC: the first attempt of this key
  intent_at         TEXT NOT NULL,    -- this attempt
  updated_at        TEXT NOT NULL,
  superseded_at     TEXT              -- missing for the one attempt per key that counts
) STRICT;
CREATE UNIQUE INDEX launches_one_owner ON launches (key) WHERE superseded_at IS NULL;
CREATE INDEX launches_by_key ON launches (key, intent_at);

CREATE TABLE uploads ( -- one row per file at a provider
  provider   TEXT NOT NULL,
  identity   TEXT NOT NULL,    -- organisation and project that own it
  sha256     TEXT NOT NULL,    -- of its bytes, 64 hexadecimal digits; its name there is <sha256>.jsonl
  bytes      INTEGER NOT NULL, -- its size
  file_id    TEXT NOT NULL,
  created_at TEXT NOT NULL,    -- RFC 3339, UTC
  PRIMARY KEY (provider, identity, sha256)
) STRICT;

CREATE TABLE responses ( -- one row per paid response, as it came
  key        TEXT PRIMARY KEY, -- samples.key, or the digest of what else was asked
  body       TEXT NOT NULL,
  request_id TEXT,             -- the provider's number of the request
  created_at TEXT NOT NULL     -- RFC 3339, UTC
) STRICT;

CREATE TABLE batches ( -- one row per batch of requests
  key        TEXT PRIMARY KEY, -- digest of what is asked
  state      TEXT NOT NULL,    -- JSON: where it stands, with the provider's numbers
  updated_at TEXT NOT NULL     -- RFC 3339, UTC
) STRICT;
";

/// The open index.
#[derive(Debug)]
pub struct Index {
    // Before the writer, so that the writer closes last and folds the log into the file.
    readers: Mutex<Vec<Connection>>,
    writer: Option<Mutex<Connection>>,
    path: PathBuf,
    access: Access,
}

/// How the file may be read.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    /// Nobody changes it, and nothing may be made beside it.
    immutable: bool,
    /// It may be mapped into memory, which halves the time of many small reads; not over a network.
    mapped: bool,
}

impl Index {
    /// Opens the index for reading and writing, and creates it where there is none. The caller holds the lock that
    /// keeps other processes from doing the same.
    pub fn open(path: &Path, file_system: FileSystem) -> Result<Self> {
        let local = !matches!(file_system, FileSystem::Network(_));
        let access = Access { mapped: local, immutable: false };
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, access)?;
        let version = known_version(&writer, path)?;
        let journal = if local { "wal" } else { "delete" };
        let found: String = writer.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |row| row.get(0))?;
        if !found.eq_ignore_ascii_case(journal) {
            return Err(Error::environment(format!("`{}` has journal mode {found}, not {journal}", path.display())));
        }
        if version < SCHEMA_VERSION {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for migration in &MIGRATIONS[usize::try_from(version).unwrap_or_default()..] {
                transaction.execute_batch(migration)?;
            }
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        let writer = Some(Mutex::new(writer));
        Ok(Index { readers: Mutex::default(), writer, path: path.to_path_buf(), access })
    }

    /// Opens an index that exists, for reading only; also where nothing may be written beside it.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::input(format!("no store at `{}`", path.parent().unwrap_or(path).display()))
                .with_help("run a script first, or name another results folder"));
        }
        match Self::reader(path, Access::default()) {
            // A write-ahead log wants a shared file beside the index; where that cannot be made nobody writes either.
            Err(error) if is_denied(&error) => Self::immutable(path),
            Err(error) => Err(Error::from(error).context(format!("`{}`", path.display()))),
            Ok(index) => index.known(),
        }
    }

    /// Opens an index that nobody can change, making no file beside it; a log that was left there is not seen.
    pub(super) fn immutable(path: &Path) -> Result<Self> {
        Self::reader(path, Access { immutable: true, mapped: false })
            .map_err(|error| Error::from(error).context(format!("`{}`", path.display())))?
            .known()
    }

    fn reader(path: &Path, access: Access) -> rusqlite::Result<Self> {
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, access)?;
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Index { readers: Mutex::new(vec![reader]), writer: None, path: path.to_path_buf(), access })
    }

    fn known(self) -> Result<Self> {
        for reader in lock(&self.readers).iter() {
            known_version(reader, &self.path)?;
        }
        Ok(self)
    }

    /// Runs `work` on one consistent state of the index.
    pub fn read<T>(&self, work: impl FnOnce(&Transaction) -> rusqlite::Result<T>) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, self.access)?,
        };
        let transaction = reader.transaction()?;
        let result = work(&transaction)?;
        transaction.finish()?;
        lock(&self.readers).push(reader);
        Ok(result)
    }

    /// Runs `work` and commits; when this returns, its rows survive a power loss.
    pub fn write<T>(&self, work: impl FnOnce(&Transaction) -> rusqlite::Result<T>) -> Result<T> {
        let Some(writer) = &self.writer else {
            return Err(Error::environment(format!("`{}` is open for reading only", self.path.display())));
        };
        let mut writer = lock(writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Whether rows of a killed writer are invisible because its log cannot be replayed here.
    pub fn has_unread_log(&self) -> bool {
        let log = self.path.with_extension("sqlite-wal");
        self.access.immutable && fs::metadata(log).is_ok_and(|facts| facts.len() > 0)
    }

    /// Whether rows can only be read.
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }
}

fn is_denied(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves a connection as good as it was: its transaction was rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path, flags: OpenFlags, access: Access) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let immutable = if access.immutable { "?immutable=1" } else { "" };
    let connection = Connection::open_with_flags(format!("file:{name}{immutable}"), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Keys are random, so a batch of rows touches most pages of a table's index: folding the log back every 8000 pages
    // instead of every 1000 writes most of them once.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 8000;",
    )?;
    if access.mapped {
        connection.pragma_update(None, "mmap_size", 1i64 << 32)?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The version of the tables that are there, 0 where there are none; a newer one than ours is refused untouched.
fn known_version(connection: &Connection, path: &Path) -> Result<i64> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > SCHEMA_VERSION {
        return Err(Error::input(format!(
            "`{}` was written by a newer drylab: its schema has version {version}, this program knows {SCHEMA_VERSION}",
            path.display()
        ))
        .with_help("update drylab, or use another results folder"));
    }
    Ok(version)
}

/// Whether the tables of a version are there: a file that was opened for reading only is not migrated.
pub(super) fn has_version(transaction: &Transaction, wanted: i64) -> rusqlite::Result<bool> {
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(version >= wanted)
}

/// Looks every key up, in the order given.
pub(super) fn get_many<T>(
    transaction: &Transaction,
    query: &str,
    keys: &[Digest],
    read: impl Fn(&Row) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<Option<T>>> {
    let mut statement = transaction.prepare_cached(query)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let mut rows = statement.query([key])?;
        found.push(rows.next()?.map(&read).transpose()?);
    }
    Ok(found)
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Digest::parse(text).ok_or_else(|| FromSqlError::Other(format!("`{text}` is no digest").into()))
    }
}

/// RFC 3339 with milliseconds: sorts as text, and pandas reads it.
pub(super) fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

pub(super) fn read_time(row: &Row, column: usize) -> rusqlite::Result<SystemTime> {
    let text: String = row.get(column)?;
    humantime::parse_rfc3339(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn read_json(row: &Row, column: usize) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, error))).transpose()
}

pub(super) fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let failure = Error::environment(format!("the index of the store: {error}"));
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                failure.with_help("wait for the other drylab that is writing to this store, then run again")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => failure
                .with_help("run `drylab fsck`; deleting index.sqlite forgets every result but harms nothing else"),
            Some(ErrorCode::DiskFull) => failure.with_help("free some space and run again"),
            _ if is_denied(&error) => failure.with_help("choose a results folder that you may write to"),
            _ => failure,
        }
    }
}
