//! `save_adapter`: writes what `lora` trained as an adapter that PEFT and vLLM load.

use super::model::Model;
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("save_adapter", run)
        .about(
            "Writes the adapter of a model that was trained with `lora(...)` in PEFT's format, `adapter_config.json` and \
             `adapter_model.safetensors`. Waits for the training. Returns the folder.",
        )
        .input("model", "What `launch_finetune` returned.")
        .input("folder", "Where to, below the project.")
        .example("save_adapter(tuned, \"results/adapters/tuned\")")
}

fn run(lab: &Lab, _: &Call, (model, folder): (Model, String), _: ()) -> Result<String> {
    if lab.planning() {
        return Ok(folder);
    }
    let training = model.training()?;
    let adapter = training.as_ref().map(|training| &training["adapter"]).filter(|adapter| !adapter.is_null());
    let adapter = adapter.ok_or_else(|| {
        Error::input(format!("`{}` has no adapter", model.name()))
            .with_help("train with `method: lora(#{ .. })`, or write all weights with `save_model`")
    })?;
    for (part, file) in [("config", "adapter_config.json"), ("model", "adapter_model.safetensors")] {
        let blob = adapter[part].as_str().and_then(Digest::parse);
        let bytes = blob.map(|blob| lab.store().get_blob(blob)).transpose()?.flatten();
        let bytes = bytes.ok_or_else(|| Error::environment(format!("the adapter of `{}` is gone", model.name())))?;
        lab.write_file(&format!("{folder}/{file}"), &bytes)?;
    }
    Ok(folder)
}
