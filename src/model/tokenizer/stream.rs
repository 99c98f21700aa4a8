//! Text of tokens as they come, held back while a character is not whole.

use super::Tokenizer;

/// Decodes one token after another; the pieces together are what decoding all at once gives.
pub struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Tokens before this are needed no more.
    start: usize,
    /// Tokens before this have been told.
    told: usize,
}

impl<'a> Stream<'a> {
    /// Nothing has come yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Stream { tokenizer, ids: Vec::new(), start: 0, told: 0 }
    }

    /// The text that this token makes certain: empty while bytes of a character are outstanding.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let (before, now) = self.decode();
        // What a token says can depend on the one before it, as in whether a space leads, so that one is kept.
        if now.len() <= before || now.ends_with('\u{FFFD}') {
            return String::new();
        }
        (self.start, self.told) = (self.told, self.ids.len());
        now[before..].to_string()
    }

    /// What is left at the end, with replacement characters for bytes that became no character.
    pub fn finish(self) -> String {
        let (before, now) = self.decode();
        now.get(before..).unwrap_or_default().to_string()
    }

    /// Length of the text that was told, from `start` on, and all text from there.
    fn decode(&self) -> (usize, String) {
        let before = self.tokenizer.decode(&self.ids[self.start..self.told]);
        (before.len(), self.tokenizer.decode(&self.ids[self.start..]))
    }
}
