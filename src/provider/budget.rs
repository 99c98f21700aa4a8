//! A hard cap on what a run spends: money is set aside before it is spent, and what does not fit is not begun.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::money::Money;
use crate::error::{Error, Kind, Result};

/// What money is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Training a model.
    FineTune,
    /// Answers of the models under study.
    Sample,
    /// Judging them.
    Judge,
}

impl Purpose {
    /// All of them, in the order of reports.
    pub const ALL: [Purpose; 3] = [Purpose::FineTune, Purpose::Sample, Purpose::Judge];

    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::FineTune => "fine-tunes",
            Purpose::Sample => "samples",
            Purpose::Judge => "judges",
        }
    }
}

/// Money by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    amounts: [Money; 3],
}

impl Spending {
    /// For one purpose.
    pub fn of(&self, purpose: Purpose) -> Money {
        self.amounts[purpose as usize]
    }
    /// For all of them.
    pub fn total(&self) -> Money {
        self.amounts.iter().copied().sum()
    }
    /// Adds an amount for one purpose.
    pub fn add(&mut self, purpose: Purpose, amount: Money) {
        self.amounts[purpose as usize] += amount;
    }
    fn take(&mut self, purpose: Purpose, amount: Money) {
        self.amounts[purpose as usize] = self.of(purpose).less(amount);
    }
}

impl fmt::Display for Spending {
    /// `$1.20 (fine-tunes $1.00, judges $0.20)`: purposes without money are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        let parts: Vec<String> = Purpose::ALL
            .into_iter()
            .filter(|purpose| self.of(*purpose) > Money::ZERO)
            .map(|purpose| format!("{} {}", purpose.name(), self.of(purpose)))
            .collect();
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

/// Where a budget stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetReport {
    /// What may be spent; none without a cap.
    pub limit: Option<Money>,
    /// What was spent.
    pub spent: Spending,
    /// What is set aside for work under way.
    pub reserved: Spending,
    /// What was spent beyond the limit because a step cost more than it was estimated to.
    pub overshoot: Money,
    /// Steps whose price nobody knows; they are in no sum.
    pub unpriced: u64,
}

/// The money of a run; clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: Option<Money>,
    /// Held for a few additions at a time: a second counter without a lock could not be read together with the first.
    books: Mutex<Books>,
    /// Tells those who wait that something was settled.
    settled: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Books {
    spent: Spending,
    reserved: Spending,
    unpriced: u64,
}

/// Why a step cannot begin.
enum Refusal {
    /// It may fit once other steps turn out cheaper than was set aside for them.
    NotNow(Error),
    /// It never will.
    Never(Error),
}

impl Budget {
    /// A budget with this cap, none for no cap, of which this was spent before.
    pub fn new(limit: Option<Money>, spent: Spending) -> Self {
        let books = Books { spent, ..Books::default() };
        Budget { shared: Arc::new(Shared { limit, books: Mutex::new(books), settled: Notify::new() }) }
    }

    /// Sets money aside for a step on `model`, the most that it may cost; refuses where that would pass the cap, and
    /// where a cap stands and nobody knows the price. What is free is never refused.
    pub fn reserve(&self, purpose: Purpose, model: &str, estimate: Option<Money>) -> Result<Reservation> {
        self.attempt(purpose, model, estimate).map_err(|refusal| match refusal {
            Refusal::NotNow(error) | Refusal::Never(error) => error,
        })
    }

    /// The same, but waits while steps under way might turn out cheaper than was set aside for them, as answers do
    /// whose longest length was reserved. Whoever waits must not hold a reservation.
    pub async fn reserve_in_turn(&self, purpose: Purpose, model: &str, estimate: Option<Money>) -> Result<Reservation> {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            // From here on no settlement is missed, so that the one between the attempt and the wait wakes us too.
            settled.as_mut().enable();
            match self.attempt(purpose, model, estimate) {
                Ok(reservation) => return Ok(reservation),
                Err(Refusal::Never(error)) => return Err(error),
                Err(Refusal::NotNow(_)) => settled.await,
            }
        }
    }

    /// Writes down what is spent already, whatever the cap says: a job that was found again, an answer that was paid.
    pub fn record(&self, purpose: Purpose, amount: Money) {
        self.shared.books().spent.add(purpose, amount);
    }

    /// Where it stands.
    pub fn report(&self) -> BudgetReport {
        let books = *self.shared.books();
        let limit = self.shared.limit;
        let overshoot = limit.map_or(Money::ZERO, |limit| books.spent.total().less(limit));
        BudgetReport { limit, spent: books.spent, reserved: books.reserved, overshoot, unpriced: books.unpriced }
    }

    fn attempt(&self, purpose: Purpose, model: &str, estimate: Option<Money>) -> Result<Reservation, Refusal> {
        let mut books = self.shared.books();
        if let Some(limit) = self.shared.limit {
            let Some(estimate) = estimate else { return Err(Refusal::Never(price_unknown(model, limit))) };
            let (spent, reserved) = (books.spent.total(), books.reserved.total());
            // A fine-tune costs what it was estimated to: waiting for one to become cheaper would be hours for nothing.
            let firm = spent + books.reserved.of(Purpose::FineTune);
            if estimate > Money::ZERO && spent + reserved + estimate > limit {
                let error = too_much(&books, limit, purpose, model, estimate);
                let is_hopeless = firm + estimate > limit;
                return Err(if is_hopeless { Refusal::Never(error) } else { Refusal::NotNow(error) });
            }
        }
        books.reserved.add(purpose, estimate.unwrap_or_default());
        Ok(Reservation { shared: self.shared.clone(), purpose, estimate, is_open: true })
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        // The books are whole after every statement, so that a panic elsewhere does not spoil them.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_much(books: &Books, limit: Money, purpose: Purpose, model: &str, estimate: Money) -> Error {
    let (spent, reserved) = (books.spent.total(), books.reserved.total());
    let under_way = match reserved {
        Money::ZERO => String::new(),
        reserved => format!(", {reserved} set aside for what is under way"),
    };
    let message = format!(
        "the budget of {limit} would be passed: {spent} spent{under_way}, \
         and the next step ({} of `{model}`) may cost {estimate}",
        purpose.name()
    );
    let enough = (spent + reserved + estimate).dollars().ceil();
    let help = format!(
        "raise it, as in `--budget-usd {enough}`, and run again; nothing that is done is repeated or paid again"
    );
    Error::new(Kind::Budget, message).with_help(help)
}

