//! Calls about fine-tuning jobs and their files, in each provider's words; what only asks is sent until it is answered.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::endpoint::{Answer, Body, Endpoint, Facts, Method, Request};
use super::fault::{Class, Fault};
use super::settings::Dialect;
use super::wire::Page;
use super::wire::file::RemoteFile;
use super::wire::job::{Checkpoint, Job, JobEvent, JobStatus};

/// The jobs of one key.
#[derive(Clone, Copy, Debug)]
pub struct Jobs<'a> {
    /// The provider.
    pub endpoint: &'a Endpoint,
    /// Which of its keys, from 0.
    pub key: usize,
    /// Factor of every wait; 1 outside tests.
    pub pace: f64,
}

/// What a provider says about a job.
#[derive(Clone, Debug)]
pub struct ToldJob {
    /// The job.
    pub job: Job,
    /// The same as it came.
    pub body: String,
    /// What the headers tell.
    pub facts: Facts,
}

/// Longest wait between two tries.
const LONGEST_GAP: Duration = Duration::from_secs(30);

impl Jobs<'_> {
    /// Creates a job; sent once, whatever comes of it.
    ///
    /// # Errors
    /// [`Fault`]; without an answer nobody knows whether there is a job.
    pub async fn create(&self, body: &Value) -> Result<ToldJob, Fault> {
        let answer = self.endpoint.send(&Request { key: self.key, ..Request::post(self.root(), body) }).await?;
        self.read_told(&answer)
    }

    /// The job of this number.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn fetch(&self, id: &str) -> Result<ToldJob, Fault> {
        self.read_told(&self.ask(&self.get(format!("{}/{id}", self.root()))).await?)
    }

    /// Cancels a job; one that has ended already is told as it is.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn cancel(&self, id: &str) -> Result<ToldJob, Fault> {
        let request = Request::new(Method::POST, format!("{}/{id}/cancel", self.root()), Body::Empty);
        // To cancel twice is to cancel once.
        match self.ask(&Request { key: self.key, ..request }).await {
            Ok(answer) => match self.read_told(&answer) {
                Ok(told) if told.job.status.is_final() => Ok(told),
                _ => self.fetch(id).await,
            },
            Err(fault) => match self.fetch(id).await {
                Ok(told) if told.job.status.is_final() => Ok(told),
                _ => Err(fault),
            },
        }
    }

    /// Jobs, newest first, back to `since` (seconds since 1970); with a filter those that carry a pair of metadata, but
    /// some servers ignore filters: look at what comes.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn list(&self, filter: Option<(&str, &str)>, since: f64) -> Result<(Vec<Job>, Facts), Fault> {
        let (mut jobs, mut seen, mut after) = (Vec::<Job>::new(), HashSet::new(), None);
        let mut facts = None;
        loop {
            let mut request = self.get(self.root());
            if self.dialect() != Dialect::Together {
                request.query.push(("limit".into(), "100".into()));
            }
            if let Some((name, value)) = filter {
                request.query.push((format!("metadata[{name}]"), value.into()));
            }
            request.query.extend(after.take().map(|after| ("after".to_string(), after)));
            let (page, told) = self.page(&request).await?;
            facts.get_or_insert(told);
            let last = page.data.last().and_then(|value| value["id"].as_str()).map(str::to_string);
            let fresh: Vec<Value> = page
                .data
                .into_iter()
                .filter(|value| value["id"].as_str().is_some_and(|id| seen.insert(id.to_string())))
                .collect();
            let is_over = fresh.is_empty();
            // A job that cannot be read is nobody's of ours.
            let found: Vec<Job> = fresh.into_iter().filter_map(|value| read_job(value).ok()).collect();
            let is_old = |job: &Job| job.created_at > 0.0 && job.created_at < since;
            let is_past = !found.is_empty() && found.iter().all(is_old);
            jobs.extend(found);
            // A server that ignores `after` sends the same page for ever.
            if !page.has_more || is_past || is_over {
                return Ok((jobs, facts.unwrap_or_default()));
            }
            after = last;
        }
    }

    /// Events that are not in `seen`, oldest first; their names are added to it.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn new_events(&self, id: &str, seen: &mut HashSet<String>) -> Result<Vec<JobEvent>, Fault> {
        let (mut events, mut names, mut after) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let mut request = self.get(format!("{}/{id}/events", self.root()));
            if self.dialect() != Dialect::Together {
                request.query.push(("limit".into(), "100".into()));
            }
            request.query.extend(after.take().map(|after| ("after".to_string(), after)));
            let (page, _) = self.page(&request).await?;
            let last = page.data.last().and_then(|value| value["id"].as_str()).map(str::to_string);
            let count = page.data.len();
            let before = events.len();
            for value in page.data {
                let Ok(event) = read_event(value) else { continue };
                let name = name_of(&event);
                if !seen.contains(&name) && !names.contains(&name) {
                    names.push(name);
                    events.push(event);
                }
            }
            let all_new = events.len() - before == count;
            if !page.has_more || !all_new || last.is_none() {
                break;
            }
            after = last;
        }
        // Only now: after a fault in the middle the next look begins where this one began.
        seen.extend(names);
        events.reverse();
        events.sort_by(|a, b| a.created_at.total_cmp(&b.created_at));
        Ok(events)
    }

    /// All checkpoints, the first step first.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn checkpoints(&self, id: &str) -> Result<Vec<Checkpoint>, Fault> {
        let (mut checkpoints, mut seen, mut after) = (Vec::<Checkpoint>::new(), HashSet::new(), None);
        loop {
            let mut request = self.get(format!("{}/{id}/checkpoints", self.root()));
            request.query.extend(after.take().map(|after| ("after".to_string(), after)));
            let (page, _) = self.page(&request).await?;
            let last = page.data.last().and_then(|value| value["id"].as_str()).map(str::to_string);
            let before = checkpoints.len();
            let found = page.data.into_iter().filter_map(|value| read_checkpoint(value).ok());
            checkpoints.extend(found.filter(|checkpoint| seen.insert(checkpoint.id.clone())));
            if !page.has_more || last.is_none() || checkpoints.len() == before {
                break;
            }
            after = last;
        }
        checkpoints.sort_by_key(|checkpoint| checkpoint.step_number);
        Ok(checkpoints)
    }

    /// What is in a file.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn content(&self, file_id: &str) -> Result<Bytes, Fault> {
        Ok(self.ask(&self.get(format!("/files/{file_id}/content"))).await?.body)
    }

    /// A file as it is listed, with all that the provider says.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn file(&self, file_id: &str) -> Result<Value, Fault> {
        self.ask(&self.get(format!("/files/{file_id}"))).await?.read()
    }

    /// Files to train on.
    ///
    /// # Errors
    /// [`Fault`], after several tries.
    pub async fn files(&self) -> Result<Vec<RemoteFile>, Fault> {
        let (mut files, mut seen, mut after) = (Vec::<RemoteFile>::new(), HashSet::new(), None);
        loop {
            let mut request = self.get("/files");
            if self.dialect() != Dialect::Together {
                request.query.push(("purpose".into(), "fine-tune".into()));
            }
            request.query.extend(after.take().map(|after| ("after".to_string(), after)));
            let (page, _) = self.page(&request).await?;
            let last = page.data.last().and_then(|value| value["id"].as_str()).map(str::to_string);
            let before = files.len();
            let found = page.data.into_iter().filter_map(|value| serde_json::from_value(without_nulls(value)).ok());
            files.extend(found.filter(|file: &RemoteFile| seen.insert(file.id.clone())));
            if !page.has_more || last.is_none() || files.len() == before {
                return Ok(files);
            }
            after = last;
        }
    }

    /// Uploads rows; sent once.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn upload(&self, name: &str, bytes: &Bytes) -> Result<RemoteFile, Fault> {
        let path = if self.dialect() == Dialect::Together { "/files/upload" } else { "/files" };
        let body = Body::File { name: name.into(), purpose: "fine-tune".into(), bytes: bytes.clone() };
        let timeout = Duration::try_from_secs_f64(self.endpoint.settings().timeout_seconds);
        let request = Request::new(Method::POST, path, body);
        let timeout = timeout.unwrap_or(request.timeout).max(request.timeout);
        let answer = self.endpoint.send(&Request { key: self.key, timeout, ..request }).await?;
        serde_json::from_value(without_nulls(answer.read()?))
            .map_err(|error| Fault::new(Class::Malformed, format!("the answer cannot be read: {error}")))
    }

    /// Sends what may be sent again, until it is answered or another try is of no use.
    ///
    /// # Errors
    /// [`Fault`] of the last try.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Fault> {
        let most_tries = self.endpoint.settings().most_tries.max(1);
        let mut gap = Duration::from_millis(500);
        for tries in 1.. {
            match self.endpoint.send(request).await {
                Err(fault) if fault.is_retryable() && tries < most_tries => {
                    let wanted = fault.retry_after.unwrap_or(gap);
                    self.wait(wanted.max(Duration::from_millis(10))).await;
                    gap = (gap * 2).min(LONGEST_GAP);
                }
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }

    /// Waits.
    pub async fn wait(&self, time: Duration) {
        tokio::time::sleep(time.mul_f64(self.pace)).await;
    }

    fn get(&self, path: impl Into<String>) -> Request {
        Request { key: self.key, ..Request::get(path) }
    }

    async fn page(&self, request: &Request) -> Result<(Page<Value>, Facts), Fault> {
        let answer = self.ask(request).await?;
        // Together's list of a job's events and some servers' lists are bare arrays.
        let page = match answer.read::<Value>()? {
            Value::Array(data) => Page { data, has_more: false },
            value => serde_json::from_value(value)
                .map_err(|error| Fault::new(Class::Malformed, format!("the answer is no list: {error}")))?,
        };
        Ok((page, answer.facts))
    }

    fn read_told(&self, answer: &Answer) -> Result<ToldJob, Fault> {
        let job = read_job(answer.read()?)?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(ToldJob { job, body: self.endpoint.redact(&body), facts: answer.facts.clone() })
    }

    fn dialect(&self) -> Dialect {
        self.endpoint.settings().dialect()
    }

    fn root(&self) -> &'static str {
        if self.dialect() == Dialect::Together { "/fine-tunes" } else { "/fine_tuning/jobs" }
    }
}

