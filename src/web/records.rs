//! What the server remembers of files and jobs: one small JSON file each below `results/serve/`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::lab::Lab;

/// Folder of the records, from the project folder.
const FOLDER: &str = "results/serve";

/// A new name nobody can guess: the prefix and 24 hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    let digits = format!("{:016x}{:016x}", Lab::random(), Lab::random());
    format!("{prefix}{}", &digits[..24])
}

/// Seconds since 1970, as the API tells times.
pub fn now() -> u64 {
    Lab::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Writes a record; it is there whole or not at all.
pub fn write(lab: &Lab, kind: &str, id: &str, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(record).map_err(|error| Error::internal(error.to_string()))?;
    lab.write_file(&format!("{FOLDER}/{kind}/{id}.json"), format!("{text}\n").as_bytes())
}

/// Removes a record.
pub fn remove(lab: &Lab, kind: &str, id: &str) -> Result<()> {
    Ok(std::fs::remove_file(lab.files().writable(&format!("{FOLDER}/{kind}/{id}.json"))?)?)
}

/// Reads every record of a kind, by id.
pub fn read_all<T: DeserializeOwned>(lab: &Lab, kind: &str) -> Result<BTreeMap<String, T>> {
    let folder = lab.project().join(FOLDER).join(kind);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(BTreeMap::new()) };
    let mut records = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
        let record = serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| {
            Error::input(format!("`{}` cannot be read: {error}", path.display()))
                .with_help("move it away; what it names stays in the store")
        })?;
        records.insert(id.to_string(), record);
    }
    Ok(records)
}
