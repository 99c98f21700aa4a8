//! The kinds of values that inputs and options take, read from their JSON schema, and whether a value is one of them.

use std::fmt;

use rhai::Position;
use serde_json::{Map, Value};

use crate::error::{Error, nearest};
use crate::script::shape::{Entry, Shape};

/// A kind of value in script words.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Any plain value; no handles.
    Any,
    /// Anything at all, handles and closures included; for host functions.
    Anything,
    /// `()`.
    Unit,
    /// A bool.
    Bool,
    /// An int between these bounds, both included.
    Int(i64, i64),
    /// A float or an int.
    Float,
    /// A string.
    Text,
    /// One of these strings.
    Choice(Vec<String>),
    /// An array of one kind.
    Array(Box<Kind>),
    /// An array of fixed length.
    Tuple(Vec<Kind>),
    /// A map with any keys.
    Map(Box<Kind>),
    /// A map with these keys.
    Fields(Vec<Field>),
    /// A handle of this name.
    Handle(String),
    /// A function pointer or closure.
    Function,
    /// The kind or `()`.
    Optional(Box<Kind>),
    /// Any of these.
    OneOf(Vec<Kind>),
}

/// A named value: an option, or a key of a nested map.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The key.
    pub name: String,
    /// What it does, from the doc comment.
    pub about: String,
    /// What it takes.
    pub kind: Kind,
    /// Its default, where it has one.
    pub default: Option<Value>,
    /// Whether it must be given.
    pub required: bool,
}

/// A value that does not fit, and where it stands when that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Place of the offending text, or none at run time.
    pub position: Position,
    /// What was wrong.
    pub error: Error,
}

impl Kind {
    /// The kind that a JSON schema describes.
    pub fn of_schema(root: &Value) -> Kind {
        let empty = Map::new();
        let definitions = root.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
        read(root, definitions, 0)
    }

    /// Appends what does not fit; `path` names the value within `owner`, as in `weights[1]`.
    pub fn check(&self, shape: &Shape, position: Position, path: &str, owner: &str, found: &mut Vec<Mismatch>) {
        let mut wrong = |wanted: String| {
            let message = format!("`{path}` of `{owner}` is {wanted}, found {}", shape.word());
            found.push(Mismatch { position, error: Error::input(message) });
        };
        match (self, shape) {
            (Kind::Anything, _) | (_, Shape::Unknown) => {}
            (Kind::Any, Shape::Handle(_) | Shape::Function | Shape::Other(_)) => wrong("a plain value".into()),
            (Kind::Any, Shape::Array(Some(items))) => {
                for (index, (at, item)) in items.iter().enumerate() {
                    self.check(item, or(*at, position), &format!("{path}[{index}]"), owner, found);
                }
            }
            (Kind::Any, Shape::Map(Some(entries))) => {
                for entry in entries {
                    self.check(&entry.shape, or(entry.position, position), &join(path, &entry.key), owner, found);
                }
            }
            (Kind::Any, _)
            | (Kind::Unit, Shape::Unit)
            | (Kind::Bool, Shape::Bool)
            | (Kind::Float, Shape::Int(_) | Shape::Float)
            | (Kind::Text, Shape::Text(_))
            | (Kind::Choice(_), Shape::Text(None))
            | (Kind::Int(..), Shape::Int(None))
            | (Kind::Array(_) | Kind::Tuple(_), Shape::Array(None))
            | (Kind::Map(_) | Kind::Fields(_), Shape::Map(None))
            | (Kind::Function, Shape::Function)
            | (Kind::Optional(_), Shape::Unit) => {}
            (Kind::Int(least, most), Shape::Int(Some(value))) => {
                if value < least || value > most {
                    let wanted = match (*least, *most) {
                        (0, i64::MAX) => "a non-negative int".to_string(),
                        (least, i64::MAX) => format!("an int of at least {least}"),
                        (least, most) => format!("an int from {least} to {most}"),
                    };
                    let message = format!("`{path}` of `{owner}` is {wanted}, found {value}");
                    found.push(Mismatch { position, error: Error::input(message) });
                }
            }
            (Kind::Choice(choices), Shape::Text(Some(text))) => {
                if !choices.iter().any(|choice| choice == text.as_str()) {
                    let message = format!("`{path}` of `{owner}` is {self}, found \"{text}\"");
                    let mut error = Error::input(message);
                    if let Some(near) = nearest(text, choices.iter().map(String::as_str)) {
                        error = error.with_help(format!("did you mean \"{near}\"?"));
                    }
                    found.push(Mismatch { position, error });
                }
            }
            (Kind::Array(kind), Shape::Array(Some(items))) => {
                for (index, (at, item)) in items.iter().enumerate() {
                    kind.check(item, or(*at, position), &format!("{path}[{index}]"), owner, found);
                }
            }
            (Kind::Tuple(kinds), Shape::Array(Some(items))) => {
                if kinds.len() != items.len() {
                    let message = format!("`{path}` of `{owner}` has {} entries, found {}", kinds.len(), items.len());
                    found.push(Mismatch { position, error: Error::input(message) });
                }
                for (index, (kind, (at, item))) in kinds.iter().zip(items).enumerate() {
                    kind.check(item, or(*at, position), &format!("{path}[{index}]"), owner, found);
                }
            }
            (Kind::Map(kind), Shape::Map(Some(entries))) => {
                for entry in entries {
                    kind.check(&entry.shape, or(entry.position, position), &join(path, &entry.key), owner, found);
                }
            }
            (Kind::Fields(fields), Shape::Map(Some(entries))) => {
                check_fields(fields, entries, position, path, owner, found);
            }
            (Kind::Handle(wanted), Shape::Handle(name)) if wanted == name => {}
            (Kind::Optional(kind), _) => kind.check(shape, position, path, owner, found),
            (Kind::OneOf(kinds), _) => {
                let fits = |kind: &Kind| {
                    let mut problems = Vec::new();
                    kind.check(shape, position, path, owner, &mut problems);
                    problems.is_empty()
                };
                if !kinds.iter().any(fits) {
                    wrong(self.to_string());
                }
            }
            _ => wrong(self.to_string()),
        }
    }
}

