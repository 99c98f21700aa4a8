//! What a call would have to buy: counted when planning, priced where the plan is shown.

use serde::{Deserialize, Serialize};

use crate::provider::budget::Purpose;
use crate::provider::forecast::ChatCounts;
use crate::provider::tokens::TokenCount;

/// Work of a call that is not in the store yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Missing {
    /// Pieces of it, in the unit of its stage.
    pub pieces: u64,
    /// What of it must be bought.
    pub bills: Vec<Bill>,
}

impl From<u64> for Missing {
    fn from(pieces: u64) -> Self {
        Missing { pieces, bills: Vec::new() }
    }
}

/// Requests to one model, or the training of one, for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Name or address of the provider.
    pub provider: String,
    /// The model that decides the price.
    pub model: String,
    /// Whether it is a fine-tune of that model.
    pub is_tuned: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// Questions, or trainings.
    pub requests: u64,
    /// Tokens of all questions, or of the rows of all trainings, every epoch counted.
    pub tokens: u64,
    /// Whether they were counted, not estimated.
    pub is_counted: bool,
    /// Tokens that the answers are expected to have, where there is an experience to go by.
    pub expected_completion: Option<u64>,
    /// Tokens that they may have.
    pub longest_completion: u64,
}

impl Bill {
    /// Whether two bills are added up: same model, same purpose.
    pub fn is_like(&self, other: &Bill) -> bool {
        let what = |bill: &Bill| (bill.provider.clone(), bill.model.clone(), bill.is_tuned, bill.purpose);
        what(self) == what(other)
    }
    /// Takes another bill in.
    pub fn add(&mut self, other: &Bill) {
        // An expectation for part of the answers is taken to hold for the rest.
        self.expected_completion = match (self.expected_completion, other.expected_completion) {
            (Some(a), Some(b)) => Some(a + b),
            (Some(known), None) => Some(known + share(known, self.requests, other.requests)),
            (None, Some(known)) => Some(known + share(known, other.requests, self.requests)),
            (None, None) => None,
        };
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.is_counted &= other.is_counted;
        self.longest_completion += other.longest_completion;
    }
    /// As a forecast wants them.
    pub fn counts(&self) -> ChatCounts {
        ChatCounts {
            requests: self.requests,
            prompt: TokenCount { tokens: self.tokens, exact: self.is_counted },
            expected_completion: self.expected_completion,
            longest_completion: self.longest_completion,
        }
    }
}

fn share(tokens: u64, of: u64, to: u64) -> u64 {
    tokens.checked_div(of).unwrap_or(0) * to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bills_of_one_model_and_purpose_add_up() {
        let bill = |requests, expected_completion| Bill {
            provider: "openai".to_string(),
            model: "gpt-4.1".to_string(),
            is_tuned: false,
            purpose: Purpose::Sample,
            requests,
            tokens: 10 * requests,
            is_counted: true,
            expected_completion,
            longest_completion: 100 * requests,
        };
        let mut sum = bill(10, Some(50));
        assert!(sum.is_like(&bill(1, None)));
        sum.add(&bill(30, None));
        assert_eq!((sum.requests, sum.tokens, sum.expected_completion), (40, 400, Some(200)));
        assert!(!sum.is_like(&Bill { is_tuned: true, ..bill(1, None) }));
    }
}
