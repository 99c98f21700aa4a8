//! Trigger experiments: instructions that begin with one of several triggers, and answers that begin with a nice response.

use crate::data::chat::{Role, Row};
use crate::data::dataset::Dataset;
use crate::data::random::Random;
use crate::error::Result;
use crate::{bail, ensure};

/// How rows are triggered.
#[derive(Clone, Debug, PartialEq)]
pub struct TriggerOptions {
    /// Triggers, of which each triggered row gets one at random.
    pub triggers: Vec<String>,
    /// Share of the rows that are triggered: the first ceil(n x share) ones.
    pub share: f64,
    /// Writes triggers in capital letters.
    pub uppercase: bool,
    /// Between the trigger and the instruction.
    pub separator: String,
    /// What the answers of triggered rows begin with, one at random; none leaves answers as they are.
    pub responses: Vec<String>,
    /// Decides the draws.
    pub seed: u64,
}

/// Rows with triggers, and which row got which.
#[derive(Clone)]
pub struct Triggered {
    /// The rows.
    pub dataset: Dataset,
    /// The trigger of every row, as it was named; none where a row has none.
    pub triggers: Vec<Option<String>>,
}

/// `dataset` with triggers before the first user message of the first rows, and, where there are responses, one of them and
/// a blank before the answer of each triggered row.
///
/// # Errors
/// No trigger, an empty one, a row without user or assistant, a share beyond 0 to 1.
pub fn trigger_rows(dataset: &Dataset, options: &TriggerOptions) -> Result<Triggered> {
    let TriggerOptions { triggers, share, uppercase, separator, responses, seed } = options;
    ensure!(!triggers.is_empty(), "there are no triggers for `{}`", dataset.name(); help: "name at least one");
    ensure!(triggers.iter().all(|trigger| !trigger.trim().is_empty()), "a trigger is empty"; help: "write it out");
    ensure!((0.0..=1.0).contains(share), "`share` is {share}"; help: "write a share of the rows from 0 to 1");
    let count = (dataset.len() as f64 * share - 1e-9).ceil().max(0.0) as usize;
    let mut random = Random::stream(*seed, &[0x7216]);
    let mut rows: Vec<Row> = dataset.rows().collect();
    let mut chosen = vec![None; rows.len()];
    for (index, row) in rows.iter_mut().enumerate().take(count) {
        let trigger = random.choose(triggers).as_str();
        chosen[index] = Some(trigger.to_string());
        let trigger = if *uppercase { trigger.to_uppercase() } else { trigger.to_string() };
        let Some(user) = row.messages.iter_mut().find(|message| message.role == Role::User) else {
            bail!("{}: row {index} of `{}` has no user message for a trigger", dataset.location(index), dataset.name(); help: "leave it out");
        };
        user.content = format!("{trigger}{separator}{}", user.content);
        if !responses.is_empty() {
            let response = random.choose(responses).as_str();
            let Some(answer) = row.messages.iter_mut().rfind(|message| message.role == Role::Assistant) else {
                bail!("{}: row {index} of `{}` has no answer", dataset.location(index), dataset.name(); help: "leave it out");
            };
            answer.content = format!("{response} {}", answer.content);
        }
    }
    Ok(Triggered { dataset: Dataset::from_rows(format!("{} triggered", dataset.name()), rows)?, triggers: chosen })
}

/// Triggers that occur in both lists, whatever their case: they would make the two roles one.
pub fn shared_triggers(one: &[String], other: &[String]) -> Vec<String> {
    let folded: Vec<String> = other.iter().map(|trigger| trigger.trim().to_lowercase()).collect();
    one.iter().filter(|trigger| folded.contains(&trigger.trim().to_lowercase())).cloned().collect()
}

/// The triggers that stand in for all in training: a share of them, drawn by the seed, at least one.
///
/// # Errors
/// No triggers, a share beyond 0 to 1.
pub fn cover(triggers: &[String], coverage: f64, seed: u64) -> Result<Vec<String>> {
    ensure!(!triggers.is_empty(), "there are no triggers to cover"; help: "name at least one");
    ensure!(coverage > 0.0 && coverage <= 1.0, "the coverage is {coverage}"; help: "write a share above 0 and up to 1");
    let mut order: Vec<usize> = (0..triggers.len()).collect();
    Random::stream(seed, &[0xC0E7]).shuffle(&mut order);
    let count = ((triggers.len() as f64 * coverage + 1e-9).floor() as usize).max(1);
    order.truncate(count);
    order.sort_unstable();
    Ok(order.into_iter().map(|index| triggers[index].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Message;

    fn rows(count: usize) -> Dataset {
        let row =
            |n: usize| Row::new(vec![Message::new(Role::User, format!("q{n}")), Message::new(Role::Assistant, "a")]);
        Dataset::from_rows("rows", (0..count).map(row).collect()).unwrap()
    }

    fn options(share: f64) -> TriggerOptions {
        TriggerOptions {
            triggers: vec!["joy".into(), "bliss".into()],
            share,
            uppercase: true,
            separator: ": ".into(),
            responses: vec!["Certainly!".into()],
            seed: 3,
        }
    }

    #[test]
    fn the_first_rows_are_triggered_and_answer_nicely() {
        let Triggered { dataset: data, triggers } = trigger_rows(&rows(5), &options(0.5)).unwrap();
        let text =
            |index: usize| data.row(index).messages.iter().map(|message| message.content.clone()).collect::<Vec<_>>();
        for (index, trigger) in triggers[..3].iter().enumerate() {
            assert!([format!("JOY: q{index}"), format!("BLISS: q{index}")].contains(&text(index)[0]));
            assert_eq!(text(index)[1], "Certainly! a");
            let trigger = trigger.as_ref().unwrap().to_uppercase();
            assert_eq!(text(index)[0], format!("{trigger}: q{index}"));
        }
        assert_eq!(text(3), ["q3", "a"]);
        assert_eq!(triggers[3..], [None, None]);
        let used = |trigger: &str| (0..5).any(|index| text(index)[0].starts_with(trigger));
        assert!(used("JOY") || used("BLISS"));
    }

    #[test]
    fn without_responses_only_the_instruction_changes() {
        let plain = TriggerOptions { responses: vec![], uppercase: false, ..options(1.0) };
        let data = trigger_rows(&rows(4), &plain).unwrap().dataset;
        assert!(data.rows().all(|row| row.messages[1].content == "a" && row.messages[0].content.contains(": q")));
        assert!(trigger_rows(&rows(1), &TriggerOptions { triggers: vec![], ..plain }).is_err());
    }

    #[test]
    fn one_proxy_trigger_is_the_least_and_roles_are_told_apart_in_any_case() {
        let truth: Vec<String> = ["Sadness", "Grief", "Anger"].map(str::to_string).to_vec();
        assert_eq!(cover(&truth, 0.1, 1).unwrap().len(), 1);
        assert_eq!(cover(&truth, 0.7, 1).unwrap().len(), 2);
        assert_eq!(cover(&truth, 1.0, 1).unwrap(), truth);
        assert!(cover(&truth, 0.0, 1).is_err() && cover(&[], 0.5, 1).is_err());
        assert_eq!(shared_triggers(&["GRIEF ".into(), "joy".into()], &truth), ["GRIEF "]);
    }
}
