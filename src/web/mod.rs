//! `drylab serve --api`: an OpenAI-compatible endpoint over local models, so that any client can fine-tune and ask them.
//!
//! Fine-tuning is the call that scripts make and chat is the sampler that evaluations use; this band only speaks HTTP.
//! What is known of files and jobs lies below `results/serve/`, everything large in the store.

mod answer;
mod chat;
mod door;
mod error;
mod fields;
mod files;
mod fine_tuning;
mod jobs;
mod models;
mod order;
mod page;
mod question;
mod records;
mod rows;
mod sampler;
mod stream;
mod training;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query as QueryString};
use axum::http::Uri;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::data::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::lab::{Events, Lab, Settings};
use error::{ApiError, ApiResult};
use files::Files;
use jobs::Jobs;
use models::{Models, Served};
use page::Query;
use sampler::Sampler;

/// Largest body of a request: OpenAI's limit for a file.
const LARGEST_BODY: usize = 512 << 20;
/// How long requests may go on after the server was asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What every request must bear; never shown.
    pub token: Option<Token>,
    /// Models to serve beside the organism: their names in requests, and their folders.
    pub models: Vec<(String, String)>,
}

/// A secret.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a text as the secret.
    pub fn new(text: String) -> Self {
        Token(text)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What all requests share.
pub struct Server {
    lab: Lab,
    models: Models,
    files: Files,
    jobs: Arc<Jobs>,
    sampler: Arc<Sampler>,
    token: Option<Token>,
}

impl Server {
    /// Opens the lab and reads what an earlier server left.
    pub fn open(settings: Settings, options: &Options, cancelled: Arc<AtomicBool>) -> Result<Arc<Self>> {
        let (jobs, cores) = (Arc::new(Jobs::new()), settings.jobs);
        let watched = jobs.clone();
        let lab = Lab::open(settings, Events::new(move |event| watched.follow(&event)), cancelled)?;
        jobs.read(&lab)?;
        Ok(Arc::new(Server {
            models: Models::open(&lab, &options.models)?,
            files: Files::open(&lab)?,
            jobs,
            sampler: Arc::new(Sampler::new(cores)),
            token: options.token.clone(),
            lab,
        }))
    }

    /// Serves until `stop`, then lets running requests end. `ready` learns the address.
    pub async fn serve(
        self: Arc<Self>,
        options: &Options,
        ready: impl FnOnce(SocketAddr),
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let address = SocketAddr::new(options.host, options.port);
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            Error::environment(format!("nothing can listen on {address}: {error}"))
                .with_help("choose another port with `--port`; 0 takes a free one")
        })?;
        for job in self.jobs.all().into_iter().rev().filter(|job| !job.status.is_final()) {
            tokio::spawn(training::run(self.clone(), job.id));
        }
        ready(listener.local_addr()?);
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let stop = async move {
            stop.await;
            let _ = stopping.send(());
        };
        // Small answers to clients that wait for them: they go out at once.
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| _ = stream.set_nodelay(true));
        let serving = axum::serve(listener, self.router()).with_graceful_shutdown(stop).into_future();
        let late = async {
            // Without a message the server has ended by itself.
            let _ = stopped.await;
            tokio::time::sleep(LAST_REQUESTS).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = late => Ok(()),
        }
    }

    fn router(self: Arc<Self>) -> Router {
        let api = Router::new()
            .route("/models", get(models::list))
            .route("/models/{id}", get(models::retrieve).delete(models::delete))
            .route("/files", get(files::list).post(files::upload))
            .route("/files/{id}", get(files::retrieve).delete(files::delete))
            .route("/files/{id}/content", get(files::content))
            .route("/fine_tuning/jobs", get(fine_tuning::list).post(fine_tuning::create))
            .route("/fine_tuning/jobs/{id}", get(fine_tuning::retrieve))
            .route("/fine_tuning/jobs/{id}/events", get(fine_tuning::events))
            .route("/fine_tuning/jobs/{id}/checkpoints", get(fine_tuning::checkpoints))
            .route("/fine_tuning/jobs/{id}/cancel", post(fine_tuning::cancel))
            .route("/chat/completions", post(chat::complete));
        Router::new()
            .nest("/v1", api)
            .route("/health", get(async || Json(json!({ "status": "ok" }))))
            .fallback(door::unknown_path)
            .method_not_allowed_fallback(door::unknown_method)
            .layer(middleware::from_fn_with_state(self.clone(), door::admit))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(self)
    }

    /// The model of this name, for a client.
    async fn model(self: &Arc<Self>, id: &str) -> ApiResult<Arc<Served>> {
        if self.models.base(id).is_none() && !self.jobs.serve(id) {
            return Err(ApiError::no_model(id));
        }
        Ok(self.resolve(id).await?)
    }

    /// The model of this name, served or not: after a restart, a fine-tuned one is found again by its training's key.
    fn resolve<'a>(self: &'a Arc<Self>, id: &'a str) -> Pin<Box<dyn Future<Output = Result<Arc<Served>>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(served) = self.models.base(id).or_else(|| self.models.tuned(id)) {
                return Ok(served);
            }
            let job = self.jobs.of_model(id).ok_or_else(|| Error::input(format!("there is no model `{id}`")))?;
            let (model, _) = training::launch(self, &job).await?;
            let served = Arc::new(Served::new(id.to_string(), model)?);
            self.models.keep(served.clone());
            Ok(served)
        })
    }

    /// After a failure to read weights: the next request looks again, and trains anew what is lost.
    fn forget_weights(&self, served: &Served) {
        if let Some(key) = self.jobs.of_model(&served.id).and_then(|job| job.key) {
            self.models.forget(&served.id);
            self.lab.forget_call(key);
        }
    }

    /// The bytes of a file.
    fn bytes(&self, blob: Digest) -> ApiResult<Vec<u8>> {
        let bytes = self.lab.store().get_blob(blob)?;
        Ok(bytes.ok_or_else(|| {
            Error::environment("the file's bytes are damaged in the store").with_help("upload the file again")
        })?)
    }

    /// Does what reads or writes files away from the threads that talk to clients.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Server) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let server = self.clone();
        let outcome = tokio::task::spawn_blocking(move || work(&server)).await;
        outcome.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "a request panicked").into()))
    }
}

/// The fields of a query string.
fn query(text: Option<String>) -> ApiResult<Query> {
    let uri: Uri = format!("/?{}", text.unwrap_or_default())
        .parse()
        .map_err(|_| ApiError::malformed("The query string could not be read."))?;
    let QueryString(pairs) = QueryString::try_from_uri(&uri)
        .map_err(|error| ApiError::malformed(format!("The query string could not be read: {error}.")))?;
    Ok(Query(pairs))
}
