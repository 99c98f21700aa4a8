//! Columns as comma-separated values by RFC 4180.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::columns::{Column, Values};

/// A head and one line per row. A missing value is nothing at all, an empty text a pair of quotes.
pub(super) fn write(columns: &[Column<'_>]) -> Vec<u8> {
    let mut text = String::new();
    for (place, column) in columns.iter().enumerate() {
        separate(place, &mut text);
        write_text(&column.name, &mut text);
    }
    text.push('\n');
    for row in 0..columns.first().map_or(0, |column| column.values.len()) {
        for (place, column) in columns.iter().enumerate() {
            separate(place, &mut text);
            write_value(&column.values, row, &mut text);
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn separate(place: usize, out: &mut String) {
    if place > 0 {
        out.push(',');
    }
}

fn write_value(values: &Values<'_>, row: usize, out: &mut String) {
    let written = match values {
        Values::Text(values) => {
            if let Some(value) = &values[row] {
                write_text(value, out);
            }
            Ok(())
        }
        // `5.0`, not `5`, so that readers that guess types find numbers with a fraction where there happens to be none.
        Values::Number(values) => values[row].map_or(Ok(()), |value| write!(out, "{value:?}")),
        Values::Count(values) => values[row].map_or(Ok(()), |value| write!(out, "{value}")),
        Values::Truth(values) => values[row].map_or(Ok(()), |value| write!(out, "{value}")),
        Values::Time(values) => values[row].map_or(Ok(()), |value| {
            let time = UNIX_EPOCH + Duration::from_micros(value.unsigned_abs());
            write!(out, "{}", humantime::format_rfc3339_micros(time))
        }),
    };
    written.expect("writing to a string does not fail");
}

/// A text in quotes where it must be in quotes, or would look like a missing value.
fn write_text(value: &str, out: &mut String) {
    if !value.is_empty() && !value.contains([',', '"', '\n', '\r']) {
        return out.push_str(value);
    }
    out.push('"');
    for (place, part) in value.split('"').enumerate() {
        if place > 0 {
            out.push_str("\"\"");
        }
        out.push_str(part);
    }
    out.push('"');
}
