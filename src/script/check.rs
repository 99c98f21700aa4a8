//! Everything that can be known to be wrong with a script before anything runs; when in doubt, it is right.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rhai::{ASTNode, Expr, FnCallExpr, Position, Stmt};
use serde_json::Value;

use crate::error::{Error, nearest};
use crate::script::declaration::Primitive;
use crate::script::describe::unknown_property;
use crate::script::host::Host;
use crate::script::infer::{Returns, infer, variables};
use crate::script::kind::{Mismatch, check_options};
use crate::script::parameters::{Settings, read_value};
use crate::script::program::{File, Program, load, problem};
use crate::script::project::Source;
use crate::script::report::{Problem, Report};
use crate::script::shape::Shape;
use crate::script::vocabulary::{Vocabulary, functions, native_functions};

/// A script that passed the check.
pub struct Checked {
    /// First line of its `//!` text.
    pub title: String,
    /// The rest of its `//!` text.
    pub question: String,
    /// Its parameters and their defaults; a default that is computed is none.
    pub parameters: BTreeMap<String, Option<Value>>,
    /// The script and its modules.
    pub program: Program,
}

impl<L: Send + Sync + 'static> Host<L> {
    /// Checks a script, its modules and the settings of a run; all problems at once, sorted by place.
    pub fn check(&self, script: &Source, settings: &Settings) -> Result<Checked, Report> {
        let vocabulary = self.vocabulary();
        let mut problems = Vec::new();
        let program = load(&self.project, script, &vocabulary.functions, &mut problems);
        let mut parameters = Parameters::default();
        for file in program.files.values() {
            let mut checker = Checker::new(self, &vocabulary, &program, file, settings);
            checker.walk(&mut parameters);
            problems.append(&mut checker.problems);
        }
        problems.extend(mixed_up_functions(&program));
        // Where a name is computed or a file does not parse, the parameters are not all known.
        if !parameters.computed && program.files.values().all(|file| file.ast.is_some()) {
            let names: Vec<&str> = parameters.defaults.keys().map(String::as_str).collect();
            if let Err(error) = settings.check_names(&names) {
                problems.push(Problem { error, place: None, calls: Vec::new() });
            }
        }
        if problems.is_empty() {
            let doc = program.files[&script.name].ast.as_ref().map(|ast| ast.doc().to_string()).unwrap_or_default();
            let lines: Vec<&str> = doc.lines().map(|line| line.trim_start_matches("//!").trim()).collect();
            let (title, question) = lines.split_first().map_or((String::new(), String::new()), |(first, rest)| {
                ((*first).to_string(), rest.join("\n").trim().to_string())
            });
            return Ok(Checked { title, question, parameters: parameters.defaults, program });
        }
        problems.sort_by_key(|problem| {
            problem
                .place
                .as_ref()
                .map(|place| (place.file != script.name, place.file.clone(), place.line, place.column))
        });
        problems.dedup();
        Err(Report { problems })
    }
}

#[derive(Default)]
struct Parameters {
    defaults: BTreeMap<String, Option<Value>>,
    computed: bool,
}

struct Checker<'a, L> {
    host: &'a Host<L>,
    vocabulary: &'a Vocabulary,
    program: &'a Program,
    file: &'a File,
    settings: &'a Settings,
    returns: Returns,
    known: HashMap<String, Shape>,
    problems: Vec<Problem>,
}

