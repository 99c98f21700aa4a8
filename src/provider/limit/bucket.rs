//! What of a limit per minute is used, counted so that no minute ever holds more than the limit.

use std::time::Duration;

use crate::provider::endpoint::RateFacts;

/// Seconds that are remembered: with one more than a minute, whatever was reserved counts for at least a minute.
const SLOTS: u64 = 61;

/// The use of one limit. Times are durations since a start that the caller chooses.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The user's own limit.
    configured: Option<f64>,
    /// The provider's, once an answer has told it.
    learned: Option<f64>,
    /// What was reserved in each of the last seconds, at the second modulo their number.
    slots: [f64; SLOTS as usize],
    /// The second that was looked at last.
    second: u64,
    /// What others who share the limit have used, when that was known, and how much of it comes back per second.
    foreign: (f64, Duration, f64),
}

/// A part of a limit that was taken for one request.
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    second: u64,
    amount: f64,
}

impl Bucket {
    /// A bucket with the user's own limit per minute; none waits for the provider to tell one.
    pub fn new(configured: Option<f64>) -> Self {
        let slots = [0.0; SLOTS as usize];
        Bucket { configured, learned: None, slots, second: 0, foreign: (0.0, Duration::ZERO, 0.0) }
    }

    /// The limit per minute, as far as it is known.
    pub fn limit(&self) -> Option<f64> {
        match (self.configured, self.learned) {
            (Some(configured), Some(learned)) => Some(configured.min(learned)),
            (configured, learned) => configured.or(learned),
        }
    }

    /// How long a request of this size has to wait; nothing where it may go now. The answer is a lower bound.
    pub fn wait(&mut self, amount: f64, now: Duration) -> Option<Duration> {
        self.advance(now);
        self.limit()?;
        let mut own: f64 = self.slots.iter().sum();
        if self.has_room(own, amount, now) {
            return None;
        }
        for ahead in 1..=SLOTS {
            let second = self.second + ahead;
            // The slot of this second holds what was reserved in the second that leaves the window now.
            own -= self.slots[(second % SLOTS) as usize];
            let then = Duration::from_secs(second);
            if self.has_room(own, amount, then) {
                return Some(then - now);
            }
        }
        Some(Duration::from_secs(SLOTS))
    }

    /// Takes this much, whether there is room or not.
    pub fn take(&mut self, amount: f64, now: Duration) -> Reservation {
        self.advance(now);
        self.slots[(self.second % SLOTS) as usize] += amount;
        Reservation { second: self.second, amount }
    }

    /// Corrects a reservation by what was really used.
    pub fn settle(&mut self, reservation: Reservation, used: f64, now: Duration) {
        self.advance(now);
        if reservation.second + SLOTS > self.second {
            let slot = &mut self.slots[(reservation.second % SLOTS) as usize];
            *slot = (*slot + used - reservation.amount).max(0.0);
        }
    }

    /// Takes over what the provider says: its limit, and how much of it is left.
    pub fn correct(&mut self, facts: &RateFacts, now: Duration) {
        self.advance(now);
        let Some(limit) = facts.limit.filter(|limit| *limit > 0.0) else { return };
        self.learned = Some(limit);
        let Some(remaining) = facts.remaining else { return };
        let gone = limit - remaining;
        let own: f64 = self.slots.iter().sum();
        if gone - own > self.foreign_at(now) {
            // `reset` says when all of it will be back, which tells a limit per day from one per minute.
            let reset = facts.reset.map_or(60.0, |reset| reset.as_secs_f64().max(1.0));
            self.foreign = (gone - own, now, gone / reset);
        }
    }

    /// Takes over what another bucket of the same limit has counted.
    pub fn absorb(&mut self, mut other: Bucket, now: Duration) {
        self.advance(now);
        other.advance(now);
        for (mine, theirs) in self.slots.iter_mut().zip(other.slots) {
            *mine += theirs;
        }
        self.learned = self.learned.or(other.learned);
    }

    /// Whether a request fits beside what is used. A request that is larger than the limit goes alone.
    fn has_room(&self, own: f64, amount: f64, now: Duration) -> bool {
        let foreign = self.foreign_at(now);
        let fits = |limit: Option<f64>, used: f64| limit.is_none_or(|limit| used + amount <= limit * (1.0 + 1e-12));
        own + foreign <= 1e-6 || (fits(self.configured, own) && fits(self.learned, own + foreign))
    }

