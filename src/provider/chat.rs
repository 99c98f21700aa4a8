//! Asks a chat model one question until there is an answer, or a reason why there will be none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

use super::capability::Capabilities;
use super::endpoint::{Body, Bytes, Endpoint, Method, Request};
use super::fault::{Class, Fault};
use super::limit::{LONGEST_WAIT, Limiter, PoolReport};
use super::wire::chat::{ChatRequest, ChatResponse, TokenLogprob, Usage};
use crate::data::random::Random;
use crate::error::Result;

/// Tokens of an answer, where the request sets no limit; only the token limit is planned with it.
const GUESSED_TOKENS: u64 = 500;
/// Tokens that a message costs besides its text.
const MESSAGE_TOKENS: f64 = 4.0;
/// Bytes of text per token, for a first guess.
const BYTES_PER_TOKEN: f64 = 4.0;

/// The door to the chat models of one provider; clones share limits and what was learned.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    limiter: Arc<Limiter>,
    capabilities: RwLock<HashMap<String, Arc<Capabilities>>>,
    patience: Patience,
    /// Calls so far; decides the random part of delays.
    calls: AtomicU64,
}

/// How long and how often a call waits for better times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Delay before the second try; it doubles from try to try.
    pub first_delay: Duration,
    /// The longest such delay.
    pub longest_delay: Duration,
    /// Tries where no connection can be made.
    pub most_connections: u32,
    /// Tries where answers of success cannot be read, as from a server that is no provider.
    pub most_malformed: u32,
    /// How long a server may take to load its model.
    pub longest_loading: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            most_connections: 3,
            most_malformed: 6,
            longest_loading: Duration::from_secs(20 * 60),
        }
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAnswer {
    /// What was said; of a refusal the words of the refusal.
    pub text: String,
    /// stop, length, content_filter, refusal, ...
    pub finish: String,
    /// What is billed, where the provider tells it.
    pub usage: Option<Usage>,
    /// Probabilities token by token, where they were asked for and given.
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// Who answered, in the provider's words.
    pub model: String,
    /// The body as it came.
    pub raw: Bytes,
    /// Number under which the provider's support finds the request.
    pub request_id: Option<String>,
    /// How often it was sent.
    pub tries: u32,
    /// Fields that the endpoint does not take and that had to be left out or made smaller.
    pub left_out: Vec<String>,
}