/// Appends what does not fit in the options of `owner`.
pub fn check_options(fields: &[Field], shape: &Shape, position: Position, owner: &str, found: &mut Vec<Mismatch>) {
    match shape {
        Shape::Unknown | Shape::Map(None) => {}
        Shape::Map(Some(entries)) => check_fields(fields, entries, position, "", owner, found),
        other => {
            let message = format!("the options of `{owner}` are a map `#{{ .. }}`, found {}", other.word());
            found.push(Mismatch { position, error: Error::input(message) });
        }
    }
}

fn check_fields(
    fields: &[Field],
    entries: &[Entry],
    position: Position,
    path: &str,
    owner: &str,
    found: &mut Vec<Mismatch>,
) {
    for entry in entries {
        match fields.iter().find(|field| field.name == entry.key.as_str()) {
            Some(field) => {
                field.kind.check(&entry.shape, or(entry.position, position), &join(path, &entry.key), owner, found);
            }
            None => {
                let error = unknown_key(fields, &entry.key, path, owner);
                found.push(Mismatch { position: or(entry.key_position, position), error });
            }
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|entry| entry.key.as_str() == field.name) {
            let message = match path {
                "" => format!("`{owner}` needs the option `{}`", field.name),
                path => format!("`{path}` of `{owner}` needs `{}`", field.name),
            };
            found.push(Mismatch { position, error: Error::input(message) });
        }
    }
}

fn unknown_key(fields: &[Field], key: &str, path: &str, owner: &str) -> Error {
    let message = match path {
        "" => format!("`{owner}` has no option `{key}`"),
        path => format!("`{path}` of `{owner}` has no key `{key}`"),
    };
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let help = match nearest(key, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => return Error::input(message),
        None => format!("use one of {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Error::input(message).with_help(help)
}

fn or(position: Position, otherwise: Position) -> Position {
    if position.is_none() { otherwise } else { position }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Any | Kind::Anything => f.write_str("any value"),
            Kind::Unit => f.write_str("()"),
            Kind::Bool => f.write_str("bool"),
            Kind::Int(..) => f.write_str("int"),
            Kind::Float => f.write_str("float"),
            Kind::Text => f.write_str("string"),
            Kind::Choice(choices) => {
                let quoted: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                match quoted.as_slice() {
                    [only] => f.write_str(only),
                    _ => write!(f, "one of {}", quoted.join(", ")),
                }
            }
            Kind::Array(kind) => match **kind {
                Kind::Any | Kind::Anything => f.write_str("array"),
                _ => write!(f, "array of {kind}"),
            },
            Kind::Tuple(kinds) => {
                write!(f, "[{}]", kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(", "))
            }
            Kind::Map(kind) => match **kind {
                Kind::Any | Kind::Anything => f.write_str("map"),
                _ => write!(f, "map of {kind}"),
            },
            Kind::Fields(_) => f.write_str("map"),
            Kind::Handle(name) => f.write_str(name),
            Kind::Function => f.write_str("function"),
            Kind::Optional(kind) => write!(f, "{kind} or ()"),
            Kind::OneOf(kinds) => f.write_str(&kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(" or ")),
        }
    }
}

