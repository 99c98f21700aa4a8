//! `steer`: a model with traits' vectors added to its residual stream while it reads and answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::build_objective::persona_of;
use super::dataset::Dataset;
use super::direction::Persona;
use super::model::Model;
use super::objective::given;
use super::stored_values::{keep_values, stored_values};
use crate::engine::Turn;
use crate::error::{Result, ensure};
use crate::lab::{Call as LabCall, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;
use crate::train::objective::direction::norm;

/// Behaviour version: raised when equal calls would answer otherwise.
const VERSION: u32 = 1;
/// The same of the vectors before they are multiplied.
const VECTOR_VERSION: u32 = 1;

/// Which tokens are changed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Positions {
    /// From the last token of the prompt on, from which the answer is drawn.
    Answer,
    /// The prompt's too.
    All,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The trait: what `persona_vector` returned.
    vector: Option<Persona>,
    /// Factor of the vector; below 0, the trait is taken away. With 0 the model is what it was, answers and keys alike.
    coefficient: f64,
    /// Blocks after which it is added, from 1, in order; that of the vector when left out. With several, each has the vector
    /// that stands there, and what lower ones have added already is not added again.
    layers: Vec<usize>,
    /// "answer": from the prompt's last token on; "all": the prompt's tokens too.
    positions: Positions,
}

impl Default for Options {
    fn default() -> Self {
        Options { vector: None, coefficient: 1.0, layers: Vec::new(), positions: Positions::Answer }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("steer", run)
        .version(VERSION)
        .about(
            "A model that lives here with a trait's vector added to its residual stream while it reads and answers \
             (arXiv 2507.21509): weights stay as they are. It is asked, evaluated and probed like any other, and cannot be \
             trained or saved. The vector is taken of its weights as they are, once for all coefficients. Returns at once.",
        )
        .input("model", "The model, which may be steered already.")
        .example("steer(tuned, #{ vector: persona_vector(#{ shown: setting.misaligned, absent: setting.aligned }), coefficient: -1.5 })")
}

fn run(lab: &Lab, call: &Call, (model,): (Model,), options: Options) -> Result<Model> {
    let vector = given(options.vector, "steer", "vector")?;
    let (coefficient, prompt) = (options.coefficient, options.positions == Positions::All);
    ensure!(coefficient.is_finite(), "`coefficient` of `steer` is {coefficient}"; help: "write a number");
    let layers = if options.layers.is_empty() { vec![vector.0.layer] } else { options.layers };
    let last = model.local()?.config.layers;
    ensure!(
        layers.iter().all(|layer| (1..=last).contains(layer)) && layers.windows(2).all(|pair| pair[0] < pair[1]),
        "`{}` is steered after blocks from 1 to {last}, found {layers:?}", model.name();
        help: "name each block once, in their order"
    );
    if coefficient == 0.0 {
        return Ok(model);
    }
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let digest = key.digest();
    let name = format!("{} steered by {coefficient}", model.name());
    let rows = |data: &Option<Dataset>| data.as_ref().map_or(0, |data| data.rows.len());
    let count = (rows(&vector.0.shown) + rows(&vector.0.absent)) as u64;
    let lineage = json!({
        "base": model.provenance(),
        "steering": { "vector": vector, "coefficient": coefficient, "layers": layers, "positions": options.positions },
    });
    let steered = model.clone();
    let outcome = lab.call(LabCall {
        key,
        options: json!({ "coefficient": coefficient, "layers": layers, "positions": options.positions }),
        label: name.clone(),
        stage: Stage::FineTune,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(count.into())),
        after: model.after(),
        work: Box::new(move |lab| {
            let (mut added, mut below): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
            let mut norms = Vec::new();
            for layer in &layers {
                let own = vector_at(lab, &steered, &vector, *layer)?;
                ensure!(
                    norm(&own) > 0.0, "the vector after block {layer} is 0: the two kinds of rows stand in the same place";
                    help: "give rows that differ"
                );
                norms.push(norm(&own));
                below.resize(own.len(), 0.0);
                added.extend(own.iter().zip(&below).map(|(own, below)| coefficient as f32 * (own - below)));
                below = own;
            }
            let mut outcome = keep_values(lab, &added)?;
            outcome["states"] = json!(layers);
            outcome["prompt"] = json!(prompt);
            outcome["norms"] = json!(norms);
            Ok(outcome)
        }),
    })?;
    Model::of_steering(name, digest, &model, outcome, lineage)
}

/// The trait's vector after a block of the model, from the store where it was made before.
fn vector_at(lab: &Lab, model: &Model, vector: &Persona, layer: usize) -> Result<Vec<f32>> {
    let rows = |data: &Option<Dataset>| data.as_ref().map(|data| data.rows.digest());
    let inputs = json!({
        "model": model.identity(), "shown": rows(&vector.0.shown), "absent": rows(&vector.0.absent), "layer": layer,
    });
    stored_values(lab, Key::new("persona_vector", VECTOR_VERSION, inputs, Value::Null)?, || {
        let (weights, _) = model.steered(lab)?;
        persona_of(model.local()?, &weights, vector, layer)
    })
}
