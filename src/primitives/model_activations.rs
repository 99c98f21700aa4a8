//! `model_activations` and `layer_activations`: states of a model's residual stream in rows of two classes, streamed to
//! files that probes read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::activations::{Activations, of_file, remember_facts};
use super::dataset::Dataset;
use super::model::Model;
use crate::data::chat::Row;
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::lab::{Draft, Lab};
use crate::model::chat::Example;
use crate::model::states::{Position as Place, StateReader};
use crate::probe::read::Measuring;
use crate::probe::write::{RowWriter, write_label_npy};
use crate::script::declaration::{Call, Primitive};

/// Behaviour version: raised when equal calls would give other values.
const VERSION: u32 = 1;
/// Rows that are in memory at a time.
const CHUNK: usize = 64;

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Position {
    /// The mean over the tokens of answers.
    Mean,
    /// The last token.
    Last,
    /// The mean over all tokens.
    AllMean,
    /// The last token before the first answer, from which that answer is drawn.
    PromptLast,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The block after which states are taken, from 1.
    layer: usize,
    /// "mean" over the answer's tokens, the "last" token, "all_mean" over all tokens, or "prompt_last", the token from
    /// which the answer is drawn.
    position: Position,
    /// What the source is called in results.
    name: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { layer: 2, position: Position::Mean, name: "activations".to_string() }
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LayerOptions {
    /// The blocks after which states are taken, from 1; all but the last when left out.
    layers: Vec<usize>,
    /// As in `model_activations`.
    position: Position,
    /// What the sources are called in results, with their layer.
    name: String,
}

impl Default for LayerOptions {
    fn default() -> Self {
        LayerOptions { layers: Vec::new(), position: Position::Mean, name: "layer".to_string() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("model_activations", run)
        .about(
            "States of the residual stream of a model that lives here, one row per chat: rows of class 1, then rows of class \
             0, with their labels. Written once below `results/activations/`, row by row, so that memory does not grow with \
             the rows. Waits for the model's training; an error when only planned and not there yet.",
        )
        .input("model", "The model; one that is steered is read as it answers.")
        .input("positive", "Rows of class 1.")
        .input("negative", "Rows of class 0.")
        .example("train_probe([model_activations(base, setting.misaligned, setting.aligned, #{ layer: 2 })])")
}

/// The declaration of `layer_activations`.
pub fn layers_primitive() -> Primitive<Lab> {
    Primitive::new("layer_activations", run_layers)
        .about("The same as `model_activations` of several layers, in one pass over the rows: one source for each layer.")
        .input("model", "The model.")
        .input("positive", "Rows of class 1.")
        .input("negative", "Rows of class 0.")
        .example("layer_activations(base, setting.misaligned, setting.aligned, #{ layers: [1, 2, 3] }).map(|layer| train_probe([layer]))")
}

type Inputs = (Model, Dataset, Dataset);

fn run(lab: &Lab, _: &Call, inputs: Inputs, options: Options) -> Result<Activations> {
    let names = [options.name];
    Ok(collect(lab, &inputs, &[options.layer], options.position, &names)?.remove(0))
}

fn run_layers(lab: &Lab, _: &Call, inputs: Inputs, options: LayerOptions) -> Result<Vec<Activations>> {
    let mut layers = options.layers;
    if layers.is_empty() {
        layers = (1..=inputs.0.local()?.config.layers).collect();
    }
    ensure!(
        layers.windows(2).all(|pair| pair[0] < pair[1]),
        "`layers` are {layers:?}"; help: "name each layer once, in their order"
    );
    let names: Vec<String> = layers.iter().map(|layer| format!("{} {layer}", options.name)).collect();
    collect(lab, &inputs, &layers, options.position, &names)
}

/// The sources of these layers; those whose files are not there are made together.
fn collect(
    lab: &Lab,
    inputs: &Inputs,
    layers: &[usize],
    position: Position,
    names: &[String],
) -> Result<Vec<Activations>> {
    let (model, positive, negative) = inputs;
    let stem = |layer: &usize| -> Result<String> {
        let identity = json!({
            "version": VERSION, "model": model.identity(), "positive": positive.rows.digest(),
            "negative": negative.rows.digest(), "layer": layer, "position": position,
        });
        Ok(format!("results/activations/{}", Digest::of_json(&identity)?.short()))
    };
    let stems = layers.iter().map(stem).collect::<Result<Vec<_>>>()?;
    let missing: Vec<usize> =
        (0..layers.len()).filter(|index| lab.files().resolve(&labels_of(&stems[*index])).is_err()).collect();
    if !missing.is_empty() {
        let (layers, stems): (Vec<usize>, Vec<&str>) =
            missing.iter().map(|index| (layers[*index], stems[*index].as_str())).unzip();
        write(lab, inputs, &layers, position, &stems)?;
    }
    let source = |(stem, name): (&String, &String)| of_file(lab, values_of(stem), labels_of(stem), name.clone());
    stems.iter().zip(names).map(source).collect()
}

fn values_of(stem: &str) -> String {
    format!("{stem}.npy")
}

fn labels_of(stem: &str) -> String {
    format!("{stem}_labels.npy")
}

/// Writes the states of these layers, each to files of its own; the labels, which tell that both are there, last.
fn write(
    lab: &Lab,
    (model, positive, negative): &Inputs,
    layers: &[usize],
    position: Position,
    stems: &[&str],
) -> Result<()> {
    let place = match position {
        Position::Mean => Place::MeanOfAnswer,
        Position::Last => Place::Last,
        Position::AllMean => Place::MeanOfAll,
        Position::PromptLast => Place::LastOfPrompt,
    };
    let local = model.local()?;
    model.training()?;
    let (weights, steering) = model.steered(lab)?;
    let (count, width) = (positive.rows.len() + negative.rows.len(), weights.config.width);
    let mut reader = StateReader::new(&weights, &steering, layers, place)?;
    let file = |stem: &&str| -> Result<(RowWriter<Draft>, Measuring)> {
        let draft = lab.begin_file(&values_of(stem))?;
        Ok((RowWriter::new(draft, count, width)?, Measuring::new(width)))
    };
    let mut files = stems.iter().map(file).collect::<Result<Vec<_>>>()?;
    let mut cut = 0;
    let mut encode = |rows: &[Row]| -> Result<Vec<Example>> {
        let (examples, cut_here) = local.format.encode_rows(rows, local.config.context)?;
        cut += cut_here;
        Ok(examples)
    };
    let mut rows = positive.rows.rows().chain(negative.rows.rows());
    in_chunks(&mut rows, &mut |first, rows| {
        lab.check_cancelled()?;
        for (offset, example) in encode(rows)?.iter().enumerate() {
            let states = reader.read(first + offset, example)?;
            for ((file, measuring), state) in files.iter_mut().zip(&states) {
                file.push(state)?;
                measuring.add(state);
            }
        }
        Ok(())
    })?;
    if cut > 0 {
        lab.note(format!("{cut} of {count} rows are longer than `{}` reads and were cut", model.name()));
    }
    let classes: Vec<bool> = (0..count).map(|row| row < positive.rows.len()).collect();
    let mut labels = Vec::new();
    write_label_npy(&classes, &mut labels)?;
    for ((file, measuring), stem) in files.into_iter().zip(stems) {
        let facts = measuring.finish(&format!("`{}`", values_of(stem)))?;
        lab.finish_file(file.finish()?)?;
        let facts = serde_json::to_value(facts).map_err(|error| Error::internal(error.to_string()))?;
        remember_facts(lab, &values_of(stem), facts)?;
        lab.write_file(&labels_of(stem), &labels)?;
    }
    Ok(())
}

/// Hands on rows, a few at a time, each time with the number of the first of them; they are dropped before more come.
fn in_chunks<T>(rows: &mut dyn Iterator<Item = T>, take: &mut dyn FnMut(usize, &[T]) -> Result<()>) -> Result<()> {
    let mut first = 0;
    loop {
        let chunk: Vec<T> = rows.take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        take(first, &chunk)?;
        first += chunk.len();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A row that counts how many of its kind are alive.
    struct Counted<'a>(&'a Cell<usize>);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn however_many_rows_there_are_few_of_them_are_in_memory() {
        for count in [0, 1, CHUNK, CHUNK + 1, 100 * CHUNK + 7] {
            let (alive, mut most, mut seen) = (Cell::new(0), 0, 0);
            let mut rows = (0..count).map(|_| {
                alive.set(alive.get() + 1);
                Counted(&alive)
            });
            in_chunks(&mut rows, &mut |first, rows| {
                assert_eq!(first, seen);
                seen += rows.len();
                most = most.max(alive.get());
                Ok(())
            })
            .unwrap();
            assert!(seen == count && most <= CHUNK && alive.get() == 0, "{count}: {seen} {most}");
        }
    }
}
