//! The map of drylab: one crate in bands; a file may use its own band and those above it in this list.
//!
//! ```text
//! error       one error type: message, kind, help
//! data        plain types and pure functions: rows, mixing, the organism's world, scores, statistics. No I/O, no async
//! store       keys, blobs, the SQLite index: everything that is remembered
//! model       networks: tokenizer, chat format, forward, backward, sampling
//! train       one loop, its schedule, optimizer and objectives
//! judge       one file per judge
//! plot        figures: theme, axes, one file per kind
//! engine      schedules calls: lazy, shared when equal, two at a time on two cores
//! lab         the only door from primitives to store, clock, environment, cancellation
//! script      Rhai and nothing about experiments: declarations, checks, imports, errors
//! primitives  one file per function that scripts can call
//! run         one execution of one script and its folder
//! cli         the only code that prints or exits
//! ```

pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub mod judge;
pub mod lab;
pub mod model;
pub mod plot;
pub mod primitives;
pub mod run;
pub mod script;
pub mod store;
pub mod train;
