//! The identity of a call: a digest over everything that decides its result, and over nothing else.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::data::digest::{Digest, canonical};
use crate::error::{Error, Result};

/// Version of what is hashed and how; raising it forgets every result.
pub const KEY_FORMAT: u32 = 1;

/// BLAKE3 over the canonical JSON of `{format, inputs, options, primitive, version}`.
///
/// Script text, comments, paths, API keys, concurrency and retries are never part of it.
#[derive(Clone)]
pub struct Key {
    digest: Digest,
    primitive: Arc<str>,
    version: u32,
    components: Arc<str>,
}

impl Key {
    /// The key of one call of `primitive`, whose behaviour `version` is raised by hand when its meaning changes.
    ///
    /// `inputs` names every input by content (datasets, files) or by launch key (fine-tuned models). `options` holds
    /// what [`beyond_defaults`] leaves, so that a new option with a default keeps old results. NaN and infinities must
    /// be refused earlier: in a `Value` they have already become null.
    pub fn new(primitive: &str, version: u32, inputs: Value, options: Value) -> Result<Self> {
        let components = canonical(&json!({
            "format": KEY_FORMAT, "inputs": inputs, "options": options, "primitive": primitive, "version": version,
        }))
        .map_err(|error| error.context(format!("key of `{primitive}`")))?;
        Ok(Self::of_components(primitive, version, components))
    }

    /// Reads a key back from its components, as they stand in the index.
    pub fn parse(components: &str) -> Result<Self> {
        let no_key = |found: &dyn fmt::Display| Error::internal(format!("no components of a key: {found}"));
        let value: Value = serde_json::from_str(components).map_err(|error| no_key(&error))?;
        let primitive = value["primitive"].as_str().ok_or_else(|| no_key(&value))?;
        let version = value["version"].as_u64().and_then(|version| u32::try_from(version).ok());
        Ok(Self::of_components(primitive, version.ok_or_else(|| no_key(&value))?, components.to_string()))
    }

    /// The digest under which one of many equal requests is stored (`sample` counts from 0): the digest of the same
    /// components with `"sample": n` added, so that asking for 200 samples after 100 buys 100.
    pub fn sample(&self, sample: u64) -> Digest {
        // The members are sorted, so `sample` stands just before `version`, which is the last.
        let version = format!(",\"version\":{}}}", self.version);
        let before = self.components.strip_suffix(version.as_str()).expect("`version` is the last member");
        let mut hasher = blake3::Hasher::new();
        hasher.update(before.as_bytes());
        hasher.update(format!(",\"sample\":{sample}").as_bytes());
        hasher.update(version.as_bytes());
        Digest(*hasher.finalize().as_bytes())
    }

    /// The identity itself.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// What is called.
    pub fn primitive(&self) -> &str {
        &self.primitive
    }
    /// Behaviour version of the primitive.
    pub fn version(&self) -> u32 {
        self.version
    }
    /// The canonical JSON that was hashed, kept so that `why` can compare two keys field by field.
    pub fn components(&self) -> &str {
        &self.components
    }

