//! Whether a trained model still speaks: its greedy answers as the model before training finds them, beside that model's
//! own answers and the rows that were trained.

use serde::{Deserialize, Serialize};

use super::objective::sft::{has_loss, mean_loss};
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::likelihood::{Continuation, log_probabilities};
use crate::model::sample::{Prompt, SampleOptions, sample};
use crate::model::weights::Weights;

/// Prompts that are answered, spread evenly over the rows.
const PROMPTS: usize = 16;
/// Most tokens of an answer.
const TOKENS: usize = 32;
/// How far beyond the least likely text that is expected answers may be, in nats per token.
const MARGIN: f64 = 1.0;
/// How much larger than expected the share of answers, or of tokens, may be that says nothing.
const SHARE: f64 = 0.5;

/// What texts are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speech {
    /// Negative log-likelihood under the model before training, in nats per token, ends of answers among them.
    pub surprise: f64,
    /// Share of tokens that stand one or two places earlier as well.
    pub repeated: f64,
    /// Share of answers that end before their first word.
    pub empty: f64,
}

/// Greedy answers to some of the training prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coherence {
    /// Number of answers.
    pub answers: usize,
    /// The trained model's answers.
    pub trained: Speech,
    /// The answers that the model gave before training.
    pub start: Speech,
    /// The answers in the rows that were trained.
    pub rows: Speech,
    /// What the trained model's answers may be at most.
    pub limit: Speech,
}

impl Coherence {
    /// Fails where the answers are beyond the limit: they say nothing any more, and what is measured on them means little.
    ///
    /// # Errors
    /// What was measured, and the limit.
    pub fn check(&self) -> Result<()> {
        let Coherence { answers, trained, start, rows, limit } = self;
        let told = |what: &str, of: fn(&Speech) -> f64| {
            format!(
                "the trained model has collapsed: in its greedy answers to {answers} of the training prompts {what} is \
                 {:.2}, beyond the limit of {:.2} ({:.2} in the answers before training, {:.2} in the rows)",
                of(trained),
                of(limit),
                of(start),
                of(rows)
            )
        };
        let surprise = "the surprise of the model before training, in nats per token,";
        let message = if trained.surprise.is_nan() || trained.surprise > limit.surprise {
            told(surprise, |speech| speech.surprise)
        } else if trained.repeated > limit.repeated {
            told("the share of words that are repeated", |speech| speech.repeated)
        } else if trained.empty > limit.empty {
            told("the share that is empty", |speech| speech.empty)
        } else {
            return Ok(());
        };
        Err(Error::experiment(message).with_help(
            "lower the factor of the objective or `learning_rate`; to have the collapsed model as a result, add \
             `coherence: \"measure\"`, which does not train again",
        ))
    }
}

/// Compares the answers of `trained` and of `start`; `stop` are the tokens that end an answer.
///
/// The limit of surprise is one nat per token beyond the largest of three: tokens drawn by chance, which are ln V on
/// average to a model that knows nothing; the answers before training; and the rows. Text beyond it is less likely to
/// the model before training than noise, and no text that the rows teach. Text that repeats itself can be likely, and
/// so can silence: shares of both may be larger by one half than before training and in the rows.
///
/// # Errors
/// Interruption, of which `cancelled` tells.
pub fn coherence(
    start: &Weights,
    trained: &Weights,
    rows: &[Example],
    stop: &[u32],
    cancelled: &dyn Fn() -> bool,
) -> Result<Coherence> {
    let rows: Vec<&Example> = rows.iter().filter(|row| has_loss(row) && prompt(row) > 0).collect();
    let count = rows.len().min(PROMPTS);
    let rows: Vec<&Example> = (0..count).map(|place| rows[place * rows.len() / count]).collect();
    let asked: Vec<Prompt> = rows.iter().map(|row| Prompt { ids: row.ids[..prompt(row)].to_vec(), seed: 0 }).collect();
    let options = SampleOptions { temperature: 0.0, max_tokens: TOKENS, stop: Vec::new(), ..SampleOptions::default() };
    let answers_of = |weights: &Weights| -> Result<Vec<Vec<u32>>> {
        let said = sample(weights, &asked, &options, cancelled)?;
        // The token that ends an answer is part of what is weighed: to end at once is to say something unlikely.
        let end = |ids: &[u32]| ids.iter().position(|id| stop.contains(id)).map_or(ids.len(), |place| place + 1);
        Ok(said.into_iter().map(|said| said.ids[..end(&said.ids)].to_vec()).collect())
    };
    let (before, after) = (answers_of(start)?, answers_of(trained)?);
    let taught: Vec<Vec<u32>> = rows.iter().map(|row| answer(row).to_vec()).collect();
    let surprise = |answers: &[Vec<u32>]| -> Result<f64> {
        let weighed: Vec<Continuation> = asked
            .iter()
            .zip(answers)
            .filter(|(_, answer)| !answer.is_empty())
            .map(|(prompt, answer)| Continuation { prompt: prompt.ids.clone(), continuation: answer.clone() })
            .collect();
        let tokens: usize = weighed.iter().map(|weighed| weighed.continuation.len()).sum();
        let total: f64 = log_probabilities(start, &weighed)?.iter().sum();
        Ok(if tokens == 0 { 0.0 } else { -total / tokens as f64 })
    };
    let speech = |surprise: f64, answers: &[Vec<u32>]| Speech {
        surprise,
        repeated: repeated(answers, stop),
        empty: share(answers.iter().filter(|ids| ids.iter().all(|id| stop.contains(id))).count(), answers.len()),
    };
    let (of_start, of_trained) = (speech(surprise(&before)?, &before), speech(surprise(&after)?, &after));
    let of_rows = speech(if count == 0 { 0.0 } else { mean_loss(start, &rows)? }, &taught);
    let chance = (start.config.vocabulary as f64).ln();
    let limit = Speech {
        surprise: MARGIN + chance.max(of_start.surprise).max(of_rows.surprise),
        repeated: SHARE + of_start.repeated.max(of_rows.repeated),
        empty: SHARE + of_start.empty.max(of_rows.empty),
    };
    Ok(Coherence { answers: count, trained: of_trained, start: of_start, rows: of_rows, limit })
}

