//! How many requests are under way at a time: found by growing until the provider objects.

use std::collections::VecDeque;
use std::time::Duration;

/// Requests at a time, before anything is known.
const START: f64 = 20.0;
/// Requests at a time, however much the provider objects.
const LEAST: f64 = 10.0;
/// What an objection leaves.
const SHRINK: f64 = 0.8;
/// What a round without objection adds, after the first objection.
const GROW: f64 = 1.05;
/// Objections this close together are one; no growth meanwhile.
const COOL_DOWN: Duration = Duration::from_secs(15);
/// A size that is not used is no reason to grow.
const USED_SHARE: f64 = 0.8;
/// After `slow_down`: growth by half takes this long.
const RAMP: Duration = Duration::from_secs(15 * 60);
/// Changes that are remembered.
const HISTORY: usize = 200;

/// The number of requests that may be under way. Times are durations since a start that the caller chooses.
#[derive(Clone, Debug)]
pub struct Concurrency {
    size: f64,
    least: f64,
    most: f64,
    in_flight: usize,
    /// Doubles every round until the first objection.
    is_slow_start: bool,
    /// Neither growth nor shrinking until then.
    cool_until: Duration,
    /// Clean answers since the size changed, and the most that were under way meanwhile.
    round: (usize, usize),
    /// The last `slow_down` and the size that it left.
    ramp: Option<(Duration, f64)>,
    history: VecDeque<SizeChange>,
}

/// One change of the size, for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizeChange {
    /// Since the start.
    pub at: Duration,
    /// Requests at a time from then on.
    pub size: usize,
    /// Why.
    pub cause: &'static str,
}

