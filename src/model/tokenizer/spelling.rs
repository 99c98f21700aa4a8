//! The bytes that each token of a vocabulary spells.

use std::collections::HashMap;

use super::SPECIALS;
use crate::ensure;
use crate::error::Result;

/// What the organism's tokens spell: bytes, written as GPT-2 writes them.
pub(super) fn spell_world(model: &tokenizers::Tokenizer) -> Result<Vec<Option<Vec<u8>>>> {
    let byte_of = bytes_of_characters();
    let mut bytes = vec![None; model.get_vocab_size(true)];
    for (token, id) in model.get_vocab(true) {
        ensure!((id as usize) < bytes.len(), "tokenizer's ids have gaps");
        if id as usize >= SPECIALS.len() {
            bytes[id as usize] = token.chars().map(|letter| byte_of.get(&letter).copied()).collect();
            ensure!(bytes[id as usize].is_some(), "token `{}` is not written in bytes", token);
        }
    }
    Ok(bytes)
}

/// What a checkpoint's tokens spell, and the names of its special tokens, which spell nothing. Tokens are written in
/// GPT-2's bytes where the decoder reads those, else as SentencePiece writes them: U+2581 for a space and `<0x0A>`
/// for a byte.
pub(super) fn spell_checkpoint(model: &tokenizers::Tokenizer) -> (Vec<Option<Vec<u8>>>, HashMap<u32, String>) {
    let byte_of = bytes_of_characters();
    let byte_level = serde_json::to_string(&model.get_decoder()).is_ok_and(|decoder| decoder.contains("ByteLevel"));
    let added = model.get_added_tokens_decoder();
    let vocabulary = model.get_vocab(true);
    let count = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
    let (mut bytes, mut specials) = (vec![None; count], HashMap::new());
    for (token, id) in vocabulary {
        let spelled = match added.get(&id) {
            Some(added) if added.special => {
                specials.insert(id, token);
                continue;
            }
            Some(_) => token.into_bytes(),
            None if byte_level => match token.chars().map(|letter| byte_of.get(&letter).copied()).collect() {
                Some(bytes) => bytes,
                None => token.into_bytes(),
            },
            None => match raw_byte(&token) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            },
        };
        bytes[id as usize] = Some(spelled);
    }
    (bytes, specials)
}

/// The byte of a token such as `<0x0A>`.
fn raw_byte(token: &str) -> Option<u8> {
    u8::from_str_radix(token.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

fn bytes_of_characters() -> HashMap<char, u8> {
    (0..=255).map(|byte| (character(byte), byte)).collect()
}

/// GPT-2's printable character for a byte: itself where it prints, else one from U+0100 on.
pub(super) fn character(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !prints(*other)).count() as u32;
    char::from_u32(0x100 + before).expect("68 code points from U+0100 are characters")
}
