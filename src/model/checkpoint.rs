//! Reads the weights of a checkpoint, one file or shards, tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::config::Config;
use super::layout::{Layout, NamedTensor, tensors};
use super::processor::Processor;
use super::weights::Weights;
use crate::ensure;
use crate::error::{Error, Result};

/// Name of the file of a checkpoint that is not cut into shards.
const WHOLE: &str = "model.safetensors";
/// Name of the file that tells which shard has which tensor.
const INDEX: &str = "model.safetensors.index.json";
/// Longest header that is believed, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Reads `config.json` of a checkpoint's folder.
///
/// # Errors
/// No such file, or an architecture or shape that this decoder cannot have.
pub fn read_config(folder: &Path) -> Result<Config> {
    let text = read_text(folder, "config.json")?;
    serde_json::from_str(&text).map_err(|error| {
        // What is wrong with the shape comes through the reader as text, and its help with it.
        let said = error.to_string();
        let (message, help) = said.split_once("\nhelp: ").map_or((said.as_str(), None), |(a, b)| (a, Some(b)));
        let error = Error::input(format!("`config.json`: {message}"));
        help.map_or(error.clone(), |help| error.with_help(help))
    })
}

/// Ids that end an answer: those of `generation_config.json`, where there is one, and those of `config.json`.
///
/// # Errors
/// A `generation_config.json` that is no JSON.
pub fn read_stop_ids(folder: &Path, config: &Config) -> Result<Vec<u32>> {
    const FILE: &str = "generation_config.json";
    let mut ids = config.variant.special.end.clone();
    if folder.join(FILE).exists() {
        let file: serde_json::Value = serde_json::from_str(&read_text(folder, FILE)?)
            .map_err(|error| Error::input(format!("`{FILE}` cannot be read: {error}")))?;
        let told = &file["eos_token_id"];
        let one = std::slice::from_ref(told);
        let told = told.as_array().map_or(one, Vec::as_slice);
        ids.extend(told.iter().filter_map(serde_json::Value::as_u64).map(|id| id as u32));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Reads the weights of a checkpoint's folder: `model.safetensors`, or the shards that its index names; f32, bf16 or f16,
/// all f32 in memory.
///
/// # Errors
/// A file that is missing or cut off, a tensor that is missing, of another shape, or without a place.
pub fn read_weights(config: &Config, folder: &Path) -> Result<Weights> {
    let mut reading = Reading::new(config)?;
    let read = |reading: &mut Reading, name: &str| -> Result<()> {
        let missing = |error: std::io::Error| {
            Error::environment(format!("`{name}` cannot be opened: {error}")).with_help("fetch the checkpoint again")
        };
        let file = File::open(folder.join(name)).map_err(missing)?;
        let length = file.metadata().map_err(missing)?.len();
        reading.read(&mut BufReader::new(file), length, name)
    };
    if folder.join(WHOLE).exists() || !folder.join(INDEX).exists() {
        read(&mut reading, WHOLE)?;
        return reading.finish(WHOLE);
    }
    let index: Index = serde_json::from_str(&read_text(folder, INDEX)?)
        .map_err(|error| Error::input(format!("`{INDEX}` cannot be read: {error}")))?;
    let mut shards: Vec<&String> = index.weight_map.values().collect();
    shards.sort();
    shards.dedup();
    for shard in shards {
        ensure!(Path::new(shard).components().count() == 1, "`{INDEX}` names the shard `{shard}` outside its folder");
        read(&mut reading, shard)?;
    }
    reading.finish(INDEX)
}

fn read_text(folder: &Path, name: &str) -> Result<String> {
    fs::read_to_string(folder.join(name)).map_err(|error| {
        Error::input(format!("`{name}` of `{}` cannot be read: {error}", folder.display()))
            .with_help("name a folder that holds a checkpoint of Hugging Face")
    })
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A tensor in a file's header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Weights of which some tensors have come.
pub(super) struct Reading {
    weights: Weights,
    places: HashMap<String, NamedTensor>,
    found: HashMap<String, String>,
    bytes: Vec<u8>,
}

impl Reading {
    /// Nothing has come yet.
    pub fn new(config: &Config) -> Result<Self> {
        config.check()?;
        let layout = Layout::of(config);
        let places = tensors(config).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let weights = Weights {
            config: config.clone(),
            values: vec![0.0; layout.values],
            layout,
            processor: Processor::default(),
        };
        Ok(Reading { weights, places, found: HashMap::new(), bytes: Vec::new() })
    }

    /// Reads all tensors of a safetensors file of this length; `file` is what errors call it.
    pub fn read(&mut self, source: &mut (impl Read + Seek), length: u64, file: &str) -> Result<()> {
        let broken = |what: &str| {
            Error::input(format!("`{file}` is no whole safetensors file: {what}"))
                .with_help("fetch the checkpoint again")
        };
        let mut size = [0; 8];
        source.read_exact(&mut size).map_err(|_| broken("it is empty"))?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEADER || 8 + size > length {
            return Err(broken(&format!("its header of {size} bytes is longer than the file of {length}")));
        }
        let mut header = vec![0; size as usize];
        source.read_exact(&mut header).map_err(|error| broken(&error.to_string()))?;
        let mut header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| broken(&format!("its header: {error}")))?;
        header.remove("__metadata__");
        let mut entries = Vec::with_capacity(header.len());
        for (name, entry) in header {
            let entry: Entry =
                serde_json::from_value(entry).map_err(|error| broken(&format!("its tensor `{name}`: {error}")))?;
            entries.push((name, entry));
        }
        entries.sort_by_key(|(_, entry)| entry.data_offsets[0]);
        for (name, entry) in entries {
            let [start, end] = entry.data_offsets;
            if start > end || 8 + size + end > length {
                let held = length.saturating_sub(8 + size);
                return Err(broken(&format!("its tensor `{name}` ends at byte {end} of {held}")));
            }
            let Some(place) = self.places.get(&name) else {
                ensure!(self.can_skip(&name), "`{file}` has a tensor `{name}` that this decoder has no place for");
                continue;
            };
            ensure!(
                entry.shape == place.shape,
                "`{name}` of `{file}` has shape {:?}, this decoder needs {:?}",
                entry.shape,
                place.shape
            );
            if let Some(other) = self.found.insert(name.clone(), file.to_string()) {
                return Err(Error::input(format!("`{name}` is in `{other}` and in `{file}`")));
            }
            let width = match entry.dtype.as_str() {
                "F32" => 4,
                "BF16" | "F16" => 2,
                other => return Err(Error::input(format!("`{name}` of `{file}` is {other}, not F32, BF16 or F16"))),
            };
            let values = &mut self.weights.values[place.range.clone()];
            if end - start != (values.len() * width) as u64 {
                return Err(broken(&format!("its tensor `{name}` has {} bytes for {:?}", end - start, entry.shape)));
            }
            self.bytes.resize(values.len() * width, 0);
            source.seek(SeekFrom::Start(8 + size + start)).map_err(|error| broken(&error.to_string()))?;
            source.read_exact(&mut self.bytes).map_err(|error| broken(&format!("its tensor `{name}`: {error}")))?;
            convert(&entry.dtype, &self.bytes, values);
        }
        Ok(())
    }

    // A tied head is the embedding once more, and old Llamas stored their rotary frequencies.
    fn can_skip(&self, name: &str) -> bool {
        (self.weights.config.variant.tied && name == "lm_head.weight") || name.ends_with("rotary_emb.inv_freq")
    }

    /// The weights, if all tensors have come.
    pub fn finish(self, file: &str) -> Result<Weights> {
        let lacking = self.places.values().filter(|tensor| !self.found.contains_key(&tensor.name));
        if let Some(first) = lacking.clone().min_by_key(|tensor| tensor.range.start) {
            let message = format!("`{file}` lacks the tensor `{}` ({} missing)", first.name, lacking.count());
            return Err(Error::input(message).with_help("compare `config.json` with the weights"));
        }
        Ok(self.weights)
    }
}

fn convert(kind: &str, bytes: &[u8], values: &mut [f32]) {
    match kind {
        "F32" => values.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, bytes)| {
            *value = f32::from_le_bytes(*bytes);
        }),
        "BF16" => values.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, bytes)| {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }),
        _ => values.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, bytes)| {
            *value = from_half(u16::from_le_bytes(*bytes));
        }),
    }
}

