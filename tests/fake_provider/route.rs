//! The way of a request: read, counted, met by a fault or not, authorised, acted on, answered.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode};
use serde_json::Value;

use super::connection::{Answered, Ending, truncate};
use super::faults::{self, Fault};
use super::journal::{CHAT, Entry};
use super::reply::{Reply, decode_query};
use super::state::{Caller, State};
use super::{batches, chat, files, jobs, models, together};

/// A request that may act.
pub struct Call {
    pub caller: Arc<Caller>,
    pub method: String,
    /// The path without `/v1`, `/openai/v1`, `/openai/deployments/NAME`.
    pub route: String,
    pub query: Vec<(String, String)>,
    pub body: Bytes,
    /// The deployment that the path names.
    pub deployment: Option<String>,
    /// Addressed in the shape of Azure.
    pub azure: bool,
    parts: Parts,
}

impl Call {
    /// The body as an object.
    pub fn json(&self) -> Result<Value, Box<Reply>> {
        match serde_json::from_slice(&self.body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            _ => {
                let message = "We could not parse the JSON body of your request.";
                Err(Box::new(Reply::error(400, "invalid_request_error", None, None, message)))
            }
        }
    }
    /// The request for readers of multipart bodies.
    pub fn whole(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), Body::from(self.body.clone()))
    }
}

/// The route of a path, the deployment that it names, whether it is Azure's.
fn read_path(path: &str) -> (String, Option<String>, bool) {
    let (path, azure) = match path.strip_prefix("/openai") {
        Some(rest) => (rest, true),
        None => (path, false),
    };
    if let Some((deployment, rest)) = path.strip_prefix("/deployments/").and_then(|rest| rest.split_once('/')) {
        return (format!("/{rest}"), Some(deployment.into()), azure);
    }
    let route = path.strip_prefix("/v1").unwrap_or(path).trim_end_matches('/');
    (route.into(), None, azure)
}

/// Answers a request, or ends its connection.
pub async fn answer(state: &Arc<State>, request: Request<Body>) -> Answered {
    let open = state.journal.open();
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|_| Ending::Close)?;
    let (route, deployment, azure) = read_path(parts.uri.path());
    let method = parts.method.to_string();
    let fault = state.faults.pick(&method, &route);
    let caller = authorize(state, &parts.headers);
    let is_chat = method == "POST" && route == CHAT;
    match is_chat {
        true => state.journal.count_chat(),
        false => state.journal.count_other(&method, &route),
    }
    if !is_chat || state.journal.keeps_chats() {
        state.journal.keep(entry(state, &parts, &body, &route, &caller, &fault));
    }
    let query = decode_query(parts.uri.query().unwrap_or_default());
    let organization = match &caller {
        Ok(caller) => caller.clone(),
        Err(_) => state.anyone.clone(),
    };
    let act = {
        let state = state.clone();
        async move {
            match caller {
                Err(refusal) => *refusal,
                Ok(caller) => act(&state, Call { caller, method, route, query, body, deployment, azure, parts }).await,
            }
        }
    };
    let reply = match fault {
        None => act.await,
        Some(Fault::CloseBeforeActing) => return Err(Ending::Close),
        Some(Fault::ResetBeforeActing) => return Err(Ending::Reset),
        Some(Fault::CloseAfterActing) => {
            act.await;
            return Err(Ending::Close);
        }
        Some(Fault::ResetAfterActing) => {
            act.await;
            return Err(Ending::Reset);
        }
        Some(Fault::CloseThenAct(delay)) => {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                act.await;
            });
            return Err(Ending::Close);
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::StallAfterActing) => {
            act.await;
            std::future::pending().await
        }
        Some(Fault::BadGatewayAfterActing) => {
            act.await;
            faults::usual(502)
        }
        Some(Fault::StatusAfterActing(status)) => {
            act.await;
            faults::usual(status)
        }
        Some(Fault::Status(status)) => faults::usual(status),
        Some(Fault::MalformedJson) => {
            let reply = act.await;
            let half = reply.body.slice(..reply.body.len() / 2);
            Reply { status: 200, body: half, ..reply }
        }
        Some(Fault::TruncatedBody) => {
            let reply = act.await;
            let whole = reply.body.clone();
            return Ok(respond(state, &organization, Reply { status: 200, ..reply }, truncate(&whole)));
        }
        Some(Fault::Slow(delay)) => {
            let reply = act.await;
            tokio::time::sleep(delay).await;
            reply
        }
        Some(Fault::Reply { status, headers, body }) => scripted(status, headers, body),
        Some(Fault::ReplyAfterActing { status, headers, body }) => {
            act.await;
            scripted(status, headers, body)
        }
        Some(other) => faults::too_many(&other).expect("every other fault is a 429"),
    };
    let body = Body::from(reply.body.clone());
    // The request counts as open until its answer is on its way.
    drop(open);
    Ok(respond(state, &organization, reply, body))
}

fn scripted(status: u16, headers: Vec<(String, String)>, body: String) -> Reply {
    let kind = if body.trim_start().starts_with('{') { "application/json" } else { "text/plain" };
    Reply { headers, ..Reply::bytes(status, kind, body) }
}

