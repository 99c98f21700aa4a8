//! Has answers judged, one durable row per judgement; what was judged before is not judged again.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::ask::{Ask, Manner, Purpose, Said, ask_all};
use super::model::Model;
use crate::data::chat::{Message, Role};
use crate::data::digest::Digest;
use crate::data::evaluation::{AskedJudge, Evaluation, Judge, Judgement, Question, Reading, Says};
use crate::data::sheet::Judged;
use crate::error::{Error, Result};
use crate::judge::categorical::Labels;
use crate::judge::first_token::{FirstToken, MOST_TOKENS};
use crate::judge::fused::{Field, Fields};
use crate::judge::probability::Classes;
use crate::judge::template::{Exchange, Template};
use crate::judge::verdict::{Evidence, Reason, Verdict};
use crate::judge::{self, Classifier, Patterns, rating};
use crate::lab::Lab;
use crate::store::{Judgement as JudgementRow, Key, Sample};

/// Classifier judges that were fitted already, by the digests of their rows.
pub type Classifiers = BTreeMap<(Digest, Digest), Classifier>;

/// Judgements by the judge's name, answer by answer.
pub type Judgements = BTreeMap<String, Vec<Judgement>>;

/// Judgements that are looked up or written in one go.
const BATCH: usize = 4096;

/// The judgements of all judges on all answers; `models` are those of the judges, judge by judge.
pub fn judge_answers(
    lab: &Lab,
    call: Digest,
    evaluation: &Evaluation,
    models: &[Option<Model>],
    answers: &[Sample],
    fitted: &Classifiers,
) -> Result<Judgements> {
    let mut judgements = Judgements::new();
    for (judge, model) in evaluation.judges.iter().zip(models) {
        match (judge, model) {
            (Judge::Asked(asked), Some(model)) => {
                judgements.extend(Asking::new(evaluation, asked, answers)?.judge(lab, call, model)?)
            }
            (Judge::Asked(asked), None) => {
                return Err(Error::internal(format!("the judge `{}` came without its model", asked.name)));
            }
            (rule, _) => {
                judgements.insert(rule.names().swap_remove(0), judge_by_rule(lab, evaluation, rule, answers, fitted)?);
            }
        }
    }
    Ok(judgements)
}

/// Calls that the asked judges of an evaluation would still have to make, with the prompts of those calls: for answers
/// that there are, exactly; every answer that is not there yet costs one more.
pub fn missing_calls(
    lab: &Lab,
    evaluation: &Evaluation,
    asked: &AskedJudge,
    answers: &[Sample],
) -> Result<Vec<String>> {
    let asking = Asking::new(evaluation, asked, answers)?;
    let known = asking.look_up(lab)?;
    let calls = asking.calls.iter().zip(known).filter(|(_, known)| known.is_none());
    Ok(calls.flat_map(|(call, _)| std::iter::repeat_n(call.prompt.clone(), asking.samples() as usize)).collect())
}

/// What an answer of an evaluation was an answer to. The place decides: its row may have been made for another
/// evaluation, where the same question stood elsewhere.
fn question_of(evaluation: &Evaluation, index: usize) -> &Question {
    &evaluation.questions[index / evaluation.samples]
}

/// What every judge said of these answers, judge by judge and answer by answer, with its own words where it is a model.
///
/// Fails when an answer was not judged yet.
pub fn read_judged(lab: &Lab, evaluation: &Evaluation, answers: &[Sample]) -> Result<Vec<Vec<Judged>>> {
    let mut all = vec![Vec::new(); answers.len()];
    for judge in &evaluation.judges {
        // Rows of each name, answer by answer, or why there was nothing to judge.
        let keys: Vec<Vec<std::result::Result<Digest, Reason>>> = match judge {
            Judge::Asked(asked) => {
                let asking = Asking::new(evaluation, asked, answers)?;
                let of_name = |name: usize| {
                    asking.call_of.iter().map(|call| call.map(|call| asking.calls[call].rows[name])).collect()
                };
                (0..judge.names().len()).map(of_name).collect()
            }
            rule => vec![rule_keys(evaluation, rule, answers)?],
        };
        for (name, keys) in judge.names().into_iter().zip(keys) {
            let wanted: Vec<Digest> = keys.iter().flatten().copied().collect();
            let mut rows = lab.store().get_judgements(&wanted)?.into_iter();
            for (judged, key) in all.iter_mut().zip(keys) {
                let judge = name.clone();
                judged.push(match key {
                    Err(reason) => Judged { judge, score: None, reason: Some(reason.name().to_string()), detail: None },
                    Ok(_) => {
                        let row = rows.next().flatten();
                        let row = row.ok_or_else(|| Error::internal(format!("`{name}` has not judged an answer")))?;
                        Judged { judge, score: row.score, reason: row.reason, detail: row.detail }
                    }
                });
            }
        }
    }
    Ok(all)
}

