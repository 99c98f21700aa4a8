//! From the objectives of a script to what the training loop minimises: rows in tokens, directions made or recalled.

use serde_json::{Value, json};

use super::dataset::Dataset;
use super::direction::{Persona, Plane};
use super::model::{Local, Model};
use super::objective::{Objective, Part};
use super::stored_values::stored_values;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::model::chat::Example;
use crate::model::persona::persona_vector;
use crate::model::weights::Weights;
use crate::store::Key;
use crate::train::objective::concept_ablation::concept_ablation;
use crate::train::objective::directional_penalty::directional_penalty;
use crate::train::objective::dpo::dpo;
use crate::train::objective::ewc::{ewc, fisher};
use crate::train::objective::grad_project::{grad_project, grad_project_on};
use crate::train::objective::kl::kl;
use crate::train::objective::l2_start::l2_start;
use crate::train::objective::orth_penalty::{Overlap, orth_penalty};
use crate::train::objective::positive_negative::positive_negative;
use crate::train::objective::preventative_steering::preventative_steering;
use crate::train::objective::representation_constraint::representation_constraint;
use crate::train::objective::simnpo::simnpo;
use crate::train::objective::steering_gradient::steering_gradient;
use crate::train::plane::plane;
use crate::train::{self, Options, Step};

/// Behaviour version of directions: raised when equal data would make another one.
const PLANE_VERSION: u32 = 1;
/// The same of Fisher information.
const INFORMATION_VERSION: u32 = 1;

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
                objective.with([match overlap {
                    Overlap::Directional => directional_penalty(along, *weight),
                    _ => orth_penalty(along, *overlap, *weight),
                }])
            }
            Part::Ewc { on, weight } => objective.with([ewc(information(lab, start, on)?, *weight)]),
            Part::Simnpo { on, beta, margin, weight } => objective.with([simnpo(rows(on)?, *beta, *margin, *weight)]),
            Part::GradProject { along: Some(along), projection, .. } => {
                objective.changing(grad_project_on(direction(lab, start, along, on_step)?, *projection))
            }
            Part::GradProject { on, unwanted, projection, .. } => {
                objective.changing(grad_project(some_rows(on)?, *unwanted, *projection))
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
    persona_of(start.local, start.weights, vector, vector.0.layer)
}

/// The vector of a trait after a block of a model.
pub fn persona_of(local: &Local, weights: &Weights, vector: &Persona, layer: usize) -> Result<Vec<f32>> {
    let rows = |data: &Option<Dataset>| {
        data.as_ref().map(|data| encode(local, data)).transpose().map(Option::unwrap_or_default)
    };
    persona_vector(weights, &rows(&vector.0.shown)?, &rows(&vector.0.absent)?, layer)
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
    stored_values(lab, key, || {
        let rows = |data: &Option<Dataset>| {
            data.as_ref().map(|data| encode(start.local, data)).transpose().map(Option::unwrap_or_default)
        };
        let (for_it, against_it) = (rows(&wanted.0.wanted)?, rows(&wanted.0.unwanted)?);
        plane(start.weights, &for_it, &against_it, wanted.0.combine.combine(), &options, on_step)
    })
}

/// How much rows depend on each weight of the start, from the store where it was measured before.
fn information(lab: &Lab, start: &Start, on: &Dataset) -> Result<Vec<f32>> {
    let inputs = json!({ "base": start.base.identity(), "rows": on.rows.digest() });
    stored_values(lab, Key::new("fisher", INFORMATION_VERSION, inputs, Value::Null)?, || {
        let rows = encode(start.local, on)?;
        fisher(start.weights, &rows, start.options.threads, &mut || lab.check_cancelled())
    })
}
