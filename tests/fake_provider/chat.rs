//! Chats: answers that follow from the messages and the seed, with log-probabilities; the one path that must be fast.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use super::faults::{mix, unit};
use super::models;
use super::reply::Reply;
use super::route::{Call, Outcome};
use super::state::{Caller, Settings, State};

/// One choice that is asked for.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    pub model: &'a str,
    pub messages: &'a [Message],
    pub seed: Option<i64>,
    pub temperature: Option<f64>,
    /// `max_completion_tokens` or `max_tokens`.
    pub max_tokens: Option<u64>,
    pub logprobs: bool,
    pub top_logprobs: usize,
    /// Which of `n`, from 0.
    pub choice: u32,
    /// Noise that follows from the messages, the seed and the choice.
    pub noise: u64,
}

impl ChatRequest<'_> {
    /// The text of the last message.
    pub fn last(&self) -> &str {
        self.messages.last().map_or("", |message| &message.content)
    }
    /// The text of the first message of a role.
    pub fn first_of(&self, role: &str) -> Option<&str> {
        self.messages.iter().find(|message| message.role == role).map(|message| message.content.as_str())
    }
}

/// A message; parts of content are joined.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub role: String,
    #[serde(default, deserialize_with = "read_content")]
    pub content: String,
}

/// What to say.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The text; a token drawn from `first_token` where that is given.
    pub text: String,
    /// Instead of `stop`, or `length` where the text is longer than allowed.
    pub finish_reason: Option<&'static str>,
    /// Tokens with their probabilities; what lacks to 1 is some other token.
    pub first_token: Option<Vec<(String, f64)>>,
    /// The text is a refusal: it comes in `message.refusal`, `content` is null.
    pub is_refusal: bool,
    /// An error instead: status, code, message.
    pub error: Option<(u16, String, String)>,
}

impl Answer {
    pub fn text(text: impl Into<String>) -> Answer {
        Answer { text: text.into(), ..Answer::default() }
    }
    /// One token out of some.
    pub fn tokens(tokens: &[(&str, f64)]) -> Answer {
        let tokens = tokens.iter().map(|(token, probability)| (token.to_string(), *probability)).collect();
        Answer { first_token: Some(tokens), ..Answer::default() }
    }
    pub fn refusal(text: &str) -> Answer {
        Answer { is_refusal: true, ..Answer::text(text) }
    }
    /// An answer that the provider's filter stopped.
    pub fn filtered() -> Answer {
        Answer { finish_reason: Some("content_filter"), ..Answer::default() }
    }
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        Answer { error: Some((status, code.into(), message.into())), ..Answer::default() }
    }
}

impl<T: Into<String>> From<T> for Answer {
    fn from(text: T) -> Answer {
        Answer::text(text)
    }
}

/// What an endpoint makes of `logprobs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogprobSupport {
    /// Up to so many alternatives; 400 above.
    UpTo(usize),
    /// Never more than so many, whatever is asked (up to 20).
    Fewer(usize),
    /// `logprobs` is null.
    Null,
    /// 400.
    Refused,
}

/// The answer where a test gives none: the last message and a number that follows from all of them and the seed.
pub fn echo(request: &ChatRequest) -> Answer {
    let said: String = request.last().chars().take(200).collect();
    Answer::text(format!("You said: {said} [{:08x}]", request.noise as u32))
}

fn read_content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Parts(Vec<Part>),
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: String,
    }
    Ok(match Option::<Content>::deserialize(deserializer)? {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => parts.into_iter().map(|part| part.text).collect(),
    })
}

#[derive(Deserialize)]
struct Wire {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    seed: Option<i64>,
    n: Option<u32>,
    temperature: Option<f64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    stream: Option<bool>,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Usage,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Said,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Said {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    annotations: [(); 0],
}

#[derive(Serialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
    refusal: Option<Vec<Token>>,
}

#[derive(Serialize)]
struct Token {
    token: String,
    logprob: f64,
    bytes: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Token>>,
}

/// How chats are answered, copied so that no lock is held while a test's function answers.
struct Manner {
    answer: Arc<dyn Fn(&ChatRequest) -> Answer + Send + Sync>,
    first_token: Option<Arc<Vec<(String, f64)>>>,
    logprobs: LogprobSupport,
    ignore_n: bool,
}

impl Manner {
    fn of(settings: &Settings) -> Manner {
        Manner {
            answer: settings.answer.clone(),
            first_token: settings.first_token.clone(),
            logprobs: settings.logprobs,
            ignore_n: settings.ignore_n,
        }
    }
}

/// Tokens in and out.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
}

