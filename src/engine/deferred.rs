//! A value that may not be there yet: asked for in a script, computed elsewhere, read by whoever needs it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};

/// A shared promise of a value; clones are the same promise.
#[derive(Debug)]
pub struct Deferred<T> {
    state: watch::Receiver<Option<Result<Arc<T>>>>,
}

impl<T> Clone for Deferred<T> {
    fn clone(&self) -> Self {
        Deferred { state: self.state.clone() }
    }
}

/// The side that keeps the promise; dropping it unkept fails the readers.
#[derive(Debug)]
pub struct Promise<T> {
    state: watch::Sender<Option<Result<Arc<T>>>>,
}

impl<T> Promise<T> {
    /// Gives the value, or the reason why there is none, to all readers.
    pub fn keep(self, outcome: Result<Arc<T>>) {
        self.state.send_replace(Some(outcome));
    }
}

impl<T> Deferred<T> {
    /// A promise and its value-to-be.
    pub fn new() -> (Promise<T>, Self) {
        let (sender, receiver) = watch::channel(None);
        (Promise { state: sender }, Deferred { state: receiver })
    }
    /// A value that is there already.
    pub fn ready(outcome: Result<Arc<T>>) -> Self {
        let (promise, deferred) = Self::new();
        promise.keep(outcome);
        deferred
    }
    /// The outcome if it is there.
    pub fn peek(&self) -> Option<Result<Arc<T>>> {
        self.state.borrow().clone()
    }
    /// Waits without holding a thread.
    pub async fn wait(&self) -> Result<Arc<T>> {
        let mut state = self.state.clone();
        match state.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited until it is there"),
            Err(_) => Err(Error::internal("a call ended without an outcome")),
        }
    }
}