impl Concurrency {
    /// At most `most` at a time.
    pub fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let size = START.min(most);
        let mut new = Concurrency {
            size,
            least: LEAST.min(most),
            most,
            in_flight: 0,
            is_slow_start: true,
            cool_until: Duration::ZERO,
            round: (0, 0),
            ramp: None,
            history: VecDeque::new(),
        };
        new.resize(size, "start", Duration::ZERO);
        new
    }

    /// Requests that may be under way.
    pub fn size(&self) -> usize {
        self.size as usize
    }
    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
    /// What is free, as a share.
    pub fn free_share(&self) -> f64 {
        1.0 - self.in_flight as f64 / self.size() as f64
    }
    /// The last changes of the size.
    pub fn history(&self) -> impl Iterator<Item = &SizeChange> {
        self.history.iter()
    }

    /// One more is under way.
    pub fn enter(&mut self) {
        self.in_flight += 1;
        self.round.1 = self.round.1.max(self.in_flight);
    }
    /// One is no longer under way.
    pub fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
    /// Counts those of another pool that turned out to be this one.
    pub fn absorb(&mut self, other: &Concurrency) {
        self.in_flight += other.in_flight;
    }

    /// An answer came that was no objection.
    pub fn succeed(&mut self, now: Duration) {
        self.round.0 += 1;
        if now < self.cool_until || self.round.0 < self.size() {
            return;
        }
        let is_used = self.round.1 as f64 >= USED_SHARE * self.size.floor();
        self.round = (0, self.in_flight);
        if !is_used || self.size >= self.most {
            return;
        }
        let wanted = if self.is_slow_start { self.size * 2.0 } else { (self.size * GROW).max(self.size + 1.0) };
        let ramped = self.ramp.map_or(self.most, |(since, size)| {
            size * 1.5f64.powf(now.saturating_sub(since).as_secs_f64() / RAMP.as_secs_f64())
        });
        let grown = wanted.min(ramped).min(self.most);
        if grown > self.size {
            self.resize(grown, if self.is_slow_start { "slow start" } else { "clean round" }, now);
        }
    }

    /// The provider says that there are too many; `wait` is how long it asks to wait, `is_ramp` that the load rises too
    /// fast.
    pub fn object(&mut self, wait: Duration, is_ramp: bool, now: Duration) {
        self.round = (0, self.in_flight);
        let is_new = now >= self.cool_until;
        self.cool_until = self.cool_until.max(now + COOL_DOWN.max(wait));
        self.is_slow_start = false;
        if is_new {
            self.resize((self.size * SHRINK).max(self.least), if is_ramp { "slow down" } else { "rate limit" }, now);
        }
        if is_ramp {
            self.ramp = Some((now, self.size));
        }
    }

    /// A request failed in a way that says nothing about the load: growth starts its round again.
    pub fn falter(&mut self) {
        self.round = (0, self.in_flight);
    }

    fn resize(&mut self, size: f64, cause: &'static str, now: Duration) {
        self.size = size;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(SizeChange { at: now, size: self.size(), cause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A round in which every permit is used.
    fn full_round(concurrency: &mut Concurrency, now: Duration) {
        let size = concurrency.size();
        (0..size).for_each(|_| concurrency.enter());
        for _ in 0..size {
            concurrency.leave();
            concurrency.succeed(now);
        }
    }

    #[test]
    fn slow_start_reaches_a_thousand_in_six_rounds() {
        let mut concurrency = Concurrency::new(1000);
        (0..6).for_each(|_| full_round(&mut concurrency, seconds(0)));
        let sizes: Vec<usize> = concurrency.history().map(|change| change.size).collect();
        assert_eq!(sizes, [20, 40, 80, 160, 320, 640, 1000]);
    }

    #[test]
    fn objections_close_together_are_one_episode() {
        let mut concurrency = Concurrency::new(1000);
        (0..3).for_each(|_| full_round(&mut concurrency, seconds(0)));
        (0..160).for_each(|_| concurrency.object(Duration::ZERO, false, seconds(1)));
        assert_eq!(concurrency.size(), 128);
        full_round(&mut concurrency, seconds(10));
        assert_eq!(concurrency.size(), 128, "it grew while it cooled down");
        full_round(&mut concurrency, seconds(16));
        assert_eq!(concurrency.size(), 134, "slow start is over");
        concurrency.object(seconds(60), false, seconds(20));
        concurrency.object(Duration::ZERO, false, seconds(70));
        assert_eq!(concurrency.size(), 107, "the provider's own delay extends the episode");
        concurrency.object(Duration::ZERO, false, seconds(90));
        assert_eq!(concurrency.size(), 86);
        (0..50).for_each(|episode| concurrency.object(Duration::ZERO, false, seconds(200 + 20 * episode)));
        assert_eq!(concurrency.size(), 10);
    }

    #[test]
    fn it_grows_only_when_it_is_used_and_only_after_a_clean_round() {
        let mut concurrency = Concurrency::new(100);
        for _ in 0..100 {
            concurrency.enter();
            concurrency.leave();
            concurrency.succeed(seconds(1));
        }
        assert_eq!(concurrency.size(), 20, "it grew although one permit was enough");
        (0..20).for_each(|_| concurrency.enter());
        for _ in 0..50 {
            (0..19).for_each(|_| concurrency.succeed(seconds(1)));
            concurrency.falter();
        }
        assert_eq!(concurrency.size(), 20, "it grew in rounds that were not clean");
    }

    #[test]
    fn after_slow_down_it_grows_by_half_in_a_quarter_of_an_hour() {
        let mut concurrency = Concurrency::new(1000);
        (0..4).for_each(|_| full_round(&mut concurrency, seconds(0)));
        concurrency.object(Duration::ZERO, true, seconds(0));
        let before = concurrency.size() as f64;
        (15..900).for_each(|second| full_round(&mut concurrency, seconds(second)));
        let after = concurrency.size() as f64;
        assert!(after <= before * 1.5 && after > before * 1.4, "{before} to {after}");
    }

    #[test]
    fn small_limits_hold() {
        let mut concurrency = Concurrency::new(4);
        assert_eq!(concurrency.size(), 4);
        concurrency.object(Duration::ZERO, false, seconds(100));
        assert_eq!(concurrency.size(), 4);
    }
}
