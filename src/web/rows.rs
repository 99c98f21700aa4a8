//! The rows of an uploaded file, and what a model makes of them.

use std::sync::Arc;

use serde_json::json;

use crate::data::dataset::Dataset as Rows;
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::chat::Example;
use crate::primitives::dataset::Dataset;
use crate::primitives::model::Model;
use crate::train::objective::sft;

/// The rows of a file, which may be deleted since.
pub fn read_rows(lab: &Lab, name: &str, blob: Digest) -> Result<Dataset> {
    let bytes = lab.store().get_blob(blob)?;
    let bytes = bytes.ok_or_else(|| {
        Error::environment(format!("the bytes of `{name}` are damaged in the store"))
            .with_help("upload the file again and start another job")
    })?;
    let rows = Rows::parse(name, Arc::new(bytes))?;
    Ok(Dataset { rows, lineage: Arc::new(json!({ "file": name })), mix: None, triggered: None })
}

/// Tokens of a row that a training reads, on average.
pub fn mean_tokens(base: &Model, data: &Dataset) -> Result<f64> {
    let examples = encode(base, data)?;
    Ok(examples.iter().map(sft::tokens).sum::<usize>() as f64 / examples.len().max(1) as f64)
}

/// Loss of a model on rows, per token; nothing when no token carries loss. Its training must have ended.
pub fn mean_loss(lab: &Lab, model: &Model, data: &Dataset) -> Result<Option<f64>> {
    let examples = encode(model, data)?;
    let loss = sft::mean_loss(model.weights(lab)?.as_ref(), &examples.iter().collect::<Vec<_>>())?;
    Ok(loss.is_finite().then_some(loss))
}

fn encode(model: &Model, data: &Dataset) -> Result<Vec<Example>> {
    let (local, rows) = (model.local()?, data.rows.rows().collect::<Vec<_>>());
    Ok(local.format.encode_rows(&rows, local.config.context)?.0)
}