impl Chat {
    /// The door to an endpoint, with the usual patience.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_patience(endpoint, Patience::default())
    }
    /// The same with another patience.
    pub fn with_patience(endpoint: Endpoint, patience: Patience) -> Self {
        let limiter = Limiter::new(endpoint.clone(), (patience.first_delay, patience.longest_delay));
        let (capabilities, calls) = (RwLock::default(), AtomicU64::new(0));
        Chat { inner: Arc::new(Inner { endpoint, limiter, capabilities, patience, calls }) }
    }

    /// The provider behind the door.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }
    /// How the limits stand, for the log.
    pub fn report(&self) -> Vec<PoolReport> {
        self.inner.limiter.report()
    }
    /// Keys that open nothing any more, by their variables, and why.
    pub fn lost_keys(&self) -> Vec<(String, Fault)> {
        self.inner.limiter.lost_keys()
    }

    /// What is known or assumed about a model.
    pub fn capabilities(&self, model: &str) -> Capabilities {
        (*self.shared_capabilities(model)).clone()
    }
    /// Takes over what was found out about a model earlier.
    pub fn set_capabilities(&self, model: &str, capabilities: Capabilities) {
        let mut known = self.inner.capabilities.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(model.to_string(), Arc::new(capabilities));
    }

    /// Asks until there is an answer or a reason why there will be none. Waiting for a turn is not limited in time;
    /// each try is, from the moment of sending.
    ///
    /// # Errors
    /// What cannot be mended by trying again, or was not mended by as many tries as the settings allow.
    pub async fn ask(&self, request: &ChatRequest) -> Result<ChatAnswer, Fault> {
        let inner = &*self.inner;
        let settings = inner.endpoint.settings();
        let call = inner.calls.fetch_add(1, Ordering::Relaxed);
        let mut capabilities = self.shared_capabilities(&request.model);
        let mut is_changed = false;
        let (mut fitted, mut left_out) = capabilities.fit(request);
        let mut body = write_body(&fitted)?;
        let estimate = estimate_tokens(request);
        let mut refused: Vec<(usize, Fault)> = Vec::new();
        let (mut tries, mut changes) = (0, 0);
        let mut failures = Failures { call, counted: 0, connections: 0, malformed: 0, loading: Duration::ZERO };
        loop {
            let permit = inner.limiter.reserve(&request.model, estimate, &refused).await?;
            tries += 1;
            let sending = Request {
                method: Method::POST,
                path: "/chat/completions".to_string(),
                query: Vec::new(),
                body: Body::Json(body.clone()),
                timeout: Duration::try_from_secs_f64(settings.timeout_seconds).unwrap_or(Duration::MAX),
                key: permit.key(),
            };
            let fault = match inner.endpoint.send(&sending).await {
                Ok(answer) => match read_answer(answer.body, answer.facts.request_id.clone()) {
                    Ok(mut read) => {
                        permit.succeed(&answer.facts, read.usage);
                        if is_changed {
                            // Another call may have learned something else meanwhile.
                            let known = self.capabilities(&request.model);
                            self.set_capabilities(&request.model, capabilities.and(&known));
                        }
                        read.tries = tries;
                        read.left_out = left_out.into_iter().map(str::to_string).collect();
                        return Ok(read);
                    }
                    Err(mut fault) => {
                        fault.message = inner.endpoint.redact(&fault.message);
                        fault
                    }
                },
                Err(fault) => fault,
            };
            let key = permit.key();
            let others_succeeded = permit.fail(&fault);
            match fault.class {
                // Another key may open it; where none is left the limiter says so.
                Class::Authentication | Class::Quota | Class::NotFound | Class::Forbidden => {
                    refused.push((key, fault));
                    continue;
                }
                Class::BadRequest => {
                    let rest = capabilities.without(&fault, &fitted).filter(|rest| *rest != *capabilities);
                    // Each change takes something away, save that a name could be changed back for ever.
                    if let Some(rest) = rest.filter(|_| changes < 12) {
                        changes += 1;
                        (capabilities, is_changed) = (Arc::new(rest), true);
                        (fitted, left_out) = capabilities.fit(request);
                        body = write_body(&fitted)?;
                        continue;
                    }
                    return Err(fault);
                }
                _ => {}
            }
            match failures.next_delay(&fault, others_succeeded, &inner.patience, settings.most_tries) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(fault),
            }
        }
    }

    fn shared_capabilities(&self, model: &str) -> Arc<Capabilities> {
        let known = self.inner.capabilities.read().unwrap_or_else(PoisonError::into_inner);
        let assumed = || Arc::new(Capabilities::assumed(self.inner.endpoint.settings().dialect()));
        known.get(model).cloned().unwrap_or_else(assumed)
    }
}

/// The failures of one call.
struct Failures {
    call: u64,
    /// Those that count against the tries of the settings.
    counted: usize,
    connections: u32,
    malformed: u32,
    loading: Duration,
}

