//! Launches a batch exactly once: its intent is durable before the one request, and a lost answer is looked for.

use std::time::Duration;

use serde_json::json;

use super::pack::Pack;
use super::{BatchDesk, BatchState, BatchStep, cancel_batch};
use crate::error::{Error, Result};
use crate::provider::endpoint::{Body, Method, Request};
use crate::provider::wire::Page;
use crate::provider::wire::batch::Batch;
use crate::provider::wire::file::RemoteFile;

/// How long a file may take to arrive.
const UPLOAD: Duration = Duration::from_secs(1800);
/// Files for batches go away after 30 days; one that is nearly gone is not used again.
const FILE_AGE_SECONDS: f64 = 20.0 * 86_400.0;
/// How much earlier than our clock the provider's may be.
const CLOCK_SKEW_SECONDS: f64 = 600.0;
/// Items on a page of a list.
const PAGE: &str = "100";

impl BatchDesk<'_> {
    /// Uploads the file of a pack, or finds it, and makes the state that goes with it durable.
    pub(super) async fn upload(&self, pack: &Pack) -> Result<BatchState> {
        let name = pack.file_name();
        let file_id = match self.find_file(&name, pack.bytes.len() as u64).await? {
            Some(file_id) => file_id,
            None => {
                // Uploading twice does no harm.
                let body = Body::File { name, purpose: "batch".to_string(), bytes: pack.bytes.clone() };
                let request = Request { key: self.key, timeout: UPLOAD, ..Request::new(Method::POST, "/files", body) };
                self.read::<RemoteFile>(&self.get(&request).await?)?.id
            }
        };
        let state = BatchState {
            key: pack.digest,
            model: pack.model.clone(),
            requests: pack.custom_ids.len(),
            variable: self.endpoint.keys().get(self.key).map(|key| key.variable.clone()),
            attempt: String::new(),
            lost_attempts: Vec::new(),
            intended_at: 0.0,
            file_id,
            batch_id: None,
            step: BatchStep::Uploaded,
            status: String::new(),
            counts: None,
        };
        (self.save)(&state)?;
        Ok(state)
    }

    async fn find_file(&self, name: &str, bytes: u64) -> Result<Option<String>> {
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("purpose".to_string(), "batch".to_string())];
            query.extend(after.clone().map(|after| ("after".to_string(), after)));
            let request = Request { key: self.key, query, ..Request::get("/files") };
            let page: Page<RemoteFile> = self.read(&self.get(&request).await?)?;
            let is_young = |file: &RemoteFile| (self.now)() - file.created_at < FILE_AGE_SECONDS;
            // Servers exist that ignore the filter.
            let found = page
                .data
                .iter()
                .find(|file| file.filename == name && file.bytes == bytes && file.purpose == "batch" && is_young(file));
            if let Some(file) = found {
                return Ok(Some(file.id.clone()));
            }
            match page.data.last() {
                Some(last) if page.has_more && after.as_ref() != Some(&last.id) => after = Some(last.id.clone()),
                _ => return Ok(None),
            }
        }
    }

    /// Brings a state to [`BatchStep::Launched`], or to [`BatchStep::Refused`] with the provider's reason.
    pub(super) async fn launch(&self, state: &mut BatchState) -> Result<()> {
        let mut tries = 0;
        loop {
            if state.step == BatchStep::Intended {
                // An earlier process, or the try before, sent the request and never learned what became of it.
                match self.find(state).await? {
                    Some(batch) => return self.adopt(state, batch),
                    None => self.forget(state)?,
                }
            }
            state.attempt = (self.new_attempt)();
            (state.intended_at, state.step) = ((self.now)(), BatchStep::Intended);
            (self.save)(state)?;
            let body = json!({
                "input_file_id": state.file_id,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": { "drylab_key": state.key, "drylab_launch": state.attempt },
            });
            let request = Request { key: self.key_of(state)?, ..Request::post("/batches", &body) };
            let fault = match self.endpoint.fetch::<Batch>(&request).await {
                Ok((batch, _)) => return self.adopt(state, batch),
                Err(fault) => fault,
            };
            if fault.may_have_happened() {
                continue;
            }
            // It was refused for certain, so that it may be sent again.
            tries += 1;
            let is_passing = fault.is_retryable() && tries < self.endpoint.settings().most_tries;
            state.step = if is_passing { BatchStep::Uploaded } else { BatchStep::Refused };
            state.status.clone_from(&fault.message);
            (self.save)(state)?;
            if !is_passing {
                return Err(fault.into_error(self.endpoint.name()).context("the batch was refused"));
            }
            self.pause(fault.retry_after.unwrap_or(self.patience.delay(0, tries as u32))).await?;
        }
    }

    fn adopt(&self, state: &mut BatchState, batch: Batch) -> Result<()> {
        (state.batch_id, state.step, state.status) = (Some(batch.id), BatchStep::Launched, batch.status);
        (self.save)(state)
    }

    /// The batch that a try with an unknown outcome made, if it did; looked for with growing gaps, since lists may lag.
    async fn find(&self, state: &BatchState) -> Result<Option<Batch>> {
        let (mut gap, mut left) = (self.search / 64, self.search);
        loop {
            let mut found = self.search_list(state).await?;
            if !found.is_empty() {
                found.sort_by(|a, b| a.created_at.total_cmp(&b.created_at).then_with(|| a.id.cmp(&b.id)));
                let oldest = found.remove(0);
                for double in found.iter().filter(|batch| !batch.is_final()) {
                    let key = self.key_of(state)?;
                    let cancelled = cancel_batch(self.endpoint, key, &double.id).await;
                    cancelled.map_err(|fault| fault.into_error(self.endpoint.name()))?;
                }
                return Ok(Some(oldest));
            }
            if left.is_zero() {
                return Ok(None);
            }
            gap = gap.min(left);
            self.pause(gap).await?;
            left -= gap;
            gap *= 2;
        }
    }

    /// All batches that carry a mark of this state.
    async fn search_list(&self, state: &BatchState) -> Result<Vec<Batch>> {
        let key = self.key_of(state)?;
        let oldest = state.intended_at - CLOCK_SKEW_SECONDS;
        let is_ours = |batch: &Batch| {
            let mark = batch.metadata.as_ref().and_then(|metadata| metadata.get("drylab_launch"));
            mark.is_some_and(|mark| *mark == state.attempt || state.lost_attempts.contains(mark))
        };
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit".to_string(), PAGE.to_string())];
            query.extend(after.clone().map(|after| ("after".to_string(), after)));
            let request = Request { key, query, ..Request::get("/batches") };
            let page: Page<Batch> = self.read(&self.get(&request).await?)?;
            let last = page.data.last().map(|batch| (batch.id.clone(), batch.created_at));
            found.extend(page.data.into_iter().filter(is_ours));
            match last {
                // Newest first; marks of earlier tries may lie anywhere.
                Some((id, created_at))
                    if page.has_more
                        && after.as_ref() != Some(&id)
                        && (created_at > oldest || !state.lost_attempts.is_empty()) =>
                {
                    after = Some(id);
                }
                _ => return Ok(found),
            }
        }
    }

    /// Gives up a try without a trace, where the settings allow it; its mark is searched for ever.
    fn forget(&self, state: &mut BatchState) -> Result<()> {
        let minutes = ((self.now)() - state.intended_at) / 60.0;
        match self.endpoint.settings().relaunch_unknown_after_minutes {
            Some(after) if minutes >= after => {
                let lost = std::mem::take(&mut state.attempt);
                state.lost_attempts.push(lost);
                Ok(())
            }
            allowed => Err(Error::environment(format!(
                "nobody knows whether `{2}` took a batch of {0} requests to `{1}` {minutes:.0} minutes ago",
                state.requests,
                state.model,
                self.endpoint.name()
            ))
            .with_help(match allowed {
                Some(after) => format!("run the same command again; after {after} minutes it is launched once more"),
                None => "look at the provider's page, then set `relaunch_unknown_after_minutes`".to_string(),
            })),
        }
    }
}
