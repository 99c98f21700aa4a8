//! One declaration per primitive: a function, its inputs, its options; binding, checks, keys and manual derive from it.

use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult, NativeCallContext};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::data::digest::{Digest, canonical};
use crate::error::{Error, Result};
use crate::script::handle::{Output, holds_handle, to_json, with_waiting_handles};
use crate::script::kind::{Field, Kind};

/// Raised when the construction of keys changes; every key changes with it.
pub const KEY_FORMAT: u32 = 1;

/// What a primitive knows of the call that it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name of the primitive.
    pub primitive: &'static str,
    /// Its behaviour version.
    pub version: u32,
    /// The inputs, in order; a handle stands as `{ "Name": identity }`.
    pub inputs: Value,
    /// The options that differ from their default, by name; none when all are default.
    pub options: Option<Value>,
    /// File and line of the call, where known.
    pub position: Option<(String, usize)>,
}

impl Call {
    /// What a script's call with these inputs (a tuple) and options is, made elsewhere: its key is the same.
    pub fn new(
        primitive: &'static str,
        version: u32,
        inputs: &impl Serialize,
        options: &(impl Serialize + Default),
    ) -> Result<Self> {
        let (inputs, options) = (to_value(inputs)?, changed_options(options)?);
        Ok(Call { primitive, version, inputs, options, position: None })
    }
    /// Identity of the call: key format, name, version, inputs by identity, changed options.
    pub fn key(&self) -> Digest {
        self.key_of(&self.inputs)
    }
    /// The same with other inputs, for a primitive that serves one call as several (a sample index, a fold).
    pub fn key_of(&self, inputs: &Value) -> Digest {
        let mut parts = json!({
            "format": KEY_FORMAT, "primitive": self.primitive, "version": self.version, "inputs": inputs,
        });
        if let Some(options) = &self.options {
            parts["options"] = options.clone();
        }
        Digest::of_json(&parts).expect("serde_json holds finite numbers only")
    }
}

/// One input of a primitive.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name in the manual and in messages.
    pub name: &'static str,
    /// One sentence about it.
    pub about: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// One call as it comes from the script, with the options (if given) apart.
pub(crate) struct Invocation {
    pub(crate) version: u32,
    pub(crate) inputs: Vec<Dynamic>,
    pub(crate) options: Option<Dynamic>,
    pub(crate) position: Option<(String, usize)>,
}

/// Result of a host function: our errors and those of closures that it called.
pub type HostResult = std::result::Result<Dynamic, Box<EvalAltResult>>;

type Typed<L> = Arc<dyn Fn(&L, Invocation) -> Result<Dynamic> + Send + Sync>;
type Hosted<L> = Arc<dyn Fn(&L, &NativeCallContext, &mut [Dynamic]) -> HostResult + Send + Sync>;

pub(crate) enum Run<L> {
    Typed(Typed<L>),
    Hosted(Hosted<L>),
}

impl<L> Clone for Run<L> {
    fn clone(&self) -> Self {
        match self {
            Run::Typed(run) => Run::Typed(run.clone()),
            Run::Hosted(run) => Run::Hosted(run.clone()),
        }
    }
}

/// A native function that scripts call. `L` is the world it may touch.
pub struct Primitive<L> {
    /// Name in scripts.
    pub name: &'static str,
    /// What it does, in a sentence or two.
    pub about: &'static str,
    /// Raised by hand when the meaning of results changes.
    pub version: u32,
    /// Inputs in order.
    pub inputs: Vec<Input>,
    /// Options; none when the primitive takes no options.
    pub options: Option<Vec<Field>>,
    /// What is returned, in script words.
    pub output: String,
    /// Calls that parse, as they would stand in a script.
    pub examples: Vec<&'static str>,
    pub(crate) run: Run<L>,
    named: usize,
}

impl<L> Clone for Primitive<L> {
    fn clone(&self) -> Self {
        Primitive {
            name: self.name,
            about: self.about,
            version: self.version,
            inputs: self.inputs.clone(),
            options: self.options.clone(),
            output: self.output.clone(),
            examples: self.examples.clone(),
            run: self.run.clone(),
            named: self.named,
        }
    }
}

