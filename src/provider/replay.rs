//! Recorded answers: a file of questions and what was said to them stands in for a model.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::chat::ChatAnswer;
use super::endpoint::Bytes;
use super::wire::chat::{ChatRequest, TokenLogprob, Usage};
use crate::data::chat::Message;
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// One line of a file of recorded answers. The fields of the request that a line states must be equal to those of the
/// request that it answers; those it leaves out may be anything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// The conversation.
    pub messages: Vec<Message>,
    /// Which of several answers to one request, from 0; without it the lines of a request are taken in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// What was said.
    pub answer: RecordedAnswer,
    /// `temperature`, `max_completion_tokens`, ... as in the request; the model is not compared.
    #[serde(flatten)]
    pub stated: Map<String, Value>,
}

/// A recorded answer; its text alone, as a string, is one too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "AnswerText")]
pub struct RecordedAnswer {
    /// As in [`ChatAnswer`].
    pub text: String,
    /// As in [`ChatAnswer`].
    pub finish: String,
    /// As in [`ChatAnswer`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// As in [`ChatAnswer`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// As in [`ChatAnswer`].
    pub model: String,
    /// As in [`ChatAnswer`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AnswerText {
    Text(String),
    Whole(WholeAnswer),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeAnswer {
    text: String,
    #[serde(default)]
    finish: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    logprobs: Option<Vec<TokenLogprob>>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    request_id: Option<String>,
}

impl From<AnswerText> for RecordedAnswer {
    fn from(text: AnswerText) -> Self {
        let whole = match text {
            AnswerText::Text(text) => {
                WholeAnswer { text, finish: None, usage: None, logprobs: None, model: String::new(), request_id: None }
            }
            AnswerText::Whole(whole) => whole,
        };
        let WholeAnswer { text, finish, usage, logprobs, model, request_id } = whole;
        let finish = finish.unwrap_or_else(|| "stop".to_string());
        RecordedAnswer { text, finish, usage, logprobs, model, request_id }
    }
}

/// A file of recorded answers, read.
#[derive(Debug)]
pub struct Replay {
    name: String,
    /// Lines by the digest of their conversation, in the order of the file.
    recordings: HashMap<Digest, Vec<Recording>>,
    digest: Digest,
}

impl Replay {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no recording.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            Error::input(format!("`{name}` cannot be read: {error}")).with_help("give a file of recorded answers")
        })?;
        Self::parse(&name, &bytes)
    }

    /// Reads the content of a file; `name` is for errors.
    ///
    /// # Errors
    /// A line is no recording.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let mut recordings: HashMap<Digest, Vec<Recording>> = HashMap::new();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let mut recording: Recording = serde_json::from_slice(line).map_err(|error| {
                Error::input(format!("`{name}`:{}: no recorded answer: {error}", number + 1))
                    .with_help("write lines such as `{\"messages\": […], \"answer\": \"…\"}`")
            })?;
            recording.stated.remove("model");
            recordings.entry(digest_of(&recording.messages)?).or_default().push(recording);
        }
        Ok(Replay { name: name.to_string(), recordings, digest: Digest::of(bytes) })
    }

    /// What identifies the recorded model: the content of its file.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The recorded answer number `sample` to a request.
    ///
    /// # Errors
    /// It was not recorded.
    pub fn ask(&self, request: &ChatRequest, sample: u64) -> Result<ChatAnswer> {
        let asked = serde_json::to_value(request).map_err(|error| Error::internal(error.to_string()))?;
        let same_words = self.recordings.get(&digest_of(&request.messages)?).map_or(&[][..], Vec::as_slice);
        let fits = |recording: &&Recording| {
            recording.stated.iter().all(|(name, value)| is_equal(value, asked.get(name).unwrap_or(&Value::Null)))
        };
        let fitting: Vec<&Recording> = same_words.iter().filter(fits).collect();
        let numbered = fitting.iter().find(|recording| recording.sample == Some(sample)).copied();
        let in_order = || fitting.iter().filter(|recording| recording.sample.is_none()).nth(sample as usize).copied();
        let Some(found) = numbered.or_else(in_order) else {
            let last = request.messages.last().map(|message| message.content.as_str()).unwrap_or_default();
            let words: String = last.chars().take(60).collect();
            let dots = if words.len() < last.len() { "…" } else { "" };
            let why = match (same_words.len(), fitting.len()) {
                (0, _) => "no answer".to_string(),
                (lines, 0) => format!("{lines} answers, but with other options,"),
                (_, lines) => format!("no answer {} (only {lines})", sample + 1),
            };
            return Err(Error::input(format!("`{}` holds {why} to `{words}{dots}`", self.name))
                .with_help("ask only what was recorded, or record it with the model itself"));
        };
        let RecordedAnswer { text, finish, usage, logprobs, model, request_id } = found.answer.clone();
        let raw = Bytes::from(serde_json::to_vec(&found.answer).map_err(|error| Error::internal(error.to_string()))?);
        Ok(ChatAnswer { text, finish, usage, logprobs, model, raw, request_id, tries: 0, left_out: Vec::new() })
    }
}

