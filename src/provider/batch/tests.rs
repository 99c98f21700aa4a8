//! Batches against a server that loses answers and lags: each file is launched once, each request ends once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::pack::{PackLimits, pack};
use super::*;
use crate::provider::chat::ChatAnswer;
use crate::provider::loopback::{self, Asked, Reply, completion, patience, question, serve};

/// What the server does wrong.
#[derive(Clone, Default)]
struct Script {
    /// Answers to the first creations: 0 is fine, 1 drops after accepting, others are statuses, after accepting if 5xx.
    create: Vec<u16>,
    /// Lists of batches that do not show the newest yet.
    lag: usize,
    /// Every request whose number divides by this expires in its first batch.
    expires: Option<usize>,
    /// The first batches fail because the queue is full.
    queue_full: usize,
}

#[derive(Default)]
struct Server {
    script: Script,
    files: BTreeMap<String, (String, Vec<u8>)>,
    batches: Vec<Value>,
    uploads: usize,
    lists: usize,
}

impl Server {
    fn reply(&mut self, asked: Asked) -> Reply {
        let path = asked.path.trim_start_matches("/v1").to_string();
        match (asked.method.as_str(), path.split('?').next().unwrap_or_default()) {
            ("GET", "/files") => {
                let list: Vec<Value> = self
                    .files
                    .iter()
                    .map(|(id, (name, bytes))| {
                        json!({ "id": id, "filename": name, "bytes": bytes.len(), "purpose": "batch",
                        "created_at": 1000 })
                    })
                    .collect();
                // Pages of one here too.
                let after = path.split("after=").nth(1);
                let from = after.map_or(0, |after| list.iter().position(|file| file["id"] == after).unwrap() + 1);
                let page: Vec<&Value> = list.iter().skip(from).take(1).collect();
                Reply::json(200, json!({ "data": page, "has_more": list.len() > from + 1 }))
            }
            ("POST", "/files") => {
                self.uploads += 1;
                let id = format!("file-{}", self.uploads);
                let text = String::from_utf8(asked.body).unwrap();
                let name = text.split("filename=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
                let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
                self.files.insert(id.clone(), (name, (lines.join("\n") + "\n").into_bytes()));
                Reply::json(200, json!({ "id": id, "object": "file" }))
            }
            ("POST", "/batches") => self.create(asked.json()),
            ("GET", "/batches") => {
                self.lists += 1;
                let hidden = usize::from(self.lists <= self.script.lag);
                let after = path.split("after=").nth(1).map(str::to_string);
                let newest: Vec<&Value> = self.batches.iter().rev().skip(hidden).collect();
                let from =
                    after.map_or(0, |after| newest.iter().position(|batch| batch["id"] == after.as_str()).unwrap() + 1);
                // Pages of one.
                let page: Vec<&&Value> = newest.iter().skip(from).take(1).collect();
                Reply::json(200, json!({ "data": page, "has_more": newest.len() > from + 1 }))
            }
            ("GET", path) if path.starts_with("/batches/") => {
                let batch =
                    self.batches.iter_mut().find(|batch| path.ends_with(batch["id"].as_str().unwrap())).unwrap();
                let shown = batch.clone();
                if batch["status"] == "validating" {
                    batch["status"] = batch["then"].clone();
                }
                Reply::json(200, shown)
            }
            ("POST", path) if path.ends_with("/cancel") => {
                let batch = self.batches.iter_mut().find(|batch| path.contains(batch["id"].as_str().unwrap())).unwrap();
                batch["status"] = json!("cancelled");
                Reply::json(200, batch.clone())
            }
            ("GET", path) if path.ends_with("/content") => {
                let id = path.trim_start_matches("/files/").trim_end_matches("/content");
                Reply::Say(200, vec![], String::from_utf8(self.files[id].1.clone()).unwrap())
            }
            _ => Reply::error(404, "not_found", None),
        }
    }

    fn create(&mut self, body: Value) -> Reply {
        let number = self.batches.len();
        let fault = if self.script.create.is_empty() { 0 } else { self.script.create.remove(0) };
        if (400..500).contains(&fault) {
            return Reply::error(fault, "refused", None).with("retry-after-ms", "1");
        }
        let id = format!("batch-{number}");
        let input = self.files[body["input_file_id"].as_str().unwrap()].1.clone();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (line_number, line) in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            let line: Value = serde_json::from_slice(line).unwrap();
            let (custom_id, text) = (&line["custom_id"], line["body"]["messages"][0]["content"].as_str().unwrap());
            if number == 0 && self.script.expires.is_some_and(|every| line_number % every == 0) {
                bad.push(
                    json!({ "custom_id": custom_id, "response": null, "error": { "code": "batch_expired" } })
                        .to_string(),
                );
            } else if text == "bad" {
                let error = json!({ "error": { "message": "no", "code": "context_length_exceeded" } });
                bad.push(
                    json!({ "custom_id": custom_id, "response": { "status_code": 400, "body": error } }).to_string(),
                );
            } else {
                let response = json!({ "status_code": 200, "request_id": "r", "body": completion(text) });
                good.insert(0, json!({ "custom_id": custom_id, "response": response, "error": null }).to_string());
            }
        }
        let is_full = number < self.script.queue_full;
        let mut add = |kind: &str, lines: Vec<String>| {
            let file = format!("{id}-{kind}");
            (!lines.is_empty() && !is_full).then(|| {
                self.files.insert(file.clone(), (String::new(), lines.join("\n").into_bytes()));
                file
            })
        };
        let (output, error) = (add("out", good), add("err", bad));
        let then = if is_full {
            "failed"
        } else if number == 0 && self.script.expires.is_some() {
            "expired"
        } else {
            "completed"
        };
        let batch = json!({
            "id": id, "status": "validating", "then": then, "input_file_id": body["input_file_id"],
            "output_file_id": output, "error_file_id": error, "metadata": body["metadata"], "created_at": 1000 + number,
            "errors": { "data": [{ "code": "token_limit_exceeded", "message": "queue is full" }] },
        });
        self.batches.push(batch.clone());
        match fault {
            0 => Reply::json(200, batch),
            1 => Reply::Drop,
            status => Reply::error(status, "bad_gateway", None),
        }
    }
}

