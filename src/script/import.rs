//! Imports while a script runs: each module is evaluated once, and a cycle is an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rhai::{AST, Engine, EvalAltResult, Module, ModuleResolver, Position, Scope};

use crate::error::Error;
use crate::script::project::{Project, Source};
use crate::script::report::Sources;

type Result<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Resolves the imports of one run.
pub(crate) struct Importer {
    pub(crate) project: Project,
    pub(crate) script: String,
    pub(crate) compiled: BTreeMap<String, AST>,
    pub(crate) modules: Mutex<BTreeMap<String, Arc<Module>>>,
    /// Every source that was read, for reports.
    pub(crate) sources: Arc<Mutex<Sources>>,
}

thread_local! {
    // A cycle runs on one thread, so the chain of imports being evaluated is kept per thread.
    static CHAIN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Link;

impl Link {
    fn add(name: &str) -> Link {
        CHAIN.with_borrow_mut(|chain| chain.push(name.to_string()));
        Link
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        CHAIN.with_borrow_mut(Vec::pop);
    }
}

impl ModuleResolver for Importer {
    fn resolve(&self, engine: &Engine, source: Option<&str>, path: &str, position: Position) -> Result<Arc<Module>> {
        let located = |error: Error| {
            let mut error: Box<EvalAltResult> = error.into();
            error.set_position(position);
            error
        };
        let importer = source.filter(|name| !name.is_empty()).unwrap_or(&self.script);
        let source = self.project.find(importer, path).map_err(located)?;
        let known = |modules: &Mutex<BTreeMap<String, Arc<Module>>>| {
            modules.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&source.name).cloned()
        };
        if let Some(module) = known(&self.modules) {
            return Ok(module);
        }
        let chain = CHAIN.with_borrow(Vec::clone);
        if chain.contains(&source.name) || source.name == self.script {
            return Err(located(cycle(&self.script, &chain, &source.name)));
        }
        let _link = Link::add(&source.name);
        let module = self
            .evaluate(engine, &source)
            .map_err(|error| Box::new(EvalAltResult::ErrorInModule(source.name.clone(), error, position)))?;
        let module = Arc::new(module);
        self.modules
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(source.name.clone(), module.clone());
        Ok(module)
    }
}

impl Importer {
    fn evaluate(&self, engine: &Engine, source: &Source) -> Result<Module> {
        self.sources
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(source.name.clone(), source.clone());
        match self.compiled.get(&source.name) {
            Some(ast) => Module::eval_ast_as_new(Scope::new(), ast, engine),
            None => {
                let mut ast = engine.compile(&source.text)?;
                ast.set_source(source.name.as_str());
                Module::eval_ast_as_new(Scope::new(), &ast, engine)
            }
        }
    }
}

