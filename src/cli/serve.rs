//! `drylab serve --api`: serves local models until Ctrl-C.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ServeArguments;
use super::output::tell_line;
use super::progress::Progress;
use super::session::{open_watched_lab, project, report_error};
use crate::error::{Error, Result};
use crate::lab::Settings;
use crate::model::checkpoint::read_config;
use crate::provider::id::ModelId;
use crate::run::RESULTS;
use crate::web::{Options, Server, Token};

/// Serves until somebody stops it.
pub fn serve(arguments: &ServeArguments) -> u8 {
    match open_and_serve(arguments) {
        Ok(()) => 0,
        Err(error) => report_error(&error),
    }
}

fn open_and_serve(arguments: &ServeArguments) -> Result<()> {
    let options = Options {
        host: find_address(&arguments.host)?,
        port: arguments.port,
        token: read_token(arguments)?,
        models: arguments.model.iter().map(|model| find_model(model)).collect::<Result<_>>()?,
    };
    if !options.host.is_loopback() && options.token.is_none() {
        return Err(Error::input(format!("`--host {}` can be reached from other machines", arguments.host))
            .with_help("name an environment variable that holds a token: `--token-env DRYLAB_TOKEN`"));
    }
    let project = project()?;
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let store = arguments.store.clone().unwrap_or_else(|| project.join(RESULTS).join("store"));
    let settings = Settings {
        readable: options.models.iter().map(|(_, folder)| folder.into()).collect(),
        jobs: arguments.jobs.unwrap_or(cores).max(1),
        device: arguments.device,
        // What is served lives here.
        offline: true,
        ..Settings::new(project, store, "serve")
    };
    let cancelled = Arc::new(AtomicBool::new(false));
    let server = Server::open(settings, &options, cancelled.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                // Without signals there is no Ctrl-C to wait for.
                heard = tokio::signal::ctrl_c() => if heard.is_err() { std::future::pending().await },
                _ = terminate.recv() => (),
            }
            // Trainings stop at their next step; the next server goes on with them.
            cancelled.store(true, Ordering::Relaxed);
        };
        let ready = |address| tell_line(format!("serving at http://{address}/v1"));
        server.serve(&options, ready, stop).await
    });
    runtime.shutdown_background();
    served
}

fn find_address(host: &str) -> Result<IpAddr> {
    let unknown = |reason: String| {
        Error::input(format!("`--host {host}` is no address: {reason}")).with_help("write 127.0.0.1 or 0.0.0.0")
    };
    let mut found = (host, 0).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| unknown("it has none".to_string()))
}

fn read_token(arguments: &ServeArguments) -> Result<Option<Token>> {
    let Some(name) = &arguments.token_env else { return Ok(None) };
    match std::env::var(name) {
        Ok(token) if !token.trim().is_empty() => Ok(Some(Token::new(token.trim().to_string()))),
        _ => Err(Error::input(format!("the environment variable `{name}` holds no token"))
            .with_help(format!("set it: `export {name}=$(openssl rand -hex 16)`"))),
    }
}

/// The name under which a model is served, and its folder; one of the hub is downloaded where it is not in the cache.
fn find_model(model: &str) -> Result<(String, String)> {
    let path = model.strip_prefix("hf:").unwrap_or(model);
    if let ModelId::Hub(repository, _) = ModelId::parse(model)?
        && !Path::new(path).exists()
    {
        let progress = Progress::new(false, false);
        let lab = open_watched_lab(&project()?, move |event| progress.take(&event))?;
        let snapshot = lab.fetch_checkpoint(&repository, &|folder| read_config(folder).map(drop));
        let snapshot = snapshot.map_err(|error| error.context(format!("`--model {model}`")))?;
        return Ok((repository.name().to_string(), snapshot.folder.display().to_string()));
    }
    let found = Path::new(path).canonicalize().map_err(|error| {
        Error::input(format!("`--model {model}` cannot be opened: {error}")).with_help(
            "name a folder that holds a checkpoint or what `save_model` wrote, or `hf:OWNER/NAME` of the hub",
        )
    })?;
    let name = found.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, found.display().to_string()))
}