// A type that contains itself ends here: its inner values are checked by serde when it is read.
const DEEPEST: usize = 12;

fn read(schema: &Value, definitions: &Map<String, Value>, depth: usize) -> Kind {
    let Some(object) = schema.as_object() else { return Kind::Any };
    if depth > DEEPEST {
        return Kind::Any;
    }
    let inner = |schema: &Value| read(schema, definitions, depth + 1);
    if let Some(name) = object.get("handle").and_then(Value::as_str) {
        // An `Option` of a handle is written as a second type.
        return optional(Kind::Handle(name.to_string()), object.get("type").is_some_and(Value::is_array));
    }
    if let Some(target) = object.get("$ref").and_then(Value::as_str) {
        let definition = target.rsplit('/').next().and_then(|name| definitions.get(name));
        return definition.map_or(Kind::Any, inner);
    }
    if let Some(text) = object.get("const").and_then(Value::as_str) {
        return Kind::Choice(vec![text.to_string()]);
    }
    if let Some(values) = object.get("enum").and_then(Value::as_array) {
        let choices = values.iter().filter_map(Value::as_str).map(str::to_string).collect();
        return optional(Kind::Choice(choices), values.iter().any(Value::is_null));
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(parts) = object.get(word).and_then(Value::as_array) {
            return one_of(parts.iter().map(inner).collect());
        }
    }
    if let Some([only]) = object.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        return inner(only);
    }
    match object.get("type") {
        Some(Value::String(word)) => read_type(word, object, &inner),
        Some(Value::Array(words)) => {
            let kinds = words.iter().filter_map(Value::as_str).map(|word| read_type(word, object, &inner));
            one_of(kinds.collect())
        }
        _ => Kind::Any,
    }
}

fn read_type(word: &str, schema: &Map<String, Value>, inner: &dyn Fn(&Value) -> Kind) -> Kind {
    match word {
        "null" => Kind::Unit,
        "boolean" => Kind::Bool,
        "number" => Kind::Float,
        "string" => Kind::Text,
        "integer" => {
            let (least, most) = match schema.get("format").and_then(Value::as_str) {
                Some("uint8") => (0, i64::from(u8::MAX)),
                Some("uint16") => (0, i64::from(u16::MAX)),
                Some("uint32") => (0, i64::from(u32::MAX)),
                Some("uint64" | "uint") => (0, i64::MAX),
                Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
                _ => (i64::MIN, i64::MAX),
            };
            let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
            Kind::Int(bound("minimum").unwrap_or(least).max(least), bound("maximum").unwrap_or(most).min(most))
        }
        "array" => match (schema.get("prefixItems").and_then(Value::as_array), schema.get("items")) {
            (Some(items), _) => Kind::Tuple(items.iter().map(inner).collect()),
            (None, Some(item)) => Kind::Array(Box::new(inner(item))),
            (None, None) => Kind::Array(Box::new(Kind::Any)),
        },
        "object" => match schema.get("properties") {
            Some(_) => Kind::Fields(fields(schema, inner)),
            None => Kind::Map(Box::new(schema.get("additionalProperties").map_or(Kind::Any, inner))),
        },
        _ => Kind::Any,
    }
}

fn fields(schema: &Map<String, Value>, inner: &dyn Fn(&Value) -> Kind) -> Vec<Field> {
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    let read = |(name, property): (&String, &Value)| Field {
        name: name.clone(),
        about: property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " "),
        kind: inner(property),
        default: property.get("default").cloned(),
        required: required.is_some_and(|names| names.iter().any(|required| required == name)),
    };
    properties.into_iter().flatten().map(read).collect()
}

fn one_of(kinds: Vec<Kind>) -> Kind {
    let nullable = kinds.contains(&Kind::Unit);
    let mut rest: Vec<Kind> = kinds.into_iter().filter(|kind| *kind != Kind::Unit).collect();
    if rest.iter().all(|kind| matches!(kind, Kind::Choice(_))) {
        let choices =
            rest.iter().flat_map(|kind| if let Kind::Choice(choices) = kind { choices.clone() } else { vec![] });
        return optional(Kind::Choice(choices.collect()), nullable);
    }
    if rest.len() == 1 {
        return optional(rest.remove(0), nullable);
    }
    optional(Kind::OneOf(rest), nullable)
}

fn optional(kind: Kind, nullable: bool) -> Kind {
    if nullable { Kind::Optional(Box::new(kind)) } else { kind }
}
