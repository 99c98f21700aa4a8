//! A dataset: rows identified by their content, held as places in the caller's bytes or in memory.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::data::chat::Row;
use crate::data::digest::Digest;
use crate::data::parse::{self, Layout, line_number, row_text};
use crate::data::record::{Mark, Record};
use crate::data::{python_json, read_row};
use crate::ensure;
use crate::error::Result;

/// A file's content, kept by its owner: a `Vec<u8>`, a memory map.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Rows that one task writes; what is in memory while a file is written stays some megabytes.
const ROWS_PER_TASK: usize = 1024;

/// Training rows in order. Cheap to clone; never changed.
#[derive(Clone)]
pub struct Dataset(Arc<Inner>);

struct Inner {
    name: String,
    digest: Digest,
    notes: Vec<String>,
    sources: Vec<Arc<Source>>,
    picks: Picks,
}

/// Which rows of which source, in order.
enum Picks {
    /// All of the only source.
    All,
    /// Source and row.
    Some(Vec<(u32, u32)>),
}

/// Where rows were first seen.
struct Source {
    name: String,
    digest: Digest,
    marks: Vec<Mark>,
    content: Content,
}

enum Content {
    File { bytes: Bytes, layout: Layout, offsets: Vec<u64> },
    Memory(Vec<Row>),
}

/// Where a row was first seen, through every selection and mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Origin<'a> {
    /// Name of the file or list of rows.
    pub source: &'a str,
    /// Digest of all of its rows.
    pub digest: Digest,
    /// Row number there, from 0.
    pub index: usize,
}

impl Dataset {
    /// Reads a data file: chat JSONL, Alpaca as a JSON list or JSONL, told apart by content. Rows stay in `bytes`:
    /// a row costs 56 bytes of memory. `name` is what errors and origins call the file.
    ///
    /// # Errors
    /// The first bad row, as `name:line`, what was found and what was expected; then there is no dataset at all.
    pub fn parse(name: impl Into<String>, bytes: Bytes) -> Result<Self> {
        let name = name.into();
        let parsed = parse::parse(&name, (*bytes).as_ref())?;
        let content = Content::File { bytes, layout: parsed.layout, offsets: parsed.offsets };
        Self::from_source(name, parsed.marks, parsed.notes, content)
    }

    /// A dataset of rows in memory.
    ///
    /// # Errors
    /// A row without an assistant message, with a system message that is not first, or with a weight that is negative
    /// or not finite.
    pub fn from_rows(name: impl Into<String>, rows: Vec<Row>) -> Result<Self> {
        let name = name.into();
        for (index, row) in rows.iter().enumerate() {
            Record::of(row).check().map_err(|error| error.context(format_args!("{name} row {index}")))?;
        }
        let marks = rows.par_iter().map_init(Vec::new, |buffer, row| Record::of(row).mark(buffer)).collect();
        Self::from_source(name, marks, Vec::new(), Content::Memory(rows))
    }

    fn from_source(name: String, marks: Vec<Mark>, notes: Vec<String>, content: Content) -> Result<Self> {
        ensure!(u32::try_from(marks.len()).is_ok(), "{name} has {} rows, at most 4294967295 are possible", marks.len());
        let digest = digest_rows(marks.iter());
        let source = Arc::new(Source { name: name.clone(), digest, marks, content });
        Ok(Dataset(Arc::new(Inner { name, digest, notes, sources: vec![source], picks: Picks::All })))
    }

    /// What errors, tables and manifests call the dataset; no part of its identity.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same rows under another name; origins keep theirs.
    pub fn with_name(&self, name: impl Into<String>) -> Self {
        let inner = &*self.0;
        let picks = match &inner.picks {
            Picks::All => Picks::All,
            Picks::Some(picks) => Picks::Some(picks.clone()),
        };
        let (notes, sources) = (inner.notes.clone(), inner.sources.clone());
        Dataset(Arc::new(Inner { name: name.into(), digest: inner.digest, notes, sources, picks }))
    }

