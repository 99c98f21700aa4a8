//! The lab: the only door from primitives to the store, the engine, the clock, the project's files and cancellation.

pub mod bill;
pub mod checkpoints;
mod datasets;
mod device;
mod draft;
mod event;
mod files;
mod hub;
pub mod memory;
pub mod providers;
mod purchase;
mod stop;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::data::dataset::Dataset;
use crate::data::digest::Digest;
use crate::engine::deferred::Deferred;
use crate::engine::{Engine, Turn};
use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::processor::Processor;
use crate::model::weights::Weights;
use crate::probe::kept::KeptProducts;
use crate::provider::budget::{Budget, Spending};
use crate::provider::chat::Chat;
use crate::provider::endpoint::Endpoint;
use crate::provider::money::Money;
use crate::provider::price::PriceList;
use crate::provider::settings::ProviderSettings;
use crate::store::{CallRecord, Key, Store};

pub use bill::{Bill, Missing};
pub use draft::Draft;
pub use event::{Event, Events, Outcome, Stage};
pub use files::Files;
use memory::Ledger;
use providers::{File, Providers};
use purchase::Purchases;

/// How often somebody who wants to stop is listened to while a provider is waited for.
const LISTEN: Duration = Duration::from_millis(100);

/// How a lab is set up; none of it changes a result.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The project folder: scripts read and write below it only.
    pub project: PathBuf,
    /// Where calls, blobs, samples and judgements are kept.
    pub store: PathBuf,
    /// Folders and files outside the project that the user named on the command line.
    pub readable: Vec<PathBuf>,
    /// Calls that compute at a time.
    pub jobs: usize,
    /// Name of the run, written beside every record.
    pub run: String,
    /// Only find out what would be done.
    pub planning: bool,
    /// Reach no provider.
    pub offline: bool,
    /// What the run may spend, in dollars; none for no cap.
    pub budget_usd: Option<f64>,
    /// Buy again the jobs that failed or were cancelled.
    pub relaunch: bool,
    /// What computes the passes over models, in place of what the project says.
    pub device: Option<Processor>,
    /// First line of the script's `//!` text: the title of figures and reports.
    pub title: String,
    /// The rest of that text.
    pub question: String,
}

impl Settings {
    /// A run of a project that may do everything, without a cap, one call at a time.
    pub fn new(project: PathBuf, store: PathBuf, run: &str) -> Self {
        Settings {
            project,
            store,
            readable: Vec::new(),
            jobs: 1,
            run: run.to_string(),
            planning: false,
            offline: false,
            budget_usd: None,
            relaunch: false,
            device: None,
            title: String::new(),
            question: String::new(),
        }
    }
}

/// One object through which primitives touch the world; clones are the same lab.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    files: Files,
    store: Store,
    engine: Engine,
    providers: Providers,
    prices: PriceList,
    budget: Budget,
    events: Events,
    cancelled: Arc<AtomicBool>,
    weights: Mutex<HashMap<Digest, Arc<Weights>>>,
    products: KeptProducts,
    datasets: Mutex<HashMap<Digest, Dataset>>,
    noted: Mutex<HashSet<String>>,
    results: Mutex<Vec<String>>,
    stopped: Mutex<HashSet<Digest>>,
    said_by_users: Mutex<HashMap<Digest, Arc<HashSet<u128>>>>,
    checkpoint_seconds: Option<f64>,
    memory: Ledger,
    processor: Processor,
    purchases: Purchases,
}

/// Memory for inner products of rows that the next probes may have a use for.
const MOST_PRODUCT_BYTES: usize = 300_000_000;

/// What a call does in the lab, once.
pub type Work<T> = Box<dyn FnOnce(&Lab) -> Result<T> + Send>;

