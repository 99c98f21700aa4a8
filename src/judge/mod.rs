//! Judges: from a question and an answer to a score or a reason why there is none.

pub mod categorical;
pub mod choice;
mod classifier;
mod exact;
pub mod first_token;
pub mod fused;
mod grammar;
mod pattern;
pub mod probability;
pub mod rating;
mod sampled;
pub mod template;
pub mod verdict;

pub use classifier::{Classifier, fit_classifier};
pub use exact::judge_exact;
pub use grammar::judge_grammar;
pub use pattern::Patterns;

/// Behaviour version of each judge; raised by hand when the meaning of its scores changes, so that old judgements are
/// not taken for new ones.
pub const VERSION: u32 = 1;