impl Failures {
    /// How long to wait before another try; none where another is of no use.
    fn next_delay(
        &mut self,
        fault: &Fault,
        others_succeeded: bool,
        patience: &Patience,
        most_tries: usize,
    ) -> Option<Duration> {
        if !fault.is_retryable() || fault.retry_after.is_some_and(|wait| wait > LONGEST_WAIT) {
            return None;
        }
        match fault.class {
            // The limiter lets nothing through before it is time; while others get through, so will this call.
            Class::RateLimit | Class::SlowDown => {
                self.counted += usize::from(!others_succeeded);
                (self.counted < most_tries).then_some(Duration::ZERO)
            }
            Class::Loading => {
                let delay = fault.retry_after.unwrap_or(patience.first_delay * 2);
                self.loading += delay;
                (self.loading <= patience.longest_loading).then_some(delay)
            }
            Class::NotSent => {
                self.connections += 1;
                (self.connections < patience.most_connections).then(|| patience.delay(self.call, self.connections))
            }
            class => {
                self.counted += 1;
                self.malformed += u32::from(class == Class::Malformed);
                let delay = || fault.retry_after.unwrap_or_else(|| patience.delay(self.call, self.counted as u32));
                (self.counted < most_tries && self.malformed < patience.most_malformed).then(delay)
            }
        }
    }
}

impl Patience {
    /// The delay before try `number` + 1 of a call: doubling, less up to a quarter, so that calls that failed together
    /// do not come back together.
    pub(super) fn delay(&self, call: u64, number: u32) -> Duration {
        let doubled = self.first_delay.saturating_mul(2u32.saturating_pow(number.saturating_sub(1).min(20)));
        let less = 0.25 * Random::stream(call, &[u64::from(number)]).uniform();
        doubled.min(self.longest_delay).mul_f64(1.0 - less)
    }
}

/// Reads the body of a chat completion.
///
/// # Errors
/// [`Class::Malformed`] for one without an answer; the error that some servers hide in an answer of success.
pub fn read_answer(raw: Bytes, request_id: Option<String>) -> Result<ChatAnswer, Fault> {
    let malformed = |what: String| Fault { request_id: request_id.clone(), ..Fault::new(Class::Malformed, what) };
    let response: ChatResponse =
        serde_json::from_slice(&raw).map_err(|error| malformed(format!("the answer cannot be read: {error}")))?;
    let ChatResponse { model, choices, usage, .. } = response;
    let Some(choice) = choices.into_iter().next() else {
        let hidden: Option<Value> =
            serde_json::from_slice::<Value>(&raw).ok().filter(|body| body.get("error").is_some());
        let status = hidden.as_ref().and_then(|body| body["error"]["code"].as_u64()).filter(|code| *code >= 400);
        return Err(match (hidden, status) {
            (Some(_), Some(status)) => Fault { request_id, ..Fault::of_answer(status as u16, &raw, None) },
            (Some(body), None) => malformed(format!("an error in an answer of success: {}", body["error"])),
            (None, _) => malformed("the answer holds no choice".to_string()),
        });
    };
    let is_refusal = choice.message.refusal.is_some();
    let logprobs = choice.logprobs.and_then(|logprobs| {
        let (first, second) =
            if is_refusal { (logprobs.refusal, logprobs.content) } else { (logprobs.content, logprobs.refusal) };
        first.or(second)
    });
    Ok(ChatAnswer {
        text: choice.message.refusal.or(choice.message.content).unwrap_or_default(),
        finish: if is_refusal { "refusal".to_string() } else { choice.finish_reason.unwrap_or_default() },
        usage,
        logprobs,
        model,
        raw,
        request_id,
        tries: 1,
        left_out: Vec::new(),
    })
}

/// About how many tokens a request and its answer have.
pub fn estimate_tokens(request: &ChatRequest) -> f64 {
    let prompt: f64 =
        request.messages.iter().map(|message| message.content.len() as f64 / BYTES_PER_TOKEN + MESSAGE_TOKENS).sum();
    prompt + request.max_completion_tokens.or(request.max_tokens).unwrap_or(GUESSED_TOKENS) as f64
}

fn write_body(request: &ChatRequest) -> Result<Bytes, Fault> {
    let written = serde_json::to_vec(request);
    written
        .map(Bytes::from)
        .map_err(|error| Fault::new(Class::BadRequest, format!("no request can be written: {error}")))
}

