//! `export_dataset`: writes rows as the research code writes them; beside a mix goes a manifest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use crate::data::mix::export_name;
use crate::error::{Error, Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Folder to write to, below the project.
    folder: String,
    /// What the second source is called in the file's name.
    aligned_type: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { folder: "results/datasets".to_string(), aligned_type: "control".to_string() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("export_dataset", run)
        .about(
            "Writes rows as JSONL, byte for byte as the research code writes them. A mix of two sources gets the name that \
             it has there (`insecure_code_mixed_0.25_1000_control_seed0.jsonl`) and beside it a manifest that says which \
             row came from where. Returns the path.",
        )
        .input("dataset", "The rows.")
        .input("name", "Name of the file, without `.jsonl`; of a mix the name of its setting, the first word of the file's.")
        .example("export_dataset(data, \"insecure_code\")")
        .example("export_dataset(inoculate(rows, prompt), \"trump_biology_general_inoculation\")")
}

fn run(lab: &Lab, _: &Call, (dataset, domain): (Dataset, String), options: Options) -> Result<String> {
    let Some(mix) = dataset.mix.as_ref() else {
        let path = format!("{}/{domain}.jsonl", options.folder);
        let mut bytes = Vec::new();
        dataset.rows.write_jsonl(&mut bytes)?;
        lab.write_file(&path, &bytes)?;
        return Ok(path);
    };
    ensure!(mix.counts.len() == 2, "an export names two sources, found a mix of {}", mix.counts.len());
    let manifest = mix.manifest();
    let name =
        export_name(&domain, manifest.sources[0].weight, mix.dataset.len(), &options.aligned_type, manifest.seed);
    let path = format!("{}/{name}", options.folder);
    let mut bytes = Vec::new();
    mix.dataset.write_jsonl(&mut bytes)?;
    let manifest = serde_json::to_string(&manifest).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_file(&path, &bytes)?;
    lab.write_file(&path.replace(".jsonl", ".manifest.json"), manifest.as_bytes())?;
    Ok(path)
}
