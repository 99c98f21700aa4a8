//! Sets money aside for every question before it is asked, and settles it when its answer is there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ask::{Ask, Manner, request};
use super::model::Remote;
use crate::data::digest::Digest;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::provider::budget::{Budget, Reservation};
use crate::provider::chat::ChatAnswer;
use crate::provider::fault::Fault;
use crate::provider::price::{Price, TokenUse};
use crate::provider::tokens::TokenCounter;
use crate::provider::wire::chat::ChatRequest;

/// What a model charges; none where nobody knows.
pub fn price_of(lab: &Lab, remote: &Remote) -> Result<Option<Price>> {
    let settings = lab.provider(&remote.provider)?;
    Ok(lab.prices().of_kind(&remote.provider, &settings, &remote.base, remote.is_tuned()))
}

/// The questions of one call, paid one by one.
pub struct Till<'a> {
    budget: &'a Budget,
    price: Option<Price>,
    counter: TokenCounter,
    /// The name to ask for.
    model: String,
    manner: Manner,
    under_way: Mutex<HashMap<usize, (Digest, Option<Reservation>)>>,
}

impl<'a> Till<'a> {
    /// For questions to `model` of `remote`.
    pub fn new(lab: &'a Lab, remote: &Remote, model: String, manner: &Manner) -> Result<Self> {
        let (price, counter) = (price_of(lab, remote)?, TokenCounter::of(&remote.base));
        Ok(Till { budget: lab.budget(), price, counter, model, manner: *manner, under_way: Mutex::default() })
    }

    /// Sets money aside for the longest answer that a question may have.
    fn reserve(&self, index: usize, ask: &Ask) -> Result<()> {
        let is_free = self.price.as_ref().is_some_and(Price::is_free);
        let reservation = if is_free {
            None
        } else {
            let prompt = self.counter.count_prompt(&ask.messages).tokens;
            let longest = TokenUse { prompt, cached_prompt: 0, completion: self.manner.max_tokens as u64 };
            let estimate = self.price.as_ref().map(|price| price.cost(longest));
            Some(self.budget.reserve(self.manner.purpose, &self.model, estimate)?)
        };
        lock(&self.under_way).insert(index, (ask.key, reservation));
        Ok(())
    }

    /// Settles a question; returns the key of its answer.
    pub fn settle(&self, index: usize, outcome: &Result<ChatAnswer, Fault>) -> Result<Digest> {
        let settled = lock(&self.under_way).remove(&index);
        let (key, reservation) = settled.ok_or_else(|| Error::internal("an answer came twice"))?;
        if let Some(reservation) = reservation {
            let usage = outcome.as_ref().ok().and_then(|answer| answer.usage);
            match (outcome, usage, &self.price) {
                (Ok(_), Some(usage), Some(price)) => reservation.settle(price.cost(usage.into())),
                // Nobody told what was used, or whether it was: the most that it can have been.
                (Ok(_), ..) => reservation.settle_in_full(),
                (Err(fault), ..) if fault.may_have_happened() => reservation.settle_in_full(),
                (Err(_), ..) => drop(reservation),
            }
        }
        Ok(key)
    }
}

/// Requests as long as there is money. Ends for the time being where the cap would be passed, and goes on once answers
/// turned out cheaper than what was set aside for them.
pub struct Payable<'a> {
    till: &'a Till<'a>,
    asks: &'a mut (dyn Iterator<Item = Ask> + Send),
    next: usize,
    waiting: Option<(Ask, Error)>,
}

impl<'a> Payable<'a> {
    /// Requests for all `asks`.
    pub fn new(till: &'a Till<'a>, asks: &'a mut (dyn Iterator<Item = Ask> + Send)) -> Self {
        Payable { till, asks, next: 0, waiting: None }
    }
    /// Why the next question was not asked, where it was not.
    pub fn refused(self) -> Option<Error> {
        self.waiting.map(|(_, error)| error)
    }
}

impl Iterator for Payable<'_> {
    type Item = (usize, ChatRequest);

    fn next(&mut self) -> Option<Self::Item> {
        let ask = match self.waiting.take() {
            Some((ask, _)) => ask,
            None => self.asks.next()?,
        };
        if let Err(error) = self.till.reserve(self.next, &ask) {
            self.waiting = Some((ask, error));
            return None;
        }
        self.next += 1;
        Some((self.next - 1, request(&self.till.model, ask, &self.till.manner)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
