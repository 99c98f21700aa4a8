//! Requests that buy something: a run that ends lets those on their way come to their answers, and begins no more.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::Lab;
use crate::error::{Error, Kind, Result};

/// How long the end of a run waits. What takes longer is looked for by the next run, as after a power loss.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many purchases are on their way, and whether more may begin.
#[derive(Default)]
pub(super) struct Purchases {
    open: Mutex<Open>,
    ended: Condvar,
}

#[derive(Default)]
struct Open {
    count: usize,
    closed: bool,
}

impl Purchases {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no panic while holding the purchases")
    }
}

/// A purchase on its way, until this is dropped.
pub struct Purchase<'l>(&'l Purchases);

impl Drop for Purchase<'_> {
    fn drop(&mut self) {
        self.0.lock().count -= 1;
        self.0.ended.notify_all();
    }
}

impl Lab {
    /// Begins to buy.
    ///
    /// # Errors
    /// The run is ending.
    pub fn begin_purchase(&self) -> Result<Purchase<'_>> {
        let purchases = &self.inner.purchases;
        let mut open = purchases.lock();
        if open.closed {
            return Err(Error::new(Kind::Interrupted, "the run is ending"));
        }
        open.count += 1;
        Ok(Purchase(purchases))
    }

    /// Lets nothing more be bought, and waits a moment for what is on its way: killed there, it would have to be looked for.
    pub fn end_purchases(&self) {
        let mut open = self.inner.purchases.lock();
        open.closed = true;
        let waited = self.inner.purchases.ended.wait_timeout_while(open, PATIENCE, |open| open.count > 0);
        drop(waited.expect("no panic while holding the purchases"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;
    use crate::lab::{Events, Settings};

    #[test]
    fn the_end_waits_for_what_is_on_its_way_and_lets_nothing_more_begin() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::new(folder.path().to_path_buf(), folder.path().join("store"), "");
        let lab = Lab::open(settings, Events::new(|_| ()), Arc::new(AtomicBool::new(false))).unwrap();
        let purchase = lab.begin_purchase().unwrap();
        let (ending, begun) = (lab.clone(), Instant::now());
        let end = std::thread::spawn(move || ending.end_purchases());
        while lab.begin_purchase().is_ok() {
            std::thread::yield_now();
        }
        assert!(!end.is_finished());
        drop(purchase);
        end.join().unwrap();
        assert!(begun.elapsed() < PATIENCE && lab.begin_purchase().is_err());
    }
}
