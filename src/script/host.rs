//! The engine: Rhai with its limits, the primitives, parameters, imports and printing, for one run at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rhai::packages::{
    BasicArrayPackage, BasicMapPackage, BasicMathPackage, CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, EvalAltResult, Module, NativeCallContext, OptimizationLevel, Position};

use crate::error::{Error, Result};
use crate::script::bind;
use crate::script::declaration::Primitive;
use crate::script::handle::{HandleType, handle_names};
use crate::script::import::Importer;
use crate::script::parameters::{Parameter, Recorder, Settings};
use crate::script::project::{Project, Source};
use crate::script::report::{self, Definitions, Report, Sources};
use crate::script::shape::HandleNames;

/// What a running script tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// `print(..)`.
    Print(String),
    /// `debug(..)`, with file and line.
    Debug(String, String, usize),
}

type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;
type Stop = Arc<dyn Fn() -> Option<Error> + Send + Sync>;

/// How to run a script.
#[derive(Clone)]
pub struct RunOptions {
    /// Values of parameters, from `--set`.
    pub settings: Settings,
    /// Steps after which a script is stopped; 0 for no limit.
    pub max_operations: u64,
    /// Is told what the script prints.
    pub on_event: OnEvent,
    /// Asked at every step: an error ends the script.
    pub stop: Stop,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            settings: Settings::default(),
            max_operations: 0,
            on_event: Arc::new(|_| ()),
            stop: Arc::new(|| None),
        }
    }
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The value of the script's last expression.
    pub value: Dynamic,
    /// The parameters it asked for.
    pub parameters: BTreeMap<String, Parameter>,
    /// The script and every module that it imported.
    pub sources: Vec<Source>,
}

/// Everything that scripts can use: primitives, handle types, modules. `L` is the world of the primitives.
pub struct Host<L> {
    /// The functions.
    pub primitives: Vec<Primitive<L>>,
    /// The handle types.
    pub handles: Vec<HandleType>,
    /// Where modules come from.
    pub project: Project,
    pub(crate) handle_names: Arc<HandleNames>,
}

impl<L: Send + Sync + 'static> Host<L> {
    /// A host of these functions and types.
    pub fn new(primitives: Vec<Primitive<L>>, handles: Vec<HandleType>, project: Project) -> Self {
        let handle_names = Arc::new(handle_names(&handles));
        Host { primitives, handles, project, handle_names }
    }

    /// Checks a script and runs it on `lab`.
    pub fn run(&self, lab: &Arc<L>, script: &Source, options: &RunOptions) -> Result<Outcome, Report> {
        let checked = self.check(script, &options.settings)?;
        let mut definitions = Definitions::new();
        for (name, file) in &checked.program.files {
            for function in file.ast.iter().flat_map(|ast| ast.iter_functions()) {
                definitions.entry(function.name.to_string()).or_default().push(name.clone());
            }
        }
        let mut compiled: BTreeMap<_, _> =
            checked.program.files.into_iter().filter_map(|(name, file)| Some((name, file.ast?))).collect();
        let ast = compiled.remove(&script.name).ok_or_else(|| Error::internal("a checked script is compiled"))?;
        let mut engine = bare_engine();
        let recorder = Arc::new(Recorder::new(options.settings.clone()));
        let sources = Arc::new(Mutex::new(Sources::from([(script.name.clone(), script.clone())])));
        self.equip(&mut engine, lab, &recorder, options);
        engine.set_module_resolver(Importer {
            project: self.project.clone(),
            script: script.name.clone(),
            compiled,
            modules: Mutex::default(),
            sources: sources.clone(),
        });
        let result = engine.eval_ast::<Dynamic>(&ast);
        let sources = sources.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        match result {
            Ok(value) => Ok(Outcome { value, parameters: recorder.asked(), sources: sources.into_values().collect() }),
            Err(error) => Err(report::of_evaluation(&error, &script.name, &sources, &definitions, &self.vocabulary())),
        }
    }

    fn equip(&self, engine: &mut Engine, lab: &Arc<L>, recorder: &Arc<Recorder>, options: &RunOptions) {
        engine.set_max_operations(options.max_operations);
        for handle in &self.handles {
            handle.install(engine);
        }
        engine
            .register_type_with_name::<Error>("Error")
            .register_fn("to_string", |error: &mut Error| error.to_string())
            .register_get("message", |error: &mut Error| error.message.clone())
            .register_get("help", |error: &mut Error| error.help.clone().unwrap_or_default())
            .register_get("kind", |error: &mut Error| format!("{:?}", error.kind).to_lowercase());
        let mut module = Module::new();
        bind::bind(&mut module, &self.primitives, lab, &self.handle_names);
        let recorder = recorder.clone();
        let param = move |context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
            let position = context.map_or(Position::NONE, |context| context.call_position());
            recorder
                .ask(&arguments[0].flatten_clone(), &arguments[1].flatten_clone())
                .map_err(|error| Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(error), position)))
        };
        bind::register(&mut module, "param", 2, Arc::new(param));
        engine.register_global_module(module.into());
        let (print, debug, stop) = (options.on_event.clone(), options.on_event.clone(), options.stop.clone());
        engine.on_print(move |text| print(Event::Print(text.to_string())));
        engine.on_debug(move |text, source, position| {
            let file = source.unwrap_or_default().to_string();
            debug(Event::Debug(text.to_string(), file, position.line().unwrap_or(0)));
        });
        engine.on_progress(move |_| stop().map(Dynamic::from));
    }
}

