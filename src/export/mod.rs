//! Results in the formats of other tools, as bytes: Inspect logs, tables.

pub mod inspect;
pub mod table;
