//! Registers primitives with Rhai, once per number of arguments, and checks every call in script words.

use std::any::TypeId;
use std::sync::Arc;

use rhai::plugin::RhaiFunc;
use rhai::{Dynamic, EvalAltResult, FuncRegistration, Module, NativeCallContext, Position};

use crate::error::{Error, Result};
use crate::script::declaration::{HostResult, Invocation, Primitive, Run};
use crate::script::kind::check_options;
use crate::script::shape::{HandleNames, Shape};

/// Lets `?` turn our errors into Rhai's, without a place; Rhai fills in that of the call.
impl From<Error> for Box<EvalAltResult> {
    fn from(error: Error) -> Self {
        Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(error), Position::NONE))
    }
}

/// Registers the primitives into a module; each call runs on `lab`.
pub fn bind<L: Send + Sync + 'static>(
    module: &mut Module,
    primitives: &[Primitive<L>],
    lab: &Arc<L>,
    handles: &Arc<HandleNames>,
) {
    for primitive in primitives {
        let shared = Arc::new(primitive.clone());
        for arity in primitive.arities() {
            let (primitive, lab, handles) = (shared.clone(), lab.clone(), handles.clone());
            let call = move |context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
                let context = context.expect("the function is registered with its context");
                // Closures share what they capture; a primitive gets the value itself.
                let arguments = arguments.iter().map(|argument| argument.flatten_clone()).collect();
                call(&primitive, &lab, &handles, &context, arguments).map_err(|mut error| {
                    if error.position().is_none() {
                        error.set_position(context.call_position());
                    }
                    error
                })
            };
            register(module, shared.name, arity, Arc::new(call));
        }
    }
}

type Native = dyn Fn(Option<NativeCallContext>, &mut [&mut Dynamic]) -> HostResult + Send + Sync;

/// Registers a native function of `arity` untyped arguments that must not be evaluated ahead of its time.
pub(crate) fn register(module: &mut Module, name: &str, arity: usize, func: Arc<Native>) {
    FuncRegistration::new(name).in_global_namespace().set_into_module_raw(
        module,
        vec![TypeId::of::<Dynamic>(); arity],
        RhaiFunc::Method { func, has_context: true, is_pure: true, is_volatile: true },
    );
}

fn call<L: Send + Sync + 'static>(
    primitive: &Primitive<L>,
    lab: &L,
    handles: &HandleNames,
    context: &NativeCallContext,
    mut arguments: Vec<Dynamic>,
) -> HostResult {
    check_arguments(primitive, handles, &arguments)?;
    match &primitive.run {
        Run::Hosted(run) => run(lab, context, &mut arguments),
        Run::Typed(run) => {
            let options = (arguments.len() > primitive.inputs.len()).then(|| arguments.pop()).flatten();
            let line = context.call_position().line();
            let position = line.map(|line| (context.call_source().unwrap_or_default().to_string(), line));
            Ok(run(lab, Invocation { version: primitive.version, inputs: arguments, options, position })?)
        }
    }
}

