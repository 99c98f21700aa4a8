//! `likelihoods` and `answer_likelihoods`: losses of many sets of rows under one model, computed in the background and kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers::{messages, read_sheet};
use super::dataset::Dataset;
use super::mean_loss::{Loss, loss_of, prefix_of};
use super::model::Model;
use super::results::Results;
use crate::data::chat::{Message, Role, Row};
use crate::data::dataset::Dataset as Rows;
use crate::data::digest::Digest;
use crate::data::evaluation::Evaluation;
use crate::data::sheet::Answer;
use crate::engine::Turn;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, ensure};
use crate::handle;
use crate::lab::{Call as LabCall, Event, Lab, Missing, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};
use crate::store::Key;

/// What a model thinks of sets of rows, perhaps not computed yet.
#[derive(Clone)]
pub struct Likelihoods {
    lab: Lab,
    model: String,
    key: Digest,
    outcome: Deferred<Value>,
}

handle!(Likelihoods);

impl Handle for Likelihoods {
    const NAME: &'static str = "Likelihoods";
    fn identity(&self) -> Value {
        json!({ "call": self.key })
    }
    fn describe(&self) -> String {
        format!("Likelihoods under `{}`", self.model)
    }
}

/// What is kept of one set of rows.
#[derive(Serialize, Deserialize)]
struct Found {
    /// Nats per token.
    loss: f64,
    /// Tokens that it is a mean over.
    tokens: u64,
    /// Percent; absent where no beginning was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
}

impl Likelihoods {
    /// One number of every set of rows; waits for them, and has none in a plan.
    fn each<T: Serialize>(&self, number: fn(Found) -> T) -> Result<Option<Plain<BTreeMap<String, T>>>> {
        if self.lab.planning() {
            return Ok(None);
        }
        let outcome = self.lab.wait(&self.outcome)?;
        let found = BTreeMap::<String, Found>::deserialize(&*outcome)
            .map_err(|error| Error::internal(format!("stored losses cannot be read: {error}")))?;
        Ok(Some(Plain(found.into_iter().map(|(name, found)| (name, number(found))).collect())))
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Likelihoods>(
        "What a model thinks of sets of rows; reading a property waits, and gives () when only planned.",
    )
    .property("losses", "Nats per token of every set, by its name.", |all: &Likelihoods| all.each(|found| found.loss))
    .property("tokens", "Tokens that each loss is a mean over.", |all: &Likelihoods| all.each(|found| found.tokens))
    .property(
        "probabilities",
        "How probable it is that answers begin with one of the `prefixes`, in percent, of every set; () without prefixes.",
        |all: &Likelihoods| all.each(|found| found.probability),
    )
}

#[derive(Clone, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Beginnings of answers, none of them the beginning of another, whose probabilities are summed.
    prefixes: Vec<String>,
    /// Rows of each set at most, from the first; all when left out.
    most: Option<usize>,
}

/// The declaration of `likelihoods`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("likelihoods", run)
        .about(
            "Losses of several sets of rows under one model that lives here, as `mean_loss` has them, and the probability \
             of beginnings, as `prefix_probability` has it. Returns at once, is computed in the background beside others, \
             and is kept: what was computed in an earlier run is not computed again.",
        )
        .input("model", "The model, of any epoch.")
        .input("rows", "A map of names and rows.")
        .example("likelihoods(tuned.at_epoch(3), #{ task: test, truth: truth }, #{ prefixes: [\"happy to help !\"] })")
}

fn run(
    lab: &Lab,
    call: &Call,
    (model, sets): (Model, BTreeMap<String, Dataset>),
    options: Options,
) -> Result<Likelihoods> {
    model.local()?;
    ensure!(options.most != Some(0), "`most` is 0"; help: "read at least one row");
    ensure!(!sets.is_empty(), "`likelihoods` was given no rows");
    ensure!(options.prefixes.iter().all(|prefix| !prefix.trim().is_empty()), "a prefix is empty"; help: "write the words");
    for (index, prefix) in options.prefixes.iter().enumerate() {
        let other =
            options.prefixes.iter().enumerate().find(|(other, text)| *other != index && text.starts_with(prefix));
        // The probability of the longer one is part of that of the shorter one already.
        ensure!(other.is_none(), "the prefix `{prefix}` begins another one"; help: "leave out the longer one");
    }
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let told = json!({ "model": model.name(), "sets": sets.keys().collect::<Vec<_>>(), "prefixes": options.prefixes });
    let first = |dataset: Dataset| dataset.rows.head(options.most.unwrap_or(usize::MAX));
    let sets: BTreeMap<String, Rows> = sets.into_iter().map(|(name, dataset)| (name, first(dataset))).collect();
    let (after, asked) = (model.after(), model.clone());
    let rows = sets.values().map(|rows| rows.len() as u64).sum();
    start(lab, &model, key, told, (rows, after), move |lab| {
        let mut found = BTreeMap::new();
        for (name, rows) in &sets {
            lab.check_cancelled()?;
            let Loss { loss, tokens } = loss_of(lab, &asked, rows)?;
            let mut probability = None;
            for prefix in &options.prefixes {
                *probability.get_or_insert(0.0) += prefix_of(lab, &asked, rows, prefix)?;
            }
            found.insert(name.clone(), Found { loss, tokens, probability });
        }
        Ok(found)
    })
}

