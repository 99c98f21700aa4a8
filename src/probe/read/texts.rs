//! Texts with what is known of them, from a JSON list, an object with a list of rows, or JSON lines.

use serde_json::{Map, Value};

use crate::error::{Error, Result, bail, ensure};

/// Keys under which an object may keep its rows.
const ROWS: [&str; 5] = ["samples", "rows", "texts", "data", "examples"];
/// Keys of a row that are joined where it has no `text`, in this order.
const PARTS: [&str; 6] = ["system", "system_prompt", "prompt", "question", "response", "answer"];

/// One text of a dataset for probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The text: `text`; else the system prompt, the prompt and the response, or the contents of `messages`, with an
    /// empty line between them.
    pub text: String,
    /// `label`, as text.
    pub label: Option<String>,
    /// `source`: the dataset it came from.
    pub source: Option<String>,
    /// `group`, `group_id`, `parent` or `parent_id`: what must not be torn apart by a split.
    pub group: Option<String>,
    /// `id`, or `source_index`, its place in its source.
    pub id: Option<String>,
}

/// Reads texts from the content of a JSON file: a list of strings or objects, an object that has such a list as
/// `samples`, `rows`, `texts`, `data` or `examples`, or one object per line.
///
/// # Errors
/// No JSON, with line and column; no rows; a row without text, by number from 0.
pub fn read_texts(name: &str, bytes: &[u8]) -> Result<Vec<Text>> {
    let value = parse(name, bytes)?;
    let rows = find_rows(name, &value)?;
    rows.iter().enumerate().map(|(row, value)| read_text(name, row, value)).collect()
}

fn read_text(name: &str, row: usize, value: &Value) -> Result<Text> {
    let object = match value {
        Value::String(text) => return Ok(Text { text: text.clone(), ..Text::default() }),
        Value::Object(object) => object,
        _ => bail!("`{name}` has {value} in row {row}, expected a text or an object"),
    };
    let Some(text) = find_text(object) else {
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        bail!("`{name}` has no text in row {row}, only {keys:?}";
            help: "give every row `text`, or `prompt` and `response`; rows are counted from 0");
    };
    let field = |keys: &[&str]| {
        let known = keys.iter().find_map(|key| object.get(*key).filter(|value| !value.is_null()));
        known.map(plain)
    };
    Ok(Text {
        text,
        label: field(&["label"]),
        source: field(&["source"]),
        group: field(&["group", "group_id", "parent", "parent_id"]),
        id: field(&["id", "source_index"]),
    })
}

fn find_text(object: &Map<String, Value>) -> Option<String> {
    if let Some(text) = object.get("text").and_then(Value::as_str) {
        return Some(text.into());
    }
    let contents = |value: &Value| value.get("content").and_then(Value::as_str).map(String::from);
    let parts: Vec<String> = match object.get("messages") {
        Some(Value::Array(messages)) => messages.iter().filter_map(contents).collect(),
        _ => PARTS.iter().filter_map(|key| object.get(*key)?.as_str()).map(String::from).collect(),
    };
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The rows of a JSON value.
pub(super) fn find_rows<'a>(name: &str, value: &'a Value) -> Result<&'a [Value]> {
    let rows = match value {
        Value::Array(rows) => Some(rows),
        _ => ROWS.iter().find_map(|key| value.get(*key)?.as_array()),
    };
    let Some(rows) = rows else {
        bail!("`{name}` has no list of rows, expected a list, or an object with `samples` or `rows`";
            help: "write a list of objects with `text` and `label`");
    };
    ensure!(!rows.is_empty(), "`{name}` has no rows");
    Ok(rows)
}

/// The value of a JSON file; the lines of one that has several become a list.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Value> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let mut values = values.map_err(|error| {
        Error::input(format!("`{name}` is no JSON: {error}"))
            .with_help("write a JSON list, or one JSON object per line")
    })?;
    match values.len() {
        0 => bail!("`{name}` is empty"; help: "write a JSON list"),
        1 if values[0].is_array() || values[0].get("text").is_none() => Ok(values.remove(0)),
        _ => Ok(Value::Array(values)),
    }
}

/// A JSON value as a word: texts without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Text>> {
        read_texts("x.json", text.as_bytes())
    }

    #[test]
    fn lists_objects_and_lines_are_read() {
        let row = r#"{"text": "a", "label": 1, "source": "gold", "parent_id": 7, "source_index": 3}"#;
        let text = Text {
            text: "a".into(),
            label: Some("1".into()),
            source: Some("gold".into()),
            group: Some("7".into()),
            id: Some("3".into()),
        };
        for file in [
            format!("[{row}, {row}]"),
            format!(r#"{{"metadata": {{}}, "samples": [{row}, {row}]}}"#),
            format!("\u{feff}{row}\n\n{row}\n"),
        ] {
            assert_eq!(read(&file).unwrap(), [text.clone(), text.clone()], "{file}");
        }
        assert_eq!(read(row).unwrap(), [text]);
        assert_eq!(read(r#"["a", "b"]"#).unwrap()[1].text, "b");
    }

    #[test]
    fn parts_are_joined_in_order() {
        let joined = |row: &str| read(&format!("[{row}]")).unwrap().remove(0).text;
        assert_eq!(joined(r#"{"response": "c", "prompt": "b", "system": "a"}"#), "a\n\nb\n\nc");
        assert_eq!(
            joined(r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#),
            "a\n\nb"
        );
        assert_eq!(joined(r#"{"text": "t", "prompt": "p"}"#), "t");
        let lines = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}";
        assert_eq!(read(lines).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (file, words) in [
            ("[\"a\", {\"label\": 1}]", "`x.json` has no text in row 1, only [\"label\"]"),
            ("[1]", "`x.json` has 1 in row 0"),
            ("{\"a\": 1}", "`x.json` has no list of rows"),
            ("[]", "`x.json` has no rows"),
            ("[1,\n", "`x.json` is no JSON: EOF while parsing a value at line 2 column 0"),
            ("  ", "`x.json` is empty"),
        ] {
            let error = read(file).unwrap_err();
            assert!(error.message.starts_with(words), "{error}");
        }
    }
}
