//! Who may send now, and by which key: request and token limits, concurrency and keys of one provider, model by model.

pub mod bucket;
pub mod concurrency;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Facts};
use super::fault::{Class, Fault};
use super::wire::chat::Usage;
use bucket::{Bucket, Reservation};
use concurrency::{Concurrency, SizeChange};

/// Whoever is asked to wait longer than this gives up.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The limits of one provider; shared by all who ask it.
pub struct Limiter {
    endpoint: Endpoint,
    started: Instant,
    /// A pool that is told to wait, but not how long, waits this long at first and at most.
    pauses: (Duration, Duration),
    state: Mutex<State>,
}

struct State {
    keys: Vec<KeyState>,
    models: Vec<ModelState>,
    numbers: HashMap<String, usize>,
}

/// What is known of a key.
struct KeyState {
    /// Keys of one identity share their limits.
    identity: String,
    /// Why it opens nothing any more.
    gone: Option<Fault>,
}

/// The limits of one model.
struct ModelState {
    gate: Arc<Gate>,
    pools: Vec<Pool>,
    /// Keys that do not know the model; the last to be tried.
    strangers: Vec<usize>,
}

/// Those who wait for a model form a queue; the first of it hears of changes.
#[derive(Default)]
struct Gate {
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// The limits that the keys of one identity share for one model.
struct Pool {
    identity: String,
    requests: Bucket,
    tokens: Bucket,
    concurrency: Concurrency,
    /// Nothing is sent before, and who said so.
    closed: Option<(Duration, Fault)>,
    /// Objections without a success between them.
    objections: u32,
    successes: u64,
    /// How often it was asked, which takes the keys in turn.
    turns: usize,
    /// The pool that this one turned out to be.
    merged_into: Option<usize>,
}

/// The right to send one request now; whoever drops it without telling how it went keeps what it reserved.
pub struct Permit {
    limiter: Arc<Limiter>,
    model: usize,
    pool: usize,
    key: usize,
    request: Reservation,
    tokens: Reservation,
    /// Successes of the pool when this was handed out.
    successes: u64,
}

/// How a pool stands, for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolReport {
    /// The model that is asked.
    pub model: String,
    /// Organisation and project, or a key's fingerprint.
    pub identity: String,
    /// Requests per minute, if known.
    pub requests_per_minute: Option<f64>,
    /// Tokens per minute, if known.
    pub tokens_per_minute: Option<f64>,
    /// Answers so far.
    pub successes: u64,
    /// How the number of requests at a time went.
    pub sizes: Vec<SizeChange>,
}

impl Limiter {
    /// The limits of a provider of which nothing is known but its settings. Whoever is told to wait, but not how long,
    /// waits for the first of `pauses`, then twice as long each time up to the second.
    pub fn new(endpoint: Endpoint, pauses: (Duration, Duration)) -> Arc<Self> {
        let facts = Facts::default();
        let key = |key| KeyState { identity: endpoint.identity(key, &facts), gone: None };
        // A provider without keys is asked as by one key that sends nothing.
        let keys = (0..endpoint.keys().len().max(1)).map(key).collect();
        let state = Mutex::new(State { keys, models: Vec::new(), numbers: HashMap::new() });
        Arc::new(Limiter { endpoint, started: Instant::now(), pauses, state })
    }

    /// Waits until a request of about this many tokens may be sent. `refused` are the keys that refused it already.
    ///
    /// # Errors
    /// The reason why there is no key left for it, or why waiting would take too long.
    pub async fn reserve(
        self: &Arc<Self>,
        model: &str,
        tokens: f64,
        refused: &[(usize, Fault)],
    ) -> Result<Permit, Fault> {
        let (number, gate) = self.find_model(model);
        let _turn = gate.turn.lock().await;
        loop {
            match self.try_reserve(number, tokens, refused)? {
                Ok(permit) => return Ok(permit),
                Err(wait) => {
                    let _ = tokio::time::timeout(wait, gate.changed.notified()).await;
                }
            }
        }
    }

    /// How all pools stand.
    pub fn report(&self) -> Vec<PoolReport> {
        let state = self.lock();
        let mut names: Vec<(&String, &usize)> = state.numbers.iter().collect();
        names.sort();
        let mut reports = Vec::new();
        for (model, number) in names {
            let pools = &state.models[*number].pools;
            reports.extend(pools.iter().filter(|pool| pool.merged_into.is_none()).map(|pool| PoolReport {
                model: model.clone(),
                identity: pool.identity.clone(),
                requests_per_minute: pool.requests.limit(),
                tokens_per_minute: pool.tokens.limit(),
                successes: pool.successes,
                sizes: pool.concurrency.history().copied().collect(),
            }));
        }
        reports
    }

