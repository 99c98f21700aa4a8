//! The output and error files of a batch: each line an answer, a reason why there is none, or a request to send again.

use super::super::chat::{ChatAnswer, read_answer};
use super::super::endpoint::Bytes;
use super::super::fault::{Class, Fault};
use super::super::wire::batch::BatchLine;
use crate::error::{Error, Result};

/// Takes the answer to a request, by its mark, or the reason why there cannot be one.
pub type OnAnswer<'a> = dyn FnMut(&str, Result<ChatAnswer, Fault>) -> Result<()> + 'a;

/// What a file told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Requests with an answer.
    pub answered: usize,
    /// Requests that cannot be answered as they are.
    pub failed: usize,
    /// Marks of requests that may be sent again: expired, or the server's own failure.
    pub again: Vec<String>,
}

/// Reads a file of a batch, in whatever order it is, and gives each answer, and each reason why there cannot be one, to
/// `on_answer`.
///
/// # Errors
/// A line that cannot be read, and what `on_answer` says.
pub fn collect(file: &Bytes, on_answer: &mut OnAnswer<'_>) -> Result<Collected> {
    let mut collected = Collected::default();
    for (number, line) in file.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let read: BatchLine = serde_json::from_slice(line).map_err(|error| {
            Error::environment(format!("line {} of the batch's answers cannot be read: {error}", number + 1))
                .with_help("run the same command again: the answers are fetched once more")
        })?;
        match read_line(&read, line) {
            Ok(answer) => {
                collected.answered += 1;
                on_answer(&read.custom_id, Ok(answer))?;
            }
            Err(fault) if fault.is_retryable() => collected.again.push(read.custom_id),
            Err(fault) => {
                collected.failed += 1;
                on_answer(&read.custom_id, Err(fault))?;
            }
        }
    }
    Ok(collected)
}

/// The answer of a line; `raw` is what is kept of it.
fn read_line(line: &BatchLine, raw: &[u8]) -> Result<ChatAnswer, Fault> {
    let said = line.error.as_ref().filter(|error| !error.is_null());
    let Some(response) = &line.response else {
        let code = said.and_then(|error| error["code"].as_str()).unwrap_or_default();
        let message = said.and_then(|error| error["message"].as_str()).unwrap_or("no answer");
        // Nothing is wrong with a request that came too late or was cancelled.
        let class =
            if code.contains("expired") || code.contains("cancelled") { Class::Server } else { Class::BadRequest };
        return Err(Fault { code: Some(code.to_string()), ..Fault::new(class, message) });
    };
    let request_id = Some(response.request_id.clone()).filter(|id| !id.is_empty());
    let body = Bytes::from(response.body.to_string());
    if response.status_code != 200 {
        return Err(Fault { request_id, ..Fault::of_answer(response.status_code, &body, None) });
    }
    let answer = read_answer(body, request_id)?;
    Ok(ChatAnswer { raw: Bytes::copy_from_slice(raw), ..answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_stands_for_itself() {
        let good = |id: &str| {
            format!(
                r#"{{"id":"b","custom_id":"{id}","response":{{"status_code":200,"request_id":"r-{id}","body":{{"model":"m","choices":[{{"message":{{"content":"said {id}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":2}}}}}},"error":null}}"#
            )
        };
        let failed = |id: &str, status: u16| {
            format!(
                r#"{{"custom_id":"{id}","response":{{"status_code":{status},"body":{{"error":{{"message":"too long","code":"context_length_exceeded"}}}}}},"error":null}}"#
            )
        };
        let expired = r#"{"custom_id":"e","response":null,"error":{"code":"batch_expired","message":"This request could not be executed before the completion window expired."}}"#;
        let file = [good("b"), failed("c", 400), expired.to_string(), good("a"), failed("d", 500), String::new()];
        let mut seen = Vec::new();
        let collected = collect(&Bytes::from(file.join("\n")), &mut |id, answer| {
            seen.push((id.to_string(), answer));
            Ok(())
        })
        .unwrap();
        assert_eq!((collected.answered, collected.failed), (2, 1));
        assert_eq!(collected.again, ["e", "d"]);
        let answer = seen[0].1.as_ref().unwrap();
        assert_eq!((answer.text.as_str(), answer.request_id.as_deref()), ("said b", Some("r-b")));
        assert_eq!(answer.raw, good("b"));
        let fault = seen[1].1.as_ref().unwrap_err();
        assert_eq!((seen[1].0.as_str(), fault.message.as_str(), fault.class), ("c", "too long", Class::BadRequest));
    }

    #[test]
    fn a_broken_line_is_an_error_and_not_a_missing_answer() {
        assert!(collect(&Bytes::from_static(b"{\"custom_id\": \"a\""), &mut |_, _| Ok(())).is_err());
    }
}
