//! What is minimised: one file per objective.

pub mod sft;
