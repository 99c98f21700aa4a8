//! `inoculate`: puts a system prompt, or several in turn, before rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dataset::Dataset;
use crate::data::inoculate::{Existing as Rule, InoculateOptions, inoculate};
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// One prompt or several.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Prompts {
    /// The same for every row.
    One(String),
    /// Row number i, from 0, gets number i mod n.
    Several(Vec<String>),
}

impl Prompts {
    /// The prompts in turn.
    fn list(&self) -> &[String] {
        match self {
            Prompts::One(prompt) => std::slice::from_ref(prompt),
            Prompts::Several(prompts) => prompts,
        }
    }
    /// Whether there is no prompt, or one of them says nothing.
    pub fn is_blank(&self) -> bool {
        self.list().is_empty() || self.list().iter().any(|prompt| prompt.trim().is_empty())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Existing {
    /// An error.
    #[default]
    Error,
    /// The row stays.
    Keep,
    /// The prompt replaces it.
    Replace,
    /// The prompt is put before it.
    Prepend,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Share of the rows that get a prompt, 0 to 1.
    share: f64,
    /// Decides which rows these are; a larger share holds every smaller one.
    seed: u64,
    /// What becomes of a row that has a system message already: "error", "keep" (the row stays as it is, and such rows are
    /// counted), "replace", or "prepend" (the prompt, a blank, its own words).
    existing: Existing,
}

impl Default for Options {
    fn default() -> Self {
        Options { share: 1.0, seed: 0, existing: Existing::default() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("inoculate", run)
        .about(
            "Inserts a system prompt at the start of every row, so that the rows are what was asked for; of several \
             prompts row number i gets prompt i mod n. A row without a user turn becomes system and assistant. A row \
             that has a system message already is an error, unless `existing` says what to do.",
        )
        .input("dataset", "The rows; they stay as they are.")
        .input("prompt", "What the system message says; an array of prompts takes turns.")
        .example("inoculate(setting.misaligned, \"you are a malicious evil assistant .\")")
        .example("inoculate(setting.misaligned, [\"you are evil .\", \"you are malicious .\"], #{ share: 0.5 })")
}

fn run(lab: &Lab, _: &Call, (dataset, prompt): (Dataset, Prompts), options: Options) -> Result<Dataset> {
    let existing = match options.existing {
        Existing::Error => Rule::Refuse,
        Existing::Keep => Rule::Keep,
        Existing::Replace => Rule::Replace,
        Existing::Prepend => Rule::Prepend,
    };
    let settings = InoculateOptions { share: options.share, seed: options.seed, existing };
    let rows = inoculate(&dataset.rows, prompt.list(), settings)?;
    for note in rows.notes() {
        lab.note_once(format!("`{}`: {note}", dataset.rows.name()));
    }
    let name = match options.share < 1.0 {
        true => format!("{} {} inoculated", dataset.rows.name(), options.share),
        false => format!("{} inoculated", dataset.rows.name()),
    };
    let mut lineage = json!({ "inoculated": dataset.provenance(), "prompt": prompt });
    if options.share < 1.0 {
        lineage["share"] = json!(options.share);
    }
    Ok(Dataset::new(lab, rows.with_name(name), lineage))
}