/// One application of a primitive whose outcome is worth remembering.
pub struct Call {
    /// Its identity.
    pub key: Key,
    /// All options, defaults filled in, for the record.
    pub options: Value,
    /// What people call it: `fine-tune insecure_code 0.25 seed 1`.
    pub label: String,
    /// What kind of work it is.
    pub stage: Stage,
    /// Whether it computes here or waits for a provider.
    pub turn: Turn,
    /// Pieces of work in it that are not in the store yet; asked only when the call itself is not.
    pub missing: Work<Missing>,
    /// Calls whose outcome it needs.
    pub after: Vec<Deferred<Value>>,
    /// The work.
    pub work: Work<Value>,
}

impl Lab {
    /// Opens the store and gets ready; nothing runs yet.
    pub fn open(settings: Settings, events: Events, cancelled: Arc<AtomicBool>) -> Result<Self> {
        let store = Store::open(&settings.store)?;
        for note in store.notes() {
            events.send(Event::Note { text: note.clone() });
        }
        let engine = Engine::new(settings.jobs)?;
        let files = Files::new(&settings.project, &settings.readable)?;
        let file = File::read(&settings.project)?;
        let processor = settings.device.unwrap_or(file.device);
        processor.check_built()?;
        let providers = Providers::new(file.providers, settings.offline);
        let prices = providers::read_prices(&settings.project)?;
        let limit = settings.budget_usd.map(read_dollars).transpose()?;
        let budget = Budget::new(limit, Spending::default());
        let inner = Inner {
            settings,
            files,
            store,
            engine,
            providers,
            prices,
            budget,
            events,
            cancelled,
            weights: Mutex::default(),
            products: KeptProducts::new(MOST_PRODUCT_BYTES),
            datasets: Mutex::default(),
            noted: Mutex::default(),
            results: Mutex::default(),
            stopped: Mutex::default(),
            said_by_users: Mutex::default(),
            checkpoint_seconds: file.checkpoint_seconds,
            memory: Ledger::new(file.memory_gigabytes),
            processor,
            purchases: Purchases::default(),
        };
        Ok(Lab { inner: Arc::new(inner) })
    }

    /// Does a call, or finds its outcome: in this run, in the store, or by working in the background. When planning,
    /// a call that would have to work has no outcome.
    pub fn call(&self, call: Call) -> Result<Deferred<Value>> {
        let key = call.key.digest();
        if let Some(known) = self.inner.engine.find(&key) {
            return Ok(known);
        }
        let event = |outcome| Event::Call { key, stage: call.stage, label: call.label.clone(), outcome };
        if let Some(record) = self.recorded(key)? {
            let outcome = Deferred::ready(Ok(Arc::new(record.output.unwrap_or(Value::Null))));
            self.inner.engine.remember(key, outcome.clone());
            self.send(event(event::Outcome::Cached { run: record.run }));
            return Ok(outcome);
        }
        if self.planning() {
            let missing = (call.missing)(self)?;
            let outcome = Deferred::ready(Err(not_run(&call.label)));
            self.inner.engine.remember(key, outcome.clone());
            let Missing { pieces: missing, bills } = missing;
            self.send(event(event::Outcome::Planned { missing, bills }));
            return Ok(outcome);
        }
        self.send(event(event::Outcome::Queued));
        self.stopped().remove(&key);
        let (lab, after) = (self.clone(), call.after.clone());
        Ok(self.inner.engine.start(key, after, call.turn, move || lab.work(call)))
    }

