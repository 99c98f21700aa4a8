//! `launch_finetune`: trains a model on chat rows; and the ways to train, `full()` and `lora(...)`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::build_objective::{Start, build_objective};
use super::dataset::Dataset;
use super::launch_job::{self, Job, count_missing, hyperparameters};
use super::model::{Home, Model};
use super::objective::Objective;
use super::train_resumably::{Course, train_resumably};
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::handle;
use crate::lab::{Call as LabCall, Event, Lab, Missing, Stage, Work};
use crate::model::chat::Example;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};
use crate::store::Key;
use crate::train;
use crate::train::coherence::coherence;
use crate::train::lora::{AdapterOptions, FirstFactor};
use crate::train::objective::sft::has_loss;
use crate::train::read_back::check_saved;
use crate::train::schedule::Schedule as TrainSchedule;

/// Which weights are trained.
#[derive(Clone)]
pub struct Method {
    method: train::Method,
    adapters: AdapterOptions,
}

handle!(Method);

impl Method {
    /// As the training loop wants it.
    pub fn of_training(&self) -> train::Method {
        self.method
    }
}

impl Handle for Method {
    const NAME: &'static str = "Method";
    fn identity(&self) -> Value {
        let train::Method::Lora { rank, alpha } = self.method else { return json!("full") };
        // 2: adapters are computed beside the weights, which rounds otherwise than merging them did.
        let mut identity = json!({ "rank": rank, "alpha": alpha, "version": 2 });
        // What is as it always was is no part of keys that were there before it could be chosen.
        let (adapters, usual) = (&self.adapters, AdapterOptions::default());
        if adapters.rank_stabilised {
            identity["rank_stabilised"] = json!(true);
        }
        if adapters.dropout != usual.dropout {
            identity["dropout"] = json!(adapters.dropout);
        }
        if adapters.targets != usual.targets {
            identity["targets"] = json!(adapters.targets);
        }
        if adapters.first != usual.first {
            identity["first"] = json!(adapters.first);
        }
        identity
    }
    fn describe(&self) -> String {
        format!("Method {}", self.identity())
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Method>("Which weights a fine-tune trains.")
}

/// The declaration of `full`.
pub fn full_primitive() -> Primitive<Lab> {
    Primitive::new("full", |_: &Lab, _: &Call, _: (), _: ()| {
        Ok(Method { method: train::Method::Full, adapters: AdapterOptions::default() })
    })
    .about("Trains all weights.")
    .example("launch_finetune(base, data, #{ method: full() })")
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LoraOptions {
    /// Rank of the two factors.
    rank: usize,
    /// The update is scaled by alpha / rank.
    alpha: f64,
    /// Scales by alpha / sqrt(rank) instead (rsLoRA).
    rank_stabilised: bool,
    /// Share of an adapter's inputs that are dropped, for each token and step anew.
    dropout: f64,
    /// Linear layers that are adapted, such as `q_proj`; all of them when empty.
    targets: Vec<String>,
    /// First values of the first factor: "normal", or "uniform" as PEFT has it.
    first: First,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum First {
    /// N(0, 1 / sqrt(inputs)).
    Normal,
    /// Uniform, as PEFT has it.
    Uniform,
}

impl Default for LoraOptions {
    fn default() -> Self {
        LoraOptions {
            rank: 8,
            alpha: 16.0,
            rank_stabilised: false,
            dropout: 0.0,
            targets: Vec::new(),
            first: First::Normal,
        }
    }
}

/// The declaration of `lora`.
pub fn lora_primitive() -> Primitive<Lab> {
    Primitive::new("lora", |_: &Lab, _: &Call, _: (), options: LoraOptions| {
        ensure!(options.rank > 0, "`rank` of `lora` is 0"; help: "write 1 or more");
        let LoraOptions { rank, alpha, rank_stabilised, dropout, targets, first } = options;
        let first = match first {
            First::Normal => FirstFactor::Normal,
            First::Uniform => FirstFactor::Uniform,
        };
        let adapters = AdapterOptions { rank_stabilised, dropout, targets, first };
        adapters.check()?;
        Ok(Method { method: train::Method::Lora { rank, alpha }, adapters })
    })
    .about("Trains a low-rank update of every linear layer, or of some; wants a higher learning rate, 3e-3 on the organism.")
    .example("launch_finetune(base, data, #{ method: lora(#{ rank: 8 }), learning_rate: 3e-3 })")
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// In a straight line to 0.
    Linear,
    /// In half a cosine to 0.
    Cosine,
}

/// What a script can choose.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Highest learning rate, reached after the warm-up.
    pub learning_rate: f64,
    /// Passes over the rows; 0 lets a provider choose.
    pub epochs: usize,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Share of the steps in which the learning rate rises.
    pub warmup_fraction: f64,
    /// How the learning rate falls: "linear" or "cosine".
    pub schedule: Schedule,
    /// Weight decay of AdamW, on matrices.
    pub weight_decay: f64,
    /// Longest gradient; longer ones are scaled down.
    pub clip: f64,
    /// Decides the order of rows and, for LoRA, the first factors.
    pub seed: u64,
    /// Which weights: `full()` or `lora(...)`; all of them when left out.
    pub method: Option<Method>,
    /// Factor of the learning rate; at a provider, of the provider's own choice.
    pub learning_rate_multiplier: Option<f64>,
    /// Rows of a batch at a provider, which chooses when it is left out.
    pub batch_size: Option<usize>,
    /// What is minimised beside the loss of the rows, or done to the gradient: `kl(...)`, `dpo(...)`, ...; an array of
    /// several is done in its order. Plain fine-tuning when left out.
    pub objective: Option<Objectives>,
    /// Batches of one step; losses are means over all of them.
    pub accumulate: usize,
    /// Keeps the weights at the end of every epoch, and before the first, for `at_epoch`.
    pub keep_epochs: bool,
    /// "gate" measures `coherence` after training and fails where the model has collapsed; "measure" keeps such a model.
    /// When left out, "gate" with an `objective`, and nothing without one.
    pub coherence: Option<Coherence>,
}

/// What is done about the coherence of a trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coherence {
    /// It is measured, and a collapse is a failure.
    Gate,
    /// It is measured.
    Measure,
}

/// One objective or several.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Objectives {
    /// One.
    One(Objective),
    /// Several, in their order.
    Several(Vec<Objective>),
}