/// Keys of a rule's judgements, answer by answer, or why there is nothing to judge.
fn rule_keys(
    evaluation: &Evaluation,
    judge: &Judge,
    answers: &[Sample],
) -> Result<Vec<std::result::Result<Digest, Reason>>> {
    let description = serde_json::to_value(judge).map_err(|error| Error::internal(error.to_string()))?;
    let keys = answers.iter().enumerate().map(|(index, answer)| {
        if let Some(reason) = why_not_answered(answer) {
            return Ok(Err(reason));
        }
        let inputs = json!({ "question": question_of(evaluation, index), "answer": answer.answer });
        Ok(Ok(Key::new("judgement", judge::VERSION, inputs, description.clone())?.digest()))
    });
    keys.collect()
}

fn judge_by_rule(
    lab: &Lab,
    evaluation: &Evaluation,
    judge: &Judge,
    answers: &[Sample],
    fitted: &Classifiers,
) -> Result<Vec<Judgement>> {
    let keys = rule_keys(evaluation, judge, answers)?;
    let patterns = match judge {
        Judge::Pattern { misaligned, aligned } => Some(Patterns::new(misaligned, aligned)?),
        _ => None,
    };
    let name = judge.names().swap_remove(0);
    let mut fresh = BTreeMap::new();
    let mut judgements = Vec::with_capacity(answers.len());
    let wanted: Vec<Digest> = keys.iter().flatten().copied().collect();
    let mut known = lab.store().get_judgements(&wanted)?.into_iter();
    for (index, (answer, key)) in answers.iter().zip(&keys).enumerate() {
        let key = match key {
            Ok(key) => key,
            Err(reason) => {
                judgements.push(Judgement::missing(reason.name()));
                continue;
            }
        };
        if let Some(row) = known.next().flatten() {
            judgements.push(Judgement { score: row.score, reason: row.reason });
            continue;
        }
        let judgement = match judge {
            Judge::Grammar { looks_for } => {
                judge::judge_grammar(*looks_for, question_of(evaluation, index), &answer.answer)?
            }
            Judge::Pattern { .. } => patterns.as_ref().expect("compiled above").judge(&answer.answer),
            Judge::Exact { answers } => judge::judge_exact(answers, question_of(evaluation, index), &answer.answer)?,
            Judge::Choice { per_token } => {
                judge::choice::judge_choice(*per_token, question_of(evaluation, index), &answer.answer)?
            }
            Judge::Classifier { misaligned, aligned } => {
                let classifier = fitted.get(&(*misaligned, *aligned));
                classifier.expect("classifiers are fitted before answers are judged").judge(&answer.answer)
            }
            Judge::Asked(_) => unreachable!("asked judges are no rules"),
        };
        // Equal answers to one question share a judgement, so also a row.
        fresh.entry(*key).or_insert_with(|| JudgementRow {
            key: *key,
            sample: Some(answer.key),
            judge: name.clone(),
            score: judgement.score,
            reason: judgement.reason.clone(),
            detail: None,
        });
        judgements.push(judgement);
    }
    lab.store().put_judgements(&fresh.into_values().collect::<Vec<_>>())?;
    Ok(judgements)
}

/// Why there is no answer, where a reason came instead of one: a filter, a question that is too long.
fn why_not_answered(answer: &Sample) -> Option<Reason> {
    match (answer.answer.is_empty(), answer.finish.as_str()) {
        (false, _) | (true, "stop" | "length") => None,
        (true, "context_length_exceeded") => Some(Reason::TooLong),
        _ => Some(Reason::SamplingFailed),
    }
}

/// What one judge is asked about the answers of an evaluation.
struct Asking<'a> {
    judge: &'a AskedJudge,
    fields: Option<Fields>,
    /// Distinct questions to the judge.
    calls: Vec<Call>,
    /// Number of the call of each answer, or why there is nothing to judge.
    call_of: Vec<std::result::Result<usize, Reason>>,
}

