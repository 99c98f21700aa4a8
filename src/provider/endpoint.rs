//! One provider as requests reach it: its address, its keys, its connections, and one try of a request at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::{Form, Part};
use serde::de::DeserializeOwned;

use super::fault::{Class, Fault};
use super::secret::Secret;
use super::settings::{Dialect, ProviderSettings};
use crate::error::{Error, Result};

pub use bytes::Bytes;
pub use reqwest::Method;

/// A key and what it belongs to.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The environment variable that it came from.
    pub variable: String,
    /// Its value.
    pub secret: Secret,
    /// Sent as `OpenAI-Organization`.
    pub organization: Option<String>,
    /// Sent as `OpenAI-Project`.
    pub project: Option<String>,
}

/// One provider; clones are the same one.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    settings: ProviderSettings,
    keys: Vec<AccessKey>,
    http: reqwest::Client,
}

/// What is sent, once.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST or DELETE.
    pub method: Method,
    /// Path after the base URL, beginning with a slash.
    pub path: String,
    /// Query, not yet encoded.
    pub query: Vec<(String, String)>,
    /// Body.
    pub body: Body,
    /// How long the answer may take from the moment of sending.
    pub timeout: Duration,
    /// Which of the keys, from 0.
    pub key: usize,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub enum Body {
    /// None.
    Empty,
    /// JSON, written already.
    Json(Bytes),
    /// A file with its purpose, as `/files` wants it.
    File {
        /// Name under which the provider lists it.
        name: String,
        /// fine-tune or batch.
        purpose: String,
        /// What is in it.
        bytes: Bytes,
    },
}

/// An answer of success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the headers tell.
    pub facts: Facts,
    /// The body as it came.
    pub body: Bytes,
}

/// What the headers of an answer tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Number under which the provider's support finds the request.
    pub request_id: Option<String>,
    /// Organisation of the key.
    pub organization: Option<String>,
    /// Project of the key.
    pub project: Option<String>,
    /// Requests: limit per minute, left, seconds until all are free again.
    pub requests: RateFacts,
    /// Tokens, likewise.
    pub tokens: RateFacts,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider says that another try helps.
    pub should_retry: Option<bool>,
}

/// One limit as the headers tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateFacts {
    /// Per minute.
    pub limit: Option<f64>,
    /// Left now.
    pub remaining: Option<f64>,
    /// Until the limit is whole again.
    pub reset: Option<Duration>,
}

impl Request {
    /// A request without query, with a minute to answer, by the first key.
    pub fn new(method: Method, path: impl Into<String>, body: Body) -> Self {
        Request { method, path: path.into(), query: Vec::new(), body, timeout: Duration::from_secs(60), key: 0 }
    }
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Body::Empty)
    }
    /// A POST of a JSON value.
    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::new(Method::POST, path, Body::Json(Bytes::from(body.to_string())))
    }
}

impl Facts {
    /// How long to wait after an answer of this status: as asked for, or until a limit that is used up is whole again.
    pub fn wait(&self, status: u16) -> Option<Duration> {
        let used_up = |rate: &&RateFacts| status == 429 && rate.remaining.is_some_and(|remaining| remaining < 1.0);
        let resets = [self.requests, self.tokens];
        self.retry_after.or_else(|| resets.iter().filter(used_up).filter_map(|rate| rate.reset).max())
    }
}

impl Answer {
    /// The body as an object of the protocol.
    ///
    /// # Errors
    /// [`Class::Malformed`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let mut fault = Fault::new(Class::Malformed, format!("the answer cannot be read: {error}"));
            fault.request_id.clone_from(&self.facts.request_id);
            fault
        })
    }
}

