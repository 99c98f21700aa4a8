//! `save_model`: writes a model to a folder, in the layout of Hugging Face.

use super::model::Model;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("save_model", run)
        .about(
            "Writes `config.json`, `model.safetensors`, `tokenizer.json` and, of a checkpoint, its template to a folder, from which `model(folder)` reads \
             them. Waits for the training. Returns the folder.",
        )
        .input("model", "What to write.")
        .input("folder", "Where to, below the project.")
        .example("save_model(tuned, \"results/models/tuned\")")
}

fn run(lab: &Lab, _: &Call, (model, folder): (Model, String), _: ()) -> Result<String> {
    model.check_unsteered()?;
    if lab.planning() {
        return Ok(folder);
    }
    model.training()?;
    let config =
        serde_json::to_string_pretty(&*model.local()?.config).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_file(&format!("{folder}/config.json"), format!("{config}\n").as_bytes())?;
    for (name, bytes) in model.local()?.format.files() {
        lab.write_file(&format!("{folder}/{name}"), &bytes)?;
    }
    lab.write_file(&format!("{folder}/model.safetensors"), &model.weights(lab)?.to_safetensors()?)?;
    Ok(folder)
}
