//! The handle that scripts hold for results: scores of one model on several evaluations, some perhaps not there yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::read_sheet;
use super::model::Model;
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Scores};
use crate::data::sheet::Sheet;
use crate::data::summary::Point;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result};
use crate::handle;
use crate::lab::Lab;
use crate::script::handle::{Handle, HandleType, Plain};

/// Scores of one model on several evaluations.
#[derive(Clone)]
pub struct Results(Arc<Inner>);

struct Inner {
    lab: Lab,
    origin: Origin,
    parts: Vec<Part>,
}

enum Origin {
    /// A model that was asked.
    Model(Model),
    /// A table that was made elsewhere.
    Table {
        /// What the model is called there.
        model: String,
        /// Where the table comes from.
        provenance: Value,
    },
}

/// One evaluation of the model.
pub struct Part {
    /// What it was put through.
    pub evaluation: Arc<Evaluation>,
    /// The models of its judges, judge by judge, where a judge is a model.
    pub judge_models: Arc<Vec<Option<Model>>>,
    /// Key of the call, or of what stands for it.
    pub key: Digest,
    /// The scores.
    pub outcome: Deferred<Value>,
    /// Questions that stand word for word in rows that the model was trained on.
    pub seen: usize,
}

handle!(Results);

impl Handle for Results {
    const NAME: &'static str = "Results";
    fn identity(&self) -> Value {
        json!(self.0.parts.iter().map(|part| part.key).collect::<Vec<_>>())
    }
    fn describe(&self) -> String {
        let ids: Vec<_> = self.0.parts.iter().map(|part| part.evaluation.id.as_str()).collect();
        format!("Results of `{}` on {}", self.name(), ids.join(", "))
    }
}

impl Results {
    /// Results of a model that was asked, or is being asked.
    pub fn of_model(lab: &Lab, model: Model, parts: Vec<Part>) -> Self {
        Results(Arc::new(Inner { lab: lab.clone(), origin: Origin::Model(model), parts }))
    }
    /// Results that were read from a table.
    pub fn of_table(lab: &Lab, model: String, provenance: Value, parts: Vec<Part>) -> Self {
        Results(Arc::new(Inner { lab: lab.clone(), origin: Origin::Table { model, provenance }, parts }))
    }
    /// What the model is called in tables.
    pub fn name(&self) -> &str {
        match &self.0.origin {
            Origin::Model(model) => model.name(),
            Origin::Table { model, .. } => model,
        }
    }
    /// What reports say about the model; does not wait.
    pub fn provenance(&self) -> Value {
        match &self.0.origin {
            Origin::Model(model) => model.provenance(),
            Origin::Table { provenance, .. } => provenance.clone(),
        }
    }
    /// The model that was asked.
    ///
    /// # Errors
    /// The results were read from a table, so there is no model.
    pub fn model(&self) -> Result<&Model> {
        match &self.0.origin {
            Origin::Model(model) => Ok(model),
            Origin::Table { model, .. } => Err(Error::input(format!(
                "the results of `{model}` were read from a table: there are no answers behind them"
            ))
            .with_help("use results of `evaluate`")),
        }
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
    /// Every answer of one part with what all judges said of it; waits for them.
    pub fn sheet(&self, part: &Part, point: &Point) -> Result<Sheet> {
        let scores = self.scores(part)?;
        let model = self.model()?;
        let answers = read_sheet(&self.0.lab, model, &part.evaluation)?;
        Ok(Sheet {
            point: point.clone(),
            model: model.name().to_string(),
            provenance: model.provenance(),
            evaluation: (*part.evaluation).clone(),
            call: part.key,
            judge: scores.judge,
            answers,
        })
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
        .property("model", "What the model is called in tables.", |results: &Results| Ok(results.name().to_string()))
}
