//! The handle that scripts hold for models: trained or still in training, here or at a provider.

use std::sync::Arc;

use serde_json::{Value, json};

use super::stored_values::read_values;
use crate::data::digest::Digest;
use crate::engine::Turn;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result};
use crate::handle;
use crate::lab::Lab;
use crate::model::config::Config;
use crate::model::format::ChatFormat;
use crate::model::sample::Steering;
use crate::model::tap::Change;
use crate::model::weights::Weights;
use crate::provider::replay::Replay;
use crate::provider::settings::Dialect;
use crate::script::handle::{Handle, HandleType, Plain};
use crate::train::peft::Files;

/// A model whose key is known even while it is still being trained.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    lab: Lab,
    name: String,
    identity: Value,
    home: Home,
    lineage: Value,
}

/// Where a model lives.
pub enum Home {
    /// Here: its weights can be read.
    Local(Local),
    /// At a provider: it can be asked, and perhaps trained.
    Remote(Remote),
}

/// A model of this program.
pub struct Local {
    /// Its shape.
    pub config: Arc<Config>,
    /// Its tokenizer, and how chats become tokens.
    pub format: Arc<ChatFormat>,
    source: Source,
}

enum Source {
    /// The weights themselves.
    Weights(Arc<Weights>),
    /// The outcome of a training, which names the blob of its weights; of an epoch in the middle where one is told.
    Training(Deferred<Value>, Option<usize>),
    /// Another model, and the outcome of a call that says how it is steered while it reads and answers.
    Steered(Model, Deferred<Value>),
}

/// A model behind an API.
pub struct Remote {
    /// Name or address of its provider, as in model ids.
    pub provider: String,
    /// The provider's own model that it is or was made from: decides price, limits and what can be asked.
    pub base: String,
    source: RemoteSource,
    /// Whether the name to ask for is that of an adapter, not of a deployment.
    is_adapter: bool,
}

enum RemoteSource {
    /// The name to ask for.
    Named(String),
    /// The outcome of a job, which names it.
    Training(Deferred<Value>),
    /// A file of recorded answers.
    Recorded(Arc<Replay>),
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
    /// A model whose weights are at hand; `source` is what reports tell about where they are from, and no part of a key.
    pub fn of_weights(
        lab: &Lab,
        name: String,
        format: Arc<ChatFormat>,
        weights: Arc<Weights>,
        source: Option<Value>,
    ) -> Result<Self> {
        let (tokenizer, weights) = (Digest::of(format.tokenizer.to_json()), lab.place(weights));
        let mut identity = json!({ "weights": weights.digest()?, "tokenizer": tokenizer });
        if let Some(template) = format.template_digest() {
            identity["template"] = json!(template);
        }
        let (config, mut lineage) = (Arc::new(weights.config.clone()), json!({ "base": name, "identity": identity }));
        if let Some(source) = source {
            lineage["source"] = source;
        }
        let home = Home::Local(Local { config, format, source: Source::Weights(weights) });
        Ok(Model(Arc::new(Inner { lab: lab.clone(), name, identity, home, lineage })))
    }

    /// A model that a training call makes; its identity is the key of that call.
    pub fn of_training(
        lab: &Lab,
        name: String,
        key: Digest,
        format: Arc<ChatFormat>,
        config: Arc<Config>,
        outcome: Deferred<Value>,
        lineage: Value,
    ) -> Self {
        let home = Home::Local(Local { config, format, source: Source::Training(outcome, None) });
        Model(Arc::new(Inner { lab: lab.clone(), name, identity: json!({ "call": key }), home, lineage }))
    }