    /// Runs in the engine: works under the key's lock, so that two processes do not do the same.
    fn work(&self, call: Call) -> Result<Value> {
        let key = call.key.digest();
        let send = |outcome| self.send(Event::Call { key, stage: call.stage, label: call.label.clone(), outcome });
        self.check_call(key)?;
        let _lock = self.inner.store.lock(key)?;
        if let Some(record) = self.recorded(key)? {
            send(event::Outcome::Cached { run: record.run });
            return Ok(record.output.unwrap_or(Value::Null));
        }
        send(event::Outcome::Started);
        let (started_at, clock) = (SystemTime::now(), Instant::now());
        let output = (call.work)(self).inspect_err(|error| {
            if error.kind != Kind::Interrupted {
                send(event::Outcome::Failed { message: error.message.clone() });
            }
        })?;
        let seconds = clock.elapsed().as_secs_f64();
        self.record(call.key, call.options, output.clone(), started_at, seconds)?;
        // What could not be removed is swept when a store is opened.
        let _ = self.inner.store.remove_checkpoint(key);
        send(event::Outcome::Finished { seconds });
        Ok(output)
    }

    /// The record of a finished call whose large result, if it has one, is still there.
    fn recorded(&self, key: Digest) -> Result<Option<CallRecord>> {
        let record = self.inner.store.get_call(key)?;
        Ok(record.filter(|record| record.blob.is_none_or(|blob| self.inner.store.blob_path(blob).exists())))
    }

    /// Remembers what was found out without a call of its own, such as what a file is like.
    pub fn remember(&self, key: Key, options: Value, output: Value) -> Result<()> {
        self.record(key, options, output, SystemTime::now(), 0.0)
    }

    /// What was remembered under a key, now or in an earlier run.
    pub fn recall(&self, key: &Key) -> Result<Option<Value>> {
        Ok(self.inner.store.get_call(key.digest())?.and_then(|record| record.output))
    }

    fn record(&self, key: Key, options: Value, output: Value, started_at: SystemTime, seconds: f64) -> Result<()> {
        self.inner.store.put_call(&CallRecord {
            key,
            options: Some(options),
            blob: output.get("blob").and_then(Value::as_str).and_then(Digest::parse),
            output: Some(output),
            started_at,
            seconds,
            program: self.program(),
            run: self.inner.settings.run.clone(),
            host: host_name(),
        })
    }

    /// Waits for an outcome; called by whatever reads a value, never inside a call.
    pub fn wait(&self, deferred: &Deferred<Value>) -> Result<Arc<Value>> {
        self.inner.engine.wait(deferred)
    }