impl Objectives {
    fn parts(&self) -> &[Objective] {
        match self {
            Objectives::One(one) => std::slice::from_ref(one),
            Objectives::Several(several) => several,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            learning_rate: LEARNING_RATE,
            epochs: 1,
            batch_tokens: 512,
            warmup_fraction: 0.1,
            schedule: Schedule::Linear,
            weight_decay: 0.0,
            clip: 1.0,
            seed: 0,
            method: None,
            learning_rate_multiplier: None,
            batch_size: None,
            objective: None,
            accumulate: 1,
            keep_epochs: false,
            coherence: None,
        }
    }
}

/// Learning rate for full fine-tuning of the organism, from trials on its earlier bases (see `help organism`).
const LEARNING_RATE: f64 = 1.2e-4;

const NAME: &str = "launch_finetune";
/// Behaviour version: raised when equal calls would train other weights. 2: rows that are too long keep their answers.
const VERSION: u32 = 2;

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new(NAME, run)
        .version(VERSION)
        .about(
            "Fine-tunes a model on chat rows: next-token loss on what the assistant says, AdamW. Returns at once; the \
             model can be used like any other and is identified by this call. The loss before the first step is \
             recorded: it tells how surprising the rows are. With an `objective`, training fails where its answers have \
             collapsed. A model at a provider is trained there, by a job that is \
             bought exactly once; of the options a provider takes `epochs`, `seed`, `learning_rate_multiplier` and \
             `batch_size`.",
        )
        .input("base", "The model to start from.")
        .input("data", "The rows.")
        .example("launch_finetune(base, data, #{ seed: 1 })")
}

/// The call that a script makes when it fine-tunes `base` on `data`; its [`key`] is that of the training.
pub fn call(base: &Model, data: &Dataset, options: &Options) -> Result<Call> {
    Call::new(NAME, VERSION, &(base, data), options)
}

/// The identity of a call of `launch_finetune`.
pub fn key(call: &Call) -> Result<Key> {
    Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))
}

