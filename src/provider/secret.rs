//! A key to a provider, which no log, error or debug print can show.

use std::fmt;
use std::sync::Arc;

use crate::data::digest::Digest;

/// The value of an environment variable that opens a provider; clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// What stands where a secret stood.
const HIDDEN: &str = "[key]";

impl Secret {
    /// Takes the value in, without the white space that copying adds.
    pub fn new(value: &str) -> Self {
        Secret(value.trim().into())
    }
    /// The value, for the one header that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// Eight digits that tell two keys apart and say nothing about either.
    pub fn fingerprint(&self) -> String {
        Digest::of(format!("drylab key {}", self.0).as_bytes()).to_string()[..8].to_string()
    }
    /// The text without the secret: providers repeat a wrong key in their message, whole or with its middle starred out.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_string();
        }
        let whole = text.replace(&*self.0, HIDDEN);
        // `sk-abcd****wxyz`: what is left around the stars is still part of the key.
        let is_part = |word: &str| {
            word.contains("**") && word.split('*').filter(|part| part.len() >= 3).any(|part| self.0.contains(part))
        };
        let words: Vec<&str> = whole.split(' ').collect();
        if !words.iter().any(|word| is_part(word)) {
            return whole;
        }
        words.into_iter().map(|word| if is_part(word) { HIDDEN } else { word }).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows() {
        let secret = Secret::new(" sk-verysecretvalue1234\n");
        assert_eq!(secret.expose(), "sk-verysecretvalue1234");
        assert!(!format!("{secret:?} {}", secret.fingerprint()).contains("very"));
        let echoed = secret.redact("Incorrect API key provided: sk-verysecretvalue1234. You can find");
        assert_eq!(echoed, "Incorrect API key provided: [key]. You can find");
        let starred = secret.redact("Incorrect API key provided: sk-ver*******1234. You can find");
        assert_eq!(starred, "Incorrect API key provided: [key] You can find");
        assert_eq!(secret.redact("**bold** words"), "**bold** words");
    }
}
