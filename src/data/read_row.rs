//! Reads the JSON text of one row: the fast way for good rows, and the words for bad ones.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::bail;
use crate::data::chat::Role;
use crate::data::record::Record;
use crate::error::{Error, Result, nearest};

/// What a file's objects hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `{"messages": [{"role", "content"}, ..], "weight"?}`.
    Chat,
    /// `{"instruction", "input"?, "output"}`, or `{"instruction", "instances": [{"input"?, "output"}]}`.
    Alpaca,
}

/// The row in `text`, which is one JSON object, with blanks around it at most; errors do not say where `text` stands.
pub(super) fn read(text: &str, shape: Shape) -> Result<Record<'_>> {
    let record = match shape {
        Shape::Chat => serde_json::from_str(text).map_err(|_| match read_value(text) {
            Ok(value) => diagnose_chat(&value),
            Err(error) => error,
        })?,
        Shape::Alpaca => from_alpaca(read_value(text)?)?,
    };
    record.check()?;
    Ok(record)
}

/// Any JSON value, or why `text` is none.
pub(super) fn read_value(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| describe_syntax(&error, text))
}

/// Why `text` is not JSON, in words that name the column.
pub(super) fn describe_syntax(error: &serde_json::Error, text: &str) -> Error {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        return Error::input(format!("found a JSON value that is cut short ({reason}), expected a whole JSON object"))
            .with_help("write each row on one line, and check that the file was written to its end");
    }
    let found = Error::input(format!(
        "found text that is not JSON at column {} ({reason}), expected a JSON object",
        error.column()
    ));
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let near: String = line.chars().skip(error.column().saturating_sub(3)).take(6).collect();
    if ["NaN", "Inf"].iter().any(|word| near.contains(word)) {
        return found.with_help("write a number: JSON has neither NaN nor infinities");
    }
    match text.trim_start().chars().next() {
        Some('{') => found,
        _ => found.with_help("write one row per line: {\"messages\": [..]}"),
    }
}

/// A string that borrows from the input unless it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct RecordMessage<'a> {
    role: Role,
    #[serde(borrow)]
    content: Cow<'a, str>,
    /// OpenAI's 0 or 1: only 1 means here what it means there.
    #[serde(default)]
    weight: Option<f64>,
}

struct RecordVisitor;

impl<'de: 'a, 'a> Deserialize<'de> for Record<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a row: {\"messages\": [..]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Record<'de>, A::Error> {
        let mut messages: Option<Vec<RecordMessage>> = None;
        let mut weight: Option<f64> = None;
        let mut unknown_keys = Vec::new();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "messages" => messages = Some(map.next_value()?),
                "weight" => weight = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    unknown_keys.push(key.into_owned());
                }
            }
        }
        let messages = messages.ok_or_else(|| serde::de::Error::missing_field("messages"))?;
        if messages.iter().any(|message| message.weight.is_some_and(|weight| weight != 1.0)) {
            return Err(serde::de::Error::custom("a message has a weight"));
        }
        let messages = messages.into_iter().map(|message| (message.role, message.content)).collect();
        Ok(Record { messages, weight: weight.unwrap_or(1.0), unknown_keys })
    }
}

fn from_alpaca(value: Value) -> Result<Record<'static>> {
    let Value::Object(mut object) = value else { bail!("found {}, expected a JSON object", kind(&value)) };
    let instruction = take_text(&mut object, "instruction")?;
    let mut pair = match object.remove("instances") {
        None => std::mem::take(&mut object),
        Some(Value::Array(mut instances)) if instances.len() == 1 && instances[0].is_object() => {
            match instances.remove(0) {
                Value::Object(instance) => instance,
                _ => unreachable!("checked to be an object"),
            }
        }
        Some(Value::Array(instances)) => bail!("`instances` has {} items, expected one object", instances.len();
            help: "write one row per instance"),
        Some(other) => bail!("`instances` is {}, expected a list of one object", kind(&other)),
    };
    let input = if pair.get("input").is_none_or(Value::is_null) {
        pair.remove("input").and(None)
    } else {
        Some(take_text(&mut pair, "input")?)
    };
    let output = take_text(&mut pair, "output")?;
    let question = match input {
        Some(input) if !input.is_empty() => format!("{instruction}\n\n{input}"),
        _ => instruction,
    };
    let unknown_keys = object.into_iter().chain(pair).map(|(key, _)| key).collect();
    let messages = vec![(Role::User, question.into()), (Role::Assistant, output.into())];
    Ok(Record { messages, weight: 1.0, unknown_keys })
}

