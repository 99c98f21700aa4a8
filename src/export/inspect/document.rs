//! JSON whose fields keep their order and whose scores may be the bare `NaN` that Inspect reads as unscored.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::data::digest::canonical;
use crate::error::{Error, Result};

/// A JSON value that is still to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Written with sorted keys, so that equal values are equal bytes.
    Value(Value),
    /// Written as a fraction even when it is whole, so that a column of scores has one type.
    Number(f64),
    /// A score that is not there.
    Unscored,
    /// Items in order.
    List(Vec<Node>),
    /// Fields in order.
    Object(Object),
}

/// Fields in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object(Vec<(String, Node)>);

impl Object {
    /// Without fields.
    pub fn new() -> Self {
        Object::default()
    }
    /// With one field more.
    pub fn set(mut self, name: impl Into<String>, node: impl Into<Node>) -> Self {
        self.0.push((name.into(), node.into()));
        self
    }
    /// With one field more, where there is something to say.
    pub fn set_some(self, name: impl Into<String>, node: Option<impl Into<Node>>) -> Self {
        match node {
            Some(node) => self.set(name, node),
            None => self,
        }
    }
}

impl Node {
    /// A score, or the mark of a missing one.
    pub fn score(score: Option<f64>) -> Self {
        score.filter(|score| score.is_finite()).map_or(Node::Unscored, Node::Number)
    }
    /// The JSON text.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut text = String::new();
        self.write(&mut text)?;
        Ok(text.into_bytes())
    }

    fn write(&self, out: &mut String) -> Result<()> {
        match self {
            Node::Value(value) => out.push_str(&canonical(value)?),
            Node::Number(number) if number.is_finite() => out.push_str(&format!("{number:?}")),
            Node::Number(number) => return Err(Error::internal(format!("{number} stands where a number has to"))),
            Node::Unscored => out.push_str("NaN"),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write(out)?;
                }
                out.push(']');
            }
            Node::Object(Object(fields)) => {
                out.push('{');
                for (index, (name, node)) in fields.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&canonical(&Value::from(name.as_str()))?);
                    out.push(':');
                    node.write(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

impl From<Object> for Node {
    fn from(object: Object) -> Self {
        Node::Object(object)
    }
}

impl From<Vec<Node>> for Node {
    fn from(items: Vec<Node>) -> Self {
        Node::List(items)
    }
}

impl From<f64> for Node {
    fn from(number: f64) -> Self {
        Node::Number(number)
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Node::Value(value)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Node::Value(text.into())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Node::Value(text.into())
    }
}

impl From<usize> for Node {
    fn from(count: usize) -> Self {
        Node::Value(count.into())
    }
}

impl From<u64> for Node {
    fn from(count: u64) -> Self {
        Node::Value(count.into())
    }
}

impl From<bool> for Node {
    fn from(flag: bool) -> Self {
        Node::Value(flag.into())
    }
}

impl From<&BTreeMap<String, Value>> for Node {
    fn from(map: &BTreeMap<String, Value>) -> Self {
        Node::Value(Value::Object(map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(node: Node) -> String {
        String::from_utf8(node.to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn fields_keep_their_order_and_whole_scores_their_fraction() {
        let object = Object::new().set("z", 100.0).set("a", json!({ "y": 1.0, "x": "é\u{1}\n" })).set("b", 2usize);
        assert_eq!(text(object.into()), r#"{"z":100.0,"a":{"x":"é\u0001\n","y":1},"b":2}"#);
    }

    #[test]
    fn only_a_score_can_be_no_number() {
        assert_eq!(
            text(vec![Node::score(None), Node::score(Some(f64::NAN)), Node::score(Some(0.5))].into()),
            "[NaN,NaN,0.5]"
        );
        assert!(Node::from(f64::NAN).to_bytes().is_err());
        assert!(Node::from(f64::INFINITY).to_bytes().is_err());
    }

    #[test]
    fn numbers_are_json_however_large_or_small() {
        for number in [1e300, 1e-300, -0.0, 1.0 / 3.0, 1e16] {
            let written: f64 = serde_json::from_str(&text(number.into())).unwrap();
            assert_eq!(written, number);
        }
    }
}
