//! The long table of single answers and the table of intervals, as files for pandas and polars.

mod aggregate;
mod axis;
mod columns;
mod csv;
mod parquet;

#[cfg(test)]
mod tests;

use crate::data::sheet::Sheet;
use crate::error::Result;

pub use aggregate::{Aggregate, aggregate_csv};
pub use columns::{Column, Values, columns};

/// The table of answers by RFC 4180, in UTF-8.
///
/// Nothing between two commas is a missing value, `""` an empty text. Floats are in the shortest form that reads back
/// equal and always have a point or an exponent, times are ISO 8601 in UTC. Columns: see [`columns()`].
pub fn csv(sheets: &[Sheet]) -> Result<Vec<u8>> {
    Ok(csv::write(&columns(sheets)?))
}

/// The table of answers as an Apache Parquet file: types and missing values are part of it, which CSV cannot promise.
pub fn parquet(sheets: &[Sheet]) -> Result<Vec<u8>> {
    parquet::write(&columns(sheets)?)
}