fn take_text(object: &mut Map<String, Value>, key: &str) -> Result<String> {
    match object.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => bail!("`{key}` is {}, expected a string", kind(&other)),
        None => Err(missing(key, object)),
    }
}

/// The shape of a file whose first object is `value`.
pub(super) fn shape_of(value: &Value) -> Result<Shape> {
    match value {
        Value::Object(object) if object.contains_key("messages") => Ok(Shape::Chat),
        Value::Object(object) if object.contains_key("instruction") => Ok(Shape::Alpaca),
        Value::Object(object) => Err(missing("messages", object)),
        other => {
            bail!("found {}, expected a JSON object", kind(other); help: "write one row per line: {{\"messages\": [..]}}")
        }
    }
}

/// What is wrong with a chat row that is JSON but could not be read.
pub(super) fn diagnose_chat(value: &Value) -> Error {
    match find_fault(value) {
        Err(error) => error,
        Ok(()) => Error::input("the row could not be read, expected {\"messages\": [..]}"),
    }
}

fn find_fault(value: &Value) -> Result<()> {
    let Value::Object(object) = value else { bail!("found {}, expected a JSON object", kind(value)) };
    let messages = match object.get("messages") {
        None => return Err(missing("messages", object)),
        Some(Value::Array(messages)) => messages,
        Some(other) => bail!("`messages` is {}, expected a list", kind(other)),
    };
    for (index, message) in messages.iter().enumerate() {
        let number = index + 1;
        let Value::Object(message) = message else {
            bail!("message {number} is {}, expected an object with `role` and `content`", kind(message))
        };
        match message.get("role") {
            None => return Err(missing("role", message).context(format!("message {number}"))),
            Some(Value::String(role)) if Role::parse(role).is_some() => {}
            Some(Value::String(role)) => {
                let error = Error::input(format!(
                    "message {number} has role `{role}`, expected `system`, `user` or `assistant`"
                ));
                return Err(match nearest(&role.to_lowercase(), Role::NAMES) {
                    Some(name) => error.with_help(format!("write `{name}`")),
                    None => error,
                });
            }
            Some(other) => bail!("message {number} has {} as `role`, expected a string", kind(other)),
        }
        match message.get("content") {
            None => return Err(missing("content", message).context(format!("message {number}"))),
            Some(Value::String(_)) => {}
            Some(other) => bail!("message {number} has {} as `content`, expected a string", kind(other)),
        }
        match message.get("weight") {
            None | Some(Value::Null) => {}
            Some(weight) if weight.as_f64() == Some(1.0) => {}
            Some(weight) => bail!("message {number} has weight {weight}, expected weights of rows, not of messages";
                help: "put `weight` beside `messages`"),
        }
    }
    match object.get("weight") {
        None | Some(Value::Null | Value::Number(_)) => Ok(()),
        Some(other) => bail!("`weight` is {}, expected a number", kind(other)),
    }
}

/// `key` is not there: which keys are, and which of them was meant.
fn missing(key: &str, object: &Map<String, Value>) -> Error {
    let found: Vec<String> = object.keys().take(6).map(|key| format!("`{key}`")).collect();
    let error = Error::input(match found.len() {
        0 => format!("no `{key}`, found an empty object"),
        _ => format!("no `{key}`, found only {}", found.join(", ")),
    });
    match nearest(key, object.keys().map(String::as_str)) {
        Some(meant) => error.with_help(format!("rename `{meant}` to `{key}`")),
        None if key == "messages" => error.with_help(
            "write {\"messages\": [{\"role\": .., \"content\": ..}]} or Alpaca's `instruction`, `input`, `output`",
        ),
        None => error,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) if text.chars().count() <= 20 => format!("the string `{text}`"),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