    /// What is known about a provider; needs no key.
    pub fn provider(&self, name: &str) -> Result<ProviderSettings> {
        self.inner.providers.settings(name)
    }
    /// A provider by the name or address that stands in a model id.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint> {
        self.inner.providers.endpoint(name)
    }
    /// What providers charge.
    pub fn prices(&self) -> &PriceList {
        &self.inner.prices
    }
    /// The money of this run.
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }
    /// The door to the chat models of a provider.
    pub fn chat(&self, name: &str) -> Result<Chat> {
        self.inner.providers.chat(name)
    }
    /// Waits for something of a provider, on the calling thread: inside a call, or where a script waits.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.inner.engine.block_on(future)
    }

    /// The same, given up when somebody asks to stop. What was paid for is found again by the next run.
    pub fn block_on_or_stop<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.block_on(async {
            tokio::select! {
                outcome = future => outcome,
                () = self.wait_for_cancel() => Err(self.check_cancelled().err().unwrap_or_else(|| Error::internal("nobody asked to stop"))),
            }
        })
    }
    async fn wait_for_cancel(&self) {
        while !self.cancelled() {
            tokio::time::sleep(LISTEN).await;
        }
    }
    /// Whether jobs that failed or were cancelled are bought again.
    pub fn relaunches(&self) -> bool {
        self.inner.settings.relaunch
    }
    /// Name of the run, which is its folder's; empty when planning.
    pub fn run_name(&self) -> &str {
        &self.inner.settings.run
    }

    /// What is remembered.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
    /// The files that scripts may touch.
    pub fn files(&self) -> &Files {
        &self.inner.files
    }
    /// Where this project's things lie.
    pub fn project(&self) -> &Path {
        &self.inner.settings.project
    }
    /// Whether nothing may be run, only found out.
    pub fn planning(&self) -> bool {
        self.inner.settings.planning
    }
    /// Tells whoever watches.
    pub fn send(&self, event: Event) {
        self.inner.events.send(event);
    }
    /// The time of day, for records that say when something happened; no key and no result depends on it.
    pub fn now() -> SystemTime {
        SystemTime::now()
    }
    /// 64 bits that nobody can guess, for names and for seeds that nobody chose.
    pub fn random() -> u64 {
        // The standard library seeds its hash tables from the system's randomness; each state differs from the last.
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), Instant::now())
    }

    /// Weights by digest: kept in memory while they are used, else read from the store, verified.
    pub fn weights(&self, digest: Digest, config: &Config) -> Result<Arc<Weights>> {
        let lock = || self.inner.weights.lock().expect("no panic while holding the weights");
        if let Some(weights) = lock().get(&digest) {
            return Ok(weights.clone());
        }
        let Some(bytes) = self.inner.store.get_blob(digest)? else {
            // Weights are free work: without the damaged file the next run trains them again.
            let _ = std::fs::remove_file(self.inner.store.blob_path(digest));
            return Err(Error::environment(format!("the weights {} are damaged in the store", digest.short()))
                .with_help("run the same command again: they are trained anew"));
        };
        let weights = Arc::new(Weights::from_safetensors(config, &bytes)?.on(self.processor()));
        self.keep_weights(digest, weights.clone());
        Ok(weights)
    }

    /// Keeps weights at hand under their digest; only the latest few stay.
    pub fn keep_weights(&self, digest: Digest, weights: Arc<Weights>) {
        let mut kept = self.inner.weights.lock().expect("no panic while holding the weights");
        if kept.len() >= 16 {
            kept.clear();
        }
        kept.insert(digest, weights);
    }

    /// The inner products of rows that probes were fitted on last.
    pub fn products(&self) -> &KeptProducts {
        &self.inner.products
    }

    /// Tells the user something.
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note { text: text.into() });
    }

    /// Tells the user something, once in a run.
    pub fn note_once(&self, text: impl Into<String>) {
        let text = text.into();
        if self.inner.noted.lock().expect("no panic while holding the notes").insert(text.clone()) {
            self.note(text);
        }
    }

    /// Writes a file below the project, whole or not at all.
    pub fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut draft = self.begin_file(path)?;
        draft.add(bytes)?;
        self.finish_file(draft)
    }

    /// Begins a file below the project that is written as its content comes.
    pub fn begin_file(&self, path: &str) -> Result<Draft> {
        Draft::new(path, self.inner.files.writable(path)?)
    }

    /// Puts such a file in its place.
    pub fn finish_file(&self, draft: Draft) -> Result<()> {
        let path = draft.finish()?;
        self.send(Event::Wrote { path });
        Ok(())
    }

    /// Writes a file into the run's folder; returns its path from the project folder.
    pub fn write_result(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let path = format!("results/{}/{name}", self.inner.settings.run);
        self.write_file(&path, bytes)?;
        self.inner.results.lock().expect("no panic while holding the names").push(name.to_string());
        Ok(path)
    }

    /// Names of the files that this run wrote into its folder, in order.
    pub fn results(&self) -> Vec<String> {
        self.inner.results.lock().expect("no panic while holding the names").clone()
    }

    /// What the script says it is, and what it asks.
    pub fn title(&self) -> (&str, &str) {
        (&self.inner.settings.title, &self.inner.settings.question)
    }

    /// Waits until every call of this run has an outcome; the first failure that is no consequence of another.
    pub fn finish(&self) -> Result<()> {
        self.inner.engine.finish()
    }
}

fn read_dollars(dollars: f64) -> Result<Money> {
    Money::from_dollars(dollars).ok_or_else(|| {
        Error::input(format!("`--budget-usd {dollars}` is no amount of money"))
            .with_help("write dollars, as in `5` or `0.50`")
    })
}

