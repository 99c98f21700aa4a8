//! Why a request to a provider did not end well, told apart by what can be done about it.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Kind};

/// Kinds of failure, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The request never left: connection refused, unknown host. Nothing happened at the other end.
    NotSent,
    /// As [`Class::NotSent`], and trying again will not help: a bad URL, a certificate that cannot be trusted.
    Unreachable,
    /// It was sent and no whole answer came: nobody knows whether it happened.
    Lost,
    /// The server failed (5xx, 408, 409): for a request that changes something nobody knows whether it happened.
    Server,
    /// An answer of success that cannot be read.
    Malformed,
    /// The server is still loading its model.
    Loading,
    /// Too many requests or tokens for now.
    RateLimit,
    /// The load rises too fast, even within the limits.
    SlowDown,
    /// The day's fine-tunes of a model are used up.
    DailyLimit,
    /// No money left.
    Quota,
    /// The key is wrong.
    Authentication,
    /// The key may not do this.
    Forbidden,
    /// There is no such model, file or job, at least for this key.
    NotFound,
    /// The request itself is wrong.
    BadRequest,
}

/// One failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What kind.
    pub class: Class,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// The provider's `code`.
    pub code: Option<String>,
    /// The field that the provider complains about.
    pub param: Option<String>,
    /// The provider's own words, without keys.
    pub message: String,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider says outright that another try is of no use.
    pub is_final: bool,
    /// Number under which the provider's support finds the request.
    pub request_id: Option<String>,
}

impl Fault {
    /// A failure without an answer.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        let message = message.into();
        Fault {
            class,
            message,
            status: None,
            code: None,
            param: None,
            retry_after: None,
            is_final: false,
            request_id: None,
        }
    }

    /// The failure that an answer other than 2xx tells. `body` may be anything; OpenAI's shape, the older shape of vLLM
    /// and plain text are understood.
    pub fn of_answer(status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let body_text = String::from_utf8_lossy(body);
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let error = json.as_ref().map(|json| json.get("error").filter(|error| error.is_object()).unwrap_or(json));
        let field = |name: &str| {
            let value = error?.get(name)?;
            value.as_str().map(str::to_string).or_else(|| value.as_i64().map(|number| number.to_string()))
        };
        let (code, kind) = (field("code"), field("type"));
        let said = field("message").or_else(|| json.as_ref()?.get("error")?.as_str().map(str::to_string));
        let message = said.or_else(|| json.as_ref()?.get("detail")?.as_str().map(str::to_string));
        let class = classify(status, code.as_deref(), kind.as_deref());
        Fault {
            class,
            status: Some(status),
            code,
            param: field("param"),
            message: message.unwrap_or_else(|| first_words(&body_text)),
            retry_after,
            is_final: false,
            request_id: None,
        }
    }

    /// Whether the same request may be sent again, where sending it twice does no harm.
    pub fn is_retryable(&self) -> bool {
        use Class::*;
        !self.is_final && matches!(self.class, NotSent | Lost | Server | Malformed | Loading | RateLimit | SlowDown)
    }

    /// Whether the other end may have acted on the request although no answer of success came.
    pub fn may_have_happened(&self) -> bool {
        matches!(self.class, Class::Lost | Class::Server | Class::Malformed)
    }

    /// What the user is told: who said what, and what to do.
    pub fn into_error(self, provider: &str) -> Error {
        let status = self.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let said = format!("`{provider}`{status}: {}", self.message.trim().trim_end_matches('.'));
        let field = self.param.as_deref().map(|param| format!(", field `{param}`")).unwrap_or_default();
        let (kind, help) = match self.class {
            Class::NotSent => {
                (Kind::Environment, "check that the server runs, the address in `base_url` and the network")
            }
            Class::Unreachable => {
                (Kind::Input, "check the scheme, host and port of `base_url`, and the server's certificate")
            }
            Class::Lost | Class::Server => {
                (Kind::Environment, "run the same command again: what is finished is not repeated")
            }
            Class::Malformed => {
                (Kind::Environment, "check that `base_url` points at an OpenAI-compatible server, usually .../v1")
            }
            Class::Loading => (Kind::Environment, "wait until the server has loaded its model, then run again"),
            Class::RateLimit | Class::SlowDown => {
                (Kind::Environment, "run again later, or lower `requests_per_minute` of the provider in `drylab.toml`")
            }
            Class::DailyLimit => (Kind::Environment, "run the same command again tomorrow: finished jobs are kept"),
            Class::Quota => (Kind::Environment, "add credit at the provider, then run the same command again"),
            Class::Authentication => {
                (Kind::Input, "set the environment variable that `keys` of the provider names to a valid key")
            }
            Class::Forbidden => (Kind::Input, "use a key, project or model that may do this"),
            Class::NotFound => {
                (Kind::Input, "check the model's name and that the key belongs to the project that owns it")
            }
            Class::BadRequest => (Kind::Input, "mend what the provider complains about"),
        };
        let help = if field.is_empty() { help.to_string() } else { format!("{help}{field}") };
        Error::new(kind, said).with_help(help)
    }
}

