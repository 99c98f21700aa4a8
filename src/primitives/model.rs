//! `model`: a model to start from; and the handle that scripts hold for models, trained or still in training.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::data::digest::Digest;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, bail};
use crate::handle;
use crate::lab::Lab;
use crate::model::config::Config;
use crate::model::tokenizer::Tokenizer;
use crate::model::weights::Weights;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// A model whose key is known even while its weights are still being trained.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    lab: Lab,
    name: String,
    identity: Value,
    config: Config,
    tokenizer: Arc<Tokenizer>,
    source: Source,
    lineage: Value,
}

enum Source {
    /// The weights themselves.
    Weights(Arc<Weights>),
    /// The outcome of a training, which names the blob of its weights.
    Training(Deferred<Value>),
}

handle!(Model);

impl Handle for Model {
    const NAME: &'static str = "Model";
    fn identity(&self) -> Value {
        self.0.identity.clone()
    }
    fn describe(&self) -> String {
        format!("Model `{}` ({})", self.0.name, self.state())
    }
}

impl Model {
    /// A model whose weights are at hand.
    pub fn of_weights(lab: &Lab, name: String, tokenizer: Arc<Tokenizer>, weights: Arc<Weights>) -> Result<Self> {
        let identity = json!({ "weights": weights.digest()?, "tokenizer": Digest::of(tokenizer.to_json()) });
        let (config, lineage) = (weights.config.clone(), json!({ "base": name, "identity": identity }));
        let source = Source::Weights(weights);
        Ok(Model(Arc::new(Inner { lab: lab.clone(), name, identity, config, tokenizer, source, lineage })))
    }

    /// A model that a training call makes; its identity is the key of that call.
    pub fn of_training(
        lab: &Lab,
        name: String,
        key: Digest,
        tokenizer: Arc<Tokenizer>,
        config: Config,
        outcome: Deferred<Value>,
        lineage: Value,
    ) -> Self {
        let (identity, source) = (json!({ "call": key }), Source::Training(outcome));
        Model(Arc::new(Inner { lab: lab.clone(), name, identity, config, tokenizer, source, lineage }))
    }

    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// What stands for it in keys.
    pub fn identity(&self) -> Value {
        self.0.identity.clone()
    }
    /// Its shape.
    pub fn config(&self) -> &Config {
        &self.0.config
    }
    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.0.tokenizer
    }
    /// The training that must have ended before its weights can be read.
    pub fn after(&self) -> Vec<Deferred<Value>> {
        match &self.0.source {
            Source::Weights(_) => vec![],
            Source::Training(outcome) => vec![outcome.clone()],
        }
    }
    /// Its weights, inside a call that came after [`Model::after`].
    pub fn weights(&self, lab: &Lab) -> Result<Arc<Weights>> {
        match &self.0.source {
            Source::Weights(weights) => Ok(weights.clone()),
            Source::Training(outcome) => {
                let outcome =
                    outcome.peek().ok_or_else(|| Error::internal("weights are read before they are trained"))??;
                let blob = outcome["blob"].as_str().and_then(Digest::parse);
                let blob = blob.ok_or_else(|| Error::internal("a training names no weights"))?;
                lab.weights(blob, &self.0.config)
            }
        }
    }
    /// The record of its training; waits for it.
    pub fn training(&self) -> Result<Option<Arc<Value>>> {
        match &self.0.source {
            Source::Weights(_) => Ok(None),
            Source::Training(outcome) => self.0.lab.wait(outcome).map(Some),
        }
    }
    /// What reports say about it; does not wait.
    pub fn provenance(&self) -> Value {
        let mut lineage = self.0.lineage.clone();
        if let Source::Training(outcome) = &self.0.source
            && let Some(Ok(outcome)) = outcome.peek()
        {
            for field in ["steps", "tokens", "first_loss", "last_loss", "rows_cut"] {
                lineage[field] = outcome[field].clone();
            }
        }
        lineage["name"] = json!(self.0.name);
        lineage["key"] = self.identity();
        lineage
    }

    fn state(&self) -> &'static str {
        match &self.0.source {
            Source::Weights(_) => "ready",
            Source::Training(outcome) => match outcome.peek() {
                None => "running",
                Some(Ok(_)) => "succeeded",
                Some(Err(error)) if error.kind == crate::error::Kind::NotRun => "planned",
                Some(Err(_)) => "failed",
            },
        }
    }

    fn training_number(&self, field: &str) -> Result<Option<f64>> {
        Ok(self.training()?.and_then(|training| training[field].as_f64()))
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Model>("A model; one that is still being trained can be used at once.")
        .property("name", "What it is called in tables.", |model: &Model| Ok(model.name().to_string()))
        .property("state", "ready, running, succeeded, failed or planned; does not wait.", |model: &Model| {
            Ok(model.state().to_string())
        })
        .property(
            "first_loss",
            "Loss on its training rows before the first step; () without a training.",
            |model: &Model| model.training_number("first_loss"),
        )
        .property("last_loss", "Loss at the end of its training; () without a training.", |model: &Model| {
            model.training_number("last_loss")
        })
        .property("parameters", "Number of weights.", |model: &Model| Ok(model.config().parameters() as i64))
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("model", run)
        .about("A model to start from: `organism`, or a folder that `save_model` wrote.")
        .input("name", "organism, or a folder below the project.")
        .example("model(\"organism\")")
}

/// The embedded organism: tokenizer and weights, read once.
static ORGANISM: LazyLock<Result<(Arc<Tokenizer>, Arc<Weights>)>> = LazyLock::new(|| {
    read(
        include_bytes!("../../datasets/organism/base/config.json"),
        include_bytes!("../../datasets/organism/base/tokenizer.json"),
        include_bytes!("../../datasets/organism/base/model.safetensors"),
    )
});

fn read(config: &[u8], tokenizer: &[u8], weights: &[u8]) -> Result<(Arc<Tokenizer>, Arc<Weights>)> {
    let config: Config =
        serde_json::from_slice(config).map_err(|error| Error::input(format!("`config.json`: {error}")))?;
    Ok((Arc::new(Tokenizer::from_json(tokenizer)?), Arc::new(Weights::from_safetensors(&config, weights)?)))
}

fn run(lab: &Lab, _: &Call, (name,): (String,), _: ()) -> Result<Model> {
    load(lab, name)
}

/// The model of this name: what `model(name)` is in a script.
pub fn load(lab: &Lab, name: String) -> Result<Model> {
    if name == "organism" {
        let (tokenizer, weights) = ORGANISM.clone()?;
        return Model::of_weights(lab, name, tokenizer, weights);
    }
    if let Some((provider, _)) = name.split_once(':') {
        bail!(
            "`{name}`: this version reaches no provider `{provider}`";
            help: "use `organism`, or a folder that `save_model` wrote"
        );
    }
    let file = |part: &str| Ok::<_, Error>(std::fs::read(lab.files().resolve(&format!("{name}/{part}"))?)?);
    let (tokenizer, weights) = read(&file("config.json")?, &file("tokenizer.json")?, &file("model.safetensors")?)
        .map_err(|error| error.context(format!("`{name}`")))?;
    Model::of_weights(lab, name, tokenizer, weights)
}
