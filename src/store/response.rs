//! What paid requests left behind: files at providers, raw responses, and where batches stand.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value;

use super::index::{get_many, has_version, read_json, read_time, time_text};
use crate::data::digest::Digest;

/// One row of `uploads`: a file at a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The provider's name in model ids.
    pub provider: String,
    /// The organisation and project that own it.
    pub identity: String,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Its number at the provider.
    pub file_id: String,
    /// When it was uploaded or found; kept to the millisecond.
    pub created_at: SystemTime,
}

/// One row of `responses`: the body of a paid response, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The sample that it answers, or the digest of what else was asked.
    pub key: Digest,
    /// The body.
    pub body: String,
    /// The provider's number of the request.
    pub request_id: Option<String>,
    /// When it came; kept to the millisecond.
    pub created_at: SystemTime,
}

/// The version of the tables that has these.
const SINCE: i64 = 2;

pub(super) fn get_upload(
    transaction: &Transaction,
    provider: &str,
    identity: &str,
    sha256: &str,
) -> rusqlite::Result<Option<Upload>> {
    if !has_version(transaction, SINCE)? {
        return Ok(None);
    }
    let query = "SELECT provider, identity, sha256, bytes, file_id, created_at FROM uploads
         WHERE provider = ?1 AND identity = ?2 AND sha256 = ?3";
    let read = |row: &Row| {
        Ok(Upload {
            provider: row.get(0)?,
            identity: row.get(1)?,
            sha256: row.get(2)?,
            bytes: row.get::<_, i64>(3)?.cast_unsigned(),
            file_id: row.get(4)?,
            created_at: read_time(row, 5)?,
        })
    };
    transaction.prepare_cached(query)?.query_row([provider, identity, sha256], read).optional()
}

pub(super) fn put_upload(transaction: &Transaction, upload: &Upload) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO uploads (provider, identity, sha256, bytes, file_id, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    statement.execute(rusqlite::params![
        upload.provider,
        upload.identity,
        upload.sha256,
        upload.bytes.cast_signed(),
        upload.file_id,
        time_text(upload.created_at),
    ])?;
    Ok(())
}

pub(super) fn get(transaction: &Transaction, keys: &[Digest]) -> rusqlite::Result<Vec<Option<Response>>> {
    if !has_version(transaction, SINCE)? {
        return Ok(vec![None; keys.len()]);
    }
    get_many(transaction, "SELECT key, body, request_id, created_at FROM responses WHERE key = ?1", keys, |row| {
        Ok(Response { key: row.get(0)?, body: row.get(1)?, request_id: row.get(2)?, created_at: read_time(row, 3)? })
    })
}

pub(super) fn put(transaction: &Transaction, responses: &[Response]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO responses (key, body, request_id, created_at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for response in responses {
        let Response { key, body, request_id, created_at } = response;
        statement.execute(rusqlite::params![key, body, request_id, time_text(*created_at)])?;
    }
    Ok(())
}

pub(super) fn get_batch(transaction: &Transaction, key: Digest) -> rusqlite::Result<Option<Value>> {
    if !has_version(transaction, SINCE)? {
        return Ok(None);
    }
    let mut statement = transaction.prepare_cached("SELECT state FROM batches WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| read_json(row, 0)).optional()?.flatten())
}

pub(super) fn batches(transaction: &Transaction) -> rusqlite::Result<Vec<(Digest, Value)>> {
    if !has_version(transaction, SINCE)? {
        return Ok(Vec::new());
    }
    let mut statement = transaction.prepare_cached("SELECT key, state FROM batches ORDER BY updated_at DESC, key")?;
    statement.query_map([], |row| Ok((row.get(0)?, read_json(row, 1)?.unwrap_or(Value::Null))))?.collect()
}

pub(super) fn put_batch(
    transaction: &Transaction,
    key: Digest,
    state: &Value,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO batches (key, state, updated_at) VALUES (?1, ?2, ?3)")?;
    statement.execute(rusqlite::params![key, state.to_string(), time_text(now)])?;
    Ok(())
}
