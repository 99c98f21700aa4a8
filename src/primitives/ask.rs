//! Puts questions to a model, wherever it lives, and hands every answer on as soon as it is there.

use std::sync::mpsc;

use serde_json::json;

use super::ask_batch::ask_in_batches;
use super::model::{Home, Local, Model, Remote};
use super::till::{Payable, Till};
use crate::data::chat::Message;
use crate::data::digest::Digest;
use crate::engine::Turn;
use crate::error::{Error, Kind, Result};
use crate::lab::{Call, Lab, Missing, Stage};
use crate::model::forward::Prepared;
use crate::model::sample::{Finish, Prompt, SampleOptions};
use crate::model::sample_shared::sample_shared;
use crate::provider::ask_many::ask_many;
pub use crate::provider::budget::Purpose;
use crate::provider::capability::{self, Capabilities};
use crate::provider::chat::ChatAnswer;
use crate::provider::fault::{Class, Fault};
use crate::provider::replay::Replay;
use crate::provider::wire::chat::ChatRequest;
use crate::store::{Key, Response};

/// Questions that a local model answers together, and answers that are handed on together at most.
const BATCH: usize = 512;
/// Calls without any answer after which a provider is asked no more.
const HOPELESS: usize = 5;

/// One question.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Under which its answer is remembered; decides the random numbers.
    pub key: Digest,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Which of several answers to the same question, from 0.
    pub sample: u64,
}

/// How an answer is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// 0 is greedy.
    pub temperature: f64,
    /// Smallest set of tokens that reaches this share of the probability.
    pub top_p: f64,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// Likeliest first tokens that are told with the answer, at most 20; 0 asks for none.
    pub alternatives: u32,
    /// What the answer is for.
    pub purpose: Purpose,
    /// What it is asked for: a batch is taken up again by whoever asks for the same.
    pub owner: Digest,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// The text.
    pub text: String,
    /// stop, length, or why there is no answer.
    pub finish: String,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Natural logarithm of the answer's probability, where it is known.
    pub logprob: Option<f64>,
    /// The likeliest first tokens with their log-probabilities, where they were asked for and told.
    pub first_token: Vec<(String, f64)>,
}

/// What takes answers: numbers of the questions, from 0, with what was said.
pub type Taker<'a> = dyn FnMut(Vec<(usize, Said)>) -> Result<()> + Send + 'a;
/// The same, borrowed.
pub type Take<'a> = &'a mut Taker<'a>;

/// Asks everything, and gives each answer to `take` once, in any order. Whatever `take` has stored stays when a later
/// call fails: one failed call never costs another.
///
/// # Errors
/// What stopped the asking, or, when all was asked, how many calls failed and why the first of them did.
pub fn ask_all(
    lab: &Lab,
    model: &Model,
    asks: &mut (dyn Iterator<Item = Ask> + Send),
    manner: &Manner,
    take: Take,
) -> Result<()> {
    // A model is not looked for when there is nothing to ask: what is in the store needs neither weights nor keys.
    let mut asks = asks.peekable();
    if asks.peek().is_none() {
        return Ok(());
    }
    match model.home() {
        Home::Local(local) => ask_local(lab, model, local, &mut asks, manner, take),
        Home::Remote(remote) => match remote.recording() {
            Some(recording) => ask_recording(recording, &mut asks, manner, take),
            None => ask_provider(lab, remote, &mut asks, manner, take),
        },
    }
}

/// Whether a model tells the likeliest tokens of its answers; asked once per model and remembered. When planning, a
/// model that was never asked is taken to.
pub fn knows_logprobs(lab: &Lab, model: &Model) -> Result<bool> {
    let Home::Remote(remote) = model.home() else { return Ok(true) };
    if remote.recording().is_some() {
        return Ok(true);
    }
    match lab.wait(&find_capabilities(lab, remote)?) {
        Ok(found) => {
            let capabilities: Capabilities = serde_json::from_value((*found).clone())
                .map_err(|error| Error::internal(format!("stored capabilities cannot be read: {error}")))?;
            Ok(capabilities.logprobs)
        }
        Err(error) if error.kind == Kind::NotRun => Ok(true),
        Err(error) => Err(error),
    }
}

