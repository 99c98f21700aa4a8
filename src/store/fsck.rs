//! Whether the store still holds what it says: index, keys, blobs.

use std::collections::HashSet;

use super::Store;
use crate::data::digest::Digest;
use crate::error::Result;

/// What was counted and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Finished calls.
    pub calls: usize,
    /// Answers.
    pub samples: usize,
    /// Verdicts.
    pub judgements: usize,
    /// Blobs that a call refers to and that are intact.
    pub intact_blobs: usize,
    /// Blobs that no call refers to: garbage, but no harm.
    pub unreferenced_blobs: usize,
    /// One sentence per fault. A call whose blob is lost runs again when it is asked for.
    pub problems: Vec<String>,
}

/// Reads everything: SQLite's quick check, the digest of every key's components and of every blob.
pub(super) fn check(store: &Store) -> Result<Report> {
    let mut report = Report::default();
    let rows = store.index.read(|transaction| {
        let mut checks = transaction.prepare("PRAGMA quick_check")?;
        let found: Vec<String> = checks.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        report.problems.extend(found.into_iter().filter(|line| line != "ok").map(|line| format!("index: {line}")));
        let count = |table: &str| {
            let query = format!("SELECT count(*) FROM {table}");
            transaction.query_row(&query, [], |row| row.get::<_, isize>(0).map(isize::unsigned_abs))
        };
        report.samples = count("samples")?;
        report.judgements = count("judgements")?;
        let mut calls = transaction.prepare("SELECT key, primitive, components, blob FROM calls")?;
        let rows = calls.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, String, String, Option<String>)>>>()
    })?;
    report.calls = rows.len();
    let mut seen = HashSet::new();
    for (key, primitive, components, blob) in rows {
        if Digest::of(components.as_bytes()).to_string() != key {
            report.problems.push(format!("call `{key}` of `{primitive}`: the key is not the digest of its components"));
        }
        let Some(blob) = blob else { continue };
        match Digest::parse(&blob) {
            None => report.problems.push(format!("call `{key}` of `{primitive}`: `{blob}` is no digest")),
            Some(digest) if !seen.insert(digest) => {}
            Some(digest) if store.blobs.read_verified(digest)?.is_some() => report.intact_blobs += 1,
            Some(_) => report.problems.push(format!("call `{key}` of `{primitive}`: blob `{blob}` is lost or altered")),
        }
    }
    report.unreferenced_blobs = store.blobs.list()?.iter().filter(|digest| !seen.contains(digest)).count();
    Ok(report)
}
