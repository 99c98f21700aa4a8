//! `adapter`: loads a low-rank adapter into a running server; the model that answers with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::Model;
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::lab::Lab;
use crate::provider::models::load_adapter;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Where the server finds the folder, when it is not where this program finds it.
    server_path: Option<String>,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("adapter", run)
        .about(
            "Loads a LoRA adapter from a folder into a running vLLM server (started with `--enable-lora` and \
             VLLM_ALLOW_RUNTIME_LORA_UPDATING=True) and gives the model that answers with it. The adapter is part of keys by \
             the content of its files, never by its name or place.",
        )
        .input("base", "The model at the server.")
        .input("folder", "The folder with the adapter: adapter_config.json and its weights.")
        .example("adapter(model(\"lab:Qwen/Qwen3-8B\"), \"adapters/medical\")")
}

fn run(lab: &Lab, _: &Call, (base, folder): (Model, String), options: Options) -> Result<Model> {
    let remote = base.remote().map_err(|_| {
        Error::input(format!("`{}` lives at no server, so no adapter can be loaded into it", base.name()))
            .with_help("start from a model of a vLLM server, such as `http://127.0.0.1:8000/v1`")
    })?;
    let path = lab.files().resolve(&folder)?;
    let content = digest_of(&path)?;
    let name = format!("drylab-{}", content.short());
    if !lab.planning() {
        let endpoint = lab.endpoint(&remote.provider)?;
        let place = options.server_path.unwrap_or_else(|| path.display().to_string());
        let loaded = lab.block_on(load_adapter(&endpoint, &name, &place, true));
        loaded.map_err(|fault| fault.into_error(&remote.provider))?;
    }
    Ok(Model::of_adapter(lab, format!("{} with {folder}", base.name()), &base, remote, name, json!(content)))
}

/// The files of a folder by name and content.
fn digest_of(folder: &std::path::Path) -> Result<Digest> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), Digest::of(&std::fs::read(entry.path())?)));
        }
    }
    ensure!(
        files.iter().any(|(name, _)| name == "adapter_config.json"),
        "`{}` holds no adapter_config.json", folder.display(); help: "name the folder that PEFT wrote"
    );
    files.sort();
    Digest::of_json(&json!(files))
}
