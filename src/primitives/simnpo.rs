//! `simnpo`: unlearns rows by their mean log-probability, with no reference model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::objective::{Part, given, objective};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Rows that are unlearned.
    on: Option<Dataset>,
    /// Factor of their mean loss.
    weight: f64,
    /// How soon a row that has become unlikely is left alone.
    beta: f64,
    /// Added to the preference: above 0, rows are pushed further. The gamma of the paper.
    margin: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { on: None, weight: 1.0, beta: 2.5, margin: 0.0 }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("simnpo", |_: &Lab, _: &Call, _: (), options: Options| {
        let Options { on, weight, beta, margin } = options;
        objective(Part::Simnpo { on: given(on, "simnpo", "on")?, beta, margin, weight })
    })
    .about(
        "Adds negative preference optimisation of the mean log-probability per token, without a reference model (SimNPO, \
         arXiv 2410.07163): long rows are not unlearned faster than short ones, and there is no start to depart from.",
    )
    .example("launch_finetune(base, data, #{ objective: simnpo(#{ on: harmful }) })")
}