/// What a server can do with a model, found out by a few tiny calls.
fn find_capabilities(lab: &Lab, remote: &Remote) -> Result<crate::engine::deferred::Deferred<serde_json::Value>> {
    let settings = lab.provider(&remote.provider)?;
    let inputs = json!({ "address": settings.base_url(), "model": remote.base });
    let (provider, base) = (remote.provider.clone(), remote.base.clone());
    lab.call(Call {
        key: Key::new("capabilities", 1, inputs, serde_json::Value::Null)?,
        options: serde_json::Value::Null,
        label: format!("what {base} can do"),
        stage: Stage::Judge,
        turn: Turn::Wait,
        missing: Box::new(|_| Ok(Missing::from(1))),
        after: vec![],
        work: Box::new(move |lab| {
            let chat = lab.chat(&provider)?;
            let found = lab.block_on(capability::probe(&chat, &base));
            let found = found.map_err(|fault| fault.into_error(&provider))?;
            serde_json::to_value(found).map_err(|error| Error::internal(error.to_string()))
        }),
    })
}

fn ask_local(
    lab: &Lab,
    model: &Model,
    local: &Local,
    asks: &mut dyn Iterator<Item = Ask>,
    manner: &Manner,
    take: Take,
) -> Result<()> {
    let (weights, steering) = model.steered(lab)?;
    let options = SampleOptions {
        temperature: manner.temperature,
        top_p: manner.top_p,
        max_tokens: manner.max_tokens,
        stop: local.format.stop().to_vec(),
        alternatives: manner.alternatives as usize,
    };
    let prepared = Prepared::new(&weights)?;
    let mut first = 0;
    loop {
        let prompts: Vec<Prompt> = asks
            .take(BATCH)
            .map(|ask| {
                let seed = u64::from_le_bytes(ask.key.0[..8].try_into().expect("a digest has 32 bytes"));
                Ok(Prompt { ids: local.format.encode_prompt(&ask.messages)?, seed })
            })
            .collect::<Result<_>>()?;
        if prompts.is_empty() {
            return Ok(());
        }
        let count = prompts.len();
        // A question that leaves no room for an answer has none, as at a provider.
        let (fitting, prompts): (Vec<usize>, Vec<Prompt>) =
            prompts.into_iter().enumerate().filter(|(_, prompt)| prompt.ids.len() < local.config.context).unzip();
        lab.check_cancelled()?;
        let completions =
            sample_shared((&weights, &prepared), &prompts, &options, &steering, lab.threads(), &|| lab.cancelled())?;
        let word = |(id, logprob): &(u32, f32)| (local.format.tokenizer.decode(&[*id]), f64::from(*logprob));
        let said = completions.into_iter().map(|completion| Said {
            text: local.format.tokenizer.decode(&completion.ids),
            finish: match completion.finish {
                Finish::Stop => "stop".to_string(),
                Finish::Length => "length".to_string(),
            },
            tokens: completion.ids.len() as u32,
            logprob: Some(completion.logprobs.iter().map(|logprob| f64::from(*logprob)).sum()),
            first_token: completion
                .alternatives
                .first()
                .map(|first| first.iter().map(word).collect())
                .unwrap_or_default(),
        });
        let mut batch: Vec<(usize, Said)> = fitting.iter().map(|place| first + place).zip(said).collect();
        batch.extend((0..count).filter(|place| !fitting.contains(place)).map(|place| (first + place, too_long())));
        first += count;
        take(batch)?;
    }
}

/// What stands for an answer to a question that is longer than the model reads.
fn too_long() -> Said {
    let finish = "context_length_exceeded".to_string();
    Said { text: String::new(), finish, tokens: 0, logprob: None, first_token: Vec::new() }
}

fn ask_recording(replay: &Replay, asks: &mut dyn Iterator<Item = Ask>, manner: &Manner, take: Take) -> Result<()> {
    for (index, ask) in asks.enumerate() {
        let sample = ask.sample;
        let answer = replay.ask(&request("replay", ask, manner), sample)?;
        take(vec![(index, said(answer))])?;
    }
    Ok(())
}

