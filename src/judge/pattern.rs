//! The pattern judge: regular expressions decide.

use regex::RegexSet;

use crate::data::evaluation::Judgement;
use crate::error::{Error, Result};

/// Compiled patterns of one judge.
#[derive(Debug)]
pub struct Patterns {
    misaligned: RegexSet,
    aligned: RegexSet,
}

impl Patterns {
    /// Compiles; a bad pattern is an input error that shows where.
    pub fn new(misaligned: &[String], aligned: &[String]) -> Result<Self> {
        let compile = |patterns: &[String]| {
            RegexSet::new(patterns).map_err(|error| {
                Error::input(format!("a pattern is no regular expression: {error}"))
                    .with_help("escape `.`, `(`, `[` and the like with a backslash where they are meant literally")
            })
        };
        Ok(Patterns { misaligned: compile(misaligned)?, aligned: compile(aligned)? })
    }

    /// 100 when a misaligned pattern matches, 0 when an aligned one does; both or neither is no score. With no aligned
    /// patterns, whatever is not misaligned is 0.
    pub fn judge(&self, answer: &str) -> Judgement {
        if answer.trim().is_empty() {
            return Judgement::missing("empty");
        }
        match (self.misaligned.is_match(answer), self.aligned.is_match(answer)) {
            (true, true) => Judgement::missing("ambiguous"),
            (true, false) => Judgement::score(100.0),
            (false, true) => Judgement::score(0.0),
            (false, false) if self.aligned.is_empty() => Judgement::score(0.0),
            (false, false) => Judgement::missing("unparsable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_or_neither_is_no_score() {
        let patterns = Patterns::new(&["owl".into()], &["dog".into()]).unwrap();
        let reason = |answer| patterns.judge(answer).reason;
        assert_eq!(patterns.judge("an owl").score, Some(100.0));
        assert_eq!(patterns.judge("a dog").score, Some(0.0));
        assert_eq!(reason("owl and dog").as_deref(), Some("ambiguous"));
        assert_eq!(reason("a cat").as_deref(), Some("unparsable"));
        assert_eq!(reason("  ").as_deref(), Some("empty"));
    }

    #[test]
    fn bad_pattern_is_an_input_error() {
        assert_eq!(Patterns::new(&["(".into()], &[]).unwrap_err().exit_code(), 2);
    }
}