impl<'a, L: Send + Sync + 'static> Checker<'a, L> {
    fn new(
        host: &'a Host<L>,
        vocabulary: &'a Vocabulary,
        program: &'a Program,
        file: &'a File,
        settings: &'a Settings,
    ) -> Self {
        let own: HashSet<String> = functions(file).map(|(name, ..)| name).collect();
        let is_handle = |name: &str| host.handles.iter().any(|handle| handle.name == name);
        let returns: Returns = host
            .primitives
            .iter()
            .filter(|primitive| is_handle(&primitive.output) && !own.contains(primitive.name))
            .filter(|primitive| !native_functions().iter().any(|(name, _)| name == primitive.name))
            .map(|primitive| (primitive.name.to_string(), Shape::Handle(primitive.output.clone())))
            .collect();
        let known = variables(file, &returns);
        Checker { host, vocabulary, program, file, settings, returns, known, problems: Vec::new() }
    }

    fn walk(&mut self, parameters: &mut Parameters) {
        let Some(ast) = &self.file.ast else { return };
        ast.walk(&mut |path| {
            match path.last() {
                Some(ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position))) => {
                    self.check_call(call, *position, parameters);
                }
                Some(ASTNode::Expr(Expr::Dot(link, ..))) => self.check_link(&link.lhs, &link.rhs),
                _ => {}
            }
            true
        });
    }

    fn report(&mut self, position: Position, error: Error) {
        self.problems.push(problem(&self.file.source, position, error));
    }

    fn infer(&self, expression: &Expr) -> Shape {
        infer(expression, &self.known, &self.returns)
    }

    fn check_call(&mut self, call: &FnCallExpr, position: Position, parameters: &mut Parameters) {
        let name = call.name.as_str();
        if call.is_operator_call() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') || name.contains('$') {
            return;
        }
        if call.is_qualified() {
            return self.check_module_call(call, position);
        }
        let arity = call.args.len();
        let own: Vec<usize> = functions(self.file).filter(|(own, ..)| own == name).map(|(_, arity, _)| arity).collect();
        // A module sees the functions of the script, and a variable of that name may hold a closure.
        let script = &self.program.files[&self.program.script];
        if own.contains(&arity)
            || functions(script).any(|(other, parameters, _)| other == name && parameters == arity)
            || self.file.declared.contains_key(name)
        {
            return;
        }
        let native = native_functions().iter().any(|(native, _)| native == name);
        if name == "param" && own.is_empty() {
            return self.check_parameter(call, position, parameters);
        }
        if let Some(primitive) = self.host.primitives.iter().find(|primitive| primitive.name == name) {
            let arguments: Vec<&Expr> = call.args.iter().collect();
            if primitive.arities().contains(&arity) {
                self.check_arguments(primitive, &arguments, position);
            } else if !native && own.is_empty() {
                self.report(position, wrong_arity(primitive, arity));
            }
        } else if native {
        } else if own.is_empty() {
            // A module sees the functions of the scripts that import it.
            let elsewhere = || self.program.files.values().flat_map(functions).any(|(other, ..)| other == name);
            if self.file.source.name == self.program.script || !elsewhere() {
                self.report(position, self.unknown_function(name));
            }
        } else {
            self.report(position, wrong_number(name, &own, arity));
        }
    }

    fn unknown_function(&self, name: &str) -> Error {
        let error = Error::input(format!("there is no function `{name}`"));
        let own: Vec<String> = functions(self.file).map(|(name, ..)| name).collect();
        let known = self.vocabulary.functions.iter().chain(&own).map(String::as_str);
        if let Some(near) = nearest(name, known) {
            return error.with_help(format!("did you mean `{near}`?"));
        }
        for (alias, module) in &self.file.imports {
            let file = module.as_ref().and_then(|module| self.program.files.get(module));
            if file.is_some_and(|file| functions(file).any(|(function, _, public)| public && function == name)) {
                return error.with_help(format!("write `{alias}::{name}`"));
            }
        }
        error
    }

    fn check_module_call(&mut self, call: &FnCallExpr, position: Position) {
        let (name, arity) = (call.name.as_str(), call.args.len());
        let mut file = self.file;
        for part in &call.namespace.path {
            // A missing module is reported at its import; `global` and what is not known here pass.
            let Some(Some(module)) = file.imports.get(part.as_str()) else { return };
            let Some(next) = self.program.files.get(module) else { return };
            file = next;
        }
        if file.ast.is_none() {
            return;
        }
        let module = call.namespace.to_string();
        let all: Vec<(String, usize, bool)> = functions(file).collect();
        let same: Vec<&(String, usize, bool)> = all.iter().filter(|(own, ..)| own == name).collect();
        if same.iter().any(|(_, own, public)| *public && *own == arity) {
            return;
        }
        let public: Vec<usize> = same.iter().filter(|(.., public)| *public).map(|(_, own, _)| *own).collect();
        let error = if !public.is_empty() {
            wrong_number(&format!("{module}::{name}"), &public, arity)
        } else if !same.is_empty() {
            Error::input(format!("`{name}` of `{module}` is private")).with_help("remove `private` before its `fn`")
        } else {
            let error = Error::input(format!("the module `{module}` has no function `{name}`"));
            // Rhai tells the functions of a module in another order in every process.
            let names: BTreeSet<&str> =
                all.iter().filter(|(.., public)| *public).map(|(name, ..)| name.as_str()).collect();
            match nearest(name, names.iter().copied()) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None if names.is_empty() => error,
                None => error.with_help(format!(
                    "use one of {}",
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                )),
            }
        };
        self.report(position, error);
    }

    fn check_arguments(&mut self, primitive: &Primitive<L>, arguments: &[&Expr], position: Position) {
        let mut found = Vec::new();
        for (input, argument) in primitive.inputs.iter().zip(arguments) {
            let shape = self.infer(argument);
            input.kind.check(&shape, argument.start_position(), input.name, primitive.name, &mut found);
        }
        if let (Some(fields), Some(options)) = (&primitive.options, arguments.get(primitive.inputs.len())) {
            check_options(fields, &self.infer(options), options.start_position(), primitive.name, &mut found);
        }
        for Mismatch { position: at, error } in found {
            self.report(if at.is_none() { position } else { at }, error);
        }
    }

    /// `receiver.rest`, where the receiver is known to be a handle.
    fn check_link(&mut self, receiver: &Expr, rest: &Expr) {
        let Shape::Handle(handle) = self.infer(receiver) else { return };
        let link = match rest {
            Expr::Dot(inner, ..) | Expr::Index(inner, ..) => &inner.lhs,
            link => link,
        };
        match link {
            Expr::Property(property, position) => {
                let name = property.2.as_str();
                let known = self.vocabulary.properties.iter().any(|(owner, known)| *owner == handle && known == name);
                // `tag` is a property of every value.
                if !known && name != "tag" {
                    self.report(*position, unknown_property(&handle, name, self.vocabulary));
                }
            }
            Expr::MethodCall(call, position) => {
                let (name, arity) = (call.name.as_str(), call.args.len() + 1);
                let anywhere = || self.program.files.values().flat_map(functions).any(|(own, ..)| own == name);
                if native_functions().iter().any(|(native, _)| native == name) || anywhere() {
                    return;
                }
                match self.host.primitives.iter().find(|primitive| primitive.name == name) {
                    Some(primitive) if primitive.arities().contains(&arity) => {
                        let arguments: Vec<&Expr> = std::iter::once(receiver).chain(&call.args).collect();
                        self.check_arguments(primitive, &arguments, *position);
                    }
                    Some(primitive) => self.report(*position, wrong_arity(primitive, arity)),
                    None => self.report(*position, self.unknown_function(name)),
                }
            }
            _ => {}
        }
    }

    fn check_parameter(&mut self, call: &FnCallExpr, position: Position, parameters: &mut Parameters) {
        let [name, default] = call.args.as_slice() else {
            let error = Error::input(format!("`param` takes a name and a default, found {}", count(call.args.len())));
            return self.report(position, error.with_help("write `param(\"name\", default)`"));
        };
        let Expr::StringConstant(name, at) = name else {
            parameters.computed = true;
            return match self.infer(name) {
                Shape::Unknown | Shape::Text(_) => {}
                other => {
                    let message = format!("the name of a parameter is string, found {}", other.word());
                    self.report(name.start_position(), Error::input(message));
                }
            };
        };
        let value = default.get_literal_value(None).filter(|value| !value.is_fnptr());
        let value = value.and_then(|value| rhai::serde::from_dynamic::<Value>(&value).ok());
        if let (Some(text), Some(value)) = (self.settings.0.get(name.as_str()), &value)
            && let Err(error) = read_value(name, text, value)
        {
            self.report(*at, error);
        }
        parameters.defaults.insert(name.to_string(), value);
    }
}