impl Endpoint {
    /// A provider by the name that model ids use.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(name: &str, settings: ProviderSettings, keys: Vec<AccessKey>) -> Result<Self> {
        let address = reqwest::Url::parse(settings.base_url());
        if !address.is_ok_and(|address| matches!(address.scheme(), "http" | "https") && address.has_host()) {
            return Err(Error::input(format!("`{}` is no address of a provider", settings.base_url()))
                .with_help("write `base_url` as in `http://127.0.0.1:8000/v1`"));
        }
        // The first call decides for the process; later ones find the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("drylab/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(settings.most_in_flight)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::environment(format!("no HTTP client: {error}")))?;
        Ok(Endpoint { inner: Arc::new(Inner { name: name.to_string(), settings, keys, http }) })
    }

    /// Its name in model ids.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
    /// What `drylab.toml` says about it.
    pub fn settings(&self) -> &ProviderSettings {
        &self.inner.settings
    }
    /// How many keys there are; a provider without keys is asked without one.
    pub fn keys(&self) -> &[AccessKey] {
        &self.inner.keys
    }

    /// What a key belongs to, as far as `facts` of an answer to it and the settings tell; else the key's fingerprint.
    pub fn identity(&self, key: usize, facts: &Facts) -> String {
        let key = self.inner.keys.get(key);
        let organization = facts.organization.clone().or_else(|| key.and_then(|key| key.organization.clone()));
        let project = facts.project.clone().or_else(|| key.and_then(|key| key.project.clone()));
        match (organization, project, key) {
            (None, None, None) => "open".to_string(),
            (None, None, Some(key)) => format!("key {}", key.secret.fingerprint()),
            (organization, project, _) => {
                format!("{}/{}", organization.unwrap_or_default(), project.unwrap_or_default())
            }
        }
    }

    /// Sends a request once; never again by itself.
    ///
    /// # Errors
    /// Everything but an answer of 2xx with its whole body.
    pub async fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let mut sending = self
            .inner
            .http
            .request(request.method.clone(), format!("{}{}", self.inner.settings.base_url(), request.path))
            .headers(self.headers(request.key)?)
            .timeout(request.timeout);
        if !request.query.is_empty() {
            sending = sending.query(&request.query);
        }
        if let Some(version) = &self.inner.settings.api_version {
            sending = sending.query(&[("api-version", version)]);
        }
        sending = match &request.body {
            Body::Empty => sending,
            Body::Json(bytes) => {
                sending.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(bytes.clone())
            }
            Body::File { name, purpose, bytes } => {
                let part = Part::stream_with_length(bytes.clone(), bytes.len() as u64)
                    .file_name(name.clone())
                    .mime_str("application/octet-stream")
                    .map_err(|error| self.describe(error))?;
                let mut form = Form::new().text("purpose", purpose.clone());
                if self.inner.settings.dialect() == Dialect::Together {
                    form = form.text("file_name", name.clone()).text("file_type", "jsonl");
                }
                sending.multipart(form.part("file", part))
            }
        };
        let response = sending.send().await.map_err(|error| self.describe(error))?;
        let status = response.status();
        let mut facts = read_headers(response.headers());
        facts.request_id = facts.request_id.map(|id| self.redact(&id));
        let body = match response.bytes().await {
            Ok(body) => body,
            // The status is known, but not what happened.
            Err(error) if status.is_success() => {
                return Err(Fault { request_id: facts.request_id, ..self.describe(error) });
            }
            Err(_) => Bytes::new(),
        };
        if status.is_success() {
            return Ok(Answer { facts, body });
        }
        let mut fault = Fault::of_answer(status.as_u16(), &body, facts.wait(status.as_u16()));
        if status.is_redirection() {
            fault.message = format!("the address redirects ({status}): write the final one into `base_url`");
        }
        fault.is_final = facts.should_retry == Some(false);
        fault.message = self.redact(&fault.message);
        fault.code = fault.code.map(|code| self.redact(&code));
        fault.param = fault.param.map(|param| self.redact(&param));
        fault.request_id = facts.request_id;
        Err(fault)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// As [`Endpoint::send`], and [`Class::Malformed`].
    pub async fn fetch<T: DeserializeOwned>(&self, request: &Request) -> Result<(T, Facts), Fault> {
        let answer = self.send(request).await?;
        Ok((answer.read()?, answer.facts))
    }

    /// The text without any of the keys.
    pub fn redact(&self, text: &str) -> String {
        self.inner.keys.iter().fold(text.to_string(), |text, key| key.secret.redact(&text))
    }

    fn headers(&self, key: usize) -> Result<HeaderMap, Fault> {
        let mut headers = HeaderMap::new();
        let Some(key) = self.inner.keys.get(key) else { return Ok(headers) };
        let mut add = |name: HeaderName, value: String| match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(name, value);
                Ok(())
            }
            Err(_) => {
                let what = format!("`{}` holds characters that no header may carry", key.variable);
                Err(Fault::new(Class::Authentication, what))
            }
        };
        if self.inner.settings.dialect() == Dialect::Azure {
            add(HeaderName::from_static("api-key"), key.secret.expose().to_string())?;
        } else {
            add(AUTHORIZATION, format!("Bearer {}", key.secret.expose()))?;
        }
        if let Some(organization) = &key.organization {
            add(HeaderName::from_static("openai-organization"), organization.clone())?;
        }
        if let Some(project) = &key.project {
            add(HeaderName::from_static("openai-project"), project.clone())?;
        }
        Ok(headers)
    }

    fn describe(&self, error: reqwest::Error) -> Fault {
        let fault = describe_failure(error, self.inner.settings.base_url());
        Fault { message: self.redact(&fault.message), ..fault }
    }
}