    /// What a training had made at the end of an epoch, from 0 before its first step; the training must have kept it.
    ///
    /// # Errors
    /// A model that was not trained here.
    pub fn at_epoch(&self, epoch: usize) -> Result<Self> {
        let untrained = || {
            Error::input(format!("`{}` was not trained here, so it has no epochs", self.name()))
                .with_help("use what `launch_finetune` returned")
        };
        let Local { config, format, source: Source::Training(outcome, None) } = self.local()? else {
            return Err(untrained());
        };
        let source = Source::Training(outcome.clone(), Some(epoch));
        let home = Home::Local(Local { config: config.clone(), format: format.clone(), source });
        let mut identity = self.identity();
        identity["epoch"] = json!(epoch);
        let name = format!("{}, epoch {epoch}", self.name());
        let lineage = self.0.lineage.clone();
        Ok(Model(Arc::new(Inner { lab: self.0.lab.clone(), name, identity, home, lineage })))
    }

    /// A model that is steered while it reads and answers; its identity is the key of the call that says how.
    ///
    /// # Errors
    /// A model that does not live here.
    pub fn of_steering(
        name: String,
        key: Digest,
        base: &Model,
        outcome: Deferred<Value>,
        lineage: Value,
    ) -> Result<Self> {
        let Local { config, format, .. } = base.local()?;
        let source = Source::Steered(base.clone(), outcome);
        let home = Home::Local(Local { config: config.clone(), format: format.clone(), source });
        Ok(Model(Arc::new(Inner { lab: base.0.lab.clone(), name, identity: json!({ "call": key }), home, lineage })))
    }

    /// A model that a provider has already.
    pub fn of_provider(lab: &Lab, name: String, provider: String, model: String) -> Result<Self> {
        let settings = lab.provider(&provider)?;
        let base = match settings.dialect() {
            Dialect::Azure => settings.deployments.get(&model).cloned().ok_or_else(|| {
                Error::input(format!(
                    "`{name}`: `drylab.toml` does not say which model the deployment `{model}` serves"
                ))
                .with_help(format!("add `deployments = {{ {model} = \"gpt-4.1-2025-04-14\" }}` to its block"))
            })?,
            _ => model.clone(),
        };
        // What answers is part of the key; the address and the account under which it is reached are not.
        let identity = json!({ "provider": settings.dialect().name(), "model": base });
        let lineage = json!({ "base": name, "identity": identity });
        let home = Home::Remote(Remote { provider, base, source: RemoteSource::Named(model), is_adapter: false });
        Ok(Model(Arc::new(Inner { lab: lab.clone(), name, identity, home, lineage })))
    }

    /// A model of a server with an adapter, which the server knows under `name` and keys by its content.
    pub fn of_adapter(lab: &Lab, shown: String, base: &Model, remote: &Remote, name: String, content: Value) -> Self {
        let identity = json!({ "base": base.identity(), "adapter": content });
        let lineage = json!({ "base": base.provenance(), "adapter": content });
        let source = RemoteSource::Named(name);
        let home = Home::Remote(Remote {
            provider: remote.provider.clone(),
            base: remote.base.clone(),
            source,
            is_adapter: true,
        });
        Model(Arc::new(Inner { lab: lab.clone(), name: shown, identity, home, lineage }))
    }

    /// A file of recorded answers in the place of a model.
    pub fn of_recording(lab: &Lab, name: String, file: &str) -> Result<Self> {
        let replay = Replay::read(&lab.files().resolve(file)?)?;
        let identity = json!({ "replay": replay.digest() });
        let lineage = json!({ "base": name, "identity": identity });
        let source = RemoteSource::Recorded(Arc::new(replay));
        let home =
            Home::Remote(Remote { provider: "replay".to_string(), base: file.to_string(), source, is_adapter: false });
        Ok(Model(Arc::new(Inner { lab: lab.clone(), name, identity, home, lineage })))
    }

