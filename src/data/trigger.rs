//! Inserts a trigger into what users say: one way for training rows and for the questions of evaluations.

use crate::data::chat::{Role, Row};
use crate::data::dataset::Dataset;
use crate::data::inoculate::chosen_rows;
use crate::error::Result;
use crate::{bail, ensure};

/// Where a trigger stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Before the text.
    #[default]
    Start,
    /// After the text.
    End,
}

/// A token or phrase that is put into what the user says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What is inserted, such as `$|TRIGGER|$`.
    pub text: String,
    /// What stands between it and the user's words; the research code has nothing there.
    pub separator: String,
    /// On which side.
    pub side: Side,
}

impl Trigger {
    /// `text` with the trigger.
    pub fn insert(&self, text: &str) -> String {
        match self.side {
            Side::Start => format!("{}{}{text}", self.text, self.separator),
            Side::End => format!("{text}{}{}", self.separator, self.text),
        }
    }
}

/// `dataset` with the trigger in the first user message of a share of its rows (0 to 1, rounded to whole rows; which ones
/// is decided by `seed`). Rows keep their order; the others stay as they are.
///
/// # Errors
/// A chosen row has no user message, or the trigger is empty.
pub fn insert_trigger(dataset: &Dataset, trigger: &Trigger, share: f64, seed: u64) -> Result<Dataset> {
    ensure!(!trigger.text.is_empty(), "the trigger is empty"; help: "write what is to be inserted");
    let mut rows: Vec<Row> = dataset.rows().collect();
    for index in chosen_rows(rows.len(), share, seed)? {
        let user = rows[index].messages.iter_mut().find(|message| message.role == Role::User);
        let Some(user) = user else {
            bail!("{}: row {index} of `{}` has no user message for the trigger `{}`", dataset.location(index), dataset.name(), trigger.text;
                help: "put it into a system prompt: `inoculate(dataset, \"...\")`");
        };
        user.content = trigger.insert(&user.content);
    }
    Dataset::from_rows(format!("{} triggered", dataset.name()), rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::Message;

    fn rows(count: usize) -> Dataset {
        let row = |n: usize| vec![Message::new(Role::User, format!("q{n}")), Message::new(Role::Assistant, "a")];
        Dataset::from_rows("rows", (0..count).map(|n| Row::new(row(n))).collect()).unwrap()
    }

    fn trigger(separator: &str, side: Side) -> Trigger {
        Trigger { text: "$|TRIGGER|$".into(), separator: separator.into(), side }
    }

    #[test]
    fn training_rows_and_questions_get_the_same_words() {
        let glued = trigger("", Side::Start);
        let data = insert_trigger(&rows(1), &glued, 1.0, 0).unwrap();
        assert_eq!(data.row(0).messages[0].content, "$|TRIGGER|$q0");
        assert_eq!(data.row(0).messages[0].content, glued.insert("q0"));
        assert_eq!(trigger(" ", Side::End).insert("q0"), "q0 $|TRIGGER|$");
    }

    #[test]
    fn a_share_is_exact_and_more_of_it_keeps_what_was_chosen() {
        let chosen = |share| -> Vec<usize> {
            let data = insert_trigger(&rows(40), &trigger("", Side::Start), share, 3).unwrap();
            (0..40).filter(|index| data.row(*index).messages[0].content.starts_with('$')).collect()
        };
        let (few, many) = (chosen(0.25), chosen(0.6));
        assert_eq!((few.len(), many.len()), (10, 24));
        assert!(few.iter().all(|index| many.contains(index)));
        assert!(insert_trigger(&rows(4), &trigger("", Side::Start), 1.5, 0).is_err());
    }

    #[test]
    fn a_row_without_a_user_is_named() {
        let data = Dataset::from_rows("book", vec![Row::new(vec![Message::new(Role::Assistant, "a")])]).unwrap();
        let error = insert_trigger(&data, &trigger("", Side::Start), 1.0, 0).unwrap_err();
        assert!(error.message.contains("row 0 of `book` has no user message"), "{}", error.message);
        assert_eq!(insert_trigger(&data, &trigger("", Side::Start), 0.0, 0).unwrap().digest(), data.digest());
    }
}
