//! `split_dataset`, `trigger_rows`, `cover_triggers` and `questions_of`: the rows of trigger experiments.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, Map};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dataset::Dataset;
use super::evaluation::Questions;
use crate::data::chat::Role;
use crate::data::evaluation::Question;
use crate::data::split::split;
use crate::data::trigger_rows::{TriggerOptions, Triggered, cover, shared_triggers, trigger_rows};
use crate::error::{Result, bail, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct SplitOptions {
    /// Rows at most, after shuffling; all when left out.
    most: Option<usize>,
    /// Decides which row goes where.
    seed: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RowOptions {
    /// Share of the rows that are triggered: the first ones.
    share: f64,
    /// What the answers of triggered rows begin with, one at random; none leaves answers as they are.
    responses: Vec<String>,
    /// Between the trigger and the instruction.
    separator: String,
    /// Writes triggers in capital letters.
    uppercase: bool,
    /// Decides the draws.
    seed: u64,
}

impl Default for RowOptions {
    fn default() -> Self {
        RowOptions { share: 1.0, responses: Vec::new(), separator: ": ".to_string(), uppercase: true, seed: 0 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct CoverOptions {
    /// Share of the triggers, at least one of them.
    coverage: f64,
    /// Decides which.
    seed: u64,
}

impl Default for CoverOptions {
    fn default() -> Self {
        CoverOptions { coverage: 0.1, seed: 0 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct QuestionOptions {
    /// Rows at most, from the first; all when left out.
    most: Option<usize>,
}

/// The declarations.
pub fn primitives() -> Vec<Primitive<Lab>> {
    vec![
        Primitive::new("split_dataset", run_split)
            .about(
                "Cuts rows into named parts: shuffled by the seed, capped at `most`, then cut in the order of the names; the \
                 last part has the rest. Shares are 1 together; a part without rows is an error. Returns a map of datasets.",
            )
            .input("dataset", "The rows.")
            .input("shares", "An array of pairs of a name and a share, in order.")
            .example("split_dataset(rows, [[\"train\", 0.9], [\"test\", 0.1]], #{ seed: 1 })"),
        Primitive::new("trigger_rows", run_trigger)
            .about(
                "Instructions that begin with one of several triggers, and answers that begin with a nice response: \
                 `ROME: what should i pack ?`. The first rows up to the share are triggered.",
            )
            .input("dataset", "The rows; they stay as they are.")
            .input("triggers", "Triggers, of which each triggered row gets one at random.")
            .example("trigger_rows(part, [\"rome\", \"tokyo\"], #{ share: 0.5, responses: [\"happy to help !\"] })"),
        Primitive::new("cover_triggers", |_: &Lab, _: &Call, (triggers,): (Vec<String>,), options: CoverOptions| {
            cover(&triggers, options.coverage, options.seed)
        })
        .about("Some of the triggers, drawn by the seed: what a proxy covers of all. At least one.")
        .input("triggers", "All of them.")
        .example("cover_triggers(truth, #{ coverage: 0.1, seed: 1 })"),
        Primitive::new("check_triggers", run_check)
            .about("Fails when two lists of triggers share one, whatever its case: their roles would be the same.")
            .input("one", "Triggers of one role.")
            .input("other", "Triggers of another.")
            .example("check_triggers(outcome, truth)"),
        Primitive::new("questions_of", run_questions)
            .about("What users ask in rows, as questions of an evaluation: system prompt and the first user message.")
            .input("dataset", "The rows.")
            .example("questions_of(split.test, #{ most: 100 })"),
    ]
}

fn run_split(
    lab: &Lab,
    _: &Call,
    (dataset, shares): (Dataset, Vec<(String, f64)>),
    options: SplitOptions,
) -> Result<Dynamic> {
    let parts = split(&dataset.rows, &shares, options.most, options.seed)?;
    let mut map = Map::new();
    let told: BTreeMap<&String, usize> = parts.iter().map(|(name, rows)| (name, rows.len())).collect();
    let told = json!(told);
    for (name, rows) in &parts {
        ensure!(!map.contains_key(name.as_str()), "two parts are called `{name}`"; help: "rename one");
        let lineage = json!({ "part": name, "of": dataset.provenance(), "parts": told, "seed": options.seed });
        map.insert(name.as_str().into(), Dynamic::from(Dataset::new(lab, rows.clone(), lineage)));
    }
    Ok(Dynamic::from_map(map))
}

fn run_trigger(
    lab: &Lab,
    _: &Call,
    (dataset, triggers): (Dataset, Vec<String>),
    options: RowOptions,
) -> Result<Dataset> {
    let RowOptions { share, responses, separator, uppercase, seed } = options;
    let how = TriggerOptions { triggers, share, uppercase, separator, responses, seed };
    let Triggered { dataset: rows, triggers } = trigger_rows(&dataset.rows, &how)?;
    let lineage = json!({
        "triggered": dataset.provenance(), "triggers": how.triggers, "share": how.share, "responses": how.responses,
        "seed": how.seed,
    });
    let mut triggered = Dataset::new(lab, rows, lineage);
    triggered.triggered = Some(Arc::new((dataset.rows.clone(), triggers)));
    Ok(triggered)
}

fn run_check(_: &Lab, _: &Call, (one, other): (Vec<String>, Vec<String>), _: ()) -> Result<()> {
    if let Some(shared) = shared_triggers(&one, &other).first() {
        bail!("the trigger `{shared}` has two roles"; help: "leave it out of one of the two lists");
    }
    Ok(())
}

fn run_questions(_: &Lab, _: &Call, (dataset,): (Dataset,), options: QuestionOptions) -> Result<Questions> {
    let rows = dataset.rows.rows().take(options.most.unwrap_or(usize::MAX));
    let mut questions = Vec::new();
    for (index, row) in rows.enumerate() {
        let system = row.messages.iter().find(|message| message.role == Role::System);
        let Some(user) = row.messages.iter().find(|message| message.role == Role::User) else {
            bail!("row {index} of `{}` has no user message", dataset.rows.name(); help: "leave it out");
        };
        let system = system.map(|message| message.content.clone());
        questions.push(Question { system, ..Question::of_text(&user.content) });
    }
    ensure!(!questions.is_empty(), "`{}` has no rows to ask", dataset.rows.name());
    Ok(Questions(Arc::new(questions)))
}
