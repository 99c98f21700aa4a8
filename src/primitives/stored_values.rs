//! Long vectors that are made once and kept in the store: directions, information, traits.

use serde_json::{Value, json};

use crate::data::digest::Digest;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::store::Key;

/// The values under this key, made and kept where they are not there yet.
///
/// # Errors
/// What `make` reports, or a store that cannot be read.
pub fn stored_values(lab: &Lab, key: Key, make: impl FnOnce() -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    if let Some(known) = lab.recall(&key)?
        && let Some(values) = read_values(lab, &known)?
    {
        return Ok(values);
    }
    let made = make()?;
    let outcome = keep_values(lab, &made)?;
    lab.remember(key, Value::Null, outcome)?;
    Ok(made)
}

/// Keeps values; what names them.
pub fn keep_values(lab: &Lab, values: &[f32]) -> Result<Value> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(json!({ "blob": lab.store().put_blob(&bytes)?, "values": values.len() }))
}

/// The values that are named so; none where they are gone.
pub fn read_values(lab: &Lab, named: &Value) -> Result<Option<Vec<f32>>> {
    let Some(blob) = named["blob"].as_str().and_then(Digest::parse) else { return Ok(None) };
    let Some(bytes) = lab.store().get_blob(blob)? else { return Ok(None) };
    let (values, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "a stored direction is cut off");
    Ok(Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect()))
}
