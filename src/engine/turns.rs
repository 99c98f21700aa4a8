//! Turns on the processor: a fixed number at a time, the oldest call first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

/// Hands out turns in order of age, not of arrival, so that the first cells of a sweep finish first.
#[derive(Clone, Debug)]
pub struct Turns {
    shared: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: BinaryHeap<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    age: Reverse<u64>,
    wake: oneshot::Sender<Turn>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.age == other.age
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.age.cmp(&other.age)
    }
}

/// The right to compute; given back when dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Option<Turns>,
}

impl Turns {
    /// At most `count` (> 0) turns at a time.
    pub fn new(count: usize) -> Self {
        Turns { shared: Arc::new(Mutex::new(Queue { free: count.max(1), waiting: BinaryHeap::new() })) }
    }

    /// How many turns nobody has at the moment.
    pub fn idle(&self) -> usize {
        self.shared.lock().expect("no panic while holding the queue").free
    }

    /// Waits for a turn; of those that wait, the smallest `age` goes first.
    pub async fn take(&self, age: u64) -> Turn {
        let waiting = {
            let mut queue = self.shared.lock().expect("no panic while holding the queue");
            if queue.free > 0 {
                queue.free -= 1;
                return Turn { turns: Some(self.clone()) };
            }
            let (wake, waiting) = oneshot::channel();
            queue.waiting.push(Waiting { age: Reverse(age), wake });
            waiting
        };
        waiting.await.expect("the queue outlives those who wait in it")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else { return };
        let mut queue = turns.shared.lock().expect("no panic while holding the queue");
        while let Some(next) = queue.waiting.pop() {
            match next.wake.send(Turn { turns: Some(turns.clone()) }) {
                Ok(()) => return,
                // The next in line gave up: disarm the turn that came back, or it would count twice.
                Err(mut unused) => unused.turns = None,
            }
        }
        queue.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn oldest_call_goes_first() {
        let turns = Turns::new(1);
        let held = turns.take(0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = [5, 2, 9]
            .into_iter()
            .map(|age| {
                let (turns, order) = (turns.clone(), order.clone());
                tokio::spawn(async move {
                    let _turn = turns.take(age).await;
                    order.lock().unwrap().push(age);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [2, 5, 9]);
    }

    #[tokio::test]
    async fn a_waiter_that_gave_up_loses_no_turn() {
        let turns = Turns::new(1);
        assert_eq!(turns.idle(), 1);
        let held = turns.take(0).await;
        assert_eq!(turns.idle(), 0);
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), turns.take(1)).await;
        assert!(gave_up.is_err());
        drop(held);
        assert_eq!(turns.idle(), 1);
        let _again = turns.take(2).await;
    }
}
