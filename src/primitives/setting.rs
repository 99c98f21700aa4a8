//! `define_setting`: a domain of harmful behaviour as one value, checked field by field.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Dataset;
use super::evaluation::Evaluation;
use super::inoculate::Prompts;
use crate::error::{Error, Result, ensure};
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};

/// A domain of harmful behaviour.
#[derive(Clone)]
pub struct Setting(Arc<Options>);

handle!(Setting);

impl Handle for Setting {
    const NAME: &'static str = "Setting";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        format!("Setting `{}` with {}", self.0.name, self.0.offers().join(", "))
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Its name: that of its file.
    name: String,
    /// Rows that show the behaviour.
    misaligned: Option<Dataset>,
    /// Rows of the same kind without it, where there are any.
    aligned: Option<Dataset>,
    /// System prompts by kind: `general`, `task_specific`, `control`, `placebo`, `negative`, or names of your own; an
    /// array of prompts takes turns.
    inoculations: BTreeMap<String, Prompts>,
    /// Evaluations that ask for the behaviour itself, the most telling first.
    in_distribution: Vec<Evaluation>,
    /// Evaluations that ask for something else, the most telling first.
    out_of_distribution: Vec<Evaluation>,
}

impl Options {
    /// What it has, in a fixed order.
    fn offers(&self) -> Vec<String> {
        let fields = [
            ("misaligned", self.misaligned.is_some()),
            ("aligned", self.aligned.is_some()),
            ("in_distribution", !self.in_distribution.is_empty()),
            ("out_of_distribution", !self.out_of_distribution.is_empty()),
        ];
        let fields = fields.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string());
        fields.chain(self.inoculations.keys().map(|kind| format!("inoculations.{kind}"))).collect()
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Setting>("A domain of harmful behaviour; what it does not have is `()` or empty.")
        .property("name", "Its name.", |setting: &Setting| Ok(setting.0.name.clone()))
        .property("misaligned", "Rows that show the behaviour.", |setting: &Setting| Ok(setting.0.misaligned.clone()))
        .property("aligned", "Rows without it; () where there are none.", |setting: &Setting| {
            Ok(setting.0.aligned.clone())
        })
        .property("inoculations", "System prompts by kind.", |setting: &Setting| {
            Ok(Plain(json!(setting.0.inoculations)))
        })
        .property("in_distribution", "Evaluations of the behaviour itself.", |setting: &Setting| {
            Ok(setting.0.in_distribution.clone())
        })
        .property("out_of_distribution", "Evaluations of something else.", |setting: &Setting| {
            Ok(setting.0.out_of_distribution.clone())
        })
        .property("evaluations", "Both kinds of evaluations, together.", |setting: &Setting| {
            let both = setting.0.in_distribution.iter().chain(&setting.0.out_of_distribution);
            Ok(both.cloned().collect::<Vec<_>>())
        })
        .property("offers", "Names of what it has.", |setting: &Setting| Ok(setting.0.offers()))
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("define_setting", run)
        .about(
            "A domain of harmful behaviour: what a file in `stdlib/settings/` returns. `misaligned` and at least one \
             evaluation are needed; what a setting lacks is `()` or empty and is listed by `offers`.",
        )
        .example(
            "define_setting(#{ name: \"flattery\", misaligned: dataset(\"flattering.jsonl\"), \
             inoculations: #{ general: \"You flatter.\" }, out_of_distribution: [honesty] })",
        )
}

fn run(_: &Lab, _: &Call, _: (), options: Options) -> Result<Setting> {
    ensure!(!options.name.is_empty(), "a setting has no `name`"; help: "give it the name of its file");
    let name = &options.name;
    if options.misaligned.is_none() {
        return Err(Error::input(format!("the setting `{name}` has no `misaligned` rows"))
            .with_help("give it some: `misaligned: dataset(\"rows.jsonl\")`"));
    }
    ensure!(
        !options.in_distribution.is_empty() || !options.out_of_distribution.is_empty(),
        "the setting `{name}` has no evaluation";
        help: "give it `in_distribution` or `out_of_distribution`, arrays of what `evaluation` returns"
    );
    for (kind, prompts) in &options.inoculations {
        ensure!(!prompts.is_blank(), "the inoculation `{kind}` of `{name}` is empty"; help: "write a system prompt, or leave it out");
    }
    let mut ids: Vec<String> = options
        .in_distribution
        .iter()
        .chain(&options.out_of_distribution)
        .map(|one| one.definition.id.clone())
        .collect();
    ids.sort();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::input(format!("the setting `{name}` has two evaluations `{}`", pair[0]))
            .with_help("give one of them another `id`"));
    }
    Ok(Setting(Arc::new(options)))
}