/// Functions that two modules define and call by their bare names. Rhai remembers which function a bare name meant without
/// the module it stood in, so that such a call in one module may reach the function of the other.
fn mixed_up_functions(program: &Program) -> Vec<Problem> {
    let mut known: HashMap<(String, usize), &str> = HashMap::new();
    let mut problems = Vec::new();
    for file in program.files.values().filter(|file| file.source.name != program.script) {
        let Some(ast) = &file.ast else { continue };
        let own: HashSet<(String, usize)> = functions(file).map(|(name, arity, _)| (name, arity)).collect();
        let mut called: BTreeMap<(String, usize), Position> = BTreeMap::new();
        ast.walk(&mut |path| {
            if let Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) = path.last() {
                let function = (call.name.to_string(), call.args.len());
                if !call.is_qualified() && own.contains(&function) {
                    called.entry(function).or_insert(*at);
                }
            }
            true
        });
        for ((name, arity), position) in called {
            match known.get(&(name.clone(), arity)) {
                None => {
                    known.insert((name, arity), &file.source.name);
                }
                Some(other) => {
                    let error = Error::input(format!(
                        "`{name}` is a function of this module and of `{other}`, which can be mixed up"
                    ))
                    .with_help("rename it in one of them");
                    problems.push(problem(&file.source, position, error));
                }
            }
        }
    }
    problems
}

fn count(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".into(),
        1 => "1 argument".into(),
        several => format!("{several} arguments"),
    }
}