struct Bench {
    url: String,
    server: Arc<Mutex<Server>>,
    states: RefCell<BTreeMap<Digest, BatchState>>,
    attempts: Cell<usize>,
    /// Saves until the process is killed.
    saves_left: Cell<usize>,
    /// Whether it is killed before the last of them, else after it.
    dies_before_saving: Cell<bool>,
    was_killed: Cell<bool>,
    answers: RefCell<BTreeMap<String, Vec<Result<String, String>>>>,
}

impl Bench {
    async fn new(script: Script) -> Bench {
        let server = Arc::new(Mutex::new(Server { script, ..Server::default() }));
        let shared = server.clone();
        let url = serve(move |asked| shared.lock().unwrap().reply(asked)).await;
        let saves_left = Cell::new(usize::MAX);
        let (states, answers) = (RefCell::default(), RefCell::default());
        let (attempts, dies_before_saving, was_killed) = (Cell::new(0), Cell::new(false), Cell::new(false));
        Bench { url, server, states, attempts, saves_left, dies_before_saving, was_killed, answers }
    }

    /// One process: takes up what is open and asks what is missing.
    async fn run(&self, all: &[(String, &str)], relaunch: Option<f64>) -> Result<BatchOutcome> {
        let endpoint =
            loopback::endpoint(&self.url, &["k"], |settings| settings.relaunch_unknown_after_minutes = relaunch);
        let save = |state: &BatchState| {
            let left = self.saves_left.get();
            self.saves_left.set(left.saturating_sub(1));
            if left > 0 || !self.dies_before_saving.get() {
                let written = serde_json::to_value(state).unwrap();
                self.states.borrow_mut().insert(state.key, serde_json::from_value(written).unwrap());
            }
            if left == 0 { Err(Error::internal("killed")) } else { Ok(()) }
        };
        let new_attempt = || {
            self.attempts.set(self.attempts.get() + 1);
            format!("attempt-{}", self.attempts.get())
        };
        let desk = BatchDesk {
            endpoint: &endpoint,
            key: 0,
            save: &save,
            new_attempt: &new_attempt,
            now: &|| 1000.0,
            cancelled: &|| false,
            search: Duration::from_millis(100),
            patience: patience(),
        };
        let is_open = |state: &&BatchState| !matches!(state.step, BatchStep::Collected | BatchStep::Refused);
        let open: Vec<BatchState> = self.states.borrow().values().filter(is_open).cloned().collect();
        // Packs are made once the open ones are done: what is missing is only known then.
        let mut take = |id: &str, answer: Result<ChatAnswer, Fault>| {
            let answer = answer.map(|answer| answer.text).map_err(|fault| fault.message);
            let mut answers = self.answers.borrow_mut();
            let known = answers.entry(id.to_string()).or_default();
            // Whoever was killed between taking an answer and saying so gets it once more, as a store would.
            if !(self.was_killed.get() && known.last() == Some(&answer)) {
                known.push(answer);
            }
            Ok(())
        };
        run_batches(&desk, open, std::iter::empty(), &mut take).await?;
        let missing: Vec<_> = all
            .iter()
            .filter(|(id, _)| !self.answers.borrow().contains_key(id))
            .map(|(id, text)| (id.clone(), question(text)))
            .collect();
        let packs = pack(missing.into_iter(), PackLimits { requests: 6, ..PackLimits::default() });
        run_batches(&desk, Vec::new(), packs, &mut take).await
    }

