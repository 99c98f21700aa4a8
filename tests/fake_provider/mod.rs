//! An OpenAI-shaped provider on loopback that misbehaves on request and remembers everything that was asked of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, reason = "test code, of which every binary uses another part")]

mod batches;
mod chat;
mod connection;
mod faults;
mod files;
mod job_request;
mod jobs;
mod journal;
mod limits;
mod models;
mod reply;
mod route;
mod script;
mod state;
mod together;
mod training;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

pub use chat::{Answer, ChatRequest, LogprobSupport, Message, echo};
pub use faults::Fault;
pub use journal::Entry;
pub use limits::Limits;
pub use script::{BatchEnd, BatchScript, FOREVER, Failure, JobEnd, JobScript, RowFate};
pub use state::{Charged, FileRecord, JobRecord, Settings};

use faults::Rule;
use state::{Caller, State};

/// A running fake; it stops when this is dropped.
pub struct Fake {
    port: u16,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Fake {
    /// Starts one on a free port of 127.0.0.1, with two threads.
    pub fn start() -> Fake {
        Fake::start_on(2)
    }
    /// Starts one with that many threads.
    pub fn start_on(threads: usize) -> Fake {
        // Clients of the tests need one to be made, also where they speak plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("fake-provider")
            .enable_all()
            .build()
            .expect("a runtime starts");
        let state = Arc::new(State::new());
        // A thousand clients may connect at once: the queue of a standard listener is too short for them.
        let entered = runtime.enter();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(4096).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        runtime.spawn(connection::accept(listener, state.clone()));
        drop(entered);
        Fake { port, state, runtime: Some(runtime) }
    }

    /// What a client takes as `base_url`: `http://127.0.0.1:PORT/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.root())
    }
    /// The address without a path.
    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    /// The v1 address in the shape of Azure; `{root}/openai/...?api-version=` is served as well.
    pub fn azure_url(&self) -> String {
        format!("{}/openai/v1", self.root())
    }