/// The tokens of a text: its words, each with the blanks before it.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut in_word) = (0, false);
    for (place, letter) in text.char_indices() {
        if letter.is_whitespace() && in_word {
            pieces.push(&text[start..place]);
            (start, in_word) = (place, false);
        }
        in_word |= !letter.is_whitespace();
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn noise_of(messages: &[Message], seed: Option<i64>) -> u64 {
    let texts = messages.iter().flat_map(|message| [message.role.as_bytes(), b"\0", message.content.as_bytes(), b"\0"]);
    let hash = texts
        .flatten()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(hash ^ mix(seed.unwrap_or(-1) as u64))
}

pub async fn complete(state: &State, call: &Call) -> Outcome {
    let (delay, limits) = {
        let settings = state.settings.read().unwrap();
        (settings.chat_delay, settings.limits)
    };
    let wire = read(&call.body)?;
    let mut headers = Vec::new();
    if let Some(limits) = limits {
        let model = wire.model.as_deref().or(call.deployment.as_deref()).unwrap_or_default();
        let reserved = prompt_tokens(&wire) + wire.max_completion_tokens.or(wire.max_tokens).unwrap_or(16);
        headers = state.limiter.take(&limits, &call.caller.project, model, reserved)?;
    }
    let (body, usage) = answer(state, &call.caller, wire, call.deployment.as_deref(), call.azure)?;
    state.chat_answers.fetch_add(1, Ordering::Relaxed);
    state.prompt_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
    state.completion_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(Reply { headers, ..Reply::bytes(200, "application/json", body) })
}

/// The same for a row of a batch.
pub fn complete_row(state: &State, caller: &Caller, body: &Bytes) -> Result<(Vec<u8>, Usage), Box<Reply>> {
    answer(state, caller, read(body)?, None, false)
}

fn read(body: &Bytes) -> Result<Wire, Box<Reply>> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}");
        Box::new(Reply::error(400, "invalid_request_error", None, None, &message))
    })
}

fn prompt_tokens(wire: &Wire) -> u64 {
    let messages = wire.messages.iter().flatten();
    messages.map(|message| count_words(&message.content) + 4).sum::<u64>() + 3
}

fn answer(
    state: &State,
    caller: &Caller,
    wire: Wire,
    deployment: Option<&str>,
    azure: bool,
) -> Result<(Vec<u8>, Usage), Box<Reply>> {
    let refuse = |param: &str, message: &str| Err(Box::new(Reply::bad(param, message)));
    let Some(named) = wire.model.as_deref().or(deployment) else {
        return refuse("model", "you must provide a model parameter");
    };
    let named = deployment.unwrap_or(named);
    let deployed = state.models.deployed(named).filter(|_| azure);
    if azure && deployed.is_none() {
        let message = "The API deployment for this resource does not exist.";
        return Err(Box::new(Reply::error(404, "invalid_request_error", None, Some("DeploymentNotFound"), message)));
    }
    let model = deployed.as_deref().unwrap_or(named);
    if !azure && !state.models.allows(model, &caller.project) {
        return Err(models::missing(model));
    }
    let Some(messages) = wire.messages.as_deref().filter(|messages| !messages.is_empty()) else {
        return refuse("messages", "Missing required parameter: 'messages'.");
    };
    if wire.stream == Some(true) {
        return refuse("stream", "This provider does not stream.");
    }
    if wire.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return refuse("temperature", "Invalid 'temperature': expected a number from 0 to 2.");
    }
    let manner = Manner::of(&state.settings.read().unwrap());
    let (logprobs, top_logprobs) = logprobs_wanted(&wire, manner.logprobs)?;
    let n = match wire.n.unwrap_or(1) {
        _ if manner.ignore_n => 1,
        n @ 1..=128 => n,
        _ => return refuse("n", "Invalid 'n': expected an integer from 1 to 128."),
    };
    let noise = noise_of(messages, wire.seed);
    let max_tokens = wire.max_completion_tokens.or(wire.max_tokens);
    let (mut choices, mut completion_tokens) = (Vec::with_capacity(n as usize), 0);
    for choice in 0..n {
        let request = ChatRequest {
            model,
            messages,
            seed: wire.seed,
            temperature: wire.temperature,
            max_tokens,
            logprobs,
            top_logprobs,
            choice,
            noise: mix(noise.wrapping_add(u64::from(choice))),
        };
        let mut answer = (manner.answer)(&request);
        if let Some((status, code, message)) = answer.error {
            return Err(Box::new(Reply::error(status, "invalid_request_error", None, Some(&code), &message)));
        }
        if let (true, None, Some(tokens)) = (logprobs, &answer.first_token, &manner.first_token) {
            answer.first_token = Some(tokens.to_vec());
        }
        let (choice, tokens) = choose(&request, answer, manner.logprobs);
        completion_tokens += tokens;
        choices.push(choice);
    }
    let prompt_tokens = prompt_tokens(&wire);
    let usage = Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
    let completion = Completion {
        id: format!("chatcmpl-{:016x}", state.next_serial()),
        object: "chat.completion",
        created: state.now(),
        model,
        choices,
        usage,
        service_tier: "default",
        system_fingerprint: "fp_fake",
    };
    Ok((serde_json::to_vec(&completion).expect("a completion is JSON"), usage))
}

