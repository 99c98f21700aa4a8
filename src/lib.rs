//! The map of drylab: one crate in bands; a file may use its own band and those above it in this list.
//!
//! ```text
//! error       one error type: message, kind, help
//! data        plain types and pure functions: rows, mixing, the organism's world, scores, statistics. No I/O, no async
//! store       keys, blobs, the SQLite index: everything that is remembered
//! provider    models behind an API: requests, limits, faults, jobs that are launched exactly once
//! model       networks: tokenizer, chat format, forward, backward, sampling; the passes on a GPU too (`model/device`)
//! train       one loop, its schedule, optimizer and objectives
//! judge       one file per judge
//! probe       activations files, solvers, folds, metrics, the audit for leaks
//! plot        figures: theme, axes, one file per kind
//! export      results in the formats of other tools: Inspect logs, CSV, Parquet
//! engine      schedules calls: lazy, shared when equal, two at a time on two cores
//! lab         the only door from primitives to store, clock, environment, cancellation
//! script      Rhai and nothing about experiments: declarations, checks, imports, errors
//! primitives  one file per function that scripts can call
//! run         one execution of one script and its folder
//! web         the OpenAI-compatible endpoint over local models: the only code that listens
//! cli         the only code that prints or exits
//! ```
//!
//! # Invariants
//!
//! Each is kept by a test, most of them by `tests/house.rs`.
//!
//! * Crafts (store, provider, model, train, judge, probe, plot, export) know neither each other, save `train` its `model` and
//!   `provider` its `store`, nor Rhai, nor the command line.
//! * Only `cli` prints and exits; only `web` listens; only `lab` and what lies below it in the list touch the project's files,
//!   the clock and the environment; `provider`, whose matter is waiting, reads the clock too.
//! * A primitive is declared once; binding, checks, keys, manual and reference page derive from the declaration.
//! * Options hold what changes the result and nothing else. A key is a digest of primitive, version, inputs by content
//!   and the options that differ from their default.
//! * A result is durable before it is counted. Failures of free work are not remembered.
//! * Equal seeds give equal bytes on any number of threads, and a sampled answer depends on the model, its own question
//!   and its own index alone. A device rounds otherwise; keys do not name it.
//!
//! # Where to start reading
//!
//! `scripts/a05b.rhai` is what a user writes. `primitives/launch_finetune.rs` shows a declaration and a call;
//! `lab.rs` what happens to a call; `train/fit.rs` the training loop; `primitives/answers.rs` how answers and judgements are
//! stored row by row; `provider/launch/mod.rs` how a job is bought exactly once and `primitives/ask.rs` how a model is asked
//! wherever it lives; `probe/logistic/mod.rs` how a probe is fitted and proved; `cli/run.rs` one run from its first line to its last.

pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub mod export;
pub mod judge;
pub mod lab;
pub mod model;
pub mod plot;
pub mod primitives;
pub mod probe;
pub mod provider;
pub mod run;
pub mod script;
pub mod store;
pub mod train;
pub mod web;