fn price_unknown(model: &str, limit: Money) -> Error {
    let message = format!("the price of `{model}` is not known, so a budget of {limit} cannot be kept");
    let help = "add the price to `prices.toml` in the project folder, or run without `--budget-usd`";
    Error::input(message).with_help(help)
}

/// Money set aside for one step. Dropped without a word it is given back, as for a request that was never sent.
#[must_use = "money is given back when the reservation is dropped"]
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    purpose: Purpose,
    estimate: Option<Money>,
    is_open: bool,
}

impl Reservation {
    /// What was set aside.
    pub fn estimate(&self) -> Option<Money> {
        self.estimate
    }
    /// The step cost this much; where that is more than was set aside, it is counted all the same.
    pub fn settle(mut self, actual: Money) {
        self.close(actual);
    }
    /// The step may have been paid and nobody can tell: counts all that was set aside.
    pub fn settle_in_full(mut self) {
        self.close(self.estimate.unwrap_or_default());
    }

    fn close(&mut self, actual: Money) {
        let mut books = self.shared.books();
        books.reserved.take(self.purpose, self.estimate.unwrap_or_default());
        books.spent.add(self.purpose, actual);
        books.unpriced += u64::from(self.estimate.is_none());
        drop(books);
        self.is_open = false;
        self.shared.settled.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            self.shared.books().reserved.take(self.purpose, self.estimate.unwrap_or_default());
            self.shared.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODEL: &str = "openai:gpt-4.1";

    fn nanos(nanos: u64) -> Money {
        Money::from_nanos(nanos)
    }
    fn capped(limit: u64) -> Budget {
        Budget::new(Some(nanos(limit)), Spending::default())
    }
    fn sample(budget: &Budget, estimate: u64) -> Result<Reservation> {
        budget.reserve(Purpose::Sample, MODEL, Some(nanos(estimate)))
    }

    #[test]
    fn what_would_pass_the_limit_is_refused_with_what_is_spent_and_what_to_do() {
        let dollars = |amount: f64| Money::from_dollars(amount).unwrap();
        let mut spent = Spending::default();
        spent.add(Purpose::FineTune, dollars(4.0));
        let budget = Budget::new(Some(dollars(5.0)), spent);
        let under_way = budget.reserve(Purpose::Judge, "openai:gpt-4o", Some(dollars(0.7))).unwrap();
        let error = budget.reserve(Purpose::Sample, MODEL, Some(dollars(0.42))).unwrap_err();
        assert_eq!((error.kind, error.exit_code()), (Kind::Budget, 3));
        assert_eq!(
            error.message,
            "the budget of $5.00 would be passed: $4.00 spent, $0.70 set aside for what is under way, \
             and the next step (samples of `openai:gpt-4.1`) may cost $0.42"
        );
        let help = error.help.unwrap();
        assert!(help.contains("`--budget-usd 6`") && help.contains("nothing that is done is repeated"), "{help}");
        under_way.settle(dollars(0.1));
        budget.reserve(Purpose::Sample, MODEL, Some(dollars(0.42))).unwrap().settle(dollars(0.42));
        assert_eq!(budget.report().spent.to_string(), "$4.52 (fine-tunes $4.00, samples $0.42, judges $0.10)");
    }

    #[test]
    fn the_limit_itself_can_be_spent_to_the_last_nano_dollar() {
        let budget = capped(10);
        sample(&budget, 10).unwrap().settle(nanos(10));
        assert!(sample(&budget, 1).is_err());
        assert_eq!(budget.report().overshoot, Money::ZERO);
    }

    #[test]
    fn a_dropped_reservation_is_given_back() {
        let budget = capped(10);
        drop(sample(&budget, 10).unwrap());
        assert_eq!(budget.report().reserved, Spending::default());
        drop(sample(&budget, 10).unwrap());
        assert_eq!(budget.report().spent, Spending::default());
    }

    #[test]
    fn a_step_that_may_have_been_paid_is_counted_in_full() {
        let budget = capped(10);
        sample(&budget, 7).unwrap().settle_in_full();
        assert_eq!(budget.report().spent.of(Purpose::Sample), nanos(7));
        assert!(sample(&budget, 4).is_err());
    }

    #[test]
    fn an_overshoot_is_visible_and_nothing_that_costs_begins_after_it() {
        let budget = capped(10);
        sample(&budget, 6).unwrap().settle(nanos(15));
        assert_eq!(budget.report().overshoot, nanos(5));
        assert!(sample(&budget, 1).is_err());
        sample(&budget, 0).unwrap().settle(Money::ZERO);
    }

    #[test]
    fn without_a_limit_everything_is_counted_and_nothing_refused() {
        let budget = Budget::new(None, Spending::default());
        sample(&budget, u64::MAX).unwrap().settle(nanos(3));
        budget.reserve(Purpose::Judge, "lab:new", None).unwrap().settle(Money::ZERO);
        let report = budget.report();
        assert_eq!((report.spent.total(), report.unpriced), (nanos(3), 1));
    }

    #[test]
    fn under_a_limit_a_model_without_a_price_is_not_begun() {
        let error = capped(10).reserve(Purpose::FineTune, "together:new", None).unwrap_err();
        assert_eq!(error.kind, Kind::Input);
        assert!(error.message.contains("`together:new`") && error.help.unwrap().contains("prices.toml"));
    }

    #[test]
    fn what_was_spent_before_counts() {
        let budget = capped(10);
        budget.record(Purpose::FineTune, nanos(12));
        assert_eq!(budget.report().overshoot, nanos(2));
        assert!(sample(&budget, 1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_waits_for_answers_that_turn_out_cheaper() {
        let budget = capped(10);
        let long = sample(&budget, 9).unwrap();
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve_in_turn(Purpose::Sample, MODEL, Some(nanos(5))).await }
        });
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        long.settle(nanos(2));
        waiting.await.unwrap().unwrap().settle(nanos(5));
        assert_eq!(budget.report().spent.total(), nanos(7));
    }

    #[tokio::test]
    async fn nobody_waits_for_what_cannot_become_cheaper() {
        let budget = capped(10);
        let _job = budget.reserve(Purpose::FineTune, MODEL, Some(nanos(8))).unwrap();
        let refused = budget.reserve_in_turn(Purpose::Sample, MODEL, Some(nanos(5))).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Budget);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_tasks_at_once_spend_up_to_the_limit_and_never_more() {
        let budget = capped(1000);
        let tasks: Vec<_> = (0..500u64)
            .map(|index| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    let Ok(reserved) = budget.reserve_in_turn(Purpose::Sample, MODEL, Some(nanos(20))).await else {
                        return 0;
                    };
                    tokio::task::yield_now().await;
                    reserved.settle(nanos(index % 8));
                    index % 8
                })
            })
            .collect();
        let mut paid = 0;
        for task in tasks {
            paid += task.await.unwrap();
        }
        let report = budget.report();
        assert_eq!((report.spent.total(), report.reserved), (nanos(paid), Spending::default()));
        // A refusal comes only where less than one estimate is left, so that nearly all of the money is used.
        assert!(report.overshoot == Money::ZERO && paid > 980, "{paid}");
    }

    proptest! {
        #[test]
        fn the_limit_is_never_passed_while_no_step_costs_more_than_estimated(
            limit in 0u64..1000,
            steps in prop::collection::vec((0u64..200, 0.0f64..=1.0, 0usize..4, 0usize..3), 0..80),
        ) {
            let budget = capped(limit);
            let mut open = Vec::new();
            for (estimate, share, action, purpose) in steps {
                if let Ok(reserved) = budget.reserve(Purpose::ALL[purpose], MODEL, Some(nanos(estimate))) {
                    open.push((reserved, (estimate as f64 * share) as u64));
                }
                if action > 0 && !open.is_empty() {
                    let (reserved, actual) = open.remove(0);
                    match action {
                        1 => drop(reserved),
                        2 => reserved.settle_in_full(),
                        _ => reserved.settle(nanos(actual)),
                    }
                }
                let report = budget.report();
                prop_assert!(report.spent.total() + report.reserved.total() <= nanos(limit));
                let set_aside: Money = open.iter().map(|(reserved, _)| reserved.estimate().unwrap_or_default()).sum();
                prop_assert_eq!(report.reserved.total(), set_aside);
            }
        }

        #[test]
        fn after_an_overshoot_nothing_that_costs_is_begun(
            limit in 1u64..1000,
            excess in 1u64..1000,
            next in 1u64..1000,
        ) {
            let budget = capped(limit);
            sample(&budget, limit).unwrap().settle(nanos(limit + excess));
            prop_assert_eq!(budget.report().overshoot, nanos(excess));
            prop_assert!(sample(&budget, next).is_err());
        }
    }
}
