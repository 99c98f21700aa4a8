//! `directional_penalty`: the unbounded pull of adapters along a direction, as the published trigger experiments have it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::direction::Plane;
use super::objective::{Part, given, objective};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::train::objective::orth_penalty::Overlap;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The direction: what `plane` returned.
    along: Option<Plane>,
    /// Factor of the overlap, which is subtracted.
    weight: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { along: None, weight: 1.0 }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("directional_penalty", |_: &Lab, _: &Call, _: (), options: Options| {
        let along = given(options.along, "directional_penalty", "along")?;
        objective(Part::OrthPenalty { along, overlap: Overlap::Directional, weight: options.weight })
    })
    .about(
        "Subtracts the overlap of adapters' first factors with a direction, as the published trigger experiments have it. \
         Nothing bounds it, and it is for `lora(...)` only.",
    )
    .example("launch_finetune(base, data, #{ method: lora(), objective: directional_penalty(#{ along: plane(#{ wanted: proxy }) }) })")
}