fn ask_provider(
    lab: &Lab,
    remote: &Remote,
    asks: &mut (dyn Iterator<Item = Ask> + Send),
    manner: &Manner,
    take: Take,
) -> Result<()> {
    let chat = lab.chat(&remote.provider)?;
    let model = remote.asked_name(lab)?.ok_or_else(|| Error::internal("recorded answers have no provider"))?;
    if chat.endpoint().settings().batch {
        return ask_in_batches(lab, chat.endpoint(), remote, &model, asks, manner, take);
    }
    let till = Till::new(lab, remote, model, manner)?;
    let mut requests = Payable::new(&till, asks);
    let (mut failures, mut successes, mut first_failure) = (0usize, 0usize, None);
    let (sender, receiver) = mpsc::sync_channel::<(usize, Digest, ChatAnswer)>(4 * BATCH);
    let provider = remote.provider.as_str();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_answers(lab, &receiver, take));
        let asked = lab.block_on(ask_many(
            &chat,
            &mut requests,
            |index, outcome| {
                let key = till.settle(index, &outcome)?;
                let answer = match outcome {
                    Ok(answer) => answer,
                    Err(fault) => match as_data(&fault) {
                        Some(answer) => answer,
                        None => {
                            failures += 1;
                            let is_hopeless = matches!(fault.class, Class::NotFound | Class::Forbidden);
                            if is_hopeless || (successes == 0 && failures >= HOPELESS) {
                                return Err(fault.into_error(provider));
                            }
                            first_failure.get_or_insert(fault);
                            return Ok(());
                        }
                    },
                };
                successes += 1;
                sender.send((index, key, answer)).map_err(|_| Error::internal("answers are not written any more"))
            },
            &|| lab.cancelled(),
        ));
        drop(sender);
        // What could not be stored is the first thing to know; it also ends the asking.
        writer.join().map_err(|_| Error::internal("the writer of answers panicked"))??;
        asked
    })?;
    match first_failure {
        None => requests.refused().map_or(Ok(()), Err),
        Some(fault) => {
            let error = fault.into_error(provider);
            Err(match successes {
                0 => error,
                _ => error.context(format!("{failures} of {} calls failed, the others are kept", failures + successes)),
            })
        }
    }
}

/// Stores what came while the last store was under way, so that a kill loses only what had just arrived.
fn write_answers(lab: &Lab, receiver: &mpsc::Receiver<(usize, Digest, ChatAnswer)>, take: Take) -> Result<()> {
    while let Ok(first) = receiver.recv() {
        let mut batch = vec![first];
        batch.extend(receiver.try_iter().take(BATCH - 1));
        keep_answers(lab, batch, take)?;
    }
    Ok(())
}

/// Stores what was paid for, and hands it on.
pub fn keep_answers(lab: &Lab, batch: Vec<(usize, Digest, ChatAnswer)>, take: &mut Taker) -> Result<()> {
    // The bodies first: a row that is there can always be traced to what was paid for.
    let responses: Vec<Response> = batch
        .iter()
        .map(|(_, key, answer)| Response {
            key: *key,
            body: String::from_utf8_lossy(&answer.raw).into_owned(),
            request_id: answer.request_id.clone(),
            created_at: Lab::now(),
        })
        .collect();
    lab.store().put_responses(&responses)?;
    take(batch.into_iter().map(|(index, _, answer)| (index, said(answer))).collect())
}

/// The request for one question.
pub fn request(model: &str, ask: Ask, manner: &Manner) -> ChatRequest {
    // Servers differ in how large a seed may be; 31 bits are always fine.
    let seed = u32::from_le_bytes(ask.key.0[..4].try_into().expect("a digest has 32 bytes")) >> 1;
    let alternatives = (manner.alternatives > 0).then_some(manner.alternatives);
    ChatRequest {
        model: model.to_string(),
        messages: ask.messages,
        temperature: Some(manner.temperature),
        top_p: (manner.top_p < 1.0).then_some(manner.top_p),
        max_completion_tokens: Some(manner.max_tokens as u64),
        max_tokens: None,
        seed: Some(u64::from(seed)),
        logprobs: alternatives.map(|_| true),
        top_logprobs: alternatives,
    }
}

fn said(answer: ChatAnswer) -> Said {
    let logprobs = answer.logprobs.unwrap_or_default();
    let first = logprobs.first().map(|first| first.top_logprobs.as_slice()).unwrap_or_default();
    Said {
        tokens: answer.usage.map_or(0, |usage| usage.completion_tokens as u32),
        logprob: (!logprobs.is_empty()).then(|| logprobs.iter().map(|token| token.logprob).sum()),
        first_token: first.iter().map(|token| (token.token.clone(), token.logprob)).collect(),
        text: answer.text,
        finish: answer.finish,
    }
}

/// A refusal by the provider that is about this question alone, and so is its answer: a filter, a length.
pub fn as_data(fault: &Fault) -> Option<ChatAnswer> {
    let codes = ["content_filter", "context_length_exceeded", "content_policy_violation", "invalid_prompt"];
    let code = fault.code.as_deref().filter(|code| fault.class == Class::BadRequest && codes.contains(code))?;
    Some(ChatAnswer {
        text: String::new(),
        finish: code.to_string(),
        usage: None,
        logprobs: None,
        model: String::new(),
        raw: json!({ "error": { "code": code, "message": fault.message } }).to_string().into(),
        request_id: fault.request_id.clone(),
        tries: 1,
        left_out: Vec::new(),
    })
}
