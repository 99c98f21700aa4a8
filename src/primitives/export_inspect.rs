//! `export_inspect`: logs that Inspect's viewer and readers open, one for each model and evaluation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::export_answers::sheets_of;
use super::model::Model;
use super::results::Part;
use super::summarize::Measured;
use crate::data::digest::Digest;
use crate::data::evaluation::Judge;
use crate::data::sheet::Sheet;
use crate::data::statistics::{CONFIDENCE, Observation, Range, estimate};
use crate::error::{Error, Result};
use crate::export::inspect::{Facts, Usage, eval_log, file_name, json_log, summary_index};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// A zip of JSON files: small, and read sample by sample.
    #[default]
    Eval,
    /// One JSON object.
    Json,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Folder in the run's folder.
    folder: String,
    /// "eval" (a zip, read sample by sample) or "json".
    format: Format,
    /// Tells the probabilities of judges' words too, which makes logs large.
    probabilities: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { folder: "inspect".to_string(), format: Format::default(), probabilities: false }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("export_inspect", run)
        .about(
            "Writes a log for every model and evaluation that `inspect view` and inspect_ai's `read_eval_log` open: \
             messages, every judge's score with its words, reasons where there is none, statistics; and `groups.json`, \
             which says which log belongs to which point of the grid. Waits for the scores. Returns the paths; empty when \
             only planned.",
        )
        .input("results", "What `evaluate` or `sweep` returned.")
        .example("export_inspect(cells, #{ format: \"json\" })")
}

fn run(lab: &Lab, _: &Call, (results,): (Measured,), options: Options) -> Result<Vec<String>> {
    if lab.planning() {
        return Ok(Vec::new());
    }
    let sheets = sheets_of(&results)?;
    let parts: Vec<&Part> = match &results {
        Measured::Results(results) => results.parts().iter().collect(),
        Measured::Cells(cells) => cells.0.iter().flat_map(|(_, results)| results).flat_map(|one| one.parts()).collect(),
    };
    let extension = match options.format {
        Format::Eval => "eval",
        Format::Json => "json",
    };
    let facts = sheets.iter().zip(parts).map(|(sheet, part)| facts_of(lab, sheet, part, options.probabilities));
    let facts: Vec<Facts> = facts.collect::<Result<_>>()?;
    let mut paths = Vec::with_capacity(sheets.len() + 1);
    for (sheet, facts) in sheets.iter().zip(&facts) {
        let bytes = match options.format {
            Format::Eval => eval_log(sheet, facts)?,
            Format::Json => json_log(sheet, facts)?,
        };
        paths.push(lab.write_result(&format!("{}/{}", options.folder, file_name(sheet, facts, extension)), &bytes)?);
    }
    let logs: Vec<(&Sheet, &Facts)> = sheets.iter().zip(&facts).collect();
    let index = serde_json::to_string_pretty(&summary_index(&logs, extension)?);
    let index = index.map_err(|error| Error::internal(error.to_string()))?;
    paths.push(lab.write_result(&format!("{}/groups.json", options.folder), (index + "\n").as_bytes())?);
    Ok(paths)
}

fn facts_of(lab: &Lab, sheet: &Sheet, part: &Part, probabilities: bool) -> Result<Facts> {
    let observations: Vec<Observation> = sheet
        .answers
        .iter()
        .map(|answer| Observation {
            seed: 0,
            question: answer.question as u32,
            score: answer.score.ok_or_else(|| answer.reason.clone().unwrap_or_else(|| "unknown".to_string())),
        })
        .collect();
    let scored = observations.iter().any(|observation| observation.score.is_ok());
    let (title, question) = lab.title();
    let of_judge = |(judge, model): (&Judge, &Option<Model>)| {
        let model = model.as_ref()?.name().to_string();
        Some(judge.names().into_iter().map(move |name| (name, model.clone())))
    };
    Ok(Facts {
        title: title.to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        usage: usage_of(lab, sheet)?,
        statistics: if scored { Some(estimate(&observations, Range::default(), CONFIDENCE)?) } else { None },
        judge_models: part
            .evaluation
            .judges
            .iter()
            .zip(part.judge_models.iter())
            .filter_map(of_judge)
            .flatten()
            .collect(),
        metadata: [("question".to_string(), json!(question))].into(),
        probabilities,
        ..Facts::default()
    })
}

/// Tokens of the answers as their provider counted them; none for a model that lives here.
fn usage_of(lab: &Lab, sheet: &Sheet) -> Result<Option<Usage>> {
    let keys: Vec<Digest> = sheet.answers.iter().map(|answer| answer.key).collect();
    let mut total = Usage::default();
    for response in lab.store().get_responses(&keys)?.into_iter().flatten() {
        let body: Value = serde_json::from_str(&response.body).unwrap_or_default();
        let usage = &body["usage"];
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
        total.input_tokens += count(&usage["prompt_tokens"]).saturating_sub(cached);
        total.cached_input_tokens += cached;
        total.output_tokens += count(&usage["completion_tokens"]);
    }
    Ok((total != Usage::default()).then_some(total))
}
