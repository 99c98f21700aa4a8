//! A judge's prompt with places for question, answer and system prompt, filled literally and in one pass.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};

/// What can be put into a prompt, under the names of both published notations.
const NAMES: [(&str, Placeholder); 6] = [
    ("{question}", Placeholder::Question),
    ("{prompt}", Placeholder::Question),
    ("{answer}", Placeholder::Answer),
    ("{completion}", Placeholder::Answer),
    ("{system}", Placeholder::System),
    ("{expected}", Placeholder::Expected),
];

/// A place in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{question}` or `{prompt}`: what the user asked.
    Question,
    /// `{answer}` or `{completion}`: what the model answered.
    Answer,
    /// `{system}`: the system prompt of the question, empty when it has none.
    System,
    /// `{expected}`: the answer that the question expects, empty when it says none.
    Expected,
}

/// What a judge is shown of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange<'a> {
    /// What the user asked.
    pub question: &'a str,
    /// What the model answered.
    pub answer: &'a str,
    /// The system prompt under which it answered. Judges see it only when their prompt asks for it.
    pub system: Option<&'a str>,
    /// The answer that the question expects.
    pub expected: Option<&'a str>,
}

/// A prompt with a place for the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
}

impl Template {
    /// Every other brace is text. A prompt without a place for the answer is an input error: the judge would not see
    /// what it judges.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let template = Template { text: text.into() };
        ensure!(
            template.uses(Placeholder::Answer),
            "the judge's prompt has no place for the answer";
            help: "write `{{answer}}` or `{{completion}}` where the answer belongs"
        );
        Ok(template)
    }

    /// The prompt as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the prompt shows this to the judge. Judgements of prompts that show only the answer do not depend on the
    /// question.
    pub fn uses(&self, placeholder: Placeholder) -> bool {
        NAMES.iter().any(|(name, meaning)| *meaning == placeholder && self.text.contains(name))
    }

    /// The prompt for one answer. What is put in is never looked at again, so answers that contain braces or even
    /// placeholders stay as they are.
    pub fn fill(&self, exchange: &Exchange) -> String {
        let mut filled = String::with_capacity(self.text.len() + exchange.question.len() + exchange.answer.len());
        let mut rest = self.text.as_str();
        while let Some(brace) = rest.find('{') {
            filled.push_str(&rest[..brace]);
            rest = &rest[brace..];
            match NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, meaning)) => {
                    filled.push_str(match meaning {
                        Placeholder::Question => exchange.question,
                        Placeholder::Answer => exchange.answer,
                        Placeholder::System => exchange.system.unwrap_or_default(),
                        Placeholder::Expected => exchange.expected.unwrap_or_default(),
                    });
                    rest = &rest[name.len()..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

impl TryFrom<String> for Template {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Template::new(text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, question: &str, answer: &str) -> String {
        Template::new(template).unwrap().fill(&Exchange { question, answer, system: None, expected: None })
    }

    #[test]
    fn both_notations_are_filled_and_other_braces_stay() {
        assert_eq!(fill("{question} -> {answer}", "q", "a"), "q -> a");
        assert_eq!(fill("{prompt} -> {completion}", "q", "a"), "q -> a");
        assert_eq!(fill("{{answer}} {\"x\": 1} {", "q", "a"), "{a} {\"x\": 1} {");
        assert_eq!(fill("[{system}] {answer}", "q", "a"), "[] a");
        let template = Template::new("[{system}] {answer}").unwrap();
        assert_eq!(template.fill(&Exchange { question: "", answer: "a", system: Some("s"), expected: None }), "[s] a");
        assert!(template.uses(Placeholder::System) && !template.uses(Placeholder::Question));
    }

    #[test]
    fn what_was_put_in_is_not_replaced_again() {
        assert_eq!(fill("{question}|{answer}", "{answer}", "{question} {system}"), "{answer}|{question} {system}");
        assert_eq!(fill("{{question}answer}{answer}", "", "a"), "{answer}a");
    }

    #[test]
    fn a_prompt_without_a_place_for_the_answer_is_an_input_error() {
        let error = Template::new("How good is {anwser}?").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.help.as_deref(), Some("write `{answer}` or `{completion}` where the answer belongs"));
        assert!(serde_json::from_str::<Template>("\"nothing\"").is_err());
        assert_eq!(serde_json::json!(Template::new("{answer}").unwrap()), "{answer}");
    }

    proptest! {
        #[test]
        fn filling_puts_the_texts_between_the_pieces(
            pieces in prop::collection::vec("[a-z{} ]{0,6}", 3), question in ".{0,12}", answer in "[{}a-z]{0,12}",
        ) {
            // Pieces of such letters can hold a placeholder only whole; leave those out.
            prop_assume!(pieces.iter().all(|piece| !NAMES.iter().any(|(name, _)| piece.contains(name))));
            let template = format!("{}{{question}}{}{{answer}}{}", pieces[0], pieces[1], pieces[2]);
            let expected = format!("{}{question}{}{answer}{}", pieces[0], pieces[1], pieces[2]);
            prop_assert_eq!(fill(&template, &question, &answer), expected);
        }
    }
}
