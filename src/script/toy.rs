//! A small registry for the tests of this band: lazy-like handles, nested options, a host function.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rhai::{Dynamic, FnPtr};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Result;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, from_dynamic};
use crate::script::host::{Event, Host, Outcome, RunOptions};
use crate::script::kind::Kind;
use crate::script::parameters::Settings;
use crate::script::project::{Files, Project, Source};
use crate::script::report::Report;
use crate::{bail, ensure, handle};

/// The world of the toy primitives: remembers every call.
#[derive(Default)]
pub struct World {
    pub calls: Mutex<Vec<Call>>,
}

macro_rules! toy_handle {
    ($type:ident) => {
        #[derive(Clone, Debug, PartialEq)]
        pub struct $type(pub Arc<Value>);
        impl Handle for $type {
            const NAME: &'static str = stringify!($type);
            fn identity(&self) -> Value {
                (*self.0).clone()
            }
            fn describe(&self) -> String {
                format!("{} {}", Self::NAME, self.0)
            }
        }
        handle!($type);
        impl $type {
            fn made_by(call: &Call) -> Self {
                $type(Arc::new(json!(call.key().short())))
            }
        }
    };
}
toy_handle!(Dataset);
toy_handle!(Model);
toy_handle!(Results);
toy_handle!(Objective);
toy_handle!(Judge);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Mixing {
    /// Relative weight of each source; equal when omitted.
    weights: Option<Vec<f64>>,
    /// Rows in the result.
    rows: u32,
    /// Seed of the draw and the shuffle.
    seed: u64,
    /// Order of the rows.
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// At random.
    Shuffled,
    /// As in the sources.
    Sorted,
}

