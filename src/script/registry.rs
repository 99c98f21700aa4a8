//! What every registry of primitives must satisfy; its own test calls this over the real one.

use std::collections::HashSet;

use rhai::Engine;

use crate::script::declaration::Primitive;
use crate::script::host::bare_engine;
use crate::script::kind::{Field, Kind};
use crate::script::vocabulary::native_functions;

/// Panics with all that is wrong.
///
/// # Panics
/// When [`faults`] finds anything.
pub fn assert_registry_is_sound<L: Send + Sync + 'static>(primitives: &[Primitive<L>]) {
    let wrong = faults(primitives);
    assert!(wrong.is_empty(), "the registry is not sound:\n{}", wrong.join("\n"));
}

/// All that is wrong: names used twice, missing texts, reserved words, examples that do not parse, names that Rhai's own
/// functions would take over.
pub fn faults<L: Send + Sync + 'static>(primitives: &[Primitive<L>]) -> Vec<String> {
    let engine = bare_engine();
    let mut wrong = Vec::new();
    let mut names = HashSet::new();
    for primitive in primitives {
        let name = primitive.name;
        let mut complain = |what: String| wrong.push(format!("`{name}`: {what}"));
        if !names.insert(name) {
            complain("is declared twice".into());
        }
        if is_reserved(&engine, name) {
            complain("is a reserved word".into());
        }
        // Rhai prefers its own function where the types of the arguments are exactly those it was written for.
        let on_handle = matches!(primitive.inputs.first().map(|input| &input.kind), Some(Kind::Handle(_)));
        for arity in primitive.arities() {
            if !on_handle && native_functions().contains(&(name.to_string(), arity)) {
                complain(format!("Rhai has a function of this name with {arity} arguments"));
            }
        }
        if !is_sentence(primitive.about) {
            complain("`.about` is a sentence with a full stop".into());
        }
        for input in &primitive.inputs {
            if input.name.is_empty() || !is_sentence(input.about) {
                complain(format!("the input `{}` has a name and a sentence", input.name));
            }
        }
        if primitive.examples.is_empty() {
            complain("has an example".into());
        }
        for example in &primitive.examples {
            if let Err(error) = relaxed().compile(example) {
                complain(format!("the example does not parse: {error}"));
            }
        }
        check_fields(&engine, primitive.options.as_deref().unwrap_or_default(), &mut complain);
    }
    wrong
}

/// Whether a word cannot be a variable, a key or a property in scripts.
pub fn is_reserved_word(word: &str) -> bool {
    is_reserved(&bare_engine(), word)
}

fn is_reserved(engine: &Engine, word: &str) -> bool {
    engine.compile(format!("let {word} = 1; #{{ {word}: 1 }}.{word}")).is_err()
}

/// Examples are parts of scripts: their variables may be declared elsewhere.
fn relaxed() -> Engine {
    let mut engine = bare_engine();
    engine.set_strict_variables(false);
    engine
}

fn check_fields(engine: &Engine, fields: &[Field], complain: &mut dyn FnMut(String)) {
    for field in fields {
        let name = &field.name;
        if is_reserved(engine, name) {
            complain(format!("the option `{name}` is a reserved word"));
        }
        if !is_sentence(&field.about) {
            complain(format!("the option `{name}` has a sentence as its doc comment"));
        }
        if let Kind::Fields(inner) = &field.kind {
            check_fields(engine, inner, complain);
        }
    }
}

fn is_sentence(text: &str) -> bool {
    text.len() > 3 && text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::declaration::Call;
    use crate::script::toy::{World, primitives};

    #[test]
    fn the_toy_registry_is_sound() {
        assert_registry_is_sound(&primitives());
    }

    #[test]
    fn reserved_words_are_known() {
        for word in ["default", "eval", "debug", "new", "match", "fn", "is", "shared"] {
            assert!(is_reserved_word(word), "{word}");
        }
        for word in ["rows", "global", "exit", "kind", "x"] {
            assert!(!is_reserved_word(word), "{word}");
        }
    }

    #[test]
    fn every_fault_is_named() {
        let run = |_: &World, _: &Call, _: (i64, i64), _: ()| Ok(());
        let faulty = vec![
            Primitive::new("range", run).about("x").input("from", "The first."),
            Primitive::new("range", run)
                .about("Fine text.")
                .input("a", "The a.")
                .input("b", "The b.")
                .example("range(1,"),
        ];
        let text = faults(&faulty).join("\n");
        for part in
            ["declared twice", "Rhai has a function", "`.about`", "input ``", "has an example", "does not parse"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
