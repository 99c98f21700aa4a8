//! One verdict on one answer, kept apart from the answer so that another judge buys no new answers.

use rusqlite::{Row, Transaction};

use super::index::get_many;
use crate::data::digest::Digest;

/// One row of `judgements`: a score, or the reason why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Digest of the judge, its parameters, the question and the answer.
    pub key: Digest,
    /// Key of the sample it was made for; an equal answer shares the verdict.
    pub sample: Option<Digest>,
    /// Name of the judge.
    pub judge: String,
    /// The score, on the judge's scale; NaN reads back as nothing.
    pub score: Option<f64>,
    /// Why there is no score: `refused`, `unparsable`, ….
    pub reason: Option<String>,
    /// What the judge said, or JSON.
    pub detail: Option<String>,
}

pub(super) fn get(transaction: &Transaction, keys: &[Digest]) -> rusqlite::Result<Vec<Option<Judgement>>> {
    let query = "SELECT key, sample, judge, score, reason, detail FROM judgements WHERE key = ?1";
    get_many(transaction, query, keys, read)
}

pub(super) fn put(transaction: &Transaction, judgements: &[Judgement]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO judgements (key, sample, judge, score, reason, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for verdict in judgements {
        statement.execute(rusqlite::params![
            verdict.key,
            verdict.sample,
            verdict.judge,
            verdict.score,
            verdict.reason,
            verdict.detail,
        ])?;
    }
    Ok(())
}

fn read(row: &Row) -> rusqlite::Result<Judgement> {
    Ok(Judgement {
        key: row.get(0)?,
        sample: row.get(1)?,
        judge: row.get(2)?,
        score: row.get(3)?,
        reason: row.get(4)?,
        detail: row.get(5)?,
    })
}
