//! `synthetic_activations`: files of made-up activations with the sizes, densities and defects of the real ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result, ensure};
use crate::lab::{Event, Lab};
use crate::probe::synthetic::{Leak, SynthesisOptions, synthesize};
use crate::probe::write::{LabelFileOptions, label_json, write_label_npy, write_npy};
use crate::script::declaration::{Call, Primitive};

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Size of every source as a share of the real one.
    fraction: f64,
    /// Number of features.
    features: usize,
    /// Decides all values.
    seed: u64,
    /// Puts noisy copies of gold rows among the training rows, as many as in the real experiment.
    leak: bool,
    /// Gives the added sources the density and magnitude of another extraction.
    batch_effect: bool,
    /// Makes every row of the sycophant and model_organism sources positive.
    source_equals_label: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { fraction: 1.0, features: 16_384, seed: 0, leak: false, batch_effect: true, source_equals_label: true }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("synthetic_activations", run)
        .about(
            "Writes made-up activations of the distribution sweep's five sources to a folder, under the file names of the \
             real ones: `train`, `test` (the gold set), `sycophant`, `model_organism`, `benchmark`. A folder that holds \
             the same already is left as it is. Returns the folder.",
        )
        .input("folder", "Where to, below the project.")
        .example("synthetic_activations(\"results/activations\", #{ fraction: 0.1, features: 1024 })")
}

/// What the manifest says beside the options; raised when equal options give other values.
const VERSION: u32 = 1;

fn run(lab: &Lab, _: &Call, (folder,): (String,), options: Options) -> Result<String> {
    ensure!(options.fraction > 0.0 && options.fraction <= 1.0, "`fraction` is {}", options.fraction;
        help: "write a number above 0 and up to 1");
    let manifest = json!({ "made_up": true, "version": VERSION, "options": options });
    let path = format!("{folder}/manifest.json");
    let known = lab.files().resolve(&path).ok().and_then(|path| std::fs::read_to_string(path).ok());
    let known: Option<Value> = known.and_then(|text| serde_json::from_str(&text).ok());
    if known.as_ref() == Some(&manifest) {
        return Ok(folder);
    }
    let settings = SynthesisOptions {
        columns: options.features,
        seed: options.seed,
        batch_effect: options.batch_effect,
        source_equals_label: options.source_equals_label,
        signal_features: (options.features / 8).min(40),
        leak: options.leak.then(Leak::of_the_experiment),
        ..SynthesisOptions::default()
    };
    let made = synthesize(&settings.scaled(options.fraction))?;
    lab.send(Event::Note { text: format!("writing made-up activations to {folder}") });
    for source in &made.sources {
        lab.check_cancelled()?;
        let name = if source.name == "gold_106" { "test" } else { &source.name };
        let mut bytes = Vec::new();
        write_npy(&source.activations, &mut bytes)?;
        lab.write_file(&format!("{folder}/{name}_activations.npy"), &bytes)?;
        if ["train", "test"].contains(&name) {
            let mut bytes = Vec::new();
            write_label_npy(&source.labels, &mut bytes)?;
            lab.write_file(&format!("{folder}/{name}_labels.npy"), &bytes)?;
        } else {
            let word = |label: &bool| if *label { "alignment_faking" } else { "aligned" };
            let words: Vec<&str> = source.labels.iter().map(word).collect();
            let text = label_json(&words, &LabelFileOptions::default())?;
            lab.write_file(&format!("{folder}/{name}_labels.json"), text.as_bytes())?;
        }
        let groups = serde_json::to_string(&source.groups).map_err(|error| Error::internal(error.to_string()))?;
        lab.write_file(&format!("{folder}/{name}_groups.json"), groups.as_bytes())?;
    }
    // Last, so that a folder with a manifest is whole.
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_file(&path, (text + "\n").as_bytes())?;
    Ok(folder)
}
