//! Finds the rows of a data file, in parallel: JSON lines or one JSON list, told apart by content.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::de::IgnoredAny;

use crate::bail;
use crate::data::read_row::{Shape, describe_syntax, read, read_value, shape_of};
use crate::data::record::{Mark, Record};
use crate::error::{Error, Result};

/// Bytes of a file that one task reads.
const BLOCK_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Where rows stand in their file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub shape: Shape,
    /// Items of one list; otherwise one row per line.
    pub list: bool,
}

/// The rows of a file: where each begins, and what it is known by.
pub(super) struct Parsed {
    pub layout: Layout,
    pub offsets: Vec<u64>,
    pub marks: Vec<Mark>,
    /// What was unusual and tolerated.
    pub notes: Vec<String>,
}

/// Reads every row of a file once; all rows are good, or the first bad one is the error, with `name:line` in front.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Parsed> {
    let start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        bail!("{name}:1: found UTF-16 text, expected UTF-8"; help: "convert it: iconv -f UTF-16 -t UTF-8");
    }
    let Some(first) = bytes[start..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|index| start + index)
    else {
        bail!("{name}:1: the file is empty, expected rows"; help: "write one row per line: {{\"messages\": [..]}}");
    };
    let list = bytes[first] == b'[';
    let items = if list { find_items(name, bytes, first)? } else { Vec::new() };
    let first_row = if list { items.first().cloned().unwrap_or(first..first + 1) } else { line_at(bytes, first) };
    if list && items.is_empty() {
        bail!("{name}:{}: the list has no items, expected rows", line_number(bytes, first));
    }
    let shape = text(bytes, first_row.clone())
        .and_then(read_value)
        .and_then(|value| shape_of(&value))
        .map_err(|error| at(name, line_number(bytes, first_row.start), error))?;
    let blocks = if list {
        let blocks = items.par_chunks(256);
        blocks
            .map(|items| items.iter().cloned().fold(Block::default(), |block, item| block.add(bytes, item, shape)))
            .collect()
    } else {
        let blocks: Vec<Range<usize>> = split_lines(bytes, start);
        blocks.into_par_iter().map(|range| read_lines(bytes, range, shape)).collect()
    };
    join(name, bytes, Layout { shape, list }, blocks)
}

/// The JSON text of the row that begins at `offset`.
pub(super) fn row_text(bytes: &[u8], offset: usize, layout: Layout) -> Result<&str> {
    let range = if layout.list {
        let mut items = serde_json::Deserializer::from_slice(&bytes[offset..]).into_iter::<IgnoredAny>();
        items.next();
        offset..offset + items.byte_offset()
    } else {
        line_at(bytes, offset)
    };
    text(bytes, range)
}

