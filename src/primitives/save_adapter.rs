//! `save_adapter`: writes what `lora` trained as an adapter that PEFT and vLLM load.

use super::model::Model;
use crate::error::Result;
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
    model.training()?;
    let files = model.adapter(lab)?;
    lab.write_file(&format!("{folder}/adapter_config.json"), files.config.as_bytes())?;
    lab.write_file(&format!("{folder}/adapter_model.safetensors"), &files.model)?;
    Ok(folder)
}
