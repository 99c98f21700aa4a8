//! One log: a sheet with its facts, checked, and the names under which things stand in it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::facts::Facts;
use super::name::{LONGEST_NAME, question_id, safe_name, second};
use crate::data::digest::{Digest, canonical};
use crate::data::sheet::Sheet;
use crate::error::{Error, Result, ensure};

/// Digits of a key in a file name.
const ID_DIGITS: usize = 24;

/// What is written.
pub(super) struct Log<'a> {
    /// The answers.
    pub sheet: &'a Sheet,
    /// What else is known.
    pub facts: &'a Facts,
    /// Names of the judges, those of the evaluation first.
    pub judges: Vec<String>,
    /// Name of the score among the judges' names.
    pub score_name: String,
    /// Question by question.
    pub question_ids: Vec<String>,
    /// Answers per question.
    pub epochs: usize,
}

impl<'a> Log<'a> {
    /// Checks that every answer has a place of its own.
    pub fn new(sheet: &'a Sheet, facts: &'a Facts) -> Result<Self> {
        let evaluation = &sheet.evaluation;
        let (name, questions) = (&evaluation.id, evaluation.questions.len());
        ensure!(!sheet.answers.is_empty(), "`{name}` of `{}` has no answers to write", sheet.model);
        let mut judges: Vec<String> = Vec::new();
        let mut places = BTreeSet::new();
        let named = evaluation.judges.iter().flat_map(|judge| judge.names());
        let judged = sheet.answers.iter().flat_map(|answer| answer.judged.iter().map(|judged| judged.judge.clone()));
        for judge in named.chain(judged) {
            if !judges.contains(&judge) {
                judges.push(judge);
            }
        }
        for answer in &sheet.answers {
            let place = (answer.question, answer.sample);
            if answer.question >= questions || !places.insert(place) {
                return Err(Error::internal(format!("`{name}` has answers at {place:?} of {questions} questions")));
            }
        }
        let mut score_name = "score".to_string();
        while judges.contains(&score_name) {
            score_name = format!("final_{score_name}");
        }
        let texts = evaluation.questions.iter().enumerate();
        let question_ids = texts.map(|(index, question)| question_id(index, questions, &question.text)).collect();
        let most = sheet.answers.iter().map(|answer| answer.sample + 1).max().unwrap_or(0);
        Ok(Log { sheet, facts, judges, score_name, question_ids, epochs: evaluation.samples.max(most) })
    }

    /// Answers that the evaluation asks for.
    pub fn asked(&self) -> usize {
        self.question_ids.len() * self.epochs
    }
}

/// When a log was made: never now, so that equal results give equal bytes.
pub(super) fn created(sheet: &Sheet, facts: &Facts) -> SystemTime {
    let first = sheet.answers.iter().map(|answer| answer.created_at).min();
    facts.created.or(first).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Identity of a log among those of a folder: the call, and the point where it stands, for the same model may stand at
/// several. Without a character that would part a file name.
pub(super) fn task_id(sheet: &Sheet) -> String {
    let identity = json!({ "call": sheet.call, "model": sheet.model, "point": sheet.point, "judge": sheet.judge });
    // Points hold what scripts can write, of which canonical JSON refuses nothing but infinite numbers.
    let digest = Digest::of_json(&identity).unwrap_or(sheet.call);
    digest.to_string()[..ID_DIGITS].to_string()
}

/// Name of a log's file, `{created}_{task}_{id}.{extension}`.
pub(super) fn file_name(sheet: &Sheet, facts: &Facts, extension: &str) -> String {
    let task = match safe_name(&sheet.evaluation.id, LONGEST_NAME) {
        name if name.is_empty() => "evaluation".to_string(),
        name => name,
    };
    let time = second(created(sheet, facts)).replace(':', "-");
    format!("{time}_{task}_{}.{extension}", task_id(sheet))
}

/// Name of the group to which a log belongs: what the caller says, or its point without the seed, or its model.
pub(super) fn group(sheet: &Sheet, facts: &Facts) -> String {
    let axes: Vec<String> = axes(sheet).filter(|axis| !axis.starts_with("seed=")).collect();
    match &facts.group {
        Some(group) => group.clone(),
        None if axes.is_empty() => sheet.model.clone(),
        None => axes.join(", "),
    }
}

/// Every axis of the point, `seed=3`.
pub(super) fn axes(sheet: &Sheet) -> impl Iterator<Item = String> + '_ {
    sheet.point.iter().map(|(axis, value)| match value {
        Value::String(text) => format!("{axis}={text}"),
        other => format!("{axis}={}", canonical(other).unwrap_or_else(|_| other.to_string())),
    })
}
