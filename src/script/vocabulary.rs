//! The names that scripts may use: primitives, Rhai's own functions, functions of a file.

use std::collections::HashSet;
use std::sync::OnceLock;

use rhai::{AST, FnAccess};

use crate::script::host::{Host, bare_engine};
use crate::script::program::File;

/// Names that a message may suggest.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Functions that scripts can call.
    pub functions: Vec<String>,
    /// Properties of handles: type, name.
    pub properties: Vec<(String, String)>,
}

impl<L: Send + Sync + 'static> Host<L> {
    /// The names that messages may suggest.
    pub fn vocabulary(&self) -> Vocabulary {
        let own = self.primitives.iter().map(|primitive| primitive.name.to_string());
        let mut functions: Vec<String> = own.chain(std::iter::once("param".to_string())).collect();
        functions.extend(native_functions().iter().map(|(name, _)| name.clone()));
        functions.sort();
        functions.dedup();
        let properties = self.handles.iter().flat_map(|handle| {
            handle.properties.iter().map(|property| (handle.name.to_string(), property.name.to_string()))
        });
        Vocabulary { functions, properties: properties.collect() }
    }
}

/// Names and numbers of arguments of the functions that Rhai brings along.
pub(crate) fn native_functions() -> &'static HashSet<(String, usize)> {
    static FUNCTIONS: OnceLock<HashSet<(String, usize)>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let named = |function: rhai::FuncInfo| {
            let name = function.metadata.name.as_str();
            let callable = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.contains('$');
            callable.then(|| (name.to_string(), function.metadata.num_params))
        };
        let mut functions: HashSet<_> = bare_engine().collect_fn_metadata(None, named, true).into_iter().collect();
        // These are part of the language itself.
        for name in ["print", "debug", "type_of", "call", "curry", "Fn", "is_def_fn", "is_def_var", "is_shared"] {
            functions.insert((name.to_string(), 1));
        }
        functions
    })
}

/// Functions of a file: name, number of parameters, whether others may call it.
pub(crate) fn functions(file: &File) -> impl Iterator<Item = (String, usize, bool)> {
    let list = |ast: &'_ AST| -> Vec<(String, usize, bool)> {
        let describe = |function: rhai::ScriptFnMetadata| {
            (function.name.to_string(), function.params.len(), function.access == FnAccess::Public)
        };
        ast.iter_functions().map(describe).collect()
    };
    file.ast.as_ref().map(list).unwrap_or_default().into_iter()
}
