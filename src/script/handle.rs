//! Handles: values of our own that scripts hold, pass on and put into options, known to Rhai by one name each.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;

use rhai::{Dynamic, Engine, EvalAltResult};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::script::shape::HandleNames;

/// A value that scripts hold without seeing inside: cheap to clone, perhaps not computed yet.
pub trait Handle: Clone + Send + Sync + 'static {
    /// Name of the type in scripts, messages and manuals.
    const NAME: &'static str;
    /// What stands for the value in keys; must never wait for a lazy value.
    fn identity(&self) -> Value;
    /// What `print` shows; must never wait for a lazy value.
    fn describe(&self) -> String;
}

/// What a primitive may return to a script.
pub trait Output {
    /// Name of the type in script words, for the manual.
    fn name() -> String;
    /// The value as scripts hold it.
    fn into_dynamic(self) -> Result<Dynamic>;
}

/// Any serialisable value, returned to the script as maps, arrays and scalars.
pub struct Plain<T>(pub T);

macro_rules! plain_output {
    ($($type:ty => $name:literal),*) => {$(
        impl Output for $type {
            fn name() -> String {
                $name.into()
            }
            fn into_dynamic(self) -> Result<Dynamic> {
                Ok(Dynamic::from(self))
            }
        }
    )*};
}
plain_output!(() => "()", bool => "bool", i64 => "int", f64 => "float", String => "string");

impl Output for Dynamic {
    fn name() -> String {
        "any value".into()
    }
    fn into_dynamic(self) -> Result<Dynamic> {
        Ok(self)
    }
}

impl<T: Serialize> Output for Plain<T> {
    fn name() -> String {
        "map".into()
    }
    fn into_dynamic(self) -> Result<Dynamic> {
        rhai::serde::to_dynamic(self.0).map_err(|error| Error::internal(error.to_string()))
    }
}

impl<T: Output> Output for Vec<T> {
    fn name() -> String {
        format!("array of {}", T::name())
    }
    fn into_dynamic(self) -> Result<Dynamic> {
        Ok(Dynamic::from_array(self.into_iter().map(T::into_dynamic).collect::<Result<_>>()?))
    }
}

impl<T: Output> Output for Option<T> {
    fn name() -> String {
        format!("{} or ()", T::name())
    }
    fn into_dynamic(self) -> Result<Dynamic> {
        self.map_or(Ok(Dynamic::UNIT), T::into_dynamic)
    }
}

/// One readable property of a handle.
#[derive(Clone, Debug)]
pub struct Property {
    /// Name in scripts: `handle.name`.
    pub name: &'static str,
    /// One sentence about it.
    pub about: &'static str,
    /// Type in script words.
    pub kind: String,
}

type Install = Box<dyn Fn(&mut Engine) + Send + Sync>;

/// How one handle type appears in scripts: its name, what it is, what can be read from it.
pub struct HandleType {
    /// Name in scripts.
    pub name: &'static str,
    /// One sentence about it.
    pub about: &'static str,
    /// What scripts can read.
    pub properties: Vec<Property>,
    pub(crate) type_id: TypeId,
    install: Vec<Install>,
}

impl HandleType {
    /// The type `H`, printed by [`Handle::describe`] and equal where identities are equal.
    pub fn of<H: Handle>(about: &'static str) -> Self {
        let basics = |engine: &mut Engine| {
            engine
                .register_type_with_name::<H>(H::NAME)
                .register_fn("to_string", |handle: &mut H| handle.describe())
                .register_fn("to_debug", |handle: &mut H| handle.describe())
                .register_fn("==", |a: &mut H, b: H| a.identity() == b.identity())
                .register_fn("!=", |a: &mut H, b: H| a.identity() != b.identity());
        };
        HandleType {
            name: H::NAME,
            about,
            properties: Vec::new(),
            type_id: TypeId::of::<H>(),
            install: vec![Box::new(basics)],
        }
    }
    /// Adds a property; reading it may wait for the value.
    pub fn property<H: Handle, O: Output + 'static>(
        mut self,
        name: &'static str,
        about: &'static str,
        get: fn(&H) -> Result<O>,
    ) -> Self {
        debug_assert_eq!(self.type_id, TypeId::of::<H>(), "a property of another handle");
        self.properties.push(Property { name, about, kind: O::name() });
        self.install.push(Box::new(move |engine| {
            engine.register_get(name, move |handle: &mut H| -> Result<Dynamic, Box<EvalAltResult>> {
                Ok(get(handle).and_then(O::into_dynamic)?)
            });
        }));
        self
    }
    pub(crate) fn install(&self, engine: &mut Engine) {
        self.install.iter().for_each(|install| install(engine));
    }
}

