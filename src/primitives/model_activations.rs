//! `model_activations`: states of a model's residual stream in rows of two classes, as features for probes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::activations::{Activations, of_file};
use super::dataset::Dataset;
use super::model::Model;
use crate::data::digest::Digest;
use crate::error::Result;
use crate::lab::Lab;
use crate::model::states::{Position as Place, row_states};
use crate::probe::matrix::{Matrix, Values};
use crate::probe::write::{write_label_npy, write_npy};
use crate::script::declaration::{Call, Primitive};

/// Behaviour version: raised when equal calls would give other values.
const VERSION: u32 = 1;

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Position {
    /// The mean over the tokens of answers.
    Mean,
    /// The last token.
    Last,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The block after which states are taken, from 1.
    layer: usize,
    /// "mean" over the answer's tokens, or the "last" token.
    position: Position,
    /// What the source is called in results.
    name: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { layer: 2, position: Position::Mean, name: "activations".to_string() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("model_activations", run)
        .about(
            "States of the residual stream of a model that lives here, one row per chat: rows of class 1, then rows of class \
             0, with their labels. Written once below `results/activations/`. Waits for the model's training; an error when \
             only planned and not there yet.",
        )
        .input("model", "The model.")
        .input("positive", "Rows of class 1.")
        .input("negative", "Rows of class 0.")
        .example("train_probe([model_activations(base, setting.misaligned, setting.aligned, #{ layer: 2 })])")
}

fn run(
    lab: &Lab,
    _: &Call,
    (model, positive, negative): (Model, Dataset, Dataset),
    options: Options,
) -> Result<Activations> {
    let position = match options.position {
        Position::Mean => Place::MeanOfAnswer,
        Position::Last => Place::Last,
    };
    let identity = json!({
        "version": VERSION, "model": model.identity(), "positive": positive.rows.digest(),
        "negative": negative.rows.digest(), "layer": options.layer, "position": options.position,
    });
    let stem = format!("results/activations/{}", Digest::of_json(&identity)?.short());
    let (values, labels) = (format!("{stem}.npy"), format!("{stem}_labels.npy"));
    if lab.files().resolve(&labels).is_err() {
        let local = model.local()?;
        model.training()?;
        let weights = model.weights(lab)?;
        let rows: Vec<_> = positive.rows.rows().chain(negative.rows.rows()).collect();
        let (examples, cut) = local.format.encode_rows(&rows, local.config.context)?;
        if cut > 0 {
            lab.note(format!("{cut} of {} rows are longer than `{}` reads and were cut", rows.len(), model.name()));
        }
        let mut states = Vec::with_capacity(rows.len() * weights.config.width);
        row_states(&weights, &examples, options.layer, position, &mut |state| {
            states.extend_from_slice(state);
            lab.check_cancelled()
        })?;
        let mut bytes = Vec::new();
        write_npy(&Matrix::new(rows.len(), weights.config.width, Values::Dense32(states))?, &mut bytes)?;
        lab.write_file(&values, &bytes)?;
        let classes: Vec<bool> = (0..rows.len()).map(|row| row < positive.rows.len()).collect();
        let mut bytes = Vec::new();
        write_label_npy(&classes, &mut bytes)?;
        lab.write_file(&labels, &bytes)?;
    }
    of_file(lab, values, labels, options.name)
}
