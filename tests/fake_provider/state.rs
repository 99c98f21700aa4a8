//! What a fake is made of: settings that tests change, and the world of files, jobs and batches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::batches::Batch;
use super::chat::{Answer, ChatRequest, LogprobSupport, echo};
use super::faults::Faults;
use super::files::File;
use super::jobs::Job;
use super::journal::Journal;
use super::limits::{Limiter, Limits};
use super::models::Models;
use super::script::{BatchScript, JobScript};

/// How a fake behaves; changed through `Fake::set`.
pub struct Settings {
    /// Keys and whose they are; none: everybody is `org-fake` / `proj_default`.
    pub keys: HashMap<String, Arc<Caller>>,
    /// Refusals of a key repeat the whole key.
    pub echo_keys: bool,
    /// What jobs do that have no script of their own.
    pub job_script: JobScript,
    /// What batches do that have no script of their own.
    pub batch_script: BatchScript,
    /// A job or batch is missing from its list for this many list calls after it was created.
    pub list_lag_calls: u32,
    /// And for this long.
    pub list_lag: Duration,
    /// Lists of jobs ignore `metadata[..]`.
    pub ignore_filters: bool,
    /// Pages of jobs and events hold at most this many, whatever `limit` says.
    pub page_cap: usize,
    /// Jobs and batches come back without their metadata.
    pub forget_metadata: bool,
    /// Each list of jobs moves all jobs, as a poll of each would.
    pub lists_advance_jobs: bool,
    /// Training files are read: bad rows fail the job in `validating_files`.
    pub check_rows: bool,
    /// Result files come in base64.
    pub base64_results: bool,
    /// Jobs of one base model that a project may create before 429 `daily_rate_limit_exceeded`.
    pub daily_job_limit: Option<u32>,
    /// Unfinished jobs that a project may have before 429 `rate_limit_exceeded`.
    pub active_job_limit: Option<u32>,
    /// Answers chats.
    pub answer: Arc<dyn Fn(&ChatRequest) -> Answer + Send + Sync>,
    /// Tokens that may begin each answer with their probabilities, where the answer brings none of its own.
    pub first_token: Option<Arc<Vec<(String, f64)>>>,
    /// What the endpoint can do with `logprobs`.
    pub logprobs: LogprobSupport,
    /// `n` is ignored: one choice comes.
    pub ignore_n: bool,
    /// Time between acting on a chat and answering it.
    pub chat_delay: Duration,
    /// Limits of chats per project and model, with `x-ratelimit-*` headers.
    pub limits: Option<Limits>,
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Caller {
    pub organization: String,
    pub project: String,
}

/// A job as the fake knows it.
#[derive(Clone, Debug)]
pub struct JobRecord {
    pub id: String,
    pub project: String,
    pub model: String,
    pub suffix: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub training_file: String,
    pub status: String,
    pub fine_tuned_model: Option<String>,
    pub trained_tokens: Option<u64>,
    pub created_at: i64,
    /// The body that created it.
    pub request: Value,
    /// Created through `/fine-tunes`.
    pub together: bool,
}

/// A file as the fake knows it.
#[derive(Clone, Debug)]
pub struct FileRecord {
    pub id: String,
    pub project: String,
    pub name: String,
    pub purpose: String,
    pub content: Vec<u8>,
}

/// Tokens that somebody would have to pay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Charged {
    /// Of jobs: trained, also where the finished model was then blocked.
    pub training: u64,
    /// Of chats, in and out.
    pub prompt: u64,
    pub completion: u64,
    /// Of batches, in and out.
    pub batch_prompt: u64,
    pub batch_completion: u64,
}

impl Charged {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.training + self.prompt + self.completion + self.batch_prompt + self.batch_completion
    }
}

/// Files, jobs and batches.
#[derive(Default)]
pub struct World {
    pub files: Vec<File>,
    pub jobs: Vec<Job>,
    pub batches: Vec<Batch>,
    /// Jobs to come that are made twice.
    pub twins: u32,
    pub next_scripts: VecDeque<JobScript>,
    pub next_batch_scripts: VecDeque<BatchScript>,
}

/// All that connections share. Who needs both locks takes `world` before `settings`.
pub struct State {
    pub settings: RwLock<Settings>,
    pub world: Mutex<World>,
    pub models: Models,
    pub faults: Faults,
    pub journal: Journal,
    pub limiter: Limiter,
    pub anyone: Arc<Caller>,
    pub chat_answers: AtomicU64,
    pub prompt_tokens: AtomicU64,
    pub completion_tokens: AtomicU64,
    pub batch_prompt_tokens: AtomicU64,
    pub batch_completion_tokens: AtomicU64,
    pub training_tokens: AtomicU64,
    /// How far the provider's clock is ahead.
    pub clock_skew_seconds: AtomicI64,
    started: Instant,
    serial: AtomicU64,
}

impl State {
    pub fn new() -> State {
        let settings = Settings {
            keys: HashMap::new(),
            echo_keys: false,
            job_script: JobScript::succeeds(),
            batch_script: BatchScript::completes(),
            list_lag_calls: 0,
            list_lag: Duration::ZERO,
            ignore_filters: false,
            page_cap: 100,
            forget_metadata: false,
            lists_advance_jobs: false,
            check_rows: true,
            base64_results: false,
            daily_job_limit: None,
            active_job_limit: None,
            answer: Arc::new(echo),
            first_token: None,
            logprobs: LogprobSupport::UpTo(20),
            ignore_n: false,
            chat_delay: Duration::ZERO,
            limits: None,
        };
        State {
            settings: RwLock::new(settings),
            world: Mutex::default(),
            models: Models::new(),
            faults: Faults::default(),
            journal: Journal::default(),
            limiter: Limiter::default(),
            anyone: Arc::new(Caller { organization: "org-fake".into(), project: "proj_default".into() }),
            chat_answers: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            batch_prompt_tokens: AtomicU64::new(0),
            batch_completion_tokens: AtomicU64::new(0),
            training_tokens: AtomicU64::new(0),
            clock_skew_seconds: AtomicI64::new(0),
            started: Instant::now(),
            serial: AtomicU64::new(0),
        }
    }
    /// Time since the start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
    /// The provider's clock, in seconds.
    pub fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        since.as_secs() as i64 + self.clock_skew_seconds.load(Ordering::Relaxed)
    }
    /// A number that no other thing of this fake has.
    pub fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }
    /// An id such as `ftjob-0000000000000000000000a1`.
    pub fn next_id(&self, prefix: &str) -> String {
        format!("{prefix}{:024x}", self.next_serial())
    }
    pub fn charged(&self) -> Charged {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Charged {
            training: read(&self.training_tokens),
            prompt: read(&self.prompt_tokens),
            completion: read(&self.completion_tokens),
            batch_prompt: read(&self.batch_prompt_tokens),
            batch_completion: read(&self.batch_completion_tokens),
        }
    }
}
