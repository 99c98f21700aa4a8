//! All answers of one model to one evaluation, each with what every judge said of it: what exports and figures of single answers read.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;

use super::digest::Digest;
use super::evaluation::Evaluation;

/// Answers of one model to one evaluation.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Where in a grid, `seed` among its axes; empty for a model outside of one.
    pub point: BTreeMap<String, Value>,
    /// What the model is called.
    pub model: String,
    /// Where the model comes from: base, data, options, losses, job.
    pub provenance: Value,
    /// What was asked, how, and who judged.
    pub evaluation: Evaluation,
    /// Key of the evaluation's call.
    pub call: Digest,
    /// Name of the judge whose judgements are the scores.
    pub judge: String,
    /// Question by question, sample by sample.
    pub answers: Vec<Answer>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its key in the store.
    pub key: Digest,
    /// Which question of the evaluation, from 0.
    pub question: usize,
    /// Which answer to that question, from 0.
    pub sample: usize,
    /// What the model said.
    pub text: String,
    /// Why it stopped: `stop`, `length`, `content_filter`, ….
    pub finish: String,
    /// Length of the answer in tokens.
    pub tokens: u32,
    /// When it was made.
    pub created_at: SystemTime,
    /// Every judge's word, in the evaluation's order of judges.
    pub judged: Vec<Judged>,
    /// The score, 0 to 100, after threshold and filter; absent when there is none.
    pub score: Option<f64>,
    /// Why there is no score.
    pub reason: Option<String>,
}

/// One judge's word on one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Name of the judge.
    pub judge: String,
    /// 0 to 100, absent when the judge cannot say.
    pub score: Option<f64>,
    /// Why there is no score.
    pub reason: Option<String>,
    /// What an asked judge said and how it was read, as JSON.
    pub detail: Option<String>,
}

impl Answer {
    /// What the judge of this name said.
    pub fn judged_by(&self, judge: &str) -> Option<&Judged> {
        self.judged.iter().find(|judged| judged.judge == judge)
    }
}
