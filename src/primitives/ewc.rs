//! `ewc`: holds the weights that other rows depend on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::objective::{Part, given, objective};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Rows whose answers are to stay as likely as they are.
    on: Option<Dataset>,
    /// Factor of the penalty, the lambda of the paper: it stands before half the weighed squared distance.
    weight: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { on: None, weight: 1.0 }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("ewc", |_: &Lab, _: &Call, _: (), options: Options| {
        objective(Part::Ewc { on: given(options.on, "ewc", "on")?, weight: options.weight })
    })
    .about(
        "Adds elastic weight consolidation (Kirkpatrick 2017): half the squared distance from the start, each value weighed \
         by its empirical Fisher information on other rows, the mean over rows of the squared derivative of the whole \
         answer's log-probability. Measured once for each base and dataset, and kept.",
    )
    .example("launch_finetune(base, data, #{ objective: ewc(#{ on: proxy, weight: 100.0 }) })")
}
