//! `audit`: leaks between training and evaluation rows, and other defects that a probe's numbers would hide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activations::Activations;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Event, Lab, Stage};
use crate::probe::audit::{self, Source};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;
use crate::store::Key;

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Words of a shingle of a text.
    shingle_words: usize,
    /// Texts are near copies when they share at least this much of their shingles.
    containment: f64,
    /// Rows are near copies at this cosine of their centred and scaled features.
    cosine: f64,
    /// Stops the run at a severe finding.
    strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { shingle_words: 8, containment: 0.2, cosine: 0.6, strict: false }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("audit", run)
        .about(
            "Looks for what makes a probe's numbers too good: training rows that are copies of evaluation rows (by \
             features and, where texts are given, by shingles), groups on both sides, copies with different labels, \
             sources that equal a label, and shifts between sources. Prints the findings, writes `audit.json`, returns \
             them as a map. Waits.",
        )
        .input("training", "Activations that a probe trains on.")
        .input("evaluation", "Activations that it is measured on.")
        .example("audit([train], [gold], #{ strict: true })")
}

fn run(
    lab: &Lab,
    call: &Call,
    (training, evaluation): (Vec<Activations>, Vec<Activations>),
    options: Options,
) -> Result<Option<Plain<Value>>> {
    ensure!(!training.is_empty(), "`audit` has no training rows"; help: "write `audit([train], [gold])`");
    // Whether the run stops changes nothing of what is found.
    let mut changed = call.options.clone().unwrap_or(Value::Null);
    changed.as_object_mut().map(|fields| fields.remove("strict"));
    let texts = |sources: &[Activations]| {
        json!(sources.iter().map(|source| source.file_texts().map(|texts| json!(texts))).collect::<Vec<_>>())
    };
    let inputs =
        json!([call.inputs, crate::data::digest::Digest::of_json(&json!([texts(&training), texts(&evaluation)]))?]);
    let changed = if changed.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { changed };
    let strict = options.strict;
    let outcome = lab.call(LabCall {
        key: Key::new(call.primitive, call.version, inputs, changed)?,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label: format!("audit of {} training and {} evaluation sources", training.len(), evaluation.len()),
        stage: Stage::Probe,
        missing: Box::new(|_| Ok(0)),
        after: vec![],
        work: Box::new(move |lab| find(lab, &training, &evaluation, &options)),
    })?;
    if lab.planning() {
        return Ok(None);
    }
    let mut found = (*lab.wait(&outcome)?).clone();
    let text = found["text"].as_str().unwrap_or_default().to_string();
    let refused = found["refused"].as_str().map(str::to_string);
    if let Value::Object(fields) = &mut found {
        fields.remove("text");
        fields.remove("refused");
    }
    lab.send(Event::Print { text: text.trim_end().to_string() });
    let json = serde_json::to_string_pretty(&found).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_result("audit.json", (json + "\n").as_bytes())?;
    if let (true, Some(message)) = (strict, refused) {
        return Err(
            Error::input(message).with_help("mend the data, or audit without `strict: true` and say what it found")
        );
    }
    Ok(Some(Plain(found)))
}

fn find(lab: &Lab, training: &[Activations], evaluation: &[Activations], options: &Options) -> Result<Value> {
    // A file that stands on both sides is one source with rows of both kinds.
    let mut files: Vec<&Activations> = Vec::new();
    for source in training.iter().chain(evaluation) {
        if !files.iter().any(|known| known.digest() == source.digest() && known.name() == source.name()) {
            files.push(source);
        }
    }
    let rows_of = |sources: &[Activations], file: &Activations| -> Vec<usize> {
        let same = sources.iter().filter(|source| source.digest() == file.digest() && source.name() == file.name());
        same.flat_map(Activations::chosen).collect()
    };
    let mut parts = Vec::new();
    for file in files {
        parts.push((file, file.matrix(lab)?, rows_of(training, file), rows_of(evaluation, file)));
    }
    let sources: Vec<Source> = parts
        .iter()
        .map(|(file, matrix, training, evaluation)| Source {
            name: file.name(),
            matrix: Some(matrix),
            labels: file.file_labels().ok(),
            texts: file.file_texts(),
            groups: file.file_groups(),
            training,
            evaluation,
        })
        .collect();
    let settings = audit::Options {
        shingle: options.shingle_words,
        containment: options.containment,
        cosine: options.cosine,
        ..audit::Options::default()
    };
    let found = audit::audit(&sources, &settings)?;
    let mut value = serde_json::to_value(&found).map_err(|error| Error::internal(error.to_string()))?;
    value["text"] = json!(found.text());
    value["refused"] = json!(found.refuse().err().map(|error| error.message));
    Ok(value)
}