    fn foreign_at(&self, now: Duration) -> f64 {
        let (amount, since, per_second) = self.foreign;
        (amount - per_second * now.saturating_sub(since).as_secs_f64()).max(0.0)
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Duration) {
        let second = now.as_secs().max(self.second);
        for passed in self.second + 1..=second.min(self.second + SLOTS) {
            self.slots[(passed % SLOTS) as usize] = 0.0;
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn without_a_limit_nothing_waits_and_the_past_counts_once_one_is_known() {
        let mut bucket = Bucket::new(None);
        for _ in 0..500 {
            assert_eq!(bucket.wait(1.0, seconds(1.0)), None);
            bucket.take(1.0, seconds(1.0));
        }
        let facts = RateFacts { limit: Some(500.0), remaining: Some(0.0), reset: Some(seconds(60.0)) };
        bucket.correct(&facts, seconds(2.0));
        assert_eq!(bucket.wait(1.0, seconds(2.0)), Some(seconds(60.0)));
    }

    #[test]
    fn what_others_use_comes_back_bit_by_bit() {
        let mut bucket = Bucket::new(None);
        let facts = RateFacts { limit: Some(600.0), remaining: Some(0.0), reset: Some(seconds(60.0)) };
        bucket.correct(&facts, seconds(0.0));
        assert_eq!(bucket.wait(10.0, seconds(0.0)), Some(seconds(1.0)));
        assert_eq!(bucket.wait(600.0, seconds(0.0)), Some(seconds(60.0)));
    }

    #[test]
    fn a_request_larger_than_the_limit_goes_alone() {
        let mut bucket = Bucket::new(Some(100.0));
        assert_eq!(bucket.wait(1000.0, seconds(5.0)), None);
        bucket.take(1000.0, seconds(5.0));
        assert_eq!(bucket.wait(1.0, seconds(5.5)), Some(seconds(60.5)));
    }

    #[test]
    fn the_lower_of_two_limits_counts() {
        let mut bucket = Bucket::new(Some(10.0));
        bucket.correct(&RateFacts { limit: Some(100.0), remaining: Some(99.0), reset: None }, seconds(0.0));
        assert_eq!(bucket.limit(), Some(10.0));
        bucket.take(10.0, seconds(0.0));
        assert!(bucket.wait(1.0, seconds(0.0)).is_some());
    }

    proptest! {
        /// Requests come at any times and sizes, wait as told, and are settled late with less than was reserved: no
        /// window of a minute holds more than the limit.
        #[test]
        fn no_minute_holds_more_than_the_limit(
            limit in 5.0..200.0f64,
            requests in prop::collection::vec((0.0..3.0f64, 0.01..1.0f64, 0.0..1.0f64, 0.0..30.0f64), 1..300),
        ) {
            let mut bucket = Bucket::new(Some(limit));
            let mut now = 0.0;
            let mut spent: Vec<(f64, f64)> = Vec::new();
            let mut open: Vec<(f64, Reservation, f64)> = Vec::new();
            for (gap, share, used, takes) in requests {
                now += gap;
                let amount = share * limit;
                let settle = |bucket: &mut Bucket, open: &mut Vec<(f64, Reservation, f64)>, now: f64| {
                    open.retain(|(at, reservation, used)| {
                        if *at <= now { bucket.settle(*reservation, *used, seconds(now)) }
                        *at > now
                    });
                };
                settle(&mut bucket, &mut open, now);
                let mut waits = 0;
                while let Some(wait) = bucket.wait(amount, seconds(now)) {
                    prop_assert!(wait > Duration::ZERO);
                    waits += 1;
                    prop_assert!(waits < 5, "a wait did not help");
                    now += wait.as_secs_f64();
                }
                settle(&mut bucket, &mut open, now);
                open.push((now + takes, bucket.take(amount, seconds(now)), amount * used));
                spent.push((now, amount * used));
            }
            for (start, _) in &spent {
                let inside: f64 =
                    spent.iter().filter(|(at, _)| (*start..start + 60.0).contains(at)).map(|(_, used)| used).sum();
                prop_assert!(inside <= limit * (1.0 + 1e-9), "{inside} of {limit} from {start}");
            }
        }

        /// What was reserved too much can be used at once.
        #[test]
        fn a_refund_makes_room(limit in 10.0..1000.0f64, share in 0.0..1.0f64) {
            let mut bucket = Bucket::new(Some(limit));
            let reservation = bucket.take(limit, seconds(3.0));
            prop_assert!(bucket.wait(limit * (1.0 - share), seconds(4.0)).is_some() || share > 0.999);
            bucket.settle(reservation, limit * share, seconds(4.0));
            prop_assert_eq!(bucket.wait(limit * (1.0 - share), seconds(4.0)), None);
        }
    }
}
