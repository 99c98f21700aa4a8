//! A tiny scripted server for the tests of this band: each request gets what a function says, be it silence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::chat::{Chat, Patience};
use super::endpoint::{AccessKey, Endpoint};
use super::secret::Secret;
use super::settings::ProviderSettings;
use super::wire::chat::ChatRequest;
use crate::data::chat::{Message, Role};

/// A request as it came.
pub struct Asked {
    /// GET, POST, ...
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// As it came.
    pub body: Vec<u8>,
}

/// What the server does.
pub enum Reply {
    /// Answers.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Answers late.
    SayAfter(Duration, u16, String),
    /// Closes the connection.
    Drop,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    /// The key that it was sent by.
    pub fn key(&self) -> &str {
        self.headers.get("authorization").map_or("", |value| value.trim_start_matches("Bearer "))
    }
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Self {
        Reply::Say(status, Vec::new(), body.to_string())
    }
    /// A chat completion.
    pub fn chat(text: &str) -> Self {
        Reply::json(200, completion(text))
    }
    /// An error in OpenAI's shape.
    pub fn error(status: u16, code: &str, param: Option<&str>) -> Self {
        Reply::json(
            status,
            json!({ "error": { "message": format!("said {code}"), "type": code, "code": code, "param": param } }),
        )
    }
    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Reply::Say(status, mut headers, body) => {
                headers.push((name, value.to_string()));
                Reply::Say(status, headers, body)
            }
            other => other,
        }
    }
}

/// The body of a chat completion.
pub fn completion(text: &str) -> Value {
    let message = json!({ "role": "assistant", "content": text });
    json!({
        "id": "c", "model": "m-2026", "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10 },
    })
}

/// A question.
pub fn question(text: &str) -> ChatRequest {
    ChatRequest {
        model: "m".to_string(),
        messages: vec![Message::new(Role::User, text)],
        temperature: Some(1.0),
        top_p: None,
        max_completion_tokens: Some(20),
        max_tokens: None,
        seed: None,
        logprobs: None,
        top_logprobs: None,
    }
}

/// Starts a server and tells its base URL.
pub async fn serve(reply: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let reply = Arc::new(reply);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, reply.clone()));
        }
    });
    url
}

/// An endpoint at this address with these keys.
pub fn endpoint(url: &str, keys: &[&str], change: impl FnOnce(&mut ProviderSettings)) -> Endpoint {
    let mut settings = ProviderSettings { poll_seconds: 0.01, timeout_seconds: 5.0, ..ProviderSettings::of_url(url) };
    change(&mut settings);
    let key = |(number, key): (usize, &&str)| AccessKey {
        variable: format!("KEY_{number}"),
        secret: Secret::new(key),
        organization: None,
        project: None,
    };
    Endpoint::new("lab", settings, keys.iter().enumerate().map(key).collect()).unwrap()
}

/// Delays that tests can wait for.
pub fn patience() -> Patience {
    let (first_delay, longest_delay) = (Duration::from_millis(5), Duration::from_millis(20));
    Patience { first_delay, longest_delay, ..Patience::default() }
}

/// A door to this address.
pub fn chat(url: &str, keys: &[&str], change: impl FnOnce(&mut ProviderSettings)) -> Chat {
    Chat::with_patience(endpoint(url, keys, change), patience())
}

async fn converse(mut socket: TcpStream, reply: Arc<impl Fn(Asked) -> Reply>) {
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut socket, &mut buffer).await {
        let (status, headers, body) = match reply(asked) {
            Reply::Say(status, headers, body) => (status, headers, body),
            Reply::SayAfter(delay, status, body) => {
                tokio::time::sleep(delay).await;
                (status, Vec::new(), body)
            }
            Reply::Drop => return,
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        read_more(socket, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_string(), first.next()?.to_string());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_string()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while buffer.len() < end + 4 + length {
        read_more(socket, buffer).await?;
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(Asked { method, path, headers, body })
}

async fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut part = [0u8; 4096];
    let count = socket.read(&mut part).await.ok().filter(|count| *count > 0)?;
    buffer.extend_from_slice(&part[..count]);
    Some(())
}
