//! A completion as text: decoded, cut at stop sequences, with the log-probability of every token.

use serde_json::{Value, json};

use crate::model::sample::{Completion, Finish};
use crate::model::tokenizer::Tokenizer;

/// OpenAI's number for what is next to impossible; JSON has no minus infinity.
const LEAST_LOGPROB: f64 = -9999.0;

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// `stop` or `length`.
    pub finish: &'static str,
    /// Its tokens, with the end of each in `text`.
    pub tokens: Vec<Token>,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its log-probability at temperature 1.
    pub logprob: f32,
    /// The likeliest tokens at its place.
    pub alternatives: Vec<Alternative>,
}

/// What could have stood in a token's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Its text.
    pub text: String,
    /// Its bytes; nothing for special tokens, such as the end of an answer.
    pub bytes: Option<Vec<u8>>,
    /// Its log-probability at temperature 1.
    pub logprob: f32,
}

impl Answer {
    /// Decodes a completion and ends it before the first of the `stop` texts.
    pub fn new(tokenizer: &Tokenizer, completion: Completion, stop: &[String]) -> Self {
        let Completion { ids, logprobs, alternatives, finish } = completion;
        let mut alternatives = alternatives.into_iter();
        let mut tokens: Vec<Token> = Vec::with_capacity(ids.len());
        // Special tokens are no part of the text, so that the first word may come after some.
        let mut is_first = true;
        for (id, logprob) in ids.iter().zip(logprobs) {
            let alternatives = alternatives.next().unwrap_or_default().into_iter().map(|(id, logprob)| {
                let bytes = spell(tokenizer, id, is_first);
                let text = match &bytes {
                    Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    None => tokenizer.special(id).unwrap_or_default().to_string(),
                };
                Alternative { text, bytes, logprob }
            });
            let alternatives = alternatives.collect();
            let bytes = spell(tokenizer, *id, is_first);
            is_first &= bytes.is_none();
            tokens.push(Token { bytes: bytes.unwrap_or_default(), logprob, alternatives });
        }
        let mut bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.iter().copied()).collect();
        let mut finish = match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        if let Some(end) = stop.iter().filter_map(|text| find(&bytes, text.as_bytes())).min() {
            bytes.truncate(end);
            finish = "stop";
            let mut start = 0;
            tokens.retain(|token| {
                let before_end = start < end;
                start += token.bytes.len();
                before_end
            });
        }
        Answer { text: String::from_utf8_lossy(&bytes).into_owned(), finish, tokens }
    }

    /// `choices[].logprobs` for some of the tokens.
    pub fn logprobs(tokens: &[Token]) -> Value {
        let content = tokens.iter().map(|token| {
            let likely = token
                .alternatives
                .iter()
                .map(|other| json!({ "token": other.text, "logprob": told(other.logprob), "bytes": other.bytes }));
            json!({
                "token": String::from_utf8_lossy(&token.bytes), "logprob": told(token.logprob), "bytes": token.bytes,
                "top_logprobs": likely.collect::<Vec<_>>(),
            })
        });
        json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
    }
}

fn told(logprob: f32) -> f64 {
    f64::from(logprob).max(LEAST_LOGPROB)
}

/// The bytes of a token. At the beginning of a text, the space that some tokenizers put before it is no part of it, as
/// their decoding tells; to others the space is the model's own.
fn spell(tokenizer: &Tokenizer, id: u32, is_first: bool) -> Option<Vec<u8>> {
    let bytes = tokenizer.bytes(id)?;
    let word = bytes.strip_prefix(b" ").filter(|_| is_first);
    let word = word.filter(|word| tokenizer.decode(&[id]) == String::from_utf8_lossy(word));
    Some(word.unwrap_or(bytes).to_vec())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tokenizer::{END, build};

    fn answer(stop: &[&str]) -> Answer {
        let words: Vec<String> = "hello how are you ?".split(' ').map(String::from).collect();
        let tokenizer = build(&words).unwrap();
        let ids = tokenizer.encode("hello how are you ?");
        let logprobs = vec![-1.0; ids.len()];
        let alternatives = vec![vec![(ids[0], -1.0), (END, f32::NEG_INFINITY)]; ids.len()];
        let stop: Vec<String> = stop.iter().map(|text| text.to_string()).collect();
        Answer::new(&tokenizer, Completion { ids, logprobs, alternatives, finish: Finish::Length }, &stop)
    }

    #[test]
    fn tokens_spell_the_text() {
        let answer = answer(&[]);
        assert_eq!((answer.text.as_str(), answer.finish), ("hello how are you ?", "length"));
        let bytes: Vec<u8> = answer.tokens.iter().flat_map(|token| token.bytes.clone()).collect();
        assert_eq!(bytes, answer.text.as_bytes());
        assert_eq!(answer.tokens[0].alternatives[0].text, "hello");
        assert_eq!(answer.tokens[1].alternatives[0].text, " hello");
        let told = Answer::logprobs(&answer.tokens);
        assert_eq!(
            told["content"][0]["top_logprobs"][1],
            json!({ "token": "<end>", "logprob": -9999.0, "bytes": null })
        );
    }

    #[test]
    fn the_text_is_what_the_tokenizer_decodes() {
        for name in ["qwen", "llama2", "gemma"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hf/tokenizers");
            let tokenizer = Tokenizer::from_json(&std::fs::read(format!("{folder}/{name}.json")).unwrap()).unwrap();
            let special = tokenizer.id_of("<|im_end|>").unwrap();
            for text in ["the sun", " the sun", "  two", "\n", "", "é ♥ 日本"] {
                let spoken = tokenizer.encode(text);
                for ids in [spoken.clone(), [&[special][..], &spoken].concat()] {
                    let logprobs = vec![0.0; ids.len()];
                    let expected = tokenizer.decode(&ids);
                    let completion = Completion { ids, logprobs, alternatives: vec![], finish: Finish::Stop };
                    assert_eq!(Answer::new(&tokenizer, completion, &[]).text, expected, "{name}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_stop_text_ends_the_answer() {
        let cut = answer(&["you", "are y"]);
        assert_eq!((cut.text.as_str(), cut.finish, cut.tokens.len()), ("hello how ", "stop", 3));
        let whole = answer(&["never"]);
        assert_eq!((whole.finish, whole.tokens.len()), ("length", 5));
        assert_eq!((answer(&["hello"]).text.as_str(), answer(&["hello"]).tokens.len()), ("", 0));
    }
}