/// What a failure without an answer means; `address` is what people know the other end by. Keys may still be in it.
pub(super) fn describe_failure(error: reqwest::Error, address: &str) -> Fault {
    let mut reasons = Vec::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        reasons.push(error.to_string());
        source = error.source();
    }
    // The layers between wrap what TLS says in types of their own, so that only its words are left. The outermost
    // reason is the address; and what fails after the connection stands may have been sent.
    let says_tls = ["certificate", "corrupt message", "handshake", "TLS"];
    let is_tls = |reason: &String| says_tls.iter().any(|word| reason.contains(word));
    let is_certificate = error.is_connect() && reasons.iter().skip(1).any(is_tls);
    // The innermost reason is the one that tells; the outer ones repeat the address.
    let reason = reasons.last().map(String::as_str).unwrap_or_default();
    if error.is_builder() {
        Fault::new(Class::Unreachable, format!("no request can be made to {address}: {reason}"))
    } else if is_certificate {
        Fault::new(Class::Unreachable, format!("no secure connection to {address}: {reason}"))
    } else if error.is_connect() {
        Fault::new(Class::NotSent, format!("no connection to {address}: {reason}"))
    } else if error.is_timeout() {
        Fault::new(Class::Lost, "no answer in time")
    } else {
        Fault::new(Class::Lost, format!("the answer was lost: {reason}"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} at {})", self.inner.name, self.inner.settings.base_url())
    }
}

fn read_headers(headers: &HeaderMap) -> Facts {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
    let rate = |what: &str| RateFacts {
        limit: number(&format!("x-ratelimit-limit-{what}")),
        remaining: number(&format!("x-ratelimit-remaining-{what}")),
        reset: text(&format!("x-ratelimit-reset-{what}")).and_then(parse_go_duration),
    };
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    let milliseconds = number("retry-after-ms").and_then(|milliseconds| seconds(milliseconds / 1000.0));
    Facts {
        request_id: text("x-request-id").map(str::to_string),
        organization: text("openai-organization").map(str::to_string),
        project: text("openai-project").map(str::to_string),
        requests: rate("requests"),
        tokens: rate("tokens"),
        retry_after: milliseconds.or_else(|| number("retry-after").and_then(seconds)),
        should_retry: text("x-should-retry").map(|text| text == "true"),
    }
}

/// A duration as Go writes it: `12ms`, `6m0s`, `1h2m3.5s`.
fn parse_go_duration(text: &str) -> Option<Duration> {
    let (mut seconds, mut rest) = (0.0, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|letter: char| letter.is_ascii_digit()).map_or(rest.len(), |at| end + at);
        seconds += number
            * match &rest[end..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_read() {
        let read = |text: &str| parse_go_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(read("12ms"), Some(0.012));
        assert_eq!(read("6m0s"), Some(360.0));
        assert_eq!(read("1h2m3.5s"), Some(3723.5));
        assert_eq!((read(""), read("5"), read("5x")), (None, None, None));
    }

    #[test]
    fn headers_tell_limits_and_waiting_times() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-tokens", "29000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("retry-after", "7"),
            ("openai-organization", "org-a"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let facts = read_headers(&headers);
        assert_eq!(facts.requests.limit, Some(500.0));
        assert_eq!(
            facts.tokens,
            RateFacts { limit: None, remaining: Some(29000.0), reset: Some(Duration::from_secs(360)) }
        );
        assert_eq!(facts.retry_after, Some(Duration::from_secs(7)));
        headers.insert("retry-after-ms", HeaderValue::from_static("250"));
        assert_eq!(read_headers(&headers).retry_after, Some(Duration::from_millis(250)));
    }

    #[tokio::test]
    async fn a_refused_connection_was_never_sent() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = Endpoint::new("lab", ProviderSettings::of_url(&format!("http://{free}/v1")), vec![]).unwrap();
        let fault = endpoint.send(&Request::get("/models")).await.unwrap_err();
        assert_eq!(fault.class, Class::NotSent, "{fault:?}");
        assert!(!fault.may_have_happened());
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_no_place_for_a_second_try() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await;
            }
        });
        let url = format!("https://{address}/v1");
        let endpoint = Endpoint::new("lab", ProviderSettings::of_url(&url), vec![]).unwrap();
        let fault = endpoint.send(&Request::get("/models")).await.unwrap_err();
        assert_eq!((fault.class, fault.is_retryable()), (Class::Unreachable, false), "{fault:?}");
    }

    #[tokio::test]
    async fn a_dropped_connection_leaves_the_outcome_open() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = [0u8; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut head).await;
            }
        });
        let endpoint = Endpoint::new("lab", ProviderSettings::of_url(&format!("http://{address}/v1")), vec![]).unwrap();
        let fault = endpoint.send(&Request::post("/fine_tuning/jobs", &serde_json::json!({}))).await.unwrap_err();
        assert_eq!(fault.class, Class::Lost, "{fault:?}");
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for base_url in ["", "localhost:8000", "ftp://a/v1", "https://"] {
            assert!(Endpoint::new("lab", ProviderSettings::of_url(base_url), vec![]).is_err(), "{base_url}");
        }
    }
}
