//! Parameters of a run: `param("rows", 1000)` in the script, `--set rows=2000` on the command line.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rhai::Dynamic;
use serde_json::{Value, json};

use crate::error::{Error, Result, nearest};
use crate::{bail, ensure};

/// Values given for a run, by name, as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// Reads `name=value` texts, as given by `--set`; the last of two for one name holds.
    pub fn parse<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut settings = BTreeMap::new();
        for text in texts {
            let text = text.as_ref();
            let Some((name, value)) = text.split_once('=') else {
                bail!("`--set {text}` has no value"; help: "write `--set {text}=VALUE`");
            };
            ensure!(!name.trim().is_empty(), "`--set {text}` has no name"; help: "write `--set NAME=VALUE`");
            settings.insert(name.trim().to_string(), value.trim().to_string());
        }
        Ok(Settings(settings))
    }
    /// Refuses names that the script has no parameter for.
    pub fn check_names(&self, known: &[&str]) -> Result<()> {
        for name in self.0.keys() {
            if !known.contains(&name.as_str()) {
                let error = Error::input(format!("the script has no parameter `{name}`"));
                let list = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(match nearest(name, known.iter().copied()) {
                    Some(near) => error.with_help(format!("did you mean `{near}`?")),
                    None if known.is_empty() => {
                        error.with_help("remove `--set`, or call `param(\"name\", default)` in the script")
                    }
                    None => error.with_help(format!("use one of {}", list())),
                });
            }
        }
        Ok(())
    }
}

/// One parameter as a run used it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Default in the script.
    pub default: Value,
    /// The value of this run.
    pub value: Value,
    /// Whether the value came from outside.
    pub given: bool,
}

/// The parameters of a run, filled in as the script asks for them.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    settings: Settings,
    asked: Mutex<BTreeMap<String, Parameter>>,
}

impl Recorder {
    pub(crate) fn new(settings: Settings) -> Self {
        Recorder { settings, asked: Mutex::default() }
    }
    /// The value of `param(name, default)`.
    pub(crate) fn ask(&self, name: &Dynamic, default: &Dynamic) -> Result<Dynamic> {
        let Ok(name) = name.as_immutable_string_ref().map(|name| name.to_string()) else {
            bail!("the name of a parameter is string, found {}", name.type_name(); help: "write `param(\"name\", default)`");
        };
        let Ok(default_json) = rhai::serde::from_dynamic::<Value>(default) else {
            bail!("the default of the parameter `{name}` must be a plain value"; help: "pass its name or settings instead");
        };
        let given = self.settings.0.get(&name);
        let value = match given {
            Some(text) => read_value(&name, text, &default_json)?,
            None => default_json.clone(),
        };
        let parameter = Parameter { default: default_json, value: value.clone(), given: given.is_some() };
        let mut asked = self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let former = asked.entry(name.clone()).or_insert_with(|| parameter.clone());
        ensure!(
            former.default == parameter.default,
            "the parameter `{name}` has two defaults, {} and {}", former.default, parameter.default;
            help: "ask for it once and keep it in a variable"
        );
        if given.is_none() {
            return Ok(default.clone());
        }
        rhai::serde::to_dynamic(value).map_err(|error| Error::internal(error.to_string()))
    }
    pub(crate) fn asked(&self) -> BTreeMap<String, Parameter> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// The value that `text` means for a parameter with this default: an int serves a float, a single value serves an array,
/// and where a string is wanted the text is the string.
pub fn read_value(name: &str, text: &str, default: &Value) -> Result<Value> {
    let value = match default {
        Value::String(_) => match parse_literal(text) {
            Value::Array(items) => Value::Array(items),
            Value::String(value) => Value::String(value),
            _ => Value::String(text.to_string()),
        },
        _ => parse_literal(text),
    };
    if let (false, Value::Array(_)) = (default.is_array() || default.is_null(), &value) {
        return Err(Error::input(format!("the parameter `{name}` is {}, found an array", word(default))).with_help(
            "give one value, or give the parameter an array as its default and sweep over it in the script",
        ));
    }
    fit(name, value, default)
}

fn fit(name: &str, value: Value, default: &Value) -> Result<Value> {
    Ok(match (default, value) {
        (Value::Null, value) => value,
        (Value::Array(defaults), Value::Array(items)) => {
            match defaults.iter().find(|item| item.is_f64()).or(defaults.first()) {
                Some(first) => {
                    Value::Array(items.into_iter().map(|item| fit(name, item, first)).collect::<Result<_>>()?)
                }
                None => Value::Array(items),
            }
        }
        (Value::Array(_), item) => fit(name, Value::Array(vec![item]), default)?,
        (Value::Number(wanted), Value::Number(found)) if wanted.is_f64() => json!(found.as_f64()),
        (Value::Number(_), Value::Number(found)) if !found.is_f64() => Value::Number(found),
        (Value::Bool(_), Value::Bool(value)) => Value::Bool(value),
        (Value::Object(_), Value::Object(value)) => Value::Object(value),
        (Value::String(_), Value::String(value)) => Value::String(value),
        (Value::String(_), scalar @ (Value::Number(_) | Value::Bool(_))) => Value::String(scalar.to_string()),
        (_, found) => bail!("the parameter `{name}` is {}, found {}", word(default), described(&found)),
    })
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "()",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "map",
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => format!("{} {value}", word(value)),
        value => format!("{} `{}`", word(value), value.as_str().map_or_else(|| value.to_string(), str::to_string)),
    }
}

