//! Asks through a provider's batch service: at half the price, within a day, resumable by any later process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Manner, Take, as_data, keep_answers, request};
use super::model::Remote;
use super::till::price_of;
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::provider::batch::pack::{PackLimits, pack};
use crate::provider::batch::{BatchDesk, BatchState, BatchStep, run_batches};
use crate::provider::chat::{ChatAnswer, Patience};
use crate::provider::endpoint::Endpoint;
use crate::provider::fault::Fault;
use crate::provider::money::Money;
use crate::provider::price::{Price, TokenUse};
use crate::provider::tokens::TokenCounter;

/// How often what expired is sent again.
const ROUNDS: usize = 4;

/// A batch as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// What it was sent for; whoever asks for the same takes it up.
    owner: Digest,
    state: BatchState,
}

/// Asks everything in batches, those of an earlier process first; see [`ask_all`](super::ask::ask_all).
pub fn ask_in_batches(
    lab: &Lab,
    endpoint: &Endpoint,
    remote: &Remote,
    model: &str,
    asks: &mut dyn Iterator<Item = Ask>,
    manner: &Manner,
    take: Take,
) -> Result<()> {
    let asks: Vec<Ask> = asks.collect();
    let place: HashMap<String, usize> =
        asks.iter().enumerate().map(|(index, ask)| (ask.key.to_string(), index)).collect();
    let price = price_of(lab, remote)?;
    let mut collecting =
        Collecting { lab, take, waiting: Vec::new(), answered: vec![false; asks.len()], spent: Money::ZERO };
    let mut open = open_batches(lab, endpoint, manner.owner)?;
    let mut failure: Option<Fault> = None;
    for round in 0..=ROUNDS {
        let missing: Vec<usize> = (0..asks.len()).filter(|index| !collecting.answered[*index]).collect();
        if missing.is_empty() && open.is_empty() {
            break;
        }
        // What is open must be done before anybody knows what is missing.
        let is_resuming = !open.is_empty();
        let sent: &[usize] = if is_resuming { &[] } else { &missing };
        if round == ROUNDS && !is_resuming {
            break;
        }
        let reservation = reserve(lab, remote, model, price.as_ref(), manner, sent.iter().map(|index| &asks[*index]))?;
        let requests =
            sent.iter().map(|index| (asks[*index].key.to_string(), request(model, asks[*index].clone(), manner)));
        let shared = RefCell::new(&mut collecting);
        let save = |state: &BatchState| {
            // Answers first: a batch that is marked as collected is never looked at again.
            shared.borrow_mut().flush()?;
            let kept = Kept { owner: manner.owner, state: state.clone() };
            let value = serde_json::to_value(kept).map_err(|error| Error::internal(error.to_string()))?;
            lab.store().put_batch(state.key, &value, Lab::now())
        };
        let desk = BatchDesk {
            endpoint,
            key: 0,
            save: &save,
            new_attempt: &|| format!("{:016x}{:016x}", Lab::random(), Lab::random()),
            now: &|| Lab::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            cancelled: &|| lab.cancelled(),
            search: Duration::try_from_secs_f64(endpoint.settings().search_seconds).unwrap_or(Duration::MAX),
            patience: Patience::default(),
        };
        let mut on_answer = |custom_id: &str, outcome: Result<ChatAnswer, Fault>| {
            // A batch of an earlier process may hold more than is asked for now.
            let Some(&index) = place.get(custom_id) else { return Ok(()) };
            let outcome = outcome.or_else(|fault| as_data(&fault).ok_or(fault));
            match outcome {
                Ok(answer) => shared.borrow_mut().add(index, asks[index].key, answer, price.as_ref()),
                Err(fault) => {
                    failure.get_or_insert(fault);
                    Ok(())
                }
            }
        };
        let packs = pack(requests, PackLimits::default());
        let outcome = lab.block_on(run_batches(&desk, std::mem::take(&mut open), packs, &mut on_answer))?;
        collecting.flush()?;
        if let Some(reservation) = reservation {
            reservation.settle(std::mem::replace(&mut collecting.spent, Money::ZERO));
        }
        if let Some((batch, reason)) = outcome.refused.first() {
            return Err(Error::environment(format!("`{}` did not do the batch {batch}: {reason}", endpoint.name()))
                .with_help("mend what the provider complains about, or leave `batch` out of `drylab.toml`"));
        }
        if failure.is_some() {
            break;
        }
    }
    let left = collecting.answered.iter().filter(|answered| !**answered).count();
    match (left, failure) {
        (0, _) => Ok(()),
        (left, Some(fault)) => {
            Err(fault.into_error(endpoint.name()).context(format!("{left} of {} questions failed", asks.len())))
        }
        (left, None) => Err(Error::environment(format!("{left} of {} questions expired in every batch", asks.len()))
            .with_help("run the same command again, or leave `batch` out of `drylab.toml`")),
    }
}

/// Batches of the same asking that are not done.
fn open_batches(lab: &Lab, endpoint: &Endpoint, owner: Digest) -> Result<Vec<BatchState>> {
    let mut open = Vec::new();
    for (_, value) in lab.store().batches()? {
        let kept: Kept = serde_json::from_value(value)
            .map_err(|error| Error::internal(format!("a stored batch cannot be read: {error}")))?;
        let is_done = matches!(kept.state.step, BatchStep::Collected | BatchStep::Refused);
        if kept.owner == owner && !is_done {
            open.push(kept.state);
        }
    }
    if !open.is_empty() {
        lab.note_once(format!("{} batches at `{}` are taken up again", open.len(), endpoint.name()));
    }
    Ok(open)
}

fn reserve<'a>(
    lab: &Lab,
    remote: &Remote,
    model: &str,
    price: Option<&Price>,
    manner: &Manner,
    asks: impl Iterator<Item = &'a Ask>,
) -> Result<Option<crate::provider::budget::Reservation>> {
    if price.is_some_and(Price::is_free) {
        return Ok(None);
    }
    let counter = TokenCounter::of(&remote.base);
    let mut tokens = TokenUse { prompt: 0, cached_prompt: 0, completion: 0 };
    for ask in asks {
        tokens.prompt += counter.count_prompt(&ask.messages).tokens;
        tokens.completion += manner.max_tokens as u64;
    }
    let estimate = price.and_then(|price| price.batch_cost(tokens));
    lab.budget().reserve(manner.purpose, model, estimate).map(Some)
}

/// Answers on their way into the store.
struct Collecting<'a, 'b> {
    lab: &'a Lab,
    take: Take<'b>,
    waiting: Vec<(usize, Digest, ChatAnswer)>,
    answered: Vec<bool>,
    spent: Money,
}

impl Collecting<'_, '_> {
    fn add(&mut self, index: usize, key: Digest, answer: ChatAnswer, price: Option<&Price>) -> Result<()> {
        // A resumed batch gives again what was taken just before the end.
        if std::mem::replace(&mut self.answered[index], true) {
            return Ok(());
        }
        let cost = answer.usage.and_then(|usage| price?.batch_cost(usage.into()));
        self.spent += cost.unwrap_or(Money::ZERO);
        self.waiting.push((index, key, answer));
        if self.waiting.len() >= 512 { self.flush() } else { Ok(()) }
    }
    fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        keep_answers(self.lab, std::mem::take(&mut self.waiting), self.take)
    }
}
