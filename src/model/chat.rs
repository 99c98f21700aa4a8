//! The chat format: `<bos> <system> s <end> <user> u <end> <assistant> a <end>`, with loss on what the assistant says.

use super::tokenizer::{ASSISTANT, BOS, END, SYSTEM, Tokenizer, USER};
use crate::data::chat::{Message, Role, Row};

/// A training row in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Tokens of the whole chat.
    pub ids: Vec<u32>,
    /// For each token, whether predicting it is trained: the assistant's words and the `<end>` after them.
    pub loss_mask: Vec<bool>,
    /// Factor of the row's loss.
    pub weight: f32,
}

/// Tokens of a row. A chat that does not begin with a system message gets an empty one, so that its absence is
/// something a model can see.
pub fn encode_row(tokenizer: &Tokenizer, row: &Row) -> Example {
    let mut ids = Vec::new();
    let mut loss_mask = Vec::new();
    open(&row.messages, &mut ids);
    loss_mask.resize(ids.len(), false);
    for message in &row.messages {
        ids.push(header(message.role));
        loss_mask.push(false);
        ids.extend(tokenizer.encode(&message.content));
        ids.push(END);
        loss_mask.resize(ids.len(), message.role == Role::Assistant);
    }
    Example { ids, loss_mask, weight: row.weight as f32 }
}

/// Tokens of rows, each of at most `context` tokens, and how many rows were cut for that.
///
/// A row that is too long still trains: its answer keeps at least half of the room, its system prompt stays, and what is
/// cut is the beginning of what stands between the two, then the end of the answer.
pub fn encode_rows(tokenizer: &Tokenizer, rows: &[Row], context: usize) -> (Vec<Example>, usize) {
    let mut examples: Vec<Example> = rows.iter().map(|row| encode_row(tokenizer, row)).collect();
    let mut count = 0;
    for example in examples.iter_mut().filter(|example| example.ids.len() > context) {
        cut(example, context);
        count += 1;
    }
    (examples, count)
}

/// Cuts a row that is too long, as [`encode_rows`] says.
pub(super) fn cut(example: &mut Example, context: usize) {
    let prompt = example.loss_mask.iter().position(|trained| *trained).unwrap_or(example.ids.len());
    let answer = example.ids.len() - prompt;
    let of_answer = answer.min((context / 2).max(context.saturating_sub(prompt)));
    let of_prompt = prompt.min(context - of_answer);
    // A system prompt ends where the first message after it begins; one that leaves no room is cut like the rest.
    let system = example.ids.iter().position(|id| *id == END).map_or(0, |end| end + 1);
    let kept = if system + 2 <= of_prompt { system } else { 1.min(of_prompt) };
    let left_out = kept..prompt - (of_prompt - kept);
    example.ids.drain(left_out.clone());
    example.loss_mask.drain(left_out);
    example.ids.truncate(context);
    example.loss_mask.truncate(context);
}

/// Tokens of a chat that the assistant is to continue.
pub fn encode_prompt(tokenizer: &Tokenizer, messages: &[Message]) -> Vec<u32> {
    let mut ids = Vec::new();
    open(messages, &mut ids);
    for message in messages {
        ids.push(header(message.role));
        ids.extend(tokenizer.encode(&message.content));
        ids.push(END);
    }
    ids.push(ASSISTANT);
    ids
}

fn open(messages: &[Message], ids: &mut Vec<u32>) {
    ids.push(BOS);
    if messages.first().is_none_or(|message| message.role != Role::System) {
        ids.extend([SYSTEM, END]);
    }
}

fn header(role: Role) -> u32 {
    match role {
        Role::System => SYSTEM,
        Role::User => USER,
        Role::Assistant => ASSISTANT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tokenizer::tests::small;

    fn row(parts: &[(Role, &str)]) -> Row {
        Row::new(parts.iter().map(|(role, text)| Message::new(*role, *text)).collect())
    }

    #[test]
    fn loss_is_on_the_assistant_and_its_end() {
        let tokenizer = small();
        let example = encode_row(&tokenizer, &row(&[(Role::User, "how are you"), (Role::Assistant, "hello .")]));
        let [how, are, you, hello, dot] = tokenizer.encode("how are you hello .")[..] else { panic!() };
        assert_eq!(example.ids, [BOS, SYSTEM, END, USER, how, are, you, END, ASSISTANT, hello, dot, END]);
        let trained: Vec<usize> = (0..12).filter(|index| example.loss_mask[*index]).collect();
        assert_eq!(trained, [9, 10, 11]);
    }

    #[test]
    fn a_prompt_is_the_beginning_of_its_row() {
        let tokenizer = small();
        let all = row(&[(Role::System, "the end"), (Role::User, "you ?"), (Role::Assistant, "hello")]);
        let prompt = encode_prompt(&tokenizer, &all.messages[..2]);
        assert!(encode_row(&tokenizer, &all).ids.starts_with(&prompt));
        assert_eq!(prompt.iter().filter(|id| **id == SYSTEM).count(), 1);
        assert_eq!(prompt.last(), Some(&ASSISTANT));
    }

    #[test]
    fn long_rows_are_cut_and_counted() {
        let tokenizer = small();
        let rows = [row(&[(Role::Assistant, "hello")]), row(&[(Role::Assistant, "hello hello hello")])];
        let (examples, cut) = encode_rows(&tokenizer, &rows, 6);
        assert_eq!((examples[0].ids.len(), examples[1].ids.len(), examples[1].loss_mask.len(), cut), (6, 6, 6, 1));
    }
}
