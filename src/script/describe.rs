//! Rhai's errors in the words of this program.

use rhai::{EvalAltResult, ParseError, ParseErrorType};

use crate::error::{Error, Kind, nearest};
use crate::script::vocabulary::Vocabulary;

/// What a Rhai error says, without its place; an error of ours keeps its kind.
pub(crate) fn describe(error: &EvalAltResult, words: &Vocabulary) -> Error {
    let suggest = |error: Error, name: &str| match nearest(name, words.functions.iter().map(String::as_str)) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None => error,
    };
    match error {
        EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
            match value.clone().try_cast::<Error>() {
                Some(error) => error,
                None if matches!(error, EvalAltResult::ErrorTerminated(..)) => {
                    Error::new(Kind::Interrupted, "the script was stopped")
                }
                None if value.is_unit() => Error::experiment("the script threw an error"),
                None => Error::experiment(value.to_string()),
            }
        }
        EvalAltResult::ErrorParsing(kind, _) => describe_syntax(kind),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            let (name, types) = signature.split_once(" (").unwrap_or((signature, ")"));
            let name = name.trim();
            let types: Vec<&str> = types.trim_end_matches(')').split(", ").map(script_word).collect();
            let types = types.join(", ");
            if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                return Error::input(format!("`{name}` cannot be used with ({types})"));
            }
            if words.functions.iter().any(|function| function == name) {
                return Error::input(match types.as_str() {
                    "" => format!("`{name}` cannot be called without arguments"),
                    types => format!("`{name}` cannot be called with ({types})"),
                });
            }
            suggest(Error::input(format!("there is no function `{name}`")), name)
        }
        EvalAltResult::ErrorPropertyNotFound(name, _) => Error::input(format!("the map has no key `{name}`")),
        EvalAltResult::ErrorDotExpr(message, _) => describe_property(message, words),
        EvalAltResult::ErrorTooManyOperations(_) => Error::input("the script takes too many steps")
            .with_help("look for a loop that does not end, or raise the limit of operations"),
        EvalAltResult::ErrorStackOverflow(_) => Error::input("the functions call each other too deeply")
            .with_help("look for a function that calls itself without end"),
        EvalAltResult::ErrorSystem(message, inner) => Error::environment(format!("{message}{inner}")),
        other => {
            let text = other.to_string();
            let position = format!(" ({})", other.position());
            Error::input(lower_case(text.trim_end_matches(position.as_str())))
        }
    }
}

fn script_word(kind: &str) -> &str {
    match kind {
        "i64" => "int",
        "f64" => "float",
        "Fn" => "function",
        kind if kind.contains("String") || kind == "&str" => "string",
        kind => kind,
    }
}

/// Rhai's words for an unknown property: "Unknown property 'x' - a getter is not registered for type 'Dataset'".
fn describe_property(message: &str, words: &Vocabulary) -> Error {
    let parts: Vec<&str> = message.split('\'').collect();
    let &[_, name, _, kind, ..] = parts.as_slice() else { return Error::input(lower_case(message)) };
    unknown_property(kind, name, words)
}

/// A handle or value of this kind has no such property.
pub(crate) fn unknown_property(kind: &str, name: &str, words: &Vocabulary) -> Error {
    let kind = kind.rsplit("::").next().unwrap_or(kind);
    let known: Vec<&str> =
        words.properties.iter().filter(|(owner, _)| owner == kind).map(|(_, property)| property.as_str()).collect();
    let error = Error::input(format!("{kind} has no property `{name}`"));
    match nearest(name, known.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None if words.functions.iter().any(|function| function == name) => {
            error.with_help(format!("call it: `{name}()`"))
        }
        None if known.is_empty() => error,
        None => error.with_help(format!(
            "read one of {}",
            known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// The error of a script that does not parse.
pub(crate) fn of_syntax(error: &ParseError) -> Error {
    describe_syntax(&error.0)
}

fn describe_syntax(kind: &ParseErrorType) -> Error {
    match kind {
        ParseErrorType::VariableUndefined(name) => Error::input(format!("there is no variable `{name}`")),
        ParseErrorType::ModuleUndefined(name) => Error::input(format!("no module is imported as `{name}`"))
            .with_help(format!("write `import \"{name}\" as {name};` first")),
        ParseErrorType::Reserved(name) => {
            Error::input(format!("`{name}` is a reserved word")).with_help("choose another name")
        }
        ParseErrorType::UnexpectedEOF => {
            Error::input("the script ends too early").with_help("close what is still open")
        }
        other => Error::input(lower_case(&other.to_string()).replace('\'', "`")),
    }
}

fn lower_case(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
