//! `activations`: features of texts from a file, with labels, groups and texts; and the handle that scripts hold for them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result, bail, ensure};
use crate::handle;
use crate::lab::Lab;
use crate::probe::legacy::split_80_20;
use crate::probe::matrix::Matrix;
use crate::probe::read::{self, LabelTable, check_length, read_activations, read_labels, read_texts};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};
use crate::store::Key;

/// Rows of a file of activations. What is known of the file is remembered, so its values are read only for work.
#[derive(Clone)]
pub struct Activations {
    file: Arc<File>,
    /// Rows of the file, in order; all when absent.
    rows: Option<Arc<Vec<usize>>>,
}

struct File {
    name: String,
    path: String,
    options: Options,
    facts: Value,
    labels: Option<Vec<bool>>,
    groups: Option<Vec<String>>,
    texts: Option<Vec<String>>,
    /// The values, once somebody needed them.
    matrix: Mutex<Option<Arc<Matrix>>>,
}

handle!(Activations);

impl Handle for Activations {
    const NAME: &'static str = "Activations";
    fn identity(&self) -> Value {
        // A probe depends on the numbers, the labels and what belongs together; names are for people, but they are in
        // every result that is stored.
        json!({
            "name": self.file.name, "values": self.file.facts["digest"], "labels": self.file.labels,
            "groups": self.file.groups, "rows": self.rows.as_deref(),
        })
    }
    fn describe(&self) -> String {
        format!("Activations `{}`: {} rows of {} features", self.file.name, self.rows(), self.features())
    }
}

impl Activations {
    /// What the source is called.
    pub fn name(&self) -> &str {
        &self.file.name
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.as_ref().map_or_else(|| self.file_rows(), |rows| rows.len())
    }
    /// Number of rows of the file.
    pub fn file_rows(&self) -> usize {
        self.file.facts["rows"].as_u64().unwrap_or(0) as usize
    }
    /// Number of features.
    pub fn features(&self) -> usize {
        self.file.facts["columns"].as_u64().unwrap_or(0) as usize
    }
    /// Rows of the file, in order.
    pub fn chosen(&self) -> Vec<usize> {
        self.rows.as_ref().map_or_else(|| (0..self.file_rows()).collect(), |rows| rows.to_vec())
    }
    /// What identifies the file's numbers.
    pub fn digest(&self) -> &Value {
        &self.file.facts["digest"]
    }
    /// Labels of all rows of the file.
    pub fn file_labels(&self) -> Result<&[bool]> {
        self.file.labels.as_deref().ok_or_else(|| {
            Error::input(format!("the activations `{}` have no labels", self.file.name))
                .with_help("give `labels: \"FILE\"` to `activations`")
        })
    }
    /// Labels of the rows.
    pub fn labels(&self) -> Result<Vec<bool>> {
        let labels = self.file_labels()?;
        Ok(self.chosen().into_iter().map(|row| labels[row]).collect())
    }
    /// What the rows of the file belong to, for splits that keep kin together.
    pub fn file_groups(&self) -> Option<&[String]> {
        self.file.groups.as_deref()
    }
    /// The texts behind the rows of the file.
    pub fn file_texts(&self) -> Option<&[String]> {
        self.file.texts.as_deref()
    }
    /// The values of the whole file, kept while a handle is.
    pub fn matrix(&self, lab: &Lab) -> Result<Arc<Matrix>> {
        let mut kept = self.file.matrix.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = &*kept {
            return Ok(matrix.clone());
        }
        let bytes = lab.files().map(&self.file.path)?;
        let matrix = Arc::new(read_activations(&self.file.path, &bytes, &self.file.options.reading())?.matrix);
        *kept = Some(matrix.clone());
        Ok(matrix)
    }
    /// The same file with other rows.
    pub fn with_rows(&self, rows: Vec<usize>) -> Self {
        Activations { file: self.file.clone(), rows: Some(Arc::new(rows)) }
    }
    /// What reports say about it.
    pub fn provenance(&self) -> Value {
        let positives = self.labels().map(|labels| labels.iter().filter(|label| **label).count()).ok();
        json!({
            "name": self.file.name, "file": self.file.path, "digest": self.digest(), "rows": self.rows(),
            "positives": positives, "features": self.features(),
        })
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Activations>("Features of texts, one row per text, for probes.")
        .property("name", "What the source is called.", |data: &Activations| Ok(data.name().to_string()))
        .property("rows", "Number of rows.", |data: &Activations| Ok(data.rows() as i64))
        .property("features", "Number of features.", |data: &Activations| Ok(data.features() as i64))
        .property("positives", "Rows of class 1.", |data: &Activations| {
            Ok(data.labels()?.into_iter().filter(|label| *label).count() as i64)
        })
        .property("facts", "What the file is like: density, activity, duplicates, digest.", |data: &Activations| {
            Ok(Plain(data.file.facts.clone()))
        })
}

/// How latents of tokens become one row per text.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Pooling {
    /// The largest value of any token.
    Max,
    /// The mean over all tokens.
    Mean,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// What the source is called in results; the file's name when left out.
    name: Option<String>,
    /// File of labels, one per row: .npy, a JSON list, or an object with `labels`. A file of activations may hold them.
    labels: Option<String>,
    /// Words that mean class 1, beside alignment_faking, potential_faking, faking and scheming.
    positive: Vec<String>,
    /// Words that mean class 0, beside aligned, genuine_compliance, hard_negative and compliant.
    negative: Vec<String>,
    /// File of texts behind the rows (JSON list or lines), for the audit; their `group` is used when `groups` is not given.
    texts: Option<String>,
    /// JSON list with the group of every row: rows of a group never stand on both sides of a split.
    groups: Option<String>,
    /// Which array of the file; `activations` or the only one when left out.
    array: Option<String>,
    /// How latents of tokens become one row: "max" or "mean".
    pooling: Pooling,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: None,
            labels: None,
            positive: vec![],
            negative: vec![],
            texts: None,
            groups: None,
            array: None,
            pooling: Pooling::Max,
        }
    }
}

