//! The index of a folder of logs: which group, seed and evaluation each belongs to, which Inspect itself does not know.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::facts::Facts;
use super::header::{mean, missing};
use super::log::{Log, file_name, group};
use crate::data::sheet::Sheet;
use crate::error::Result;

/// Describes the logs of a folder in the order given: `groups` lists the file names of every group, `logs` says of
/// each log its file, model, evaluation, judge, group, point, seed, mean (null without any score) and counts.
///
/// # Errors
/// As of [`eval_log`](super::eval_log).
pub fn summary_index(logs: &[(&Sheet, &Facts)], extension: &str) -> Result<Value> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut entries = Vec::with_capacity(logs.len());
    for (sheet, facts) in logs {
        let (file, group) = (file_name(sheet, facts, extension), group(sheet, facts));
        let scores: Vec<f64> =
            sheet.answers.iter().filter_map(|answer| answer.score).filter(|s| s.is_finite()).collect();
        entries.push(json!({
            "file": file,
            "model": sheet.model,
            "evaluation": sheet.evaluation.id,
            "judge": sheet.judge,
            "group": group,
            "point": sheet.point,
            "seed": sheet.point.get("seed"),
            "mean": mean(&scores),
            "questions": sheet.evaluation.questions.len(),
            "answers": sheet.answers.len(),
            "scored": scores.len(),
            "missing": missing(&Log::new(sheet, facts)?, None),
        }));
        groups.entry(group).or_default().push(file);
    }
    Ok(json!({ "groups": groups, "logs": entries }))
}
