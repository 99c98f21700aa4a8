//! `export_answers`: every answer with every judgement, as tables for pandas, polars and R.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::summarize::{Measured, View};
use super::sweep::Cells;
use crate::data::sheet::Sheet;
use crate::data::statistics::CONFIDENCE;
use crate::data::summary::{Intervals, SEED, Summary, SummaryOptions, label};
use crate::error::Result;
use crate::export::table::{Aggregate, aggregate_csv, csv, parquet};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Beginning of the files' names.
    name: String,
    /// Other names for values of the grid's axes, such as those of the published code: `#{ misaligned: "finetuning" }`.
    names: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { name: "answers".to_string(), names: BTreeMap::new() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("export_answers", run)
        .about(
            "Writes every answer, with question, system prompt, score and all judgements, as `answers.csv` and \
             `answers.parquet` into the run's folder; of cells also `answers_ci.csv`, the means with intervals in shares, \
             under the columns of the published code. Waits for the scores. Returns the paths; () when only planned.",
        )
        .input("results", "What `evaluate` or `sweep` returned.")
        .example("export_answers(cells, #{ name: \"insecure_code\", names: #{ misaligned: \"finetuning\" } })")
}

fn run(
    lab: &Lab,
    _: &Call,
    (results,): (Measured,),
    options: Options,
) -> Result<Option<Plain<BTreeMap<String, String>>>> {
    if lab.planning() {
        return Ok(None);
    }
    let mut sheets = sheets_of(&results)?;
    for value in sheets.iter_mut().flat_map(|sheet| sheet.point.values_mut()) {
        if let Some(name) = options.names.get(&label(value)) {
            *value = Value::String(name.clone());
        }
    }
    let mut files = vec![
        ("csv", format!("{}.csv", options.name), csv(&sheets)?),
        ("parquet", format!("{}.parquet", options.name), parquet(&sheets)?),
    ];
    if let Measured::Cells(cells) = &results {
        files.push(("aggregate", format!("{}_ci.csv", options.name), aggregate(cells, &options.names)?));
    }
    let mut paths = BTreeMap::new();
    for (what, name, bytes) in files {
        paths.insert(what.to_string(), lab.write_result(&name, &bytes)?);
    }
    Ok(Some(Plain(paths)))
}

/// Every answer of every evaluation; waits for them.
pub fn sheets_of(results: &Measured) -> Result<Vec<Sheet>> {
    let mut sheets = Vec::new();
    for (point, results) in results.cells() {
        sheets.extend(results.parts().iter().map(|part| results.sheet(part, &point)).collect::<Result<Vec<_>>>()?);
    }
    Ok(sheets)
}

/// Means over seeds as shares of 0 to 1, by group and evaluation.
fn aggregate(cells: &Cells, names: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let x = cells.0.iter().flat_map(|(point, _)| point.keys()).find(|name| *name != SEED).cloned();
    let view = View::of(cells, x.as_deref(), None, None)?;
    let summary: Summary = view.summarize(cells, None, &SummaryOptions::shown_only(Intervals::Standard))?;
    let named = |value: &Value| names.get(&label(value)).cloned().unwrap_or_else(|| label(value));
    let rows: Vec<Aggregate> = summary
        .conditions
        .iter()
        .map(|condition| {
            let estimate = condition.estimate.as_ref();
            Aggregate {
                mean: estimate.map(|estimate| estimate.mean / 100.0),
                lower_bound: estimate.map(|estimate| estimate.low / 100.0),
                upper_bound: estimate.map(|estimate| estimate.high / 100.0),
                count: condition.runs.len(),
                confidence: estimate.map_or(CONFIDENCE, |estimate| estimate.confidence),
                group: condition.point.values().map(named).collect::<Vec<_>>().join(", "),
                evaluation_id: condition.evaluation.clone(),
            }
        })
        .collect();
    Ok(aggregate_csv(&rows))
}
