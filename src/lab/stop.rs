//! Stopping: everything when somebody asked to, or one call.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::Lab;
use crate::data::digest::Digest;
use crate::error::{Error, Kind, Result};

impl Lab {
    /// Whether somebody asked to stop.
    pub fn cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Relaxed)
    }
    /// Fails when somebody asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancelled() {
            return Err(Error::new(Kind::Interrupted, "stopped")
                .with_help("run the same command again: what is finished is not repeated"));
        }
        Ok(())
    }

    /// Stops one call at its next step; an equal call after this starts anew, and waits for what is left of this one.
    pub fn stop_call(&self, key: Digest) {
        self.stopped().insert(key);
        self.forget_call(key);
    }
    /// Forgets how a call of this process ended, so that an equal one looks again; the store keeps what it has.
    pub fn forget_call(&self, key: Digest) {
        self.inner.engine.forget(&key);
    }
    /// Fails when somebody asked to stop this call, or everything.
    pub fn check_call(&self, key: Digest) -> Result<()> {
        if self.stopped().contains(&key) {
            return Err(Error::new(Kind::Interrupted, "the call was stopped"));
        }
        self.check_cancelled()
    }
    pub(super) fn stopped(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.inner.stopped.lock().expect("no panic while holding the stopped calls")
    }
}
