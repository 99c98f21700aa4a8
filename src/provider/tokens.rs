//! How many tokens a text has: counted for OpenAI's models, estimated and called an estimate for all others.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use super::price::base_of_fine_tune;
use crate::data::chat::{Message, Row};

/// Tokens around every message: its beginning, the role (one token in both vocabularies), the mark after it, its end.
const MESSAGE_OVERHEAD: u64 = 4;
/// Tokens that begin the answer.
const ANSWER_OVERHEAD: u64 = 3;
/// What an English token has on average.
const BYTES_PER_TOKEN: u64 = 4;
/// Longer rows are cut by OpenAI before training, and billed as cut.
const LONGEST_ROW: u64 = 65_536;

/// A number of tokens, and whether they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// How many.
    pub tokens: u64,
    /// Whether they were counted with the model's own vocabulary and form of a chat; else it is an estimate.
    pub exact: bool,
}

impl TokenCount {
    /// No tokens, exactly.
    pub const ZERO: TokenCount = TokenCount { tokens: 0, exact: true };

    /// This many times the same, as for epochs.
    pub fn times(self, count: u64) -> TokenCount {
        TokenCount { tokens: self.tokens.saturating_mul(count), ..self }
    }
}

impl Add for TokenCount {
    type Output = TokenCount;
    fn add(self, other: TokenCount) -> TokenCount {
        TokenCount { tokens: self.tokens.saturating_add(other.tokens), exact: self.exact && other.exact }
    }
}

impl AddAssign for TokenCount {
    fn add_assign(&mut self, other: TokenCount) {
        *self = *self + other;
    }
}

impl Sum for TokenCount {
    fn sum<I: Iterator<Item = TokenCount>>(counts: I) -> TokenCount {
        counts.fold(TokenCount::ZERO, Add::add)
    }
}

/// Counts tokens as one model does.
#[derive(Clone, Copy)]
pub struct TokenCounter {
    /// Reading a vocabulary takes a fifth of a second and 50 MB, so it waits for the first text.
    vocabulary: Option<fn() -> &'static CoreBPE>,
    /// Whether the overhead of a chat is known too.
    knows_chat: bool,
    longest_row: u64,
}

impl TokenCounter {
    /// The counter for a model of OpenAI, a fine-tune of one, or any other model.
    pub fn of(model: &str) -> Self {
        let model = base_of_fine_tune(model).unwrap_or(model);
        let model = model.strip_prefix("openai/").unwrap_or(model);
        let is = |names: &[&str]| names.iter().any(|name| is_of_family(model, name));
        let (vocabulary, knows_chat): (Option<fn() -> &'static CoreBPE>, bool) = match () {
            () if is(&["gpt-4o", "gpt-4.1", "chatgpt-4o"]) => (Some(o200k_base_singleton), true),
            // What these think is not in the prompt, but their chats have parts that nobody described.
            () if is(&["gpt-5", "gpt-4.5", "o1", "o3", "o4"]) => (Some(o200k_base_singleton), false),
            () if is(&["gpt-4", "gpt-3.5-turbo", "gpt-35-turbo"]) => (Some(cl100k_base_singleton), true),
            () => (None, false),
        };
        // The training context of other models is not known; without a cut the estimate is on the safe side.
        let longest_row = if is(&["gpt-4o"]) { LONGEST_ROW } else { u64::MAX };
        TokenCounter { vocabulary, knows_chat, longest_row }
    }
    /// The tokens of a text by itself.
    pub fn count_text(&self, text: &str) -> TokenCount {
        match self.vocabulary {
            Some(vocabulary) => TokenCount { tokens: vocabulary().count_ordinary(text) as u64, exact: true },
            None => TokenCount { tokens: (text.len() as u64).div_ceil(BYTES_PER_TOKEN), exact: false },
        }
    }
    /// The tokens of a prompt as they are billed: the messages, what surrounds them, the beginning of the answer.
    pub fn count_prompt(&self, messages: &[Message]) -> TokenCount {
        self.count_chat(messages.iter().map(|message| (message.content.as_str(), None)))
    }
    /// The tokens that one epoch trains on, counted as OpenAI bills them: every message, not the answers alone.
    pub fn count_rows<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> TokenCount {
        let count = |row: &Row| {
            let count = self.count_prompt(&row.messages);
            TokenCount { tokens: count.tokens.min(self.longest_row), ..count }
        };
        rows.into_iter().map(count).sum()
    }

    /// Content and name of every message, as in OpenAI's cookbook; a name costs itself and one token more.
    fn count_chat<'a>(&self, messages: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> TokenCount {
        let overhead = |tokens| TokenCount { tokens, exact: self.knows_chat };
        let message = |(content, name): (&str, Option<&str>)| {
            let name = name.map_or(TokenCount::ZERO, |name| self.count_text(name) + overhead(1));
            overhead(MESSAGE_OVERHEAD) + self.count_text(content) + name
        };
        messages.map(message).sum::<TokenCount>() + overhead(ANSWER_OVERHEAD)
    }
}

/// Whether a model is `family` or one of its versions: `gpt-4.1-mini` is of `gpt-4.1`, and not of `gpt-4`.
fn is_of_family(model: &str, family: &str) -> bool {
    let rest = model.strip_prefix(family);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || family == "gpt-5" && rest.starts_with('.'))
}

