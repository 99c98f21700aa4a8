//! Asks a model how probable it finds each of the choices that questions offer, without sampling anything.

use super::answers::messages;
use super::ask::{Ask, Manner, Purpose, Said, ask_all};
use super::model::{Home, Local, Model};
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Question};
use crate::error::{Error, Result, ensure};
use crate::judge::choice::{Weighed, Weight, weigh_first_token};
use crate::judge::first_token::MOST_TOKENS;
use crate::lab::Lab;
use crate::model::likelihood::{Continuation, log_probabilities_steered};

/// Questions whose choices are weighed together.
const BATCH: usize = 64;

/// What the model thinks of the choices of these questions (numbers in the evaluation, with the key of the answer); each
/// batch is handed to `take` as soon as it is there, by its places in `missing`. A local model tells the probability of whole choices, the end of
/// the answer included; one at a provider that of the first token, so its choices must differ in it.
pub fn weigh_choices(
    lab: &Lab,
    call: Digest,
    model: &Model,
    evaluation: &Evaluation,
    missing: &[(usize, Digest)],
    take: &mut (dyn FnMut(Vec<(usize, Said)>) -> Result<()> + Send),
) -> Result<()> {
    match model.home() {
        _ if missing.is_empty() => Ok(()),
        Home::Local(local) => {
            for (batch, questions) in missing.chunks(BATCH).enumerate() {
                lab.check_cancelled()?;
                let weighed = weigh_here(lab, model, local, evaluation, questions)?;
                take(weighed.into_iter().enumerate().map(|(place, said)| (batch * BATCH + place, said)).collect())?;
            }
            Ok(())
        }
        Home::Remote(_) => {
            let of_place = |place: usize| &evaluation.questions[missing[place].0];
            let mut asks = missing.iter().map(|(number, key)| Ask {
                key: *key,
                messages: messages(&evaluation.questions[*number]),
                sample: 0,
            });
            let manner = Manner {
                temperature: 0.0,
                top_p: 1.0,
                max_tokens: 1,
                alternatives: MOST_TOKENS as u32,
                purpose: Purpose::Sample,
                owner: call,
            };
            ask_all(lab, model, &mut asks, &manner, &mut |batch| {
                let weighed = batch.into_iter().map(|(place, said)| {
                    ensure!(
                        !said.first_token.is_empty(),
                        "`{}` tells no probabilities, so it cannot weigh choices", model.name();
                        help: "sample answers instead: leave `choices` out, and judge what is said"
                    );
                    let text = text_of(&weigh_first_token(of_place(place), &said.first_token))?;
                    Ok((place, Said { text, finish: FINISH.to_string(), ..said }))
                });
                take(weighed.collect::<Result<_>>()?)
            })
        }
    }
}

/// How an answer that weighs choices ends.
const FINISH: &str = "choice";

fn weigh_here(
    lab: &Lab,
    model: &Model,
    local: &Local,
    evaluation: &Evaluation,
    questions: &[(usize, Digest)],
) -> Result<Vec<Said>> {
    let (weights, steering) = model.steered(lab)?;
    let end = local.format.stop().first().copied();
    let tokens_of =
        |choice: &str| -> Vec<u32> { local.format.tokenizer.encode(choice).into_iter().chain(end).collect() };
    let asked = || questions.iter().map(|(number, _)| &evaluation.questions[*number]);
    let mut continuations = Vec::new();
    for question in asked() {
        let prompt = local.format.encode_prompt(&messages(question))?;
        let choices = question.choices.keys();
        continuations
            .extend(choices.map(|choice| Continuation { prompt: prompt.clone(), continuation: tokens_of(choice) }));
    }
    let mut found = log_probabilities_steered(&weights, &continuations, &steering)?.into_iter().zip(&continuations);
    let mut weigh = |question: &Question| {
        let weight = |(choice, (logprob, asked)): (&String, (f64, &Continuation))| {
            let tokens = asked.continuation.len() as u32;
            (choice.clone(), Weight { logprob: Some(logprob), tokens })
        };
        let choices = question.choices.keys().zip(found.by_ref()).map(weight).collect();
        Weighed { choices, whole: true }
    };
    let said = asked().map(|question| {
        let weighed = weigh(question);
        let tokens = weighed.choices.values().map(|weight| weight.tokens).sum();
        let text = text_of(&weighed)?;
        Ok(Said { text, finish: FINISH.to_string(), tokens, logprob: None, first_token: Vec::new() })
    });
    said.collect()
}

fn text_of(weighed: &Weighed) -> Result<String> {
    serde_json::to_string(weighed).map_err(|error| Error::internal(error.to_string()))
}
