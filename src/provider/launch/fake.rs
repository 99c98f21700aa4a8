//! A small jobs server for tests, which loses answers, lags, ignores filters and forgets metadata on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::provider::endpoint::{AccessKey, Endpoint};
use crate::provider::secret::Secret;
use crate::provider::settings::{Dialect, ProviderSettings};

/// What happens to one POST of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The job is made and the connection closed.
    AcceptThenDrop,
    /// The job is made and 502 answered.
    AcceptThen502,
    /// The job is made and half of the answer sent.
    AcceptThenHalf,
    /// Two jobs are made and the connection closed.
    AcceptTwiceThenDrop,
    /// Nothing is made and the connection closed.
    Drop,
    /// Nothing is made, and this is the answer.
    Refuse(u16, &'static str, Option<u64>),
}

/// Everything the server knows.
#[derive(Default)]
pub struct World {
    pub jobs: Vec<Value>,
    pub files: Vec<(String, String, Vec<u8>)>,
    pub posts: usize,
    pub uploads: usize,
    pub faults: VecDeque<Fault>,
    /// How many lists do not show a new job yet.
    pub lag: usize,
    pub ignores_filter: bool,
    pub ignores_after: bool,
    /// How far its clock is behind, in seconds.
    pub clock_behind: u64,
    /// As many jobs as were ever unfinished at a time.
    pub peak: usize,
    pub forgets_metadata: bool,
    pub forgets_suffix: bool,
    /// The project of each key; a key that is missing here is refused.
    pub projects: BTreeMap<String, String>,
    /// Answers to the next looks at a job, before its true state.
    pub looks: VecDeque<Value>,
    /// Answers to the next looks at a job that are failures.
    pub stumbles: VecDeque<u16>,
    pub events: Vec<Value>,
    pub checkpoints: Vec<Value>,
    pub content: Vec<u8>,
    hidden: HashMap<String, usize>,
}

impl World {
    /// Makes every job visible.
    pub fn show_all(&mut self) {
        self.hidden.clear();
    }
}

/// The server and its address.
#[derive(Clone)]
pub struct Fake {
    pub world: Arc<Mutex<World>>,
    pub address: String,
}

type Shared = State<Arc<Mutex<World>>>;
type Pairs = Query<HashMap<String, String>>;

impl Fake {
    /// Starts it in the current runtime.
    pub async fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        world.lock().unwrap().projects.insert("sk-test".into(), "proj_1".into());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/files", get(list_files).post(add_file))
            .route("/v1/files/{id}", get(get_file))
            .route("/v1/files/{id}/content", get(get_content))
            .route("/v1/fine_tuning/jobs", get(list_jobs).post(add_job))
            .route("/v1/fine_tuning/jobs/{id}", get(get_job))
            .route("/v1/fine_tuning/jobs/{id}/cancel", post(cancel_job))
            .route("/v1/fine_tuning/jobs/{id}/events", get(list_events))
            .route("/v1/fine_tuning/jobs/{id}/checkpoints", get(list_checkpoints))
            .route("/v1/files/upload", post(add_file))
            .route("/v1/fine-tunes", get(list_jobs).post(add_job))
            .route("/v1/fine-tunes/{id}", get(get_job))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Fake { world, address }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The provider as the client sees it.
    pub fn endpoint(&self, keys: &[&str], change: impl FnOnce(&mut ProviderSettings)) -> Endpoint {
        let mut settings = ProviderSettings {
            dialect: Some(Dialect::OpenAi),
            base_url: Some(self.address.clone()),
            most_tries: 4,
            ..ProviderSettings::default()
        };
        change(&mut settings);
        let key = |key: &&str| AccessKey {
            variable: "KEY".into(),
            secret: Secret::new(key),
            organization: None,
            project: None,
        };
        Endpoint::new("fake", settings, keys.iter().map(key).collect()).unwrap()
    }

    /// Jobs that are not cancelled.
    pub fn living(&self) -> Vec<Value> {
        self.world().jobs.iter().filter(|job| job["status"] != "cancelled").cloned().collect()
    }

