//! What may go wrong with a request, and the rules that say when it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::reply::Reply;

/// One thing that goes wrong. "Acting" is the effect of the request: a job that exists, a chat that is charged.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection is closed (FIN) without a byte; nothing happened.
    CloseBeforeActing,
    /// The request takes effect, then the connection is closed without a byte.
    CloseAfterActing,
    /// The connection is reset (RST); nothing happened.
    ResetBeforeActing,
    /// The request takes effect, then the connection is reset.
    ResetAfterActing,
    /// The connection is closed at once and the request takes effect this much later.
    CloseThenAct(Duration),
    /// The request takes effect, the answer is 502 with a page of HTML.
    BadGatewayAfterActing,
    /// The request takes effect, the answer is this status with its usual error body.
    StatusAfterActing(u16),
    /// Nothing happened; this status (400, 401, 403, 404, 408, 409, 422, 500, 502, 503, 504) with its usual error body.
    Status(u16),
    /// 429 `rate_limit_exceeded` / `requests`.
    RequestLimit { retry_after: Option<u32> },
    /// 429 `rate_limit_exceeded` / `tokens`.
    TokenLimit { retry_after: Option<u32> },
    /// 429 `slow_down` / `rate_limit_error`.
    SlowDown,
    /// 429 `insufficient_quota`, without `Retry-After`.
    InsufficientQuota,
    /// 429 `credit_balance_exhausted` / `insufficient_quota`, without `Retry-After`.
    CreditExhausted,
    /// 429 `daily_rate_limit_exceeded` / `invalid_request_error`.
    DailyLimit,
    /// The request takes effect; 200 with JSON that breaks off, under a correct length.
    MalformedJson,
    /// The request takes effect; 200 whose body ends before its `Content-Length`.
    TruncatedBody,
    /// Never answers, nothing happened.
    Stall,
    /// The request takes effect, but no answer ever comes.
    StallAfterActing,
    /// Goes well, this much later.
    Slow(Duration),
    /// Nothing happened; exactly this answer.
    Reply { status: u16, headers: Vec<(String, String)>, body: String },
    /// The request takes effect; exactly this answer.
    ReplyAfterActing { status: u16, headers: Vec<(String, String)>, body: String },
}

/// Faults that wait for their requests.
#[derive(Default)]
pub struct Faults {
    any: AtomicBool,
    rules: RwLock<Vec<Arc<Rule>>>,
    played: Mutex<BTreeMap<String, u64>>,
}

/// When faults happen.
pub struct Rule {
    method: String,
    path: String,
    /// Matching requests so far.
    seen: AtomicU64,
    when: When,
}

enum When {
    Next { skipped: u64, times: u64, fault: Fault },
    Random { seed: u64, faults: Vec<(f64, Fault)> },
}

