//! `dataset`: reads chat rows from a file; and the handle that scripts hold for rows of any origin.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::data::dataset::Dataset as Rows;
use crate::data::mix::Mix;
use crate::error::Result;
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// Rows, and where they come from.
#[derive(Clone)]
pub struct Dataset {
    /// The rows; their digest is the dataset's identity.
    pub rows: Rows,
    /// Where they come from, for reports.
    pub lineage: Arc<Value>,
    /// The mix that made them, if one did.
    pub mix: Option<Arc<Mix>>,
    /// The rows before they were triggered and the trigger of each, where that was done.
    pub triggered: Option<Arc<(Rows, Vec<Option<String>>)>>,
}

handle!(Dataset);

impl Handle for Dataset {
    const NAME: &'static str = "Dataset";
    fn identity(&self) -> Value {
        json!(self.rows.digest())
    }
    fn describe(&self) -> String {
        format!("Dataset `{}`: {} rows ({})", self.rows.name(), self.rows.len(), self.rows.digest().short())
    }
}

impl Dataset {
    /// Rows with a description of their origin; the lab keeps them for the calls that need them.
    pub fn new(lab: &Lab, rows: Rows, lineage: Value) -> Self {
        lab.keep_dataset(&rows);
        Dataset { rows, lineage: Arc::new(lineage), mix: None, triggered: None }
    }

    /// What reports say about it.
    pub fn provenance(&self) -> Value {
        json!({ "name": self.rows.name(), "digest": self.rows.digest(), "rows": self.rows.len(), "from": *self.lineage })
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Dataset>("Chat rows that can be mixed, inoculated, exported and trained on.")
        .property("rows", "Number of rows.", |data: &Dataset| Ok(data.rows.len() as i64))
        .property("name", "What it is called in tables.", |data: &Dataset| Ok(data.rows.name().to_string()))
        .property("digest", "Its identity: a digest of its rows in order.", |data: &Dataset| {
            Ok(data.rows.digest().to_string())
        })
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("dataset", run)
        .about(
            "Reads chat rows from a JSONL file (`messages`, optional `weight`) or an Alpaca list. A bad row fails the \
             whole file, with its line.",
        )
        .input("path", "The file, from the project folder.")
        .example("dataset(\"datasets/my_rows.jsonl\")")
}

fn run(lab: &Lab, _: &Call, (path,): (String,), _: ()) -> Result<Dataset> {
    let bytes = lab.files().map(&path)?;
    let rows = Rows::parse(&path, Arc::new(bytes))?;
    for note in rows.notes() {
        lab.note(format!("`{path}`: {note}"));
    }
    let stem = std::path::Path::new(&path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(Dataset::new(lab, rows.with_name(stem.unwrap_or_else(|| path.clone())), json!({ "file": path })))
}
