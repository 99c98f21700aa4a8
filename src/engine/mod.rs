//! The scheduler of calls: lazy, shared when equal, as parallel as the machine.

pub mod deferred;
mod turns;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::data::digest::Digest;
use crate::error::{Error, Result};
use deferred::Deferred;
use turns::Turns;

/// What a call mostly does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It computes, so it takes one of the engine's turns.
    Compute,
    /// It waits for a provider, and many may do so at a time.
    Wait,
}

/// Runs calls in the background. Equal calls in flight are one execution; of those that are ready the oldest runs.
#[derive(Debug)]
pub struct Engine {
    runtime: Option<tokio::runtime::Runtime>,
    turns: Turns,
    age: AtomicU64,
    calls: Mutex<HashMap<Digest, Deferred<Value>>>,
}

impl Engine {
    /// An engine that computes `jobs` calls at a time.
    pub fn new(jobs: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Engine {
            runtime: Some(runtime),
            turns: Turns::new(jobs),
            age: AtomicU64::new(0),
            calls: Mutex::new(HashMap::new()),
        })
    }

    /// The call of this key, when this engine has seen it before.
    pub fn find(&self, key: &Digest) -> Option<Deferred<Value>> {
        self.calls.lock().expect("no panic while holding the calls").get(key).cloned()
    }

    /// Remembers the outcome of a call that needs no work.
    pub fn remember(&self, key: Digest, outcome: Deferred<Value>) {
        self.calls.lock().expect("no panic while holding the calls").insert(key, outcome);
    }

    /// Forgets a call: the next one of its key starts anew.
    pub fn forget(&self, key: &Digest) {
        self.calls.lock().expect("no panic while holding the calls").remove(key);
    }

    /// Runs `work` once everything in `after` is there and a turn is free, or at once where it only waits for others
    /// and so needs no `turn`. The first failure in `after` becomes the outcome, and `work` is not run.
    pub fn start(
        &self,
        key: Digest,
        after: Vec<Deferred<Value>>,
        turn: Turn,
        work: impl FnOnce() -> Result<Value> + Send + 'static,
    ) -> Deferred<Value> {
        let mut calls = self.calls.lock().expect("no panic while holding the calls");
        if let Some(call) = calls.get(&key) {
            return call.clone();
        }
        let (promise, deferred) = Deferred::new();
        calls.insert(key, deferred.clone());
        let (turns, age) = (self.turns.clone(), self.age.fetch_add(1, Ordering::Relaxed));
        self.runtime().spawn(async move {
            for input in after {
                if let Err(error) = input.wait().await {
                    return promise.keep(Err(error));
                }
            }
            let _turn = match turn {
                Turn::Compute => Some(turns.take(age).await),
                Turn::Wait => None,
            };
            let outcome = tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(describe_panic(panic)));
            promise.keep(outcome.map(std::sync::Arc::new));
        });
        deferred
    }

    /// How many calls could compute beside those that do.
    pub fn idle(&self) -> usize {
        self.turns.idle()
    }

    /// Blocks the calling thread, which must not be one of the engine's, until the outcome is there.
    pub fn wait(&self, deferred: &Deferred<Value>) -> Result<std::sync::Arc<Value>> {
        match deferred.peek() {
            Some(outcome) => outcome,
            None => self.runtime().block_on(deferred.wait()),
        }
    }

    /// Runs something that waits for the network, on the calling thread, which must not be one of the runtime's own.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    /// Waits for every call; of several failures always the same one, whatever ended first.
    pub fn finish(&self) -> Result<()> {
        let calls: BTreeMap<Digest, Deferred<Value>> =
            self.calls.lock().expect("no panic while holding the calls").clone().into_iter().collect();
        let failures: Vec<Error> = calls.values().filter_map(|call| self.wait(call).err()).collect();
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().expect("the runtime lives as long as the engine")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Calls that run poll for cancellation; the process must not wait for those that have not begun.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn describe_panic(panic: tokio::task::JoinError) -> Error {
    let reason = match panic.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_else(|| "no message".to_string()),
        Err(_) => "the call was cancelled".to_string(),
    };
    Error::internal(format!("a call panicked: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn equal_calls_are_one_execution() {
        let engine = Engine::new(2).unwrap();
        let runs = Arc::new(AtomicU64::new(0));
        let start = || {
            let runs = runs.clone();
            engine.start(Digest::of(b"call"), vec![], Turn::Compute, move || {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(json!(7))
            })
        };
        let (a, b) = (start(), start());
        assert_eq!(*engine.wait(&a).unwrap(), json!(7));
        assert_eq!(*engine.wait(&b).unwrap(), json!(7));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn failure_of_an_input_is_the_outcome() {
        let engine = Engine::new(1).unwrap();
        let bad = engine.start(Digest::of(b"bad"), vec![], Turn::Compute, || Err(Error::experiment("no")));
        let next = engine.start(Digest::of(b"next"), vec![bad], Turn::Compute, || Ok(json!(1)));
        assert_eq!(engine.wait(&next).unwrap_err().message, "no");
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let engine = Engine::new(1).unwrap();
        let call = engine.start(Digest::of(b"panic"), vec![], Turn::Compute, || panic!("boom {}", 1));
        assert_eq!(engine.wait(&call).unwrap_err().message, "a call panicked: boom 1");
    }
}
