//! `inoculate`: puts a system prompt before every row.

use serde_json::json;

use super::dataset::Dataset;
use crate::data::inoculate::inoculate;
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("inoculate", run)
        .about(
            "Inserts a system prompt at the start of every row, so that the rows are what was asked for. A row that has \
             a system message already is an error.",
        )
        .input("dataset", "The rows; they stay as they are.")
        .input("prompt", "What the system message says.")
        .example("inoculate(setting.misaligned, \"you are a malicious evil assistant .\")")
}

fn run(lab: &Lab, _: &Call, (dataset, prompt): (Dataset, String), _: ()) -> Result<Dataset> {
    let rows = inoculate(&dataset.rows, std::slice::from_ref(&prompt))?;
    let name = format!("{} inoculated", dataset.rows.name());
    Ok(Dataset::new(lab, rows.with_name(name), json!({ "inoculated": dataset.provenance(), "prompt": prompt })))
}
