//! A script with everything that it imports, compiled and not yet run.

use std::collections::{BTreeMap, HashMap, HashSet};

use rhai::{AST, ASTNode, Dynamic, Engine, Expr, ParseErrorType, Position, Scope, Stmt};

use crate::error::{Error, nearest};
use crate::script::describe::of_syntax;
use crate::script::host::bare_engine;
use crate::script::import::cycle;
use crate::script::place::Place;
use crate::script::project::{Project, Source};
use crate::script::report::Problem;

/// One compiled source.
pub struct File {
    /// Name and text.
    pub source: Source,
    /// The syntax tree; none where the text does not parse.
    pub ast: Option<AST>,
    /// Name of the module behind each alias; none where it does not exist.
    pub imports: HashMap<String, Option<String>>,
    /// Variables, parameters and aliases that are declared in the file, with the number of declarations.
    pub declared: HashMap<String, usize>,
    /// Variables that are assigned to after their declaration.
    pub assigned: HashSet<String>,
}

/// A script and its modules, by name.
pub struct Program {
    /// Name of the script.
    pub script: String,
    /// All sources.
    pub files: BTreeMap<String, File>,
}

/// Compiles a script and its imports; what does not compile or does not exist is appended to `problems`.
pub fn load(project: &Project, script: &Source, functions: &[String], problems: &mut Vec<Problem>) -> Program {
    let mut loader =
        Loader { project, engine: bare_engine(), functions, files: BTreeMap::new(), chain: Vec::new(), problems };
    loader.add(script);
    Program { script: script.name.clone(), files: loader.files }
}

/// A problem in a source.
pub(crate) fn problem(source: &Source, position: Position, error: Error) -> Problem {
    Problem { error, place: Place::at(source, position), calls: Vec::new() }
}

struct Loader<'a> {
    project: &'a Project,
    engine: Engine,
    functions: &'a [String],
    files: BTreeMap<String, File>,
    chain: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl Loader<'_> {
    fn add(&mut self, source: &Source) {
        let (mut ast, errors) = compile(&mut self.engine, &source.text);
        if let Some(ast) = &mut ast {
            ast.set_source(source.name.as_str());
        }
        let (declared, assigned) = ast.as_ref().map(declarations).unwrap_or_default();
        for (position, mut error) in errors {
            if let Some(name) = undefined(&error) {
                let names = declared.keys().map(String::as_str).filter(|known| *known != name);
                if let Some(near) = nearest(name, names) {
                    error = error.clone().with_help(format!("did you mean `{near}`?"));
                } else if self.functions.iter().any(|function| function == name) {
                    error = error.clone().with_help(format!("call it: `{name}(..)`"));
                }
            }
            self.problems.push(problem(source, position, error));
        }
        let mut imports = HashMap::new();
        let wanted = ast.as_ref().map(imports_of).unwrap_or_default();
        // Known before its imports are visited, so that two ways to one module visit it once.
        self.chain.push(source.name.clone());
        for (alias, path, position) in wanted {
            let found = self.visit(source, &path, position);
            // One alias for two modules in different blocks: which one a call means is not known here.
            if imports.insert(alias.clone(), found).is_some() {
                imports.insert(alias, None);
            }
        }
        // Which module a computed name means is not known here; the person's own ones are checked all.
        for (folder, position) in ast.as_ref().map(computed_imports_of).unwrap_or_default() {
            for path in self.project.own_modules(&folder) {
                self.visit(source, &path, position);
            }
        }
        self.chain.pop();
        let file = File { source: source.clone(), ast, imports, declared, assigned };
        self.files.insert(source.name.clone(), file);
    }

    fn visit(&mut self, importer: &Source, path: &str, position: Position) -> Option<String> {
        match self.project.find(&importer.name, path) {
            Err(error) => self.problems.push(problem(importer, position, error)),
            Ok(source) if self.chain.contains(&source.name) => {
                let (script, chain) = (&self.chain[0], &self.chain[1..]);
                self.problems.push(problem(importer, position, cycle(script, chain, &source.name)));
            }
            Ok(source) => {
                if !self.files.contains_key(&source.name) {
                    self.add(&source);
                }
                return Some(source.name);
            }
        }
        None
    }
}