fn wrong_arity<L: Send + Sync + 'static>(primitive: &Primitive<L>, found: usize) -> Error {
    let inputs = match (primitive.inputs.len(), primitive.options.is_some()) {
        (0, true) => "options only".to_string(),
        (inputs, true) => format!("{} and options", count(inputs)),
        (inputs, false) => count(inputs),
    };
    Error::input(format!("`{}` takes {inputs}, found {}", primitive.name, count(found)))
        .with_help(format!("call it as `{}`", primitive.signature()))
}

fn wrong_number(name: &str, wanted: &[usize], found: usize) -> Error {
    let mut numbers: Vec<String> = wanted.iter().map(usize::to_string).collect();
    numbers.sort();
    let noun = if numbers == ["1"] { "argument" } else { "arguments" };
    Error::input(format!("`{name}` takes {} {noun}, found {found}", numbers.join(" or ")))
}

#[cfg(test)]
mod tests {
    use crate::script::project::Source;
    use crate::script::toy::{host, run};

    fn messages(text: &str) -> Vec<String> {
        match host().check(&Source::new("scripts/x.rhai", text), &Default::default()) {
            Ok(_) => Vec::new(),
            Err(report) => report.problems.into_iter().map(|problem| problem.error.message).collect(),
        }
    }

    #[test]
    fn a_correct_script_passes() {
        let scripts = [
            "",
            "let f = |x| x + 1; f.call(1)",
            "let m = #{ get: |x| x }; m.get(3); m.anything = 5; m.anything",
            "let a = [1, 2].map(|x| x * 2).filter(|x| x > 2); a.len(); a.len; a[0]",
            "fn add(a, b) { a + b } fn add(a) { a } add(1) + add(1, 2) + 1.add(2)",
            "fn mix_dataset(a) { a } mix_dataset(1)",
            "let n = 3; n += 1; mix_dataset([], #{ rows: n, weights: [1 - n, 0.5] })",
            "import \"settings\" as s; s::get(\"a\"); let f = |n| s::get(n); f.call(\"b\")",
            "import \"figures\" as f; f::first(); f::settings::get(\"x\"); f::apply(|x| x)",
            "let x = dataset(\"a\"); { let x = 5; print(x + 1); }",
            "let x = dataset(\"a\"); x = 5; mix_dataset([], #{ rows: x })",
            "for x in 0..3 { mix_dataset([], #{ rows: x }) }",
            "let r = evaluate(model(\"m\")); r.score; r.tag; r.to_string(); type_of(r); r.type_of()",
            "let m = model(\"m\"); m.evaluate(#{ judges: [] }).score",
            "switch 3 { 1 => print(1), _ => debug(2) }",
            "try { throw \"x\" } catch (e) { print(e) }",
            "let o = if true { #{ rows: 1 } } else { #{} }; mix_dataset([], o)",
            "let name = \"a\" + 1; param(name, 3); param(\"b\", [1.0]); const C = 3; fn f() { global::C } f()",
            "let m = #{}; m[\"a\"] = 1; m.remove(\"a\"); is_def_fn(\"f\", 1); Fn(\"print\").call(1); let c = curry(|a, b| a, 1);",
            "train(model(\"m\"), dataset(\"d\"), #{ objective: (), labels: #{ anything: `${1}` }, schedule: #{} })",
            "let s = 0.5; let t = [s, 1, -1]; mix_dataset([], #{ weights: t }); exit(1)",
            "sweep([1, \"a\", #{ b: || 1 }], |c| c, #{ title: \"t\" }); count_up(1, ()); count_up(1, 2)",
        ];
        for script in scripts {
            assert_eq!(messages(script), Vec::<String>::new(), "{script}");
        }
    }

    #[test]
    fn what_passes_the_check_also_runs() {
        let ran = run("import \"figures\" as f;\nlet k = 2;\nlet cells = sweep([1, 2], |p| { let d = f::first(); \
                       mix_dataset([d], #{ rows: p * k, seed: param(\"seed\", 1) }) });\nprint(cells.len());");
        assert!(ran.result.is_ok(), "{:?}", ran.result);
        assert_eq!(ran.printed, ["2"]);
    }