    /// Keys that open nothing any more, with the reason, by the names of their variables.
    pub fn lost_keys(&self) -> Vec<(String, Fault)> {
        let name = |key: usize| self.endpoint.keys().get(key).map(|key| key.variable.clone()).unwrap_or_default();
        let state = self.lock();
        let gone = state.keys.iter().enumerate().filter_map(|(key, found)| Some((name(key), found.gone.clone()?)));
        gone.collect()
    }

    /// A permit, or how long to wait at most before another look.
    fn try_reserve(
        self: &Arc<Self>,
        model: usize,
        tokens: f64,
        refused: &[(usize, Fault)],
    ) -> Result<Result<Permit, Duration>, Fault> {
        let now = self.now();
        let mut guard = self.lock();
        let State { keys, models, .. } = &mut *guard;
        let found = &mut models[model];
        let mut open: Vec<usize> = (0..keys.len())
            .filter(|key| keys[*key].gone.is_none() && !refused.iter().any(|(refusing, _)| refusing == key))
            .collect();
        if open.is_empty() {
            let last = refused.last().map(|(_, fault)| fault.clone());
            let gone = keys.iter().rev().find_map(|key| key.gone.clone());
            return Err(last.or(gone).expect("a key that is not open is gone or refused"));
        }
        if open.iter().any(|key| !found.strangers.contains(key)) {
            open.retain(|key| !found.strangers.contains(key));
        }
        let mut best: Option<(f64, usize, usize)> = None;
        // Whatever is not a matter of time is heard of.
        let mut wait = Duration::from_secs(60);
        let (mut refusal, mut is_hopeless) = (None, true);
        for &key in &open {
            let number = self.find_pool(&mut found.pools, &keys[key].identity);
            let pool = &mut found.pools[number];
            pool.closed.take_if(|(until, _)| *until <= now);
            if let Some((until, fault)) = &pool.closed {
                if *until - now > LONGEST_WAIT {
                    refusal = Some(fault.clone());
                } else {
                    (wait, is_hopeless) = (wait.min(*until - now), false);
                }
                continue;
            }
            is_hopeless = false;
            if pool.concurrency.in_flight() >= pool.concurrency.size() {
                continue;
            }
            if let Some(time) = pool.requests.wait(1.0, now).max(pool.tokens.wait(tokens, now)) {
                wait = wait.min(time);
                continue;
            }
            // The pool with the most room, and of equal ones the one that was asked least.
            let (free, turns) = (pool.concurrency.free_share(), pool.turns);
            if best.is_none_or(|(most, least, _)| free > most || (free == most && turns < least)) {
                best = Some((free, turns, number));
            }
        }
        let Some((_, _, number)) = best else {
            return match refusal {
                Some(fault) if is_hopeless => Err(fault),
                _ => Ok(Err(wait)),
            };
        };
        let pool = &mut found.pools[number];
        let members: Vec<usize> = open.into_iter().filter(|key| keys[*key].identity == pool.identity).collect();
        let key = members[pool.turns % members.len()];
        pool.turns += 1;
        pool.concurrency.enter();
        Ok(Ok(Permit {
            limiter: self.clone(),
            model,
            pool: number,
            key,
            request: pool.requests.take(1.0, now),
            tokens: pool.tokens.take(tokens, now),
            successes: pool.successes,
        }))
    }

    fn find_model(&self, model: &str) -> (usize, Arc<Gate>) {
        let mut state = self.lock();
        if let Some(number) = state.numbers.get(model) {
            return (*number, state.models[*number].gate.clone());
        }
        let (number, gate) = (state.models.len(), Arc::new(Gate::default()));
        state.models.push(ModelState { gate: gate.clone(), pools: Vec::new(), strangers: Vec::new() });
        state.numbers.insert(model.to_string(), number);
        (number, gate)
    }

