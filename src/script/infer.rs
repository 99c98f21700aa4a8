//! What can be told of an expression's value before anything runs.

use std::collections::HashMap;

use rhai::{ASTNode, Expr, Stmt};

use crate::script::program::File;
use crate::script::shape::{Entry, Shape};

/// What calls return, by function name, where that is fixed.
pub type Returns = HashMap<String, Shape>;

/// The variables of a file whose kind is certain: declared once, never assigned to again.
pub fn variables(file: &File, returns: &Returns) -> HashMap<String, Shape> {
    let mut known = HashMap::new();
    let Some(ast) = &file.ast else { return known };
    // A function that assigns to `this` can change any variable that it is called on.
    if file.assigned.contains("this") {
        return known;
    }
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Var(variable, ..))) = path.last() {
            let name = variable.0.name.as_str();
            if file.declared.get(name) == Some(&1) && !file.assigned.contains(name) {
                let shape = outline(infer(&variable.1, &known, returns));
                known.insert(name.to_string(), shape);
            }
        }
        true
    });
    known
}

/// The shape of an expression.
pub fn infer(expression: &Expr, known: &HashMap<String, Shape>, returns: &Returns) -> Shape {
    match expression {
        Expr::BoolConstant(..) | Expr::And(..) | Expr::Or(..) => Shape::Bool,
        Expr::IntegerConstant(value, _) => Shape::Int(Some(*value)),
        Expr::FloatConstant(..) => Shape::Float,
        Expr::CharConstant(letter, _) => Shape::Text(Some(letter.to_string().into())),
        Expr::StringConstant(text, _) => Shape::Text(Some(text.clone())),
        Expr::InterpolatedString(..) => Shape::Text(None),
        Expr::Unit(_) => Shape::Unit,
        Expr::Array(items, _) => {
            Shape::Array(Some(items.iter().map(|item| (item.start_position(), infer(item, known, returns))).collect()))
        }
        Expr::Map(entries, _) => {
            let entry = |(key, value): &(rhai::Ident, Expr)| Entry {
                key: key.name.clone(),
                key_position: key.pos,
                position: value.start_position(),
                shape: infer(value, known, returns),
            };
            Shape::Map(Some(entries.0.iter().map(entry).collect()))
        }
        Expr::DynamicConstant(value, _) if value.is_fnptr() => Shape::Function,
        Expr::Variable(name, ..) if name.2.is_empty() => known.get(name.1.as_str()).cloned().unwrap_or(Shape::Unknown),
        Expr::FnCall(call, _) if call.is_qualified() => Shape::Unknown,
        Expr::FnCall(call, _) if call.is_operator_call() => match (call.name.as_str(), call.args.as_slice()) {
            // Rhai has no negative literals: `-3` is a call.
            ("-", [Expr::IntegerConstant(value, _)]) => Shape::Int(value.checked_neg()),
            ("-", [Expr::FloatConstant(..)]) => Shape::Float,
            _ => Shape::Unknown,
        },
        Expr::FnCall(call, _) => match (call.name.as_str(), call.args.as_slice()) {
            ("curry" | "Fn", _) => Shape::Function,
            ("param", [_, default]) => outline(infer(default, known, returns)),
            (name, _) => returns.get(name).cloned().unwrap_or(Shape::Unknown),
        },
        _ => Shape::Unknown,
    }
}

/// The shape without its values, which may change while the script runs.
fn outline(shape: Shape) -> Shape {
    match shape {
        Shape::Int(_) => Shape::Int(None),
        Shape::Text(_) => Shape::Text(None),
        Shape::Array(_) => Shape::Array(None),
        Shape::Map(_) => Shape::Map(None),
        shape => shape,
    }
}