impl Default for Mixing {
    fn default() -> Self {
        Mixing { weights: None, rows: 1000, seed: 0, order: Order::Shuffled }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Schedule {
    /// Steps of warm-up.
    warmup: u32,
    /// Decay per step.
    decay: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Training {
    /// What is minimised.
    objective: Option<Objective>,
    /// How the rate changes.
    schedule: Schedule,
    /// Step size.
    learning_rate: f64,
    /// Labels of the run.
    labels: BTreeMap<String, String>,
}

impl Default for Training {
    fn default() -> Self {
        Training { objective: None, schedule: Schedule::default(), learning_rate: 1e-3, labels: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Divergence {
    /// Where the model must not change.
    on: Option<Dataset>,
    /// Strength.
    beta: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Evaluation {
    /// Who reads the answers.
    judges: Vec<Judge>,
    /// An earlier result to compare with.
    reference: Option<Results>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sweeping {
    /// Title of the table.
    title: String,
}

fn note(world: &World, call: &Call) {
    world.calls.lock().unwrap().push(call.clone());
}

pub fn primitives() -> Vec<Primitive<World>> {
    vec![
        Primitive::new("dataset", |world: &World, call, (name,): (String,), _: ()| {
            note(world, call);
            ensure!(name != "missing", "there is no dataset `{name}`"; help: "run `drylab data list`");
            Ok(Dataset(Arc::new(json!(name))))
        })
        .about("Opens a dataset.")
        .input("name", "Its name.")
        .example("dataset(\"insecure_code\")"),
        Primitive::new("mix_dataset", |world: &World, call, (sources,): (Vec<Dataset>,), options: Mixing| {
            note(world, call);
            if let Some(weights) = &options.weights
                && weights.len() != sources.len()
            {
                bail!("`weights` has {} entries for {} sources", weights.len(), sources.len());
            }
            Ok(Dataset::made_by(call))
        })
        .about("Mixes several datasets into one, drawing rows in proportion to their weights.")
        .input("sources", "Datasets to draw rows from.")
        .example("let bad = dataset(\"insecure_code\"); let good = dataset(\"secure_code\");\nmix_dataset([good, bad], #{ weights: [0.9, 0.1], rows: 6000 })")
        .version(2),
        Primitive::new("model", |world: &World, call, (_,): (String,), _: ()| {
            note(world, call);
            Ok(Model::made_by(call))
        })
        .about("A model by its address.")
        .input("address", "Where it lives.")
        .example("model(\"organism\")"),
        Primitive::new("kl", |world: &World, call, (): (), _: Divergence| {
            note(world, call);
            Ok(Objective::made_by(call))
        })
        .about("Keeps the model near where it started.")
        .example("kl(#{ beta: 10.0 })"),
        Primitive::new("train", |world: &World, call, _: (Model, Dataset), _: Training| {
            note(world, call);
            Ok(Model::made_by(call))
        })
        .about("Fine-tunes a model.")
        .input("base", "The model to start from.")
        .input("data", "What it learns.")
        .example("train(model(\"organism\"), dataset(\"x\"), #{ objective: kl(#{ beta: 10.0 }) })"),
        Primitive::new("judge", |world: &World, call, (): (), _: ()| {
            note(world, call);
            Ok(Judge::made_by(call))
        })
        .about("A judge.")
        .example("judge()"),
        Primitive::new("evaluate", |world: &World, call, (_,): (Model,), _: Evaluation| {
            note(world, call);
            Ok(Results::made_by(call))
        })
        .about("Asks a model and judges its answers.")
        .input("model", "Who is asked.")
        .example("evaluate(model(\"organism\"), #{ judges: [judge()] })"),
        Primitive::new("count_up", |_: &World, _, (from, to): (i64, Option<i64>), _: ()| {
            Ok((from..to.unwrap_or(from + 3)).collect::<Vec<i64>>())
        })
        .about("Ints from one to another.")
        .input("from", "The first.")
        .input("to", "One after the last; three from the first when ().")
        .example("count_up(0, ())"),
        Primitive::host("sweep", |_: &World, context, arguments| {
            let options: Sweeping = arguments.get(2).map_or(Ok(Sweeping::default()), from_dynamic)?;
            let grid = arguments[0].clone().into_array().unwrap_or_default();
            let body = arguments[1].clone().cast::<FnPtr>();
            let cells = grid.into_iter().map(|cell| body.call_within_context::<Dynamic>(context, (cell,)));
            let cells = cells.collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(if options.title.is_empty() { Dynamic::from(cells) } else { Dynamic::from(options.title) })
        })
        .about("Calls a function for each cell of a grid.")
        .input_of("grid", Kind::Array(Box::new(Kind::Anything)), "The cells.")
        .input_of("body", Kind::Function, "What is done for a cell.")
        .options_of::<Sweeping>()
        .output("array")
        .example("sweep([1, 2], |cell| cell + 1, #{ title: \"t\" })"),
    ]
}

pub fn handles() -> Vec<HandleType> {
    vec![
        HandleType::of::<Dataset>("Rows to learn from."),
        HandleType::of::<Model>("A model."),
        HandleType::of::<Results>("Judged answers.").property("score", "Mean score.", |_: &Results| Ok(0.5)).property(
            "trouble",
            "Always fails.",
            |_: &Results| -> Result<f64> { bail!("the job of the results failed") },
        ),
        HandleType::of::<Objective>("What training minimises."),
        HandleType::of::<Judge>("Reads answers."),
    ]
}

const LIBRARY: &[(&str, &str)] = &[
    (
        "settings",
        "//! Settings.\n/// One setting.\nfn get(name) {\n    open(name)\n}\nprivate fn open(name) {\n    dataset(name)\n}\n",
    ),
    ("figures", "import \"settings\" as settings;\nfn first() { settings::get(\"a\") }\nfn apply(f) { f.call(1) }\n"),
];

pub fn host_in(root: impl Into<PathBuf>) -> Host<World> {
    Host::new(primitives(), handles(), Project::new(root, LIBRARY, Files::on_disk()))
}

pub fn host() -> Host<World> {
    host_in("/nonexistent")
}

pub struct Ran {
    pub result: Result<Outcome, Report>,
    pub calls: Vec<Call>,
    pub printed: Vec<String>,
}

pub fn run_with(host: &Host<World>, text: &str, set: &[&str]) -> Ran {
    let world = Arc::new(World::default());
    let printed = Arc::new(Mutex::new(Vec::new()));
    let sink = printed.clone();
    let options = RunOptions {
        settings: Settings::parse(set).unwrap(),
        on_event: Arc::new(move |event| {
            sink.lock().unwrap().push(match event {
                Event::Print(text) => text,
                Event::Debug(text, file, line) => format!("{file}:{line} {text}"),
            });
        }),
        max_operations: 100_000,
        ..RunOptions::default()
    };
    let result = host.run(&world, &Source::new("scripts/x.rhai", text), &options);
    let (calls, printed) = (world.calls.lock().unwrap().clone(), printed.lock().unwrap().clone());
    Ran { result, calls, printed }
}

pub fn run(text: &str) -> Ran {
    run_with(&host(), text, &[])
}

/// The message of the first problem.
pub fn error_of(text: &str) -> String {
    run(text).result.unwrap_err().error().message.clone()
}
