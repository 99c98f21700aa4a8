//! What goes back to a client: a status, headers, a body, and the objects that lists and errors are.

use axum::body::Bytes;
use serde_json::{Value, json};

/// An answer before it is put on the wire.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn bytes(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply { status, content_type, headers: Vec::new(), body: body.into() }
    }
    /// 200 with an object.
    pub fn json(value: &Value) -> Reply {
        Reply::bytes(200, "application/json", value.to_string())
    }
    pub fn html(status: u16, title: &str) -> Reply {
        let page = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
             <hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
        );
        Reply::bytes(status, "text/html", page)
    }
    /// An error in the provider's shape.
    pub fn error(status: u16, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> Reply {
        let error = json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
        Reply::bytes(status, "application/json", error.to_string())
    }
    /// 400 for one parameter.
    pub fn bad(param: &str, message: &str) -> Reply {
        Reply::error(400, "invalid_request_error", Some(param), None, message)
    }
    pub fn not_found(message: &str) -> Reply {
        Reply::error(404, "invalid_request_error", None, None, message)
    }
    pub fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.into(), value.to_string()));
        self
    }
}

/// A page of a list: `after` and `limit` as the client gave them, at most `cap` objects.
pub fn page(items: Vec<Value>, query: &[(String, String)], usual: usize, cap: usize) -> Result<Value, Box<Reply>> {
    let given = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let limit = match given("limit") {
        None => usual,
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if limit >= 1 => limit,
            _ => return Err(Box::new(Reply::bad("limit", &format!("Invalid 'limit': {text}.")))),
        },
    };
    let start = match given("after") {
        None | Some("") => 0,
        Some(after) => match items.iter().position(|item| item["id"] == after) {
            Some(index) => index + 1,
            None => return Err(Box::new(Reply::bad("after", &format!("No such object: {after}")))),
        },
    };
    let end = items.len().min(start + limit.min(cap));
    let has_more = end < items.len();
    let data: Vec<Value> = items.into_iter().skip(start).take(end - start).collect();
    let mut list = json!({ "object": "list", "has_more": has_more });
    if let (Some(first), Some(last)) = (data.first(), data.last()) {
        list["first_id"] = first["id"].clone();
        list["last_id"] = last["id"].clone();
    }
    list["data"] = Value::Array(data);
    Ok(list)
}

/// The rules for metadata, which jobs and batches share.
pub fn check_metadata(metadata: &Value) -> Result<(), Box<Reply>> {
    let refuse = |message: &str| Err(Box::new(Reply::bad("metadata", message)));
    let pairs = match metadata {
        Value::Null => return Ok(()),
        Value::Object(pairs) => pairs,
        _ => return refuse("Invalid type for 'metadata': expected an object."),
    };
    if pairs.len() > 16 {
        return refuse("Invalid 'metadata': too many properties. Expected an object with at most 16 properties.");
    }
    for (key, value) in pairs {
        if key.chars().count() > 64 {
            return refuse("Invalid 'metadata': property name too long. Expected at most 64 characters.");
        }
        let Some(text) = value.as_str() else {
            return refuse(&format!("Invalid type for 'metadata.{key}': expected a string."));
        };
        if text.chars().count() > 512 {
            return refuse(&format!("Invalid 'metadata.{key}': string too long. Expected at most 512 characters."));
        }
    }
    Ok(())
}

/// Undoes the encoding of a query.
pub fn decode_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))).collect()
}

/// Undoes `%3A`.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let coded = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%');
        bytes.push(coded.unwrap_or(*first));
        rest = if coded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
