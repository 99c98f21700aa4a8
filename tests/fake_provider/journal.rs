//! Everything that was asked: entries, counts, and how much was open at once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;

use super::faults::{Fault, matches};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Time since the fake started.
    pub at: Duration,
    /// `POST`.
    pub method: String,
    /// As sent, with the query: `/v1/fine_tuning/jobs?limit=2`.
    pub path: String,
    /// What was meant: `/fine_tuning/jobs`.
    pub route: String,
    /// Names in lower case; values of `authorization` and `api-key` are `present`.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Bytes,
    /// The project of the key; empty where the key was wrong.
    pub project: String,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

impl Entry {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a fake remembers of its requests.
#[derive(Default)]
pub struct Journal {
    entries: Mutex<Vec<Entry>>,
    counts: Mutex<BTreeMap<(String, String), u64>>,
    /// Chats are counted without a lock: there may be 10^5 of them.
    chats: AtomicU64,
    records_chats: AtomicBool,
    open: AtomicUsize,
    largest: AtomicUsize,
}

/// The route of chats.
pub const CHAT: &str = "/chat/completions";

impl Journal {
    pub fn count_chat(&self) {
        self.chats.fetch_add(1, Ordering::Relaxed);
    }
    /// Whether this request is kept in full.
    pub fn keeps_chats(&self) -> bool {
        self.records_chats.load(Ordering::Relaxed)
    }
    pub fn count_other(&self, method: &str, route: &str) {
        *self.counts.lock().unwrap().entry((method.into(), route.into())).or_default() += 1;
    }
    pub fn keep(&self, entry: Entry) {
        self.entries.lock().unwrap().push(entry);
    }
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let chats = if matches(method, path, "POST", CHAT) { self.chat_calls() } else { 0 };
        let counts = self.counts.lock().unwrap();
        let others = counts.iter().filter(|((actual, route), _)| matches(method, path, actual, route));
        chats + others.map(|(_, count)| count).sum::<u64>()
    }
    pub fn chat_calls(&self) -> u64 {
        self.chats.load(Ordering::Relaxed)
    }
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
    pub fn record_chats(&self, on: bool) {
        self.records_chats.store(on, Ordering::Relaxed);
    }
    pub fn largest_concurrency(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }
    pub fn open_requests(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
    /// Counts a request as open until the value is dropped.
    pub fn open(&self) -> Open<'_> {
        let now = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.largest.fetch_max(now, Ordering::Relaxed);
        Open(self)
    }
}

/// A request that is being answered.
pub struct Open<'a>(&'a Journal);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
