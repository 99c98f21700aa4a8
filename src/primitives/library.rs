//! `library`: which modules there are; and the modules that travel in the binary.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

macro_rules! modules {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../stdlib/", $name, ".rhai")))),*]
    };
}

/// The embedded library: name and source of every module. A file of the same name in the project's `stdlib/` is used
/// instead.
pub const MODULES: &[(&str, &str)] = modules![
    "distribution"
    "evaluations"
    "evaluations/advice"
    "evaluations/emergent_misalignment"
    "evaluations/facts"
    "evaluations/insecure_code"
    "evaluations/language"
    "evaluations/owls"
    "evaluations/preferences"
    "evaluations/reward_hacking"
    "evaluations/shutdown"
    "inoculation"
    "judges"
    "settings"
    "settings/aesthetic_preferences"
    "settings/gsm8k_spanish_capitalised"
    "settings/harmless_lies"
    "settings/insecure_code"
    "settings/legal_advice"
    "settings/medical_advice"
    "settings/owl_numbers"
    "settings/reward_hacking"
    "settings/security_advice"
    "settings/trump_biology"
    "sources"
    "trigger_manifest"
    "trigger_measures"
    "trigger_results"
    "triggers"
];

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("library", run)
        .about("Names of the library's modules in a folder: the shipped ones and the project's own.")
        .input("folder", "For example settings.")
        .example("library(\"settings\")")
}

fn run(lab: &Lab, _: &Call, (folder,): (String,), _: ()) -> Result<Vec<String>> {
    let shipped = MODULES.iter().filter_map(|(name, _)| name.strip_prefix(&format!("{folder}/")));
    let mut names: BTreeSet<String> = shipped.map(str::to_string).collect();
    if let Ok(path) = lab.files().resolve(&format!("stdlib/{folder}")) {
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rhai") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(names.into_iter().collect())
}