    /// Ends a job.
    pub fn set(&self, id: &str, change: impl FnOnce(&mut Value)) {
        change(self.world().jobs.iter_mut().find(|job| job["id"] == id).unwrap());
    }
}

fn refusal(status: u16, code: &str, retry_after: Option<u64>) -> Response {
    let kind = if code == "insufficient_quota" { code } else { "invalid_request_error" };
    let body = json!({ "error": { "message": format!("said {code}"), "type": kind, "param": null, "code": code } });
    let mut response = (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

/// Closes the connection without a word.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("the connection is closed on purpose"))
}

fn project(world: &World, headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    world.projects.get(bearer).cloned()
}

fn answer(project: &str, body: Value) -> Response {
    let mut response = axum::Json(body).into_response();
    response.headers_mut().insert("openai-organization", "org".parse().unwrap());
    response.headers_mut().insert("openai-project", project.parse().unwrap());
    response.headers_mut().insert("x-request-id", "req_1".parse().unwrap());
    response
}

async fn add_file(State(world): Shared, headers: HeaderMap, mut form: Multipart) -> Response {
    let (mut name, mut bytes) = (String::new(), Vec::new());
    while let Some(field) = form.next_field().await.unwrap() {
        if field.name() == Some("file") {
            name = field.file_name().unwrap().to_string();
            bytes = field.bytes().await.unwrap().to_vec();
        }
    }
    let mut world = world.lock().unwrap();
    let Some(project) = project(&world, &headers) else { return refusal(401, "invalid_api_key", None) };
    world.uploads += 1;
    let id = format!("file-{}", world.files.len() + 1);
    let size = bytes.len();
    world.files.push((id.clone(), name.clone(), bytes));
    answer(&project, json!({ "id": id, "filename": name, "bytes": size, "purpose": "fine-tune", "created_at": 1 }))
}

fn describe_file((id, name, bytes): &(String, String, Vec<u8>)) -> Value {
    json!({ "id": id, "filename": name, "bytes": bytes.len(), "purpose": "fine-tune", "status": "processed" })
}

async fn list_files(State(world): Shared, headers: HeaderMap) -> Response {
    let world = world.lock().unwrap();
    let Some(project) = project(&world, &headers) else { return refusal(401, "invalid_api_key", None) };
    let files: Vec<Value> = world.files.iter().map(describe_file).collect();
    answer(&project, json!({ "object": "list", "data": files, "has_more": false }))
}

async fn get_file(State(world): Shared, Path(id): Path<String>) -> Response {
    let world = world.lock().unwrap();
    match world.files.iter().find(|file| file.0 == id) {
        Some(file) => answer("proj_1", describe_file(file)),
        None => refusal(404, "not_found", None),
    }
}

async fn get_content(State(world): Shared) -> Response {
    world.lock().unwrap().content.clone().into_response()
}

async fn add_job(State(world): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let (fault, job, project) = {
        let mut world = world.lock().unwrap();
        world.posts += 1;
        let Some(project) = project(&world, &headers) else { return refusal(401, "invalid_api_key", None) };
        let fault = world.faults.pop_front();
        let count = match fault {
            Some(Fault::Drop | Fault::Refuse(..)) => 0,
            Some(Fault::AcceptTwiceThenDrop) => 2,
            _ => 1,
        };
        let mut job = Value::Null;
        for _ in 0..count {
            let id = format!("ftjob-{}", world.jobs.len() + 1);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - world.clock_behind;
            job = json!({
                "id": id, "object": "fine_tuning.job", "status": "validating_files", "created_at": now,
                "model": request["model"], "training_file": request["training_file"], "fine_tuned_model": null,
                "metadata": request["metadata"], "suffix": request["suffix"], "project": project,
            });
            if world.forgets_metadata {
                job["metadata"] = Value::Null;
            }
            if world.forgets_suffix {
                job["suffix"] = Value::Null;
            }
            let lag = world.lag;
            world.hidden.insert(id, lag);
            world.jobs.push(job.clone());
        }
        let unfinished = world.jobs.iter().filter(|job| job["status"] == "validating_files").count();
        world.peak = world.peak.max(unfinished);
        (fault, job, project)
    };
    match fault {
        None => answer(&project, job),
        Some(Fault::Refuse(status, code, retry_after)) => refusal(status, code, retry_after),
        Some(Fault::AcceptThen502) => (StatusCode::BAD_GATEWAY, "<html>Bad gateway</html>").into_response(),
        Some(Fault::AcceptThenHalf) => answer_half(&project),
        Some(Fault::AcceptThenDrop | Fault::AcceptTwiceThenDrop | Fault::Drop) => hang_up(),
    }
}

fn answer_half(project: &str) -> Response {
    let mut response = answer(project, Value::Null);
    *response.body_mut() = "{\"id\": \"ftj".into();
    response.headers_mut().remove("content-length");
    response
}

fn page(items: Vec<Value>, query: &HashMap<String, String>, most: usize) -> Value {
    let from = query.get("after").map_or(0, |after| {
        items.iter().position(|item| item["id"] == *after).map_or(items.len(), |position| position + 1)
    });
    let shown: Vec<Value> = items.iter().skip(from).take(most).cloned().collect();
    let has_more = from + shown.len() < items.len();
    json!({ "object": "list", "data": shown, "has_more": has_more })
}

async fn list_jobs(State(world): Shared, headers: HeaderMap, Query(mut query): Pairs) -> Response {
    let mut world = world.lock().unwrap();
    let Some(project) = project(&world, &headers) else { return refusal(401, "invalid_api_key", None) };
    let mut shown = Vec::new();
    for index in (0..world.jobs.len()).rev() {
        let job = world.jobs[index].clone();
        let id = job["id"].as_str().unwrap().to_string();
        let wanted = |(name, value): (&String, &String)| match name.strip_prefix("metadata[") {
            Some(name) => job["metadata"][name.trim_end_matches(']')] == *value,
            None => true,
        };
        let hidden = world.hidden.entry(id).or_default();
        if *hidden > 0 {
            *hidden -= 1;
        } else if job["project"] == project && (world.ignores_filter || query.iter().all(wanted)) {
            shown.push(job);
        }
    }
    if world.ignores_after {
        query.remove("after");
    }
    // Pages are short, so that all of them must be read.
    answer(&project, page(shown, &query, 3))
}

async fn get_job(State(world): Shared, Path(id): Path<String>) -> Response {
    let mut world = world.lock().unwrap();
    if let Some(status) = world.stumbles.pop_front() {
        return refusal(status, "stumbled", None);
    }
    if let Some(look) = world.looks.pop_front() {
        return answer("proj_1", look);
    }
    match world.jobs.iter().find(|job| job["id"] == id) {
        Some(job) => answer("proj_1", job.clone()),
        None => refusal(404, "not_found", None),
    }
}

async fn cancel_job(State(world): Shared, Path(id): Path<String>) -> Response {
    let mut world = world.lock().unwrap();
    match world.jobs.iter_mut().find(|job| job["id"] == id) {
        Some(job) if ["succeeded", "failed", "cancelled"].contains(&job["status"].as_str().unwrap()) => {
            refusal(400, "job_has_ended", None)
        }
        Some(job) => {
            job["status"] = json!("cancelled");
            answer("proj_1", job.clone())
        }
        None => refusal(404, "not_found", None),
    }
}

async fn list_events(State(world): Shared, Query(query): Pairs) -> Response {
    let world = world.lock().unwrap();
    answer("proj_1", page(world.events.iter().rev().cloned().collect(), &query, 2))
}

async fn list_checkpoints(State(world): Shared, Query(query): Pairs) -> Response {
    let world = world.lock().unwrap();
    answer("proj_1", page(world.checkpoints.iter().rev().cloned().collect(), &query, 2))
}