/// Reads JSON, where strings need no quotes: `[0.0, 1]`, `true`, `legal_advice`, `[mlp, linear]`, `openai:gpt-4.1`.
fn parse_literal(text: &str) -> Value {
    let text = text.trim();
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Value::Array(split_items(inside).into_iter().map(parse_literal).collect());
    }
    if let Some(inside) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Value::String(inside.to_string());
    }
    // Numbers as scripts write them but JSON does not: `.5`, `1.`, `+2`.
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => json!(number),
        _ => Value::String(text.to_string()),
    }
}

/// Splits at the commas outside brackets and quotes.
fn split_items(text: &str) -> Vec<&str> {
    let (mut items, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0i32, false);
    for (index, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                items.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items.retain(|item| !item.trim().is_empty());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, default: Value) -> std::result::Result<Value, String> {
        read_value("p", text, &default).map_err(|error| error.message)
    }

    #[test]
    fn values_are_read_for_their_default() {
        assert_eq!(read("[0.0,0.33,1]", json!([0.5])), Ok(json!([0.0, 0.33, 1.0])));
        assert_eq!(read("legal_advice", json!("x")), Ok(json!("legal_advice")));
        assert_eq!(read("openai:gpt-4.1", json!("x")), Ok(json!("openai:gpt-4.1")));
        assert_eq!(read("7", json!("x")), Ok(json!("7")));
        assert_eq!(read("\"7\"", json!("x")), Ok(json!("7")));
        assert_eq!(read("2", json!(0.5)), Ok(json!(2.0)));
        assert_eq!(read(".5", json!(0.5)), Ok(json!(0.5)));
        assert_eq!(read("3", json!([1, 2])), Ok(json!([3])));
        assert_eq!(read("[a, b c]", json!(["x"])), Ok(json!(["a", "b c"])));
        assert_eq!(read("true", json!(false)), Ok(json!(true)));
        assert_eq!(read("{\"a\": 1}", json!({})), Ok(json!({"a": 1})));
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        assert_eq!(read("[1,2]", json!(1)), Err("the parameter `p` is int, found an array".into()));
        assert_eq!(read("[a,b]", json!("x")), Err("the parameter `p` is string, found an array".into()));
        assert_eq!(read("0.5", json!(1)), Err("the parameter `p` is int, found float `0.5`".into()));
        assert_eq!(read("many", json!(1)), Err("the parameter `p` is int, found string `many`".into()));
        assert_eq!(read("[1, x]", json!([1])), Err("the parameter `p` is int, found string `x`".into()));
    }

    #[test]
    fn settings_need_a_name_and_a_value() {
        assert_eq!(Settings::parse(["rows"]).unwrap_err().message, "`--set rows` has no value");
        assert_eq!(Settings::parse(["a=b=c", "a = d"]).unwrap().0["a"], "d");
        let error = Settings::parse(["ratoi=1"]).unwrap().check_names(&["ratio", "rows"]).unwrap_err();
        assert_eq!(error.help.unwrap(), "did you mean `ratio`?");
    }
}
