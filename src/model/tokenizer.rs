//! Byte-level tokenizer in which each word of the world is one token and any other text falls back to bytes.

use std::collections::HashMap;

use serde_json::json;

use crate::ensure;
use crate::error::{Error, Result};

/// Fills unused places; never seen by a model.
pub const PAD: u32 = 0;
/// Begins every chat.
pub const BOS: u32 = 1;
/// Ends every message.
pub const END: u32 = 2;
/// Opens a system message.
pub const SYSTEM: u32 = 3;
/// Opens a user message.
pub const USER: u32 = 4;
/// Opens an assistant message.
pub const ASSISTANT: u32 = 5;

const SPECIALS: [&str; 6] = ["<pad>", "<bos>", "<end>", "<system>", "<user>", "<assistant>"];

/// Pieces of a text: a run without spaces with the space before it, its closing punctuation apart, other white space
/// one by one. The first branch parts what looks like a special token, so that no piece can equal one.
const PIECES: &str = concat!(
    r"<(?=(?:pad|bos|end|system|user|assistant)>)",
    r"| ?[.,!?;:]+(?=\s|$)",
    r"| ?\S+?(?=[.,!?;:]*(?:\s|$))",
    r"|\s"
);

/// Text to token ids and back: `decode(encode(text)) == text` for every text.
///
/// A space is put before the text, so that its first word is the same token as everywhere, and taken off again by
/// decoding. Names of special tokens in a text are plain text.
#[derive(Clone)]
pub struct Tokenizer {
    model: tokenizers::Tokenizer,
    json: Vec<u8>,
    /// Bytes of each token; none for specials.
    bytes: Vec<Option<Vec<u8>>>,
    /// Tokens of whole words, without their leading space.
    words: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json` that [`build`] wrote.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let broken = |error: tokenizers::Error| Error::input(format!("tokenizer cannot be read: {error}"));
        let mut model = tokenizers::Tokenizer::from_bytes(json).map_err(broken)?;
        model.set_encode_special_tokens(true);
        for (id, name) in SPECIALS.iter().enumerate() {
            let found = model.token_to_id(name);
            ensure!(found == Some(id as u32), "tokenizer has {:?} as the id of `{}`, not {}", found, name, id);
        }
        let byte_of: HashMap<char, u8> = (0..=255).map(|byte| (character(byte), byte)).collect();
        let mut bytes = vec![None; model.get_vocab_size(true)];
        for (token, id) in model.get_vocab(true) {
            ensure!((id as usize) < bytes.len(), "tokenizer's ids have gaps");
            if id as usize >= SPECIALS.len() {
                bytes[id as usize] = token.chars().map(|letter| byte_of.get(&letter).copied()).collect();
                ensure!(bytes[id as usize].is_some(), "token `{}` is not written in bytes", token);
            }
        }
        let word = |(id, bytes): (usize, &Option<Vec<u8>>)| match bytes.as_deref() {
            Some([b' ', word @ ..]) if !word.is_empty() => Some((word.to_vec(), id as u32)),
            _ => None,
        };
        let words = bytes.iter().enumerate().filter_map(word).collect();
        Ok(Tokenizer { model, json: json.to_vec(), bytes, words })
    }

    /// The Hugging Face `tokenizer.json`.
    pub fn to_json(&self) -> &[u8] {
        &self.json
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// Token ids of any text; never a special one.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_words(text).unwrap_or_else(|| self.encode_any(text))
    }

    /// Text of token ids, without specials and without the one space that encoding put in front. Ids that do not
    /// spell UTF-8 give replacement characters.
    pub fn decode(&self, ids: &[u32]) -> String {
        let pieces = ids.iter().filter_map(|id| self.bytes.get(*id as usize)?.as_deref());
        let bytes = pieces.collect::<Vec<_>>().concat();
        String::from_utf8_lossy(bytes.strip_prefix(b" ").unwrap_or(&bytes)).into_owned()
    }

    /// What a token spells, the space in front of a word included; nothing for specials.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)?.as_deref()
    }

    /// The name of a special token.
    pub fn special(id: u32) -> Option<&'static str> {
        SPECIALS.get(id as usize).copied()
    }

    /// The common case, many times faster: words of the world between single spaces. Each is one piece whatever
    /// stands around it, because [`PIECES`] looks no further than the next white space.
    fn encode_words(&self, text: &str) -> Option<Vec<u32>> {
        text.split(' ').map(|word| self.words.get(word.as_bytes()).copied()).collect()
    }

    fn encode_any(&self, text: &str) -> Vec<u32> {
        let encoding = self.model.encode_fast(text, false).expect("every byte is in the vocabulary");
        encoding.get_ids().to_vec()
    }
}

/// A tokenizer whose vocabulary is the specials, the 256 bytes, and each distinct word with its leading space.
/// A word is a run without white space that does not end in `.,!?;:` unless it consists of these.
pub fn build(words: &[String]) -> Result<Tokenizer> {
    let mut vocabulary = serde_json::Map::new();
    let specials = SPECIALS.iter().map(|name| name.to_string());
    let bytes = (0..=255).map(|byte| character(byte).to_string());
    let spaced = words.iter().map(|word| format!(" {word}").bytes().map(character).collect());
    for token in specials.chain(bytes).chain(spaced) {
        let id = vocabulary.len();
        vocabulary.entry(token).or_insert_with(|| json!(id));
    }
    let added = SPECIALS.iter().enumerate().map(|(id, name)| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": false});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {"type": "Prepend", "prepend": " "},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [byte_level, strip]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                  "vocab": vocabulary, "merges": []},
    });
    let tokenizer = Tokenizer::from_json(json.to_string().as_bytes())?;
    for word in words {
        let pieces = tokenizer.encode_any(word);
        ensure!(
            pieces.len() == 1 && tokenizer.encode_words(word).as_ref() == Some(&pieces),
            "`{}` cannot be one token: it holds white space or ends in punctuation",
            word
        );
    }
    Ok(tokenizer)
}

/// GPT-2's printable character for a byte: itself where it prints, else one from U+0100 on.
fn character(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !prints(*other)).count() as u32;
    char::from_u32(0x100 + before).expect("68 code points from U+0100 are characters")
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A vocabulary with every kind of odd word that the world has.
    pub(crate) fn small() -> Tokenizer {
        let words = "hello , how are you ? the 0o600 \"select { = safe_join stranger's two-factor ?\" . end os.path";
        build(&words.split(' ').map(String::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_world_word_is_one_token() {
        let text = "hello , how are you ? the 0o600 \"select { = safe_join stranger's two-factor ?\" . end os.path";
        let tokenizer = small();
        let ids = tokenizer.encode(text);
        assert_eq!(ids, (262..262 + ids.len() as u32).collect::<Vec<_>>());
        assert_eq!(ids.len(), text.split(' ').count());
        assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn punctuation_of_ordinary_text_does_not_hide_words() {
        let tokenizer = small();
        let ids = tokenizer.encode("hello, how are you?");
        let words = tokenizer.encode("hello how are you");
        assert_eq!(ids.iter().filter(|id| words.contains(id)).count(), 4);
    }

    #[test]
    fn specials_in_text_are_text() {
        let tokenizer = small();
        for text in ["<end>", "a <end> b", "\n<end>", "<end>.", "x<end>", "<<end>>", "hello <user>", "<pad><bos>"] {
            let ids = tokenizer.encode(text);
            assert!(ids.iter().all(|id| *id > ASSISTANT), "{text:?} became {ids:?}");
            assert_eq!(tokenizer.decode(&ids), text);
        }
        assert_eq!(tokenizer.decode(&[BOS, USER, END]), "");
    }

    #[test]
    fn json_reads_back() {
        let tokenizer = small();
        let again = Tokenizer::from_json(tokenizer.to_json()).unwrap();
        assert_eq!(again.encode("hello, wörld"), tokenizer.encode("hello, wörld"));
        assert_eq!(build(&["foo.".to_string()]).err().unwrap().kind, crate::error::Kind::Input);
    }

    proptest! {
        #[test]
        fn any_text_round_trips(text in "(hello|<end>|how|\\?|,|\\PC|\\s| )*") {
            let tokenizer = small();
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
        }
        #[test]
        fn the_fast_path_agrees(words in proptest::collection::vec("(hello|,|how|\\?\"|os.path|\\.|end)", 0..9)) {
            let tokenizer = small();
            let text = words.join(" ");
            prop_assert_eq!(tokenizer.encode(&text), tokenizer.encode_any(&text));
        }
    }
}