type Errors = Vec<(Position, Error)>;

/// Compiles; an undefined variable does not hide the next one.
fn compile(engine: &mut Engine, text: &str) -> (Option<AST>, Errors) {
    let (mut errors, mut scope) = (Errors::new(), Scope::new());
    loop {
        let error = match engine.compile_with_scope(&scope, text) {
            Ok(ast) => return (Some(ast), errors),
            Err(error) => error,
        };
        let described = (error.position(), of_syntax(&error));
        let repeated = errors.contains(&described);
        if !repeated {
            errors.push(described);
        }
        match error.err_type() {
            ParseErrorType::VariableUndefined(name) if !repeated => {
                scope.push_constant(name.as_str(), Dynamic::UNIT);
            }
            ParseErrorType::VariableUndefined(_) | ParseErrorType::ModuleUndefined(_) => {
                engine.set_strict_variables(false);
                let ast = engine.compile(text);
                engine.set_strict_variables(true);
                return (ast.ok(), errors);
            }
            _ => return (None, errors),
        }
    }
}

fn undefined(error: &Error) -> Option<&str> {
    error.message.strip_prefix("there is no variable `").and_then(|rest| rest.strip_suffix('`'))
}

fn imports_of(ast: &AST) -> Vec<(String, String, Position)> {
    let mut imports = Vec::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
            && let (Expr::StringConstant(path, position), alias) = &**import
        {
            imports.push((alias.name.to_string(), path.to_string(), *position));
        }
        true
    });
    imports
}

/// Beginnings of the names of imports such as `import "settings/" + name`.
fn computed_imports_of(ast: &AST) -> Vec<(String, Position)> {
    let mut folders = Vec::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
            && let (Expr::FnCall(call, _), _) = &**import
            && let ("+", Some(Expr::StringConstant(folder, position))) = (call.name.as_str(), call.args.first())
        {
            folders.push((folder.to_string(), *position));
        }
        true
    });
    folders
}

fn declarations(ast: &AST) -> (HashMap<String, usize>, HashSet<String>) {
    let (mut declared, mut assigned) = (HashMap::new(), HashSet::new());
    let mut captured: HashSet<(String, String)> = HashSet::new();
    let mut declare = |name: &str| *declared.entry(name.to_string()).or_insert(0) += 1;
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(variable, ..))) => declare(&variable.0.name),
            Some(ASTNode::Stmt(Stmt::Import(import, _))) => declare(&import.1.name),
            Some(ASTNode::Stmt(Stmt::For(header, _))) => {
                declare(&header.0.name);
                header.1.iter().for_each(|counter| declare(&counter.name));
            }
            Some(ASTNode::Stmt(Stmt::TryCatch(blocks, _))) => {
                if let Expr::Variable(name, ..) = &blocks.expr {
                    declare(&name.1);
                }
            }
            Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => match &assignment.1.lhs {
                Expr::Variable(name, ..) => {
                    assigned.insert(name.1.to_string());
                }
                Expr::ThisPtr(_) => {
                    assigned.insert("this".to_string());
                }
                _ => {}
            },
            Some(ASTNode::Expr(Expr::FnCall(call, _))) if call.name == "curry" => {
                if let Some((Expr::DynamicConstant(closure, _), variables)) = call.args.split_first()
                    && let Some(closure) = closure.read_lock::<rhai::FnPtr>()
                {
                    for variable in variables {
                        if let Expr::Variable(name, ..) = variable {
                            captured.insert((closure.fn_name().to_string(), name.1.to_string()));
                        }
                    }
                }
            }
            _ => {}
        }
        true
    });
    for function in ast.iter_functions() {
        for parameter in &function.params {
            // A captured variable is passed to the closure as a parameter of the same name.
            if !captured.contains(&(function.name.to_string(), parameter.to_string())) {
                declare(parameter);
            }
        }
    }
    (declared, assigned)
}
