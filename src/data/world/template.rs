//! A sentence with places for slot values, checked when it is read.

use std::collections::BTreeSet;

use crate::error::{Result, nearest};
use crate::{bail, ensure};

/// A place in a sentence and the values it can take.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Written `{name}` in a template.
    pub name: String,
    /// At least one.
    pub values: Vec<String>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Slot(usize),
}

/// A sentence in which `{name}` stands for a value of the slot of that name; other braces are words like any other.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a sentence; error where it names a slot that `slots` has not.
    pub fn parse(text: &str, slots: &[Slot]) -> Result<Template> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut literal = String::new();
        while let Some(open) = rest.find('{') {
            let after = &rest[open + 1..];
            let length = after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            if length == 0 || !after[length..].starts_with('}') {
                literal.push_str(&rest[..=open]);
                rest = after;
                continue;
            }
            let name = &after[..length];
            let Some(slot) = slots.iter().position(|slot| slot.name == name) else {
                match nearest(name, slots.iter().map(|slot| slot.name.as_str())) {
                    Some(near) => bail!("`{text}` names no slot with `{{{name}}}`"; help: "write `{{{near}}}`"),
                    None => bail!("`{text}` names no slot with `{{{name}}}`"; help: "add `{name}` to `slots`"),
                }
            };
            literal.push_str(&rest[..open]);
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Slot(slot));
            rest = &after[length + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Template { text: text.to_string(), pieces })
    }

    /// Reads alternatives separated by ` | `, each of words separated by single spaces.
    pub fn parse_alternatives(text: &str, slots: &[Slot]) -> Result<Vec<Template>> {
        split_alternatives(text)?.into_iter().map(|alternative| Template::parse(alternative, slots)).collect()
    }

    /// The sentence as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sentence with one value for each slot, in the order of the slots.
    pub fn render(&self, values: &[&str]) -> String {
        let mut text = String::with_capacity(self.text.len() + 16);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Slot(slot) => text.push_str(values[*slot]),
            }
        }
        text
    }

    /// The slots that occur, ascending.
    pub fn slots(&self) -> BTreeSet<usize> {
        self.pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Slot(slot) => Some(*slot),
                Piece::Literal(_) => None,
            })
            .collect()
    }

    /// The literal text between slots, trimmed.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(literal) => Some(literal.trim()),
            Piece::Slot(_) => None,
        })
    }

    /// Number of different renderings, 1 without slots.
    pub fn combinations(&self, slots: &[Slot]) -> usize {
        self.slots().into_iter().map(|slot| slots[slot].values.len()).product()
    }

    /// Slot values of the rendering with this index (below [`Template::combinations`]); `""` for slots that do not occur.
    pub fn combination<'a>(&self, slots: &'a [Slot], mut index: usize) -> Vec<&'a str> {
        let mut values = vec![""; slots.len()];
        for slot in self.slots() {
            let count = slots[slot].values.len();
            values[slot] = &slots[slot].values[index % count];
            index /= count;
        }
        values
    }

    /// Every word of every rendering.
    pub fn collect_words(&self, slots: &[Slot], words: &mut BTreeSet<String>) {
        for token in self.text.split(' ') {
            // A token has few slots of its own, the whole sentence may have a great many combinations.
            let token = Template::parse(token, slots).expect("its sentence was parsed");
            for index in 0..token.combinations(slots) {
                let text = token.render(&token.combination(slots, index));
                words.extend(text.split_whitespace().map(str::to_string));
            }
        }
    }

    /// A regular expression for every rendering, without anchors; each slot may take any of its values.
    pub fn pattern(&self, slots: &[Slot]) -> String {
        let mut pattern = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => pattern.push_str(&regex::escape(literal)),
                Piece::Slot(slot) => {
                    let values: Vec<String> = slots[*slot].values.iter().map(|value| regex::escape(value)).collect();
                    pattern.push_str(&format!("(?:{})", values.join("|")));
                }
            }
        }
        pattern
    }
}

/// Splits at ` | ` and checks that every alternative is lower case, of words separated by single spaces.
pub fn split_alternatives(text: &str) -> Result<Vec<&str>> {
    let alternatives: Vec<&str> = text.split(" | ").collect();
    for alternative in &alternatives {
        ensure!(!alternative.is_empty(), "`{text}` has an empty alternative"; help: "remove a `|`");
        ensure!(!alternative.contains('|'), "`{alternative}` holds a bare `|`"; help: "separate alternatives with ` | `");
        ensure!(
            alternative.split(' ').all(|word| !word.is_empty() && !word.contains(char::is_whitespace)),
            "`{alternative}` has words that are not separated by single spaces"; help: "put one space between words"
        );
        ensure!(!alternative.contains(char::is_uppercase), "`{alternative}` has upper case"; help: "write lower case");
    }
    Ok(alternatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Vec<Slot> {
        let slot = |name: &str, values: &[&str]| Slot {
            name: name.into(),
            values: values.iter().map(|value| value.to_string()).collect(),
        };
        vec![slot("s", &["a cat", "dogs"]), slot("place", &["rome"])]
    }

    #[test]
    fn lone_braces_are_words_and_named_braces_are_slots() {
        let template = Template::parse("f { id } {place} { {s}", &slots()).unwrap();
        assert_eq!(template.render(&["dogs", "rome"]), "f { id } rome { dogs");
        assert_eq!(template.combinations(&slots()), 2);
        let error = Template::parse("in {plac}", &slots()).unwrap_err();
        assert_eq!(error.to_string(), "`in {plac}` names no slot with `{plac}`\nhelp: write `{place}`");
    }

    #[test]
    fn words_are_those_of_all_renderings() {
        let mut words = BTreeSet::new();
        Template::parse("my {s}'s {place}", &slots()).unwrap().collect_words(&slots(), &mut words);
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["a", "cat's", "dogs's", "my", "rome"]);
    }

    #[test]
    fn alternatives_are_well_spaced_lower_case() {
        assert_eq!(split_alternatives("a b | c").unwrap(), ["a b", "c"]);
        for wrong in ["a | ", "a |b", "a  b", "a B", " a", "a | | b"] {
            assert!(split_alternatives(wrong).is_err(), "{wrong}");
        }
    }
}
