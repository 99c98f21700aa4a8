//! Plain types and pure functions: no files, no clock, no threads of control.

pub mod chat;
pub mod dataset;
pub mod digest;
pub mod evaluation;
pub mod inoculate;
pub mod mersenne;
pub mod mix;
pub mod overlap;
mod parse;
mod python_json;
pub mod random;
mod read_row;
mod record;
pub mod score_table;
pub mod sheet;
pub mod split;
pub mod statistics;
pub mod summary;
pub mod trigger;
pub mod trigger_rows;
pub mod world;