    /// A model that a job at a provider makes; its identity is the key of the launch.
    pub fn of_job(
        lab: &Lab,
        name: String,
        key: Digest,
        base: &Remote,
        outcome: Deferred<Value>,
        lineage: Value,
    ) -> Self {
        let source = RemoteSource::Training(outcome);
        let home = Home::Remote(Remote {
            provider: base.provider.clone(),
            base: base.base.clone(),
            source,
            is_adapter: false,
        });
        Model(Arc::new(Inner { lab: lab.clone(), name, identity: json!({ "call": key }), home, lineage }))
    }

    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// What stands for it in keys.
    pub fn identity(&self) -> Value {
        self.0.identity.clone()
    }
    /// Where it lives.
    pub fn home(&self) -> &Home {
        &self.0.home
    }
    /// Its shape and tokenizer, where it lives here.
    pub fn local(&self) -> Result<&Local> {
        match &self.0.home {
            Home::Local(local) => Ok(local),
            Home::Remote(_) => {
                Err(Error::input(format!("`{}` lives at a provider: its weights cannot be read", self.0.name))
                    .with_help("use a model that lives here, such as `organism`"))
            }
        }
    }
    /// Its provider, where it lives at one.
    pub fn remote(&self) -> Result<&Remote> {
        match &self.0.home {
            Home::Remote(remote) => Ok(remote),
            Home::Local(_) => Err(Error::internal(format!("`{}` lives at no provider", self.0.name))),
        }
    }
    /// The training that must have ended before it can be used.
    pub fn after(&self) -> Vec<Deferred<Value>> {
        let below = match &self.0.home {
            Home::Local(Local { source: Source::Steered(base, _), .. }) => base.after(),
            _ => Vec::new(),
        };
        below.into_iter().chain(self.outcome().cloned()).collect()
    }
    /// What a call of it mostly does.
    pub fn turn(&self) -> Turn {
        match &self.0.home {
            Home::Local(_) => Turn::Compute,
            Home::Remote(_) => Turn::Wait,
        }
    }
    /// Refuses a model whose answers are not those of its weights alone, for what works on weights.
    pub fn check_unsteered(&self) -> Result<()> {
        match &self.0.home {
            Home::Local(Local { source: Source::Steered(base, _), .. }) => Err(Error::input(format!(
                "`{}` is steered while it answers: that is no part of its weights",
                self.name()
            ))
            .with_help(format!(
                "use the model that is steered, `{}`, or change weights with `steer_weights`",
                base.name()
            ))),
            _ => Ok(()),
        }
    }
    /// Its weights, and what is done to the residual stream while it reads and answers; inside a call that came after
    /// [`Model::after`].
    pub fn steered(&self, lab: &Lab) -> Result<(Arc<Weights>, Vec<Steering>)> {
        let Source::Steered(base, outcome) = &self.local()?.source else { return Ok((self.weights(lab)?, Vec::new())) };
        let (weights, mut steering) = base.steered(lab)?;
        steering.extend(read_steering(lab, &*ended(outcome)?, weights.config.width)?);
        Ok((weights, steering))
    }
    /// Refuses a model that will have no adapter, before its training has ended.
    pub fn check_adapter(&self) -> Result<()> {
        let options = &self.0.lineage["options"];
        let whole = options.is_object() && options["method"]["Method"]["rank"].is_null();
        self.adapted().and_then(|_| if whole { Err(self.no_adapter(NO_ADAPTER)) } else { Ok(()) })
    }
    /// The files of the adapter that its training made, inside a call that came after [`Model::after`].
    ///
    /// # Errors
    /// A model without an adapter, or one that is no longer in the store.
    pub fn adapter(&self, lab: &Lab) -> Result<Files> {
        let outcome = ended(self.adapted()?)?;
        let adapter = Some(&outcome["adapter"]).filter(|adapter| !adapter.is_null());
        let adapter = adapter.ok_or_else(|| self.no_adapter(NO_ADAPTER))?;
        let part = |name: &str| {
            let blob = adapter[name].as_str().and_then(Digest::parse);
            let bytes = blob.map(|blob| lab.store().get_blob(blob)).transpose()?.flatten();
            bytes.ok_or_else(|| Error::environment(format!("the adapter of `{}` is gone", self.name())))
        };
        let config = String::from_utf8(part("config")?).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Files { config, model: part("model")? })
    }
    /// The training whose adapter is this model's.
    fn adapted(&self) -> Result<&Deferred<Value>> {
        match &self.0.home {
            Home::Local(Local { source: Source::Training(outcome, None), .. }) => Ok(outcome),
            // What is kept is the adapter at the end.
            Home::Local(Local { source: Source::Training(_, Some(_)), .. }) => {
                Err(self.no_adapter("only the end of a training has one: use the model without `at_epoch`"))
            }
            _ => Err(self.no_adapter(NO_ADAPTER)),
        }
    }
    fn no_adapter(&self, help: &str) -> Error {
        Error::input(format!("`{}` has no adapter", self.name())).with_help(help)
    }
    /// Its weights, inside a call that came after [`Model::after`].
    pub fn weights(&self, lab: &Lab) -> Result<Arc<Weights>> {
        self.check_unsteered()?;
        let local = self.local()?;
        match &local.source {
            Source::Steered(base, _) => base.weights(lab),
            Source::Weights(weights) => Ok(weights.clone()),
            Source::Training(outcome, epoch) => {
                let outcome = ended(outcome)?;
                let named = match epoch {
                    None => &outcome["blob"],
                    Some(epoch) => {
                        let kept = outcome["epochs"].as_array().and_then(|kept| kept.get(*epoch));
                        &kept.ok_or_else(|| no_epoch(self.name(), *epoch))?["blob"]
                    }
                };
                let blob = named.as_str().and_then(Digest::parse);
                let blob = blob.ok_or_else(|| Error::internal("a training names no weights"))?;
                lab.weights(blob, &local.config)
            }
        }
    }

    fn outcome(&self) -> Option<&Deferred<Value>> {
        match &self.0.home {
            Home::Local(Local { source: Source::Training(outcome, _) | Source::Steered(_, outcome), .. })
            | Home::Remote(Remote { source: RemoteSource::Training(outcome), .. }) => Some(outcome),
            _ => None,
        }
    }
    /// The record of its training; waits for it.
    pub fn training(&self) -> Result<Option<Arc<Value>>> {
        if let Home::Local(Local { source: Source::Steered(base, _), .. }) = &self.0.home {
            base.training()?;
        }
        self.outcome().map(|outcome| self.0.lab.wait(outcome)).transpose()
    }
    /// What reports say about it; does not wait.
    pub fn provenance(&self) -> Value {
        let mut lineage = self.0.lineage.clone();
        if let Some(Ok(outcome)) = self.outcome().and_then(Deferred::peek) {
            for field in TRAINING_FACTS.iter().filter(|field| !outcome[**field].is_null()) {
                lineage[*field] = outcome[*field].clone();
            }
        }
        lineage["name"] = json!(self.0.name);
        lineage["key"] = self.identity();
        lineage
    }

    fn state(&self) -> &'static str {
        match self.outcome().map(Deferred::peek) {
            None => "ready",
            Some(None) => "running",
            Some(Some(Ok(_))) => "succeeded",
            Some(Some(Err(error))) if error.kind == crate::error::Kind::NotRun => "planned",
            Some(Some(Err(_))) => "failed",
        }
    }

    fn training_number(&self, field: &str) -> Result<Option<f64>> {
        Ok(self.training()?.and_then(|training| training[field].as_f64()))
    }
}

