//! Requests to the hub: with the token to the hub alone, tried again where that helps.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};

use super::files::Listing;
use super::repository::Repository;
use super::{HubSettings, HubToken};
use crate::error::{Error, Result};
use crate::provider::endpoint::describe_failure;
use crate::provider::fault::{Class, Fault};

/// Tries of a small request.
const MOST_TRIES: u32 = 5;
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(30);
/// The first delay before another try; each is twice the last.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest delay that is waited for, also where the hub asks for more.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What went wrong: at the hub, or here.
pub(super) enum Trouble {
    /// At the hub or on the way.
    Fault(Fault),
    /// Here, told already.
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Error(error)
    }
}
impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble::Error(error.into())
    }
}

/// The hub, as requests reach it.
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: String,
    token: Option<HubToken>,
    first_delay: Duration,
}

impl Client {
    pub fn new(settings: &HubSettings) -> Result<Self> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_string();
        let address = reqwest::Url::parse(&endpoint);
        if !address.is_ok_and(|address| matches!(address.scheme(), "http" | "https") && address.has_host()) {
            return Err(Error::input(format!("`HF_ENDPOINT` is `{endpoint}`, which is no address"))
                .with_help("write it as in `https://huggingface.co`, or leave it out"));
        }
        // The first call decides for the process; later ones find the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("drylab/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENCE)
            // Large files come from elsewhere. What goes there bears no token: it is taken off where host, port or
            // scheme change.
            .redirect(reqwest::redirect::Policy::limited(10))
            .referer(false)
            .build()
            .map_err(|error| Error::environment(format!("no HTTP client: {error}")))?;
        Ok(Client { http, endpoint, token: settings.token.clone(), first_delay: FIRST_DELAY })
    }

    /// What the hub has of a repository at a revision.
    pub async fn list(&self, repository: &Repository, revision: &str) -> Result<Listing, Fault> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, repository.id(), escape(revision));
        let mut tries = 0;
        loop {
            let fault = match self.read(&url).await {
                Ok(body) => match Listing::read(&body) {
                    Some(listing) => return Ok(listing),
                    None => {
                        let what = "the answer names no commit with the digests of its files";
                        return Err(Fault::new(Class::Malformed, what));
                    }
                },
                Err(fault) => fault,
            };
            tries += 1;
            // Where nobody listens, what is in the cache must do, and soon.
            let most = if fault.class == Class::NotSent { 2 } else { MOST_TRIES };
            if !fault.is_retryable() || tries >= most {
                return Err(fault);
            }
            self.wait(&fault, tries).await;
        }
    }

    async fn read(&self, url: &str) -> Result<Vec<u8>, Fault> {
        let response = self.send(self.get(url).query(&[("blobs", "true")])).await?;
        let body = response.bytes().await.map_err(|error| self.describe(error))?;
        Ok(body.to_vec())
    }

    /// The address of a file.
    pub fn address(&self, repository: &Repository, commit: &str, path: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, repository.id(), path)
    }

    /// A request with the token.
    pub fn get(&self, url: &str) -> RequestBuilder {
        let request = self.http.get(url);
        match &self.token {
            Some(token) => request.bearer_auth(token.secret.expose()),
            None => request,
        }
    }

    /// Sends it once.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let response = request.send().await.map_err(|error| self.describe(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = response.bytes().await.unwrap_or_default();
        let mut fault = Fault::of_answer(status.as_u16(), &body, wait_of(&headers));
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        fault.code = text("x-error-code");
        fault.message = self.redact(&text("x-error-message").unwrap_or(fault.message));
        fault.request_id = text("x-request-id");
        Err(fault)
    }

    /// What a failure without an answer means; addresses of files elsewhere are signed, so none is told.
    pub fn describe(&self, error: reqwest::Error) -> Fault {
        let mut fault = describe_failure(error.without_url(), &self.endpoint);
        fault.message = self.redact(&fault.message);
        fault
    }

    fn redact(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_string(), |token| token.secret.redact(text))
    }

    /// Waits before another try.
    pub async fn wait(&self, fault: &Fault, tries: u32) {
        let doubled = self.first_delay.saturating_mul(2u32.saturating_pow(tries.saturating_sub(1)));
        tokio::time::sleep(fault.retry_after.unwrap_or(doubled).min(LONGEST_DELAY)).await;
    }

    /// What the user is told about a failure.
    pub fn tell(&self, fault: Fault, repository: &Repository) -> Error {
        let (id, endpoint, revision) = (repository.id(), &self.endpoint, repository.revision());
        let status = fault.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let token = self.token.as_ref();
        let said = fault.message.trim().trim_end_matches('.');
        match (fault.status, fault.code.as_deref()) {
            (_, Some("GatedRepo")) => {
                let (who, then) = match token {
                    Some(token) => (format!(" to the account of `{}`", token.from), "run again"),
                    None => (String::new(), "set `HF_TOKEN` to a token of your account"),
                };
                Error::input(format!("`{id}` is gated{status}: its terms have to be accepted before it opens{who}"))
                    .with_help(format!("accept them at {endpoint}/{id}, then {then}"))
            }
            (_, Some("RevisionNotFound")) => Error::input(format!("`{id}` has no revision `{revision}`{status}"))
                .with_help(format!("choose a branch, tag or commit of {endpoint}/{id}/tree/main")),
            (_, Some("EntryNotFound")) => {
                Error::environment(format!("{endpoint} lists a file of `{id}` that it does not have{status}"))
                    .with_help("name another revision: `hf:ID@COMMIT`".replace("ID", &id))
            }
            (Some(401), code) if code != Some("RepoNotFound") && token.is_some() => {
                let from = token.map(|token| token.from.as_str()).unwrap_or_default();
                Error::input(format!("{endpoint} refuses the token of `{from}`{status}: {said}"))
                    .with_help("make a new one at the hub, or leave it out for what everybody may read")
            }
            (Some(401 | 404), _) => {
                let then = match token {
                    Some(token) => format!("that the account of `{}` may see it", token.from),
                    None => "set `HF_TOKEN` if it is private".to_string(),
                };
                Error::input(format!("{endpoint} shows no model `{id}`{status}: there is none, or it is private"))
                    .with_help(format!("check its name, and {then}; write a folder as `hf:./FOLDER`"))
            }
            (Some(403), _) => Error::input(format!("{endpoint} does not open `{id}`{status}: {said}"))
                .with_help("use a token whose permissions cover this repository"),
            _ => {
                let help = match fault.class {
                    Class::NotSent | Class::Unreachable => {
                        "check the network; or fetch it where there is one (`hf download ID`) and copy its folder in the \
                         cache, or name a folder that holds it"
                    }
                    Class::Malformed => "check that `HF_ENDPOINT` is a hub that tells sizes and digests of its files",
                    _ => "run the same command again later: what has come is kept",
                };
                // A refused connection names the address itself.
                let place = if fault.status.is_some() { format!("{endpoint}{status}: ") } else { String::new() };
                Error::environment(format!("{place}{said}")).with_help(help.replace("ID", &id))
            }
        }
    }
}

/// How long the hub asks to wait: in seconds, or until its limit is whole again.
fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    // `"api";r=0;t=55`: 0 requests left for 55 seconds.
    let reset = || {
        let limit = text("ratelimit").filter(|limit| limit.contains("r=0"))?;
        limit.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse::<u64>().ok())
    };
    after.or_else(reset).map(Duration::from_secs)
}

/// A revision as one part of a path.
fn escape(revision: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    revision.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn the_hub_tells_how_long_to_wait_in_two_ways() {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", HeaderValue::from_static("\"api\";r=0;t=55"));
        assert_eq!(wait_of(&headers), Some(Duration::from_secs(55)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("3"));
        assert_eq!(wait_of(&headers), Some(Duration::from_secs(3)));
        let mut left = HeaderMap::new();
        left.insert("ratelimit", HeaderValue::from_static("\"api\";r=12;t=55"));
        assert_eq!((wait_of(&left), wait_of(&HeaderMap::new())), (None, None));
    }

    #[test]
    fn a_revision_is_one_part_of_the_address() {
        assert_eq!((escape("refs/pr/1").as_str(), escape("v1.0").as_str()), ("refs%2Fpr%2F1", "v1.0"));
    }
}
