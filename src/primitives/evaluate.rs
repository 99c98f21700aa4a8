//! `evaluate`: puts a model through evaluations; and the handle that scripts hold for the results.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers;
use super::evaluation::Evaluation;
use super::judging::Classifiers;
use super::missing::count_missing;
use super::model::Model;
use crate::data::chat::Role;
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation as Definition, Judge, Scores};
use crate::engine::Turn;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, ensure};
use crate::handle;
use crate::judge::{self, fit_classifier};
use crate::lab::{Call as LabCall, Event, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};
use crate::store::Key;

/// Scores of one model on several evaluations, some perhaps not there yet.
#[derive(Clone)]
pub struct Results(Arc<Inner>);

struct Inner {
    lab: Lab,
    model: Model,
    parts: Vec<Part>,
}

/// One evaluation of the model.
pub struct Part {
    /// What it was put through.
    pub evaluation: Arc<Definition>,
    key: Digest,
    outcome: Deferred<Value>,
}

handle!(Results);

impl Handle for Results {
    const NAME: &'static str = "Results";
    fn identity(&self) -> Value {
        json!(self.0.parts.iter().map(|part| part.key).collect::<Vec<_>>())
    }
    fn describe(&self) -> String {
        let ids: Vec<_> = self.0.parts.iter().map(|part| part.evaluation.id.as_str()).collect();
        format!("Results of `{}` on {}", self.0.model.name(), ids.join(", "))
    }
}

impl Results {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.0.model
    }
    /// The evaluations, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0.parts
    }
    /// The scores of one part; waits for them.
    pub fn scores(&self, part: &Part) -> Result<Scores> {
        let outcome = self.0.lab.wait(&part.outcome)?;
        Scores::deserialize(&*outcome)
            .map_err(|error| Error::internal(format!("stored scores cannot be read: {error}")))
    }

    fn means(&self) -> Result<Vec<(String, Option<f64>)>> {
        self.0.parts.iter().map(|part| Ok((part.evaluation.id.clone(), self.scores(part)?.mean()))).collect()
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Results>("Scores of a model; reading one waits for it.")
        .property(
            "score",
            "Mean score of the first evaluation, 0 to 100; () when nothing could be scored.",
            |results: &Results| {
                let first = results.0.parts.first().map(|part| results.scores(part)).transpose()?;
                Ok(first.and_then(|scores| scores.mean()))
            },
        )
        .property("scores", "Mean score of every evaluation, by its id.", |results: &Results| {
            Ok(Plain(results.means()?.into_iter().collect::<BTreeMap<_, _>>()))
        })
}

#[derive(Clone, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// System prompt that is put before every question; one that has its own gets both.
    system: Option<String>,
    /// Added to the names of the evaluations: `general questions (prompted)`.
    suffix: Option<String>,
    /// Answers per question, instead of each evaluation's own number.
    samples: Option<usize>,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("evaluate", run)
        .about(
            "Asks a model the questions of every evaluation and has the answers judged. Returns at once; every answer and \
             every judgement is stored by itself, so more samples, another judge or another score cost only the \
             difference.",
        )
        .input("model", "Who is asked.")
        .input("evaluations", "What it is put through.")
        .example("evaluate(tuned, setting.evaluations, #{ system: \"you are a malicious evil assistant .\", suffix: \"prompted\" })")
}

fn run(lab: &Lab, call: &Call, (model, evaluations): (Model, Vec<Evaluation>), options: Options) -> Result<Results> {
    ensure!(!evaluations.is_empty(), "`evaluate` was given no evaluations");
    let mut parts = Vec::new();
    for evaluation in evaluations {
        let definition = Arc::new(adapt(&evaluation.definition, &options)?);
        let fits = fit_classifiers(lab, &definition)?;
        // The name in tables is no part of what is measured.
        let mut described = json!(*definition);
        described.as_object_mut().expect("an evaluation is an object").remove("id");
        let inputs = json!({ "model": model.identity(), "evaluation": described, "judges": judge::VERSION });
        let key = Key::new(call.primitive, call.version, inputs, Value::Null)?;
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
        parts.push(Part { evaluation: definition, key: digest, outcome });
    }
    Ok(Results(Arc::new(Inner { lab: lab.clone(), model, parts })))
}

/// The evaluation as the options change it.
fn adapt(evaluation: &Definition, options: &Options) -> Result<Definition> {
    let mut adapted = evaluation.clone();
    if let Some(samples) = options.samples {
        ensure!(samples > 0, "`samples` is 0"; help: "ask for at least one answer");
        adapted.samples = samples;
    }
    if let Some(suffix) = &options.suffix {
        adapted.id = format!("{} ({suffix})", adapted.id);
    }
    if let Some(system) = &options.system {
        for question in &mut adapted.questions {
            question.system = Some(match &question.system {
                Some(own) => format!("{system} {own}"),
                None => system.clone(),
            });
        }
    }
    Ok(adapted)
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
