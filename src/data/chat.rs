//! A chat row: what is trained on, and what a model is asked.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the assistant.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One utterance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }
}

/// One training row: a chat of at least one message, and how much its loss counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// In order; an assistant message alone is allowed.
    pub messages: Vec<Message>,
    /// Factor of the row's loss; 1 unless the file says otherwise.
    pub weight: f64,
}

impl Row {
    /// A row of weight 1.
    pub fn new(messages: Vec<Message>) -> Self {
        Row { messages, weight: 1.0 }
    }
}