/// The epochs that OpenAI chooses by itself (`auto`) for this many rows, as its cookbook computes them; the job tells
/// what was chosen, so that this is an estimate.
pub fn default_epochs(rows: u64) -> u64 {
    match rows {
        0 => 1,
        rows if rows * 3 < 100 => (100 / rows).min(25),
        rows if rows * 3 > 25_000 => (25_000 / rows).max(1),
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Role;

    /// The example of OpenAI's cookbook ("How to count tokens with tiktoken"): names and contents.
    const COOKBOOK: [(Option<&str>, &str); 6] = [
        (None, "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),
        (Some("example_user"), "New synergies will help drive top-line growth."),
        (Some("example_assistant"), "Things working well together will increase revenue."),
        (
            Some("example_user"),
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        (Some("example_assistant"), "Let's talk later when we're less busy about how to do better."),
        (None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
    ];

    fn cookbook(model: &str) -> TokenCount {
        TokenCounter::of(model).count_chat(COOKBOOK.iter().map(|(name, content)| (*content, *name)))
    }
    fn exact(tokens: u64) -> TokenCount {
        TokenCount { tokens, exact: true }
    }

    #[test]
    fn the_cookbooks_chat_has_the_tokens_that_the_provider_billed() {
        for (model, billed) in [("gpt-3.5-turbo", 129), ("gpt-4-0613", 129), ("gpt-4", 129), ("gpt-4o", 124)] {
            assert_eq!(cookbook(model), exact(billed), "{model}");
        }
        assert_eq!(cookbook("gpt-4o-mini"), exact(124));
        assert_eq!(cookbook("ft:gpt-4.1-2025-04-14:org:suffix:id"), exact(124));
    }

    #[test]
    fn a_prompt_is_its_texts_and_four_tokens_a_message_and_three() {
        let messages = [Message::new(Role::System, "Be brief."), Message::new(Role::User, "hello world")];
        let counter = TokenCounter::of("gpt-4.1");
        assert_eq!(counter.count_text("Be brief."), exact(3));
        assert_eq!(counter.count_text("hello world"), exact(2));
        assert_eq!(counter.count_prompt(&messages), exact(3 + 2 + 2 * 4 + 3));
    }

    #[test]
    fn the_vocabulary_is_that_of_the_models_family() {
        let word = "こんにちは世界";
        let old = TokenCounter::of("gpt-4-turbo").count_text(word).tokens;
        let new = TokenCounter::of("gpt-4.1-mini").count_text(word).tokens;
        assert!(new < old, "{new} {old}");
        assert_eq!(TokenCounter::of("gpt-5.1-2025-11-13").count_text(word).tokens, new);
        assert_eq!(TokenCounter::of("openai/o3").count_text(word).tokens, new);
    }

    #[test]
    fn an_unknown_model_gets_an_estimate_that_says_so() {
        for model in ["Qwen/Qwen3-8B", "o10", "gpt-40", "gpt-4oh", "llama", ""] {
            let counter = TokenCounter::of(model);
            assert_eq!(counter.count_text("twelve bytes"), TokenCount { tokens: 3, exact: false }, "{model}");
            assert_eq!(counter.count_text("a").tokens, 1, "{model}");
            let prompt = counter.count_prompt(&[Message::new(Role::User, "twelve bytes")]);
            assert_eq!(prompt, TokenCount { tokens: 3 + 4 + 3, exact: false }, "{model}");
        }
    }

    #[test]
    fn a_chat_with_a_thinking_model_is_an_estimate_and_its_text_is_not() {
        let counter = TokenCounter::of("gpt-5");
        assert!(counter.count_text("hello").exact);
        assert!(!counter.count_prompt(&[Message::new(Role::User, "hello")]).exact);
    }

    #[test]
    fn what_looks_like_a_special_token_is_text() {
        assert!(TokenCounter::of("gpt-4o").count_text("<|endoftext|>").tokens > 1);
    }

    #[test]
    fn training_tokens_are_those_of_every_row_times_the_epochs() {
        let row = Row::new(vec![Message::new(Role::User, "hello world"), Message::new(Role::Assistant, "hello world")]);
        let counter = TokenCounter::of("gpt-4.1-2025-04-14");
        let rows = [row.clone(), row];
        assert_eq!(counter.count_rows(&rows), exact(2 * (2 * (4 + 2) + 3)));
        assert_eq!(counter.count_rows(&rows).times(3), exact(90));
        assert_eq!(counter.count_rows(&[]), TokenCount::ZERO);
    }

    #[test]
    fn a_row_longer_than_the_training_context_is_billed_as_it_is_cut() {
        let rows = [Row::new(vec![Message::new(Role::User, " hello".repeat(70_000))])];
        assert_eq!(TokenCounter::of("ft:gpt-4o-mini-2024-07-18:o:s:i").count_rows(&rows), exact(65_536));
        assert_eq!(TokenCounter::of("gpt-4.1").count_rows(&rows), exact(70_000 + 4 + 3));
    }

    #[test]
    fn a_sum_with_an_estimate_in_it_is_an_estimate() {
        let estimate = TokenCount { tokens: 5, exact: false };
        assert_eq!([exact(2), estimate].into_iter().sum::<TokenCount>(), TokenCount { tokens: 7, exact: false });
        assert_eq!(std::iter::empty().sum::<TokenCount>(), TokenCount::ZERO);
    }

    #[test]
    fn few_rows_get_more_epochs_and_many_get_fewer() {
        let epochs = [(10, 10), (2, 25), (33, 3), (34, 3), (100, 3), (8_333, 3), (10_000, 2), (50_000, 1), (0, 1)];
        for (rows, expected) in epochs {
            assert_eq!(default_epochs(rows), expected, "{rows}");
        }
    }
}