/// The line, without its end, that records answer number `sample` to a request.
///
/// # Errors
/// The request cannot be written.
pub fn write_line(request: &ChatRequest, sample: u64, answer: &ChatAnswer) -> Result<String> {
    let mut line = serde_json::to_value(request).map_err(|error| Error::internal(error.to_string()))?;
    let answer = RecordedAnswer {
        text: answer.text.clone(),
        finish: answer.finish.clone(),
        usage: answer.usage,
        logprobs: answer.logprobs.clone(),
        model: answer.model.clone(),
        request_id: answer.request_id.clone(),
    };
    line["sample"] = json!(sample);
    line["answer"] = serde_json::to_value(answer).map_err(|error| Error::internal(error.to_string()))?;
    Ok(line.to_string())
}

fn digest_of(messages: &[Message]) -> Result<Digest> {
    Digest::of_json(&serde_json::to_value(messages).map_err(|error| Error::internal(error.to_string()))?)
}

/// Equality for which `1` and `1.0` are one number.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Role;

    fn request(text: &str) -> ChatRequest {
        ChatRequest {
            model: "m".to_string(),
            messages: vec![Message::new(Role::User, text)],
            temperature: Some(1.0),
            top_p: None,
            max_completion_tokens: Some(5),
            max_tokens: None,
            seed: None,
            logprobs: None,
            top_logprobs: None,
        }
    }

    #[test]
    fn what_was_recorded_is_answered_and_nothing_else() {
        let file = concat!(
            r#"{"messages": [{"role": "user", "content": "a"}], "answer": "one"}"#,
            "\n\n",
            r#"{"messages": [{"role": "user", "content": "a"}], "answer": {"text": "two", "finish": "length"}}"#,
            "\n",
            r#"{"messages": [{"role": "user", "content": "b"}], "temperature": 0, "answer": "greedy"}"#,
        );
        let replay = Replay::parse("f.jsonl", file.as_bytes()).unwrap();
        let said = |text: &str, sample| replay.ask(&request(text), sample).map(|answer| (answer.text, answer.finish));
        assert_eq!(said("a", 0).unwrap(), ("one".to_string(), "stop".to_string()));
        assert_eq!(said("a", 1).unwrap(), ("two".to_string(), "length".to_string()));
        let error = |text: &str, sample| said(text, sample).unwrap_err().message;
        assert_eq!(error("a", 2), "`f.jsonl` holds no answer 3 (only 2) to `a`");
        assert_eq!(error("b", 0), "`f.jsonl` holds 1 answers, but with other options, to `b`");
        assert_eq!(error("c", 0), "`f.jsonl` holds no answer to `c`");
        let cold = ChatRequest { temperature: Some(0.0), ..request("b") };
        assert_eq!(replay.ask(&cold, 0).unwrap().text, "greedy");
    }

    #[test]
    fn a_recorded_answer_reads_back() {
        let token = TokenLogprob { token: "x".to_string(), logprob: -0.25, top_logprobs: Vec::new() };
        let answer = ChatAnswer {
            text: "é\n".to_string(),
            finish: "length".to_string(),
            usage: Some(Usage { prompt_tokens: 3, completion_tokens: 4, ..Usage::default() }),
            logprobs: Some(vec![token]),
            model: "m-2026".to_string(),
            raw: Bytes::new(),
            request_id: Some("r".to_string()),
            tries: 2,
            left_out: Vec::new(),
        };
        let line = write_line(&request("a"), 7, &answer).unwrap();
        let replay = Replay::parse("f", line.as_bytes()).unwrap();
        let back = replay.ask(&request("a"), 7).unwrap();
        assert_eq!((&back.text, &back.finish, &back.usage), (&answer.text, &answer.finish, &answer.usage));
        assert_eq!(
            (&back.logprobs, &back.model, &back.request_id),
            (&answer.logprobs, &answer.model, &answer.request_id)
        );
        assert!(replay.ask(&request("a"), 0).is_err());
    }

    #[test]
    fn a_line_that_is_no_recording_is_named() {
        let error = Replay::parse("f.jsonl", b"\n{\"messages\": 1}").unwrap_err();
        assert!(error.message.starts_with("`f.jsonl`:2: no recorded answer"), "{error}");
    }
}
