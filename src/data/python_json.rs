//! Writes rows in the exact bytes of Python's `json.dumps`, so that files equal those of the research code.

use std::io::{self, Write};

use crate::data::record::Record;

/// One JSONL line with its newline: separators `", "` and `": "`, keys in insertion order, ASCII only.
pub(super) fn write_row(out: &mut Vec<u8>, row: &Record) {
    out.extend_from_slice(b"{\"messages\": [");
    for (index, (role, content)) in row.messages.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"{\"role\": \"");
        out.extend_from_slice(role.name().as_bytes());
        out.extend_from_slice(b"\", \"content\": ");
        write_string(out, content).expect("text goes into memory");
        out.push(b'}');
    }
    out.push(b']');
    if row.weight != 1.0 {
        out.extend_from_slice(b", \"weight\": ");
        out.extend_from_slice(float(row.weight).as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

fn write_string(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, character) in text.char_indices() {
        let short: &[u8] = match character {
            '"' => b"\\\"",
            '\\' => b"\\\\",
            '\n' => b"\\n",
            '\r' => b"\\r",
            '\t' => b"\\t",
            '\u{8}' => b"\\b",
            '\u{c}' => b"\\f",
            ' '..='~' => continue,
            _ => b"",
        };
        out.extend_from_slice(&bytes[plain_from..index]);
        out.extend_from_slice(short);
        if short.is_empty() {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        plain_from = index + character.len_utf8();
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
    Ok(())
}

/// `repr(float)`: the shortest digits that read back, an exponent of at least two digits and with its sign.
fn float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            format!("{digits}e{:+03}", exponent.parse::<i32>().expect("an exponent is a whole number"))
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Row;

    #[test]
    fn lines_equal_json_dumps() {
        // Made by tests/generators/python_json.py: pairs of a line with `ensure_ascii` off and the line as it is to be written.
        let fixture = include_str!("../../tests/fixtures/python_json.jsonl");
        let lines: Vec<&str> = fixture.split('\n').filter(|line| !line.is_empty()).collect();
        assert!(lines.len() > 20);
        for pair in lines.chunks(2) {
            let row: Row = serde_json::from_str(pair[0]).unwrap();
            let mut written = Vec::new();
            write_row(&mut written, &Record::of(&row));
            assert_eq!(String::from_utf8(written).unwrap(), format!("{}\n", pair[1]));
        }
    }
}
