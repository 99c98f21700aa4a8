//! `safe_lora`: projects the adapters of a trained model back towards an alignment.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::{Local, Model};
use super::objective::given;
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;
use crate::train::Lora;
use crate::train::objective::safe_lora::{Projected, Projector, Which, safe_lora};

/// Behaviour version: raised when equal calls would give other weights.
const VERSION: u32 = 1;

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ProjectorWord {
    /// As published.
    Approximate,
    /// A projector in the strict sense.
    Exact,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The model that is aligned, such as a chat model.
    aligned: Option<Model>,
    /// The model that it was aligned from, of the same shape.
    base: Option<Model>,
    /// Maps are projected whose change has at most this cosine with its projection.
    threshold: Option<f64>,
    /// In place of a threshold: so many maps, those with the smallest cosines.
    maps: Option<usize>,
    /// With V = aligned - base: "approximate" is V Vᵀ / ‖V‖, as published; "exact" projects on the span of V's columns,
    /// which changes nothing where V has full rank.
    projector: ProjectorWord,
}

impl Default for Options {
    fn default() -> Self {
        Options { aligned: None, base: None, threshold: None, maps: None, projector: ProjectorWord::Approximate }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("safe_lora", run)
        .version(VERSION)
        .about(
            "SafeLoRA (Hsu 2024): a model that was trained with `lora(...)`, the second factor of those adapters that leave \
             the subspace of an alignment projected back on it. `projected` of the model tells the cosine of every map and \
             whether it was projected; when none was, it is an error. `save_adapter` writes the projected adapter. Returns \
             at once.",
        )
        .input("model", "What `launch_finetune` returned.")
        .example("safe_lora(tuned, #{ aligned: chat_model, base: base_model, threshold: 0.35 })")
}

fn run(lab: &Lab, call: &Call, (model,): (Model,), options: Options) -> Result<Model> {
    let aligned = given(options.aligned, "safe_lora", "aligned")?;
    let base = given(options.base, "safe_lora", "base")?;
    let which = match (options.threshold, options.maps) {
        (Some(threshold), None) => {
            ensure!(threshold.is_finite(), "`threshold` of `safe_lora` is {threshold}"; help: "write a cosine, such as 0.35");
            Which::Threshold(threshold)
        }
        (None, Some(maps)) => {
            ensure!(maps > 0, "`maps` of `safe_lora` is 0"; help: "write how many maps are to be projected");
            Which::Number(maps)
        }
        _ => {
            return Err(Error::input("`safe_lora` needs either `threshold` or `maps`")
                .with_help("write `threshold: 0.35` for a cosine, or `maps: 4` for a number of maps"));
        }
    };
    let projector = match options.projector {
        ProjectorWord::Approximate => Projector::Approximate,
        ProjectorWord::Exact => Projector::Exact,
    };
    for model in [&model, &aligned, &base] {
        model.check_unsteered()?;
    }
    model.check_adapter()?;
    let Local { config, format, .. } = model.local()?;
    for other in [&aligned, &base] {
        ensure!(
            other.local()?.config == *config, "`{}` and `{}` have different shapes", model.name(), other.name();
            help: "use the model that was aligned, and what it was aligned from"
        );
    }
    let (config, format) = (config.clone(), format.clone());
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let digest = key.digest();
    let name = format!("{} projected", model.name());
    let lineage = json!({
        "base": model.provenance(),
        "safe_lora": {
            "aligned": aligned.provenance(), "base": base.provenance(), "which": which, "projector": projector,
        },
    });
    let after = [&model, &aligned, &base].into_iter().flat_map(Model::after).collect();
    let outcome = lab.call(LabCall {
        key,
        options: json!({ "which": which, "projector": projector }),
        label: name.clone(),
        stage: Stage::FineTune,
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(1.into())),
        after,
        work: Box::new(move |lab| project(lab, &model, (&aligned, &base), which, projector)),
    })?;
    Ok(Model::of_training(lab, name, digest, format, config, outcome, lineage))
}

fn project(
    lab: &Lab,
    model: &Model,
    (aligned, base): (&Model, &Model),
    which: Which,
    projector: Projector,
) -> Result<Value> {
    let tuned = model.weights(lab)?;
    let before = Lora::from_peft(&tuned, &model.adapter(lab)?)?;
    let mut lora = before.clone();
    let projected = safe_lora(&mut lora, &*aligned.weights(lab)?, &*base.weights(lab)?, which, projector)?;
    check_projected(&projected, which)?;
    // The weights that the adapters were trained on are not at hand; the difference of the second factors is enough.
    let mut difference = lora.clone();
    for adapter in &difference.adapters {
        let place = adapter.b.clone();
        let own = difference.values[place.clone()].iter_mut().zip(&before.values[place]);
        own.for_each(|(value, before)| *value -= before);
    }
    let mut weights = (*tuned).clone();
    difference.merge(&tuned, &mut weights);
    let files = lora.to_peft(model.name())?;
    let blob = lab.store().put_blob(&weights.to_safetensors()?)?;
    lab.keep_weights(blob, Arc::new(weights));
    let (config, tensors) = (lab.store().put_blob(files.config.as_bytes())?, lab.store().put_blob(&files.model)?);
    Ok(json!({ "blob": blob, "adapter": { "config": config, "model": tensors }, "projected": projected }))
}

/// Refuses a projection that has done nothing: its results would be those of the model before.
fn check_projected(maps: &[Projected], which: Which) -> Result<()> {
    if maps.iter().any(|map| map.projected) {
        return Ok(());
    }
    let wanted = match which {
        Which::Threshold(threshold) => format!("the threshold is {threshold}"),
        Which::Number(count) => format!("{count} are wanted"),
    };
    let cosines = || maps.iter().map(|map| map.cosine);
    let message = format!(
        "none of {} maps was projected: {wanted}, and their cosines are from {:.3} to {:.3}",
        maps.len(),
        cosines().fold(f64::INFINITY, f64::min),
        cosines().fold(f64::NEG_INFINITY, f64::max)
    );
    Err(Error::experiment(message).with_help("raise `threshold`, or write how many with `maps`"))
}
