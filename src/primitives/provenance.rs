//! Where the models and data of a report come from, each told once: 18 fine-tunes share their sources.

use serde_json::{Map, Value, json};

use crate::data::digest::canonical;
use crate::data::summary::Point;

/// Models and datasets, in order of first appearance; inside they name each other by `id`.
#[derive(Default)]
pub struct Provenance {
    /// Every model: its `id`, the base and the data it was trained on, its losses, where in the grid it is used.
    pub models: Vec<Value>,
    /// Every dataset: its `id`, its rows, what it was made from.
    pub datasets: Vec<Value>,
}

impl Provenance {
    /// Takes a model in, with all that it was made from, and where it is used.
    pub fn add(&mut self, model: &Value, point: Option<&Point>) {
        let id = self.fold(model);
        if let Some(entry) = self.models.iter_mut().find(|entry| entry["id"] == id)
            && let Some(point) = point
        {
            let point = json!(point);
            match entry.get_mut("points").and_then(Value::as_array_mut) {
                Some(points) if points.contains(&point) => {}
                Some(points) => points.push(point),
                None => entry["points"] = json!([point]),
            }
        }
    }

    /// The value with each model and dataset in it replaced by its id.
    fn fold(&mut self, value: &Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fold(item)).collect()),
            Value::Object(fields) => {
                let folded: Map<String, Value> =
                    fields.iter().map(|(name, field)| (name.clone(), self.fold(field))).collect();
                let has = |names: [&str; 2]| names.iter().all(|name| fields.contains_key(*name));
                if has(["key", "name"]) {
                    return keep(&mut self.models, folded, "key");
                }
                if has(["digest", "from"]) {
                    return keep(&mut self.datasets, folded, "digest");
                }
                Value::Object(folded)
            }
            plain => plain.clone(),
        }
    }
}

/// Stores what `identity` identifies, unless it is there; returns its id.
fn keep(known: &mut Vec<Value>, mut fields: Map<String, Value>, identity: &str) -> Value {
    let id = id_of(&fields.remove(identity).unwrap_or_default());
    // The same facts as the key, which a base model tells twice.
    fields.remove("identity");
    if !known.iter().any(|entry| entry["id"] == id) {
        fields.insert("id".to_string(), id.clone());
        known.push(Value::Object(fields));
    }
    id
}

/// One word for a key: the digest of a call, of weights or of rows.
fn id_of(key: &Value) -> Value {
    let digest = ["call", "weights"].iter().find_map(|name| key.get(*name));
    match (digest, key) {
        (Some(digest), _) => digest.clone(),
        (None, Value::String(_)) => key.clone(),
        (None, other) => json!(canonical(other).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_sources_are_told_once() {
        let source = json!({ "digest": "s", "name": "source", "rows": 9, "from": { "file": "x" } });
        let base = json!({ "key": { "weights": "w", "tokenizer": "t" }, "name": "organism", "identity": {} });
        let mut provenance = Provenance::default();
        for seed in 0..3 {
            let mix = json!({ "digest": format!("m{seed}"), "name": "mix", "rows": 4, "from": { "mix": [{ "rows": 4, "of": source }] } });
            let model = json!({ "key": { "call": format!("c{seed}") }, "name": "tuned", "base": base, "data": mix, "first_loss": 1.5 });
            let point = Point::from([("seed".to_string(), json!(seed))]);
            provenance.add(&model, Some(&point));
            provenance.add(&model, Some(&point));
        }
        assert_eq!(provenance.datasets.len(), 4);
        assert_eq!(provenance.models.len(), 4);
        assert_eq!(provenance.models[1]["base"], "w");
        assert_eq!(provenance.models[1]["data"], "m0");
        assert_eq!(provenance.models[1]["points"], json!([{ "seed": 0 }]));
        assert_eq!(provenance.datasets[1]["from"]["mix"][0]["of"], "s");
    }
}