impl<L: Send + Sync + 'static> Primitive<L> {
    /// A primitive from a plain function. Inputs are a tuple (`()` for none) of plain values, handles, or `Vec` and
    /// `Option` of these; options are a struct with documented fields and a `Default`, or `()` for none.
    pub fn new<I, O, Out>(name: &'static str, run: fn(&L, &Call, I, O) -> Result<Out>) -> Self
    where
        I: Serialize + DeserializeOwned + JsonSchema + 'static,
        O: Serialize + DeserializeOwned + JsonSchema + Default + 'static,
        Out: Output + 'static,
    {
        let kinds = match kind_of::<I>() {
            Kind::Tuple(kinds) => kinds,
            _ => Vec::new(),
        };
        let run = Run::Typed(Arc::new(move |lab: &L, invocation: Invocation| {
            let (inputs, options) = read_arguments::<I, O>(name, &invocation)?;
            let call = Call::new(name, invocation.version, &inputs, &options)?;
            let call = Call { position: invocation.position, ..call };
            run(lab, &call, inputs, options)?.into_dynamic()
        }));
        let mut primitive = Self::bare(name, Out::name(), run);
        primitive.inputs = kinds.into_iter().map(|kind| Input { name: "", about: "", kind }).collect();
        primitive.options = options_of::<O>();
        primitive
    }

    /// A function that needs the script's own context, to call closures. Its arguments are checked against the inputs
    /// given by [`Primitive::input_of`] and the options of [`Primitive::options_of`]; options, when the script gives
    /// them, are the last argument.
    pub fn host(
        name: &'static str,
        run: impl Fn(&L, &NativeCallContext, &mut [Dynamic]) -> HostResult + Send + Sync + 'static,
    ) -> Self {
        Self::bare(name, "any value".into(), Run::Hosted(Arc::new(run)))
    }

    fn bare(name: &'static str, output: String, run: Run<L>) -> Self {
        let (inputs, examples) = (Vec::new(), Vec::new());
        Primitive { name, about: "", version: 1, inputs, options: None, output, examples, run, named: 0 }
    }
    /// What it does.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }
    /// Names and describes the next input.
    ///
    /// # Panics
    /// When all inputs have a name already.
    pub fn input(mut self, name: &'static str, about: &'static str) -> Self {
        let input = self.inputs.get_mut(self.named).expect("one `.input` per input of the function");
        (input.name, input.about) = (name, about);
        self.named += 1;
        self
    }
    /// Adds an input of a host function.
    pub fn input_of(mut self, name: &'static str, kind: Kind, about: &'static str) -> Self {
        self.inputs.push(Input { name, about, kind });
        self.named += 1;
        self
    }
    /// Gives a host function options.
    pub fn options_of<O: JsonSchema>(mut self) -> Self {
        self.options = options_of::<O>();
        self
    }
    /// What a host function returns, in script words.
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output = output.into();
        self
    }
    /// A call as it would stand in a script.
    pub fn example(mut self, example: &'static str) -> Self {
        self.examples.push(example);
        self
    }
    /// The behaviour version; 1 when not given.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }
    /// The numbers of arguments that it takes.
    pub fn arities(&self) -> Vec<usize> {
        let inputs = self.inputs.len();
        if self.options.is_some() { vec![inputs, inputs + 1] } else { vec![inputs] }
    }
    /// `mix_dataset(sources: array of Dataset, options: map) -> Dataset`.
    pub fn signature(&self) -> String {
        let mut parameters: Vec<String> =
            self.inputs.iter().map(|input| format!("{}: {}", input.name, input.kind)).collect();
        if self.options.is_some() {
            parameters.push("options: map".into());
        }
        format!("{}({}) -> {}", self.name, parameters.join(", "), self.output)
    }
}

fn kind_of<T: JsonSchema>() -> Kind {
    Kind::of_schema(SchemaGenerator::default().into_root_schema_for::<T>().as_value())
}

fn options_of<O: JsonSchema>() -> Option<Vec<Field>> {
    match kind_of::<O>() {
        Kind::Fields(fields) => Some(fields),
        Kind::Map(_) => Some(Vec::new()),
        _ => None,
    }
}

fn read_arguments<I, O>(name: &str, arguments: &Invocation) -> Result<(I, O)>
where
    I: DeserializeOwned,
    O: DeserializeOwned + Default,
{
    let unreadable = |error: serde_json::Error| Error::input(format!("`{name}`: {error}"));
    with_waiting_handles(|| {
        let inputs = match arguments.inputs.as_slice() {
            [] => Value::Null,
            inputs => Value::Array(inputs.iter().map(to_json).collect::<Result<_>>()?),
        };
        let inputs = serde_json::from_value(inputs).map_err(unreadable)?;
        let options = match &arguments.options {
            Some(options) => serde_json::from_value(to_json(options)?).map_err(unreadable)?,
            None => O::default(),
        };
        Ok((inputs, options))
    })
}

fn to_value(value: &impl Serialize) -> Result<Value> {
    let value = serde_json::to_value(value).map_err(|error| Error::internal(error.to_string()))?;
    if holds_handle(&value) {
        return Err(Error::input("a handle cannot stand inside a plain value"));
    }
    Ok(value)
}

/// The options that differ from their default; an int given for a float is the float.
fn changed_options<O: Serialize + Default>(options: &O) -> Result<Option<Value>> {
    let (Value::Object(options), Value::Object(defaults)) = (to_value(options)?, to_value(&O::default())?) else {
        return Ok(None);
    };
    let mut changed = Map::new();
    for (name, value) in options {
        let same = match defaults.get(&name) {
            Some(default) => canonical(default)? == canonical(&value)?,
            None => false,
        };
        if !same {
            changed.insert(name, value);
        }
    }
    Ok((!changed.is_empty()).then_some(Value::Object(changed)))
}
