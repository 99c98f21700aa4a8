//! What is known of a value without computing it: the common ground of the check before a run and the check of each call.

use std::any::TypeId;
use std::collections::HashMap;

use rhai::{Dynamic, ImmutableString, Position};

/// Script names of the handle types.
pub type HandleNames = HashMap<TypeId, &'static str>;

/// A value, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Nothing is known: fits everywhere.
    Unknown,
    /// `()`.
    Unit,
    /// A bool.
    Bool,
    /// An int, with its value where known.
    Int(Option<i64>),
    /// A float.
    Float,
    /// A string, with its text where known.
    Text(Option<ImmutableString>),
    /// An array, with its items where known.
    Array(Option<Vec<(Position, Shape)>>),
    /// A map, with its entries where known.
    Map(Option<Vec<Entry>>),
    /// A handle of this name.
    Handle(String),
    /// A function pointer or closure.
    Function,
    /// Something that no primitive takes: a range, a blob.
    Other(String),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: ImmutableString,
    /// Where the key stands.
    pub key_position: Position,
    /// Where the value stands.
    pub position: Position,
    /// The value.
    pub shape: Shape,
}

impl Shape {
    /// The shape of a value at run time; positions are unknown.
    pub fn of(value: &Dynamic, handles: &HandleNames) -> Shape {
        if value.is_shared() {
            return Shape::of(&value.flatten_clone(), handles);
        }
        match value.type_name() {
            "()" => Shape::Unit,
            "bool" => Shape::Bool,
            "i64" => Shape::Int(value.as_int().ok()),
            "f64" => Shape::Float,
            "char" => Shape::Text(value.as_char().ok().map(|letter| letter.to_string().into())),
            "string" => Shape::Text(value.as_immutable_string_ref().ok().map(|text| text.clone())),
            "array" => Shape::Array(
                value
                    .as_array_ref()
                    .ok()
                    .map(|items| items.iter().map(|item| (Position::NONE, Shape::of(item, handles))).collect()),
            ),
            "map" => Shape::Map(value.as_map_ref().ok().map(|map| {
                map.iter()
                    .map(|(key, item)| Entry {
                        key: key.as_str().into(),
                        key_position: Position::NONE,
                        position: Position::NONE,
                        shape: Shape::of(item, handles),
                    })
                    .collect()
            })),
            "Fn" => Shape::Function,
            other => match handles.get(&value.type_id()) {
                Some(name) => Shape::Handle((*name).to_string()),
                None => Shape::Other(other.rsplit("::").next().unwrap_or(other).trim_end_matches('>').to_lowercase()),
            },
        }
    }
    /// The kind of value, in script words.
    pub fn word(&self) -> &str {
        match self {
            Shape::Unknown => "a value",
            Shape::Unit => "()",
            Shape::Bool => "bool",
            Shape::Int(_) => "int",
            Shape::Float => "float",
            Shape::Text(_) => "string",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Handle(name) => name,
            Shape::Function => "function",
            Shape::Other(name) => name,
        }
    }
}