/// One question to the judge, and the rows that its word becomes.
struct Call {
    prompt: String,
    sample: Digest,
    key: Key,
    /// One per name of the judge.
    rows: Vec<Digest>,
}

impl<'a> Asking<'a> {
    fn new(evaluation: &Evaluation, judge: &'a AskedJudge, answers: &[Sample]) -> Result<Self> {
        let template = Template::new(judge.prompt.clone())?;
        let fields = match &judge.says {
            Says::Ratings { ratings } => {
                let field = |rating: &crate::data::evaluation::Rating| Field {
                    name: rating.name.clone(),
                    exceptions: rating.exceptions,
                };
                Some(Fields::new(&judge.name, ratings.iter().map(field).collect())?)
            }
            _ => None,
        };
        let suffix = fields.as_ref().map(Fields::suffix).unwrap_or_default();
        // The name in tables is no part of what is judged, and the template is, in what is sent.
        let described = json!({ "model": judge.model, "says": judge.says, "reading": judge.reading });
        let mut asking = Asking { judge, fields, calls: Vec::new(), call_of: Vec::with_capacity(answers.len()) };
        let mut known: HashMap<Digest, usize> = HashMap::new();
        for (index, answer) in answers.iter().enumerate() {
            if let Some(reason) = why_not_answered(answer) {
                asking.call_of.push(Err(reason));
                continue;
            }
            let question = question_of(evaluation, index);
            let (text, system) = (question.text.as_str(), question.system.as_deref());
            let expected = question.expected.as_deref();
            let exchange = Exchange { question: text, answer: &answer.answer, system, expected };
            let prompt = template.fill(&exchange) + suffix.as_str();
            let key = Key::new("asked_judgement", judge::VERSION, json!({ "prompt": prompt }), described.clone())?;
            let number = *known.entry(key.digest()).or_insert(asking.calls.len());
            if number == asking.calls.len() {
                let rows = match &asking.fields {
                    None => vec![key.digest()],
                    Some(fields) => (0..fields.names().count() as u64).map(|field| key.sample(field)).collect(),
                };
                asking.calls.push(Call { prompt, sample: answer.key, key, rows });
            }
            asking.call_of.push(Ok(number));
        }
        Ok(asking)
    }

    fn names(&self) -> Vec<String> {
        Judge::Asked(self.judge.clone()).names()
    }

    /// Answers of the judge that make one judgement.
    fn samples(&self) -> u32 {
        match self.judge.reading {
            Reading::Logprobs => 1,
            Reading::Sampled { samples, .. } => samples,
        }
    }

    /// Judgements that are there, call by call and name by name.
    fn look_up(&self, lab: &Lab) -> Result<Vec<Option<Vec<Judgement>>>> {
        let mut known = Vec::with_capacity(self.calls.len());
        for calls in self.calls.chunks(BATCH) {
            let keys: Vec<Digest> = calls.iter().flat_map(|call| call.rows.iter().copied()).collect();
            let mut rows = lab.store().get_judgements(&keys)?.into_iter();
            for call in calls {
                let rows: Vec<Option<JudgementRow>> = rows.by_ref().take(call.rows.len()).collect();
                let read = |row: JudgementRow| Judgement { score: row.score, reason: row.reason };
                known.push(rows.into_iter().map(|row| row.map(read)).collect());
            }
        }
        Ok(known)
    }