    /// Changes how it behaves from now on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state.settings.write().unwrap());
    }
    /// From now on a key is required; this one belongs to that organisation and project (again: it moves).
    pub fn add_key(&self, key: &str, organization: &str, project: &str) {
        let caller = Caller { organization: organization.into(), project: project.into() };
        self.set(|settings| _ = settings.keys.insert(key.into(), Arc::new(caller)));
    }
    /// Puts the provider's clock ahead by so many seconds, behind where negative.
    pub fn skew_clock(&self, seconds: i64) {
        self.state.clock_skew_seconds.store(seconds, Ordering::Relaxed);
    }
    /// Answers chats with this function.
    pub fn answer_with(&self, answer: impl Fn(&ChatRequest) -> Answer + Send + Sync + 'static) {
        self.set(|settings| settings.answer = Arc::new(answer));
    }
    /// Lists a model; a date makes it end then.
    pub fn add_model(&self, model: &str, shutdown_date: Option<&str>) {
        self.state.models.add(model, shutdown_date, None);
    }
    /// Lists a model that only this project may use.
    pub fn add_model_of(&self, model: &str, project: &str) {
        self.state.models.add(model, None, Some(project));
    }
    /// An Azure deployment: chats name `deployment`, answers name `model`.
    pub fn add_deployment(&self, deployment: &str, model: &str) {
        self.state.models.deploy(deployment, model);
    }

    /// The next `times` matching requests meet this fault. `path` is a prefix without `/v1`; a final `$` makes it
    /// exact; method `*` is any.
    pub fn fail_next(&self, method: &str, path: &str, times: u64, fault: Fault) {
        self.fail_after(method, path, 0, times, fault);
    }
    /// The same after `skipped` matching requests that go well.
    pub fn fail_after(&self, method: &str, path: &str, skipped: u64, times: u64, fault: Fault) {
        self.state.faults.add(Rule::next(method, path, skipped, times, fault));
    }
    /// Every matching request meets this fault, until `clear_faults`.
    pub fn fail_always(&self, method: &str, path: &str, fault: Fault) {
        self.state.faults.add(Rule::next(method, path, 0, u64::MAX, fault));
    }
    /// Matching requests meet one of the faults with its probability; the draws follow from the seed.
    pub fn fail_randomly(&self, method: &str, path: &str, seed: u64, faults: &[(f64, Fault)]) {
        self.state.faults.add(Rule::random(method, path, seed, faults));
    }
    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }
    /// How many faults were played, by the name of the variant (`CloseAfterActing`); `*` is all.
    pub fn faults_played(&self, name: &str) -> u64 {
        self.state.faults.played(name)
    }

    /// Scripts the next job that is created (calls queue up); all others follow `Settings::job_script`.
    pub fn script_next_job(&self, script: JobScript) {
        self.state.world.lock().unwrap().next_scripts.push_back(script);
    }
    /// Scripts the next batch that is created; all others follow `Settings::batch_script`.
    pub fn script_next_batch(&self, script: BatchScript) {
        self.state.world.lock().unwrap().next_batch_scripts.push_back(script);
    }
    /// Moves every job as one poll of it would.
    pub fn advance_jobs(&self) {
        jobs::advance_all(&self.state);
    }
    /// Moves one job to its scripted end.
    pub fn finish_job(&self, id: &str) {
        jobs::finish_now(&self.state, id);
    }
    /// Puts a job into any status, where it stays until polls or another call move it.
    pub fn set_status(&self, id: &str, status: &str) {
        jobs::force_status(&self.state, id, status);
    }
    /// A second job with the same request and metadata, created now; its id.
    pub fn duplicate_job(&self, id: &str) -> String {
        jobs::duplicate(&self.state, id)
    }
    /// The next so many jobs are made twice; the answer names the first of the two.
    pub fn make_twins(&self, times: u32) {
        self.state.world.lock().unwrap().twins = times;
    }
    /// A job that nobody asked for, with this request body, in that project; its id.
    pub fn insert_job(&self, project: &str, body: Value) -> String {
        jobs::insert(&self.state, project, body)
    }
    /// A file that is just there; its id.
    pub fn insert_file(&self, project: &str, name: &str, purpose: &str, content: &[u8]) -> String {
        let mut world = self.state.world.lock().unwrap();
        files::insert(&self.state, &mut world, project, name, purpose, content.to_vec().into())
    }

    /// Every job ever created, oldest first, those of the Together shape too.
    pub fn jobs(&self) -> Vec<JobRecord> {
        self.state.world.lock().unwrap().jobs.iter().map(jobs::record).collect()
    }
    /// Jobs that were not cancelled.
    pub fn live_jobs(&self) -> Vec<JobRecord> {
        self.jobs().into_iter().filter(|job| job.status != "cancelled").collect()
    }
    /// Every file, also those that jobs and batches wrote.
    pub fn files(&self) -> Vec<FileRecord> {
        self.state.world.lock().unwrap().files.iter().map(files::record).collect()
    }
    /// Every batch ever created, oldest first, as its object.
    pub fn batches(&self) -> Vec<Value> {
        self.state.world.lock().unwrap().batches.iter().map(batches::object).collect()
    }
    /// Tokens that somebody would have to pay.
    pub fn charged_tokens(&self) -> Charged {
        self.state.charged()
    }
    /// Requests for chats that arrived, those that met a fault too; not those in batches.
    pub fn chat_calls(&self) -> u64 {
        self.state.journal.chat_calls()
    }
    /// Chats that were answered and charged, also where the answer was then lost.
    pub fn chat_answers(&self) -> u64 {
        self.state.chat_answers.load(Ordering::Relaxed)
    }
    /// Chats refused by the limits of `Settings::limits`.
    pub fn rate_refusals(&self) -> u64 {
        self.state.limiter.refusals()
    }

    /// Requests that arrived; the path as in `fail_next`.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        self.state.journal.count(method, path)
    }
    /// Everything that arrived, except chats, which need `record_chats`.
    pub fn journal(&self) -> Vec<Entry> {
        self.state.journal.entries()
    }
    /// Entries of one kind, as in `count`.
    pub fn requests(&self, method: &str, path: &str) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| faults::matches(method, path, &entry.method, &entry.route)).collect()
    }
    /// Whether chats are kept in the journal, body and all; off at first.
    pub fn record_chats(&self, on: bool) {
        self.state.journal.record_chats(on);
    }
    /// Largest number of requests that were open at once.
    pub fn largest_concurrency(&self) -> usize {
        self.state.journal.largest_concurrency()
    }
    /// Requests that are open now.
    pub fn open_requests(&self) -> usize {
        self.state.journal.open_requests()
    }
    /// Waits until something is so; false when the time is over.
    pub fn wait_until(&self, patience: Duration, is_so: impl Fn(&Fake) -> bool) -> bool {
        let start = Instant::now();
        while !is_so(self) {
            if start.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // Open requests may stall for ever, so nothing is waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
