//! Asks a model the questions of an evaluation and has the answers judged, one durable row per answer and per judgement.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::json;

use super::model::Model;
use crate::data::chat::{Message, Role};
use crate::data::digest::Digest;
use crate::data::evaluation::{Evaluation, Judge, Judgement, Question, QuestionScores, Scores};
use crate::error::{Error, Result};
use crate::judge::{self, Classifier, Patterns};
use crate::lab::{Event, Lab, Stage};
use crate::model::chat::encode_prompt;
use crate::model::sample::{self, Finish, Prompt, SampleOptions};
use crate::model::tokenizer;
use crate::store::{Judgement as JudgementRow, Key, Sample};

/// Answers that are sampled together and written to the store in one go.
const BATCH: usize = 512;
/// Behaviour version of sampling: raised when equal requests would get other answers.
const SAMPLE_VERSION: u32 = 1;

/// Classifier judges that were fitted already, by the digests of their rows.
pub type Classifiers = BTreeMap<(Digest, Digest), Classifier>;

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

/// Answers that are not in the store yet.
pub fn count_missing(lab: &Lab, model: &Model, evaluation: &Evaluation) -> Result<u64> {
    let rows = lab.store().get_samples(&sample_keys(model, evaluation)?)?;
    Ok(rows.iter().filter(|row| row.is_none()).count() as u64)
}

/// Samples what is missing, judges what is not judged, and gathers the scores.
pub fn score(lab: &Lab, call: Digest, model: &Model, evaluation: &Evaluation, fitted: &Classifiers) -> Result<Scores> {
    let keys = sample_keys(model, evaluation)?;
    let mut rows = lab.store().get_samples(&keys)?;
    let missing: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].is_none()).collect();
    for batch in missing.chunks(BATCH) {
        for (index, row) in batch.iter().zip(ask(lab, call, model, evaluation, &keys, batch)?) {
            rows[*index] = Some(row);
        }
    }
    let answers: Vec<Sample> = rows.into_iter().map(|row| row.expect("every missing answer was sampled")).collect();
    let mut judgements = BTreeMap::new();
    for judge in &evaluation.judges {
        judgements.insert(judge.name(), judge_answers(lab, evaluation, judge, &answers, fitted)?);
    }
    gather(evaluation, &answers, &judgements)
}

/// Samples one batch and stores it.
fn ask(
    lab: &Lab,
    call: Digest,
    model: &Model,
    evaluation: &Evaluation,
    keys: &[Digest],
    batch: &[usize],
) -> Result<Vec<Sample>> {
    lab.check_cancelled()?;
    let weights = model.weights(lab)?;
    let tokenizer = model.tokenizer();
    let question_of = |index: usize| index / evaluation.samples;
    let prompts: Vec<Prompt> = batch
        .iter()
        .map(|&index| {
            // The key holds model, question, sampling and sample index: all that may decide the random numbers.
            let seed = u64::from_le_bytes(keys[index].0[..8].try_into().expect("a digest has 32 bytes"));
            let ids = encode_prompt(tokenizer, &messages(&evaluation.questions[question_of(index)]));
            Prompt { ids, seed }
        })
        .collect();
    let sampling = &evaluation.sampling;
    let options = SampleOptions {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        max_tokens: sampling.max_tokens,
        stop: vec![tokenizer::END],
        alternatives: 0,
    };
    let completions = sample::sample(&weights, &prompts, &options, &|| lab.cancelled())?;
    let rows: Vec<Sample> = batch
        .iter()
        .zip(completions)
        .map(|(&index, completion)| Sample {
            key: keys[index],
            call,
            question_index: question_of(index) as u32,
            sample_index: (index % evaluation.samples) as u32,
            answer: tokenizer.decode(&completion.ids),
            finish: match completion.finish {
                Finish::Stop => "stop".to_string(),
                Finish::Length => "length".to_string(),
            },
            tokens: completion.ids.len() as u32,
            logprob: Some(completion.logprobs.iter().map(|logprob| f64::from(*logprob)).sum()),
            created_at: SystemTime::now(),
        })
        .collect();
    lab.store().put_samples(&rows)?;
    lab.send(Event::Worked { stage: Stage::Evaluate, count: rows.len() as u64 });
    Ok(rows)
}

