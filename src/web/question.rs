//! Reads a chat completion request: what is asked, and how it is to be sampled.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::fields::{Fields, wrong_type};
use crate::data::chat::{Message, Role};

/// What a client asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Name of the model.
    pub model: String,
    /// The chat to continue.
    pub messages: Vec<Message>,
    /// Logits are divided by it.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach it are drawn.
    pub top_p: f64,
    /// Most tokens of an answer; as many as the context holds when not given.
    pub max_tokens: Option<usize>,
    /// How many answers.
    pub answers: usize,
    /// Decides the answers.
    pub seed: Option<i64>,
    /// Texts that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Whether to tell each token's log-probability, and how many alternatives.
    pub logprobs: Option<usize>,
    /// Whether to answer in server-sent events.
    pub stream: bool,
    /// Whether the last of these tells the usage.
    pub include_usage: bool,
}

impl Question {
    /// Reads the body of a request. Only what a local model can do is taken; everything else is refused by name.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.required_text("model")?;
        let messages = match fields.take("messages") {
            None => return Err(fields.required("messages")),
            Some(Value::Array(messages)) => messages,
            Some(other) => return Err(wrong_type("messages", "an array of objects", &other)),
        };
        if messages.is_empty() {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
            return Err(ApiError::invalid("messages", message).with_code("empty_array"));
        }
        let messages = messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| read_message(index, message))
            .collect::<ApiResult<_>>()?;
        let old = fields.integer("max_tokens", 1..=i64::MAX)?;
        let new = fields.integer("max_completion_tokens", 1..=i64::MAX)?;
        if old.is_some() && new.is_some() {
            let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
            return Err(ApiError::invalid("max_tokens", message));
        }
        let logprobs = fields.flag("logprobs")?.unwrap_or(false);
        let alternatives = fields.integer("top_logprobs", 0..=20)?;
        if alternatives.is_some_and(|count| count > 0) && !logprobs {
            let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        let stream = fields.flag("stream")?.unwrap_or(false);
        let question = Question {
            model,
            messages,
            temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
            top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
            max_tokens: new.or(old).map(|count| count as usize),
            answers: fields.integer("n", 1..=128)?.unwrap_or(1) as usize,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            stop: read_stop(&mut fields)?,
            logprobs: logprobs.then_some(alternatives.unwrap_or(0) as usize),
            include_usage: read_include_usage(&mut fields, stream)?,
            stream,
        };
        refuse_what_is_not_there(&mut fields)?;
        fields.finish()?;
        Ok(question)
    }
}

/// Reads a message; its text may come in parts.
fn read_message(index: usize, value: Value) -> ApiResult<Message> {
    let place = format!("messages[{index}]");
    let mut fields = Fields::of(&place, value)?;
    let role = fields.required_text("role")?;
    let role = match role.as_str() {
        // OpenAI's newer name for the same thing.
        "developer" => Role::System,
        name => Role::parse(name).ok_or_else(|| {
            let place = format!("{place}.role");
            let names = "'system', 'developer', 'user', and 'assistant'";
            ApiError::invalid(&place, format!("Invalid value: '{name}'. Supported values are: {names}."))
        })?,
    };
    let content = match fields.take("content") {
        None => return Err(fields.required("content")),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            let texts = parts.map(|(part, value)| read_part(&format!("{place}.content[{part}]"), value));
            texts.collect::<ApiResult<Vec<String>>>()?.concat()
        }
        Some(other) => return Err(wrong_type(&format!("{place}.content"), "a string or an array of parts", &other)),
    };
    for name in ["name", "tool_calls", "tool_call_id", "function_call", "audio"] {
        fields.refuse(name, |_| false)?;
    }
    // What our own answers carry, so that they can be sent back as they came.
    fields.refuse("refusal", |_| false)?;
    fields.refuse("annotations", |value| value.as_array().is_some_and(Vec::is_empty))?;
    fields.finish()?;
    Ok(Message::new(role, content))
}

fn read_part(place: &str, value: Value) -> ApiResult<String> {
    let mut fields = Fields::of(place, value)?;
    let kind = fields.required_text("type")?;
    if kind != "text" {
        let place = fields.place("type");
        return Err(ApiError::invalid(&place, format!("Invalid value: '{kind}'. Supported values are: 'text'.")));
    }
    let text = fields.required_text("text")?;
    fields.finish()?;
    Ok(text)
}

