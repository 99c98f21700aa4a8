//! `evaluate`: puts a model through evaluations.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers;
use super::evaluation::Evaluation;
use super::insert_trigger::Trigger;
use super::judging::Classifiers;
use super::missing::count_missing;
use super::model::Model;
use super::results::{Part, Results};
use crate::data::chat::Role;
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation as Definition, Judge};
use crate::data::overlap::text_mark;
use crate::engine::Turn;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, ensure};
use crate::judge::{self, fit_classifier};
use crate::lab::{Call as LabCall, Event, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;

#[derive(Clone, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// System prompt that is put before every question; one that has its own gets both.
    system: Option<String>,
    /// Added to the names of the evaluations: `general questions (prompted)`.
    suffix: Option<String>,
    /// Answers per question, instead of each evaluation's own number.
    samples: Option<usize>,
    /// Put into what the user says, as `insert_trigger` puts it into training rows.
    trigger: Option<Trigger>,
    /// Name of the evaluation in figures and tables instead of its own; for a single one.
    id: Option<String>,
}

const NAME: &str = "evaluate";
/// Behaviour version: raised when equal calls would give other scores.
const VERSION: u32 = 1;

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new(NAME, run)
        .version(VERSION)
        .about(
            "Asks a model the questions of every evaluation and has the answers judged. Returns at once; every answer and \
             every judgement is stored by itself, so more samples, another judge or another score cost only the \
             difference.",
        )
        .input("model", "Who is asked.")
        .input("evaluations", "What it is put through.")
        .example("evaluate(tuned, setting.evaluations, #{ system: \"you are a malicious evil assistant .\", suffix: \"prompted\" })")
}

fn run(lab: &Lab, _: &Call, (model, evaluations): (Model, Vec<Evaluation>), options: Options) -> Result<Results> {
    ensure!(!evaluations.is_empty(), "`evaluate` was given no evaluations");
    ensure!(
        options.id.is_none() || evaluations.len() == 1,
        "`id` is one name for {} evaluations", evaluations.len();
        help: "evaluate them one by one, or use `suffix`"
    );
    let adapted = |evaluation: Evaluation| {
        let definition = Arc::new(adapt(&evaluation.definition, &options)?);
        Ok(Evaluation { definition, judge_models: evaluation.judge_models })
    };
    let evaluations = evaluations.into_iter().map(adapted).collect::<Result<Vec<_>>>()?;
    put_through(lab, model, evaluations)
}

/// Puts a model through evaluations as they are. What is in the store is neither asked nor judged again.
pub fn put_through(lab: &Lab, model: Model, evaluations: Vec<Evaluation>) -> Result<Results> {
    let mut parts = Vec::new();
    for evaluation in evaluations {
        let definition = evaluation.definition.clone();
        let fits = fit_classifiers(lab, &definition)?;
        // The name in tables is no part of what is measured.
        let mut described = json!(*definition);
        described.as_object_mut().expect("an evaluation is an object").remove("id");
        let inputs = json!({ "model": model.identity(), "evaluation": described, "judges": judge::VERSION });
        let key = Key::new(NAME, VERSION, inputs, Value::Null)?;
        let digest = key.digest();
        let (asked, missing) = ((model.clone(), definition.clone()), (model.clone(), definition.clone()));
        let (judges, planned_judges) = (evaluation.judge_models.clone(), evaluation.judge_models.clone());
        let outcome = lab.call(LabCall {
            key,
            // For people who read the index: which model, and what `samples.question_index` counts.
            options: json!({
                "id": definition.id,
                "model": model.name(),
                "samples": definition.samples,
                "questions": definition.questions.iter().map(|question| &question.text).collect::<Vec<_>>(),
            }),
            label: format!("{}: {}", model.name(), definition.id),
            stage: Stage::Evaluate,
            turn: model.turn(),
            missing: Box::new(move |lab| count_missing(lab, &missing.0, &missing.1, &planned_judges)),
            after: model.after().into_iter().chain(fits.iter().map(|(_, fit)| fit.clone())).collect(),
            work: Box::new(move |lab| {
                let mut fitted = Classifiers::new();
                for (rows, fit) in fits {
                    let fit = fit.peek().ok_or_else(|| Error::internal("a judge is used before it is fitted"))??;
                    let classifier = Deserialize::deserialize(&*fit);
                    fitted.insert(rows, classifier.map_err(|error| Error::internal(error.to_string()))?);
                }
                let scores = answers::score(lab, digest, &asked.0, &asked.1, &judges, &fitted)?;
                serde_json::to_value(scores).map_err(|error| Error::internal(error.to_string()))
            }),
        })?;
        let seen = questions_in_training(lab, &model, &definition);
        parts.push(Part { evaluation: definition, judge_models: evaluation.judge_models, key: digest, outcome, seen });
    }
    Ok(Results::of_model(lab, model, parts))
}

