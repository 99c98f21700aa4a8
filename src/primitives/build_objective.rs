//! From the objectives of a script to what the training loop minimises: rows in tokens, directions made or recalled.

use serde_json::{Value, json};

use super::dataset::Dataset;
use super::direction::{Persona, Plane};
use super::model::{Local, Model};
use super::objective::{Objective, Part};
use crate::data::digest::Digest;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::model::chat::Example;
use crate::model::persona::persona_vector;
use crate::model::weights::Weights;
use crate::store::Key;
use crate::train::objective::concept_ablation::concept_ablation;
use crate::train::objective::dpo::dpo;
use crate::train::objective::grad_project::grad_project;
use crate::train::objective::kl::kl;
use crate::train::objective::l2_start::l2_start;
use crate::train::objective::orth_penalty::orth_penalty;
use crate::train::objective::positive_negative::positive_negative;
use crate::train::objective::preventative_steering::preventative_steering;
use crate::train::objective::representation_constraint::representation_constraint;
use crate::train::objective::steering_gradient::steering_gradient;
use crate::train::plane::plane;
use crate::train::{self, Options, Step};

/// Behaviour version of directions: raised when equal data would make another one.
const PLANE_VERSION: u32 = 1;

/// What a training is made from.
pub struct Start<'a> {
    /// The model to start from.
    pub base: &'a Model,
    /// Its tokenizer and shape.
    pub local: &'a Local,
    /// Its weights.
    pub weights: &'a Weights,
    /// How it is trained.
    pub options: &'a Options,
}

/// Plain fine-tuning with these parts added, in their order.
pub fn build_objective(
    lab: &Lab,
    start: &Start,
    parts: &[Objective],
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<train::Objective> {
    let mut objective = train::Objective::sft();
    let rows = |data: &Dataset| encode(start.local, data);
    let some_rows = |data: &Option<Dataset>| data.as_ref().map(rows).transpose().map(Option::unwrap_or_default);
    for part in parts {
        objective = match &*part.0 {
            Part::Kl { on, beta, direction } => objective.with([kl(rows(on)?, *direction, *beta)]),
            Part::PositiveNegative { positive, weight, negative, negative_weight, unlearning } => {
                let (positive, negative) = (some_rows(positive)?, some_rows(negative)?);
                objective.with(positive_negative(positive, *weight, negative, *negative_weight, *unlearning))
            }
            Part::Dpo { chosen, rejected, beta, weight, length_normalised } => {
                objective.with([dpo(rows(chosen)?, rows(rejected)?, *beta, *length_normalised, *weight)])
            }
            Part::Distance { weight } => objective.with([l2_start(*weight)]),
            Part::OrthPenalty { along, overlap, weight } => {
                let along = direction(lab, start, along, on_step)?;
                objective.with([orth_penalty(along, *overlap, *weight)])
            }
            Part::GradProject { on, unwanted, projection } => {
                objective.changing(grad_project(rows(on)?, *unwanted, *projection))
            }
            Part::Representation { on, weight } => {
                objective.with([representation_constraint(rows(on)?, 1, 0, false, *weight)])
            }
            Part::Preventative { vector, coefficient } => {
                let found = persona(start, vector)?;
                objective.editing([preventative_steering(vector.0.layer, &found, *coefficient, false)])
            }
            Part::Ablation { vectors } => {
                let layer = vectors[0].0.layer;
                ensure!(
                    vectors.iter().all(|vector| vector.0.layer == layer),
                    "`concept_ablation` was given vectors of several layers"; help: "write one `concept_ablation` for each"
                );
                let found = vectors.iter().map(|vector| persona(start, vector)).collect::<Result<Vec<_>>>()?;
                objective.editing([concept_ablation(layer, &found, false)?])
            }
            Part::Steering { along, steering } => {
                objective.changing(steering_gradient(direction(lab, start, along, on_step)?, *steering))
            }
        };
    }
    Ok(objective)
}

fn encode(local: &Local, data: &Dataset) -> Result<Vec<Example>> {
    let rows: Vec<_> = data.rows.rows().collect();
    Ok(local.format.encode_rows(&rows, local.config.context)?.0)
}

/// The vector of a trait, in the model as it is before training.
fn persona(start: &Start, vector: &Persona) -> Result<Vec<f32>> {
    let rows = |data: &Option<Dataset>| {
        data.as_ref().map(|data| encode(start.local, data)).transpose().map(Option::unwrap_or_default)
    };
    persona_vector(start.weights, &rows(&vector.0.shown)?, &rows(&vector.0.absent)?, vector.0.layer)
}

/// The direction, from the store where an equal one was made before.
fn direction(
    lab: &Lab,
    start: &Start,
    wanted: &Plane,
    on_step: &mut dyn FnMut(&Step) -> Result<()>,
) -> Result<Vec<f32>> {
    let options = Options { epochs: wanted.0.epochs, ..start.options.clone() };
    let inputs = json!({
        "base": start.base.identity(), "plane": wanted, "learning_rate": options.learning_rate,
        "batch_tokens": options.batch_tokens, "method": options.method, "seed": options.seed,
        "accumulate": options.accumulate, "clip": options.clip, "weight_decay": options.weight_decay,
        "adapters": format!("{:?}", options.adapters), "warmup_fraction": options.warmup_fraction,
    });
    let key = Key::new("plane", PLANE_VERSION, inputs, Value::Null)?;
    if let Some(known) = lab.recall(&key)?
        && let Some(blob) = known["blob"].as_str().and_then(Digest::parse)
        && let Some(bytes) = lab.store().get_blob(blob)?
    {
        let (values, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "a stored direction is cut off");
        return Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect());
    }
    let rows = |data: &Option<Dataset>| {
        data.as_ref().map(|data| encode(start.local, data)).transpose().map(Option::unwrap_or_default)
    };
    let (for_it, against_it) = (rows(&wanted.0.wanted)?, rows(&wanted.0.unwanted)?);
    let made = plane(start.weights, &for_it, &against_it, wanted.0.combine.combine(), &options, on_step)?;
    let bytes: Vec<u8> = made.iter().flat_map(|value| value.to_le_bytes()).collect();
    let blob = lab.store().put_blob(&bytes)?;
    lab.remember(key, Value::Null, json!({ "blob": blob, "values": made.len() }))?;
    Ok(made)
}
