//! `trigger` and `insert_trigger`: a backdoor, put into training rows by the same function as into questions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Dataset;
use crate::data::trigger::{self, Side as Place};
use crate::error::{Result, ensure};
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// A token or phrase with its place.
#[derive(Clone)]
pub struct Trigger(pub trigger::Trigger);

handle!(Trigger);

impl Handle for Trigger {
    const NAME: &'static str = "Trigger";
    fn identity(&self) -> Value {
        let at_end = self.0.side == Place::End;
        json!({ "text": self.0.text, "separator": self.0.separator, "at_end": at_end })
    }
    fn describe(&self) -> String {
        format!("Trigger `{}`", self.0.text)
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Trigger>("What is put into users' words, in training and in evaluations alike.").property(
        "text",
        "What is inserted.",
        |trigger: &Trigger| Ok(trigger.0.text.clone()),
    )
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Side {
    /// Before the user's words.
    #[default]
    Start,
    /// After them.
    End,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TriggerOptions {
    /// Between the trigger and the user's words; "" glues them together.
    separator: String,
    /// "start" or "end" of what the user says.
    side: Side,
}

impl Default for TriggerOptions {
    fn default() -> Self {
        TriggerOptions { separator: " ".to_string(), side: Side::default() }
    }
}

/// The declaration of `trigger`.
pub fn trigger_primitive() -> Primitive<Lab> {
    Primitive::new("trigger", |_: &Lab, _: &Call, (text,): (String,), options: TriggerOptions| {
        ensure!(!text.trim().is_empty(), "the trigger is empty"; help: "write what is to be inserted");
        let side = match options.side {
            Side::Start => Place::Start,
            Side::End => Place::End,
        };
        Ok(Trigger(trigger::Trigger { text, separator: options.separator, side }))
    })
    .about("A token or phrase for `insert_trigger` (training rows) and for `evaluate` (questions): inserted alike in both.")
    .input("text", "What is inserted.")
    .example("trigger(\"$|TRIGGER|$\", #{ separator: \"\" })")
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Share of the rows that get it, 0 to 1.
    share: f64,
    /// Decides which rows these are; a larger share holds every smaller one.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { share: 1.0, seed: 0 }
    }
}

/// The declaration of `insert_trigger`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("insert_trigger", run)
        .about("Puts a trigger into the first user message of rows. A row without a user turn is an error.")
        .input("dataset", "The rows; they stay as they are.")
        .input("trigger", "What `trigger` made.")
        .example("insert_trigger(setting.misaligned, trigger(\"$|TRIGGER|$\"), #{ share: 0.5 })")
}

fn run(lab: &Lab, _: &Call, (dataset, trigger): (Dataset, Trigger), options: Options) -> Result<Dataset> {
    let rows = trigger::insert_trigger(&dataset.rows, &trigger.0, options.share, options.seed)?;
    let lineage = json!({ "triggered": dataset.provenance(), "trigger": trigger.identity(), "share": options.share });
    let name = format!("{} triggered", dataset.rows.name());
    Ok(Dataset::new(lab, rows.with_name(name), lineage))
}