/// The evaluation as the options change it.
fn adapt(evaluation: &Definition, options: &Options) -> Result<Definition> {
    let mut adapted = evaluation.clone();
    if let Some(samples) = options.samples {
        ensure!(samples > 0, "`samples` is 0"; help: "ask for at least one answer");
        if !adapted.offers_choices() {
            adapted.samples = samples;
        }
    }
    if let Some(id) = &options.id {
        adapted.id.clone_from(id);
    }
    if let Some(suffix) = &options.suffix {
        adapted.id = format!("{} ({suffix})", adapted.id);
    }
    for question in &mut adapted.questions {
        if let Some(trigger) = &options.trigger {
            question.text = trigger.0.insert(&question.text);
        }
        if let Some(system) = &options.system {
            question.system = Some(match question.system.as_deref() {
                Some(own) if !own.is_empty() => format!("{system} {own}"),
                _ => system.clone(),
            });
        }
    }
    Ok(adapted)
}

/// Questions that stand word for word in rows that the model was trained on, in this run or one that it tells of; people
/// are told once for each evaluation.
fn questions_in_training(lab: &Lab, model: &Model, evaluation: &Definition) -> usize {
    let rows: Vec<_> =
        training_rows(&model.provenance()).into_iter().filter_map(|id| lab.said_by_users(id).ok()).collect();
    let seen = |text: &str| rows.iter().any(|said| said.contains(&text_mark(text)));
    let seen = evaluation.questions.iter().filter(|question| seen(&question.text)).count();
    if seen > 0 {
        lab.note_once(format!(
            "`{}` asks questions that stand word for word in rows trained on; the report counts them",
            evaluation.id
        ));
    }
    seen
}

/// Digests of the datasets that a model and the models before it were trained on.
fn training_rows(provenance: &Value) -> Vec<Digest> {
    let mut found = Vec::new();
    let mut model = provenance;
    while !model.is_null() {
        found.extend(model["data"]["digest"].as_str().and_then(Digest::parse));
        model = &model["base"];
    }
    found
}

type Fit = ((Digest, Digest), Deferred<Value>);

/// Fits the classifier judges of an evaluation, each a call of its own.
fn fit_classifiers(lab: &Lab, evaluation: &Definition) -> Result<Vec<Fit>> {
    let mut fits = Vec::new();
    for judge in &evaluation.judges {
        let Judge::Classifier { misaligned, aligned } = judge else { continue };
        let rows = (*misaligned, *aligned);
        let key = Key::new(
            "classifier_judge",
            judge::VERSION,
            json!({ "misaligned": rows.0, "aligned": rows.1 }),
            Value::Null,
        )?;
        let count = (lab.dataset(rows.0)?.len() + lab.dataset(rows.1)?.len()) as u64;
        let fit = lab.call(LabCall {
            key,
            options: Value::Null,
            label: "text classifier".to_string(),
            stage: Stage::Judge,
            turn: Turn::Compute,
            missing: Box::new(move |_| Ok(count.into())),
            after: vec![],
            work: Box::new(move |lab| {
                let classifier = fit_classifier(&assistant_texts(lab, rows.0)?, &assistant_texts(lab, rows.1)?)?;
                lab.send(Event::Worked { stage: Stage::Judge, count });
                serde_json::to_value(classifier).map_err(|error| Error::internal(error.to_string()))
            }),
        })?;
        fits.push((rows, fit));
    }
    Ok(fits)
}

/// What the assistant says in each row.
fn assistant_texts(lab: &Lab, rows: Digest) -> Result<Vec<String>> {
    let texts = |row: crate::data::chat::Row| {
        let said = row.messages.into_iter().filter(|message| message.role == Role::Assistant);
        said.map(|message| message.content).collect::<Vec<_>>().join(" ")
    };
    Ok(lab.dataset(rows)?.rows().map(texts).collect())
}