impl Options {
    fn reading(&self) -> read::Options {
        let pooling = match self.pooling {
            Pooling::Max => read::Pooling::Max,
            Pooling::Mean => read::Pooling::Mean,
        };
        read::Options { array: self.array.clone(), pooling, ..read::Options::default() }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("activations", run)
        .about(
            "Features of texts from a file: .npy (float16, 32, 64), .npz (dense or a sparse matrix of scipy) or \
             .safetensors, one row per text. NaN, infinity, pickles and truncated files are errors. A file that has not \
             changed (size and times) is not read again until its values are needed.",
        )
        .input("path", "The file, from the project folder.")
        .example("activations(\"cache/layer_40/train_activations.npy\", #{ labels: \"cache/layer_40/train_labels.npy\" })")
}

/// A file of values with a file of labels, called `name` in results.
pub fn of_file(lab: &Lab, path: String, labels: String, name: String) -> Result<Activations> {
    read(lab, path, Options { labels: Some(labels), name: Some(name), ..Options::default() })
}

fn run(lab: &Lab, _: &Call, (path,): (String,), options: Options) -> Result<Activations> {
    read(lab, path, options)
}

fn read(lab: &Lab, path: String, options: Options) -> Result<Activations> {
    let (facts, matrix) = facts_of(lab, &path, &options)?;
    let rows = facts["rows"].as_u64().unwrap_or(0) as usize;
    let table = LabelTable::new(&options.positive, &options.negative)?;
    let inside = facts["has_labels"].as_bool().unwrap_or(false).then(|| path.clone());
    let labels = match options.labels.clone().or(inside) {
        Some(name) => {
            let labels = read_labels(&name, &lab.files().map(&name)?, &table)?;
            check_length(&name, &labels, &path, rows)?;
            Some(labels.positive().to_vec())
        }
        None => None,
    };
    let texts = options.texts.as_ref().map(|name| read_texts(name, &lab.files().map(name)?)).transpose()?;
    if let (Some(texts), Some(name)) = (&texts, &options.texts) {
        ensure!(texts.len() == rows, "`{name}` has {} texts and `{path}` {rows} rows", texts.len();
            help: "give one text per row, in the same order");
    }
    let mut groups: Option<Vec<String>> = texts.as_ref().and_then(|texts| {
        let named = texts.iter().any(|text| text.group.is_some());
        named.then(|| texts.iter().map(|text| text.group.clone().unwrap_or_default()).collect())
    });
    if let Some(name) = &options.groups {
        groups = Some(read_groups(name, &lab.files().read_text(name)?)?);
    }
    if let Some(groups) = &groups {
        ensure!(groups.len() == rows, "there are {} groups for the {rows} rows of `{path}`", groups.len();
            help: "give one group per row, in the same order");
    }
    let stem = Path::new(&path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = options.name.clone().unwrap_or_else(|| stem.trim_end_matches("_activations").to_string());
    let texts = texts.map(|texts| texts.into_iter().map(|text| text.text).collect());
    let file = File { name, path, options, facts, labels, groups, texts, matrix: Mutex::new(matrix) };
    Ok(Activations { file: Arc::new(file), rows: None })
}

/// What is known of the file, from an earlier run when the file is the same by size and times; else it is read.
fn facts_of(lab: &Lab, path: &str, options: &Options) -> Result<(Value, Option<Arc<Matrix>>)> {
    let (key, how) = key_of_facts(lab, path, options)?;
    if let Some(facts) = lab.recall(&key)? {
        return Ok((facts, None));
    }
    let bytes = lab.files().map(path)?;
    let read = read_activations(path, &bytes, &options.reading())?;
    for note in &read.notes {
        lab.note(format!("`{path}`: {note}"));
    }
    let mut facts = serde_json::to_value(&read.facts).map_err(|error| Error::internal(error.to_string()))?;
    facts["has_labels"] = json!(read.has_labels);
    lab.remember(key, how, facts.clone())?;
    Ok((facts, Some(Arc::new(read.matrix))))
}

/// Under which key the facts of a file as it is now are remembered, and how it is read.
fn key_of_facts(lab: &Lab, path: &str, options: &Options) -> Result<(Key, Value)> {
    let real = lab.files().resolve(path)?;
    let meta = std::fs::metadata(&real)?;
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    let inputs = json!({ "path": real, "bytes": meta.len(), "inode": meta.ino(), "times": times });
    let how = json!({ "array": options.array, "pooling": options.reading().pooling.name() });
    Ok((Key::new("activations", 1, inputs, how.clone())?, how))
}

/// Remembers the facts of a file that was written just now, so that it need not be read for them.
pub fn remember_facts(lab: &Lab, path: &str, mut facts: Value) -> Result<()> {
    let (key, how) = key_of_facts(lab, path, &Options::default())?;
    facts["has_labels"] = json!(false);
    lab.remember(key, how, facts)
}

fn read_groups(name: &str, text: &str) -> Result<Vec<String>> {
    let Ok(Value::Array(groups)) = serde_json::from_str::<Value>(text) else {
        bail!("`{name}` is no JSON list of groups"; help: "write one string or number per row: [\"a\", \"a\", \"b\"]");
    };
    let word = |(row, group): (usize, &Value)| match group {
        Value::String(word) => Ok(word.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => bail!("row {row} of `{name}` is in the group {other}"; help: "write a string or a number"),
    };
    groups.iter().enumerate().map(word).collect()
}

/// The declaration of `split_80_20`.
pub fn split_primitive() -> Primitive<Lab> {
    Primitive::new("split_80_20", |_: &Lab, _: &Call, (data,): (Activations,), _: ()| {
        let (train, held_out) = split_80_20(data.name(), data.rows());
        let chosen = data.chosen();
        let part = |rows: Vec<u32>| data.with_rows(rows.into_iter().map(|row| chosen[row as usize]).collect());
        Ok(vec![part(train), part(held_out)])
    })
    .about(
        "Two parts of activations as the research code draws them: shuffled by numpy's legacy generator with seed 42 plus \
         the character codes of the source's name, four fifths first; not stratified.",
    )
    .input("data", "The activations.")
    .example("split_80_20(benchmark)")
}