    fn judge(&self, lab: &Lab, call: Digest, model: &Model) -> Result<Judgements> {
        let mut known = self.look_up(lab)?;
        let missing: Vec<usize> = (0..known.len()).filter(|number| known[*number].is_none()).collect();
        let samples = self.samples() as usize;
        let mut said: HashMap<usize, Vec<Said>> = HashMap::new();
        let asks = missing.iter().flat_map(|&number| (0..samples as u64).map(move |sample| (number, sample))).map(
            |(number, sample)| {
                let call = &self.calls[number];
                // Rows of judgements count from 0, answers of the judge from the other end.
                let key = call.key.sample(u64::MAX - sample);
                Ask { key, messages: vec![Message::new(Role::User, &call.prompt)], sample }
            },
        );
        ask_all(lab, model, &mut asks.into_iter(), &self.manner(call), &mut |batch| {
            let mut rows = Vec::new();
            for (index, answer) in batch {
                let number = missing[index / samples];
                let of_call = said.entry(number).or_default();
                of_call.push(answer);
                if of_call.len() == samples {
                    let of_call = said.remove(&number).expect("it was just there");
                    let verdicts = self.verdicts(&of_call);
                    rows.extend(self.rows(number, &verdicts, &of_call));
                    known[number] = Some(verdicts.iter().map(Verdict::judgement).collect());
                }
            }
            lab.store().put_judgements(&rows)
        })?;
        let judgement = |name: usize, call: std::result::Result<usize, Reason>| match call {
            Err(reason) => Judgement::missing(reason.name()),
            Ok(call) => known[call].as_ref().expect("every call was made")[name].clone(),
        };
        let by_name = self.names().into_iter().enumerate();
        Ok(by_name
            .map(|(name, text)| (text, self.call_of.iter().map(|call| judgement(name, *call)).collect()))
            .collect())
    }

    fn manner(&self, call: Digest) -> Manner {
        let (temperature, max_tokens, alternatives) = match self.judge.reading {
            Reading::Logprobs => (0.0, 1, MOST_TOKENS as u32),
            Reading::Sampled { temperature, max_tokens, .. } => (temperature, max_tokens as usize, 0),
        };
        Manner { temperature, top_p: 1.0, max_tokens, alternatives, purpose: Purpose::Judge, owner: self.owner(call) }
    }

    /// The judging of one evaluation's answers by this judge.
    fn owner(&self, call: Digest) -> Digest {
        Digest::of(format!("{} of {call}", self.judge.name).as_bytes())
    }

    /// What the judge's word means, name by name.
    fn verdicts(&self, said: &[Said]) -> Vec<Verdict> {
        let failed = || Verdict::new(Err(Reason::JudgeFailed), Evidence::Sampled { answers: said.len(), used: 0 });
        let texts: Vec<&str> = said.iter().map(|said| said.text.as_str()).collect();
        if let Some(fields) = &self.fields {
            let mut by_name = fields.judge_answers(&texts);
            return fields.names().map(|name| by_name.remove(name).unwrap_or_else(failed)).collect();
        }
        let first = match self.judge.reading {
            Reading::Sampled { .. } => None,
            // A list that is no distribution is the judge's failure, not the answer's.
            Reading::Logprobs => match FirstToken::new(said[0].first_token.iter().cloned()) {
                Ok(first) if !first.is_empty() => Some(first),
                _ => return vec![failed()],
            },
        };
        let verdict = match &self.judge.says {
            Says::Rating => {
                first.map_or_else(|| rating::rate_answers(&texts), |first| rating::rate_first_token(&first))
            }
            Says::YesOrNo { positive, negative, upstream_none } => {
                let (positive, negative) = (positive.clone(), negative.clone());
                let classes = Classes { positive, negative, upstream_none: *upstream_none };
                first.map_or_else(|| classes.judge_answers(&texts), |first| classes.judge_first_token(&first))
            }
            Says::Label { labels } => match Labels::new(&self.judge.name, labels.clone()) {
                Ok(labels) => {
                    first.map_or_else(|| labels.judge_answers(&texts), |first| labels.judge_first_token(&first))
                }
                Err(_) => failed(),
            },
            Says::Ratings { .. } => failed(),
        };
        vec![verdict]
    }

    fn rows(&self, number: usize, verdicts: &[Verdict], said: &[Said]) -> Vec<JudgementRow> {
        let call = &self.calls[number];
        let texts: Vec<&str> = said.iter().map(|said| said.text.as_str()).collect();
        let detail = |verdict: &Verdict| {
            let mut detail = verdict.detail();
            if let Value::Object(fields) = &mut detail {
                fields.insert("said".to_string(), json!(texts));
            }
            detail.to_string()
        };
        let row = |((key, name), verdict): ((&Digest, String), &Verdict)| {
            let judgement = verdict.judgement();
            JudgementRow {
                key: *key,
                sample: Some(call.sample),
                judge: name,
                score: judgement.score,
                reason: judgement.reason,
                detail: Some(detail(verdict)),
            }
        };
        call.rows.iter().zip(self.names()).zip(verdicts).map(row).collect()
    }
}