    fn count(&self) -> usize {
        self.server.lock().unwrap().batches.len()
    }
    fn assert_each_once(&self, all: &[(String, &str)]) {
        let answers = self.answers.borrow();
        for (id, text) in all {
            let wanted = if *text == "bad" { Err("no".to_string()) } else { Ok(text.to_string()) };
            assert_eq!(answers.get(id), Some(&vec![wanted]), "{id}");
        }
    }
}

fn requests(count: usize) -> Vec<(String, &'static str)> {
    (0..count).map(|number| (format!("key{number}"), ["a", "b", "bad", "c"][number % 4])).collect()
}

#[tokio::test]
async fn answers_and_failures_come_back_by_their_marks() {
    let bench = Bench::new(Script::default()).await;
    let all = requests(15);
    let outcome = bench.run(&all, None).await.unwrap();
    assert_eq!((outcome.collected.answered, outcome.collected.failed, bench.count()), (11, 4, 3));
    bench.assert_each_once(&all);
}

#[tokio::test]
async fn a_lost_answer_is_looked_for_and_never_launched_again() {
    for (create, lag) in [(vec![1], 0), (vec![502], 3), (vec![1, 502], 2), (vec![504, 0, 1], 1)] {
        let bench = Bench::new(Script { create: create.clone(), lag, ..Script::default() }).await;
        let all = requests(12);
        bench.run(&all, None).await.unwrap();
        assert_eq!(bench.count(), 2, "{create:?}");
        bench.assert_each_once(&all);
    }
}

#[tokio::test]
async fn a_refusal_that_passes_is_launched_again_and_a_final_one_is_said() {
    let bench = Bench::new(Script { create: vec![429, 429], ..Script::default() }).await;
    let all = requests(3);
    bench.run(&all, None).await.unwrap();
    assert_eq!(bench.count(), 1);
    let bench = Bench::new(Script { create: vec![403], ..Script::default() }).await;
    let error = bench.run(&all, None).await.unwrap_err();
    assert!(error.message.starts_with("the batch was refused: `lab` (403)"), "{error}");
    assert_eq!(bench.states.borrow().values().next().unwrap().step, BatchStep::Refused);
}