fn logprobs_wanted(wire: &Wire, support: LogprobSupport) -> Result<(bool, usize), Box<Reply>> {
    let refuse = |param: &str, message: &str| Err(Box::new(Reply::bad(param, message)));
    let wanted = wire.logprobs == Some(true);
    let top = wire.top_logprobs.unwrap_or(0);
    if !wanted {
        return match wire.top_logprobs {
            Some(1..) => refuse("top_logprobs", "'logprobs' must be true when 'top_logprobs' is set."),
            _ => Ok((false, 0)),
        };
    }
    let cap = match support {
        LogprobSupport::UpTo(cap) => cap,
        LogprobSupport::Refused => return refuse("logprobs", "This model does not support 'logprobs'."),
        LogprobSupport::Fewer(_) | LogprobSupport::Null => 20,
    };
    match usize::try_from(top) {
        Ok(top) if top <= cap => Ok((support != LogprobSupport::Null, top)),
        _ => refuse("top_logprobs", &format!("Invalid value for 'top_logprobs': must be at most {cap}.")),
    }
}

/// Makes a choice of an answer and counts its tokens.
fn choose(request: &ChatRequest, answer: Answer, support: LogprobSupport) -> (Choice, u64) {
    let is_greedy = request.temperature == Some(0.0);
    let drawn = answer.first_token.as_ref().map(|tokens| draw(tokens, request.noise, is_greedy));
    let mut text = match &drawn {
        Some((token, _)) if answer.text.is_empty() => token.clone(),
        _ => answer.text,
    };
    let mut finish_reason = answer.finish_reason.unwrap_or("stop");
    let mut count = count_words(&text);
    if let Some(most) = request.max_tokens.filter(|most| *most < count) {
        text = pieces(&text)[..most as usize].concat();
        (finish_reason, count) = ("length", most);
    }
    let logprobs = request.logprobs.then(|| {
        let kept = match support {
            LogprobSupport::Fewer(most) => request.top_logprobs.min(most),
            _ => request.top_logprobs,
        };
        let mut tokens: Vec<Token> = pieces(&text).into_iter().map(|piece| plain_token(piece, kept)).collect();
        if let (Some(first), Some((_, logprob)), Some(given)) = (tokens.first_mut(), drawn, &answer.first_token) {
            let mut given: Vec<_> = given.iter().collect();
            given.sort_by(|one, other| other.1.total_cmp(&one.1));
            let top = given.into_iter().take(kept).map(|(token, probability)| token_of(token, log(*probability), None));
            first.logprob = logprob;
            first.top_logprobs = Some(top.collect());
        }
        match answer.is_refusal {
            true => Logprobs { content: None, refusal: Some(tokens) },
            false => Logprobs { content: Some(tokens), refusal: None },
        }
    });
    let (content, refusal) = if answer.is_refusal { (None, Some(text)) } else { (Some(text), None) };
    let message = Said { role: "assistant", content, refusal, annotations: [] };
    (Choice { index: request.choice, message, logprobs, finish_reason }, count)
}

/// Draws a token; the rest of the mass is a token that the list does not hold.
fn draw(tokens: &[(String, f64)], noise: u64, is_greedy: bool) -> (String, f64) {
    let likeliest = tokens.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    if let (true, Some((token, probability))) = (is_greedy, likeliest) {
        return (token.clone(), log(*probability));
    }
    let mut left = unit(noise);
    for (token, probability) in tokens {
        if left < *probability {
            return (token.clone(), log(*probability));
        }
        left -= probability;
    }
    let rest = 1.0 - tokens.iter().map(|(_, probability)| probability).sum::<f64>();
    ("Well".into(), log(rest))
}

/// The service writes -9999 for what is very unlikely.
fn log(probability: f64) -> f64 {
    if probability > 0.0 { probability.ln() } else { -9999.0 }
}

fn token_of(token: &str, logprob: f64, top_logprobs: Option<Vec<Token>>) -> Token {
    Token { token: token.into(), logprob, bytes: Some(token.as_bytes().to_vec()), top_logprobs }
}

fn plain_token(piece: &str, kept: usize) -> Token {
    let others = [(piece, 0.9), (" perhaps", 0.06), (" never", 0.03)];
    let top = others.iter().take(kept).map(|(token, probability)| token_of(token, log(*probability), None));
    token_of(piece, log(0.9), Some(top.collect()))
}