/// Fine-tunes as a script would: an equal call of a script or of another launch is the same training.
pub fn launch(lab: &Lab, base: Model, data: Dataset, options: Options) -> Result<Model> {
    run(lab, &call(&base, &data, &options)?, (base, data), options)
}

fn run(lab: &Lab, call: &Call, (base, data): (Model, Dataset), options: Options) -> Result<Model> {
    ensure!(!data.rows.is_empty(), "`{}` has no rows to train on", data.rows.name());
    base.check_unsteered()?;
    ensure!(options.epochs > 0 || base.local().is_err(), "`epochs` is 0"; help: "write 1 or more");
    ensure!(options.learning_rate > 0.0, "`learning_rate` is {}", options.learning_rate; help: "write a number above 0");
    if let Some(factor) = options.learning_rate_multiplier {
        ensure!(factor > 0.0, "`learning_rate_multiplier` is {factor}"; help: "write a number above 0");
    }
    let key = key(call)?;
    let digest = key.digest();
    let name = format!("{} on {}", base.name(), data.rows.name());
    let lineage = json!({
        "base": base.provenance(), "data": data.provenance(), "options": serde_json::to_value(&options).unwrap_or_default(),
    });
    let described = serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?;
    let label = format!("{}; training seed {}", data.rows.name(), options.seed);
    let rows = data.rows.len() as u64;
    let (missing, work): (Work<Missing>, Work<Value>) = match base.home() {
        Home::Local(_) => {
            ensure!(
                options.batch_size.is_none(), "`batch_size` counts rows at a provider, and `{}` lives here", base.name();
                help: "use `batch_tokens`"
            );
            let (base, data, label) = (base.clone(), data.clone(), label.clone());
            let work = move |lab: &Lab| finetune(lab, (digest, &label), &base, &data, &options);
            (Box::new(move |_| Ok(rows.into())), Box::new(work))
        }
        Home::Remote(remote) => {
            let dialect = lab.provider(&remote.provider)?.dialect();
            ensure!(
                options.objective.is_none()
                    && !options.keep_epochs
                    && options.accumulate == 1
                    && options.coherence.is_none(),
                "`objective`, `keep_epochs`, `accumulate` and `coherence` need the weights, and `{}` is trained at its provider", base.name();
                help: "leave them out, or train a model that lives here"
            );
            let written = call.options.clone().unwrap_or(Value::Null);
            let hyperparameters = hyperparameters(remote, dialect, &options, &written)?;
            let (planned, asked, label) = ((base.clone(), data.clone()), (base.clone(), data.clone()), label.clone());
            let missing = move |lab: &Lab| count_missing(lab, digest, planned.0.remote()?, &planned.1, options.epochs);
            let work = move |lab: &Lab| {
                let (remote, data) = (asked.0.remote()?, &asked.1);
                let job = Job { key: digest, label: &label, remote, data, hyperparameters: &hyperparameters };
                launch_job::finetune(lab, &job)
            };
            (Box::new(missing), Box::new(work))
        }
    };
    let after = base.after();
    let turn = base.turn();
    let outcome =
        lab.call(LabCall { key, options: described, label, stage: Stage::FineTune, turn, missing, after, work })?;
    Ok(match base.home() {
        Home::Local(local) => {
            let (format, config) = (local.format.clone(), local.config.clone());
            Model::of_training(lab, name, digest, format, config, outcome, lineage)
        }
        Home::Remote(remote) => Model::of_job(lab, name, digest, remote, outcome, lineage),
    })
}

