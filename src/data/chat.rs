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

impl Role {
    /// The roles' names, as files and scripts write them.
    pub const NAMES: [&str; 3] = ["system", "user", "assistant"];

    /// The role's name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Role::System, Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
    }
}

impl Message {
    /// A message of this role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }
}

/// One training row: a chat of at least one message, and how much its loss counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// In order; an assistant message alone is allowed.
    pub messages: Vec<Message>,
    /// Factor of the row's loss; 1 unless the file says otherwise.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

impl Row {
    /// A row of weight 1.
    pub fn new(messages: Vec<Message>) -> Self {
        Row { messages, weight: 1.0 }
    }
}
