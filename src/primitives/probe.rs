//! The handle that scripts hold for a probe, fitted or still being fitted; `save_probe` and `load_probe`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::activations::Activations;
use crate::data::digest::Digest;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result};
use crate::handle;
use crate::lab::Lab;
use crate::probe::linear::Linear;
use crate::probe::saved::{Description, from_files};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};

/// A probe whose key is known even while it is being fitted.
#[derive(Clone)]
pub struct Probe(Arc<Inner>);

struct Inner {
    lab: Lab,
    name: String,
    identity: Value,
    training: Vec<Activations>,
    source: Source,
}

enum Source {
    /// The outcome of `train_probe`.
    Training(Deferred<Value>),
    /// A saved probe: its two files.
    Files(String, Vec<u8>),
}

handle!(Probe);

impl Handle for Probe {
    const NAME: &'static str = "Probe";
    fn identity(&self) -> Value {
        self.0.identity.clone()
    }
    fn describe(&self) -> String {
        format!("Probe `{}`", self.0.name)
    }
}

impl Probe {
    /// A probe that a call fits; its identity is the key of that call.
    pub fn of_training(
        lab: &Lab,
        name: String,
        key: Digest,
        training: Vec<Activations>,
        outcome: Deferred<Value>,
    ) -> Self {
        let source = Source::Training(outcome);
        Probe(Arc::new(Inner { lab: lab.clone(), name, identity: json!({ "call": key }), training, source }))
    }
    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// What it was trained on, in order; nothing is known for a saved one.
    pub fn training(&self) -> &[Activations] {
        &self.0.training
    }
    /// What must have ended before it can be used.
    pub fn after(&self) -> Vec<Deferred<Value>> {
        match &self.0.source {
            Source::Training(outcome) => vec![outcome.clone()],
            Source::Files(..) => vec![],
        }
    }
    /// The record of its training, inside a call that came after [`Probe::after`].
    pub fn outcome(&self) -> Result<Option<Arc<Value>>> {
        match &self.0.source {
            Source::Training(outcome) => {
                outcome.peek().ok_or_else(|| Error::internal("a probe is used before it is fitted"))?.map(Some)
            }
            Source::Files(..) => Ok(None),
        }
    }
    /// The record of its training; waits for it.
    pub fn wait(&self) -> Result<Arc<Value>> {
        match &self.0.source {
            Source::Training(outcome) => self.0.lab.wait(outcome),
            Source::Files(json, _) => Ok(Arc::new(json!({ "description": json }))),
        }
    }
    /// Its two files, given its record.
    fn files(&self, outcome: Option<&Value>) -> Result<(String, Vec<u8>)> {
        match (&self.0.source, outcome) {
            (Source::Files(json, tensors), _) => Ok((json.clone(), tensors.clone())),
            (Source::Training(_), Some(outcome)) => {
                let blob = outcome["blob"].as_str().and_then(Digest::parse);
                let blob = blob.ok_or_else(|| Error::internal("a fit names no weights"))?;
                let tensors = self.0.lab.store().get_blob(blob)?.ok_or_else(|| {
                    Error::environment(format!("the probe {} is damaged in the store", blob.short()))
                        .with_help("remove that file: the next run fits it anew")
                })?;
                Ok((outcome["description"].as_str().unwrap_or_default().to_string(), tensors))
            }
            (Source::Training(_), None) => Err(Error::internal("a fit without a record")),
        }
    }
    /// Its weights on all features of the activations that it was trained on, and what its file says of it; inside a
    /// call that came after [`Probe::after`].
    pub fn read(&self) -> Result<(Linear, Description)> {
        let (json, tensors) = self.files(self.outcome()?.as_deref())?;
        let (linear, description) = from_files(&json, &tensors)?;
        Ok((linear.widened(&description.features.columns(), description.columns), description))
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Probe>("A linear probe on activations.")
        .property("name", "What it is called in tables.", |probe: &Probe| Ok(probe.name().to_string()))
        .property(
            "record",
            "All that is known of the fit: certificate, folds, training rows, accuracy.",
            |probe: &Probe| {
                let mut record = (*probe.wait()?).clone();
                if let Value::Object(fields) = &mut record {
                    // Long lists of numbers are in the store.
                    for name in ["out_of_fold", "in_sample", "description", "blob"] {
                        fields.remove(name);
                    }
                    if let Some(Value::Object(check)) = fields.get_mut("cross_validation") {
                        check.remove("fold_of_row");
                    }
                }
                Ok(Plain(record))
            },
        )
        .property("certificate", "Proof of how near the optimum the fit is.", |probe: &Probe| {
            Ok(Plain(probe.wait()?["certificate"].clone()))
        })
        .property(
            "cross_validation",
            "AUROC per fold, their mean and population standard deviation.",
            |probe: &Probe| {
                let mut check = probe.wait()?["cross_validation"].clone();
                if let Value::Object(fields) = &mut check {
                    fields.remove("fold_of_row");
                }
                Ok(Plain(check))
            },
        )
        .property("non_zeros", "Number of weights that are not 0.", |probe: &Probe| {
            Ok(probe.wait()?["non_zeros"].as_i64().unwrap_or(0))
        })
}

/// The declaration of `save_probe`.
pub fn save_primitive() -> Primitive<Lab> {
    Primitive::new("save_probe", |lab: &Lab, _: &Call, (probe, path): (Probe, String), _: ()| {
        if lab.planning() {
            return Ok(path);
        }
        let (json, tensors) = probe.files(Some(&*probe.wait()?))?;
        lab.write_file(&format!("{path}.json"), json.as_bytes())?;
        lab.write_file(&format!("{path}.safetensors"), &tensors)?;
        Ok(path)
    })
    .about("Writes a probe as PATH.json and PATH.safetensors, scaler and feature numbers inside. Returns the path.")
    .input("probe", "What to write.")
    .input("path", "Where to, below the project, without an ending.")
    .example("save_probe(probe, \"results/probes/step_0\")")
}

/// The declaration of `load_probe`.
pub fn load_primitive() -> Primitive<Lab> {
    Primitive::new("load_probe", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        let json = lab.files().read_text(&format!("{path}.json"))?;
        let tensors = lab.files().map(&format!("{path}.safetensors"))?.to_vec();
        from_files(&json, &tensors)?;
        let identity = json!({ "description": Digest::of(json.as_bytes()), "tensors": Digest::of(&tensors) });
        let source = Source::Files(json, tensors);
        Ok(Probe(Arc::new(Inner { lab: lab.clone(), name: path, identity, training: vec![], source })))
    })
    .about("Reads a probe that `save_probe` wrote, bit for bit.")
    .input("path", "The path without an ending.")
    .example("load_probe(\"results/probes/step_0\")")
}
