//! What an endpoint can do for a model: found by a few tiny calls, corrected by what it refuses, kept by the caller.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::chat::Chat;
use super::endpoint::{Endpoint, Request};
use super::fault::{Class, Fault};
use super::models;
use super::settings::Dialect;
use super::wire::chat::{ChatRequest, ChatResponse};
use crate::data::chat::{Message, Role};

/// The most alternatives per token that the protocol knows.
const MOST_ALTERNATIVES: u32 = 20;
/// Tokens of an answer to a probe; one that has more than twice as many ignored the field.
const PROBE_TOKENS: u64 = 16;

/// What an endpoint can do for one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Whether it takes conversations.
    pub is_chat: bool,
    /// Whether it tells the probability of tokens.
    pub logprobs: bool,
    /// Alternatives that it tells per token, at most.
    pub most_top_logprobs: u32,
    /// Whether it takes a seed; whether it heeds it nobody can know.
    pub seed: bool,
    /// Whether it gives several answers to one request.
    pub n: bool,
    /// Whether it takes a temperature.
    pub temperature: bool,
    /// Whether it takes `top_p`.
    pub top_p: bool,
    /// The field that limits an answer's length.
    pub max_tokens_field: MaxTokensField,
}

/// The field that limits an answer's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// The name of today, which reasoning models insist on.
    MaxCompletionTokens,
    /// The name that every server knows; some ignore the other.
    MaxTokens,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities::assumed(Dialect::Compatible)
    }
}

impl Capabilities {
    /// What is assumed until an answer says otherwise: everything.
    pub fn assumed(dialect: Dialect) -> Self {
        Capabilities {
            is_chat: true,
            logprobs: true,
            most_top_logprobs: MOST_ALTERNATIVES,
            seed: true,
            n: true,
            temperature: true,
            top_p: true,
            max_tokens_field: match dialect {
                Dialect::OpenAi | Dialect::Azure => MaxTokensField::MaxCompletionTokens,
                Dialect::Together | Dialect::Compatible => MaxTokensField::MaxTokens,
            },
        }
    }

    /// The request as the endpoint takes it, and the names of the fields that had to go or to shrink.
    pub fn fit(&self, request: &ChatRequest) -> (ChatRequest, Vec<&'static str>) {
        let mut fitted = request.clone();
        let mut left_out = Vec::new();
        let most = fitted.max_completion_tokens.or(fitted.max_tokens);
        (fitted.max_completion_tokens, fitted.max_tokens) = match self.max_tokens_field {
            MaxTokensField::MaxCompletionTokens => (most, None),
            MaxTokensField::MaxTokens => (None, most),
        };
        if !self.seed && fitted.seed.take().is_some() {
            left_out.push("seed");
        }
        if !self.temperature && fitted.temperature.take().is_some() {
            left_out.push("temperature");
        }
        if !self.top_p && fitted.top_p.take().is_some() {
            left_out.push("top_p");
        }
        if !self.logprobs && fitted.logprobs.take() == Some(true) {
            left_out.push("logprobs");
        }
        if fitted.logprobs != Some(true) {
            fitted.top_logprobs = None;
        }
        if let Some(asked) = fitted.top_logprobs.filter(|asked| *asked > self.most_top_logprobs) {
            fitted.top_logprobs = Some(self.most_top_logprobs.min(asked));
            left_out.push("top_logprobs");
        }
        (fitted, left_out)
    }

    /// What both say that it can do; where the name of a field differs, this one's.
    pub fn and(&self, other: &Self) -> Self {
        Capabilities {
            is_chat: self.is_chat && other.is_chat,
            logprobs: self.logprobs && other.logprobs,
            most_top_logprobs: self.most_top_logprobs.min(other.most_top_logprobs),
            seed: self.seed && other.seed,
            n: self.n && other.n,
            temperature: self.temperature && other.temperature,
            top_p: self.top_p && other.top_p,
            max_tokens_field: self.max_tokens_field,
        }
    }

