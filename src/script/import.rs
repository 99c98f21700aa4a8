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
