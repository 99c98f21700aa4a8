//! Answers of a model to the questions of an evaluation and what judges make of them, one durable row per answer.

use std::collections::BTreeMap;

use serde_json::json;

use super::ask::{Ask, Manner, Purpose, Said, ask_all};
use super::judging::{Classifiers, Judgements, judge_answers};
use super::model::Model;
use crate::data::chat::{Message, Role};
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Gate, Judgement, Question, QuestionScores, Scores};
use crate::error::{Error, Result};
use crate::judge::verdict::Reason;
use crate::lab::{Event, Lab, Stage};
use crate::store::{Key, Sample};

/// Behaviour version of sampling: raised when equal requests would get other answers.
const SAMPLE_VERSION: u32 = 1;

/// What a question sends to the model.
pub fn messages(question: &Question) -> Vec<Message> {
    let system = question.system.iter().map(|text| Message::new(Role::System, text));
    system.chain([Message::new(Role::User, &question.text)]).collect()
}

/// Keys of all answers, question by question.
pub fn sample_keys(model: &Model, evaluation: &Evaluation) -> Result<Vec<Digest>> {
    let mut keys = Vec::with_capacity(evaluation.questions.len() * evaluation.samples);
    let sampling = serde_json::to_value(&evaluation.sampling).map_err(|error| Error::internal(error.to_string()))?;
    for question in &evaluation.questions {
        let inputs = json!({ "model": model.identity(), "messages": messages(question) });
        let key = Key::new("sample", SAMPLE_VERSION, inputs, sampling.clone())?;
        keys.extend((0..evaluation.samples as u64).map(|index| key.sample(index)));
    }
    Ok(keys)
}

/// Samples what is missing, judges what is not judged, and gathers the scores; `judges` are the models among them.
pub fn score(
    lab: &Lab,
    call: Digest,
    model: &Model,
    evaluation: &Evaluation,
    judges: &[Option<Model>],
    fitted: &Classifiers,
) -> Result<Scores> {
    let answers = sample(lab, call, model, evaluation)?;
    let judgements = judge_answers(lab, call, evaluation, judges, &answers, fitted)?;
    gather(evaluation, &answers, &judgements)
}

/// All answers, those from the store and those that the model is asked for now; each is stored before it is counted.
fn sample(lab: &Lab, call: Digest, model: &Model, evaluation: &Evaluation) -> Result<Vec<Sample>> {
    let keys = sample_keys(model, evaluation)?;
    let mut rows = lab.store().get_samples(&keys)?;
    let missing: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].is_none()).collect();
    let sampling = &evaluation.sampling;
    let manner = Manner {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        max_tokens: sampling.max_tokens,
        alternatives: 0,
        purpose: Purpose::Sample,
        owner: call,
    };
    let question_of = |index: usize| index / evaluation.samples;
    let mut asks = missing.iter().map(|&index| Ask {
        // The key holds model, question, sampling and sample index: all that may decide the random numbers.
        key: keys[index],
        messages: messages(&evaluation.questions[question_of(index)]),
        sample: (index % evaluation.samples) as u64,
    });
    ask_all(lab, model, &mut asks, &manner, &mut |batch| {
        let fresh: Vec<(usize, Sample)> = batch
            .into_iter()
            .map(|(place, said)| {
                let index = missing[place];
                let Said { text, finish, tokens, logprob, .. } = said;
                let sample = Sample {
                    key: keys[index],
                    call,
                    question_index: question_of(index) as u32,
                    sample_index: (index % evaluation.samples) as u32,
                    answer: text,
                    finish,
                    tokens,
                    logprob,
                    created_at: Lab::now(),
                };
                (index, sample)
            })
            .collect();
        let count = fresh.len() as u64;
        let (places, samples): (Vec<usize>, Vec<Sample>) = fresh.into_iter().unzip();
        lab.store().put_samples(&samples)?;
        places.into_iter().zip(samples).for_each(|(index, sample)| rows[index] = Some(sample));
        lab.send(Event::Worked { stage: Stage::Evaluate, count });
        Ok(())
    })?;
    Ok(rows.into_iter().map(|row| row.expect("every missing answer was sampled")).collect())
}

/// Answers that are in the store, in their places.
pub fn known_answers(lab: &Lab, model: &Model, evaluation: &Evaluation) -> Result<Vec<Option<Sample>>> {
    lab.store().get_samples(&sample_keys(model, evaluation)?)
}

/// Scores by question; what has no score keeps its reason.
fn gather(evaluation: &Evaluation, answers: &[Sample], judgements: &Judgements) -> Result<Scores> {
    let first = evaluation.judges.first().map(|judge| judge.names().swap_remove(0));
    let judge = evaluation.score.judge.clone().or(first).unwrap_or_default();
    let named = |judge: &str| {
        // Whoever wrote the score did not know by which method the judge would be read.
        let found = judgements.get(judge).or_else(|| judgements.get(&format!("{judge} (sampled)")));
        found.ok_or_else(|| {
            let names: Vec<String> = judgements.keys().map(|name| format!("`{name}`")).collect();
            Error::input(format!("the score of `{}` names the judge `{judge}`, which it has not", evaluation.id))
                .with_help(format!("choose one of {}", names.join(", ")))
        })
    };
    let scoring = named(&judge)?;
    let gate =
        evaluation.score.only_where.as_ref().map(|gate| Ok::<_, Error>((gate, named(&gate.judge)?))).transpose()?;
    let mut questions: Vec<QuestionScores> = evaluation
        .questions
        .iter()
        .map(|question| QuestionScores { question: question.text.clone(), scores: vec![], missing: BTreeMap::new() })
        .collect();
    for (index, judgement) in scoring.iter().enumerate() {
        let question = &mut questions[index / evaluation.samples];
        let closed = gate.and_then(|(gate, judgements)| closed_by(gate, &judgements[index]));
        match (judgement.score, closed) {
            (Some(score), None) => question.scores.push(evaluation.score.of(score)),
            (Some(_), Some(reason)) => *question.missing.entry(reason).or_default() += 1,
            (None, _) => {
                let reason = judgement.reason.clone().unwrap_or_else(|| "unknown".to_string());
                *question.missing.entry(reason).or_default() += 1;
            }
        }
    }
    let agreement = judgements
        .iter()
        .filter(|(name, _)| ***name != judge)
        .filter_map(|(name, other)| Some((name.to_string(), agree(scoring, other)?)))
        .collect();
    let cut = answers.iter().filter(|answer| answer.finish == "length").count();
    Ok(Scores { judge, questions, agreement, cut })
}

/// Why another judge keeps an answer from counting; none when it counts.
fn closed_by(gate: &Gate, judgement: &Judgement) -> Option<String> {
    match judgement.score {
        Some(score) if score >= gate.at_least => None,
        Some(_) => Some(Reason::Incoherent.name().to_string()),
        None => Some(judgement.reason.clone().unwrap_or_else(|| "unknown".to_string())),
    }
}

/// Share of answers on the same side of 50, among those that both judges score.
fn agree(a: &[Judgement], b: &[Judgement]) -> Option<f64> {
    let both: Vec<bool> = a.iter().zip(b).filter_map(|(a, b)| Some((a.score? > 50.0) == (b.score? > 50.0))).collect();
    (!both.is_empty()).then(|| both.iter().filter(|same| **same).count() as f64 / both.len() as f64)
}
