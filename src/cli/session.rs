//! What the commands share: the project, the host of scripts, the lab of a run, and how errors are shown.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Script;
use super::output::tell_line;
use crate::error::{Error, Result};
use crate::lab::{Events, Lab, Settings};
use crate::primitives;
use crate::run::{Log, RESULTS};
use crate::script::host::Host;
use crate::script::parameters::Settings as Parameters;
use crate::script::project::{Files, Project, Source};
use crate::script::report::Report;

/// The project folder: the nearest folder upwards from here that holds `drylab.toml`, else this one.
pub fn project() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let marked = here.ancestors().find(|folder| folder.join("drylab.toml").is_file());
    Ok(marked.unwrap_or(&here).to_path_buf())
}

/// Everything that scripts can use, for scripts of this project.
pub fn host(project: &Path) -> Host<Lab> {
    let library = Project::new(project, primitives::library::MODULES, Files::on_disk());
    Host::new(primitives::all(), primitives::handles(), library)
}

/// Reads a script; its name is its path from the project folder.
pub fn read_script(project: &Path, path: &Path) -> Result<Source> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let missing = Error::input(format!("the script `{}` cannot be read: {error}", path.display()));
        match nearest_script(path) {
            Some(near) => missing.with_help(format!("did you mean `{near}`?")),
            None => missing,
        }
    })?;
    let full = path.canonicalize()?;
    let project = project.canonicalize()?;
    let name = full.strip_prefix(&project).unwrap_or(path).display().to_string();
    Ok(Source::new(name, text))
}

fn nearest_script(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = [folder, Path::new("scripts")]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .filter(|name| name.ends_with(".rhai"))
        .collect();
    let file = path.file_name()?.to_string_lossy().into_owned();
    let exact = names.iter().find(|name| Path::new(name).file_stem() == Some(std::ffi::OsStr::new(&file)));
    let near =
        || crate::error::nearest(&path.display().to_string(), names.iter().map(String::as_str)).map(str::to_string);
    exact.cloned().or_else(near)
}

/// The `--set` values of a command line.
pub fn parameters(script: &Script) -> Result<Parameters> {
    Parameters::parse(&script.set)
}

/// Opens the lab of a run; `run` is the name of its folder, none when planning.
pub fn open_lab(
    project: &Path,
    script: &Script,
    run: Option<&str>,
    log: Arc<Log>,
    watch: impl Fn(&crate::lab::Event) + Send + Sync + 'static,
    cancelled: Arc<AtomicBool>,
) -> Result<Lab> {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    // A path that the user wrote on the command line may be read, wherever it lies.
    let named = script.set.iter().filter_map(|set| set.split_once('='));
    let named = named.map(|(_, value)| PathBuf::from(value.strip_prefix("hf:").unwrap_or(value)));
    let (title, question) = read_title(&read_script(project, &script.script)?.text);
    let settings = Settings {
        project: project.to_path_buf(),
        store: script.store.clone().unwrap_or_else(|| project.join(RESULTS).join("store")),
        readable: folders_to_read(script)?.into_iter().chain(named).collect(),
        jobs: script.jobs.unwrap_or(cores).max(1),
        run: run.unwrap_or_default().to_string(),
        planning: run.is_none(),
        offline: script.offline,
        budget_usd: script.budget_usd,
        relaunch: script.relaunch,
        device: script.device,
        title,
        question,
    };
    let events = Events::new(move |event| {
        log.take(&event);
        watch(&event);
    });
    Lab::open(settings, events, cancelled)
}

/// Opens the lab of a command that runs no script.
pub fn open_tool_lab(project: &Path) -> Result<Lab> {
    open_watched_lab(project, |event| {
        if let crate::lab::Event::Note { text } = event {
            tell_line(format!("note: {text}"));
        }
    })
}

/// The same, with somebody who watches.
pub fn open_watched_lab(project: &Path, watch: impl Fn(crate::lab::Event) + Send + Sync + 'static) -> Result<Lab> {
    let settings = Settings::new(project.to_path_buf(), project.join(RESULTS).join("store"), "");
    Lab::open(settings, Events::new(watch), Arc::default())
}

/// The first line of a script's `//!` text, and the rest of it.
fn read_title(text: &str) -> (String, String) {
    let mut lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    (lines.next().unwrap_or_default().to_string(), lines.collect::<Vec<_>>().join(" ").trim().to_string())
}

/// The `--read` folders, which people write from where they are, not from the project folder.
fn folders_to_read(script: &Script) -> Result<Vec<PathBuf>> {
    let real_path = |path: &PathBuf| {
        path.canonicalize()
            .map_err(|error| Error::input(format!("`--read {}` cannot be opened: {error}", path.display())))
    };
    script.read.iter().map(real_path).collect()
}

/// Sets the flag on the first Ctrl-C (or SIGTERM) and ends the process on the second.
pub fn watch_interrupts(cancelled: Arc<AtomicBool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("interrupts".to_string()).spawn(move || {
        runtime.block_on(async {
            let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
                return;
            };
            loop {
                tokio::select! {
                    heard = tokio::signal::ctrl_c() => if heard.is_err() { return },
                    _ = terminate.recv() => (),
                }
                if cancelled.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                tell_line("stopping after the running steps; press Ctrl-C again to stop at once");
            }
        });
    })?;
    Ok(())
}

/// Prints an error that has no place in a script; returns its exit code.
pub fn report_error(error: &Error) -> u8 {
    tell_line(format!("error: {error}"));
    error.exit_code()
}

/// Prints a report on a script; returns its exit code.
pub fn print_report(report: &Report) -> u8 {
    tell_line(report.render(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()));
    report.exit_code()
}