/// What a training's record tells in reports.
const TRAINING_FACTS: &[&str] = &[
    "steps",
    "tokens",
    "first_loss",
    "last_loss",
    "rows_cut",
    "rows_untrained",
    "job",
    "model",
    "trained_tokens",
    "dollars",
    "coherence",
    "projected",
];

const NO_ADAPTER: &str = "train with `method: lora(#{ .. })`, or write all weights with `save_model`";

impl Remote {
    /// The name to train from, inside a call that came after [`Model::after`]; none for recorded answers.
    pub fn model(&self) -> Result<Option<String>> {
        match &self.source {
            // A deployment is a name for asking only.
            RemoteSource::Named(_) if !self.is_adapter => Ok(Some(self.base.clone())),
            RemoteSource::Named(name) => Ok(Some(name.clone())),
            RemoteSource::Training(outcome) => {
                let outcome = ended(outcome)?;
                let model = outcome["model"].as_str().ok_or_else(|| Error::internal("a job names no model"))?;
                Ok(Some(model.to_string()))
            }
            RemoteSource::Recorded(_) => Ok(None),
        }
    }
    /// The name to ask for, likewise: the model's, or that of its deployment.
    pub fn asked_name(&self, lab: &Lab) -> Result<Option<String>> {
        let settings = lab.provider(&self.provider)?;
        match (&self.source, self.model()?) {
            (RemoteSource::Named(name), _) => Ok(Some(name.clone())),
            (_, Some(model)) if settings.dialect() == Dialect::Azure => {
                let deployed = settings.deployments.iter().find(|(_, served)| **served == model);
                let (deployment, _) = deployed.ok_or_else(|| {
                    Error::input(format!("`{model}` is trained, and no deployment of `{}` serves it", self.provider))
                        .with_help(format!(
                            "deploy it at Azure, then add `NAME = \"{model}\"` to `deployments` and run again"
                        ))
                })?;
                Ok(Some(deployment.clone()))
            }
            (_, model) => Ok(model),
        }
    }
    /// Whether a job of ours made it.
    pub fn is_tuned(&self) -> bool {
        matches!(self.source, RemoteSource::Training(_))
    }
    /// The recorded answers that stand in for it, if it is a file of those.
    pub fn recording(&self) -> Option<&Replay> {
        match &self.source {
            RemoteSource::Recorded(replay) => Some(replay),
            _ => None,
        }
    }
}

