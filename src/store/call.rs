//! What is remembered about one finished call: its result, and where, when and by whom it was computed.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value;

use super::index::{read_json, read_time, time_text, unreadable};
use super::key::Key;
use crate::data::digest::Digest;

/// One row of `calls`. A small result is in `output`, a large one in a blob; there may be both.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// Identity, with its components.
    pub key: Key,
    /// The options with all defaults filled in, as people want to read them.
    pub options: Option<Value>,
    /// A small result, as JSON.
    pub output: Option<Value>,
    /// Digest of a large result's bytes, which [`Store::put_blob`](super::Store::put_blob) has stored before.
    pub blob: Option<Digest>,
    /// When the work began; kept to the millisecond.
    pub started_at: SystemTime,
    /// How long the work took.
    pub seconds: f64,
    /// Name and version of the program that did it.
    pub program: String,
    /// The run in which it was done.
    pub run: String,
    /// The machine on which it was done.
    pub host: String,
}

const COLUMNS: &str = "components, options, output, blob, started_at, seconds, program, run, host";

pub(super) fn get(transaction: &Transaction, key: Digest) -> rusqlite::Result<Option<CallRecord>> {
    let mut statement = transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM calls WHERE key = ?1"))?;
    statement.query_row([key], read).optional()
}

pub(super) fn recent(transaction: &Transaction, primitive: &str, limit: usize) -> rusqlite::Result<Vec<CallRecord>> {
    let query = format!("SELECT {COLUMNS} FROM calls WHERE primitive = ?1 ORDER BY started_at DESC LIMIT ?2");
    let mut statement = transaction.prepare_cached(&query)?;
    statement.query_map((primitive, i64::try_from(limit).unwrap_or(i64::MAX)), read)?.collect()
}

pub(super) fn put(transaction: &Transaction, record: &CallRecord) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO calls
         (key, primitive, version, components, options, output, blob, started_at, seconds, program, run, host)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(rusqlite::params![
        record.key.digest(),
        record.key.primitive(),
        record.key.version(),
        record.key.components(),
        record.options.as_ref().map(Value::to_string),
        record.output.as_ref().map(Value::to_string),
        record.blob,
        time_text(record.started_at),
        record.seconds,
        record.program,
        record.run,
        record.host,
    ])?;
    Ok(())
}

fn read(row: &Row) -> rusqlite::Result<CallRecord> {
    let components: String = row.get(0)?;
    Ok(CallRecord {
        key: Key::parse(&components).map_err(|error| unreadable(0, error))?,
        options: read_json(row, 1)?,
        output: read_json(row, 2)?,
        blob: row.get(3)?,
        started_at: read_time(row, 4)?,
        seconds: row.get(5)?,
        program: row.get(6)?,
        run: row.get(7)?,
        host: row.get(8)?,
    })
}
