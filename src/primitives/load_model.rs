//! `model`: a model to start from, by the name that says where it lives.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::model::Model;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::checkpoint::{read_config, read_stop_ids, read_weights};
use crate::model::config::Config;
use crate::model::format::ChatFormat;
use crate::model::tokenizer::Tokenizer;
use crate::model::weights::Weights;
use crate::provider::hub::Repository;
use crate::provider::id::ModelId;
use crate::provider::models;
use crate::script::declaration::{Call, Primitive};

/// Every value is an f32 in memory.
const BYTES_PER_VALUE: u64 = 4;

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("model", run)
        .about(
            "A model to start from. `organism` travels in the program; a folder (`hf:FOLDER`) holds \
             a checkpoint of Hugging Face (Llama, Qwen, Gemma) or what `save_model` wrote; `hf:OWNER/NAME`, with \
             `@REVISION` where it matters, is downloaded from the hub once, into the cache that Python's tools share; \
             `openai:MODEL`, `azure:DEPLOYMENT`, `together:MODEL` or `NAME:MODEL` of a block in `drylab.toml` lives at a \
             provider; an address such as `http://127.0.0.1:8000/v1` (with `#MODEL` where it has several) is any server \
             that speaks OpenAI's protocol; `replay:FILE` answers only what was recorded. See `help providers`.",
        )
        .input("name", "Where it lives and what it is called there.")
        .example("model(\"organism\")")
}

fn run(lab: &Lab, _: &Call, (name,): (String,), _: ()) -> Result<Model> {
    load(lab, name)
}

/// The model of this name: what `model(name)` is in a script.
pub fn load(lab: &Lab, name: String) -> Result<Model> {
    match ModelId::parse(&name)? {
        ModelId::Organism => organism(lab),
        ModelId::Folder(folder) => folder_model(lab, name, &folder),
        ModelId::Hub(_, folder) if lab.project().join(&folder).exists() => folder_model(lab, name, &folder),
        ModelId::Hub(repository, _) => hub_model(lab, name, &repository),
        ModelId::Replay(file) => Model::of_recording(lab, name, &file),
        ModelId::Provider { provider, model: Some(model) } => Model::of_provider(lab, name, provider, model),
        ModelId::Provider { provider, model: None } => {
            let endpoint = lab.endpoint(&provider)?;
            let listed =
                lab.block_on(models::list_models(&endpoint, 0)).map_err(|fault| fault.into_error(&provider))?;
            let chosen = models::pick_model(&listed, endpoint.settings().base_url())?.id.clone();
            Model::of_provider(lab, format!("{provider}#{chosen}"), provider, chosen)
        }
    }
}

/// The embedded organism.
pub fn organism(lab: &Lab) -> Result<Model> {
    let (format, weights) = ORGANISM.clone()?;
    Model::of_weights(lab, "organism".to_string(), format, weights, None)
}

/// Tokenizer and weights, read once.
static ORGANISM: LazyLock<Result<(Arc<ChatFormat>, Arc<Weights>)>> = LazyLock::new(|| {
    read(
        include_bytes!("../../datasets/organism/base/config.json"),
        include_bytes!("../../datasets/organism/base/tokenizer.json"),
        include_bytes!("../../datasets/organism/base/model.safetensors"),
    )
});

fn read(config: &[u8], tokenizer: &[u8], weights: &[u8]) -> Result<(Arc<ChatFormat>, Arc<Weights>)> {
    let config: Config =
        serde_json::from_slice(config).map_err(|error| Error::input(format!("`config.json`: {error}")))?;
    let format = ChatFormat::world(Tokenizer::from_json(tokenizer)?);
    Ok((Arc::new(format), Arc::new(Weights::from_safetensors(&config, weights)?)))
}

/// A model from a folder: a checkpoint of Hugging Face, or what `save_model` wrote of the organism's kind.
///
/// # Errors
/// A folder or file that is missing, an architecture that is not supported, weights that do not fit.
pub fn folder_model(lab: &Lab, name: String, folder: &str) -> Result<Model> {
    let place = lab.files().resolve(folder).map_err(|error| match folder.split('/').count() {
        // A name such as `Qwen/Qwen2.5-7B-Instruct` is that of a repository.
        2 if !folder.starts_with(['.', '/']) => Error::input(format!("there is no folder `{folder}`"))
            .with_help(format!("write `hf:{folder}` if a repository of the hub is meant")),
        _ => error,
    })?;
    read_folder(lab, name, &place, None)
}

/// A checkpoint of the hub, downloaded where it is not in the cache.
fn hub_model(lab: &Lab, name: String, repository: &Repository) -> Result<Model> {
    let check = |folder: &Path| read_config(folder).map(drop).map_err(|error| error.context(format!("`{name}`")));
    let snapshot = lab.fetch_checkpoint(repository, &check)?;
    let source = json!({ "repository": repository.id(), "revision": repository.revision(), "commit": snapshot.commit });
    read_folder(lab, name, &snapshot.folder, Some(source))
}

fn read_folder(lab: &Lab, name: String, place: &Path, source: Option<Value>) -> Result<Model> {
    let read = || -> Result<Model> {
        let config = read_config(place)?;
        let text = |file: &str| std::fs::read_to_string(place.join(file)).ok();
        let tokenizer = std::fs::read(place.join("tokenizer.json")).map_err(|error| {
            Error::input(format!("`tokenizer.json` cannot be read: {error}"))
                .with_help("fetch it with the rest of the checkpoint")
        })?;
        let tokenizer = Tokenizer::from_json(&tokenizer)?;
        let format = if tokenizer.is_world() {
            ChatFormat::world(tokenizer)
        } else {
            let stop = read_stop_ids(place, &config)?;
            let described = text("tokenizer_config.json").unwrap_or_else(|| "{}".to_string());
            ChatFormat::of_checkpoint(tokenizer, &described, text("chat_template.jinja").as_deref(), stop)?
        };
        config.check()?;
        lab.check_memory(BYTES_PER_VALUE * config.parameters() as u64, "the checkpoint").map_err(|error| {
            error.with_help("take a smaller model, or a machine with more memory: weights are f32 here")
        })?;
        let weights = read_weights(&config, place)?;
        Model::of_weights(lab, name.clone(), Arc::new(format), Arc::new(weights), source.clone())
    };
    read().map_err(|error| error.context(format!("`{name}`")))
}