/// A job in OpenAI's shape or in Together's.
fn read_job(value: Value) -> Result<Job, Fault> {
    let mut fields = into_fields(value)?;
    let status = JobStatus::parse(fields.get("status").and_then(Value::as_str).unwrap_or_default());
    for name in ["created_at", "finished_at", "estimated_finish", "updated_at"] {
        replace_time(&mut fields, name);
    }
    if status.is_final() && !fields.contains_key("finished_at") {
        copy(&mut fields, "updated_at", "finished_at");
    }
    // Together names the model before there is one.
    if status == JobStatus::Succeeded {
        copy(&mut fields, "model_output_name", "fine_tuned_model");
    }
    copy(&mut fields, "token_count", "trained_tokens");
    // `status: failed` with an empty error is how some servers say that there is none.
    if status == JobStatus::Failed && !fields.contains_key("error") {
        let said = fields.get("events").and_then(Value::as_array).into_iter().flatten();
        let errors = said.filter(|event| event["level"] == "error" || event["type"] == "job_error");
        if let Some(message) = errors.filter_map(|event| event["message"].as_str()).next_back() {
            let error = json!({ "message": message });
            fields.insert("error".into(), error);
        }
    }
    read(fields)
}

/// An event in OpenAI's shape or in Together's, which has no number and carries its step beside the message.
fn read_event(value: Value) -> Result<JobEvent, Fault> {
    let mut fields = into_fields(value)?;
    replace_time(&mut fields, "created_at");
    if !fields.contains_key("data")
        && let Some(step) = fields.get("step").and_then(Value::as_u64)
    {
        let total = fields.get("total_steps").cloned().unwrap_or(Value::Null);
        fields.insert("data".into(), json!({ "step": step, "total_steps": total }));
    }
    read(fields)
}

