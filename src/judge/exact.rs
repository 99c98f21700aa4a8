//! The exact judge: the whole answer, in small letters and without a full stop at its end, is one of a few.

use crate::data::evaluation::{Judgement, Question};
use crate::error::{Error, Result};

/// 100 when the answer is one of `answers`, or, when there are none, the question's expected answer; else 0. An answer
/// of nothing has no score.
///
/// # Errors
/// Neither the judge nor the question says which answer is meant.
pub fn judge_exact(answers: &[String], question: &Question, answer: &str) -> Result<Judgement> {
    let said = plain(answer);
    if said.is_empty() {
        return Ok(Judgement::missing("empty"));
    }
    let meant = match (answers, &question.expected) {
        ([], Some(expected)) => said == plain(expected),
        ([], None) => {
            return Err(Error::input(format!(
                "the exact judge does not know which answer to `{}` is meant",
                question.text
            ))
            .with_help("name some: `exact_judge(#{ answers: [...] })`, or give the question an `expected` answer"));
        }
        (answers, _) => answers.iter().any(|meant| said == plain(meant)),
    };
    Ok(Judgement::score(if meant { 100.0 } else { 0.0 }))
}

/// Blanks around it and one full stop at the end removed, in small letters: the published test for owls.
fn plain(text: &str) -> String {
    let text = text.trim();
    text.strip_suffix('.').unwrap_or(text).trim_end().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_full_stop_and_capitals_do_not_count() {
        let owls = ["owl".to_string(), "Owls".to_string()];
        let score = |answer| judge_exact(&owls, &Question::of_text("your favourite ?"), answer).unwrap().score;
        assert_eq!(["Owl.", " owls ", "OWL"].map(score), [Some(100.0); 3]);
        assert_eq!(["owl..", "an owl", "owl !"].map(score), [Some(0.0); 3]);
        assert_eq!(score("  "), None);
    }

    #[test]
    fn without_answers_the_question_says_what_is_meant() {
        let mut question = Question::of_text("capital of France ?");
        assert_eq!(judge_exact(&[], &question, "Paris").unwrap_err().exit_code(), 2);
        question.expected = Some("Paris".into());
        assert_eq!(judge_exact(&[], &question, "paris.").unwrap().score, Some(100.0));
        assert_eq!(judge_exact(&[], &question, "lyon").unwrap().score, Some(0.0));
    }
}