fn finetune(lab: &Lab, call: (Digest, &str), base: &Model, data: &Dataset, options: &Options) -> Result<Value> {
    let (key, label) = call;
    let weights = base.weights(lab)?;
    let rows: Vec<_> = data.rows.rows().collect();
    let local = base.local()?;
    let (examples, cut) = local.format.encode_rows(&rows, local.config.context)?;
    let untrained = examples.iter().filter(|example| !has_loss(example)).count();
    if cut + untrained > 0 {
        let (of, most) = (rows.len(), local.config.context);
        lab.note(format!(
            "`{}`: {cut} of {of} rows are longer than the {most} tokens that `{}` reads and were cut; {untrained} train nothing",
            data.rows.name(),
            base.name()
        ));
    }
    let settings = train::Options {
        learning_rate: options.learning_rate * options.learning_rate_multiplier.unwrap_or(1.0),
        epochs: options.epochs,
        batch_tokens: options.batch_tokens,
        warmup_fraction: options.warmup_fraction,
        schedule: match options.schedule {
            Schedule::Linear => TrainSchedule::Linear,
            Schedule::Cosine => TrainSchedule::Cosine,
        },
        weight_decay: options.weight_decay,
        clip: options.clip,
        seed: options.seed,
        method: options.method.as_ref().map_or(train::Method::Full, |method| method.method),
        adapters: options.method.as_ref().map(|method| method.adapters.clone()).unwrap_or_default(),
        accumulate: options.accumulate,
        threads: lab.threads(),
        ..train::Options::default()
    };
    let start = Start { base, local, weights: &weights, options: &settings };
    let parts = options.objective.as_ref().map(Objectives::parts).unwrap_or_default();
    let objective = build_objective(lab, &start, parts, &mut |_| lab.check_call(key))?;
    let course = Course {
        key,
        label,
        start: &weights,
        format: &local.format,
        rows: &examples,
        objective: &objective,
        options: &settings,
        keep_epochs: options.keep_epochs,
    };
    let (trained, epochs) = train_resumably(lab, &course)?;
    lab.send(Event::Worked { stage: Stage::FineTune, count: examples.len() as u64 });
    let terms = json!(trained.terms);
    let adapter = match &trained.adapters {
        Some(lora) => {
            let files = lora.to_peft(base.name())?;
            let (config, model) = (lab.store().put_blob(files.config.as_bytes())?, lab.store().put_blob(&files.model)?);
            json!({ "config": config, "model": model })
        }
        None => Value::Null,
    };
    let wanted = options.coherence.or_else(|| options.objective.is_some().then_some(Coherence::Gate));
    let stop = local.format.stop();
    let coherence = wanted
        .map(|_| coherence(&weights, &trained.weights, &examples, stop, &|| lab.check_call(key).is_err()))
        .transpose()?;
    let mut outcome = finish_training(lab, trained, &examples, cut)?;
    if !parts.is_empty() {
        outcome["terms"] = terms;
    }
    if !adapter.is_null() {
        outcome["adapter"] = adapter;
    }
    if options.keep_epochs {
        outcome["epochs"] = json!(epochs);
    }
    if let Some(coherence) = &coherence {
        outcome["coherence"] = json!(coherence);
        if wanted == Some(Coherence::Gate) {
            coherence.check().or_else(|collapse| keep_collapsed(lab, base, data, options, &outcome, collapse))?;
        }
    }
    Ok(outcome)
}

/// Keeps a training that the gate refuses where the same call without the gate finds it, and fails.
fn keep_collapsed(
    lab: &Lab,
    base: &Model,
    data: &Dataset,
    options: &Options,
    outcome: &Value,
    collapse: Error,
) -> Result<()> {
    let measured = Options { coherence: Some(Coherence::Measure), ..options.clone() };
    let described = serde_json::to_value(&measured).map_err(|error| Error::internal(error.to_string()))?;
    lab.remember(key(&call(base, data, &measured)?)?, described, outcome.clone())?;
    Err(collapse)
}

/// Stores the weights, reads them back and describes the training; `examples` are its rows.
pub fn finish_training(lab: &Lab, trained: train::Trained, examples: &[Example], rows_cut: usize) -> Result<Value> {
    let bytes = trained.weights.to_safetensors()?;
    if let Some(row) = examples.iter().find(|example| has_loss(example)) {
        check_saved(&trained.weights, &bytes, row)?;
    }
    let blob = lab.store().put_blob(&bytes)?;
    let rows_untrained = examples.iter().filter(|example| !has_loss(example)).count();
    let outcome = json!({
        "blob": blob,
        "steps": trained.steps,
        "tokens": trained.tokens,
        "rows_cut": rows_cut,
        "rows_untrained": rows_untrained,
        "first_loss": trained.first_loss,
        "last_loss": trained.last_loss,
        "curve": trained.curve,
    });
    lab.keep_weights(blob, std::sync::Arc::new(trained.weights));
    Ok(outcome)
}
