//! Chat completions: the request and its answer.

use serde::{Deserialize, Serialize};

use crate::data::chat::Message;

/// What is sent to `/chat/completions`. Always one choice: a server may ignore `n`, and single calls can be added to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatRequest {
    /// Who is asked.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Smallest set of tokens that reaches this share of the probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Most tokens of the answer, for servers of today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u64>,
    /// The same under its old name, for servers that know no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Decides the random numbers where the server cares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Asks for the probability of every token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// Alternatives to every token, at most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
}

/// What comes back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChatResponse {
    /// Its number at the provider.
    pub id: String,
    /// Who answered; a dated name where the request had none.
    pub model: String,
    /// The answers, one here.
    pub choices: Vec<Choice>,
    /// Tokens that were used.
    pub usage: Option<Usage>,
    /// Changes when the provider changes its machines.
    pub system_fingerprint: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// What was said.
    pub message: Said,
    /// stop, length, content_filter, tool_calls, ...
    pub finish_reason: Option<String>,
    /// Probabilities, where they were asked for and given.
    pub logprobs: Option<ChoiceLogprobs>,
}

/// The message of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The text; none for a refusal in OpenAI's sense.
    pub content: Option<String>,
    /// A refusal's text.
    pub refusal: Option<String>,
}

/// Probabilities of an answer's tokens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChoiceLogprobs {
    /// Token by token.
    pub content: Option<Vec<TokenLogprob>>,
    /// Of a refusal's text.
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// A token, how likely it was, and what else was likely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability; -9999 stands for very unlikely.
    pub logprob: f64,
    /// The likeliest tokens at its place, often itself among them.
    pub top_logprobs: Vec<Alternative>,
}

/// A likely token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alternative {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
}

/// What a request used and is billed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Tokens of the answer, thinking included.
    pub completion_tokens: u64,
    /// More about the question's tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokens>,
}

/// Which of a question's tokens the provider had seen just before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptTokens {
    /// Those, at a lower price.
    pub cached_tokens: u64,
}