/// Whether a fault means that no request of the provider can succeed any more for now.
pub fn stops_all(fault: &Fault) -> bool {
    matches!(fault.class, Class::Quota | Class::Authentication | Class::Unreachable)
        || fault.retry_after.is_some_and(|wait| wait > LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use serde_json::json;

    use super::super::loopback::{self, Asked, Reply, completion, question, serve};
    use super::*;

    /// A server that gives these replies in order, the last one for ever, and counts.
    async fn scripted(replies: Vec<fn() -> Reply>) -> (String, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let url = serve(move |_| {
            let number = seen.fetch_add(1, Ordering::SeqCst);
            replies[number.min(replies.len() - 1)]()
        });
        (url.await, count)
    }

    async fn ask(url: &str) -> Result<ChatAnswer, Fault> {
        loopback::chat(url, &[], |settings| settings.most_tries = 5).ask(&question("q")).await
    }

    #[tokio::test]
    async fn what_passes_is_asked_again() {
        let (url, count) = scripted(vec![
            || Reply::error(500, "server_error", None),
            || Reply::error(429, "rate_limit_exceeded", None).with("retry-after-ms", "20"),
            || Reply::Drop,
            || Reply::Say(200, vec![], "{\"choices\": [".to_string()),
            || Reply::chat("done").with("x-request-id", "req_7"),
        ])
        .await;
        let answer = loopback::chat(&url, &[], |_| ()).ask(&question("q")).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.tries, count.load(Ordering::SeqCst)), ("done", 5, 5));
        assert_eq!((answer.finish.as_str(), answer.request_id.as_deref()), ("stop", Some("req_7")));
        assert_eq!(answer.usage, Some(Usage { prompt_tokens: 5, completion_tokens: 5, ..Usage::default() }));
        assert_eq!(answer.raw, completion("done").to_string());
    }

    #[tokio::test]
    async fn what_cannot_succeed_is_asked_once() {
        let cases: [(fn() -> Reply, Class); 6] = [
            (|| Reply::error(429, "insufficient_quota", None), Class::Quota),
            (|| Reply::error(429, "daily_rate_limit_exceeded", None), Class::DailyLimit),
            (|| Reply::error(401, "invalid_api_key", None), Class::Authentication),
            (|| Reply::error(404, "model_not_found", None), Class::NotFound),
            (|| Reply::error(400, "context_length_exceeded", Some("messages")), Class::BadRequest),
            (|| Reply::error(503, "server_error", None).with("x-should-retry", "false"), Class::Server),
        ];
        for (reply, class) in cases {
            let (url, count) = scripted(vec![reply]).await;
            assert_eq!(ask(&url).await.unwrap_err().class, class);
            assert_eq!(count.load(Ordering::SeqCst), 1, "{class:?}");
        }
    }

    #[tokio::test]
    async fn what_never_passes_is_given_up() {
        let cases: [(fn() -> Reply, Class); 4] = [
            (|| Reply::error(500, "server_error", None), Class::Server),
            (|| Reply::error(429, "rate_limit_exceeded", None).with("retry-after-ms", "3"), Class::RateLimit),
            (|| Reply::Drop, Class::Lost),
            (|| Reply::json(200, json!({ "choices": [] })), Class::Malformed),
        ];
        for (reply, class) in cases {
            let (url, count) = scripted(vec![reply]).await;
            assert_eq!(ask(&url).await.unwrap_err().class, class);
            assert_eq!(count.load(Ordering::SeqCst), 5, "{class:?}");
        }
    }

    #[tokio::test]
    async fn a_loading_server_is_waited_for_however_often() {
        let mut replies: Vec<fn() -> Reply> =
            vec![|| Reply::error(503, "unavailable_error", None).with("retry-after-ms", "1"); 20];
        replies.push(|| Reply::chat("up"));
        let (url, _) = scripted(replies).await;
        assert_eq!(ask(&url).await.unwrap().tries, 21);
    }

    #[tokio::test]
    async fn a_wait_of_hours_is_not_waited() {
        let (url, count) =
            scripted(vec![|| Reply::error(429, "rate_limit_exceeded", None).with("retry-after", "86400")]).await;
        let chat = loopback::chat(&url, &[], |_| ());
        assert!(stops_all(&chat.ask(&question("q")).await.unwrap_err()));
        assert_eq!(chat.ask(&question("q")).await.unwrap_err().class, Class::RateLimit);
        assert_eq!(
            count.load(Ordering::SeqCst),
            1,
            "the second call was sent although the first was told to wait a day"
        );
    }

    #[tokio::test]
    async fn the_time_limit_counts_from_sending_and_not_from_queueing() {
        let slow = || Reply::SayAfter(Duration::from_millis(120), 200, completion("late").to_string());
        let (url, _) = scripted(vec![slow]).await;
        let chat = loopback::chat(&url, &[], |settings| {
            (settings.most_in_flight, settings.timeout_seconds, settings.most_tries) = (1, 0.3, 1);
        });
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let chat = chat.clone();
                tokio::spawn(async move { chat.ask(&question("q")).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let (url, _) = scripted(vec![|| Reply::SayAfter(Duration::from_secs(5), 200, String::new())]).await;
        let impatient =
            loopback::chat(&url, &[], |settings| (settings.timeout_seconds, settings.most_tries) = (0.05, 2));
        assert_eq!(impatient.ask(&question("q")).await.unwrap_err().class, Class::Lost);
    }

    #[tokio::test]
    async fn keys_that_open_nothing_are_passed_over_and_named() {
        let url = serve(|asked: Asked| match asked.key() {
            "poor" => Reply::error(429, "insufficient_quota", None),
            "wrong" => Reply::error(401, "invalid_api_key", None),
            _ => Reply::chat("ok"),
        })
        .await;
        let chat = loopback::chat(&url, &["poor", "wrong", "good"], |_| ());
        for _ in 0..6 {
            assert_eq!(chat.ask(&question("q")).await.unwrap().text, "ok");
        }
        let lost: Vec<(String, Class)> =
            chat.lost_keys().into_iter().map(|(name, fault)| (name, fault.class)).collect();
        assert_eq!(lost, [("KEY_0".to_string(), Class::Quota), ("KEY_1".to_string(), Class::Authentication)]);
        let none = loopback::chat(&url, &["poor", "wrong"], |_| ());
        let class = none.ask(&question("q")).await.unwrap_err().class;
        assert!(matches!(class, Class::Quota | Class::Authentication));
    }

    #[tokio::test]
    async fn a_model_of_one_project_is_asked_by_its_key() {
        let asked_by: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked_by.clone();
        let url = serve(move |asked: Asked| {
            seen.lock().unwrap().push(asked.key().to_string());
            if asked.key() == "owner" { Reply::chat("ok") } else { Reply::error(404, "model_not_found", None) }
        })
        .await;
        let chat = loopback::chat(&url, &["stranger", "owner"], |_| ());
        for _ in 0..5 {
            chat.ask(&question("q")).await.unwrap();
        }
        let strangers = asked_by.lock().unwrap().iter().filter(|key| *key == "stranger").count();
        assert!(strangers <= 1, "the wrong key was tried {strangers} times");
        let none = loopback::chat(&url, &["stranger", "another"], |_| ());
        assert_eq!(none.ask(&question("q")).await.unwrap_err().class, Class::NotFound);
    }

    #[tokio::test]
    async fn keys_of_one_project_share_their_limits() {
        let url = serve(|asked: Asked| {
            let organization = if asked.key() == "c" { "org-2" } else { "org-1" };
            Reply::chat("ok").with("openai-organization", organization).with("openai-project", "p")
        })
        .await;
        let chat = loopback::chat(&url, &["a", "b", "c"], |_| ());
        for _ in 0..12 {
            chat.ask(&question("q")).await.unwrap();
        }
        let pools: Vec<String> = chat.report().into_iter().map(|pool| pool.identity).collect();
        assert_eq!(pools, ["org-1/p", "org-2/p"]);
        assert_eq!(chat.report().iter().map(|pool| pool.successes).sum::<u64>(), 12);
    }

    #[tokio::test]
    async fn a_field_that_a_model_refuses_is_left_out_and_said() {
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = bodies.clone();
        let url = serve(move |asked: Asked| {
            let body = asked.json();
            seen.lock().unwrap().push(body.clone());
            for (field, code) in [("max_tokens", "unsupported_parameter"), ("temperature", "unsupported_value")] {
                if body.get(field).is_some() {
                    return Reply::error(400, code, Some(field));
                }
            }
            match body["top_logprobs"].as_u64() {
                Some(count) if count > 7 => Reply::json(
                    400,
                    json!({ "object": "error", "code": 400,
                    "message": format!("Requested sample logprobs of {count}, which is greater than max allowed: 7") }),
                ),
                _ => Reply::chat("ok"),
            }
        })
        .await;
        let chat = loopback::chat(&url, &[], |_| ());
        let request = ChatRequest { logprobs: Some(true), top_logprobs: Some(20), ..question("q") };
        let answer = chat.ask(&request).await.unwrap();
        assert_eq!(answer.left_out, ["temperature", "top_logprobs"]);
        let sent = bodies.lock().unwrap().len();
        chat.ask(&request).await.unwrap();
        let bodies = bodies.lock().unwrap();
        assert_eq!(bodies.len(), sent + 1, "what was refused was sent again");
        assert_eq!((&bodies[sent]["max_completion_tokens"], &bodies[sent]["top_logprobs"]), (&json!(20), &json!(5)));
    }

    #[tokio::test]
    async fn a_value_out_of_range_stays_the_users_mistake() {
        let (url, count) = scripted(vec![|| Reply::error(400, "integer_above_max_value", Some("max_tokens"))]).await;
        assert_eq!(ask(&url).await.unwrap_err().param.as_deref(), Some("max_tokens"));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn refusals_filters_and_hidden_errors_are_told_apart() {
        let read = |body: Value| read_answer(Bytes::from(body.to_string()), None);
        let refusal =
            json!({ "choices": [{ "message": { "content": null, "refusal": "I can't" }, "finish_reason": "stop" }] });
        let answer = read(refusal).unwrap();
        assert_eq!((answer.text.as_str(), answer.finish.as_str()), ("I can't", "refusal"));
        let filtered = read(json!({ "choices": [{ "message": {}, "finish_reason": "content_filter" }] })).unwrap();
        assert_eq!((filtered.text.as_str(), filtered.finish.as_str()), ("", "content_filter"));
        let hidden = read(json!({ "error": { "message": "busy", "code": 429 } })).unwrap_err();
        assert_eq!((hidden.class, hidden.message.as_str()), (Class::RateLimit, "busy"));
        assert_eq!(read(json!({ "error": "x" })).unwrap_err().class, Class::Malformed);
    }

    #[test]
    fn who_is_turned_away_while_others_get_through_keeps_its_tries() {
        let mut failures = Failures { call: 0, counted: 0, connections: 0, malformed: 0, loading: Duration::ZERO };
        let mut next = |others_succeeded| {
            let fault = Fault::new(Class::RateLimit, "slower");
            failures.next_delay(&fault, others_succeeded, &Patience::default(), 3).is_some()
        };
        assert!((0..100).all(|_| next(true)));
        assert_eq!([next(false), next(false), next(false)], [true, true, false]);
    }

    #[test]
    fn delays_double_up_to_their_limit_and_are_the_same_each_time() {
        let patience = Patience::default();
        for call in 0..50 {
            let delays: Vec<f64> = (1..10).map(|number| patience.delay(call, number).as_secs_f64()).collect();
            assert!(
                delays
                    .iter()
                    .zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
                    .all(|(delay, most)| { *delay <= most && *delay >= 0.75 * most })
            );
            assert_eq!(patience.delay(call, 3), patience.delay(call, 3));
        }
        assert_ne!(patience.delay(1, 1), patience.delay(2, 1));
    }
}