    fn find_pool(&self, pools: &mut Vec<Pool>, identity: &str) -> usize {
        let known = pools.iter().position(|pool| pool.merged_into.is_none() && pool.identity == identity);
        known.unwrap_or_else(|| {
            let settings = self.endpoint.settings();
            pools.push(Pool {
                identity: identity.to_string(),
                requests: Bucket::new(settings.requests_per_minute),
                tokens: Bucket::new(settings.tokens_per_minute),
                concurrency: Concurrency::new(settings.most_in_flight),
                closed: None,
                objections: 0,
                successes: 0,
                turns: 0,
                merged_into: None,
            });
            pools.len() - 1
        })
    }

    /// Takes over what an answer tells about whom a key belongs to.
    fn identify(&self, state: &mut State, key: usize, facts: &Facts, now: Duration) {
        if facts.organization.is_none() && facts.project.is_none() {
            return;
        }
        let identity = self.endpoint.identity(key, facts);
        if state.keys[key].identity == identity {
            return;
        }
        let old = std::mem::replace(&mut state.keys[key].identity, identity.clone());
        let is_shared = state.keys.iter().any(|key| key.identity == old);
        for model in &mut state.models {
            let position =
                |name: &str| model.pools.iter().position(|pool| pool.merged_into.is_none() && pool.identity == name);
            match (position(&old), position(&identity)) {
                (Some(from), None) if !is_shared => model.pools[from].identity.clone_from(&identity),
                (Some(from), Some(into)) if !is_shared => {
                    let (requests, tokens) = (model.pools[from].requests.clone(), model.pools[from].tokens.clone());
                    let concurrency = model.pools[from].concurrency.clone();
                    model.pools[from].merged_into = Some(into);
                    let pool = &mut model.pools[into];
                    pool.requests.absorb(requests, now);
                    pool.tokens.absorb(tokens, now);
                    pool.concurrency.absorb(&concurrency);
                }
                _ => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way through a change that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The key to send by.
    pub fn key(&self) -> usize {
        self.key
    }

    /// The request was answered.
    pub fn succeed(self, facts: &Facts, usage: Option<Usage>) {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        self.limiter.identify(&mut state, self.key, facts, now);
        let strangers = &mut state.models[self.model].strangers;
        strangers.retain(|key| *key != self.key);
        let pool = self.pool(&mut state);
        pool.successes += 1;
        pool.objections = 0;
        pool.requests.correct(&facts.requests, now);
        if let Some(usage) = usage {
            pool.tokens.settle(self.tokens, (usage.prompt_tokens + usage.completion_tokens) as f64, now);
        }
        pool.tokens.correct(&facts.tokens, now);
        pool.concurrency.succeed(now);
    }

    /// The request failed. Returns whether others got an answer from the pool since this was handed out: then waiting
    /// helps, however often this one was turned away.
    pub fn fail(self, fault: &Fault) -> bool {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        let (key, has_others) = (self.key, state.keys.len() > 1);
        match fault.class {
            Class::Authentication | Class::Quota => state.keys[key].gone = Some(fault.clone()),
            Class::NotFound | Class::Forbidden if has_others => {
                let strangers = &mut state.models[self.model].strangers;
                if !strangers.contains(&key) {
                    strangers.push(key);
                }
            }
            _ => {}
        }
        let pool = self.pool(&mut state);
        // Who may have been at work may have used what was reserved.
        if !fault.may_have_happened() {
            pool.tokens.settle(self.tokens, 0.0, now);
        }
        match fault.class {
            Class::RateLimit | Class::SlowDown => {
                let growing = self.limiter.pauses.0 * 2u32.pow(pool.objections.min(10));
                let pause = fault.retry_after.unwrap_or(growing.min(self.limiter.pauses.1));
                let is_new = pool.closed.as_ref().is_none_or(|(until, _)| *until <= now);
                if is_new {
                    pool.objections += 1;
                }
                // Those that were under way together object together; without a delay of their own they are one.
                if is_new || fault.retry_after.is_some() {
                    pool.close(now + pause, fault);
                }
                pool.concurrency.object(pause, fault.class == Class::SlowDown, now);
            }
            Class::Loading => {
                pool.close(now + fault.retry_after.unwrap_or(self.limiter.pauses.0), fault);
                pool.concurrency.falter();
            }
            Class::Lost | Class::Server | Class::Malformed => pool.concurrency.falter(),
            Class::NotSent | Class::Unreachable => {
                pool.requests.settle(self.request, 0.0, now);
                pool.concurrency.falter();
            }
            _ => {}
        }
        pool.successes > self.successes
    }

    fn pool<'a>(&self, state: &'a mut State) -> &'a mut Pool {
        let pools = &mut state.models[self.model].pools;
        let mut number = self.pool;
        while let Some(into) = pools[number].merged_into {
            number = into;
        }
        &mut pools[number]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        self.pool(&mut state).concurrency.leave();
        state.models[self.model].gate.changed.notify_one();
    }
}

impl Pool {
    fn close(&mut self, until: Duration, fault: &Fault) {
        if self.closed.as_ref().is_none_or(|(before, _)| *before < until) {
            self.closed = Some((until, fault.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::loopback;
    use super::super::settings::ProviderSettings;
    use super::*;

    fn limiter(keys: &[&str], change: impl FnOnce(&mut ProviderSettings)) -> Arc<Limiter> {
        let pauses = (Duration::from_millis(500), Duration::from_secs(30));
        Limiter::new(loopback::endpoint("http://127.0.0.1:1/v1", keys, change), pauses)
    }
    fn fault(class: Class, retry_after: Option<u64>) -> Fault {
        Fault { retry_after: retry_after.map(Duration::from_secs), ..Fault::new(class, "no") }
    }
    async fn waited(limiter: &Arc<Limiter>, model: &str, tokens: f64) -> (Permit, f64) {
        let before = Instant::now();
        let permit = limiter.reserve(model, tokens, &[]).await.unwrap();
        (permit, before.elapsed().as_secs_f64())
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_wait_for_the_next_minute_unless_they_are_given_back() {
        let limiter = limiter(&[], |settings| settings.tokens_per_minute = Some(1000.0));
        let (first, _) = waited(&limiter, "m", 900.0).await;
        first.succeed(&Facts::default(), Some(Usage { prompt_tokens: 50, completion_tokens: 50, ..Usage::default() }));
        let (second, time) = waited(&limiter, "m", 900.0).await;
        assert_eq!(time, 0.0, "what was not used was not given back");
        let (_, time) = waited(&limiter, "other", 900.0).await;
        assert_eq!(time, 0.0, "another model has its own limit");
        drop(second);
        assert!(waited(&limiter, "m", 900.0).await.1 >= 60.0, "who does not tell how it went keeps what it reserved");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_closed_for_as_long_as_the_provider_says() {
        let limiter = limiter(&[], |_| ());
        waited(&limiter, "m", 1.0).await.0.fail(&fault(Class::RateLimit, Some(42)));
        let time = waited(&limiter, "m", 1.0).await.1;
        assert!((42.0..42.1).contains(&time), "{time}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_word_about_the_time_a_pool_is_closed_longer_each_time() {
        let limiter = limiter(&[], |_| ());
        let mut times = Vec::new();
        for _ in 0..9 {
            let (permit, time) = waited(&limiter, "m", 1.0).await;
            times.push(time.round());
            permit.fail(&fault(Class::RateLimit, None));
        }
        assert_eq!(times, [0.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_pool_is_closed_the_other_is_asked() {
        let limiter = limiter(&["a", "b"], |_| ());
        let (first, _) = waited(&limiter, "m", 1.0).await;
        let closed = first.key();
        first.fail(&fault(Class::RateLimit, Some(100)));
        for _ in 0..15 {
            let (permit, time) = waited(&limiter, "m", 1.0).await;
            assert_eq!((permit.key(), time), (1 - closed, 0.0));
            permit.succeed(&Facts::default(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_turned_away_hears_whether_others_got_through() {
        let limiter = limiter(&[], |_| ());
        let (first, second) = (waited(&limiter, "m", 1.0).await.0, waited(&limiter, "m", 1.0).await.0);
        let third = waited(&limiter, "m", 1.0).await.0;
        assert!(!first.fail(&fault(Class::RateLimit, Some(1))));
        second.succeed(&Facts::default(), None);
        assert!(third.fail(&fault(Class::RateLimit, Some(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_permit_gets_it_when_one_is_free() {
        let limiter = limiter(&[], |settings| settings.most_in_flight = 2);
        let (first, _) = waited(&limiter, "m", 1.0).await;
        let (_second, _) = waited(&limiter, "m", 1.0).await;
        let waiting = {
            let limiter = limiter.clone();
            tokio::spawn(async move { waited(&limiter, "m", 1.0).await.1 })
        };
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!((6.9..7.1).contains(&waiting.await.unwrap()));
    }
}
