//! The fields of a JSON request, each read once with its type and range; what nobody reads is an error.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};

/// The object of a request, or of one of its parts.
pub struct Fields {
    values: Map<String, Value>,
    /// Name of the part, with a dot after it; empty for the request itself.
    prefix: String,
}

impl Fields {
    /// Reads the body of a request.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let wrong = |found: String| {
            ApiError::malformed(format!(
                "We could not parse the JSON body of your request ({found}). The API expects a JSON object."
            ))
        };
        match serde_json::from_slice(body) {
            Ok(Value::Object(values)) => Ok(Fields { values, prefix: String::new() }),
            Ok(other) => Err(wrong(format!("it is {}", kind(&other)))),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Reads an object that stands at `place` in the request.
    pub fn of(place: &str, value: Value) -> ApiResult<Self> {
        match value {
            Value::Object(values) => Ok(Fields { values, prefix: format!("{place}.") }),
            other => Err(wrong_type(place, "an object", &other)),
        }
    }

    /// Takes a field; null is the same as nothing.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }
    /// A string.
    pub fn text(&mut self, name: &str) -> ApiResult<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.place(name), "a string", &other)),
        }
    }
    /// A string that must be there.
    pub fn required_text(&mut self, name: &str) -> ApiResult<String> {
        self.text(name)?.ok_or_else(|| self.required(name))
    }
    /// true or false.
    pub fn flag(&mut self, name: &str) -> ApiResult<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(&self.place(name), "a boolean", &other)),
        }
    }
    /// A number in a range.
    pub fn number(&mut self, name: &str, range: std::ops::RangeInclusive<f64>) -> ApiResult<Option<f64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(&self.place(name), "a number", &value))?;
        match range.contains(&number) {
            true => Ok(Some(number)),
            false => Err(self.out_of_range(name, &value, range.start(), range.end())),
        }
    }
    /// An integer in a range.
    pub fn integer(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> ApiResult<Option<i64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| wrong_type(&self.place(name), "an integer", &value))?;
        match range.contains(&number) {
            true => Ok(Some(number)),
            false => Err(self.out_of_range(name, &value, range.start(), range.end())),
        }
    }
    /// Refuses a known field that this server cannot follow, unless it has the value that asks for nothing.
    pub fn refuse(&mut self, name: &str, neutral: impl Fn(&Value) -> bool) -> ApiResult<()> {
        match self.take(name) {
            Some(value) if !neutral(&value) => {
                let place = self.place(name);
                let message = format!("Unsupported parameter: '{place}' is not supported by local models.");
                Err(ApiError::invalid(&place, message).with_code("unsupported_parameter"))
            }
            _ => Ok(()),
        }
    }
    /// Refuses what is left.
    pub fn finish(self) -> ApiResult<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => {
                let place = format!("{}{name}", self.prefix);
                let message = format!("Unrecognized request argument supplied: {place}");
                Err(ApiError::invalid(&place, message).with_code("unknown_parameter"))
            }
        }
    }

    /// The error of a field that is not there.
    pub fn required(&self, name: &str) -> ApiError {
        let place = self.place(name);
        ApiError::invalid(&place, format!("Missing required parameter: '{place}'."))
            .with_code("missing_required_parameter")
    }
    /// Where a field stands in the request.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    fn out_of_range<T: std::fmt::Display>(&self, name: &str, found: &Value, least: &T, most: &T) -> ApiError {
        let place = self.place(name);
        ApiError::invalid(
            &place,
            format!("Invalid '{place}': expected a value from {least} to {most}, but got {found}."),
        )
    }
}

/// The error of a value of another type.
pub fn wrong_type(place: &str, expected: &str, found: &Value) -> ApiError {
    let message = format!("Invalid type for '{place}': expected {expected}, but got {} instead.", kind(found));
    ApiError::invalid(place, message).with_code("invalid_type")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_names_its_field() {
        let fields = || Fields::parse(br#"{"n": 200, "seed": "x", "stream": null, "odd": 1}"#).unwrap();
        let param = |error: ApiError| (error.param.unwrap(), error.code.unwrap());
        assert_eq!(param(fields().integer("n", 1..=128).unwrap_err()), ("n".into(), "invalid_value"));
        assert_eq!(param(fields().integer("seed", 0..=9).unwrap_err()), ("seed".into(), "invalid_type"));
        assert_eq!(fields().flag("stream").unwrap(), None);
        assert_eq!(param(fields().required_text("model").unwrap_err()), ("model".into(), "missing_required_parameter"));
        assert_eq!(param(fields().refuse("odd", |_| false).unwrap_err()), ("odd".into(), "unsupported_parameter"));
        assert_eq!(
            param(Fields::of("method", serde_json::json!({"x": 1})).unwrap().finish().unwrap_err()).0,
            "method.x"
        );
        assert_eq!(Fields::parse(b"[]").err().unwrap().status, 400);
        assert!(Fields::parse(b"{").is_err());
    }
}
