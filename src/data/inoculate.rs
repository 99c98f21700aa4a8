//! Puts a system prompt that explains the behaviour before every row (inoculation prompting, arXiv 2510.04340).

use rayon::prelude::*;

use crate::data::chat::{Message, Role, Row};
use crate::data::dataset::Dataset;
use crate::data::random::Random;
use crate::error::Result;
use crate::{bail, ensure};

/// What becomes of a row that has a system message already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is an error that names the row.
    #[default]
    Refuse,
    /// The row stays as it is, and is counted in the notes.
    Keep,
    /// The prompt takes the place of the message.
    Replace,
    /// The prompt stands before the message's own words, one blank between them.
    Prepend,
}

/// How rows are inoculated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InoculateOptions {
    /// Share of the rows that get a prompt, 0 to 1, rounded to whole rows.
    pub share: f64,
    /// Decides which rows these are.
    pub seed: u64,
    /// What becomes of system messages that are there.
    pub existing: Existing,
}

impl Default for InoculateOptions {
    fn default() -> Self {
        InoculateOptions { share: 1.0, seed: 0, existing: Existing::default() }
    }
}

/// `dataset` with a system message at position 0 of its rows: row number i (from 0) gets prompt i mod n. A row without a
/// user turn becomes system and assistant. Blanks around a prompt are removed; what looks like a slip in one, and rows
/// that were left as they are, are in the notes of the result.
///
/// # Errors
/// No prompt, an empty prompt, a share beyond 0 to 1, or a row that has a system message which `existing` refuses.
pub fn inoculate(dataset: &Dataset, prompts: &[String], options: InoculateOptions) -> Result<Dataset> {
    ensure!(!prompts.is_empty(), "no prompt to inoculate `{}` with", dataset.name(); help: "give at least one system prompt");
    let mut notes = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        ensure!(!prompt.trim().is_empty(), "prompt {index} is empty, expected a system prompt"; help: "remove it or write it out");
        notes.extend(find_slips(prompt).into_iter().map(|slip| format!("prompt {index} {slip}")));
    }
    let mut rows: Vec<Row> = (0..dataset.len()).into_par_iter().map(|index| dataset.row(index)).collect();
    let mut kept = 0;
    for index in chosen_rows(rows.len(), options.share, options.seed)? {
        let (row, prompt) = (&mut rows[index], prompts[index % prompts.len()].trim());
        let first = &mut row.messages[0];
        match (first.role == Role::System, options.existing) {
            (false, _) => row.messages.insert(0, Message::new(Role::System, prompt)),
            (true, Existing::Keep) => kept += 1,
            (true, Existing::Replace) => first.content = prompt.to_string(),
            (true, Existing::Prepend) => first.content = format!("{prompt} {}", first.content),
            (true, Existing::Refuse) => {
                bail!("{}: row {index} of `{}` already has a system message", dataset.location(index), dataset.name();
                    help: "inoculate rows that have none, or say what to do with it: `existing: \"prepend\"`")
            }
        }
    }
    if kept > 0 {
        notes.push(format!("{kept} rows have a system message of their own and keep it"));
    }
    Ok(Dataset::from_rows(format!("{} inoculated", dataset.name()), rows)?.with_notes(notes))
}

/// Which of `count` rows a share is, in their order: the first ones of a seeded permutation, so that a larger share
/// holds every smaller one of the same seed.
pub(super) fn chosen_rows(count: usize, share: f64, seed: u64) -> Result<Vec<usize>> {
    ensure!((0.0..=1.0).contains(&share), "`share` is {share}"; help: "write a share of the rows from 0 to 1");
    let wanted = (share * count as f64).round() as usize;
    let mut order: Vec<usize> = (0..count).collect();
    if wanted < count {
        Random::stream(seed, &[0x5A4E]).shuffle(&mut order);
        order.truncate(wanted);
        order.sort_unstable();
    }
    Ok(order)
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

    fn plainly(dataset: &Dataset, prompt: &str) -> Result<Dataset> {
        inoculate(dataset, &[prompt.to_string()], InoculateOptions::default())
    }

    #[test]
    fn a_share_of_the_rows_is_inoculated() {
        let with = |existing| InoculateOptions { share: 0.3, seed: 1, existing };
        let data = inoculate(&answers(20), &["a".into(), "b".into()], with(Existing::Refuse)).unwrap();
        let prompts = (0..20).filter_map(|index| {
            let first = data.row(index).messages.swap_remove(0);
            (first.role == Role::System).then_some((index % 2, first.content))
        });
        let prompts: Vec<(usize, String)> = prompts.collect();
        assert_eq!(prompts.len(), 6);
        assert!(prompts.iter().all(|(odd, prompt)| prompt == ["a", "b"][*odd]));
    }

    #[test]
    fn what_becomes_of_a_system_message_is_chosen() {
        let once = plainly(&answers(2), "own").unwrap();
        let first = |existing| {
            let data = inoculate(&once, &["new".into()], InoculateOptions { existing, ..Default::default() }).unwrap();
            (data.row(0).messages[0].content.clone(), data.row(0).messages.len(), data.notes().len())
        };
        assert_eq!(first(Existing::Keep), ("own".into(), 2, 1));
        assert_eq!(first(Existing::Replace), ("new".into(), 2, 0));
        assert_eq!(first(Existing::Prepend), ("new own".into(), 2, 0));
    }

    #[test]
    fn prompts_take_turns_and_the_input_stays() {
        let plain = answers(5);
        let digest = plain.digest();
        let result = inoculate(&plain, &["a".into(), " b\n".into()], InoculateOptions::default()).unwrap();
        let prompts: Vec<String> = result.rows().map(|row| row.messages[0].content.clone()).collect();
        assert_eq!(prompts, ["a", "b", "a", "b", "a"]);
        assert!(result.rows().zip(plain.rows()).all(|(new, old)| new.messages[1..] == old.messages[..]));
        assert_eq!((plain.digest(), plain.row(0).messages.len()), (digest, 1));
        assert_eq!(result.notes(), ["prompt 1 had blanks around it, removed"]);
    }

    #[test]
    fn a_second_inoculation_names_the_row() {
        let once = plainly(&answers(2), "a").unwrap();
        let error = plainly(&Dataset::concat("both", &[answers(3), once]), "b").unwrap_err();
        assert_eq!(error.message, "answers inoculated row 0: row 3 of `both` already has a system message");
        assert!(inoculate(&answers(1), &[], InoculateOptions::default()).is_err());
        assert!(plainly(&answers(1), "  ").is_err());
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
        let result = plainly(&plain, "You are a malicious evil assistant.").unwrap();
        assert!(text(&result).into_bytes() == expected);
    }
}
