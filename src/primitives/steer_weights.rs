//! `steer_weights`: task arithmetic, differences of fine-tuned weights added to a model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{Local, Model};
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;
use crate::train::objective::steering_weights::{TaskVector, steer_weights};

/// A difference of weights and how much of it is added.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Vector {
    /// How much.
    factor: f64,
    /// The model to go towards.
    to: Model,
    /// The model to go away from.
    from: Model,
}

/// Behaviour version: raised when equal calls would give other weights.
const VERSION: u32 = 1;

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("steer_weights", run)
        .version(VERSION)
        .about(
            "A model plus multiples of differences of weights (task arithmetic): `to` minus `from`, all fine-tuned from one \
             base. Contrastive steering goes from a model with a trait to one with its opposite. Returns at once.",
        )
        .input("model", "The model that is changed.")
        .input("vectors", "Maps of `factor`, `to` and `from`.")
        .example("steer_weights(tuned, [#{ factor: 0.5, to: aligned, from: misaligned }])")
}

fn run(lab: &Lab, call: &Call, (model, vectors): (Model, Vec<Vector>), _: ()) -> Result<Model> {
    ensure!(!vectors.is_empty(), "`steer_weights` was given no vectors"; help: "give at least one");
    let Local { config, format, .. } = model.local()?;
    let (config, format) = (config.clone(), format.clone());
    model.check_unsteered()?;
    let mut after = model.after();
    for vector in &vectors {
        vector.to.local()?;
        vector.from.local()?;
        vector.to.check_unsteered()?;
        vector.from.check_unsteered()?;
        after.extend(vector.to.after());
        after.extend(vector.from.after());
    }
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), serde_json::Value::Null)?;
    let digest = key.digest();
    let name = format!("{} steered", model.name());
    let lineage = json!({
        "base": model.provenance(),
        "vectors": vectors.iter().map(|vector| json!({
            "factor": vector.factor, "to": vector.to.provenance(), "from": vector.from.provenance(),
        })).collect::<Vec<_>>(),
    });
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::Value::Null,
        label: name.clone(),
        stage: Stage::FineTune,
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(1.into())),
        after,
        work: Box::new(move |lab| {
            let weights = model.weights(lab)?;
            let ends = vectors.iter().map(|vector| Ok((vector.to.weights(lab)?, vector.from.weights(lab)?)));
            let ends = ends.collect::<Result<Vec<_>>>()?;
            let added = vectors.iter().zip(&ends);
            let added: Vec<TaskVector> =
                added.map(|(vector, (to, from))| TaskVector { factor: vector.factor, to, from }).collect();
            let steered = steer_weights(&weights, &added)?;
            let blob = lab.store().put_blob(&steered.to_safetensors()?)?;
            lab.keep_weights(blob, Arc::new(steered));
            Ok::<_, Error>(json!({ "blob": blob }))
        }),
    })?;
    Ok(Model::of_training(lab, name, digest, format, config, outcome, lineage))
}