    /// What remains after the refusal of `sent`, when the refusal names a field that can be left out, renamed or made
    /// smaller; nothing where sending it otherwise would not help.
    pub fn without(&self, fault: &Fault, sent: &ChatRequest) -> Option<Self> {
        if fault.class != Class::BadRequest {
            return None;
        }
        let mut rest = self.clone();
        match refused_field(fault, sent)? {
            "max_completion_tokens" => rest.max_tokens_field = MaxTokensField::MaxTokens,
            "max_tokens" => rest.max_tokens_field = MaxTokensField::MaxCompletionTokens,
            "seed" => rest.seed = false,
            "temperature" => rest.temperature = false,
            "top_p" => rest.top_p = false,
            "top_logprobs" if sent.top_logprobs > Some(0) => {
                rest.most_top_logprobs = sent.top_logprobs.unwrap_or_default() / 2;
            }
            _ => (rest.logprobs, rest.most_top_logprobs) = (false, 0),
        }
        Some(rest)
    }
}

/// The field of the request that a refusal is about, if it is one that a request can do without.
fn refused_field(fault: &Fault, sent: &ChatRequest) -> Option<&'static str> {
    let was_sent = [
        ("max_completion_tokens", sent.max_completion_tokens.is_some()),
        ("max_tokens", sent.max_tokens.is_some()),
        ("top_logprobs", sent.top_logprobs.is_some()),
        ("logprobs", sent.logprobs.is_some()),
        ("seed", sent.seed.is_some()),
        ("temperature", sent.temperature.is_some()),
        ("top_p", sent.top_p.is_some()),
    ];
    let mut fields = was_sent.into_iter().filter(|(_, is_sent)| *is_sent).map(|(name, _)| name);
    let message = fault.message.to_lowercase();
    // Servers that do not fill in `param` name the field in their message.
    let is_word = |name: &&str| {
        message.match_indices(*name).any(|(start, _)| {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let (before, after) = (&message[..start], &message[start + name.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    };
    let field = match fault.param.as_deref() {
        Some(param) => fields.find(|name| param.rsplit('.').next() == Some(*name))?,
        // vLLM: "requested sample logprobs of 30, which is greater than max allowed: 20".
        None => match fields.find(is_word)? {
            "logprobs" if sent.top_logprobs > Some(0) && message.contains("max") => "top_logprobs",
            field => field,
        },
    };
    // A value out of range is the user's to mend, save for the number of alternatives, which has no right value.
    let is_about_alternatives = matches!(field, "logprobs" | "top_logprobs");
    let is_unsupported = match fault.code.as_deref().filter(|code| code.parse::<i64>().is_err()) {
        Some(code) => code.starts_with("unsupported") || code.starts_with("unknown"),
        None => ["support", "unknown", "unrecognized", "unexpected", "extra", "permitted"]
            .iter()
            .any(|word| message.contains(word)),
    };
    (is_about_alternatives || is_unsupported).then_some(field)
}

/// Asks a model a few tiny questions to find out what the endpoint can do for it.
///
/// # Errors
/// Failures that say nothing about what it can do: no connection, a wrong key, an unknown model.
pub async fn probe(chat: &Chat, model: &str) -> Result<Capabilities, Fault> {
    let ask = async |top_logprobs: Option<u32>| {
        let request = ChatRequest {
            model: model.to_string(),
            messages: vec![Message::new(Role::User, "Count from one to a hundred in words.")],
            temperature: Some(1.0),
            top_p: None,
            max_completion_tokens: Some(PROBE_TOKENS),
            max_tokens: None,
            seed: Some(1),
            logprobs: top_logprobs.map(|_| true),
            top_logprobs,
        };
        chat.ask(&request).await
    };
    let mut answer = match ask(Some(MOST_ALTERNATIVES)).await {
        Ok(answer) => answer,
        Err(fault) if matches!(fault.class, Class::NotFound | Class::BadRequest) => {
            // A model that is listed and does not answer to a plain question takes no conversations.
            return match models::get_model(chat.endpoint(), 0, model).await {
                Ok(_) => Ok(Capabilities { is_chat: false, ..chat.capabilities(model) }),
                Err(_) => Err(fault),
            };
        }
        Err(fault) => return Err(fault),
    };
    if answer.usage.is_some_and(|usage| usage.completion_tokens > 2 * PROBE_TOKENS) {
        // The field was ignored: the other one may not be.
        let mut other = chat.capabilities(model);
        other.max_tokens_field = match other.max_tokens_field {
            MaxTokensField::MaxTokens => MaxTokensField::MaxCompletionTokens,
            MaxTokensField::MaxCompletionTokens => MaxTokensField::MaxTokens,
        };
        chat.set_capabilities(model, other);
        answer = ask(Some(MOST_ALTERNATIVES)).await?;
    }
    let mut found = chat.capabilities(model);
    let told = answer.logprobs.as_ref().filter(|tokens| !tokens.is_empty());
    match told {
        None => (found.logprobs, found.most_top_logprobs) = (false, 0),
        Some(tokens) => {
            let most = tokens.iter().map(|token| token.top_logprobs.len()).max().unwrap_or(0) as u32;
            found.most_top_logprobs = found.most_top_logprobs.min(most);
            if found.most_top_logprobs < MOST_ALTERNATIVES {
                found.most_top_logprobs = find_cap(chat.endpoint(), model, &found).await?;
            }
        }
    }
    found.n = gives_several(chat.endpoint(), model, &found).await?;
    chat.set_capabilities(model, found.clone());
    Ok(found)
}

/// The most alternatives that the endpoint gives: more than `found` says where halving went too far.
async fn find_cap(endpoint: &Endpoint, model: &str, found: &Capabilities) -> Result<u32, Fault> {
    let (mut works, mut fails) =
        (found.most_top_logprobs, (2 * found.most_top_logprobs + 2).min(MOST_ALTERNATIVES + 1));
    while fails - works > 1 {
        let middle = works + (fails - works) / 2;
        let extra = json!({ "logprobs": true, "top_logprobs": middle });
        let told = match send_plain(endpoint, model, found, &extra).await {
            Ok(response) => {
                let logprobs = response.choices.into_iter().next().and_then(|choice| choice.logprobs);
                let tokens = logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default();
                tokens.iter().map(|token| token.top_logprobs.len()).max().unwrap_or(0) as u32
            }
            Err(fault) if fault.class == Class::BadRequest => 0,
            Err(fault) => return Err(fault),
        };
        if told >= middle {
            works = middle;
        } else {
            fails = middle;
        }
    }
    Ok(works)
}

async fn gives_several(endpoint: &Endpoint, model: &str, found: &Capabilities) -> Result<bool, Fault> {
    match send_plain(endpoint, model, found, &json!({ "n": 2 })).await {
        Ok(response) => Ok(response.choices.len() == 2),
        Err(fault) if fault.class == Class::BadRequest => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// A tiny request with something extra, sent once.
async fn send_plain(
    endpoint: &Endpoint,
    model: &str,
    found: &Capabilities,
    extra: &serde_json::Value,
) -> Result<ChatResponse, Fault> {
    let field = match found.max_tokens_field {
        MaxTokensField::MaxTokens => "max_tokens",
        MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
    };
    let mut body =
        json!({ "model": model, "messages": [{ "role": "user", "content": "Count to ten." }], field: PROBE_TOKENS });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    Ok(endpoint.fetch(&Request::post("/chat/completions", &body)).await?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::Value;

    use super::super::loopback::{self, Asked, Reply, completion, question, serve};
    use super::*;

    /// A server with this cap of alternatives, which refuses more, or tells none at all without a cap.
    async fn server(cap: Option<u64>, is_silent: bool) -> (String, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let url = serve(move |asked: Asked| {
            seen.fetch_add(1, Ordering::SeqCst);
            let body = asked.json();
            if body.get("seed").is_some() && !is_silent {
                return Reply::error(400, "unknown_parameter", Some("seed"));
            }
            let asked = body["top_logprobs"].as_u64().unwrap_or(0);
            let mut answer = completion("one");
            if let Some(cap) = cap.filter(|_| body["logprobs"] == true) {
                if asked > cap && !is_silent {
                    return Reply::error(400, "invalid_value", Some("top_logprobs"));
                }
                let alternative = json!({ "token": "x", "logprob": -1.0 });
                let alternatives: Vec<Value> = (0..asked.min(cap)).map(|_| alternative.clone()).collect();
                answer["choices"][0]["logprobs"] =
                    json!({ "content": [{ "token": "one", "logprob": -0.1, "top_logprobs": alternatives }] });
            }
            Reply::json(200, answer)
        });
        (url.await, count)
    }

    #[tokio::test]
    async fn a_cap_is_found_whether_it_is_refused_or_silent() {
        for cap in [0, 1, 5, 7, 19, 20] {
            for is_silent in [false, true] {
                let (url, count) = server(Some(cap), is_silent).await;
                let found = probe(&loopback::chat(&url, &[], |_| ()), "m").await.unwrap();
                assert_eq!((found.logprobs, u64::from(found.most_top_logprobs)), (true, cap), "silent: {is_silent}");
                assert_eq!((found.seed, found.n, found.is_chat), (is_silent, false, true));
                assert!(count.load(Ordering::SeqCst) <= 14, "{count:?} calls");
                let back: Capabilities = serde_json::from_value(serde_json::to_value(&found).unwrap()).unwrap();
                assert_eq!(back, found);
            }
        }
    }

    #[tokio::test]
    async fn silence_is_no_probability() {
        let (url, _) = server(None, true).await;
        let chat = loopback::chat(&url, &[], |_| ());
        assert!(!probe(&chat, "m").await.unwrap().logprobs);
        let asked = ChatRequest { logprobs: Some(true), top_logprobs: Some(20), ..question("q") };
        assert_eq!(chat.ask(&asked).await.unwrap().left_out, ["logprobs"]);
    }

    #[tokio::test]
    async fn a_listed_model_that_takes_no_conversation_is_no_chat_model() {
        let url = serve(|asked: Asked| match asked.path.as_str() {
            "/v1/chat/completions" => Reply::error(404, "no_chat", Some("model")),
            "/v1/models" => Reply::json(200, json!({ "data": [{ "id": "base" }] })),
            _ => Reply::error(404, "not_found", None),
        })
        .await;
        let chat = loopback::chat(&url, &[], |_| ());
        assert!(!probe(&chat, "base").await.unwrap().is_chat);
        assert_eq!(probe(&chat, "other").await.unwrap_err().class, Class::NotFound);
    }

    #[test]
    fn fields_are_known_by_param_or_by_a_whole_word() {
        let sent = ChatRequest { max_completion_tokens: None, max_tokens: Some(5), ..question("q") };
        let fault = |message: &str, code: Option<&str>, param: Option<&str>| Fault {
            code: code.map(str::to_string),
            param: param.map(str::to_string),
            ..Fault::new(Class::BadRequest, message)
        };
        let field = |fault: Fault| refused_field(&fault, &sent);
        let advice = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.";
        assert_eq!(field(fault(advice, None, None)), Some("max_tokens"));
        assert_eq!(field(fault("no", Some("unsupported_value"), Some("temperature"))), Some("temperature"));
        assert_eq!(field(fault("too large", Some("invalid_value"), Some("max_tokens"))), None);
        assert_eq!(field(fault("bad_max_tokens_x is not supported", None, None)), None);
        assert_eq!(field(fault("images are not supported", Some("400"), None)), None);
    }
}