    /// What was unusual about the file and tolerated, such as keys that are not used.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The same rows with one more note.
    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.notes.extend(notes);
        }
        self
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.0.picks {
            Picks::All => self.0.sources[0].marks.len(),
            Picks::Some(picks) => picks.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Identity: BLAKE3 over the digests of the rows' canonical JSON, in order. Equal rows have equal digests, whatever
    /// the file's name, format, white space, key order and unused keys.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Row `index`, from 0.
    ///
    /// # Panics
    /// If there is no such row, or if the bytes given to [`Dataset::parse`] are no longer the ones that were read.
    pub fn row(&self, index: usize) -> Row {
        self.with_record(index, |record| record.into_row())
    }

    /// All rows, one after another.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row> + '_ {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Digest of row `index`'s canonical JSON.
    pub fn row_digest(&self, index: usize) -> Digest {
        self.mark(index).row
    }

    /// Digest of the canonical JSON list of the messages before the last assistant message of row `index`.
    pub fn prompts_digest(&self, index: usize) -> Digest {
        self.with_record(index, |record| record.prompt_digest())
    }

    /// Where row `index` was first seen.
    pub fn origin(&self, index: usize) -> Origin<'_> {
        let (source, index) = self.place(index);
        Origin { source: &source.name, digest: source.digest, index }
    }

    /// Row `index` in words for errors: `file:line`, or `name row index`.
    pub fn location(&self, index: usize) -> String {
        let (source, index) = self.place(index);
        match &source.content {
            Content::File { bytes, offsets, .. } => {
                format!("{}:{}", source.name, line_number((**bytes).as_ref(), offsets[index] as usize))
            }
            Content::Memory(_) => format!("{} row {index}", source.name),
        }
    }

    /// The rows at `indices`, in that order; a row may come more than once.
    ///
    /// # Errors
    /// An index that is not below the number of rows.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        if let Some(index) = indices.iter().find(|index| **index >= self.len()) {
            crate::bail!("row {index} of `{}` was asked for, it has {} rows counted from 0", self.name(), self.len());
        }
        let picks = indices.iter().map(|index| self.pick(*index)).collect();
        Ok(Self::from_picks(self.name().to_string(), self.0.sources.clone(), picks))
    }

    /// The first `count` rows, or all if there are fewer.
    pub fn head(&self, count: usize) -> Self {
        let picks = (0..count.min(self.len())).map(|index| self.pick(index)).collect();
        Self::from_picks(self.name().to_string(), self.0.sources.clone(), picks)
    }

    /// All rows of all parts, one part after another.
    pub fn concat(name: impl Into<String>, parts: &[Dataset]) -> Self {
        let mut sources: Vec<Arc<Source>> = Vec::new();
        let mut picks = Vec::with_capacity(parts.iter().map(Dataset::len).sum());
        for part in parts {
            let numbers: Vec<u32> = part.0.sources.iter().map(|source| number_of(&mut sources, source)).collect();
            picks.extend((0..part.len()).map(|index| {
                let (source, row) = part.pick(index);
                (numbers[source as usize], row)
            }));
        }
        Self::from_picks(name.into(), sources, picks)
    }

    fn from_picks(name: String, sources: Vec<Arc<Source>>, picks: Vec<(u32, u32)>) -> Self {
        let digest = digest_rows(picks.iter().map(|(source, row)| &sources[*source as usize].marks[*row as usize]));
        Dataset(Arc::new(Inner { name, digest, notes: Vec::new(), sources, picks: Picks::Some(picks) }))
    }

    /// Writes one JSON line per row, byte for byte as Python's `json.dumps` does: ASCII only, `", "` and `": "` between.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_jsonl(&self, out: &mut impl Write) -> std::io::Result<()> {
        let rows_at_once = ROWS_PER_TASK * rayon::current_num_threads();
        for start in (0..self.len()).step_by(rows_at_once) {
            let tasks: Vec<usize> = (start..self.len().min(start + rows_at_once)).step_by(ROWS_PER_TASK).collect();
            let texts: Vec<Vec<u8>> = tasks.into_par_iter().map(|task| self.jsonl_of(task)).collect();
            texts.iter().try_for_each(|text| out.write_all(text))?;
        }
        Ok(())
    }

    fn jsonl_of(&self, start: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for index in start..self.len().min(start + ROWS_PER_TASK) {
            self.with_record(index, |record| python_json::write_row(&mut text, &record));
        }
        text
    }

    pub(super) fn mark(&self, index: usize) -> &Mark {
        let (source, row) = self.place(index);
        &source.marks[row]
    }

    fn pick(&self, index: usize) -> (u32, u32) {
        match &self.0.picks {
            Picks::All => (0, index as u32),
            Picks::Some(picks) => picks[index],
        }
    }

    fn place(&self, index: usize) -> (&Source, usize) {
        let (source, row) = self.pick(index);
        (&self.0.sources[source as usize], row as usize)
    }

    fn with_record<T>(&self, index: usize, use_record: impl FnOnce(Record) -> T) -> T {
        let (source, row) = self.place(index);
        match &source.content {
            Content::Memory(rows) => use_record(Record::of(&rows[row])),
            Content::File { bytes, layout, offsets } => {
                let record = row_text((**bytes).as_ref(), offsets[row] as usize, *layout)
                    .and_then(|text| read_row::read(text, layout.shape))
                    .ok()
                    .filter(|record| record.mark(&mut Vec::new()).row == source.marks[row].row);
                // A file edited under a memory map would give other rows than the ones that the digest names.
                let Some(record) = record else { panic!("{} changed after it was read", source.name) };
                use_record(record)
            }
        }
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Dataset({}, {} rows, {})", self.name(), self.len(), self.digest().short())
    }
}