/// Rhai without the functions that see the clock or evaluate text, with the same limits in debug and release builds.
pub(crate) fn bare_engine() -> Engine {
    let mut engine = Engine::new_raw();
    for package in [
        CorePackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        BasicMathPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicMapPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
    ] {
        engine.register_global_module(package);
    }
    engine.set_max_expr_depths(256, 256).set_max_call_levels(256);
    engine.set_max_string_size(64 << 20).set_max_array_size(4 << 20).set_max_map_size(1 << 20);
    engine.set_max_variables(10_000).set_max_functions(10_000).set_max_modules(1_000);
    engine.set_strict_variables(true).set_fail_on_invalid_map_property(true);
    // Constant folding would lose the places of literals, and native calls must happen when the script makes them.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.disable_symbol("eval");
    engine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::script::toy::{World, host, run, run_with};
    use serde_json::json;

    #[test]
    fn parameters_are_used_and_recorded() {
        let script = "let r = param(\"ratios\", [0.5, 1.0]); let n = param(\"rows\", 10); [r, n, param(\"m\", \"x\")]";
        let ran = run_with(&host(), script, &["ratios=[0,0.33]", "m=openai:gpt-4.1"]);
        let outcome = ran.result.unwrap();
        assert_eq!(outcome.value.to_string(), "[[0.0, 0.33], 10, \"openai:gpt-4.1\"]");
        assert_eq!(outcome.parameters["ratios"].value, json!([0.0, 0.33]));
        assert_eq!((outcome.parameters["rows"].given, outcome.parameters["m"].given), (false, true));
    }

    #[test]
    fn a_script_sees_neither_clock_nor_text_evaluation() {
        for script in ["timestamp()", "eval(\"1\")"] {
            assert!(run(script).result.is_err(), "{script}");
        }
    }

    #[test]
    fn a_stop_ends_the_script_with_its_error() {
        let options = RunOptions {
            stop: Arc::new(|| Some(Error::new(Kind::Interrupted, "stopped by Ctrl-C"))),
            ..RunOptions::default()
        };
        let script = Source::new("x.rhai", "loop { print(1); }");
        let report = host().run(&Arc::new(World::default()), &script, &options).unwrap_err();
        assert_eq!((report.exit_code(), report.error().message.as_str()), (130, "stopped by Ctrl-C"));
    }

    #[test]
    fn prints_arrive_in_order_with_their_place() {
        let ran = run("print(\"a\");\ndebug(1);");
        assert_eq!(ran.printed, ["a", "scripts/x.rhai:2 1"]);
    }

    #[test]
    fn deep_scripts_are_the_same_in_debug_and_release() {
        let nested = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        assert!(run(&nested).result.is_ok());
        assert_eq!(
            run("fn f(n) { if n == 0 { 0 } else { 1 + f(n - 1) } } f(200)").result.unwrap().value.to_string(),
            "200"
        );
    }

    #[test]
    fn the_value_and_the_sources_come_back() {
        let outcome = run("import \"figures\" as f; f::first().to_string()").result.unwrap();
        let names: Vec<&str> = outcome.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["scripts/x.rhai", "stdlib/figures.rhai", "stdlib/settings.rhai"]);
        assert_eq!(outcome.value.to_string(), "Dataset \"a\"");
    }

    #[test]
    fn a_whole_run_of_a_short_script_takes_no_time() {
        let start = std::time::Instant::now();
        run("1").result.unwrap();
        println!("first run of the process: {:?}", start.elapsed());
        // The fastest of ten, because other tests share the machine.
        let once = || {
            let start = std::time::Instant::now();
            run("let a = dataset(\"a\"); mix_dataset([a], #{ rows: 3 }).to_string()").result.unwrap();
            start.elapsed()
        };
        let each = (0..10).map(|_| once()).min().unwrap();
        println!("host, check, engine, run: {each:?}");
        assert!(each.as_millis() < 10, "{each:?}");
    }
}
