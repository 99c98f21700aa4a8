//! Plain types and pure functions: no files, no clock, no threads of control.

pub mod chat;
pub mod digest;
pub mod random;
pub mod statistics;