/// A checkpoint in OpenAI's shape or in Together's.
fn read_checkpoint(value: Value) -> Result<Checkpoint, Fault> {
    let mut fields = into_fields(value)?;
    copy(&mut fields, "path", "fine_tuned_model_checkpoint");
    copy(&mut fields, "step", "step_number");
    copy(&mut fields, "fine_tuned_model_checkpoint", "id");
    read(fields)
}

fn into_fields(value: Value) -> Result<Map<String, Value>, Fault> {
    match without_nulls(value) {
        Value::Object(fields) => Ok(fields),
        _ => Err(Fault::new(Class::Malformed, "the answer is no object")),
    }
}

/// What is null is missing.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

fn read<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| Fault::new(Class::Malformed, format!("the answer cannot be read: {error}")))
}

/// Fills a field in from another.
fn copy(fields: &mut Map<String, Value>, from: &str, to: &str) {
    if !fields.contains_key(to)
        && let Some(value) = fields.get(from).cloned()
    {
        fields.insert(to.into(), value);
    }
}

/// Seconds since 1970 instead of a time in text; a text that is no time goes.
fn replace_time(fields: &mut Map<String, Value>, name: &str) {
    let Some(text) = fields.get(name).and_then(Value::as_str) else { return };
    let time = humantime::parse_rfc3339_weak(text.trim_end_matches("+00:00"));
    let seconds = time.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    match seconds {
        Some(seconds) => _ = fields.insert(name.into(), json!(seconds.as_secs_f64())),
        None => _ = fields.remove(name),
    }
}

