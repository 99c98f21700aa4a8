//! `concat_datasets`: rows of several datasets one after the other.

use serde_json::json;

use super::dataset::Dataset;
use crate::data::dataset::Dataset as Rows;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("concat_datasets", run)
        .about("All rows of several datasets, one after the other, in their order. Training shuffles them.")
        .input("parts", "The datasets.")
        .example("concat_datasets([setting.misaligned, setting.aligned])")
}

fn run(lab: &Lab, _: &Call, (parts,): (Vec<Dataset>,), _: ()) -> Result<Dataset> {
    ensure!(!parts.is_empty(), "`concat_datasets` needs at least one dataset, found none");
    let name = parts.iter().map(|part| part.rows.name()).collect::<Vec<_>>().join(" and ");
    let rows: Vec<Rows> = parts.iter().map(|part| part.rows.clone()).collect();
    let lineage = json!({ "joined": parts.iter().map(Dataset::provenance).collect::<Vec<_>>() });
    Ok(Dataset::new(lab, Rows::concat(name, &rows), lineage))
}
