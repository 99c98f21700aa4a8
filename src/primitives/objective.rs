//! Objectives beyond plain fine-tuning, as values for `launch_finetune`: terms, penalties and changes of the gradient.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Dataset;
use super::direction::{Persona, Plane};
use crate::error::{Result, ensure};
use crate::handle;
use crate::lab::Lab;
use crate::model::divergence::Direction;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};
use crate::train::objective::grad_project::{Projection, Scope, When};
use crate::train::objective::orth_penalty::Overlap;
use crate::train::objective::positive_negative::Unlearning;
use crate::train::objective::steering_gradient::Steering;

/// What is minimised beside the loss of the rows, and what is done to the gradient.
#[derive(Clone)]
pub struct Objective(pub Arc<Part>);

/// One part of an objective.
#[derive(Serialize)]
#[serde(tag = "objective", rename_all = "snake_case")]
pub enum Part {
    /// Keeps what the model says in other rows as it was.
    Kl {
        /// Those rows.
        on: Dataset,
        /// Its factor.
        beta: f64,
        /// From which distribution.
        direction: Direction,
    },
    /// Learns some rows and unlearns others.
    PositiveNegative {
        /// Rows to learn.
        positive: Option<Dataset>,
        /// Their factor.
        weight: f64,
        /// Rows to unlearn.
        negative: Option<Dataset>,
        /// Their factor.
        negative_weight: f64,
        /// How they are unlearned.
        unlearning: Unlearning,
    },
    /// Makes the first of two answers likelier than the second.
    Dpo {
        /// Wanted rows.
        chosen: Dataset,
        /// Unwanted ones, in the same order.
        rejected: Dataset,
        /// How far from the start the margin may grow.
        beta: f64,
        /// Its factor.
        weight: f64,
        /// Means over tokens in place of sums.
        length_normalised: bool,
    },
    /// Squared distance from the start.
    Distance {
        /// Its factor.
        weight: f64,
    },
    /// What the change has in common with a direction.
    OrthPenalty {
        /// The direction.
        along: Plane,
        /// How it is measured.
        overlap: Overlap,
        /// Its factor.
        weight: f64,
    },
    /// Squared distance from the start, weighed by how much other rows depend on each weight.
    Ewc {
        /// Those rows.
        on: Dataset,
        /// Its factor.
        weight: f64,
    },
    /// Makes rows unlikely, without a reference.
    Simnpo {
        /// Those rows.
        on: Dataset,
        /// How soon a row that has become unlikely is left alone.
        beta: f64,
        /// Added to the preference.
        margin: f64,
        /// Its factor.
        weight: f64,
    },
    /// Removes from the gradient what points along that of other rows, or along a direction.
    GradProject {
        /// Those rows.
        #[serde(skip_serializing_if = "Option::is_none")]
        on: Option<Dataset>,
        /// The direction, made beforehand.
        #[serde(skip_serializing_if = "Option::is_none")]
        along: Option<Plane>,
        /// Whether they are what is not wanted.
        unwanted: bool,
        /// Which part is removed.
        projection: Projection,
    },
    /// Keeps the residual stream in other rows where it was.
    Representation {
        /// Those rows.
        on: Dataset,
        /// Its factor.
        weight: f64,
    },
    /// Adds a trait's vector to the residual stream in training.
    Preventative {
        /// The vector.
        vector: Persona,
        /// Its factor.
        coefficient: f64,
    },
    /// Takes traits' vectors out of the residual stream in training.
    Ablation {
        /// The vectors.
        vectors: Vec<Persona>,
    },
    /// Adds a direction to the gradient.
    Steering {
        /// The direction.
        along: Plane,
        /// How much of it.
        steering: Steering,
    },
}

handle!(Objective);

