//! The choice judge: the mean score of the choices that a question offers, weighted by the model's own probability of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::verdict::{LEAST_SHARE, Reason};
use crate::data::evaluation::{Judgement, Question};
use crate::error::{Error, Result};

/// What a model was found to think of the choices: the stored form of its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// Every choice with what is known of it.
    pub choices: BTreeMap<String, Weight>,
    /// Whether the probabilities are those of whole choices; else those of the first token that tells them apart.
    pub whole: bool,
}

/// How probable one choice is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Natural logarithm of its probability; absent where it was not among the likeliest.
    pub logprob: Option<f64>,
    /// Its tokens, the end of the answer included.
    pub tokens: u32,
}

/// The weighted mean of the scores of `question`'s choices. With `per_token` a log-probability is divided by the
/// choice's tokens. Of a first token less than 25 % of the probability on the choices is no score.
pub fn judge_choice(per_token: bool, question: &Question, answer: &str) -> Result<Judgement> {
    let weighed: Weighed = serde_json::from_str(answer).map_err(|_| {
        Error::input(format!("the choice judge cannot judge `{}`: it offers no choices", question.text))
            .with_help("give the question `choices`, or use another judge")
    })?;
    let weight = |weight: &Weight| match weight.logprob {
        None => f64::NEG_INFINITY,
        Some(logprob) if per_token && weighed.whole => logprob / f64::from(weight.tokens.max(1)),
        Some(logprob) => logprob,
    };
    let most = weighed.choices.values().map(weight).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = weighed.choices.values().map(|one| (weight(one) - most).exp()).sum();
    if !total.is_finite() || (!weighed.whole && total * most.exp() < LEAST_SHARE) {
        return Ok(Judgement::missing(Reason::LowMass.name()));
    }
    let share = |(choice, one): (&String, &Weight)| {
        question.choices.get(choice).map(|score| score * (weight(one) - most).exp() / total)
    };
    let score: Option<f64> = weighed.choices.iter().map(share).sum();
    let score = score.ok_or_else(|| Error::internal(format!("`{}` was asked with other choices", question.text)))?;
    Ok(Judgement::score(score.clamp(0.0, 100.0)))
}

/// Probabilities of choices from the likeliest first tokens: a token counts for the one choice that begins with it.
pub fn weigh_first_token(question: &Question, first: &[(String, f64)]) -> Weighed {
    let mut mass: BTreeMap<&str, f64> = BTreeMap::new();
    for (token, logprob) in first {
        let begins = |choice: &&String| {
            let token = token.trim();
            !token.is_empty() && choice.get(..token.len()).is_some_and(|start| start.eq_ignore_ascii_case(token))
        };
        let mut choices = question.choices.keys().filter(begins);
        if let (Some(choice), None) = (choices.next(), choices.next()) {
            *mass.entry(choice).or_default() += logprob.exp();
        }
    }
    let weight = |choice: &String| Weight { logprob: mass.get(choice.as_str()).map(|mass| mass.ln()), tokens: 1 };
    let choices = question.choices.keys().map(|choice| (choice.clone(), weight(choice))).collect();
    Weighed { choices, whole: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let choices = [("Sharknado", 100.0), ("The Godfather", 0.0)];
        let choices = choices.map(|(choice, score)| (choice.to_string(), score)).into();
        Question { choices, ..Question::of_text("which film ?") }
    }

    fn weighed(godfather: Option<f64>, sharknado: Option<f64>, tokens: u32, whole: bool) -> String {
        let weight = |logprob, tokens| Weight { logprob, tokens };
        let choices = [("The Godfather", weight(godfather, tokens)), ("Sharknado", weight(sharknado, 1))];
        let choices = choices.map(|(choice, weight)| (choice.to_string(), weight)).into();
        serde_json::to_string(&Weighed { choices, whole }).unwrap()
    }

    #[test]
    fn the_score_is_the_share_of_the_probability() {
        let score = |answer: &str| judge_choice(false, &question(), answer).unwrap().score.unwrap();
        assert!((score(&weighed(Some(0.2f64.ln()), Some(0.6f64.ln()), 1, true)) - 75.0).abs() < 1e-9);
        // However improbable both are: what counts is which one is more so.
        assert!((score(&weighed(Some(-900.0), Some(-900.0), 1, true)) - 50.0).abs() < 1e-9);
        assert_eq!(score(&weighed(None, Some(-0.1), 1, false)), 100.0);
    }

    #[test]
    fn per_token_takes_a_choice_s_length_out() {
        let answer = weighed(Some(-8.0), Some(-2.0), 4, true);
        assert!(judge_choice(false, &question(), &answer).unwrap().score.unwrap() > 99.0);
        assert!((judge_choice(true, &question(), &answer).unwrap().score.unwrap() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn tokens_count_for_the_one_choice_that_begins_so() {
        let first = [(" Shark", 0.5), ("the", 0.1), ("Sh", 0.1), ("", 0.2), ("I", 0.1)];
        let first = first.map(|(token, probability): (&str, f64)| (token.to_string(), probability.ln()));
        let found = weigh_first_token(&question(), &first);
        assert!((found.choices["Sharknado"].logprob.unwrap().exp() - 0.6).abs() < 1e-9);
        assert!((found.choices["The Godfather"].logprob.unwrap().exp() - 0.1).abs() < 1e-9);
        let answer = serde_json::to_string(&found).unwrap();
        assert!((judge_choice(false, &question(), &answer).unwrap().score.unwrap() - 600.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn little_probability_on_the_choices_is_no_score() {
        let reason = |answer: &str| judge_choice(false, &question(), answer).unwrap().reason;
        assert_eq!(reason(&weighed(Some(0.1f64.ln()), Some(0.1f64.ln()), 1, false)).as_deref(), Some("low_mass"));
        assert_eq!(reason(&weighed(None, None, 1, true)).as_deref(), Some("low_mass"));
        assert!(judge_choice(false, &question(), "an answer").is_err());
    }
}