fn respond(state: &State, caller: &Caller, reply: Reply, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    let mut put = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("plain text"));
    };
    put("x-request-id", &format!("req_{:016x}", state.next_serial()));
    put("openai-organization", &caller.organization);
    put("openai-project", &caller.project);
    put("openai-version", "2020-10-01");
    put("openai-processing-ms", "1");
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.insert(name, HeaderValue::from_str(&value).expect("plain text"));
    }
    response
}

fn entry(
    state: &State,
    parts: &Parts,
    body: &Bytes,
    route: &str,
    caller: &Result<Arc<Caller>, Box<Reply>>,
    fault: &Option<Fault>,
) -> Entry {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        let secret = name == "authorization" || name == "api-key";
        let value = if secret { "present".into() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() };
        (name.to_string(), value)
    };
    Entry {
        at: state.age(),
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        route: route.into(),
        headers: parts.headers.iter().map(header).collect(),
        body: body.clone(),
        project: caller.as_ref().map(|caller| caller.project.clone()).unwrap_or_default(),
        fault: fault.clone(),
    }
}

/// Whose key it is, in `Authorization: Bearer` or `api-key`.
fn authorize(state: &State, headers: &HeaderMap) -> Result<Arc<Caller>, Box<Reply>> {
    let settings = state.settings.read().unwrap();
    if settings.keys.is_empty() {
        return Ok(state.anyone.clone());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let refuse =
        |code, message: &str| Err(Box::new(Reply::error(401, "invalid_request_error", None, Some(code), message)));
    let Some(key) = bearer.or(text("api-key")) else {
        return refuse("missing_api_key", "You didn't provide an API key.");
    };
    let Some(caller) = settings.keys.get(key) else {
        let shown = match settings.echo_keys {
            true => key.to_string(),
            false => format!("{}***", key.chars().take(3).collect::<String>()),
        };
        return refuse("invalid_api_key", &format!("Incorrect API key provided: {shown}."));
    };
    if text("openai-organization").is_some_and(|named| named != caller.organization) {
        return refuse("mismatched_organization", "OpenAI-Organization header should match organization for API key.");
    }
    if text("openai-project").is_some_and(|named| named != caller.project) {
        return refuse("mismatched_project", "OpenAI-Project header should match project for API key.");
    }
    Ok(caller.clone())
}

/// Does what was asked.
async fn act(state: &State, call: Call) -> Reply {
    let is_versioned = call.parts.uri.path().starts_with("/openai/v1/");
    let names_version = call.query.iter().any(|(name, _)| name == "api-version");
    if call.azure && !is_versioned && !names_version {
        return Reply::error(404, "invalid_request_error", None, Some("404"), "Resource not found");
    }
    let segments: Vec<&str> = call.route.split('/').skip(1).collect();
    let outcome = match (call.method.as_str(), segments.as_slice()) {
        ("POST", ["chat", "completions"]) => chat::complete(state, &call).await,
        ("POST", ["files"] | ["files", "upload"]) => files::upload(state, &call).await,
        ("GET", ["files"]) => files::list(state, &call),
        ("GET", ["files", id]) => files::retrieve(state, &call, id),
        ("GET", ["files", id, "content"]) => files::content(state, &call, id),
        ("DELETE", ["files", id]) => files::delete(state, &call, id),
        ("POST", ["fine_tuning", "jobs"]) => jobs::create(state, &call),
        ("GET", ["fine_tuning", "jobs"]) => jobs::list(state, &call),
        ("GET", ["fine_tuning", "jobs", id]) => jobs::retrieve(state, &call, id),
        ("GET", ["fine_tuning", "jobs", id, what @ ("events" | "checkpoints")]) => jobs::part(state, &call, id, what),
        ("POST", ["fine_tuning", "jobs", id, what @ ("cancel" | "pause" | "resume")]) => {
            jobs::command(state, &call, id, what)
        }
        ("POST", ["batches"]) => batches::create(state, &call),
        ("GET", ["batches"]) => batches::list(state, &call),
        ("GET", ["batches", id]) => batches::retrieve(state, &call, id),
        ("POST", ["batches", id, "cancel"]) => batches::cancel(state, &call, id),
        ("GET", ["models"]) => models::list(state, &call),
        ("GET", ["models", id @ ..]) => models::retrieve(state, &call, &id.join("/")),
        ("DELETE", ["models", id]) => models::delete(state, &call, id),
        ("POST", ["fine-tunes"]) => together::create(state, &call),
        ("GET", ["fine-tunes"]) => together::list(state, &call),
        ("GET", ["fine-tunes", id]) => together::retrieve(state, &call, id),
        ("GET", ["fine-tunes", id, "events"]) => together::events(state, &call, id),
        ("POST", ["fine-tunes", id, "cancel"]) => together::cancel(state, &call, id),
        (method, _) => {
            let message = format!("Invalid URL ({method} {})", call.parts.uri.path());
            Err(Box::new(Reply::error(404, "invalid_request_error", None, None, &message)))
        }
    };
    outcome.unwrap_or_else(|refusal| *refusal)
}

/// What handlers give back; refusals come as errors so that `?` works.
pub type Outcome = Result<Reply, Box<Reply>>;
