//! A response in server-sent events, one per token, as clients read it that asked for a stream.
//!
//! An answer is sampled in a batch with others and within milliseconds, so its events are sent together when it is
//! complete.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::Answer;
use super::chat::Head;
use super::question::Question;

/// The events of all answers, and `[DONE]`.
pub fn respond(head: &Head, answers: &[Answer], question: &Question, usage: Value) -> Response {
    let mut text = String::new();
    let mut send = |choices: Vec<Value>, usage: Option<&Value>| {
        let mut chunk = head.object("chat.completion.chunk", choices);
        if question.include_usage {
            chunk["usage"] = usage.cloned().unwrap_or_default();
        }
        text.push_str(&format!("data: {chunk}\n\n"));
    };
    let choice = |index: usize, delta: Value, logprobs: Value, finish: Value| json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
    for (index, answer) in answers.iter().enumerate() {
        let opening = json!({ "role": "assistant", "content": "", "refusal": null });
        send(vec![choice(index, opening, Value::Null, Value::Null)], None);
        for (tokens, piece) in pieces(answer) {
            let tokens = &answer.tokens[tokens];
            let logprobs = question.logprobs.map_or(Value::Null, |_| Answer::logprobs(tokens));
            send(vec![choice(index, json!({ "content": piece }), logprobs, Value::Null)], None);
        }
        send(vec![choice(index, json!({}), Value::Null, json!(answer.finish))], None);
    }
    if question.include_usage {
        send(vec![], Some(&usage));
    }
    text.push_str("data: [DONE]\n\n");
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The text token by token; tokens that only together spell a character are one piece.
fn pieces(answer: &Answer) -> Vec<(std::ops::Range<usize>, &str)> {
    let (mut pieces, mut begun, mut from, mut to) = (Vec::new(), 0, 0, 0);
    for (index, token) in answer.tokens.iter().enumerate() {
        to += token.bytes.len();
        // The last piece may end inside its token, where a stop text began.
        let end = if index + 1 == answer.tokens.len() { answer.text.len() } else { to };
        if let Some(piece) = answer.text.get(from..end) {
            pieces.push((begun..index + 1, piece));
            (begun, from) = (index + 1, end);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::answer::Token;

    fn answer(text: &str, tokens: &[&[u8]]) -> Answer {
        let token = |bytes: &&[u8]| Token { bytes: bytes.to_vec(), logprob: 0.0, alternatives: vec![] };
        Answer { text: text.to_string(), finish: "stop", tokens: tokens.iter().map(token).collect() }
    }

    #[test]
    fn pieces_are_whole_characters_and_add_up() {
        let odd = answer("a é!", &[b"a", b" ", b"\xC3", b"\xA9", b"!"]);
        let texts: Vec<&str> = pieces(&odd).into_iter().map(|(_, piece)| piece).collect();
        assert_eq!(texts, ["a", " ", "é", "!"]);
        let cut = answer("hello ho", &[b"hello", b" how"]);
        assert_eq!(pieces(&cut), [(0..1, "hello"), (1..2, " ho")]);
        assert!(pieces(&answer("", &[])).is_empty());
    }
}