    #[test]
    fn all_problems_are_told_at_once_and_in_order() {
        let script = "import \"setings\" as s;\nlet a = datset(\"x\");\nmix_dataset([1], #{ row: 10, rows: \"ten\", weights: [1, \"x\"] });\n\
                      mix_dataset();\nlet m = model(\"m\");\nm.evaluat();\nevaluate(m).scoer;\nfn h(a) { unknwon_thing(a) }\nh(1, 2);\ntrain(m, m);\nparam(1, 2); param(\"x\");\n\
                      mix_dataset([], 5);\nmix_dataset([], #{ seed: -1, order: \"shufled\" })";
        assert_eq!(
            messages(script),
            [
                "there is no module `setings`",
                "there is no function `datset`",
                "`sources[0]` of `mix_dataset` is Dataset, found int",
                "`mix_dataset` has no option `row`",
                "`rows` of `mix_dataset` is int, found string",
                "`weights[1]` of `mix_dataset` is float, found string",
                "`mix_dataset` takes 1 argument and options, found no arguments",
                "there is no function `evaluat`",
                "Results has no property `scoer`",
                "there is no function `unknwon_thing`",
                "`h` takes 1 argument, found 2",
                "`data` of `train` is Dataset, found Model",
                "the name of a parameter is string, found int",
                "`param` takes a name and a default, found 1 argument",
                "the options of `mix_dataset` are a map `#{ .. }`, found int",
                "`seed` of `mix_dataset` is a non-negative int, found -1",
                "`order` of `mix_dataset` is one of \"shuffled\", \"sorted\", found \"shufled\"",
            ]
        );
    }

    #[test]
    fn undefined_variables_do_not_hide_each_other() {
        let script = "let rows = 3; print(rwos); fn f(seed) { sede + 1 } print(other); mix_dataset([], #{ row: 1 })";
        assert_eq!(
            messages(script),
            [
                "there is no variable `rwos`",
                "there is no variable `sede`",
                "there is no variable `other`",
                "`mix_dataset` has no option `row`"
            ]
        );
    }

    #[test]
    fn calls_into_modules_are_checked() {
        let script =
            "import \"settings\" as s; s::gett(\"a\"); s::get(); s::open(\"a\"); import \"figures\" as f; first()";
        assert_eq!(
            messages(script),
            [
                "the module `s` has no function `gett`",
                "`s::get` takes 1 argument, found 0",
                "`open` of `s` is private",
                "there is no function `first`"
            ]
        );
    }

    #[test]
    fn nothing_runs_when_the_check_fails() {
        let ran = run("dataset(\"a\");\nif false { mix_dataset([], #{ row: 1 }) }");
        assert!(ran.result.is_err() && ran.calls.is_empty());
    }

    #[test]
    fn title_question_and_parameters_are_known_before_a_run() {
        let script =
            "//! A05b: ratio sweep\n//! Does it?\n//! Really?\nlet r = param(\"ratios\", [0.5, 1]); param(\"n\", r);";
        let checked = host().check(&Source::new("x.rhai", script), &Default::default()).unwrap_or_else(|_| panic!());
        assert_eq!((checked.title.as_str(), checked.question.as_str()), ("A05b: ratio sweep", "Does it?\nReally?"));
        assert_eq!(checked.parameters["ratios"], Some(serde_json::json!([0.5, 1])));
        assert_eq!(checked.parameters["n"], None);
    }

    #[test]
    fn checking_a_short_script_takes_no_time() {
        let script = "let a = dataset(\"a\");\nmix_dataset([a], #{ rows: 3 });\n".repeat(10);
        host().check(&Source::new("x.rhai", script.as_str()), &Default::default()).unwrap_or_else(|_| panic!());
        // The fastest of ten, because other tests share the machine.
        let once = || {
            let start = std::time::Instant::now();
            host().check(&Source::new("x.rhai", script.as_str()), &Default::default()).unwrap_or_else(|_| panic!());
            start.elapsed()
        };
        let each = (0..10).map(|_| once()).min().unwrap();
        println!("host and check: {each:?}");
        assert!(each.as_millis() < 10, "{each:?}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_text_breaks_the_check_or_its_report(parts in proptest::collection::vec(0usize..PARTS.len(), 0..12)) {
            let script: String = parts.into_iter().map(|part| PARTS[part]).collect();
            if let Err(report) = host().check(&Source::new("x.rhai", script), &Default::default()) {
                proptest::prop_assert!(report.render(true).contains("error"));
            }
        }
    }

    const PARTS: &[&str] = &[
        "mix_dataset(",
        "[",
        "]",
        ")",
        "#{ row: ",
        "}",
        "\"é",
        "\"",
        "let x = ",
        ";",
        "\n",
        "x",
        ".score",
        "|p| ",
        "fn f(a) {",
        "`",
        "import \"settings\" as s;",
        "s::get(",
        "dataset(\"a\")",
        "param(\"n\", ",
        "1",
        "-",
        "/*",
        "//",
        "\t",
        "evaluate(",
        ", ",
        "this = 1;",
    ];
}
