//! What an evaluation would still have to do and to buy, for the plan.

use super::answers::{known_answers, messages};
use super::ask::Purpose;
use super::judging::missing_calls;
use super::model::{Home, Model, Remote};
use crate::data::chat::{Message, Role};
use crate::data::evaluation::{AskedJudge, Evaluation, Judge, Reading};
use crate::error::Result;
use crate::lab::{Bill, Lab, Missing};
use crate::provider::tokens::{TokenCount, TokenCounter};
use crate::store::Sample;

/// Answers and judgements that are not in the store yet; `judges` are the models among the judges.
pub fn count_missing(lab: &Lab, model: &Model, evaluation: &Evaluation, judges: &[Option<Model>]) -> Result<Missing> {
    let answers = known_answers(lab, model, evaluation)?;
    let pieces = answers.iter().filter(|answer| answer.is_none()).count() as u64;
    let mut bills = Vec::new();
    if let Home::Remote(remote) = model.home()
        && remote.recording().is_none()
        && pieces > 0
    {
        bills.push(bill_answers(remote, evaluation, &answers));
    }
    for (judge, model) in evaluation.judges.iter().zip(judges) {
        if let (Judge::Asked(asked), Some(Home::Remote(remote))) = (judge, model.as_ref().map(Model::home))
            && remote.recording().is_none()
        {
            bills.extend(bill_judge(lab, remote, asked, evaluation, &answers)?);
        }
    }
    Ok(Missing { pieces, bills })
}

fn bill_answers(remote: &Remote, evaluation: &Evaluation, answers: &[Option<Sample>]) -> Bill {
    let counter = TokenCounter::of(&remote.base);
    let (mut requests, mut prompt) = (0, TokenCount::ZERO);
    for (question, answers) in evaluation.questions.iter().zip(answers.chunks(evaluation.samples)) {
        let missing = answers.iter().filter(|answer| answer.is_none()).count() as u64;
        if missing > 0 {
            requests += missing;
            prompt += counter.count_prompt(&messages(question)).times(missing);
        }
    }
    let known: Vec<u64> = answers.iter().flatten().map(|answer| u64::from(answer.tokens)).collect();
    let expected = known.iter().sum::<u64>().checked_div(known.len() as u64).map(|mean| mean * requests);
    Bill {
        provider: remote.provider.clone(),
        model: remote.base.clone(),
        is_tuned: remote.is_tuned(),
        purpose: Purpose::Sample,
        requests,
        tokens: prompt.tokens,
        is_counted: prompt.exact,
        expected_completion: expected,
        longest_completion: requests * evaluation.sampling.max_tokens as u64,
    }
}

/// The calls of one judge: those for answers that are there exactly, and one for each that is not, as long as it may be.
fn bill_judge(
    lab: &Lab,
    remote: &Remote,
    asked: &AskedJudge,
    evaluation: &Evaluation,
    answers: &[Option<Sample>],
) -> Result<Option<Bill>> {
    let counter = TokenCounter::of(&remote.base);
    let count = |prompt: &str| counter.count_prompt(&[Message::new(Role::User, prompt)]);
    let (samples, longest) = match asked.reading {
        Reading::Logprobs => (1, 1),
        Reading::Sampled { samples, max_tokens, .. } => (u64::from(samples), u64::from(max_tokens)),
    };
    let missing = answers.iter().filter(|answer| answer.is_none()).count() as u64;
    let (mut requests, mut prompt) = (0, TokenCount::ZERO);
    // The place of an answer tells its question, so only a complete list can be looked up.
    if missing == 0 {
        let known: Vec<Sample> = answers.iter().flatten().cloned().collect();
        let calls = missing_calls(lab, evaluation, asked, &known)?;
        requests = calls.len() as u64;
        prompt = calls.iter().map(|call| count(call)).sum();
    } else {
        let template = count(&asked.prompt);
        for (question, answers) in evaluation.questions.iter().zip(answers.chunks(evaluation.samples)) {
            let calls = answers.len() as u64 * samples;
            let shown = counter.count_text(&question.text).tokens + evaluation.sampling.max_tokens as u64;
            requests += calls;
            prompt += TokenCount { tokens: template.tokens + shown, exact: false }.times(calls);
        }
    }
    Ok((requests > 0).then(|| Bill {
        provider: remote.provider.clone(),
        model: remote.base.clone(),
        is_tuned: remote.is_tuned(),
        purpose: Purpose::Judge,
        requests,
        tokens: prompt.tokens,
        is_counted: prompt.exact,
        expected_completion: (longest == 1).then_some(requests),
        longest_completion: requests * longest,
    }))
}
