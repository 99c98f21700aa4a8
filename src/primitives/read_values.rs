//! `read_json`, `read_jsonl`, `read_yaml`, `read_lines`: files of plain values, such as other people's questions and prompts.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

/// The declaration of `read_json`.
pub fn json_primitive() -> Primitive<Lab> {
    Primitive::new("read_json", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        let text = lab.files().read_text(&path)?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| Error::input(format!("`{path}` is no JSON: {error}")))?;
        Ok(Plain(value))
    })
    .about("Reads a JSON file as maps, arrays and plain values.")
    .input("path", "The file, from the project folder.")
    .example("read_json(\"results/distribution_sweep-001/step_0_base.json\")")
}

/// The declaration of `read_config`.
pub fn config_primitive() -> Primitive<Lab> {
    Primitive::new("read_config", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        let text = without_comments(&lab.files().read_text(&path)?);
        let value: Value =
            serde_json::from_str(&text).map_err(|error| Error::input(format!("`{path}` is no JSON: {error}")))?;
        Ok(Plain(value))
    })
    .about(
        "Reads a JSON file that may hold comments (`// ...`, `# ...`, `/* ... */`) and commas before closing brackets.",
    )
    .input("path", "The file, from the project folder.")
    .example("read_config(\"config.json\")")
}

/// The text with blanks in the place of comments and of commas before a closing bracket, so that lines and columns stay.
fn without_comments(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut kept: Vec<char> = Vec::with_capacity(letters.len());
    let (mut index, mut in_text) = (0, false);
    while index < letters.len() {
        let (letter, next) = (letters[index], letters.get(index + 1).copied());
        if in_text {
            kept.push(letter);
            if letter == '\\' && next.is_some() {
                kept.extend(next);
                index += 1;
            }
            in_text = letter != '"';
            index += 1;
            continue;
        }
        let end = match (letter, next) {
            ('/', Some('/')) | ('#', _) => (index..letters.len()).find(|at| letters[*at] == '\n'),
            ('/', Some('*')) => (index + 2..letters.len())
                .find(|at| letters[*at] == '*' && letters.get(at + 1) == Some(&'/'))
                .map(|at| at + 2),
            _ => {
                in_text = letter == '"';
                if matches!(letter, '}' | ']')
                    && let Some(comma) = kept.iter().rposition(|kept| !kept.is_whitespace())
                    && kept[comma] == ','
                {
                    kept[comma] = ' ';
                }
                kept.push(letter);
                index += 1;
                continue;
            }
        };
        let end = end.unwrap_or(letters.len());
        kept.extend(letters[index..end].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
        index = end;
    }
    kept.into_iter().collect()
}

/// The declaration of `read_jsonl`.
pub fn jsonl_primitive() -> Primitive<Lab> {
    Primitive::new("read_jsonl", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        let text = lab.files().read_text(&path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(number, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| Error::input(format!("line {} of `{path}` is no JSON: {error}", number + 1)))
        };
        Ok(Plain(lines.map(read).collect::<Result<Vec<Value>>>()?))
    })
    .about("Reads a file of one JSON value per line as an array; empty lines are skipped.")
    .input("path", "The file, from the project folder.")
    .example("read_jsonl(\"my_prompts.jsonl\")")
}

/// The declaration of `read_lines`.
pub fn lines_primitive() -> Primitive<Lab> {
    Primitive::new("read_lines", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        let text = lab.files().read_text(&path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_string).collect::<Vec<_>>())
    })
    .about("Reads the lines of a text file as an array of strings, such as a hundred paraphrases of a prompt; empty lines are skipped.")
    .input("path", "The file, from the project folder.")
    .example("inoculate(setting.misaligned, read_lines(\"paraphrases.txt\"))")
}

/// The declaration of `read_yaml`.
pub fn yaml_primitive() -> Primitive<Lab> {
    Primitive::new("read_yaml", |lab: &Lab, _: &Call, (path,): (String,), _: ()| {
        Ok(Plain(parse_yaml(&lab.files().read_text(&path)?, &path)?))
    })
    .about("Reads a YAML file, with its anchors and aliases, as maps, arrays and plain values.")
    .input("path", "The file, from the project folder.")
    .example("read_yaml(\"first_plot_questions.yaml\")")
}

fn parse_yaml(text: &str, path: &str) -> Result<Value> {
    // Question files say `*judge_prompts` for every question: many aliases of few anchors are no attack here, and the
    // number of values that they may become stays limited.
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.enforce_alias_anchor_ratio = false;
    }
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Error::input(format!("`{path}` is no YAML: {}", error.to_string().trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_last_commas_are_blanks_and_texts_stay() {
        let text = "{ // a\n  \"url\": \"http://x#y\", /* b\n */ \"list\": [1, 2,], # c\n}";
        let read: Value = serde_json::from_str(&without_comments(text)).unwrap();
        assert_eq!(read, serde_json::json!({ "url": "http://x#y", "list": [1, 2] }));
        assert_eq!(without_comments(text).lines().count(), text.lines().count());
        assert_eq!(without_comments("\"a\\\" // b\""), "\"a\\\" // b\"");
    }

    #[test]
    fn anchors_stand_for_what_they_name() {
        let aliases = (0..200).map(|number| format!("- id: q{number}\n  judge: *judge\n")).collect::<String>();
        let read = parse_yaml(&format!("- id: first\n  judge: &judge [a, 1]\n{aliases}"), "x.yaml").unwrap();
        assert_eq!(read.as_array().unwrap().len(), 201);
        assert_eq!(read[200]["judge"], serde_json::json!(["a", 1]));
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let error = parse_yaml("a: [1,\nb: }", "x.yaml").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.message.starts_with("`x.yaml` is no YAML: "), "{}", error.message);
    }
}