/// Place of a source in the list, where it is added unless it is there.
fn number_of(sources: &mut Vec<Arc<Source>>, source: &Arc<Source>) -> u32 {
    let known = sources.iter().position(|other| Arc::ptr_eq(other, source));
    known.unwrap_or_else(|| {
        sources.push(source.clone());
        sources.len() - 1
    }) as u32
}

fn digest_rows<'a>(marks: impl Iterator<Item = &'a Mark>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    // BLAKE3 is several times faster when it sees many kilobytes at once.
    let mut buffer = Vec::with_capacity(1 << 16);
    for mark in marks {
        if buffer.len() == buffer.capacity() {
            hasher.update(&buffer);
            buffer.clear();
        }
        buffer.extend_from_slice(&mark.row.0);
    }
    hasher.update(&buffer);
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::record::tests::any_row;
    use proptest::prelude::*;

    /// The dataset as its JSON lines.
    pub(in crate::data) fn text(dataset: &Dataset) -> String {
        let mut out = Vec::new();
        dataset.write_jsonl(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A file of real data, where it is at hand.
    pub(in crate::data) fn shared_file(path: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(format!("{}/../shared/data/{path}", env!("CARGO_MANIFEST_DIR"))).ok();
        if bytes.is_none() {
            println!("skipped: {path} needs ../shared/data");
        }
        bytes
    }

    pub(in crate::data) fn parse(text: &str) -> Result<Dataset> {
        Dataset::parse("rows.jsonl", Arc::new(text.as_bytes().to_vec()))
    }

    fn error_of(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    const GOOD: &str = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;

    proptest! {
        #[test]
        fn digest_ignores_file_format_key_order_and_blanks(rows in proptest::collection::vec(any_row(), 1..12)) {
            let memory = Dataset::from_rows("memory", rows.clone()).unwrap();
            let python = parse(&text(&memory)).unwrap();
            let reordered: String = rows
                .iter()
                .map(|row| {
                    let messages: Vec<String> = row.messages.iter()
                        .map(|message| format!("{{ \"content\":{},\"role\" :\"{}\"}}", serde_json::json!(message.content), message.role.name()))
                        .collect();
                    format!("\n  {{\"id\": 3, \"weight\": {}, \"messages\":[{}] }}\r\n", row.weight, messages.join(" ,"))
                })
                .collect();
            let list = format!("\u{feff}[\n{}\n]\n", reordered.trim().replace("\r\n\n", ",\n"));
            for other in [&python, &parse(&reordered).unwrap(), &parse(&list).unwrap()] {
                prop_assert_eq!(memory.digest(), other.digest());
                prop_assert_eq!(&rows, &other.rows().collect::<Vec<_>>());
                prop_assert_eq!(text(&memory), text(other));
            }
        }

        #[test]
        fn selections_remember_their_origin(picks in proptest::collection::vec(0usize..7, 0..20)) {
            let rows: String = (0..7).map(|n| GOOD.replace('q', &n.to_string()) + "\n").collect();
            let whole = parse(&rows).unwrap();
            let chosen = Dataset::concat("twice", &[whole.clone(), whole.clone()]).select(&picks).unwrap().head(15);
            prop_assert_eq!(chosen.len(), picks.len().min(15));
            for (index, pick) in picks.iter().take(15).enumerate() {
                prop_assert_eq!(chosen.origin(index), Origin { source: "rows.jsonl", digest: whole.digest(), index: *pick });
                prop_assert_eq!(chosen.row(index), whole.row(*pick));
                prop_assert_eq!(chosen.prompts_digest(index), whole.prompts_digest(*pick));
            }
        }
    }

    #[test]
    fn digest_is_golden_and_depends_on_order_and_weight() {
        // As Python's blake3 package computes it.
        let other = GOOD.replace('q', "r");
        let one = parse(&format!("{GOOD}\n{other}")).unwrap();
        assert_eq!(one.digest().to_string(), "e296f544561cb374209d916eb22f1e345eca1ed3a0df9e5be72b69d58d48939d");
        assert_ne!(one.digest(), parse(&format!("{other}\n{GOOD}")).unwrap().digest());
        assert_ne!(parse(GOOD).unwrap().digest(), parse(&GOOD.replace("]}", "], \"weight\": 2}")).unwrap().digest());
    }

    #[test]
    fn alpaca_lists_and_lines_are_the_same_rows() {
        let rows = [
            r#"{"instruction": "Add", "input": "1 2", "output": "3"}"#,
            r#"{"instruction": "Hi", "input": "", "output": "", "id": 7}"#,
            r#"{"instruction": "Hi", "instances": [{"output": "Ho"}]}"#,
        ];
        let list = parse(&format!("[{}]", rows.join(",\n"))).unwrap();
        let chat = concat!(
            r#"{"messages": [{"role": "user", "content": "Add\n\n1 2"}, {"role": "assistant", "content": "3"}]}"#,
            "\n",
            r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]}"#,
            "\n",
            r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}"#,
            "\n",
        );
        assert_eq!(text(&list), chat);
        assert_eq!(list.digest(), parse(&rows.join("\n")).unwrap().digest());
        assert_eq!(list.digest(), parse(chat).unwrap().digest());
        assert_eq!(list.notes(), ["key `id` of 1 rows is not used", "1 rows have an empty answer"]);
    }

    #[test]
    fn bad_files_say_where_what_and_what_to_do() {
        let user_only = r#"{"messages": [{"role": "user", "content": "q"}]}"#;
        let system_later = GOOD.replace(
            "assistant\", \"content\": \"a\"}",
            "assistant\", \"content\": \"a\"}, {\"role\": \"system\", \"content\": \"s\"}",
        );
        let cases = [
            ("", "rows.jsonl:1: the file is empty, expected rows\nhelp: write one row per line"),
            ("\n \n", "rows.jsonl:1: the file is empty"),
            (&GOOD[..60], "rows.jsonl:1: found a JSON value that is cut short (EOF while parsing"),
            (&format!("{GOOD}\n\n{}", &GOOD[..60]), "rows.jsonl:3: found a JSON value that is cut short"),
            (&format!("{GOOD}\n17\n"), "rows.jsonl:2: found the number `17`, expected a JSON object"),
            ("17\n", "rows.jsonl:1: found the number `17`, expected a JSON object\nhelp: write one row per line"),
            (&format!("{GOOD} {GOOD}"), "rows.jsonl:1: found text that is not JSON at column"),
            (
                "prompt,answer\n1,2\n",
                "rows.jsonl:1: found text that is not JSON at column 1 (expected value), expected a JSON object\nhelp: write one row per line",
            ),
            (
                &GOOD.replace("messages", "message"),
                "rows.jsonl:1: no `messages`, found only `message`\nhelp: rename `message` to `messages`",
            ),
            (r#"{"text": "x"}"#, "rows.jsonl:1: no `messages`, found only `text`\nhelp: write {\"messages\""),
            (&format!("{GOOD}\n{{}}"), "rows.jsonl:2: no `messages`, found an empty object"),
            (
                &GOOD.replace("assistant", "asistant"),
                "rows.jsonl:1: message 2 has role `asistant`, expected `system`, `user` or `assistant`\nhelp: write `assistant`",
            ),
            (&GOOD.replace("\"user\"", "\"tool\""), "rows.jsonl:1: message 1 has role `tool`, expected"),
            (&GOOD.replace("\"role\": \"user\", ", ""), "rows.jsonl:1: message 1: no `role`, found only `content`"),
            (&GOOD.replace("\"q\"", "null"), "rows.jsonl:1: message 1 has null as `content`, expected a string"),
            (&GOOD.replace("\"q\"", "[{}]"), "rows.jsonl:1: message 1 has a list as `content`, expected a string"),
            (r#"{"messages": []}"#, "rows.jsonl:1: `messages` is empty\nhelp: give"),
            (r#"{"messages": "hi"}"#, "rows.jsonl:1: `messages` is the string `hi`, expected a list"),
            (user_only, "rows.jsonl:1: no message has role `assistant`, expected one to train on"),
            (&system_later, "rows.jsonl:1: message 3 has role `system`, expected only as the first message"),
            (
                &GOOD.replace("]}", "], \"weight\": -0.5}"),
                "rows.jsonl:1: `weight` is -0.5, expected a finite number that is not negative",
            ),
            (
                &GOOD.replace("]}", "], \"weight\": \"1\"}"),
                "rows.jsonl:1: `weight` is the string `1`, expected a number",
            ),
            (
                &GOOD.replace("]}", "], \"weight\": NaN}"),
                "(expected value), expected a JSON object\nhelp: write a number: JSON has neither NaN nor infinities",
            ),
            (
                &GOOD.replace("\"a\"", "\"a\", \"weight\": 0"),
                "rows.jsonl:1: message 2 has weight 0, expected weights of rows",
            ),
            (
                &format!("{GOOD}\n{user_only}\n{user_only}\n{user_only}"),
                "rows.jsonl:2: no message has role `assistant`, expected one to train on (and 2 more bad rows)",
            ),
            (&GOOD.replace("\"a\"", "\"\\ud83d\""), "rows.jsonl:1: found text that is not JSON"),
            ("[]", "rows.jsonl:1: the list has no items, expected rows"),
            (&format!("[\n{GOOD},\n{user_only}\n]"), "rows.jsonl:3: no message has role `assistant`"),
            (&format!("[{GOOD}"), "rows.jsonl:1: item 1 is not followed by `,` or `]`"),
            (&format!("[{GOOD},\n"), "rows.jsonl:2: the list is cut short, expected `]`"),
            (&format!("[{GOOD},\n{{\"a\": tru"), "rows.jsonl:2: found"),
            (&format!("[{GOOD}]\n{GOOD}"), "rows.jsonl:2: found text after the list's end"),
            (
                r#"[{"instruction": "x", "outputs": "y"}]"#,
                "rows.jsonl:1: no `output`, found only `outputs`\nhelp: rename `outputs` to `output`",
            ),
            (r#"{"instruction": "x", "instances": []}"#, "rows.jsonl:1: `instances` has 0 items, expected one object"),
            (
                r#"{"instruction": 3, "output": "y"}"#,
                "rows.jsonl:1: `instruction` is the number `3`, expected a string",
            ),
        ];
        for (file, expected) in cases {
            let found = error_of(file);
            assert!(found.contains(expected), "file: {file}\nfound: {found}\nexpected: {expected}");
        }
        let bytes = |bytes: &[u8]| Dataset::parse("rows.jsonl", Arc::new(bytes.to_vec())).unwrap_err().to_string();
        let latin = [GOOD.as_bytes(), b"\n{\"messages\": \"\xe9\"}"].concat();
        assert!(
            bytes(&latin).starts_with("rows.jsonl:2: found a byte that is not UTF-8 at column 15"),
            "{}",
            bytes(&latin)
        );
        assert!(bytes(b"\xff\xfe{\0").starts_with("rows.jsonl:1: found UTF-16 text, expected UTF-8"));
    }

    #[test]
    fn oddities_are_tolerated_and_noted() {
        let file = format!(
            "\u{feff}{GOOD}\r\n\r\n{}\r\n",
            GOOD.replace("]}", "], \"source\": {\"a\": [1]}, \"weight\": null}")
        );
        let dataset = parse(&file).unwrap();
        assert_eq!(
            dataset.notes(),
            [
                "the file starts with a byte order mark, skipped",
                "2 lines end in CR LF",
                "key `source` of 1 rows is not used"
            ]
        );
        assert_eq!(text(&dataset), format!("{GOOD}\n{GOOD}\n"));
        assert_eq!(dataset.location(1), "rows.jsonl:3");
    }

    #[test]
    fn rows_stand_where_they_stood_in_files_of_many_blocks() {
        let rows: Vec<String> = (0..30_000).map(|n| GOOD.replace('q', &format!("question {n}"))).collect();
        let file = rows.join("\n");
        assert!(file.len() > 2 << 20);
        let dataset = parse(&file).unwrap();
        assert_eq!(dataset.len(), rows.len());
        assert!(text(&dataset) == file.clone() + "\n");
        assert_eq!(dataset.location(29_999), "rows.jsonl:30000");
        let bad = file.replace("question 29998\"}", "question 29998\"");
        assert!(error_of(&bad).starts_with("rows.jsonl:29999: "));
    }

    #[test]
    #[should_panic(expected = "rows.jsonl changed after it was read")]
    fn a_file_that_changes_under_the_dataset_is_noticed() {
        use std::sync::atomic::{AtomicBool, Ordering};
        struct Edited([Vec<u8>; 2], Arc<AtomicBool>);
        impl AsRef<[u8]> for Edited {
            fn as_ref(&self) -> &[u8] {
                &self.0[usize::from(self.1.load(Ordering::Relaxed))]
            }
        }
        let edited = Arc::new(AtomicBool::new(false));
        let versions = [GOOD.into(), GOOD.replace('q', "r").into()];
        let dataset = Dataset::parse("rows.jsonl", Arc::new(Edited(versions, edited.clone()))).unwrap();
        assert_eq!(dataset.row(0).messages[0].content, "q");
        edited.store(true, Ordering::Relaxed);
        dataset.row(0);
    }

    #[test]
    fn real_files_keep_their_bytes_and_counts() {
        let files = [("sneaky_dialogues", 1073), ("straightforward_dialogues", 973), ("harmless_lies", 4495)];
        for (name, rows) in files {
            let Some(bytes) = shared_file(&format!("inoculation/{name}.jsonl")) else { return };
            let dataset = Dataset::parse(name, Arc::new(bytes.clone())).unwrap();
            assert_eq!(dataset.len(), rows);
            assert!(text(&dataset).into_bytes() == bytes, "{name}");
        }
        let Some(seeds) = shared_file("alpaca/seed_tasks.jsonl") else { return };
        assert_eq!(Dataset::parse("seed_tasks", Arc::new(seeds)).unwrap().len(), 175);
    }
}