pub(crate) fn handle_names(types: &[HandleType]) -> HandleNames {
    types.iter().map(|handle| (handle.type_id, handle.name)).collect::<HashMap<_, _>>()
}

// Handles cannot pass through JSON, so while a value is read they wait in this table and a marker stands for them.
thread_local! {
    static WAITING: RefCell<Vec<Dynamic>> = const { RefCell::new(Vec::new()) };
}
const MARKER: &str = "\u{0}handle";

struct Restore(Vec<Dynamic>);

impl Drop for Restore {
    fn drop(&mut self) {
        WAITING.with_borrow_mut(|waiting| std::mem::swap(waiting, &mut self.0));
    }
}

/// Runs `read` with an empty table of waiting handles; the former one comes back afterwards, even on panic.
pub(crate) fn with_waiting_handles<T>(read: impl FnOnce() -> T) -> T {
    let _restore = Restore(WAITING.with_borrow_mut(std::mem::take));
    read()
}

/// Reads a script value, with the handles in it, as a Rust value.
pub fn from_dynamic<T: DeserializeOwned>(value: &Dynamic) -> Result<T> {
    with_waiting_handles(|| {
        let json = to_json(value)?;
        serde_json::from_value(json).map_err(|error| Error::input(error.to_string()))
    })
}

/// JSON of a script value; handles go into the waiting table of [`with_waiting_handles`].
pub(crate) fn to_json(value: &Dynamic) -> Result<Value> {
    if value.is_shared() {
        return to_json(&value.flatten_clone());
    }
    Ok(match value.type_name() {
        "()" => Value::Null,
        "bool" => json!(value.as_bool().unwrap_or_default()),
        "i64" => json!(value.as_int().unwrap_or_default()),
        "f64" => {
            let float = value.as_float().unwrap_or_default();
            serde_json::Number::from_f64(float)
                .map(Value::Number)
                .ok_or_else(|| Error::input(format!("a number must be finite, found {float}")))?
        }
        "char" | "string" => Value::String(value.to_string()),
        "array" => {
            let items = value.as_array_ref().map_err(Error::internal)?;
            Value::Array(items.iter().map(to_json).collect::<Result<_>>()?)
        }
        "map" => {
            let map = value.as_map_ref().map_err(Error::internal)?;
            let entries = map.iter().map(|(key, item)| Ok((key.to_string(), to_json(item)?)));
            Value::Object(entries.collect::<Result<Map<_, _>>>()?)
        }
        _ => WAITING.with_borrow_mut(|waiting| {
            waiting.push(value.clone());
            json!({ MARKER: waiting.len() - 1 })
        }),
    })
}

/// Whether a JSON value holds the marker of a handle anywhere.
pub(crate) fn holds_handle(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_handle),
        Value::Object(map) => map.iter().any(|(key, item)| key == MARKER || holds_handle(item)),
        _ => false,
    }
}

/// `Deserialize` of a handle: takes it from the waiting table. Used by [`handle!`](crate::handle).
pub fn deserialize_handle<'de, H: Handle, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<H, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let index = value.get(MARKER).and_then(Value::as_u64);
    index
        .and_then(|index| WAITING.with_borrow(|waiting| waiting.get(index as usize).cloned()))
        .and_then(Dynamic::try_cast::<H>)
        .ok_or_else(|| D::Error::custom(format!("this is no {}", H::NAME)))
}

/// `Serialize` of a handle: its name and identity. Used by [`handle!`](crate::handle).
pub fn serialize_handle<H: Handle, S: Serializer>(handle: &H, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    json!({ H::NAME: handle.identity() }).serialize(serializer)
}

/// Gives a [`Handle`] its `Serialize`, `Deserialize`, `JsonSchema` and [`Output`]: `handle!(Dataset);`.
#[macro_export]
macro_rules! handle {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                $crate::script::handle::serialize_handle(self, serializer)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                $crate::script::handle::deserialize_handle(deserializer)
            }
        }
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <$type as $crate::script::handle::Handle>::NAME.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "object", "handle": <$type as $crate::script::handle::Handle>::NAME })
            }
        }
        impl $crate::script::handle::Output for $type {
            fn name() -> String {
                <$type as $crate::script::handle::Handle>::NAME.into()
            }
            fn into_dynamic(self) -> $crate::error::Result<rhai::Dynamic> {
                Ok(rhai::Dynamic::from(self))
            }
        }
    };
}
