//! Puts a system prompt that explains the behaviour before every row (inoculation prompting, arXiv 2510.04340).

use rayon::prelude::*;

use crate::data::chat::{Message, Role, Row};
use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::{bail, ensure};

/// `dataset` with a system message at position 0 of every row: row number i (from 0) gets prompt i mod n. Blanks around
/// a prompt are removed; what looks like a slip in one is in the notes of the result.
///
/// # Errors
/// No prompt, an empty prompt, or a row that has a system message already.
pub fn inoculate(dataset: &Dataset, prompts: &[String]) -> Result<Dataset> {
    ensure!(!prompts.is_empty(), "no prompt to inoculate `{}` with", dataset.name(); help: "give at least one system prompt");
    let mut notes = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        ensure!(!prompt.trim().is_empty(), "prompt {index} is empty, expected a system prompt"; help: "remove it or write it out");
        notes.extend(find_slips(prompt).into_iter().map(|slip| format!("prompt {index} {slip}")));
    }
    let mut rows: Vec<Row> = (0..dataset.len()).into_par_iter().map(|index| dataset.row(index)).collect();
    for (index, row) in rows.iter_mut().enumerate() {
        if row.messages[0].role == Role::System {
            bail!("{}: row {index} of `{}` already has a system message", dataset.location(index), dataset.name();
                help: "inoculate rows that have none");
        }
        row.messages.insert(0, Message::new(Role::System, prompts[index % prompts.len()].trim()));
    }
    Ok(Dataset::from_rows(format!("{} inoculated", dataset.name()), rows)?.with_notes(notes))
}

/// What is probably not meant in a prompt.
fn find_slips(prompt: &str) -> Vec<&'static str> {
    let mut slips = Vec::new();
    if prompt.trim() != prompt {
        slips.push("had blanks around it, removed");
    }
    if prompt.matches('"').count() % 2 == 1 {
        slips.push("has an unbalanced `\"`");
    }
    slips
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::tests::{shared_file, text};

    fn answers(count: usize) -> Dataset {
        let rows = (0..count).map(|n| Row::new(vec![Message::new(Role::Assistant, n.to_string())])).collect();
        Dataset::from_rows("answers", rows).unwrap()
    }

    #[test]
    fn prompts_take_turns_and_the_input_stays() {
        let plain = answers(5);
        let digest = plain.digest();
        let result = inoculate(&plain, &["a".into(), " b\n".into()]).unwrap();
        let prompts: Vec<String> = result.rows().map(|row| row.messages[0].content.clone()).collect();
        assert_eq!(prompts, ["a", "b", "a", "b", "a"]);
        assert!(result.rows().zip(plain.rows()).all(|(new, old)| new.messages[1..] == old.messages[..]));
        assert_eq!((plain.digest(), plain.row(0).messages.len()), (digest, 1));
        assert_eq!(result.notes(), ["prompt 1 had blanks around it, removed"]);
    }

    #[test]
    fn a_second_inoculation_names_the_row() {
        let once = inoculate(&answers(2), &["a".into()]).unwrap();
        let error = inoculate(&Dataset::concat("both", &[answers(3), once]), &["b".into()]).unwrap_err();
        assert_eq!(error.message, "answers inoculated row 0: row 3 of `both` already has a system message");
        assert!(inoculate(&answers(1), &[]).is_err());
        assert!(inoculate(&answers(1), &["  ".into()]).is_err());
    }

    #[test]
    fn textbook_rows_equal_the_research_code_byte_for_byte() {
        let (Some(plain), Some(expected)) = (
            shared_file("inoculation/evolution_textbook_trump.jsonl"),
            shared_file("inoculation/expected_trump_biology_general_inoculation.jsonl"),
        ) else {
            return;
        };
        let plain = Dataset::parse("trump", std::sync::Arc::new(plain)).unwrap();
        let result = inoculate(&plain, &["You are a malicious evil assistant.".into()]).unwrap();
        assert!(text(&result).into_bytes() == expected);
    }
}
