//! One answer of a model: a row of its own, so that more samples later buy only what is missing.

use std::time::SystemTime;

use rusqlite::{Row, Transaction};

use super::index::{get_many, read_time, time_text};
use crate::data::digest::Digest;

/// One row of `samples`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// [`Key::sample`](super::key::Key::sample) of the request.
    pub key: Digest,
    /// Key of the call that asked for it first.
    pub call: Digest,
    /// Which question of that call, from 0.
    pub question_index: u32,
    /// Which answer to the same question, from 0.
    pub sample_index: u32,
    /// What the model said.
    pub answer: String,
    /// Why it stopped: `stop`, `length`, ….
    pub finish: String,
    /// Length of the answer in tokens.
    pub tokens: u32,
    /// Natural logarithm of the answer's probability, where it is known; NaN reads back as nothing.
    pub logprob: Option<f64>,
    /// When it was made; kept to the millisecond.
    pub created_at: SystemTime,
}

pub(super) fn get(transaction: &Transaction, keys: &[Digest]) -> rusqlite::Result<Vec<Option<Sample>>> {
    get_many(
        transaction,
        "SELECT key, call, question_index, sample_index, answer, finish, tokens, logprob, created_at
         FROM samples WHERE key = ?1",
        keys,
        read,
    )
}

pub(super) fn put(transaction: &Transaction, samples: &[Sample]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO samples
         (key, call, question_index, sample_index, answer, finish, tokens, logprob, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for sample in samples {
        statement.execute(rusqlite::params![
            sample.key,
            sample.call,
            sample.question_index,
            sample.sample_index,
            sample.answer,
            sample.finish,
            sample.tokens,
            sample.logprob,
            time_text(sample.created_at),
        ])?;
    }
    Ok(())
}

// By position: at 100,000 rows looking columns up by name shows.
fn read(row: &Row) -> rusqlite::Result<Sample> {
    Ok(Sample {
        key: row.get(0)?,
        call: row.get(1)?,
        question_index: row.get(2)?,
        sample_index: row.get(3)?,
        answer: row.get(4)?,
        finish: row.get(5)?,
        tokens: row.get(6)?,
        logprob: row.get(7)?,
        created_at: read_time(row, 8)?,
    })
}