fn check_arguments<L>(primitive: &Primitive<L>, handles: &HandleNames, arguments: &[Dynamic]) -> Result<()> {
    let mut found = Vec::new();
    for (input, argument) in primitive.inputs.iter().zip(arguments) {
        let shape = Shape::of(argument, handles);
        input.kind.check(&shape, Position::NONE, input.name, primitive.name, &mut found);
    }
    if let (Some(fields), Some(options)) = (&primitive.options, arguments.get(primitive.inputs.len())) {
        check_options(fields, &Shape::of(options, handles), Position::NONE, primitive.name, &mut found);
    }
    match found.into_iter().next() {
        Some(mismatch) => Err(mismatch.error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::script::toy::{error_of, run};

    #[test]
    fn a_call_reaches_its_primitive_with_typed_inputs_and_changed_options() {
        let ran = run("let a = dataset(\"a\"); mix_dataset([a, a], #{ rows: 10, seed: 0 })");
        assert!(ran.result.is_ok(), "{:?}", ran.result);
        let call = &ran.calls[1];
        assert_eq!((call.primitive, call.version), ("mix_dataset", 2));
        assert_eq!(call.inputs, json!([[{"Dataset": "a"}, {"Dataset": "a"}]]));
        assert_eq!(call.options, Some(json!({"rows": 10})));
        assert_eq!(call.position, Some(("scripts/x.rhai".to_string(), 1)));
    }

    #[test]
    fn key_ignores_order_defaults_and_number_spelling() {
        let keys = |options: &str| {
            let ran = run(&format!("train(model(\"m\"), dataset(\"d\"), #{{ {options} }})"));
            ran.result.unwrap();
            ran.calls.last().unwrap().key()
        };
        assert_eq!(keys(""), keys("learning_rate: 0.001"));
        assert_eq!(keys("learning_rate: 1"), keys("learning_rate: 1.0"));
        assert_eq!(
            keys("schedule: #{ warmup: 3 }, learning_rate: 2"),
            keys("learning_rate: 2.0, schedule: #{ decay: 0, warmup: 3 }")
        );
        assert_ne!(keys(""), keys("learning_rate: 0.002"));
        assert_ne!(keys(""), keys("objective: kl(#{ beta: 1 })"));
        assert_ne!(keys("objective: kl()"), keys("objective: kl(#{ beta: 1 })"));
    }

    #[test]
    fn handles_stand_inside_options_at_any_depth() {
        let ran = run("let d = dataset(\"d\"); train(model(\"m\"), d, #{ objective: kl(#{ on: d }) });\n\
                       evaluate(model(\"m\"), #{ judges: [judge()], reference: evaluate(model(\"n\")) })");
        ran.result.unwrap();
        let kl = ran.calls.iter().find(|call| call.primitive == "kl").unwrap();
        assert_eq!(kl.options, Some(json!({"on": {"Dataset": "d"}})));
        let options = ran.calls.last().unwrap().options.clone().unwrap();
        assert!(options["judges"][0]["Judge"].is_string() && options["reference"]["Results"].is_string(), "{options}");
    }

    #[test]
    fn wrong_types_are_told_in_script_words() {
        // Values come through `param`, so that nothing is known of them before the run.
        let cases = [
            ("mix_dataset(v, #{})", "3", "`sources` of `mix_dataset` is array of Dataset, found int"),
            ("mix_dataset([v])", "3", "`sources[0]` of `mix_dataset` is Dataset, found int"),
            ("mix_dataset([], v)", "3", "the options of `mix_dataset` are a map `#{ .. }`, found int"),
            ("mix_dataset([], #{ rows: v })", "\"ten\"", "`rows` of `mix_dataset` is int, found string"),
            ("mix_dataset([], #{ rows: v })", "-3", "`rows` of `mix_dataset` is an int from 0 to 4294967295, found -3"),
            ("mix_dataset([], #{ seed: v })", "-3", "`seed` of `mix_dataset` is a non-negative int, found -3"),
            ("mix_dataset([], #{ seed: v })", "1.5", "`seed` of `mix_dataset` is int, found float"),
            ("mix_dataset([], #{ weights: v })", "[1, \"x\"]", "`weights[1]` of `mix_dataset` is float, found string"),
            (
                "mix_dataset([], #{ order: v })",
                "\"sort\"",
                "`order` of `mix_dataset` is one of \"shuffled\", \"sorted\", found \"sort\"",
            ),
            ("mix_dataset([], v)", "#{ row: 1 }", "`mix_dataset` has no option `row`"),
            ("train(model(\"m\"), v)", "1", "`data` of `train` is Dataset, found int"),
            (
                "train(model(\"m\"), dataset(\"d\"), #{ schedule: v })",
                "#{ warm: 1 }",
                "`schedule` of `train` has no key `warm`",
            ),
            (
                "train(model(\"m\"), dataset(\"d\"), #{ objective: v })",
                "true",
                "`objective` of `train` is Objective, found bool",
            ),
            (
                "train(model(\"m\"), dataset(\"d\"), #{ labels: v })",
                "#{ a: 1 }",
                "`labels.a` of `train` is string, found int",
            ),
            ("sweep(v, 1)", "[1]", "`body` of `sweep` is function, found int"),
        ];
        for (call, value, message) in cases {
            assert_eq!(error_of(&format!("let v = param(\"v\", {value}); {call}")), message, "{call}");
        }
    }

    #[test]
    fn an_error_of_ours_can_be_caught_and_read() {
        let ran = run("try { dataset(\"missing\") } catch (e) { print(e.message + \"|\" + e.help + \"|\" + e.kind) }");
        ran.result.unwrap();
        assert_eq!(ran.printed, ["there is no dataset `missing`|run `drylab data list`|input"]);
    }

    #[test]
    fn values_and_handles_come_back_to_the_script() {
        let ran = run(
            "let r = evaluate(model(\"m\")); print(dataset(\"a\")); print(r.score); print(count_up(1, ()));\n\
                       print(dataset(\"a\") == dataset(\"a\")); print(sweep([1, 2], |x| x * 2)); print([dataset(\"a\")]);\n\
                       let k = 5; print(sweep([1], |x| count_up(x, k)));\n\
                       print(type_of(r))",
        );
        ran.result.unwrap();
        assert_eq!(
            ran.printed,
            ["Dataset \"a\"", "0.5", "[1, 2, 3]", "true", "[2, 4]", "[Dataset \"a\"]", "[[1, 2, 3, 4]]", "Results"]
        );
    }
}