/// The class of an answer other than 2xx; by status, code and type, never by the message.
fn classify(status: u16, code: Option<&str>, kind: Option<&str>) -> Class {
    let named = |name: &str| code == Some(name) || kind == Some(name);
    match status {
        // No `Retry-After` is a hint that waiting will not help, yet some servers never send it: the code decides.
        402 => Class::Quota,
        429 if named("insufficient_quota") || named("credit_balance_exhausted") => Class::Quota,
        429 if named("daily_rate_limit_exceeded") => Class::DailyLimit,
        429 if named("slow_down") => Class::SlowDown,
        429 => Class::RateLimit,
        401 => Class::Authentication,
        403 => Class::Forbidden,
        404 | 410 => Class::NotFound,
        408 | 409 => Class::Server,
        503 if named("unavailable_error") => Class::Loading,
        500.. => Class::Server,
        _ => Class::BadRequest,
    }
}

/// The beginning of a page that was not meant for programs, without its tags.
fn first_words(text: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => plain.push(letter),
            _ => {}
        }
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(200) {
        _ if line.is_empty() => "no message".to_string(),
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str, kind: &str) -> Class {
        let body = serde_json::json!({ "error": { "message": "m", "type": kind, "param": null, "code": code } });
        Fault::of_answer(status, body.to_string().as_bytes(), None).class
    }

    #[test]
    fn each_429_has_its_class() {
        assert_eq!(class(429, "rate_limit_exceeded", "requests"), Class::RateLimit);
        assert_eq!(class(429, "rate_limit_exceeded", "tokens"), Class::RateLimit);
        assert_eq!(class(429, "slow_down", "rate_limit_error"), Class::SlowDown);
        assert_eq!(class(429, "insufficient_quota", "insufficient_quota"), Class::Quota);
        assert_eq!(class(429, "credit_balance_exhausted", "insufficient_quota"), Class::Quota);
        assert_eq!(class(429, "daily_rate_limit_exceeded", "invalid_request_error"), Class::DailyLimit);
    }

    #[test]
    fn what_cannot_succeed_is_not_retried() {
        for (status, code, kind) in [
            (429, "insufficient_quota", "insufficient_quota"),
            (429, "daily_rate_limit_exceeded", "invalid_request_error"),
            (401, "invalid_api_key", "invalid_request_error"),
            (403, "unsupported_country", "request_forbidden"),
            (404, "model_not_found", "invalid_request_error"),
            (400, "invalid_value", "invalid_request_error"),
        ] {
            let body = serde_json::json!({ "error": { "message": "m", "type": kind, "code": code } }).to_string();
            assert!(!Fault::of_answer(status, body.as_bytes(), None).is_retryable(), "{status} {code}");
        }
        for status in [408, 409, 500, 502, 503, 504] {
            let fault = Fault::of_answer(status, b"<html><h1>Bad gateway</h1></html>", None);
            assert!(fault.is_retryable() && fault.may_have_happened(), "{status}");
            assert_eq!(fault.message, "Bad gateway");
        }
    }

    #[test]
    fn the_bodies_of_other_servers_are_read() {
        let old_vllm = br#"{"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}"#;
        let fault = Fault::of_answer(400, old_vllm, None);
        assert_eq!(
            (fault.class, fault.message.as_str(), fault.code.as_deref()),
            (Class::BadRequest, "too long", Some("400"))
        );
        let ollama = br#"{"error": "model not found"}"#;
        assert_eq!(Fault::of_answer(404, ollama, None).message, "model not found");
        assert_eq!(Fault::of_answer(422, br#"{"detail": "no"}"#, None).message, "no");
        assert_eq!(Fault::of_answer(500, b"", None).message, "no message");
    }

    #[test]
    fn an_error_says_who_said_what_and_what_to_do() {
        let body = br#"{"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
        let error = Fault::of_answer(429, body, None).into_error("openai");
        assert_eq!(
            error.to_string(),
            "`openai` (429): You exceeded your current quota\nhelp: add credit at the provider, then run the same command again"
        );
    }
}
