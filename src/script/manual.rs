//! The manual, from the declarations alone: `drylab help NAME`, the reference page, definitions for editors.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::script::declaration::Primitive;
use crate::script::handle::HandleType;
use crate::script::kind::{Field, Kind};

/// What `drylab help NAME` shows: signature, text, inputs, options, examples.
pub fn manual<L: Send + Sync + 'static>(primitive: &Primitive<L>) -> String {
    let mut out = format!("{}\n\n{}\n", primitive.signature(), primitive.about);
    if !primitive.inputs.is_empty() {
        let rows = primitive.inputs.iter().map(|input| [input.name.into(), input.kind.to_string(), input.about.into()]);
        let _ = write!(out, "\nInputs\n{}", columns(rows.collect()));
    }
    if let Some(fields) = primitive.options.as_deref().filter(|fields| !fields.is_empty()) {
        let mut rows = Vec::new();
        option_rows(fields, "", &mut |name, field| {
            rows.push([name, field.kind.to_string(), default_text(field), field.about.clone()]);
        });
        let _ = write!(out, "\nOptions\n{}", columns(rows));
    }
    if !primitive.examples.is_empty() {
        out.push_str("\nExample\n");
        for line in primitive.examples.iter().flat_map(|example| example.lines()) {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// What `drylab help NAME` shows for a handle type.
pub fn handle_manual(handle: &HandleType) -> String {
    let mut out = format!("{}\n\n{}\n", handle.name, handle.about);
    if !handle.properties.is_empty() {
        let rows =
            handle.properties.iter().map(|known| [format!(".{}", known.name), known.kind.clone(), known.about.into()]);
        let _ = write!(out, "\nProperties\n{}", columns(rows.collect()));
    }
    out
}

/// The reference of all functions and types, as a Markdown page.
pub fn reference<L: Send + Sync + 'static>(primitives: &[Primitive<L>], handles: &[HandleType]) -> String {
    let mut out = String::from("# Reference\n\nMade from the declarations; do not edit.\n\n## Functions\n");
    for primitive in primitives {
        let _ = write!(
            out,
            "\n### `{}`\n\n```rhai\n{}\n```\n\n{}\n",
            primitive.name,
            primitive.signature(),
            primitive.about
        );
        if !primitive.inputs.is_empty() {
            out.push_str("\n| input | type | |\n|---|---|---|\n");
            for input in &primitive.inputs {
                let _ =
                    writeln!(out, "| `{}` | {} | {} |", input.name, cell(&input.kind.to_string()), cell(input.about));
            }
        }
        if let Some(fields) = primitive.options.as_deref().filter(|fields| !fields.is_empty()) {
            out.push_str("\n| option | type | default | |\n|---|---|---|---|\n");
            option_rows(fields, "", &mut |name, field| {
                let (kind, default) = (cell(&field.kind.to_string()), cell(&default_text(field)));
                let _ = writeln!(out, "| `{name}` | {kind} | `{default}` | {} |", cell(&field.about));
            });
        }
        for example in &primitive.examples {
            let _ = write!(out, "\n```rhai\n{example}\n```\n");
        }
    }
    out.push_str("\n## Types\n");
    for handle in handles {
        let _ = write!(out, "\n### `{}`\n\n{}\n", handle.name, handle.about);
        if !handle.properties.is_empty() {
            out.push_str("\n| property | type | |\n|---|---|---|\n");
            for property in &handle.properties {
                let _ = writeln!(out, "| `{}` | {} | {} |", property.name, cell(&property.kind), cell(property.about));
            }
        }
    }
    out
}

/// Definitions for editors: the text of a `.d.rhai` file.
pub fn definitions<L: Send + Sync + 'static>(primitives: &[Primitive<L>]) -> String {
    let mut out = String::from("module static;\n");
    for primitive in primitives {
        for arity in primitive.arities() {
            out.push('\n');
            for line in manual(primitive).lines() {
                let _ = writeln!(out, "{}", format!("/// {line}").trim_end());
            }
            let options = (arity > primitive.inputs.len()).then(|| "options: map".to_string());
            let inputs = primitive.inputs.iter().map(|input| format!("{}: {}", input.name, editor_kind(&input.kind)));
            let parameters: Vec<String> = inputs.chain(options).collect();
            let _ = writeln!(
                out,
                "fn {}({}) -> {};",
                primitive.name,
                parameters.join(", "),
                editor_word(&primitive.output)
            );
        }
    }
    out
}