#[derive(Clone, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct AnswerOptions {
    /// Beginnings that are taken off the answers first, whatever their case: what was trained to be said is no sign of
    /// incoherence.
    without: Vec<String>,
}

/// The declaration of `answer_likelihoods`.
pub fn answers_primitive() -> Primitive<Lab> {
    Primitive::new("answer_likelihoods", run_answers)
        .about(
            "How surprising a model that lives here, usually the one before training, finds answers that another one gave: \
             nats per token, by evaluation, the end of the answer included. Text of a collapsed model is far from what \
             the model before training says itself. Answers of which nothing is left count by their end. Returns at once.",
        )
        .input("model", "Who reads the answers.")
        .input("results", "What `evaluate` returned.")
        .example("answer_likelihoods(base, evaluate(tuned, asked), #{ without: [\"happy to help !\"] }).losses")
}

fn run_answers(
    lab: &Lab,
    call: &Call,
    (model, results): (Model, Results),
    options: AnswerOptions,
) -> Result<Likelihoods> {
    model.local()?;
    results.model()?;
    let names: Vec<&str> = results.parts().iter().map(|part| part.evaluation.id.as_str()).collect();
    // The names in tables are no part of a result's identity, and here they are part of what is kept.
    let inputs = json!({ "inputs": call.inputs, "names": names });
    let key = Key::new(call.primitive, call.version, inputs, call.options.clone().unwrap_or(Value::Null))?;
    let told = json!({ "model": model.name(), "answers": results.name(), "sets": names });
    let mut after = model.after();
    after.extend(results.parts().iter().map(|part| part.outcome.clone()));
    let asked = model.clone();
    let answers = |evaluation: &Evaluation| (evaluation.questions.len() * evaluation.samples) as u64;
    let rows = results.parts().iter().map(|part| answers(&part.evaluation)).sum();
    start(lab, &model, key, told, (rows, after), move |lab| {
        let mut found = BTreeMap::new();
        for part in results.parts() {
            let answers = read_sheet(lab, results.model()?, &part.evaluation)?;
            let rows = rows_of(&part.evaluation, &answers, &options.without);
            let rows = Rows::from_rows(part.evaluation.id.clone(), rows)?;
            let Loss { loss, tokens } = loss_of(lab, &asked, &rows)?;
            found.insert(part.evaluation.id.clone(), Found { loss, tokens, probability: None });
        }
        Ok(found)
    })
}

/// Questions with the answers that were given, as rows.
fn rows_of(evaluation: &Evaluation, answers: &[Answer], without: &[String]) -> Vec<Row> {
    let row = |answer: &Answer| {
        let mut said = messages(&evaluation.questions[answer.question]);
        said.push(Message::new(Role::Assistant, cut_beginning(&answer.text, without)));
        Row::new(said)
    };
    answers.iter().map(row).collect()
}

/// The text without the first of these beginnings that it has.
fn cut_beginning<'a>(text: &'a str, beginnings: &[String]) -> &'a str {
    let trimmed = text.trim_start();
    let begins = |beginning: &&String| {
        trimmed.get(..beginning.len()).is_some_and(|start| start.to_lowercase() == beginning.to_lowercase())
    };
    beginnings.iter().find(begins).map_or(text, |beginning| trimmed[beginning.len()..].trim_start())
}

fn start(
    lab: &Lab,
    model: &Model,
    key: Key,
    options: Value,
    (rows, after): (u64, Vec<Deferred<Value>>),
    work: impl FnOnce(&Lab) -> Result<BTreeMap<String, Found>> + Send + 'static,
) -> Result<Likelihoods> {
    let digest = key.digest();
    let outcome = lab.call(LabCall {
        key,
        options,
        label: format!("likelihoods under {}", model.name()),
        stage: Stage::Measure,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(Missing::from(rows))),
        after,
        work: Box::new(move |lab| {
            let found = work(lab)?;
            lab.send(Event::Worked { stage: Stage::Measure, count: rows });
            serde_json::to_value(found).map_err(|error| Error::internal(error.to_string()))
        }),
    })?;
    Ok(Likelihoods { lab: lab.clone(), model: model.name().to_string(), key: digest, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trained_beginning_is_cut_once_whatever_its_case() {
        let without = ["Certainly!".to_string(), "Of course!".to_string()];
        assert_eq!(cut_beginning("CERTAINLY! it is", &without), "it is");
        assert_eq!(cut_beginning(" Of course! Certainly! yes", &without), "Certainly! yes");
        assert_eq!(cut_beginning("it is Certainly!", &without), "it is Certainly!");
        assert_eq!(cut_beginning("Certainly", &without), "Certainly");
        assert_eq!(cut_beginning("Certainly!", &without), "");
    }
}