/// What tells an event from the others of its job.
fn name_of(event: &JobEvent) -> String {
    if event.id.is_empty() {
        format!("{} {} {:?}", event.created_at, event.message, event.data)
    } else {
        event.id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_together_are_read() {
        let job = read_job(json!({
            "id": "ft-0123", "status": "completed", "created_at": "2023-05-17T17:35:45.123Z",
            "updated_at": "2023-05-17T18:46:23.456Z", "total_price": 1_500_000_000u64, "token_count": 850_000,
            "events": [], "model": "meta-llama/Llama-2-7b-hf", "batch_size": "max", "error": null,
            "model_output_name": "me/Llama-2-7b-hf-drylab-12345678-32162631", "training_file": "file-01",
        }));
        let job = job.unwrap();
        assert_eq!(job.status, JobStatus::Succeeded);
        assert_eq!((job.created_at, job.finished_at), (1_684_344_945.123, Some(1_684_349_183.456)));
        assert_eq!(job.fine_tuned_model.as_deref(), Some("me/Llama-2-7b-hf-drylab-12345678-32162631"));
        assert_eq!(job.trained_tokens, Some(850_000));
        let failed = json!({ "id": "x", "status": "error", "events": [{ "level": "error", "message": "no disk" }] });
        assert_eq!(read_job(failed).unwrap().error.unwrap().message.as_deref(), Some("no disk"));
        let event = json!({ "created_at": "2023-05-17T17:35:45Z", "message": "m", "step": 3, "total_steps": 9 });
        assert_eq!(read_event(event).unwrap().data, Some(json!({ "step": 3, "total_steps": 9 })));
        let checkpoint = json!({ "checkpoint_type": "t", "created_at": "x", "path": "s3://a", "step": 4 });
        let checkpoint = read_checkpoint(checkpoint).unwrap();
        assert_eq!((checkpoint.fine_tuned_model_checkpoint.as_str(), checkpoint.step_number), ("s3://a", 4));
    }

    #[test]
    fn fields_that_are_null_are_missing() {
        let job = json!({
            "id": "ftjob-1", "status": "queued", "created_at": 12, "result_files": null, "training_file": null,
            "model": null, "error": null, "metadata": null,
        });
        let job = read_job(job).unwrap();
        assert_eq!((job.created_at, job.result_files.len(), job.error), (12.0, 0, None));
    }
}