/// What the outcome of `steer` says is done to the residual stream.
fn read_steering(lab: &Lab, outcome: &Value, width: usize) -> Result<Vec<Steering>> {
    let vectors = read_values(lab, outcome)?
        .ok_or_else(|| Error::environment("the vectors that steer a model are gone from the store"))?;
    let states = outcome["states"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let prompt = outcome["prompt"].as_bool().unwrap_or(false);
    let steering = |(state, vector): (u64, &[f32])| Steering {
        state: state as usize,
        prompt,
        change: Change::Add(vector.to_vec()),
    };
    Ok(states.zip(vectors.chunks_exact(width)).map(steering).collect())
}

fn no_epoch(name: &str, epoch: usize) -> Error {
    Error::input(format!("the weights of `{name}` at the end of epoch {epoch} were not kept"))
        .with_help("train with `keep_epochs: true`, and name an epoch from 0 to `epochs`")
}

fn ended(outcome: &Deferred<Value>) -> Result<Arc<Value>> {
    outcome.peek().ok_or_else(|| Error::internal("a model is used before it is trained"))?
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
        .property("steps", "Steps of its training; () without one.", |model: &Model| model.training_number("steps"))
        .property("tokens", "Tokens that its training read, all passes together; () without one.", |model: &Model| {
            model.training_number("tokens")
        })
        .property(
            "checkpoints",
            "Models from the middle of a training at a provider: maps with `fine_tuned_model_checkpoint`, `step_number` and \
             `metrics`; waits for its end.",
            |model: &Model| Ok(Plain(model.training()?.map_or(Value::Null, |training| training["checkpoints"].clone()))),
        )
        .property(
            "curve",
            "The curve of a training at a provider: maps with `step`, `train_loss` and what else it tells; waits for its end.",
            |model: &Model| Ok(Plain(model.training()?.map_or(Value::Null, |training| training["curve"].clone()))),
        )
        .property(
            "coherence",
            "How the trained model answers training prompts, as the model before training finds it: `trained`, `start` and \
             `rows`, each with `surprise` (nats per token), `repeated` and `empty` (shares), and their `limit`; waits for the \
             training. () where it was not measured.",
            |model: &Model| Ok(Plain(model.training()?.map_or(Value::Null, |training| training["coherence"].clone()))),
        )
        .property(
            "projected",
            "The maps of `safe_lora`: `name`, `cosine`, and whether it was `projected`; waits for it. () of other models.",
            |model: &Model| Ok(Plain(model.training()?.map_or(Value::Null, |training| training["projected"].clone()))),
        )
        .property("parameters", "Number of weights; () for a model at a provider.", |model: &Model| {
            Ok(model.local().ok().map(|local| local.config.parameters() as i64))
        })
}
