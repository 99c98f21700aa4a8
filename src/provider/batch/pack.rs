//! Requests as the files that the batch service takes: so many lines, so many bytes, one model each.

use serde_json::json;

use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::provider::endpoint::Bytes;
use crate::provider::sha256::sha256;
use crate::provider::wire::chat::ChatRequest;

/// How large a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Requests.
    pub requests: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for PackLimits {
    fn default() -> Self {
        PackLimits { requests: 50_000, bytes: 200_000_000 }
    }
}

/// One file.
#[derive(Clone, Debug)]
pub struct Pack {
    /// The model that all of it asks.
    pub model: String,
    /// Its lines.
    pub bytes: Bytes,
    /// Identity of its lines.
    pub digest: Digest,
    /// The marks of its requests, in order.
    pub custom_ids: Vec<String>,
}

impl Pack {
    /// The name under which it is uploaded, and found again.
    pub fn file_name(&self) -> String {
        format!("{}.jsonl", sha256(&self.bytes))
    }
}

/// Packs requests, each with its mark, into files; one file is in memory at a time for each model that is not full yet.
pub struct Packs<I> {
    requests: I,
    limits: PackLimits,
    open: Vec<OpenPack>,
}

struct OpenPack {
    model: String,
    bytes: Vec<u8>,
    custom_ids: Vec<String>,
}

/// Packs requests, each with its mark, the key of its sample, into files.
pub fn pack<I: Iterator<Item = (String, ChatRequest)>>(requests: I, limits: PackLimits) -> Packs<I> {
    Packs { requests, limits, open: Vec::new() }
}

impl<I: Iterator<Item = (String, ChatRequest)>> Iterator for Packs<I> {
    type Item = Result<Pack>;

    fn next(&mut self) -> Option<Result<Pack>> {
        for (custom_id, request) in self.requests.by_ref() {
            let line = match write_line(&custom_id, &request) {
                Ok(line) if line.len() <= self.limits.bytes => line,
                Ok(line) => {
                    let size = format!("a request of {} bytes is larger than a batch file may be", line.len());
                    return Some(Err(Error::input(size).with_help("ask it without `batch`")));
                }
                Err(error) => return Some(Err(error)),
            };
            let known = self.open.iter().position(|open| open.model == request.model);
            let number = known.unwrap_or_else(|| {
                self.open.push(OpenPack { model: request.model.clone(), bytes: Vec::new(), custom_ids: Vec::new() });
                self.open.len() - 1
            });
            let open = &mut self.open[number];
            let is_full =
                open.custom_ids.len() >= self.limits.requests || open.bytes.len() + line.len() > self.limits.bytes;
            let full = is_full.then(|| open.take());
            open.bytes.extend_from_slice(&line);
            open.custom_ids.push(custom_id);
            if let Some(full) = full {
                return Some(Ok(full));
            }
        }
        self.open.pop().map(|mut open| Ok(open.take()))
    }
}

impl OpenPack {
    /// What is in it; it is empty afterwards.
    fn take(&mut self) -> Pack {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let custom_ids = std::mem::take(&mut self.custom_ids);
        Pack { model: self.model.clone(), digest: Digest::of(&bytes), bytes, custom_ids }
    }
}

fn write_line(custom_id: &str, request: &ChatRequest) -> Result<Vec<u8>> {
    let line = json!({ "custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": request });
    let mut bytes = serde_json::to_vec(&line).map_err(|error| Error::internal(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::{Message, Role};

    fn request(model: &str, text: &str) -> ChatRequest {
        ChatRequest {
            model: model.to_string(),
            messages: vec![Message::new(Role::User, text)],
            temperature: None,
            top_p: None,
            max_completion_tokens: Some(5),
            max_tokens: None,
            seed: None,
            logprobs: None,
            top_logprobs: None,
        }
    }

    #[test]
    fn a_file_holds_one_model_and_no_more_than_it_may() {
        let requests: Vec<_> = (0..25)
            .map(|index| (format!("k{index}"), request(if index % 5 == 0 { "b" } else { "a" }, &"é".repeat(index))))
            .collect();
        let limits = PackLimits { requests: 8, bytes: 1200 };
        let packs: Vec<Pack> = pack(requests.into_iter(), limits).collect::<Result<_>>().unwrap();
        let mut seen: Vec<String> = Vec::new();
        for pack in &packs {
            let lines: Vec<serde_json::Value> = pack
                .bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect();
            assert!(lines.len() <= 8 && pack.bytes.len() <= 1200 && !lines.is_empty());
            assert_eq!(lines.len(), pack.custom_ids.len());
            for (line, custom_id) in lines.iter().zip(&pack.custom_ids) {
                assert_eq!(
                    (&line["body"]["model"], &line["custom_id"]),
                    (&pack.model.clone().into(), &custom_id.clone().into())
                );
                assert_eq!(line["url"], "/v1/chat/completions");
            }
            seen.extend(pack.custom_ids.iter().cloned());
        }
        seen.sort();
        let mut all: Vec<String> = (0..25).map(|index| format!("k{index}")).collect();
        all.sort();
        assert_eq!(seen, all);
        assert!(packs.len() > 4, "only {} files", packs.len());
    }

    #[test]
    fn equal_requests_make_equal_files() {
        let one =
            || pack([("k".to_string(), request("a", "b"))].into_iter(), PackLimits::default()).next().unwrap().unwrap();
        assert_eq!(one().file_name(), one().file_name());
    }

    #[test]
    fn a_request_that_fits_no_file_is_an_error() {
        let limits = PackLimits { requests: 8, bytes: 100 };
        assert!(pack([("k".to_string(), request("a", "b"))].into_iter(), limits).next().unwrap().is_err());
    }
}