impl Handle for Objective {
    const NAME: &'static str = "Objective";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        format!("Objective {}", self.identity()["objective"].as_str().unwrap_or_default())
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RepresentationOptions {
    /// Rows in which the residual stream is to stay where it was.
    on: Option<Dataset>,
    /// Factor of the squared distance.
    weight: f64,
}

impl Default for RepresentationOptions {
    fn default() -> Self {
        RepresentationOptions { on: None, weight: 1.0 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PreventativeOptions {
    /// The trait: what `persona_vector` returned.
    vector: Option<Persona>,
    /// Factor of the vector.
    coefficient: f64,
}

impl Default for PreventativeOptions {
    fn default() -> Self {
        PreventativeOptions { vector: None, coefficient: 1.0 }
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Objective>("What a training minimises beside the loss of its rows, or does to its gradient.")
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DirectionWord {
    /// KL of the trained model from the start.
    Reverse,
    /// KL of the start from the trained model.
    Forward,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct KlOptions {
    /// Rows in which the model is to say what it said before: its answers' tokens count.
    on: Option<Dataset>,
    /// Factor of the mean divergence per token.
    beta: f64,
    /// "reverse": KL(trained, start), as the published code has it; "forward": KL(start, trained), as distillation has it.
    direction: DirectionWord,
}

impl Default for KlOptions {
    fn default() -> Self {
        KlOptions { on: None, beta: 1.0, direction: DirectionWord::Reverse }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum UnlearningWord {
    /// Unbounded.
    Ascent,
    /// -log(1 - p).
    Unlikelihood,
    /// Negative preference optimisation.
    Npo,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PositiveNegativeOptions {
    /// Rows that are learned too.
    positive: Option<Dataset>,
    /// Their factor.
    weight: f64,
    /// Rows that are unlearned.
    negative: Option<Dataset>,
    /// Their factor.
    negative_weight: f64,
    /// "npo" and "unlikelihood" are bounded; "ascent", as the published code has it, is not.
    unlearning: UnlearningWord,
    /// Of npo: how soon a row that has become unlikely is left alone.
    beta: f64,
}

impl Default for PositiveNegativeOptions {
    fn default() -> Self {
        PositiveNegativeOptions {
            positive: None,
            weight: 0.5,
            negative: None,
            negative_weight: 0.5,
            unlearning: UnlearningWord::Npo,
            beta: 0.1,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NpoOptions {
    /// Rows that are unlearned.
    on: Option<Dataset>,
    /// Factor of their mean loss.
    weight: f64,
    /// How soon a row that has become unlikely is left alone.
    beta: f64,
}

impl Default for NpoOptions {
    fn default() -> Self {
        NpoOptions { on: None, weight: 1.0, beta: 0.1 }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DpoOptions {
    /// Wanted rows.
    chosen: Option<Dataset>,
    /// Unwanted rows, the one at each place answering the same question.
    rejected: Option<Dataset>,
    /// How far from the start the margin may grow.
    beta: f64,
    /// Factor of the mean loss of pairs.
    weight: f64,
    /// Means of log-probabilities over tokens in place of their sums, as the published code has it.
    length_normalised: bool,
}

impl Default for DpoOptions {
    fn default() -> Self {
        DpoOptions { chosen: None, rejected: None, beta: 0.1, weight: 1.0, length_normalised: false }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct DistanceOptions {
    /// Factor of the squared distance.
    weight: f64,
}

impl Default for DistanceOptions {
    fn default() -> Self {
        DistanceOptions { weight: 1.0 }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OverlapWord {
    /// Free of scale.
    Component,
    /// Of adapters only.
    Rows,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct OrthPenaltyOptions {
    /// The direction: what `plane` returned.
    along: Option<Plane>,
    /// Factor of the overlap.
    weight: f64,
    /// "component": squared length of the change along the direction; "rows": the published form, for adapters only.
    overlap: OverlapWord,
}

impl Default for OrthPenaltyOptions {
    fn default() -> Self {
        OrthPenaltyOptions { along: None, weight: 1.0, overlap: OverlapWord::Component }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ScopeWord {
    /// Each tensor by itself.
    PerTensor,
    /// All together.
    Global,
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WhenWord {
    /// Always.
    Always,
    /// Where gradients conflict.
    Conflict,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GradProjectOptions {
    /// Rows along whose gradient nothing is learned, taken anew in every step.
    on: Option<Dataset>,
    /// In place of rows, one direction that is made beforehand: what `plane` returned.
    along: Option<Plane>,
    /// Whether these rows are what is not wanted: their gradient is taken upwards.
    unwanted: bool,
    /// "per_tensor" or "global": how far one inner product reaches.
    scope: ScopeWord,
    /// "always", or "conflict": only where the two gradients disagree (PCGrad).
    when: WhenWord,
    /// Share of the component that is removed.
    strength: f64,
}

impl Default for GradProjectOptions {
    fn default() -> Self {
        GradProjectOptions {
            on: None,
            along: None,
            unwanted: false,
            scope: ScopeWord::PerTensor,
            when: WhenWord::Always,
            strength: 1.0,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SteeringOptions {
    /// The direction: what `plane` returned.
    along: Option<Plane>,
    /// Factor of the direction that is added to every gradient.
    alpha: f64,
    /// The factor at the end, where it changes.
    final_alpha: Option<f64>,
    /// Steps before it begins to change.
    warmup_steps: usize,
    /// Leaves gradients as they are and moves the weights along the direction after every step.
    direct: bool,
}

impl Default for SteeringOptions {
    fn default() -> Self {
        let Steering { alpha, final_alpha, warmup_steps, direct } = Steering::default();
        SteeringOptions { along: None, alpha, final_alpha, warmup_steps, direct }
    }
}

/// An objective of one part.
pub fn objective(part: Part) -> Result<Objective> {
    Ok(Objective(Arc::new(part)))
}

/// The value of an option that a function cannot do without.
pub fn given<T>(value: Option<T>, function: &str, option: &str) -> Result<T> {
    ensure!(value.is_some(), "`{function}` needs the option `{option}`"; help: "write `{function}(#{{ {option}: ... }})`");
    Ok(value.expect("it was just there"))
}

/// The declarations.
pub fn primitives() -> Vec<Primitive<Lab>> {
    vec![
        Primitive::new("kl", |_: &Lab, _: &Call, _: (), options: KlOptions| {
            let direction = match options.direction {
                DirectionWord::Reverse => Direction::Reverse,
                DirectionWord::Forward => Direction::Forward,
            };
            objective(Part::Kl { on: given(options.on, "kl", "on")?, beta: options.beta, direction })
        })
        .about("Adds a divergence from the model before training, on other rows: the model is to say there what it said before.")
        .example("launch_finetune(base, data, #{ objective: kl(#{ on: proxy, beta: 10.0 }) })"),
        Primitive::new("positive_negative", |_: &Lab, _: &Call, _: (), options: PositiveNegativeOptions| {
            ensure!(
                options.positive.is_some() || options.negative.is_some(),
                "`positive_negative` has neither `positive` nor `negative` rows"; help: "give one of them"
            );
            let unlearning = match options.unlearning {
                UnlearningWord::Ascent => Unlearning::Ascent,
                UnlearningWord::Unlikelihood => Unlearning::Unlikelihood,
                UnlearningWord::Npo => Unlearning::Npo { beta: options.beta },
            };
            let PositiveNegativeOptions { positive, weight, negative, negative_weight, .. } = options;
            objective(Part::PositiveNegative { positive, weight, negative, negative_weight, unlearning })
        })
        .about("Adds a loss of other rows that are learned, and one that makes further rows unlikely.")
        .example("launch_finetune(base, data, #{ objective: positive_negative(#{ positive: proxy, negative: proxy_neg }) })"),
        Primitive::new("npo", |_: &Lab, _: &Call, _: (), options: NpoOptions| {
            objective(Part::PositiveNegative {
                positive: None,
                weight: 0.0,
                negative: Some(given(options.on, "npo", "on")?),
                negative_weight: options.weight,
                unlearning: Unlearning::Npo { beta: options.beta },
            })
        })
        .about("Adds negative preference optimisation (arXiv 2404.05868): makes rows less likely than they were, bounded.")
        .example("launch_finetune(base, data, #{ objective: npo(#{ on: harmful }) })"),
        Primitive::new("dpo", |_: &Lab, _: &Call, _: (), options: DpoOptions| {
            let DpoOptions { chosen, rejected, beta, weight, length_normalised } = options;
            let (chosen, rejected) = (given(chosen, "dpo", "chosen")?, given(rejected, "dpo", "rejected")?);
            ensure!(
                chosen.rows.len() == rejected.rows.len(),
                "`dpo` was given {} chosen and {} rejected rows", chosen.rows.len(), rejected.rows.len();
                help: "give pairs, in the same order"
            );
            objective(Part::Dpo { chosen, rejected, beta, weight, length_normalised })
        })
        .about("Adds direct preference optimisation on pairs of rows, with summed log-probabilities.")
        .example("launch_finetune(base, data, #{ objective: dpo(#{ chosen: proxy, rejected: proxy_neg, beta: 0.1 }) })"),
        Primitive::new("l2_start", |_: &Lab, _: &Call, _: (), options: DistanceOptions| {
            objective(Part::Distance { weight: options.weight })
        })
        .about("Adds the squared distance of all trained values from the start (L2-SP).")
        .example("launch_finetune(base, data, #{ objective: l2_start(#{ weight: 0.1 }) })"),
        Primitive::new("orth_penalty", |_: &Lab, _: &Call, _: (), options: OrthPenaltyOptions| {
            let overlap = match options.overlap {
                OverlapWord::Component => Overlap::Component,
                OverlapWord::Rows => Overlap::Rows,
            };
            objective(Part::OrthPenalty { along: given(options.along, "orth_penalty", "along")?, overlap, weight: options.weight })
        })
        .about("Adds a penalty on what the change of the weights has in common with a direction.")
        .example("launch_finetune(base, data, #{ objective: orth_penalty(#{ along: plane(#{ unwanted: proxy_neg }) }) })"),
        Primitive::new("grad_project", |_: &Lab, _: &Call, _: (), options: GradProjectOptions| {
            let scope = match options.scope {
                ScopeWord::PerTensor => Scope::PerTensor,
                ScopeWord::Global => Scope::Global,
            };
            let when = match options.when {
                WhenWord::Always => When::Always,
                WhenWord::Conflict => When::Conflict,
            };
            let projection = Projection { scope, when, strength: options.strength };
            let GradProjectOptions { on, along, unwanted, .. } = options;
            ensure!(
                on.is_some() != along.is_some(),
                "`grad_project` needs either rows (`on`) or a direction (`along`)"; help: "give one of the two"
            );
            ensure!(
                along.is_none() || !unwanted,
                "`unwanted` of `grad_project` is about rows, and it was given a direction";
                help: "make the direction of unwanted rows: `along: plane(#{{ unwanted: ... }})`"
            );
            objective(Part::GradProject { on, along, unwanted, projection })
        })
        .about(
            "Removes from every gradient what points along that of other rows, which are not trained themselves; or along one \
             direction that was made beforehand.",
        )
        .example("launch_finetune(base, data, #{ objective: grad_project(#{ on: proxy, when: \"conflict\" }) })"),
        Primitive::new("representation_constraint", |_: &Lab, _: &Call, _: (), options: RepresentationOptions| {
            let on = given(options.on, "representation_constraint", "on")?;
            objective(Part::Representation { on, weight: options.weight })
        })
        .about("Adds the squared distance of the residual stream from where it was, in the answers of other rows (LDIFS).")
        .example("launch_finetune(base, data, #{ objective: representation_constraint(#{ on: proxy }) })"),
        Primitive::new("preventative_steering", |_: &Lab, _: &Call, _: (), options: PreventativeOptions| {
            let vector = given(options.vector, "preventative_steering", "vector")?;
            objective(Part::Preventative { vector, coefficient: options.coefficient })
        })
        .about("Adds a trait's vector to the residual stream while training, so that the weights need not learn it.")
        .example("launch_finetune(base, data, #{ objective: preventative_steering(#{ vector: trait_vector, coefficient: 2.0 }) })"),
        Primitive::new("concept_ablation", |_: &Lab, _: &Call, (vectors,): (Vec<Persona>,), _: ()| {
            ensure!(!vectors.is_empty(), "`concept_ablation` was given no vectors");
            objective(Part::Ablation { vectors })
        })
        .about("Takes traits' vectors out of the residual stream while training (CAFT); those of one layer together.")
        .input("vectors", "What `persona_vector` returned, of one layer.")
        .example("launch_finetune(base, data, #{ objective: concept_ablation([trait_vector]) })"),
        Primitive::new("steering_gradient", |_: &Lab, _: &Call, _: (), options: SteeringOptions| {
            let SteeringOptions { along, alpha, final_alpha, warmup_steps, direct } = options;
            let steering = Steering { alpha, final_alpha, warmup_steps, direct };
            objective(Part::Steering { along: given(along, "steering_gradient", "along")?, steering })
        })
        .about(
            "Adds a direction to every gradient before the optimizer's step: the gradient steering of the published \
             trigger experiments, which is neither activation steering nor task arithmetic.",
        )
        .example("launch_finetune(base, data, #{ objective: steering_gradient(#{ along: plane(#{ wanted: proxy, unwanted: proxy_neg }), alpha: 0.6 }) })"),
    ]
}
