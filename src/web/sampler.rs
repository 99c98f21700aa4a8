//! Requests that arrive together are sampled together: one pass over the weights serves up to 128 answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::models::Served;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::forward::Prepared;
use crate::model::sample::{Completion, Prompt, SampleOptions};
use crate::model::sample_shared::sample_shared;
use crate::model::weights::Weights;

/// Answers that are sampled together.
const ROWS: usize = 128;
/// How long the first of them waits for others.
const GATHERING: Duration = Duration::from_millis(2);

/// What must be equal in requests that are sampled together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    model: String,
    temperature: u64,
    top_p: u64,
    max_tokens: usize,
    stop: Vec<u32>,
}

/// A request that waits for its answers.
struct Waiting {
    prompts: Vec<Prompt>,
    alternatives: usize,
    answer: oneshot::Sender<Result<Vec<Completion>>>,
}

/// The one sampler of all requests.
pub struct Sampler {
    waiting: Mutex<HashMap<Group, Vec<Waiting>>>,
    /// One batch per core at a time; what comes meanwhile gathers for the next.
    turns: Arc<Semaphore>,
    /// The model that was asked last, laid out: the next request is often of the same.
    laid_out: Mutex<Option<(Arc<Weights>, Prepared)>>,
}

impl Sampler {
    /// A sampler that computes `jobs` batches at a time.
    pub fn new(jobs: usize) -> Self {
        Sampler { waiting: Mutex::default(), turns: Arc::new(Semaphore::new(jobs.max(1))), laid_out: Mutex::default() }
    }

    fn lay_out(&self, weights: &Arc<Weights>) -> Result<Prepared> {
        let mut kept = self.laid_out.lock().expect("no panic while holding what is laid out");
        match &*kept {
            Some((known, prepared)) if Arc::ptr_eq(known, weights) => Ok(prepared.clone()),
            _ => {
                // The one before makes room first.
                *kept = None;
                let prepared = Prepared::new(weights)?;
                *kept = Some((weights.clone(), prepared.clone()));
                Ok(prepared)
            }
        }
    }

    /// Continues the prompts of one request. Each completion depends on its own prompt and seed alone, whatever else
    /// is sampled with it.
    pub async fn sample(
        self: &Arc<Self>,
        lab: &Lab,
        served: &Arc<Served>,
        prompts: Vec<Prompt>,
        options: &SampleOptions,
    ) -> Result<Vec<Completion>> {
        let group = Group {
            model: served.id.clone(),
            temperature: options.temperature.to_bits(),
            top_p: options.top_p.to_bits(),
            max_tokens: options.max_tokens,
            stop: options.stop.clone(),
        };
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().expect("no panic while holding the requests");
            let row = waiting.entry(group.clone()).or_default();
            row.push(Waiting { prompts, alternatives: options.alternatives, answer });
            row.len() == 1
        };
        if first {
            tokio::spawn(self.clone().serve(lab.clone(), served.clone(), group, options.clone()));
        }
        answered.await.unwrap_or_else(|_| Err(Error::internal("a request ended without an answer")))
    }

    /// Samples one batch of a group, and leaves the next one to another task.
    async fn serve(self: Arc<Self>, lab: Lab, served: Arc<Served>, group: Group, mut options: SampleOptions) {
        let gathering = tokio::time::sleep(GATHERING);
        let turn = self.turns.clone().acquire_owned().await.expect("the turns are never closed");
        if self.count(&group) < ROWS {
            gathering.await;
        }
        let batch = self.take(&lab, &served, &group, &options);
        if batch.is_empty() {
            return;
        }
        options.alternatives = batch.iter().map(|request| request.alternatives).max().unwrap_or(0);
        let counts: Vec<(usize, usize)> =
            batch.iter().map(|request| (request.prompts.len(), request.alternatives)).collect();
        let (prompts, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.prompts, request.answer)).unzip();
        let prompts = prompts.concat();
        // This server's turns are its own: the cores are shared by the requests that are sampled side by side.
        let threads = 1 + self.turns.available_permits();
        let sampler = self.clone();
        let work = move || {
            let weights = served.model.weights(&lab)?;
            sample_shared((&weights, &sampler.lay_out(&weights)?), &prompts, &options, &[], threads, &|| {
                lab.cancelled()
            })
        };
        let outcome = tokio::task::spawn_blocking(work).await;
        drop(turn);
        let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("sampling panicked")));
        let mut completions = outcome.map(Vec::into_iter);
        for (answer, (count, alternatives)) in answers.into_iter().zip(counts) {
            let own = match &mut completions {
                Ok(completions) => Ok(completions
                    .take(count)
                    .map(|mut completion| {
                        // The batch told as many as the most curious request wanted.
                        completion.alternatives.iter_mut().for_each(|likely| likely.truncate(alternatives));
                        completion
                    })
                    .collect()),
                Err(error) => Err(error.clone()),
            };
            // A client that went away needs no answer.
            let _ = answer.send(own);
        }
    }

    fn count(&self, group: &Group) -> usize {
        let waiting = self.waiting.lock().expect("no panic while holding the requests");
        waiting.get(group).map_or(0, |requests| requests.iter().map(|request| request.prompts.len()).sum())
    }

    /// The oldest requests, up to [`ROWS`] prompts but at least one request; what is left gets a task of its own.
    fn take(self: &Arc<Self>, lab: &Lab, served: &Arc<Served>, group: &Group, options: &SampleOptions) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().expect("no panic while holding the requests");
        let mut requests = waiting.remove(group).unwrap_or_default();
        requests.retain(|request| !request.answer.is_closed());
        let mut rows = 0;
        let count = requests.iter().take_while(|request| {
            rows += request.prompts.len();
            rows <= ROWS
        });
        let count = count.count().max(1).min(requests.len());
        let rest = requests.split_off(count);
        if !rest.is_empty() {
            waiting.insert(group.clone(), rest);
            tokio::spawn(self.clone().serve(lab.clone(), served.clone(), group.clone(), options.clone()));
        }
        requests
    }
}
