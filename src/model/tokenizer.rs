//! Tokenizers: the organism's, in which each word of the world is one token and any other text falls back to bytes, and
//! those of checkpoints.

mod spelling;
mod stream;

use std::collections::HashMap;
use std::ops::Range;

use serde_json::json;

use self::spelling::{character, spell_checkpoint, spell_world};
pub use self::stream::Stream;
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

/// Text to token ids and back. There are two kinds: the organism's, which [`build`] makes, and those that came with
/// checkpoints.
///
/// The organism's holds `decode(encode(text)) == text` for every text: a space is put before the text, so that its first
/// word is the same token as everywhere, and taken off again by decoding.
#[derive(Clone)]
pub struct Tokenizer {
    /// Takes names of special tokens in a text for plain text.
    plain: tokenizers::Tokenizer,
    json: Vec<u8>,
    /// Bytes of each token; none for specials.
    bytes: Vec<Option<Vec<u8>>>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    /// The organism's.
    World {
        /// Tokens of whole words, without their leading space.
        words: HashMap<Vec<u8>, u32>,
    },
    /// A checkpoint's.
    Checkpoint {
        /// Takes names of special tokens in a text for these tokens.
        whole: Box<tokenizers::Tokenizer>,
        specials: HashMap<u32, String>,
    },
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`: the organism's where it has the organism's special tokens in their places,
    /// else that of a checkpoint.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let broken = |error: tokenizers::Error| {
            Error::input(format!("`tokenizer.json` cannot be read: {error}"))
                .with_help("take the checkpoint's `tokenizer.json` as Hugging Face has it")
        };
        let mut whole = tokenizers::Tokenizer::from_bytes(json).map_err(broken)?;
        // A length limit is ours to keep, with a count of what was cut.
        whole.with_truncation(None).map_err(broken)?.with_padding(None);
        let mut plain = whole.clone();
        plain.set_encode_special_tokens(true);
        let is_world = SPECIALS.iter().enumerate().all(|(id, name)| plain.token_to_id(name) == Some(id as u32));
        if !is_world {
            let (bytes, specials) = spell_checkpoint(&whole);
            let kind = Kind::Checkpoint { whole: Box::new(whole), specials };
            return Ok(Tokenizer { plain, json: json.to_vec(), bytes, kind });
        }
        let bytes = spell_world(&plain)?;
        let word = |(id, bytes): (usize, &Option<Vec<u8>>)| match bytes.as_deref() {
            Some([b' ', word @ ..]) if !word.is_empty() => Some((word.to_vec(), id as u32)),
            _ => None,
        };
        let words = bytes.iter().enumerate().filter_map(word).collect();
        Ok(Tokenizer { plain, json: json.to_vec(), bytes, kind: Kind::World { words } })
    }

    /// The Hugging Face `tokenizer.json`.
    pub fn to_json(&self) -> &[u8] {
        &self.json
    }

    /// Whether it is the organism's, whose chat format is `chat`'s; a checkpoint's has a template of its own.
    pub fn is_world(&self) -> bool {
        matches!(self.kind, Kind::World { .. })
    }

    /// One more than the highest id.
    pub fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// Token ids of any text; names of special tokens in it are plain text, and none is added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_words(text).unwrap_or_else(|| self.encode_any(text))
    }

    /// Token ids of a text that a chat template rendered, with the bytes of the text that each stands for. Names of
    /// special tokens become these tokens, and none is added.
    ///
    /// # Errors
    /// A text that the checkpoint's tokenizer cannot spell.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let model = match &self.kind {
            Kind::World { .. } => &self.plain,
            Kind::Checkpoint { whole, .. } => whole,
        };
        let encoding =
            model.encode(text, false).map_err(|error| Error::input(format!("a text cannot be encoded: {error}")))?;
        let places = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// Text of token ids, without specials and without a space that encoding put in front. Ids that do not spell UTF-8
    /// give replacement characters.
    pub fn decode(&self, ids: &[u32]) -> String {
        if let Kind::Checkpoint { whole, .. } = &self.kind {
            return whole.decode(ids, true).unwrap_or_default();
        }
        let pieces = ids.iter().filter_map(|id| self.bytes.get(*id as usize)?.as_deref());
        let bytes = pieces.collect::<Vec<_>>().concat();
        String::from_utf8_lossy(bytes.strip_prefix(b" ").unwrap_or(&bytes)).into_owned()
    }

    /// What a token spells, the space in front of a word included; nothing for specials.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)?.as_deref()
    }

    /// The name of a special token.
    pub fn special(&self, id: u32) -> Option<&str> {
        match &self.kind {
            Kind::World { .. } => SPECIALS.get(id as usize).copied(),
            Kind::Checkpoint { specials, .. } => specials.get(&id).map(String::as_str),
        }
    }

    /// The id of a token by its name in the file, such as `<|im_end|>`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.plain.token_to_id(token)
    }

    /// The common case, many times faster: words of the world between single spaces. Each is one piece whatever
    /// stands around it, because [`PIECES`] looks no further than the next white space.
    fn encode_words(&self, text: &str) -> Option<Vec<u32>> {
        let Kind::World { words } = &self.kind else { return None };
        text.split(' ').map(|word| words.get(word.as_bytes()).copied()).collect()
    }

    fn encode_any(&self, text: &str) -> Vec<u32> {
        // A checkpoint's tokenizer without bytes and without an unknown token spells nothing of what it does not know.
        self.plain.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
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

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hf/tokenizers");
        std::fs::read(format!("{folder}/{name}.json")).unwrap()
    }

    #[derive(serde::Deserialize)]
    struct Told {
        text: String,
        ids: Vec<u32>,
        decoded: String,
    }

    #[test]
    fn tokenizers_of_checkpoints_encode_decode_and_stream_as_hugging_faces() {
        for name in ["qwen", "llama2", "gemma"] {
            let tokenizer = Tokenizer::from_json(&fixture(name)).unwrap();
            assert!(!tokenizer.is_world());
            let told: Vec<Told> = serde_json::from_slice(&fixture(&format!("{name}.expected"))).unwrap();
            for Told { text, ids, decoded } in told {
                let found = tokenizer.encode_rendered(&text).unwrap();
                assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids, "{name}: {text:?}");
                assert!(found.iter().all(|(_, place)| place.end <= text.len()), "{name}: {text:?}");
                assert_eq!(tokenizer.decode(&ids), decoded, "{name}: {text:?}");
                let mut stream = Stream::new(&tokenizer);
                let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
                streamed += &stream.finish();
                assert_eq!(streamed, decoded, "{name}: {text:?}");
                let spelled: Vec<u8> = ids.iter().filter_map(|id| tokenizer.bytes(*id)).flatten().copied().collect();
                let spelled = String::from_utf8_lossy(&spelled).into_owned();
                assert_eq!(spelled.strip_prefix(' ').filter(|_| name == "llama2").unwrap_or(&spelled), decoded);
            }
        }
    }

    #[test]
    fn names_of_specials_are_text_unless_a_template_wrote_them() {
        for name in ["qwen", "llama2", "gemma"] {
            let tokenizer = Tokenizer::from_json(&fixture(name)).unwrap();
            let end = tokenizer.id_of("<|im_end|>").unwrap();
            assert_eq!((tokenizer.special(end), tokenizer.bytes(end)), (Some("<|im_end|>"), None));
            let plain = tokenizer.encode("a<|im_end|>b");
            assert!(!plain.contains(&end) && tokenizer.decode(&plain) == "a<|im_end|>b", "{name}");
            let rendered = tokenizer.encode_rendered("a<|im_end|>b").unwrap();
            assert_eq!(rendered.iter().find(|(id, _)| *id == end).unwrap().1, 1..11);
        }
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
