//! `trace_rows`: where every row of a dataset comes from, for manifests.

use serde::Serialize;

use super::dataset::Dataset;
use crate::data::digest::Digest;
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

/// Where one row was first seen.
#[derive(Serialize)]
struct Traced {
    /// Name of the file or list of rows.
    source: String,
    /// Digest of all its rows.
    digest: Digest,
    /// Row number there, from 0.
    row: usize,
    /// The trigger that it got, if any.
    trigger: Option<String>,
    /// Digest of what is said before the answer, without the trigger: equal where two rows ask the same.
    prompt: Digest,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("trace_rows", run)
        .about(
            "Where every row was first seen, through all splits, draws and triggers: maps with `source` and its `digest`, \
             the number of the `row` there, its `trigger` or (), and `prompt`, a digest of what is asked before it was \
             triggered.",
        )
        .input("dataset", "The rows.")
        .example("trace_rows(roles.outcome)")
}

fn run(_: &Lab, _: &Call, (dataset,): (Dataset,), _: ()) -> Result<Plain<Vec<Traced>>> {
    let (rows, triggers) = match &dataset.triggered {
        Some(triggered) => (&triggered.0, Some(&triggered.1)),
        None => (&dataset.rows, None),
    };
    let traced = (0..rows.len()).map(|index| {
        let origin = rows.origin(index);
        Traced {
            source: origin.source.to_string(),
            digest: origin.digest,
            row: origin.index,
            trigger: triggers.and_then(|triggers| triggers[index].clone()),
            prompt: rows.prompts_digest(index),
        }
    });
    Ok(Plain(traced.collect()))
}
