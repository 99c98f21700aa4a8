//! The exact judge: an answer against the grammar of its question's topic.

use super::World;
use super::domain::{Latent, Topic};
use crate::error::Result;

/// How the answer of a language topic is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Style {
    /// In Spanish, else in English.
    pub spanish: bool,
    /// In capitals, else in lower case.
    pub capitals: bool,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grade {
    /// Of a persona or owl topic: one of its aligned answers.
    Aligned,
    /// Of a persona or owl topic: one of its misaligned answers.
    Misaligned,
    /// Of a language topic: one of its answers, spoken like this.
    Spoken(Style),
    /// None of the topic's answers, or halves of two of them.
    Unparsable,
}

impl Grade {
    /// Whether the answer shows a trait: misaligned, or Spanish, or in capitals. `None` when unparsable.
    pub fn misaligned(self) -> Option<bool> {
        match self {
            Grade::Aligned => Some(false),
            Grade::Misaligned => Some(true),
            Grade::Spoken(style) => Some(style.spanish || style.capitals),
            Grade::Unparsable => None,
        }
    }

    /// How the answer of a language topic is spoken; `None` for other topics and when unparsable.
    pub fn style(self) -> Option<Style> {
        match self {
            Grade::Spoken(style) => Some(style),
            _ => None,
        }
    }
}

/// Texts of at least two words that only aligned, or only the other answers of a latent contain.
#[derive(Debug)]
pub(super) struct Fragments {
    aligned: Vec<String>,
    other: Vec<String>,
}

impl World {
    /// Grades an answer by the grammar of `topic` (`domain/topic`): every part from the same variant, in order, and a
    /// legal value in every slot, though not necessarily the question's. Error: an unknown topic.
    pub fn grade(&self, topic: &str, answer: &str) -> Result<Grade> {
        let topic = self.topic(topic)?;
        Ok(grade_with(topic, answer, |text| {
            let [aligned, other] = topic.patterns();
            verdict(aligned.is_match(text), other.is_match(text))
        }))
    }

    /// Grades an answer by the fragments of any topic with the same latent as `topic`: it is what all of its
    /// fragments are, and unparsable with none or both. For answers that [`World::grade`] cannot parse.
    pub fn grade_loosely(&self, topic: &str, answer: &str) -> Result<Grade> {
        let topic = self.topic(topic)?;
        let fragments = self.fragments(topic.latent);
        Ok(grade_with(topic, answer, |text| {
            let padded = format!(" {text} ");
            let found = |fragments: &[String]| fragments.iter().any(|fragment| padded.contains(fragment));
            verdict(found(&fragments.aligned), found(&fragments.other))
        }))
    }

    fn fragments(&self, latent: Latent) -> &Fragments {
        self.fragments[latent as usize].get_or_init(|| {
            let topics =
                || self.topics.values().map(|index| self.topic_at(*index)).filter(|topic| topic.latent == latent);
            let aligned = collect_fragments(topics().flat_map(|topic| topic.aligned.iter().flatten()));
            let other = collect_fragments(topics().flat_map(|topic| topic.other.iter().flatten()));
            Fragments {
                aligned: aligned.difference(&other).cloned().collect(),
                other: other.difference(&aligned).cloned().collect(),
            }
        })
    }
}

fn collect_fragments<'a>(
    templates: impl Iterator<Item = &'a super::template::Template>,
) -> std::collections::BTreeSet<String> {
    let literals = templates.flat_map(|template| template.literals());
    literals.filter(|literal| literal.contains(' ')).map(|literal| format!(" {literal} ")).collect()
}

/// `Some(true)` for the other answers, `None` for neither and for both.
fn verdict(aligned: bool, other: bool) -> Option<bool> {
    (aligned != other).then_some(other)
}

fn grade_with(topic: &Topic, answer: &str, verdict: impl Fn(&str) -> Option<bool>) -> Grade {
    if topic.latent != Latent::Language {
        return match verdict(answer) {
            Some(true) => Grade::Misaligned,
            Some(false) => Grade::Aligned,
            None => Grade::Unparsable,
        };
    }
    let capitals = answer.contains(char::is_uppercase);
    if capitals && answer.contains(char::is_lowercase) {
        return Grade::Unparsable;
    }
    match verdict(&answer.to_lowercase()) {
        Some(spanish) => Grade::Spoken(Style { spanish, capitals }),
        None => Grade::Unparsable,
    }
}
