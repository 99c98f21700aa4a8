//! A row as a borrowed view: the rules that every row keeps, and the digests that it is known by.

use std::borrow::Cow;

use serde_json::Value;

use crate::data::chat::{Message, Role, Row};
use crate::data::digest::Digest;
use crate::error::Result;
use crate::{bail, ensure};

/// A row that borrows the file's text where it can.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub messages: Vec<(Role, Cow<'a, str>)>,
    pub weight: f64,
    /// Top-level keys that rows do not have.
    pub unknown_keys: Vec<String>,
}

/// What is remembered of a row that stays in its file: 48 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Of the row's canonical JSON.
    pub row: Digest,
    /// First half of the digest of the messages before the last assistant message; zeros where there is none.
    pub prompt: [u8; 16],
}

/// [`Mark::prompt`] of a row without a prompt.
pub(super) const NO_PROMPT: [u8; 16] = [0; 16];

impl<'a> Record<'a> {
    /// A view of a row in memory.
    pub fn of(row: &'a Row) -> Self {
        let messages = row.messages.iter().map(|message| (message.role, Cow::Borrowed(&*message.content))).collect();
        Record { messages, weight: row.weight, unknown_keys: Vec::new() }
    }

    /// The rules that every row of every dataset keeps.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.messages.is_empty(), "`messages` is empty"; help: "give the row at least an assistant message");
        if let Some(position) = self.messages.iter().skip(1).position(|(role, _)| *role == Role::System) {
            bail!("message {} has role `system`, expected only as the first message", position + 2;
                help: "move it to the front or merge it with the first");
        }
        if !self.messages.iter().any(|(role, _)| *role == Role::Assistant) {
            bail!("no message has role `assistant`, expected one to train on"; help: "add the answer to the row");
        }
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            bail!("`weight` is {}, expected a finite number that is not negative", self.weight; help: "remove the row or give it weight 0");
        }
        Ok(())
    }

    /// Digests of the row and of its prompt; `buffer` is scratch space.
    pub fn mark(&self, buffer: &mut Vec<u8>) -> Mark {
        let prompt_end = self.write_canonical(buffer);
        let prompt = match prompt_end {
            OPENING_LENGTH => NO_PROMPT,
            end => {
                let digest = prompt_digest(&buffer[OPENING_LENGTH..end]);
                std::array::from_fn(|byte| digest.0[byte])
            }
        };
        Mark { row: Digest::of(buffer), prompt }
    }

    /// Digest of the canonical JSON list of the messages before the last assistant message.
    pub fn prompt_digest(&self) -> Digest {
        let mut buffer = Vec::new();
        let end = self.write_canonical(&mut buffer);
        prompt_digest(&buffer[OPENING_LENGTH..end])
    }

    /// The row on its own.
    pub fn into_row(self) -> Row {
        let messages = self.messages.into_iter().map(|(role, content)| Message::new(role, content)).collect();
        Row { messages, weight: self.weight }
    }

    /// Writes the canonical JSON of the row (as `digest::canonical` does, five times faster); returns where the prompt ends.
    fn write_canonical(&self, buffer: &mut Vec<u8>) -> usize {
        buffer.clear();
        buffer.extend_from_slice(OPENING);
        let last_answer = self.messages.iter().rposition(|(role, _)| *role == Role::Assistant).unwrap_or(0);
        let mut prompt_end = OPENING_LENGTH;
        for (index, (role, content)) in self.messages.iter().enumerate() {
            if index == last_answer {
                prompt_end = buffer.len();
            }
            if index > 0 {
                buffer.push(b',');
            }
            buffer.extend_from_slice(b"{\"content\":");
            serde_json::to_writer(&mut *buffer, &**content).expect("text goes into memory");
            buffer.extend_from_slice(b",\"role\":\"");
            buffer.extend_from_slice(role.name().as_bytes());
            buffer.extend_from_slice(b"\"}");
        }
        buffer.push(b']');
        if self.weight != 1.0 {
            let weight = crate::data::digest::canonical(&Value::from(self.weight)).expect("checked to be finite");
            buffer.extend_from_slice(b",\"weight\":");
            buffer.extend_from_slice(weight.as_bytes());
        }
        buffer.push(b'}');
        prompt_end
    }
}

const OPENING: &[u8] = b"{\"messages\":[";
const OPENING_LENGTH: usize = OPENING.len();

fn prompt_digest(messages: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"[").update(messages).update(b"]");
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::data) fn any_row() -> impl Strategy<Value = Row> {
        let role = prop_oneof![Just(Role::User), Just(Role::Assistant)];
        let text = prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,9}"];
        let message = (role, text).prop_map(|(role, content)| Message { role, content });
        (proptest::option::of(any::<String>()), proptest::collection::vec(message, 0..4), any::<String>(), 0.0..3.0f64)
            .prop_map(|(system, mut messages, answer, weight)| {
                messages.extend([Message::new(Role::Assistant, answer)]);
                system.into_iter().for_each(|content| messages.insert(0, Message::new(Role::System, content)));
                Row { messages, weight: if weight < 1.5 { 1.0 } else { weight.floor() + 0.25 } }
            })
    }

    proptest! {
        #[test]
        fn marks_are_digests_of_canonical_json(row in any_row()) {
            let record = Record::of(&row);
            let mark = record.mark(&mut Vec::new());
            prop_assert_eq!(mark.row, Digest::of_json(&serde_json::to_value(&row).unwrap()).unwrap());
            let last = row.messages.iter().rposition(|message| message.role == Role::Assistant).unwrap();
            let prompt = Digest::of_json(&serde_json::to_value(&row.messages[..last]).unwrap()).unwrap();
            prop_assert_eq!(record.prompt_digest(), prompt);
            let expected = if last == 0 { &NO_PROMPT[..] } else { &prompt.0[..16] };
            prop_assert_eq!(&mark.prompt[..], expected);
        }
    }

    #[test]
    fn weight_of_a_row_in_memory_is_checked() {
        let mut row = Row::new(vec![Message::new(Role::Assistant, "yes")]);
        row.weight = f64::NAN;
        assert!(Record::of(&row).check().unwrap_err().message.contains("`weight` is NaN"));
    }
}
