//! Identity of values: canonical JSON and its BLAKE3 digest.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// A BLAKE3-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }
    /// Digest of the canonical JSON of a value.
    pub fn of_json(value: &Value) -> Result<Self> {
        Ok(Self::of(canonical(value)?.as_bytes()))
    }
    /// The first eight digits, for people; never an identity.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_string()
    }
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Digest(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no digest")))
    }
}

/// Canonical JSON: keys sorted by their bytes, no white space, absent options omitted by the caller, integers exact,
/// floats in the shortest form that reads back equal, a float without a fraction written as an integer (so that `0`,
/// `0.0` and `-0.0` are one), NaN and infinities refused.
pub fn canonical(value: &Value) -> Result<String> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, out: &mut String) -> Result<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Sorted here because a dependency may switch `serde_json` to insertion order for the whole build.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out)?;
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_number(number: &serde_json::Number, out: &mut String) -> Result<()> {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            if !float.is_finite() {
                return Err(Error::input(format!("a key cannot hold the number {float}")));
            }
            // Below 2^53 every whole float is exactly an integer.
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                out.push_str(&(float as i64).to_string());
            } else {
                out.push_str(&number.to_string());
            }
        }
        _ => out.push_str(&number.to_string()),
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) -> Result<()> {
    out.push_str(&serde_json::to_string(text).map_err(|error| Error::internal(error.to_string()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_json_ignores_order_and_number_spelling() {
        assert_eq!(canonical(&json!({"b": 1.0, "a": [0.5, -0.0, "é\n"]})).unwrap(), r#"{"a":[0.5,0,"é\n"],"b":1}"#);
    }

    #[test]
    fn digest_is_golden_and_reads_back() {
        let digest = Digest::of_json(&json!({"a": 1})).unwrap();
        assert_eq!(digest.to_string(), "d59b6562d7c9b121bc9760873d787890ef4d429aad33a70b405baa0fa08a1f53");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
    }
}
