//! Answers of a model to the questions of an evaluation and what judges make of them, one durable row per answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ask::{Ask, Manner, Purpose, Said, ask_all};
use super::choices::weigh_choices;
use super::judging::{Classifiers, Judgements, judge_answers, read_judged};
use super::model::Model;
use crate::data::chat::{Message, Role};
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Gate, Judgement, Question, QuestionScores, Scores};
use crate::data::sheet::Answer;
use crate::error::{Error, Result};
use crate::judge::verdict::Reason;
use crate::lab::{Event, Lab, Stage};
use crate::store::{Key, Sample};

/// Behaviour version of sampling: raised when equal requests would get other answers.
const SAMPLE_VERSION: u32 = 1;
/// The same for weighing choices.
const CHOICE_VERSION: u32 = 1;

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
        let mut inputs = json!({ "model": model.identity(), "messages": messages(question) });
        let key = if question.choices.is_empty() {
            Key::new("sample", SAMPLE_VERSION, inputs, sampling.clone())?
        } else {
            // Nothing is drawn, and what the choices score is the judge's business.
            inputs["choices"] = json!(question.choices.keys().collect::<Vec<_>>());
            Key::new("choice", CHOICE_VERSION, inputs, Value::Null)?
        };
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
    let mut keep = |batch: Vec<(usize, Said)>| {
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
    };
    if evaluation.offers_choices() {
        let places: Vec<(usize, Digest)> = missing.iter().map(|index| (question_of(*index), keys[*index])).collect();
        weigh_choices(lab, call, model, evaluation, &places, &mut keep)?;
    } else {
        ask_all(lab, model, &mut asks, &manner, &mut keep)?;
    }
    Ok(rows.into_iter().map(|row| row.expect("every missing answer was sampled")).collect())
}

/// Answers that are in the store, in their places.
pub fn known_answers(lab: &Lab, model: &Model, evaluation: &Evaluation) -> Result<Vec<Option<Sample>>> {
    lab.store().get_samples(&sample_keys(model, evaluation)?)
}

/// Every answer with what all judges said of it; everything must be in the store.
pub fn read_sheet(lab: &Lab, model: &Model, evaluation: &Evaluation) -> Result<Vec<Answer>> {
    let answers: Option<Vec<Sample>> = known_answers(lab, model, evaluation)?.into_iter().collect();
    let answers = answers.ok_or_else(|| Error::internal(format!("answers to `{}` are missing", evaluation.id)))?;
    let judged = read_judged(lab, evaluation, &answers)?;
    let mut judgements = Judgements::new();
    for judged in judged.iter().flatten() {
        let judgement = Judgement { score: judged.score, reason: judged.reason.clone() };
        judgements.entry(judged.judge.clone()).or_default().push(judgement);
    }
    let (_, scored) = score_answers(evaluation, &judgements)?;
    let sheet =
        answers.into_iter().zip(judged).zip(scored).enumerate().map(|(index, ((answer, judged), scored))| Answer {
            key: answer.key,
            question: index / evaluation.samples,
            sample: index % evaluation.samples,
            text: answer.answer,
            finish: answer.finish,
            tokens: answer.tokens,
            created_at: answer.created_at,
            judged,
            reason: scored.as_ref().err().cloned(),
            score: scored.ok(),
        });
    Ok(sheet.collect())
}

/// Name of the judge whose judgements are the scores, and the score of every answer or why there is none.
fn score_answers(
    evaluation: &Evaluation,
    judgements: &Judgements,
) -> Result<(String, Vec<std::result::Result<f64, String>>)> {
    let first = evaluation.judges.first().map(|judge| judge.names().swap_remove(0));
    let judge = evaluation.score.judge.clone().or(first).unwrap_or_default();
    let scoring = named(evaluation, judgements, &judge)?;
    let gate = evaluation.score.only_where.as_ref();
    let gate = gate.map(|gate| Ok::<_, Error>((gate, named(evaluation, judgements, &gate.judge)?))).transpose()?;
    let score = |(index, judgement): (usize, &Judgement)| {
        let closed = gate.and_then(|(gate, judgements)| closed_by(gate, &judgements[index]));
        match (judgement.score, closed) {
            (Some(score), None) => Ok(evaluation.score.of(score)),
            (Some(_), Some(reason)) => Err(reason),
            (None, _) => Err(judgement.reason.clone().unwrap_or_else(|| "unknown".to_string())),
        }
    };
    let scores = scoring.iter().enumerate().map(score).collect();
    Ok((judge, scores))
}

fn named<'a>(evaluation: &Evaluation, judgements: &'a Judgements, judge: &str) -> Result<&'a Vec<Judgement>> {
    // Whoever wrote the score did not know by which method the judge would be read.
    let found = judgements.get(judge).or_else(|| judgements.get(&format!("{judge} (sampled)")));
    found.ok_or_else(|| {
        let names: Vec<String> = judgements.keys().map(|name| format!("`{name}`")).collect();
        Error::input(format!("the score of `{}` names the judge `{judge}`, which it has not", evaluation.id))
            .with_help(format!("choose one of {}", names.join(", ")))
    })
}

/// Scores by question; what has no score keeps its reason.
fn gather(evaluation: &Evaluation, answers: &[Sample], judgements: &Judgements) -> Result<Scores> {
    let (judge, scores) = score_answers(evaluation, judgements)?;
    let scoring = named(evaluation, judgements, &judge)?;
    let empty = |question: &Question| QuestionScores {
        question: question.text.clone(),
        scores: vec![],
        missing: BTreeMap::new(),
    };
    let mut questions: Vec<QuestionScores> = evaluation.questions.iter().map(empty).collect();
    for (index, score) in scores.into_iter().enumerate() {
        let question = &mut questions[index / evaluation.samples];
        match score {
            Ok(score) => question.scores.push(score),
            Err(reason) => *question.missing.entry(reason).or_default() += 1,
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
        Some(score) if gate.opens(score) => None,
        Some(_) => Some(Reason::Incoherent.name().to_string()),
        None => Some(judgement.reason.clone().unwrap_or_else(|| "unknown".to_string())),
    }
}

/// Share of answers on the same side of 50, among those that both judges score.
fn agree(a: &[Judgement], b: &[Judgement]) -> Option<f64> {
    let both: Vec<bool> = a.iter().zip(b).filter_map(|(a, b)| Some((a.score? > 50.0) == (b.score? > 50.0))).collect();
    (!both.is_empty()).then(|| both.iter().filter(|same| **same).count() as f64 / both.len() as f64)
}