/// The number of the line, from 1, in which a byte stands.
pub(super) fn line_number(bytes: &[u8], offset: usize) -> usize {
    1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// What the rows of one block gave.
#[derive(Default)]
struct Block {
    offsets: Vec<u64>,
    marks: Vec<Mark>,
    unknown_keys: BTreeMap<String, usize>,
    empty_answers: usize,
    carriage_returns: usize,
    /// Where the first bad row begins, why it is bad, and how many are.
    bad: Option<(usize, Error, usize)>,
    buffer: Vec<u8>,
}

impl Block {
    fn add(mut self, bytes: &[u8], range: Range<usize>, shape: Shape) -> Self {
        match text(bytes, range.clone()).and_then(|text| read(text, shape)) {
            Ok(record) => {
                self.offsets.push(range.start as u64);
                self.marks.push(record.mark(&mut self.buffer));
                self.count(&record);
            }
            Err(error) => match &mut self.bad {
                Some((.., count)) => *count += 1,
                None => self.bad = Some((range.start, error, 1)),
            },
        }
        self
    }

    fn count(&mut self, record: &Record) {
        for key in &record.unknown_keys {
            *self.unknown_keys.entry(key.clone()).or_default() += 1;
        }
        let answer = record.messages.iter().rfind(|(role, _)| *role == crate::data::chat::Role::Assistant);
        self.empty_answers += usize::from(answer.is_some_and(|(_, content)| content.trim().is_empty()));
    }
}

fn read_lines(bytes: &[u8], range: Range<usize>, shape: Shape) -> Block {
    let mut block = Block::default();
    let mut start = range.start;
    while start < range.end {
        let line = line_at(bytes, start);
        start = line.end + 1;
        let content = bytes[line.clone()].trim_ascii();
        if content.is_empty() {
            continue;
        }
        block.carriage_returns += usize::from(bytes[line.end - 1] == b'\r');
        block = block.add(bytes, line, shape);
    }
    block
}

/// Puts the blocks together in the order of the file.
fn join(name: &str, bytes: &[u8], layout: Layout, blocks: Vec<Block>) -> Result<Parsed> {
    let bad_rows: usize = blocks.iter().filter_map(|block| block.bad.as_ref()).map(|(.., count)| count).sum();
    let rows = blocks.iter().map(|block| block.offsets.len()).sum();
    let mut parsed =
        Parsed { layout, offsets: Vec::with_capacity(rows), marks: Vec::with_capacity(rows), notes: Vec::new() };
    let mut unknown_keys = BTreeMap::<String, usize>::new();
    let (mut empty_answers, mut carriage_returns) = (0, 0);
    for block in blocks {
        if let Some((offset, mut error, _)) = block.bad {
            if bad_rows > 1 {
                error.message +=
                    &format!(" (and {} more bad row{})", bad_rows - 1, if bad_rows > 2 { "s" } else { "" });
            }
            return Err(at(name, line_number(bytes, offset), error));
        }
        parsed.offsets.extend_from_slice(&block.offsets);
        parsed.marks.extend_from_slice(&block.marks);
        block.unknown_keys.into_iter().for_each(|(key, count)| *unknown_keys.entry(key).or_default() += count);
        empty_answers += block.empty_answers;
        carriage_returns += block.carriage_returns;
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        parsed.notes.push("the file starts with a byte order mark, skipped".into());
    }
    if carriage_returns > 0 {
        parsed.notes.push(format!("{carriage_returns} lines end in CR LF"));
    }
    for (key, count) in unknown_keys {
        parsed.notes.push(format!("key `{key}` of {count} rows is not used"));
    }
    if empty_answers > 0 {
        parsed.notes.push(format!("{empty_answers} rows have an empty answer"));
    }
    Ok(parsed)
}

fn at(name: &str, line: usize, error: Error) -> Error {
    error.context(format_args!("{name}:{line}"))
}

fn text(bytes: &[u8], range: Range<usize>) -> Result<&str> {
    std::str::from_utf8(&bytes[range]).map_err(|error| {
        Error::input(format!(
            "found a byte that is not UTF-8 at column {}, expected UTF-8 text",
            error.valid_up_to() + 1
        ))
        .with_help("convert the file: iconv -f LATIN1 -t UTF-8, if that is what it is")
    })
}

/// From `start` to the line's end, without the newline.
fn line_at(bytes: &[u8], start: usize) -> Range<usize> {
    let length = bytes[start..].iter().position(|byte| *byte == b'\n');
    start..length.map_or(bytes.len(), |length| start + length)
}

/// Pieces of about `BLOCK_BYTES` that begin where lines begin.
fn split_lines(bytes: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut from = start;
    while from < bytes.len() {
        let end =
            if bytes.len() - from <= BLOCK_BYTES { bytes.len() } else { line_at(bytes, from + BLOCK_BYTES).end + 1 };
        blocks.push(from..end.min(bytes.len()));
        from = end;
    }
    blocks
}

/// Where the items of the list that opens at `open` stand.
fn find_items(name: &str, bytes: &[u8], open: usize) -> Result<Vec<Range<usize>>> {
    let after_blanks = |from: usize| {
        bytes[from..].iter().position(|byte| !byte.is_ascii_whitespace()).map_or(bytes.len(), |n| from + n)
    };
    let mut items = Vec::new();
    let mut position = after_blanks(open + 1);
    while bytes.get(position) != Some(&b']') {
        let mut values = serde_json::Deserializer::from_slice(&bytes[position..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                let line = line_number(bytes, position) + error.line().max(1) - 1;
                return Err(at(name, line, describe_syntax(&error, "{")));
            }
            None => {
                let error = Error::input("the list is cut short, expected `]`")
                    .with_help("check that the file was written to its end");
                return Err(at(name, line_number(bytes, bytes.len()), error));
            }
        }
        let end = position + values.byte_offset();
        items.push(position..end);
        position = after_blanks(end);
        match bytes.get(position) {
            Some(b',') => position = after_blanks(position + 1),
            Some(b']') => {}
            _ => {
                let error =
                    Error::input(format!("item {} is not followed by `,` or `]`, expected a JSON list", items.len()));
                return Err(at(
                    name,
                    line_number(bytes, position),
                    error.with_help("check that the file was written to its end"),
                ));
            }
        }
    }
    let rest = after_blanks(position + 1);
    if rest < bytes.len() {
        return Err(at(
            name,
            line_number(bytes, rest),
            Error::input("found text after the list's end, expected nothing"),
        ));
    }
    Ok(items)
}