    fn of_components(primitive: &str, version: u32, components: String) -> Self {
        Key {
            digest: Digest::of(components.as_bytes()),
            primitive: primitive.into(),
            version,
            components: components.into(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.primitive, self.digest.short())
    }
}

/// The options that differ from their defaults, as a JSON merge patch (RFC 7386) from `defaults` to `options`.
///
/// Two option values have one patch only when they are equal, absent and null being the same; an option that is not
/// written and one written with its default leave no trace. Both must be filled in: every option present.
pub fn beyond_defaults(options: &Value, defaults: &Value) -> Value {
    let (Value::Object(options), Value::Object(defaults)) = (options, defaults) else { return options.clone() };
    let mut patch = Map::new();
    for name in options.keys().chain(defaults.keys().filter(|name| !options.contains_key(*name))) {
        let option = options.get(name).unwrap_or(&Value::Null);
        let default = defaults.get(name).unwrap_or(&Value::Null);
        if !same(option, default) {
            patch.insert(name.clone(), beyond_defaults(option, default));
        }
    }
    Value::Object(patch)
}

/// Equal as a key sees it: `1` and `1.0` are one.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((canonical(a), canonical(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(options: Value) -> Key {
        Key::new("mix_dataset", 3, json!({"datasets": ["ab", "cd"]}), options).unwrap()
    }

    #[test]
    fn key_is_golden() {
        // Digests of the bytes below as Python's blake3 gives them.
        let key = key(json!({"weights": [0.25, 0.75], "rows": 1000, "seed": 0}));
        assert_eq!(
            key.components(),
            r#"{"format":1,"inputs":{"datasets":["ab","cd"]},"options":{"rows":1000,"seed":0,"weights":[0.25,0.75]},"primitive":"mix_dataset","version":3}"#
        );
        assert_eq!(key.to_string(), "893710c5cd397a9c2051e69123b9457ecc56f7ddebf8b39ca5eb64f8006788de");
        assert_eq!(key.sample(7).to_string(), "305c5029e56ca21df1c417d8dce80ce54602a7335ec032b15e6227e6552aec54");
    }

    #[test]
    fn key_ignores_order_and_number_spelling() {
        let written = key(json!({"rows": 1000, "seed": 0, "beta": 1}));
        assert_eq!(written, key(json!({"beta": 1.0, "seed": -0.0, "rows": 1000.0})));
        assert_ne!(written, key(json!({"rows": 1001, "seed": 0, "beta": 1})));
    }

    #[test]
    fn key_changes_with_every_component() {
        let keys = [
            Key::new("a", 1, json!([]), json!({})).unwrap(),
            Key::new("b", 1, json!([]), json!({})).unwrap(),
            Key::new("a", 2, json!([]), json!({})).unwrap(),
            Key::new("a", 1, json!(["x"]), json!({})).unwrap(),
            Key::new("a", 1, json!([]), json!({"x": null})).unwrap(),
        ];
        let mut digests: Vec<_> = keys.iter().map(Key::digest).chain([keys[0].sample(0), keys[0].sample(1)]).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 7);
    }

    #[test]
    fn sample_is_the_digest_of_the_components_with_the_sample() {
        let key = key(json!({"seed": 1}));
        let mut components: Value = serde_json::from_str(key.components()).unwrap();
        components["sample"] = json!(41);
        assert_eq!(key.sample(41), Digest::of_json(&components).unwrap());
    }

    #[test]
    fn key_reads_back_from_its_components() {
        let key = key(json!({"seed": 1, "name": "a,\"version\":3}"}));
        let back = Key::parse(key.components()).unwrap();
        assert_eq!((back.digest(), back.primitive(), back.version()), (key.digest(), "mix_dataset", 3));
        assert!(Key::parse("{}").is_err());
    }

    #[test]
    fn defaults_leave_no_trace_and_distinct_options_stay_distinct() {
        let defaults = json!({"rows": 100, "seed": 0, "objective": {"kind": "sft", "beta": 1.0}, "limit": null});
        assert_eq!(beyond_defaults(&defaults, &defaults), json!({}));
        assert_eq!(
            beyond_defaults(
                &json!({"rows": 100.0, "seed": 1, "objective": {"kind": "kl", "beta": 1}, "limit": null}),
                &defaults
            ),
            json!({"seed": 1, "objective": {"kind": "kl"}})
        );
        let grown = json!({"rows": 100, "seed": 0, "objective": {"kind": "sft", "beta": 1.0}, "limit": null, "new": 5});
        assert_eq!(beyond_defaults(&grown, &grown), json!({}));
        // A map that lacks a member of the default is told from one that has it.
        let defaults = json!({"weights": {"x": 1}});
        assert_eq!(beyond_defaults(&json!({"weights": {"y": 2}}), &defaults), json!({"weights": {"x": null, "y": 2}}));
        assert_eq!(beyond_defaults(&json!({"weights": {"x": 1, "y": 2}}), &defaults), json!({"weights": {"y": 2}}));
    }
}