/// Names, types, defaults and versions, for a golden test: what changes here without a raised version is a mistake.
pub fn schema_fingerprint<L: Send + Sync + 'static>(primitives: &[Primitive<L>]) -> Value {
    let describe = |primitive: &Primitive<L>| {
        let mut options = serde_json::Map::new();
        option_rows(primitive.options.as_deref().unwrap_or_default(), "", &mut |name, field| {
            options.insert(name, json!({ "type": field.kind.to_string(), "default": field.default }));
        });
        let inputs = primitive.inputs.iter().map(|input| format!("{}: {}", input.name, input.kind));
        let fingerprint = json!({
            "version": primitive.version,
            "inputs": inputs.collect::<Vec<_>>(),
            "options": options,
            "output": primitive.output,
        });
        (primitive.name.to_string(), fingerprint)
    };
    Value::Object(primitives.iter().map(describe).collect())
}

/// Calls `row` for each option; those of nested maps follow theirs as `outer.inner`.
fn option_rows(fields: &[Field], path: &str, row: &mut dyn FnMut(String, &Field)) {
    for field in fields {
        let name = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        row(name.clone(), field);
        let mut kind = &field.kind;
        while let Kind::Optional(inner) | Kind::Array(inner) = kind {
            kind = inner;
        }
        if let Kind::Fields(inner) = kind {
            option_rows(inner, &name, row);
        }
    }
}

fn default_text(field: &Field) -> String {
    field.default.as_ref().map_or_else(|| "required".into(), script_text)
}

/// A plain value as a script writes it.
pub fn script_text(value: &Value) -> String {
    match value {
        Value::Null => "()".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(script_text).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "#{}".into(),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}: {}", script_text(value)));
            format!("#{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Lines of aligned columns; the last column is not padded.
fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, " {cell}{}", " ".repeat(width - cell.chars().count() + 1));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn editor_kind(kind: &Kind) -> String {
    editor_word(&kind.to_string()).to_string()
}

/// The first word of a kind: editors know plain names only.
fn editor_word(kind: &str) -> &str {
    match kind.split([' ', '[']).next() {
        Some("any" | "one" | "") | None => "?",
        Some("()") if kind == "()" => "()",
        Some(_) if kind.contains(" or ") => "?",
        Some(word) => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::toy::{handles, primitives};

    #[test]
    fn manuals_come_from_the_declaration_alone() {
        let named = |name: &str| primitives().into_iter().find(|primitive| primitive.name == name).unwrap();
        let pages =
            [manual(&named("mix_dataset")), manual(&named("train")), manual(&named("sweep"))].join("\n----\n\n");
        insta::with_settings!({ snapshot_path => "../../tests/snapshots", omit_expression => true }, {
            insta::assert_snapshot!("manual_of_three_primitives", pages);
            insta::assert_snapshot!("manual_of_a_handle", handle_manual(&handles()[2]));
            insta::assert_snapshot!("reference_page", reference(&primitives(), &handles()));
            insta::assert_snapshot!("editor_definitions", definitions(&primitives()[1..2]));
        });
    }

    #[test]
    fn definitions_are_rhai() {
        // Rhai cannot compile definitions, but every line is a comment or a function without a body.
        let text = definitions(&primitives()).replace("module static;", "").replace(" -> ", ";//");
        for line in text.lines().filter(|line| line.starts_with("fn ")) {
            assert!(line.contains("(") && line.contains(");//"), "{line}");
        }
    }

    #[test]
    fn fingerprint_shows_a_changed_default() {
        let fingerprint = schema_fingerprint(&primitives());
        assert_eq!(fingerprint["mix_dataset"]["version"], 2);
        assert_eq!(fingerprint["mix_dataset"]["options"]["rows"], json!({"type": "int", "default": 1000}));
        assert_eq!(fingerprint["train"]["options"]["schedule.warmup"]["type"], "int");
    }

    #[test]
    fn values_are_written_as_scripts_write_them() {
        assert_eq!(script_text(&json!({"a": [1, null], "b": {}, "c": "x"})), "#{ a: [1, ()], b: #{}, c: \"x\" }");
    }
}