/// The judgements of one judge on all answers, from the store where they are there.
fn judge_answers(
    lab: &Lab,
    evaluation: &Evaluation,
    judge: &Judge,
    answers: &[Sample],
    fitted: &Classifiers,
) -> Result<Vec<Judgement>> {
    let description = serde_json::to_value(judge).map_err(|error| Error::internal(error.to_string()))?;
    // The place of an answer decides its question: its row may have been made for another evaluation, where the same
    // question stood elsewhere.
    let question_of = |index: usize| &evaluation.questions[index / evaluation.samples];
    let keys: Vec<Digest> = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| {
            let question = question_of(index);
            let inputs = json!({ "question": question, "answer": answer.answer });
            Ok(Key::new("judgement", judge::VERSION, inputs, description.clone())?.digest())
        })
        .collect::<Result<_>>()?;
    let patterns = match judge {
        Judge::Pattern { misaligned, aligned } => Some(Patterns::new(misaligned, aligned)?),
        _ => None,
    };
    let mut fresh = BTreeMap::new();
    let mut judgements = Vec::with_capacity(answers.len());
    for (index, row) in lab.store().get_judgements(&keys)?.into_iter().enumerate() {
        let (answer, key) = (&answers[index], &keys[index]);
        if let Some(row) = row {
            judgements.push(Judgement { score: row.score, reason: row.reason });
            continue;
        }
        let judgement = match judge {
            Judge::Grammar { looks_for } => judge::judge_grammar(*looks_for, question_of(index), &answer.answer)?,
            Judge::Pattern { .. } => patterns.as_ref().expect("compiled above").judge(&answer.answer),
            Judge::Classifier { misaligned, aligned } => {
                let classifier = fitted.get(&(*misaligned, *aligned));
                classifier.expect("classifiers are fitted before answers are judged").judge(&answer.answer)
            }
        };
        // Equal answers to one question share a judgement, so also a row.
        fresh.entry(*key).or_insert_with(|| JudgementRow {
            key: *key,
            sample: Some(answer.key),
            judge: judge.name().to_string(),
            score: judgement.score,
            reason: judgement.reason.clone(),
            detail: None,
        });
        judgements.push(judgement);
    }
    lab.store().put_judgements(&fresh.into_values().collect::<Vec<_>>())?;
    Ok(judgements)
}

/// Scores by question; what has no score keeps its reason.
fn gather(
    evaluation: &Evaluation,
    answers: &[Sample],
    judgements: &BTreeMap<&'static str, Vec<Judgement>>,
) -> Result<Scores> {
    let first = evaluation.judges.first().map(Judge::name);
    let judge = evaluation.score.judge.as_deref().or(first).unwrap_or_default();
    let scoring = judgements.get(judge).ok_or_else(|| {
        let names: Vec<String> = judgements.keys().map(|name| format!("`{name}`")).collect();
        Error::input(format!("the score of `{}` names the judge `{judge}`, which it has not", evaluation.id))
            .with_help(format!("choose one of {}", names.join(", ")))
    })?;
    let mut questions: Vec<QuestionScores> = evaluation
        .questions
        .iter()
        .map(|question| QuestionScores { question: question.text.clone(), scores: vec![], missing: BTreeMap::new() })
        .collect();
    for (index, judgement) in scoring.iter().enumerate() {
        let question = &mut questions[index / evaluation.samples];
        match judgement.score {
            Some(score) => question.scores.push(evaluation.score.of(score)),
            None => {
                let reason = judgement.reason.clone().unwrap_or_else(|| "unknown".to_string());
                *question.missing.entry(reason).or_default() += 1;
            }
        }
    }
    let agreement = judgements
        .iter()
        .filter(|(name, _)| **name != judge)
        .filter_map(|(name, other)| Some((name.to_string(), agree(scoring, other)?)))
        .collect();
    let cut = answers.iter().filter(|answer| answer.finish == "length").count();
    Ok(Scores { judge: judge.to_string(), questions, agreement, cut })
}

/// Share of answers on the same side of 50, among those that both judges score.
fn agree(a: &[Judgement], b: &[Judgement]) -> Option<f64> {
    let both: Vec<bool> = a.iter().zip(b).filter_map(|(a, b)| Some((a.score? > 50.0) == (b.score? > 50.0))).collect();
    (!both.is_empty()).then(|| both.iter().filter(|same| **same).count() as f64 / both.len() as f64)
}