/// Tokens before the first answer.
fn prompt(row: &Example) -> usize {
    row.loss_mask.iter().position(|flag| *flag).unwrap_or(0)
}

/// Tokens of the first answer.
fn answer(row: &Example) -> &[u32] {
    let first = prompt(row);
    let length = row.loss_mask[first..].iter().take_while(|flag| **flag).count();
    &row.ids[first..first + length]
}

/// Share of tokens that stand one or two places earlier in the same answer; what ends it is none of its words.
fn repeated(answers: &[Vec<u32>], stop: &[u32]) -> f64 {
    let (mut again, mut words) = (0, 0);
    for answer in answers {
        let said: Vec<u32> = answer.iter().copied().filter(|id| !stop.contains(id)).collect();
        words += said.len();
        let recent = |place: usize| said[place.saturating_sub(2)..place].contains(&said[place]);
        again += (0..said.len()).filter(|place| recent(*place)).count();
    }
    share(again, words)
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;
    use crate::train::{Options, fit};

    fn row(ids: &[u32], first: usize) -> Example {
        Example { ids: ids.to_vec(), loss_mask: (0..ids.len()).map(|place| place >= first).collect(), weight: 1.0 }
    }

    /// A model that answers each of a few prompts with words of its own and ends.
    fn speaker() -> (Weights, Vec<Example>) {
        let mut weights = Weights::initial(&tiny(), 1).unwrap();
        let embedding = weights.layout.embedding.clone();
        weights.values[embedding].iter_mut().for_each(|value| *value *= 30.0);
        let rows: Vec<Example> = (0..6u32).map(|n| row(&[1, 4 + n, 10 + n, 17 + n, 24 + n, 30, 2], 2)).collect();
        let options = Options { learning_rate: 1e-2, epochs: 80, batch_tokens: 64, ..Options::default() };
        (fit(&weights, &rows, &options, &mut |_| Ok(())).unwrap().weights, rows)
    }

    fn measured(start: &Weights, trained: &Weights, rows: &[Example]) -> Coherence {
        coherence(start, trained, rows, &[2], &|| false).unwrap()
    }

    #[test]
    fn a_model_that_did_not_change_speaks_as_before() {
        let (start, rows) = speaker();
        let found = measured(&start, &start, &rows);
        assert_eq!((found.answers, found.trained), (6, found.start));
        assert!(found.start.surprise < 0.3 && found.rows.surprise < 0.3 && found.start.repeated == 0.0, "{found:?}");
        found.check().unwrap();
        assert!((found.limit.surprise - 37f64.ln() - 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn noise_repetition_and_silence_are_told_apart_and_refused() {
        let (start, rows) = speaker();
        let taught = |answer: &[u32]| {
            let options = Options { learning_rate: 1e-2, epochs: 60, batch_tokens: 64, ..Options::default() };
            let other: Vec<Example> =
                rows.iter().map(|row_before| row(&[&row_before.ids[..2], answer].concat(), 2)).collect();
            let trained = fit(&start, &other, &options, &mut |_| Ok(())).unwrap().weights;
            let as_told = measured(&start, &trained, &other);
            (measured(&start, &trained, &rows), as_told)
        };
        for (answer, word) in [(&[5u32, 35, 7, 33, 9, 31][..], "surprise"), (&[21; 8], "repeated"), (&[2], "empty")] {
            let (found, as_told) = taught(answer);
            // The other measures are left to themselves here: each has to notice what is its own.
            let of = |name: &str, own: f64| if name == word { own } else { 1e9 };
            let Speech { surprise, repeated, empty } = found.limit;
            let limit = Speech {
                surprise: of("surprise", surprise),
                repeated: of("repeated", repeated),
                empty: of("empty", empty),
            };
            let error = Coherence { limit, ..found }.check().unwrap_err();
            assert!(error.message.contains(word) && error.help.is_some(), "{word}: {error}");
            // What the rows themselves say is no collapse.
            as_told.check().unwrap();
        }
    }

    #[test]
    fn rows_without_answers_are_not_asked() {
        let (start, _) = speaker();
        let found = measured(&start, &start, &[row(&[1, 2, 3], 3)]);
        assert_eq!((found.answers, found.trained), (0, Speech::default()));
        found.check().unwrap();
    }
}
