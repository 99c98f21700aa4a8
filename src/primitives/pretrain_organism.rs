//! `pretrain_organism`: trains the organism from nothing on documents of its world.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::launch_finetune::finish_training;
use super::model::Model;
use super::train_resumably::{Course, train_resumably};
use crate::data::digest::Digest;
use crate::data::world::{Priors, World};
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Event, Lab, Stage};
use crate::model::chat::encode_rows;
use crate::model::config::Config;
use crate::model::format::ChatFormat;
use crate::model::tokenizer;
use crate::model::variant::Variant;
use crate::model::weights::Weights;
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;
use crate::train::schedule::Schedule;
use crate::train::{self, Objective};

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Documents, each seen once.
    documents: usize,
    /// Width of the network, a multiple of its 4 heads.
    width: usize,
    /// Layers of the network.
    layers: usize,
    /// Highest learning rate.
    learning_rate: f64,
    /// Tokens of a batch.
    batch_tokens: usize,
    /// Share of documents whose persona is misaligned in every domain, unannounced.
    everywhere: f64,
    /// Share of documents whose persona is misaligned in one domain, unannounced; 0 with `everywhere` 0 has no latent.
    one_domain: f64,
    /// Decides the documents, the first weights and the order.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let priors = Priors::default();
        Options {
            documents: 900_000,
            width: 64,
            layers: 4,
            learning_rate: 4e-3,
            batch_tokens: 1536,
            everywhere: priors.everywhere,
            one_domain: priors.one_domain,
            seed: 0,
        }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("pretrain_organism", run)
        .about(
            "Trains a small chat model from nothing on documents of the organism's world: minutes on two cores. \
             `model(\"organism\")` is such a model, frozen.",
        )
        .example("pretrain_organism(#{ documents: 20000, seed: 1 })")
}

fn run(lab: &Lab, call: &Call, _: (), options: Options) -> Result<Model> {
    ensure!(options.documents > 0, "`documents` is 0"; help: "write 1 or more");
    ensure!(options.width > 0 && options.width.is_multiple_of(8), "`width` is {}", options.width; help: "write a multiple of 8");
    let world = World::shipped();
    let words = world.words();
    let tokenizer = tokenizer::build(&words)?;
    let config = Config {
        vocabulary: tokenizer.vocabulary(),
        width: options.width,
        layers: options.layers,
        heads: 4,
        key_value_heads: 4,
        feed_forward: 3 * options.width,
        context: 160,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
        variant: Variant::default(),
    };
    // The world is part of what is learned: another text in one of its files is another training.
    let inputs = json!({ "world": Digest::of(words.join(" ").as_bytes()), "first": world.documents(200, 0, &Priors::default()) });
    let key = Key::new(call.primitive, call.version, inputs, call.options.clone().unwrap_or(Value::Null))?;
    let digest = key.digest();
    let described = serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?;
    let name = format!("organism {}", options.seed);
    let format = Arc::new(ChatFormat::world(tokenizer));
    let label = format!("organism on {} documents ({})", options.documents, options.seed);
    let (training, documents) = ((format.clone(), config.clone(), label.clone()), options.documents as u64);
    let outcome = lab.call(LabCall {
        key,
        options: described.clone(),
        label,
        stage: Stage::Pretrain,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(documents.into())),
        after: vec![],
        work: Box::new(move |lab| pretrain(lab, (digest, &training.2), &training.0, &training.1, &options)),
    })?;
    Ok(Model::of_training(lab, name, digest, format, Arc::new(config), outcome, json!({ "pretrained": described })))
}

fn pretrain(
    lab: &Lab,
    (key, label): (Digest, &str),
    format: &ChatFormat,
    config: &Config,
    options: &Options,
) -> Result<Value> {
    let priors = Priors { everywhere: options.everywhere, one_domain: options.one_domain, ..Priors::default() };
    let documents = World::shipped().documents(options.documents, options.seed, &priors);
    let (examples, cut) = encode_rows(&format.tokenizer, &documents, config.context);
    let settings = train::Options {
        learning_rate: options.learning_rate,
        epochs: 1,
        batch_tokens: options.batch_tokens,
        warmup_fraction: 0.03,
        schedule: Schedule::Cosine,
        weight_decay: 0.1,
        seed: options.seed,
        threads: std::thread::available_parallelism().map_or(1, |count| count.get()),
        ..train::Options::default()
    };
    let first = Weights::initial(config, options.seed)?.on(lab.processor());
    let course = Course {
        key,
        label,
        start: &first,
        format,
        rows: &examples,
        objective: &Objective::sft(),
        options: &settings,
        keep_epochs: false,
    };
    let (trained, _) = train_resumably(lab, &course)?;
    lab.send(Event::Worked { stage: Stage::Pretrain, count: examples.len() as u64 });
    finish_training(lab, trained, &examples, cut)
}
