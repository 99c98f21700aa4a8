//! What chat templates expect of Python: blanks as `str.strip` sees them, and `tojson` as `transformers` defines it.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// A method of Python's that a value of the template's lacks.
pub(super) fn call_method(state: &State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && matches!(method, "strip" | "lstrip" | "rstrip")
    {
        let (characters,): (Option<&str>,) = from_args(arguments)?;
        return Ok(Value::from(strip(text, characters, method != "rstrip", method != "lstrip")));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// The filter `trim`, which is `str.strip`.
pub(super) fn trim(text: &str, characters: Option<&str>) -> String {
    strip(text, characters, true, true).to_string()
}

fn strip<'a>(text: &'a str, characters: Option<&str>, start: bool, end: bool) -> &'a str {
    // Python counts the four separators of ASCII as blanks; Unicode's own list, which is Rust's, does not.
    let goes = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character),
    };
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

/// How `json.dumps` lays out a value.
struct Layout {
    ensure_ascii: bool,
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sort_keys: bool,
}

/// The filter `tojson`: `json.dumps` without escaping for HTML, and with what is not ASCII left as it is.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?).unwrap_or(0)),
        }),
        None => None,
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (between_items, after_key) = match separators.as_deref() {
        Some([items, key]) => (items.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "`separators` of `tojson` are two")),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let layout = Layout {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        between_items,
        after_key,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut json = String::new();
    layout.write(value, 0, &mut json)?;
    Ok(Value::from(json))
}

impl Layout {
    fn write(&self, value: &Value, depth: usize, json: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => json.push_str("null"),
            ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => *json += &value.to_string(),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default(), json),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items(['[', ']'], &items, depth, json, |item, json| self.write(item, depth + 1, json))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_items(['{', '}'], &keys, depth, json, |key, json| {
                    self.write_text(&key.to_string(), json);
                    *json += &self.after_key;
                    self.write(&value.get_item(key)?, depth + 1, json)
                })?;
            }
            kind => {
                let message = format!("a value of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn write_items(
        &self,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        json: &mut String,
        write: impl Fn(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let break_line = |json: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                json.push('\n');
                *json += &indent.repeat(depth);
            }
        };
        json.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                *json += &self.between_items;
            }
            break_line(json, depth + 1);
            write(item, json)?;
        }
        if !items.is_empty() {
            break_line(json, depth);
        }
        json.push(close);
        Ok(())
    }

    fn write_text(&self, text: &str, json: &mut String) {
        json.push('"');
        for character in text.chars() {
            match character {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '\u{8}' => json.push_str("\\b"),
                '\u{c}' => json.push_str("\\f"),
                _ if character < ' ' || (self.ensure_ascii && !matches!(character, ' '..='~')) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        *json += &format!("\\u{unit:04x}");
                    }
                }
                _ => json.push(character),
            }
        }
        json.push('"');
    }
}
