//! Limits of requests and tokens per minute, as buckets that refill all the time.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::reply::Reply;

/// What a project may send to a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Requests that a bucket gains in a minute.
    pub requests_per_minute: f64,
    /// Tokens that a bucket gains in a minute.
    pub tokens_per_minute: f64,
    /// Requests that fit into the bucket, which starts full.
    pub burst_requests: f64,
    /// Tokens that fit into the bucket, which starts full.
    pub burst_tokens: f64,
    /// Refusals say when to come back, in `Retry-After` (whole seconds, rounded up) and `retry-after-ms`.
    pub says_when: bool,
}

impl Limits {
    /// Buckets that hold a minute's worth.
    pub fn per_minute(requests: f64, tokens: f64) -> Limits {
        Limits {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            burst_requests: requests,
            burst_tokens: tokens,
            says_when: true,
        }
    }
}

#[derive(Clone, Copy)]
struct Bucket {
    requests: f64,
    tokens: f64,
    at: Instant,
}

/// The buckets of all projects and models.
#[derive(Default)]
pub struct Limiter {
    buckets: Mutex<HashMap<(String, String), Bucket>>,
    refusals: AtomicU64,
}

impl Limiter {
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Takes one request and its tokens: the headers of an answer, or a refusal.
    pub fn take(&self, limits: &Limits, project: &str, model: &str, tokens: u64) -> Result<Headers, Box<Reply>> {
        let tokens = tokens as f64;
        let mut buckets = self.buckets.lock().unwrap();
        let now = Instant::now();
        let full = Bucket { requests: limits.burst_requests, tokens: limits.burst_tokens, at: now };
        let bucket = buckets.entry((project.into(), model.into())).or_insert(full);
        let minutes = now.duration_since(bucket.at).as_secs_f64() / 60.0;
        bucket.requests = (bucket.requests + minutes * limits.requests_per_minute).min(limits.burst_requests);
        bucket.tokens = (bucket.tokens + minutes * limits.tokens_per_minute).min(limits.burst_tokens);
        bucket.at = now;
        let refused = if bucket.requests < 1.0 {
            Some(("requests", "requests per min (RPM)", limits.requests_per_minute, 1.0, 1.0 - bucket.requests))
        } else if bucket.tokens < tokens {
            Some(("tokens", "tokens per min (TPM)", limits.tokens_per_minute, tokens, tokens - bucket.tokens))
        } else {
            bucket.requests -= 1.0;
            bucket.tokens -= tokens;
            None
        };
        let headers = headers(limits, bucket);
        drop(buckets);
        let Some((kind, what, limit, wanted, lacking)) = refused else {
            return Ok(headers);
        };
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let wait = Duration::from_secs_f64(lacking / limit * 60.0);
        let message = format!(
            "Rate limit reached for {model} in project {project} on {what}: Limit {limit}, Used {}, \
             Requested {wanted}. Please try again in {}.",
            limit - lacking.min(limit),
            go_duration(wait)
        );
        let mut reply = Reply::error(429, kind, None, Some("rate_limit_exceeded"), &message);
        reply.headers = headers;
        if limits.says_when {
            let milliseconds = wait.as_secs_f64() * 1000.0;
            reply =
                reply.header("retry-after", wait.as_secs_f64().ceil()).header("retry-after-ms", milliseconds.ceil());
        }
        Err(Box::new(reply))
    }
}

type Headers = Vec<(String, String)>;

fn headers(limits: &Limits, bucket: &Bucket) -> Headers {
    let reset =
        |missing: f64, per_minute: f64| go_duration(Duration::from_secs_f64(missing.max(0.0) / per_minute * 60.0));
    let pairs = [
        ("limit-requests", format!("{}", limits.requests_per_minute)),
        ("limit-tokens", format!("{}", limits.tokens_per_minute)),
        ("remaining-requests", format!("{}", bucket.requests.floor())),
        ("remaining-tokens", format!("{}", bucket.tokens.floor())),
        ("reset-requests", reset(limits.burst_requests - bucket.requests, limits.requests_per_minute)),
        ("reset-tokens", reset(limits.burst_tokens - bucket.tokens, limits.tokens_per_minute)),
    ];
    pairs.into_iter().map(|(name, value)| (format!("x-ratelimit-{name}"), value)).collect()
}

/// A time as Go writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`.
pub fn go_duration(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (hours, minutes) = (milliseconds / 3_600_000, milliseconds / 60_000 % 60);
    let seconds = (milliseconds % 60_000) as f64 / 1000.0;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