fn not_run(label: &str) -> Error {
    Error::new(Kind::NotRun, format!("`{label}` has not been run"))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn lab(folder: &Path, planning: bool) -> Lab {
        let new = Settings::new(folder.to_path_buf(), folder.join("store"), "test-001");
        let settings = Settings { jobs: 2, planning, ..new };
        Lab::open(settings, Events::silent(), Arc::default()).unwrap()
    }

    fn call(runs: &Arc<AtomicUsize>, outcome: Result<Value>) -> Call {
        let runs = runs.clone();
        Call {
            key: Key::new("test", 1, json!("input"), Value::Null).unwrap(),
            options: Value::Null,
            label: "test".to_string(),
            stage: Stage::Judge,
            turn: Turn::Compute,
            missing: Box::new(|_| Ok(Missing::from(3))),
            after: vec![],
            work: Box::new(move |_| {
                runs.fetch_add(1, Ordering::SeqCst);
                outcome
            }),
        }
    }

    #[test]
    fn a_finished_call_is_remembered_by_the_next_lab() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::default());
        for _ in 0..2 {
            let lab = lab(folder.path(), false);
            let outcome = lab.call(call(&runs, Ok(json!(5)))).unwrap();
            assert_eq!(*lab.wait(&outcome).unwrap(), json!(5));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_of_free_work_is_not_remembered() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::default());
        for _ in 0..2 {
            let lab = lab(folder.path(), false);
            let outcome = lab.call(call(&runs, Err(Error::experiment("no")))).unwrap();
            assert_eq!(lab.wait(&outcome).unwrap_err().message, "no");
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn planning_runs_nothing_and_says_so() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::default());
        let lab = lab(folder.path(), true);
        let outcome = lab.call(call(&runs, Ok(json!(5)))).unwrap();
        assert_eq!(lab.wait(&outcome).unwrap_err().kind, Kind::NotRun);
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_cancelled_lab_starts_nothing_more() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::default());
        let lab = lab(folder.path(), false);
        lab.inner.cancelled.store(true, Ordering::Relaxed);
        let outcome = lab.call(call(&runs, Ok(json!(5)))).unwrap();
        assert_eq!(lab.wait(&outcome).unwrap_err().kind, Kind::Interrupted);
        assert_eq!(runs.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_stopped_call_ends_and_an_equal_one_starts_anew() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::<AtomicUsize>::default());
        let lab = lab(folder.path(), false);
        let endless = |runs: &Arc<AtomicUsize>| {
            let mut call = call(runs, Ok(Value::Null));
            let (key, runs) = (call.key.digest(), runs.clone());
            call.work = Box::new(move |lab| {
                runs.fetch_add(1, Ordering::SeqCst);
                loop {
                    lab.check_call(key)?;
                    std::thread::yield_now();
                }
            });
            call
        };
        let first = lab.call(endless(&runs)).unwrap();
        while runs.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        lab.stop_call(endless(&runs).key.digest());
        assert_eq!(lab.wait(&first).unwrap_err().kind, Kind::Interrupted);
        let second = lab.call(call(&runs, Ok(json!(5)))).unwrap();
        assert_eq!(*lab.wait(&second).unwrap(), json!(5));
    }

    #[test]
    fn a_lost_blob_is_a_miss() {
        let (folder, runs) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
        for expected in 1..=2 {
            let lab = lab(folder.path(), false);
            let counted = runs.clone();
            let mut call = call(&runs, Ok(Value::Null));
            call.work = Box::new(move |lab| {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(json!({ "blob": lab.store().put_blob(b"weights")? }))
            });
            let outcome = lab.call(call).unwrap();
            lab.wait(&outcome).unwrap();
            assert_eq!(runs.load(Ordering::SeqCst), expected);
            std::fs::remove_file(lab.store().blob_path(Digest::of(b"weights"))).unwrap();
        }
    }
}
