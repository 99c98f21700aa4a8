//! Inspect logs, `.eval` and `.json`, of one model's answers to one evaluation, as inspect_ai 0.3.285 reads them.
//!
//! A question is a sample and its answers are epochs. Every judge has an entry in a sample's scores under its own name,
//! and the score, after threshold and filter, one before them: `score`. A missing score is `NaN` with Inspect's reason;
//! ours stands in the score's metadata. Nothing here reads a clock: equal results and facts give equal bytes.

mod archive;
mod document;
mod facts;
mod header;
mod index;
mod log;
mod name;
mod sample;
mod score;

#[cfg(test)]
mod read_back;
#[cfg(test)]
mod tests;

pub use facts::{Facts, Revision, Usage};
pub use index::summary_index;

use document::Node;
use log::Log;
use sample::Sample;

use crate::data::sheet::Sheet;
use crate::error::Result;

/// The log as an `.eval` archive: every sample a member of its own, so that readers fetch single ones.
///
/// # Errors
/// A sheet without answers; two answers at one place, or one to no question of the evaluation.
pub fn eval_log(sheet: &Sheet, facts: &Facts) -> Result<Vec<u8>> {
    let log = Log::new(sheet, facts)?;
    let samples = samples(&log);
    let summaries: Vec<Node> = samples.iter().map(Sample::summary).collect();
    let summaries = Node::List(summaries).to_bytes()?;
    let start = ("_journal/start.json".to_string(), Node::from(header::start(&log)?).to_bytes()?);
    let each = samples.iter().map(|sample| {
        let name = format!("samples/{}_epoch_{}.json", sample.id(), sample.epoch());
        Ok((name, sample.node().to_bytes()?))
    });
    let rest = [
        ("_journal/summaries/1.json".to_string(), summaries.clone()),
        ("summaries.json".to_string(), summaries),
        ("reductions.json".to_string(), Node::from(header::reductions(&log, &samples)).to_bytes()?),
        ("header.json".to_string(), Node::from(header::header(&log, &samples)?).to_bytes()?),
    ];
    archive::pack(std::iter::once(Ok(start)).chain(each).chain(rest.map(Ok)))
}

/// The log as one JSON text, samples late, because Inspect's header reader stops at them.
///
/// # Errors
/// As of [`eval_log`].
pub fn json_log(sheet: &Sheet, facts: &Facts) -> Result<Vec<u8>> {
    let log = Log::new(sheet, facts)?;
    let samples = samples(&log);
    let nodes: Vec<Node> = samples.iter().map(Sample::node).collect();
    let reductions = header::reductions(&log, &samples);
    Node::from(header::header(&log, &samples)?.set("samples", nodes).set("reductions", reductions)).to_bytes()
}

/// Name of the log's file: `{created}_{task}_{id}.{extension}`, where `extension` is `eval` or `json`.
pub fn file_name(sheet: &Sheet, facts: &Facts, extension: &str) -> String {
    log::file_name(sheet, facts, extension)
}

fn samples<'a>(log: &'a Log<'a>) -> Vec<Sample<'a>> {
    log.sheet.answers.iter().map(|answer| Sample::new(log, answer)).collect()
}