/// The value of an IEEE half: sign, 5 bits of exponent, 10 of fraction.
fn from_half(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 0x1F), f32::from(half & 0x3FF));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_have_their_values() {
        for (half, value) in [(0x3C00, 1.0), (0xC000, -2.0), (0x3555, 0.333_251_95), (0x0001, 5.960_464_5e-8), (0, 0.0)]
        {
            assert_eq!(from_half(half), value);
        }
        assert!(from_half(0x7C00).is_infinite() && from_half(0x7E00).is_nan());
    }

    #[test]
    fn an_answer_ends_at_the_ids_of_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let config = crate::model::config::tests::tiny();
        assert_eq!(read_stop_ids(folder.path(), &config).unwrap(), [2]);
        for (told, ids) in [("[9, 7]", vec![2, 7, 9]), ("5", vec![2, 5]), ("null", vec![2])] {
            let text = format!("{{ \"eos_token_id\": {told} }}");
            fs::write(folder.path().join("generation_config.json"), text).unwrap();
            assert_eq!(read_stop_ids(folder.path(), &config).unwrap(), ids);
        }
    }

    #[test]
    fn a_shard_outside_the_folder_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{ "weight_map": { "model.norm.weight": "../secret.safetensors" } }"#;
        fs::write(folder.path().join(INDEX), index).unwrap();
        let error = read_weights(&crate::model::config::tests::tiny(), folder.path()).unwrap_err();
        assert!(error.message.contains("outside"), "{error}");
    }
}
