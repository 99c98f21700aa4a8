//! Who may ask: requests with the token, or, where there is none, programs of this machine; and where nothing is.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Server;
use super::error::ApiError;

/// Lets a request in, or says why not.
pub async fn admit(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let allowed = match &server.token {
        Some(token) => check_token(request.headers(), &token.0),
        None => check_host(request.headers()),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// For paths that do not exist.
pub async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    let message = format!("Unknown request URL: {method} {}. Please check the URL for typos.", uri.path());
    ApiError::malformed(message).with_status(StatusCode::NOT_FOUND).with_code("unknown_url")
}

/// For paths that exist, asked in another way.
pub async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    ApiError::malformed(message).with_status(StatusCode::METHOD_NOT_ALLOWED).with_code("method_not_supported")
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), ApiError> {
    let Some(found) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY).",
        ));
    };
    let found = found.as_bytes();
    let bearer = found.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    // Digests are compared, so that the time that takes tells nothing about the token.
    match bearer && blake3::hash(&found[7..]) == blake3::hash(token.as_bytes()) {
        true => Ok(()),
        false => Err(ApiError::unauthorized("Incorrect API key provided.")),
    }
}

/// Without a token a web page could ask in the name of whoever reads it, under a name of its own for this machine.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let local = name.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
    // A page of another origin can upload a form without asking first; browsers say where it comes from.
    let page = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default().to_string());
    let own = page.is_none_or(|page| page.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host)));
    match local && own {
        true => Ok(()),
        false => Err(ApiError::malformed(
            "Without a token this server answers programs of its own machine only: use http://127.0.0.1, or start it \
             with `--token-env NAME`.",
        )
        .with_status(StatusCode::FORBIDDEN)
        .with_code("forbidden")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_whole_token_opens() {
        let ask = |value: &str| check_token(&headers(&[(header::AUTHORIZATION, value)]), "secret");
        assert!(ask("Bearer secret").is_ok() && ask("bearer secret").is_ok());
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "secret", "Bea"] {
            let error = ask(wrong).unwrap_err();
            assert_eq!((error.status, error.code), (StatusCode::UNAUTHORIZED, Some("invalid_api_key")), "{wrong}");
            assert!(!error.message.contains("secret"));
        }
        assert!(check_token(&HeaderMap::new(), "secret").unwrap_err().message.contains("didn't provide"));
    }

    #[test]
    fn pages_of_other_origins_cannot_ask() {
        let ask = |pairs: &[(header::HeaderName, &str)]| check_host(&headers(pairs)).is_ok();
        for host in ["localhost:8000", "127.0.0.1", "[::1]:80", "127.0.0.1:8000"] {
            assert!(ask(&[(header::HOST, host)]), "{host}");
        }
        assert!(!ask(&[(header::HOST, "evil.example:8000")]));
        assert!(!ask(&[(header::HOST, "127.0.0.1:8000"), (header::ORIGIN, "https://evil.example")]));
        assert!(ask(&[(header::HOST, "127.0.0.1:8000"), (header::ORIGIN, "http://127.0.0.1:8000")]));
    }
}
