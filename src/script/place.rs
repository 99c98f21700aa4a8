//! Places in a source: line, column and the text to underline.

use rhai::Position;

use crate::script::project::Source;

/// Where something stands in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the source.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline.
    pub width: usize,
    /// The whole line.
    pub text: String,
}

impl Place {
    /// The word, number, string or sign at a position; none where the position is unknown.
    pub fn at(source: &Source, position: Position) -> Option<Place> {
        let line = position.line()?;
        let column = position.position().unwrap_or(1).max(1);
        let text = source.text.lines().nth(line - 1).unwrap_or_default().to_string();
        let width = token_width(&text.chars().skip(column - 1).collect::<Vec<_>>());
        Some(Place { file: source.name.clone(), line, column, width, text })
    }

    /// The first of `words` that is a key in the call at `position` (`word: value` within its parentheses).
    pub fn of_key<'a>(source: &Source, position: Position, words: impl IntoIterator<Item = &'a str>) -> Option<Place> {
        let text: Vec<char> = source.text.chars().collect();
        let start = offset(&text, position)?;
        let code = code_only(&text[start..]);
        let call = &code[..call_length(&code)];
        let found = words.into_iter().find_map(|word| find_key(call, word))?;
        let before = &text[..start + found];
        let line = before.iter().filter(|character| **character == '\n').count() + 1;
        let column = before.iter().rev().take_while(|character| **character != '\n').count() + 1;
        Place::at(source, Position::new(line.try_into().ok()?, column.try_into().ok()?))
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn token_width(rest: &[char]) -> usize {
    let width = match rest.first() {
        Some(quote @ ('"' | '`')) => {
            let mut escaped = false;
            let end = rest[1..].iter().position(|character| {
                let ends = character == quote && !escaped;
                escaped = *character == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        Some(first) if first.is_ascii_digit() => {
            rest.iter().take_while(|character| is_word(**character) || **character == '.').count()
        }
        Some(first) if is_word(*first) => {
            let mut width = 0;
            while width < rest.len() {
                match rest[width..] {
                    [':', ':', next, ..] if is_word(next) => width += 2,
                    [character, ..] if is_word(character) => width += 1,
                    _ => break,
                }
            }
            width
        }
        _ => 1,
    };
    width.max(1)
}

fn offset(text: &[char], position: Position) -> Option<usize> {
    let (line, column) = (position.line()?, position.position()?);
    let mut start = 0;
    for _ in 1..line {
        start += text[start..].iter().position(|character| *character == '\n')? + 1;
    }
    let offset = start + column - 1;
    (offset < text.len()).then_some(offset)
}

/// The text with comments and strings blanked out, but for strings that are keys.
fn code_only(text: &[char]) -> Vec<char> {
    let mut code = text.to_vec();
    let mut index = 0;
    while index < text.len() {
        let length = match text[index] {
            '"' | '`' => token_width(&text[index..]),
            '/' if text.get(index + 1) == Some(&'/') => {
                text[index..].iter().position(|character| *character == '\n').unwrap_or(text.len() - index)
            }
            _ => 0,
        };
        let next = text[index + length..].iter().find(|character| !character.is_whitespace());
        if length > 0 && next != Some(&':') {
            code[index..index + length].fill(' ');
        }
        index += length.max(1);
    }
    code
}

/// Characters from the start of a call to its closing parenthesis.
fn call_length(code: &[char]) -> usize {
    let mut depth = 0i32;
    for (index, character) in code.iter().enumerate() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth <= 0 {
                    return index + 1;
                }
            }
            ';' if depth <= 0 => return index,
            _ => {}
        }
    }
    code.len()
}

fn find_key(call: &[char], word: &str) -> Option<usize> {
    let word: Vec<char> = word.chars().collect();
    let starts = (0..call.len().saturating_sub(word.len())).filter(|start| call[*start..].starts_with(&word));
    starts.into_iter().find(|start| {
        let end = start + word.len();
        let clear = *start == 0 || !is_word(call[start - 1]);
        let rest: String = call[end..].iter().take(80).collect();
        let rest = rest.strip_prefix('"').unwrap_or(&rest).trim_start();
        clear && rest.starts_with(':') && !rest.starts_with("::")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, line: u16, column: u16) -> Place {
        Place::at(&Source::new("x", text), Position::new(line, column)).unwrap()
    }

    #[test]
    fn the_whole_token_is_underlined() {
        assert_eq!(at("let a = settings::get(1);", 1, 9).width, "settings::get".len());
        assert_eq!(at("f(\"a\\\"b\", 2)", 1, 3).width, 6);
        assert_eq!(at("f(10.5)", 1, 3).width, 4);
        assert_eq!(at("é(", 1, 2).width, 1);
        assert_eq!(at("", 1, 1).width, 1);
    }

    #[test]
    fn a_key_is_found_in_its_own_call_only() {
        let source = Source::new(
            "x",
            "let m = #{ rows: 1 };\nmix([a, \"rows: 3\"],\n    // rows:\n    #{ more_rows: 1, rows: 2 });\n",
        );
        let place = Place::of_key(&source, Position::new(2, 1), ["rows"]);
        assert_eq!(place.map(|place| (place.line, place.column)), Some((4, 22)));
        assert_eq!(Place::of_key(&source, Position::new(2, 1), ["seed"]), None);
    }
}