#[tokio::test]
async fn a_killed_process_is_taken_up_at_every_step() {
    let all = requests(9);
    for (script, most) in [(Script::default(), 16), (Script { create: vec![1], lag: 2, ..Script::default() }, 16)] {
        for (saves, dies_before_saving) in (0..most).flat_map(|saves| [(saves, false), (saves, true)]) {
            let bench = Bench::new(script.clone()).await;
            bench.dies_before_saving.set(dies_before_saving);
            bench.saves_left.set(saves);
            let first = bench.run(&all, None).await;
            bench.was_killed.set(first.is_err());
            bench.saves_left.set(usize::MAX);
            let mut runs = 0;
            while bench.run(&all, Some(0.0)).await.unwrap().collected != Collected::default() {
                runs += 1;
                assert!(runs < 5);
            }
            // Killed between the intent and the request, nothing was launched: the only case for `relaunch`.
            assert_eq!(bench.count(), 2, "killed at save {saves}: {first:?}");
            assert_eq!(bench.server.lock().unwrap().uploads, 2, "killed at save {saves}: a file was uploaded twice");
            bench.assert_each_once(&all);
        }
    }
}

#[tokio::test]
async fn a_launch_without_a_trace_stops_unless_the_settings_say_otherwise() {
    let bench = Bench::new(Script::default()).await;
    let all = requests(3);
    bench.saves_left.set(1);
    bench.run(&all, None).await.unwrap_err();
    bench.saves_left.set(usize::MAX);
    let error = bench.run(&all, None).await.unwrap_err();
    assert!(error.message.contains("nobody knows whether `lab` took a batch of 3 requests"), "{error}");
    assert_eq!(bench.count(), 0);
    bench.run(&all, Some(0.0)).await.unwrap();
    assert_eq!(bench.count(), 1);
    bench.assert_each_once(&all);
    assert_eq!(bench.states.borrow().values().next().unwrap().lost_attempts, ["attempt-1"]);
}

#[tokio::test]
async fn of_two_batches_the_oldest_is_taken_and_the_other_cancelled() {
    let bench = Bench::new(Script { create: vec![1], ..Script::default() }).await;
    let all = requests(3);
    bench.saves_left.set(1);
    bench.run(&all, None).await.unwrap_err();
    let state = bench.states.borrow().values().next().unwrap().clone();
    {
        let mut server = bench.server.lock().unwrap();
        let body = json!({ "input_file_id": state.file_id, "metadata": { "drylab_launch": state.attempt } });
        server.create(body.clone());
        server.create(body);
    }
    bench.saves_left.set(usize::MAX);
    bench.run(&all, None).await.unwrap();
    bench.assert_each_once(&all);
    let server = bench.server.lock().unwrap();
    assert_eq!(
        (&server.batches[0]["status"], &server.batches[1]["status"]),
        (&json!("completed"), &json!("cancelled"))
    );
}

#[tokio::test]
async fn what_expired_is_asked_again_and_nothing_else() {
    let bench = Bench::new(Script { expires: Some(2), ..Script::default() }).await;
    let all = requests(6);
    let outcome = bench.run(&all, None).await.unwrap();
    assert_eq!(outcome.collected.again, ["key0", "key2", "key4"]);
    bench.run(&all, None).await.unwrap();
    bench.assert_each_once(&all);
    assert_eq!(bench.count(), 2);
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let bench = Bench::new(Script { queue_full: 1, ..Script::default() }).await;
    let all = requests(12);
    bench.run(&all, None).await.unwrap();
    assert_eq!(bench.count(), 3);
    bench.assert_each_once(&all);
    assert_eq!(bench.server.lock().unwrap().uploads, 2, "a file was uploaded twice");
}
