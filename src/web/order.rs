//! Reads a request for a fine-tuning job: what is trained on what, and how.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::fields::{Fields, wrong_type};

/// What a client orders; nothing stands for `auto`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// The model to start from.
    pub model: String,
    /// The file of the rows.
    pub training_file: String,
    /// The file of rows to measure the loss on.
    pub validation_file: Option<String>,
    /// Part of the model's name.
    pub suffix: Option<String>,
    /// Decides the order of rows.
    pub seed: Option<u64>,
    /// The client's own words.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Passes over the rows.
    pub epochs: Option<usize>,
    /// Rows of a batch.
    pub batch_size: Option<usize>,
    /// Factor of the learning rate.
    pub learning_rate_multiplier: Option<f64>,
}

impl Order {
    /// Reads the body of a request.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let mut order = Order {
            model: fields.required_text("model")?,
            training_file: fields.required_text("training_file")?,
            validation_file: fields.text("validation_file")?,
            suffix: read_suffix(&mut fields)?,
            seed: fields.integer("seed", 0..=2_147_483_647)?.map(|seed| seed as u64),
            metadata: read_metadata(&mut fields)?,
            ..Order::default()
        };
        let (method, old) = (fields.take("method"), fields.take("hyperparameters"));
        match (method, old) {
            (Some(_), Some(_)) => {
                let message = "'hyperparameters' is deprecated and cannot be given beside 'method'.";
                return Err(ApiError::invalid("hyperparameters", message));
            }
            (Some(method), None) => order.read_method(method)?,
            (None, Some(values)) => order.read_hyperparameters("hyperparameters", values)?,
            (None, None) => {}
        }
        fields.refuse("integrations", |value| value.as_array().is_some_and(Vec::is_empty))?;
        fields.finish()?;
        Ok(order)
    }

    fn read_method(&mut self, method: Value) -> ApiResult<()> {
        let mut method = Fields::of("method", method)?;
        let kind = method.required_text("type")?;
        if kind != "supervised" {
            let message =
                format!("'{kind}' is not a method that local models are trained with. Supported: 'supervised'.");
            return Err(ApiError::invalid("method.type", message));
        }
        if let Some(supervised) = method.take("supervised") {
            let mut supervised = Fields::of("method.supervised", supervised)?;
            if let Some(values) = supervised.take("hyperparameters") {
                self.read_hyperparameters("method.supervised.hyperparameters", values)?;
            }
            supervised.finish()?;
        }
        method.finish()
    }

    fn read_hyperparameters(&mut self, place: &str, values: Value) -> ApiResult<()> {
        let mut values = match values {
            // OpenAI's types allow the values to be written `auto`, which is what stands there without them.
            Value::Object(mut values) => {
                values.retain(|_, value| value != "auto");
                Fields::of(place, json!(values))?
            }
            other => return Err(wrong_type(place, "an object", &other)),
        };
        self.epochs = values.integer("n_epochs", 1..=50)?.map(|count| count as usize);
        self.batch_size = values.integer("batch_size", 1..=256)?.map(|count| count as usize);
        self.learning_rate_multiplier = values.number("learning_rate_multiplier", 1e-6..=1e4)?;
        values.finish()
    }
}

fn read_suffix(fields: &mut Fields) -> ApiResult<Option<String>> {
    let Some(suffix) = fields.text("suffix")? else { return Ok(None) };
    let length = suffix.chars().count();
    if !(1..=64).contains(&length) {
        let message = format!("Invalid 'suffix': expected 1 to 64 characters, but got {length}.");
        return Err(ApiError::invalid("suffix", message));
    }
    // It becomes part of a model's name, and that of addresses.
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    Ok(Some(suffix.chars().map(plain).collect()))
}

fn read_metadata(fields: &mut Fields) -> ApiResult<Option<BTreeMap<String, String>>> {
    let pairs = match fields.take("metadata") {
        None => return Ok(None),
        Some(Value::Object(pairs)) => pairs,
        Some(other) => return Err(wrong_type("metadata", "an object", &other)),
    };
    if pairs.len() > 16 {
        return Err(ApiError::invalid(
            "metadata",
            format!("Invalid 'metadata': at most 16 pairs, but got {}.", pairs.len()),
        ));
    }
    let mut metadata = BTreeMap::new();
    for (name, value) in pairs {
        let place = format!("metadata.{name}");
        let Value::String(value) = value else { return Err(wrong_type(&place, "a string", &value)) };
        if name.chars().count() > 64 || value.chars().count() > 512 {
            let message = format!("Invalid '{place}': a key has at most 64 characters and a value at most 512.");
            return Err(ApiError::invalid(&place, message));
        }
        metadata.insert(name, value);
    }
    Ok(Some(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: Value) -> ApiResult<Order> {
        let mut body = json!({ "model": "organism", "training_file": "file-1" });
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        Order::parse(body.to_string().as_bytes())
    }

    #[test]
    fn both_ways_to_write_hyperparameters_are_one() {
        let values = json!({ "n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5 });
        let new = json!({ "method": { "type": "supervised", "supervised": { "hyperparameters": values } } });
        let order = parse(new).unwrap();
        assert_eq!(order, parse(json!({ "hyperparameters": values })).unwrap());
        assert_eq!((order.epochs, order.batch_size, order.learning_rate_multiplier), (Some(3), None, Some(0.5)));
        assert_eq!(parse(json!({ "suffix": "my test/ü" })).unwrap().suffix.as_deref(), Some("my-test--"));
    }

    #[test]
    fn every_wrong_part_is_named() {
        let supervised =
            |values: Value| json!({ "method": { "type": "supervised", "supervised": { "hyperparameters": values } } });
        let place = |name: &str| format!("method.supervised.hyperparameters.{name}");
        for (fields, param) in [
            (json!({ "training_file": null }), "training_file".to_string()),
            (json!({ "seed": -1 }), "seed".into()),
            (json!({ "suffix": "" }), "suffix".into()),
            (json!({ "metadata": { "a": 1 } }), "metadata.a".into()),
            (json!({ "method": { "type": "dpo" } }), "method.type".into()),
            (supervised(json!({ "n_epochs": 0 })), place("n_epochs")),
            (supervised(json!({ "batch_size": 257 })), place("batch_size")),
            (supervised(json!({ "learning_rate_multiplier": 0 })), place("learning_rate_multiplier")),
            (supervised(json!({ "beta": 1 })), place("beta")),
            (json!({ "integrations": [{}] }), "integrations".into()),
            (json!({ "epochs": 1 }), "epochs".into()),
        ] {
            let error = parse(fields).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param), (400, Some(param)));
        }
    }
}
