//! Failures as OpenAI's clients expect them: a status, and `{"error": {message, type, param, code}}`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::{Error, Kind};

/// A request that gets no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong, as a sentence.
    pub message: String,
    /// Which part of the request is wrong.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
}

/// Result of a request.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// The request is wrong, in the part called `param`.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            param: Some(param.to_string()),
            code: Some("invalid_value"),
        }
    }
    /// The request as a whole is wrong.
    pub fn malformed(message: impl Into<String>) -> Self {
        ApiError { status: StatusCode::BAD_REQUEST, message: message.into(), param: None, code: None }
    }
    /// There is no such thing.
    pub fn missing(param: &str, message: impl Into<String>) -> Self {
        Self::invalid(param, message).with_status(StatusCode::NOT_FOUND).with_code("not_found")
    }
    /// There is no such model.
    pub fn no_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Self::invalid("model", message).with_status(StatusCode::NOT_FOUND).with_code("model_not_found")
    }
    /// The token is missing or wrong.
    pub fn unauthorized(message: &str) -> Self {
        Self::malformed(message).with_status(StatusCode::UNAUTHORIZED).with_code("invalid_api_key")
    }
    /// With another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
    /// With another code.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// OpenAI's word for the class of failure.
    fn kind(&self) -> &'static str {
        match self.status.is_server_error() {
            true => "server_error",
            false => "invalid_request_error",
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            Kind::Input => StatusCode::BAD_REQUEST,
            Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::malformed(sentence(&error)).with_status(status)
    }
}

/// An error of ours as a sentence, its help as another.
pub fn sentence(error: &Error) -> String {
    let end = |text: &str| match text.ends_with(['.', '?', '!']) {
        true => text.to_string(),
        false => format!("{text}."),
    };
    match &error.help {
        Some(help) => format!("{} {}", end(&error.message), end(&capital(help))),
        None => end(&error.message),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "message": self.message, "type": self.kind(), "param": self.param, "code": self.code,
        }});
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_has_the_shape_that_clients_read() {
        let response = ApiError::no_model("gpt-4").into_response();
        assert_eq!(response.status(), 404);
        let body = axum::body::to_bytes(response.into_body(), 9999).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({ "error": {
                "message": "The model `gpt-4` does not exist or you do not have access to it.",
                "type": "invalid_request_error", "param": "model", "code": "model_not_found",
            }})
        );
        let failure =
            ApiError::from(Error::environment("the disk is full").with_help("free some space")).into_response();
        assert_eq!(failure.status(), 500);
    }

    #[test]
    fn our_errors_become_sentences() {
        let error = Error::input("`epochs` is 0").with_help("write 1 or more");
        assert_eq!(sentence(&error), "`epochs` is 0. Write 1 or more.");
    }
}