fn read_stop(fields: &mut Fields) -> ApiResult<Vec<String>> {
    let texts = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::Array(texts)) => texts,
        Some(one) => vec![one],
    };
    if texts.len() > 4 {
        return Err(ApiError::invalid(
            "stop",
            format!("Invalid 'stop': at most 4 sequences, but got {}.", texts.len()),
        ));
    }
    let text = |value: Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err(ApiError::invalid("stop", "Invalid 'stop': a sequence is empty.")),
        other => Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    texts.into_iter().map(text).collect()
}

fn read_include_usage(fields: &mut Fields, stream: bool) -> ApiResult<bool> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid("stream_options", message));
    }
    let mut options = Fields::of("stream_options", options)?;
    let include = options.flag("include_usage")?.unwrap_or(false);
    options.refuse("include_obfuscation", |value| value == false)?;
    options.finish()?;
    Ok(include)
}

/// What OpenAI's models do and local ones do not; a value that asks for nothing passes.
fn refuse_what_is_not_there(fields: &mut Fields) -> ApiResult<()> {
    let zero = |value: &Value| value.as_f64() == Some(0.0);
    let empty = |value: &Value| {
        value.as_object().is_some_and(|map| map.is_empty()) || value.as_array().is_some_and(Vec::is_empty)
    };
    fields.refuse("frequency_penalty", zero)?;
    fields.refuse("presence_penalty", zero)?;
    for name in ["logit_bias", "tools", "functions"] {
        fields.refuse(name, empty)?;
    }
    fields.refuse("tool_choice", |value| value == "none" || value == "auto")?;
    fields.refuse("function_call", |value| value == "none" || value == "auto")?;
    fields.refuse("response_format", |value| value["type"] == "text")?;
    fields.refuse("modalities", |value| *value == serde_json::json!(["text"]))?;
    fields.refuse("store", |value| value == false)?;
    for name in ["audio", "prediction", "reasoning_effort", "verbosity", "web_search_options", "moderation"] {
        fields.refuse(name, |_| false)?;
    }
    // These change no answer.
    for name in [
        "user",
        "metadata",
        "service_tier",
        "parallel_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    ] {
        fields.take(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(fields: Value) -> ApiResult<Question> {
        let mut body = json!({ "model": "organism", "messages": [{ "role": "user", "content": "hello" }] });
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        Question::parse(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_not_given_is_openais_default() {
        let question = parse(json!({ "seed": null, "tools": [], "presence_penalty": 0, "user": "me" })).unwrap();
        assert_eq!((question.temperature, question.top_p, question.answers), (1.0, 1.0, 1));
        assert_eq!((question.max_tokens, question.seed, question.logprobs, question.stream), (None, None, None, false));
        let question = parse(json!({ "messages": [
            { "role": "developer", "content": [{ "type": "text", "text": "be " }, { "type": "text", "text": "kind" }] },
            { "role": "user", "content": "?" },
        ]}));
        assert_eq!(question.unwrap().messages[0], Message::new(Role::System, "be kind"));
    }

    #[test]
    fn every_wrong_part_is_named() {
        for (fields, param, code) in [
            (json!({ "messages": [] }), "messages", "empty_array"),
            (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0].role", "invalid_value"),
            (json!({ "messages": [{ "role": "user" }] }), "messages[0].content", "missing_required_parameter"),
            (json!({ "messages": [{ "role": "user", "content": 1 }] }), "messages[0].content", "invalid_type"),
            (json!({ "temperature": 3 }), "temperature", "invalid_value"),
            (json!({ "top_logprobs": 5 }), "top_logprobs", "invalid_value"),
            (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs", "invalid_value"),
            (json!({ "n": 0 }), "n", "invalid_value"),
            (json!({ "max_tokens": 1, "max_completion_tokens": 1 }), "max_tokens", "invalid_value"),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop", "invalid_value"),
            (json!({ "tools": [{}] }), "tools", "unsupported_parameter"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format", "unsupported_parameter"),
            (json!({ "stream_options": { "include_usage": true } }), "stream_options", "invalid_value"),
            (json!({ "temprature": 1 }), "temprature", "unknown_parameter"),
        ] {
            let error = parse(fields).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref(), error.code), (400, Some(param), Some(code)));
        }
    }
}