/// The error of a module that imports itself, with the way there.
pub(crate) fn cycle(script: &str, chain: &[String], name: &str) -> Error {
    let start = chain.iter().position(|link| link == name);
    let mut way: Vec<&str> = match start {
        Some(start) => chain[start..].iter().map(String::as_str).collect(),
        None => std::iter::once(script).chain(chain.iter().map(String::as_str)).collect(),
    };
    way.push(name);
    Error::input(format!("`{name}` imports itself: {}", way.join(" -> ")))
        .with_help("move what both need into a third file")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::script::toy::{host_in, run_with};

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn run_in(folder: &tempfile::TempDir, text: &str) -> Result<String, String> {
        let ran = run_with(&host_in(folder.path()), text, &[]);
        let render = |report: crate::script::report::Report| {
            report.problems.iter().map(|problem| problem.error.message.clone()).collect::<Vec<_>>().join("; ")
        };
        ran.result.map(|outcome| outcome.value.to_string()).map_err(render)
    }

    #[test]
    fn the_library_is_shadowed_by_the_project_and_files_are_relative() {
        let folder = project(&[
            ("stdlib/settings.rhai", "fn get(n) { \"mine\" }"),
            (
                "stdlib/deep/more.rhai",
                "import \"settings\" as s; import \"./next\" as n; fn all() { s::get(1) + n::NEXT }",
            ),
            ("stdlib/deep/next.rhai", "export const NEXT = \" next\";"),
            ("scripts/beside.rhai", "import \"../shared/up\" as u; fn b() { u::u() }"),
            ("shared/up.rhai", "fn u() { \"up\" }"),
        ]);
        assert_eq!(run_in(&folder, "import \"settings\" as s; s::get(\"a\")"), Ok("mine".into()));
        assert_eq!(run_in(&folder, "import \"figures\" as f; f::first()"), Ok("mine".into()));
        assert_eq!(run_in(&folder, "import \"deep/more\" as m; m::all()"), Ok("mine next".into()));
        assert_eq!(run_in(&folder, "import \"beside\" as b; b::b()"), Ok("up".into()));
        assert_eq!(run_in(&folder, "let p = \"bes\" + \"ide.rhai\"; import p as b; b::b()"), Ok("up".into()));
    }

    #[test]
    fn nothing_outside_the_project_is_read() {
        let outside = project(&[("secret.rhai", "fn s() { 1 }")]);
        let folder = project(&[("scripts/y.rhai", "")]);
        std::os::unix::fs::symlink(outside.path().join("secret.rhai"), folder.path().join("scripts/link.rhai"))
            .unwrap();
        let import = |path: &str| run_in(&folder, &format!("import \"{path}\" as s; s::s()"));
        assert_eq!(import("../../secret"), Err("the import `../../secret` leaves the project folder".into()));
        assert_eq!(import("/etc/passwd"), Err("the import path `/etc/passwd` is absolute".into()));
        assert_eq!(import("link"), Err("the import `link` is a link out of the project folder".into()));
        assert_eq!(import("nowhere"), Err("there is no module `nowhere`".into()));
        let dynamic = "let p = \"../..\" + \"/secret\"; import p as s; 1";
        assert_eq!(run_in(&folder, dynamic), Err("the import `../../secret` leaves the project folder".into()));
    }

    #[test]
    fn a_cycle_is_told_with_its_chain() {
        let folder = project(&[
            ("scripts/a.rhai", "import \"b\" as b;"),
            ("scripts/b.rhai", "import \"a\" as a;"),
            ("scripts/c.rhai", "let p = \"d\"; import p as d;"),
            ("scripts/d.rhai", "let p = \"c\"; import p as c;"),
            ("scripts/e.rhai", "import \"x\" as x;"),
            ("scripts/x.rhai", ""),
        ]);
        assert_eq!(
            run_in(&folder, "import \"a\" as a;"),
            Err("`scripts/a.rhai` imports itself: scripts/a.rhai -> scripts/b.rhai -> scripts/a.rhai".into())
        );
        assert_eq!(
            run_in(&folder, "import \"c\" as c;"),
            Err("`scripts/c.rhai` imports itself: scripts/c.rhai -> scripts/d.rhai -> scripts/c.rhai".into())
        );
        assert_eq!(
            run_in(&folder, "import \"e\" as e;"),
            Err("`scripts/x.rhai` imports itself: scripts/x.rhai -> scripts/e.rhai -> scripts/x.rhai".into())
        );
    }

    #[test]
    fn own_modules_that_a_computed_name_may_mean_are_checked_too() {
        let wrong = "fn setting() {\n    mix_dataset([], #{ row: 1 })\n}";
        let folder = project(&[("stdlib/settings/mine.rhai", wrong), ("stdlib/settings/notes.txt", "")]);
        let ran = run_with(
            &host_in(folder.path()),
            "fn get(n) { import \"settings/\" + n as s; s::setting() } dataset(\"a\")",
            &[],
        );
        let report = ran.result.unwrap_err();
        let place = report.problems[0].place.clone().unwrap();
        assert_eq!((place.file.as_str(), place.line), ("stdlib/settings/mine.rhai", 2));
        assert_eq!(report.problems[0].error.help.as_deref(), Some("did you mean `rows`?"));
        assert!(ran.calls.is_empty());
    }

    #[test]
    fn functions_of_one_name_that_two_modules_call_barely_are_refused() {
        let module = |word: &str| format!("fn outer() {{ inner() }} fn inner() {{ \"{word}\" }}");
        let (a, b) = (module("a"), module("b"));
        let folder = project(&[("scripts/a.rhai", &a), ("scripts/b.rhai", &b), ("scripts/c.rhai", "fn inner() { 1 }")]);
        let told = run_in(&folder, "import \"a\" as a; import \"b\" as b; a::outer() + b::outer()");
        assert_eq!(
            told,
            Err("`inner` is a function of this module and of `scripts/a.rhai`, which can be mixed up".into())
        );
        // Called with its module's name it is never mixed up.
        assert_eq!(run_in(&folder, "import \"a\" as a; import \"c\" as c; a::outer() + c::inner()"), Ok("a1".into()));
    }

    #[test]
    fn a_mistake_in_a_module_is_told_at_its_place_before_anything_runs() {
        let folder = project(&[("scripts/m.rhai", "fn f() {\n    mix_dataset([], #{ row: 1 })\n}")]);
        let ran = run_with(&host_in(folder.path()), "import \"m\" as m;\nm::f(); dataset(\"a\")", &[]);
        let report = ran.result.unwrap_err();
        let place = report.problems[0].place.clone().unwrap();
        assert_eq!((place.file.as_str(), place.line, place.column), ("scripts/m.rhai", 2, 24));
        assert!(ran.calls.is_empty());
    }

    #[test]
    fn an_error_while_a_module_is_imported_is_told_in_the_module() {
        let folder = project(&[("scripts/m.rhai", "let a = [1];\na[5];")]);
        let report = run_with(&host_in(folder.path()), "print(1);\nimport \"m\" as m;", &[]).result.unwrap_err();
        let problem = &report.problems[0];
        let place = problem.place.as_ref().unwrap();
        assert_eq!((place.file.as_str(), place.line), ("scripts/m.rhai", 2));
        assert_eq!(problem.calls[0].what, "in `scripts/m.rhai`, imported");
        assert_eq!(problem.calls[0].place.as_ref().unwrap().line, 2);
    }
}
