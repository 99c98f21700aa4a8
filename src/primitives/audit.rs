//! `audit`: leaks between training and evaluation rows, and other defects that a probe's numbers would hide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activations::Activations;
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Event, Lab, Missing, Stage};
use crate::probe::audit::{self, Source};
use crate::probe::read::{LabelTable, read_texts};
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

impl Options {
    fn settings(&self) -> audit::Options {
        audit::Options {
            shingle: self.shingle_words,
            containment: self.containment,
            cosine: self.cosine,
            ..audit::Options::default()
        }
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
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(Missing::from(0))),
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
    tell(lab, found, &text, refused.filter(|_| strict)).map(Some)
}

/// Prints and writes what was found; an error when it is `refused`.
fn tell(lab: &Lab, found: Value, text: &str, refused: Option<String>) -> Result<Plain<Value>> {
    lab.send(Event::Print { text: text.trim_end().to_string() });
    let json = serde_json::to_string_pretty(&found).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_result("audit.json", (json + "\n").as_bytes())?;
    match refused {
        Some(message) => {
            Err(Error::input(message).with_help("mend the data, or audit without `strict: true` and say what it found"))
        }
        None => Ok(Plain(found)),
    }
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
    let found = audit::audit(&sources, &options.settings())?;
    let mut value = serde_json::to_value(&found).map_err(|error| Error::internal(error.to_string()))?;
    value["text"] = json!(found.text());
    value["refused"] = json!(found.refuse().err().map(|error| error.message));
    Ok(value)
}

/// The declaration of `audit_texts`.
pub fn texts_primitive() -> Primitive<Lab> {
    Primitive::new("audit_texts", run_texts)
        .about(
            "The audit for texts alone, before there are activations: near copies by shingles, groups on both sides, \
             copies with different labels. Each `source` that the training file names is a source of its own. Prints the \
             findings, writes `audit.json`, returns them as a map.",
        )
        .input("training", "JSON file of the texts to train on.")
        .input("evaluation", "JSON file of the texts to measure on.")
        .example("audit_texts(\"train.json\", \"gold_106.json\", #{ strict: true })")
}

/// Rows of one source of a file of texts.
struct TextSource {
    name: String,
    texts: Vec<String>,
    labels: Vec<bool>,
    groups: Vec<String>,
}

fn run_texts(
    lab: &Lab,
    _: &Call,
    (training, evaluation): (String, String),
    options: Options,
) -> Result<Option<Plain<Value>>> {
    let mut sources = read_sources(lab, &training, true)?;
    let first_evaluation = sources.len();
    sources.extend(read_sources(lab, &evaluation, false)?);
    let rows: Vec<Vec<usize>> = sources.iter().map(|source| (0..source.texts.len()).collect()).collect();
    let sources: Vec<Source> = sources
        .iter()
        .enumerate()
        .map(|(number, source)| Source {
            name: &source.name,
            labels: Some(&source.labels),
            texts: Some(&source.texts),
            groups: Some(&source.groups),
            training: if number < first_evaluation { &rows[number] } else { &[] },
            evaluation: if number < first_evaluation { &[] } else { &rows[number] },
            ..Source::default()
        })
        .collect();
    let found = audit::audit(&sources, &options.settings())?;
    let refused = found.refuse().err().map(|error| error.message);
    let value = serde_json::to_value(&found).map_err(|error| Error::internal(error.to_string()))?;
    tell(lab, value, &found.text(), refused.filter(|_| options.strict)).map(Some)
}

fn read_sources(lab: &Lab, path: &str, by_source: bool) -> Result<Vec<TextSource>> {
    let table = LabelTable::default();
    let mut sources: Vec<TextSource> = Vec::new();
    let stem = std::path::Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    for (row, text) in read_texts(path, &lab.files().map(path)?)?.into_iter().enumerate() {
        let named = text.source.filter(|_| by_source);
        let name = named.unwrap_or_else(|| stem.clone().unwrap_or_else(|| path.to_string()));
        let word = text.label.unwrap_or_default();
        let label = table.get(&word).ok_or_else(|| {
            Error::input(format!("row {row} of `{path}` has the label `{word}`, which is neither class"))
                .with_help("write one of alignment_faking, aligned and the other words of `help activations`")
        })?;
        let place = sources.iter().position(|source| source.name == name).unwrap_or_else(|| {
            sources.push(TextSource { name, texts: vec![], labels: vec![], groups: vec![] });
            sources.len() - 1
        });
        let source = &mut sources[place];
        source.texts.push(text.text);
        source.labels.push(label);
        source.groups.push(text.group.unwrap_or_default());
    }
    Ok(sources)
}