impl Rule {
    pub fn next(method: &str, path: &str, skipped: u64, times: u64, fault: Fault) -> Rule {
        Rule::new(method, path, When::Next { skipped, times, fault })
    }
    pub fn random(method: &str, path: &str, seed: u64, faults: &[(f64, Fault)]) -> Rule {
        Rule::new(method, path, When::Random { seed, faults: faults.to_vec() })
    }
    fn new(method: &str, path: &str, when: When) -> Rule {
        Rule { method: method.into(), path: path.into(), seen: AtomicU64::new(0), when }
    }
    fn pick(&self) -> Option<Fault> {
        let index = self.seen.fetch_add(1, Ordering::Relaxed);
        match &self.when {
            When::Next { skipped, times, fault } => {
                (index >= *skipped && index - skipped < *times).then(|| fault.clone())
            }
            When::Random { seed, faults } => {
                let mut draw = unit(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
                for (probability, fault) in faults {
                    if draw < *probability {
                        return Some(fault.clone());
                    }
                    draw -= probability;
                }
                None
            }
        }
    }
}

impl Faults {
    pub fn add(&self, rule: Rule) {
        self.rules.write().unwrap().push(Arc::new(rule));
        self.any.store(true, Ordering::Release);
    }
    pub fn clear(&self) {
        self.any.store(false, Ordering::Release);
        self.rules.write().unwrap().clear();
    }
    /// The fault of the first rule that has one for this request.
    pub fn pick(&self, method: &str, route: &str) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let rules = self.rules.read().unwrap();
        let mut matching = rules.iter().filter(|rule| matches(&rule.method, &rule.path, method, route));
        let fault = matching.find_map(|rule| rule.pick())?;
        let name: String = format!("{fault:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect();
        *self.played.lock().unwrap().entry(name).or_default() += 1;
        Some(fault)
    }
    pub fn played(&self, name: &str) -> u64 {
        let played = self.played.lock().unwrap();
        played.iter().filter(|(fault, _)| name == "*" || *fault == name).map(|(_, count)| count).sum()
    }
}

/// Whether a request is meant: `*` is any method, the path is a prefix, exact with `$` at its end, `/v1` is left out.
pub fn matches(method: &str, path: &str, actual_method: &str, route: &str) -> bool {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let same_path = match path.strip_suffix('$') {
        Some(exact) => exact == route,
        None => route.starts_with(path),
    };
    (method == "*" || method == actual_method) && same_path
}

/// Noise that follows from a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The same in [0, 1).
pub fn unit(number: u64) -> f64 {
    (mix(number) >> 11) as f64 / (1u64 << 53) as f64
}

/// The usual error of a status.
pub fn usual(status: u16) -> Reply {
    let invalid = "invalid_request_error";
    match status {
        400 => Reply::bad("model", "Invalid value for 'model'."),
        401 => Reply::error(401, invalid, None, Some("invalid_api_key"), "Incorrect API key provided."),
        403 => Reply::error(403, invalid, None, None, "Your organization does not have permission to do this."),
        404 => Reply::error(
            404,
            invalid,
            None,
            Some("model_not_found"),
            "The model does not exist or you do not have access to it.",
        ),
        408 => Reply::error(408, "server_error", None, None, "Request timed out."),
        409 => Reply::error(409, "server_error", None, None, "The request conflicts with another; please try again."),
        422 => Reply::error(422, invalid, Some("training_file"), None, "Unprocessable value."),
        502 => Reply::html(502, "502 Bad Gateway"),
        503 => {
            Reply::error(503, "server_error", None, None, "The engine is currently overloaded, please try again later.")
        }
        504 => Reply::html(504, "504 Gateway Time-out"),
        other => {
            let message = "The server had an error while processing your request. Sorry about that!";
            Reply::error(other, "server_error", None, None, message)
        }
    }
}

/// The 429 of a fault that is one.
pub fn too_many(fault: &Fault) -> Option<Reply> {
    let refusal = |kind, code, message| Reply::error(429, kind, None, Some(code), message);
    let with_delay = |reply: Reply, seconds: Option<u32>| match seconds {
        Some(seconds) => reply.header("retry-after", seconds).header("retry-after-ms", seconds * 1000),
        None => reply,
    };
    let quota = "You exceeded your current quota, please check your plan and billing details.";
    Some(match fault {
        Fault::RequestLimit { retry_after } => {
            let message = "Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1.";
            with_delay(refusal("requests", "rate_limit_exceeded", message), *retry_after)
        }
        Fault::TokenLimit { retry_after } => {
            let message = "Rate limit reached for tokens per min (TPM): Limit 30000, Used 29900, Requested 812.";
            with_delay(refusal("tokens", "rate_limit_exceeded", message), *retry_after)
        }
        Fault::SlowDown => refusal("rate_limit_error", "slow_down", "You are ramping up too fast. Please slow down."),
        Fault::InsufficientQuota => refusal("insufficient_quota", "insufficient_quota", quota),
        Fault::CreditExhausted => {
            refusal("insufficient_quota", "credit_balance_exhausted", "Your credit balance is exhausted.")
        }
        Fault::DailyLimit => daily_limit(8, "gpt-4.1-2025-04-14"),
        _ => return None,
    })
}

/// The refusal of a job because the day's are used up.
pub fn daily_limit(limit: u32, model: &str) -> Reply {
    let message = format!(
        "This fine-tune request has been rate-limited. Your organization has reached the maximum of {limit} \
         fine-tuning requests per day for the model '{model}'."
    );
    Reply::error(429, "invalid_request_error", None, Some("daily_rate_limit_exceeded"), &message)
}
