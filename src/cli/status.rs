//! `drylab status`: all runs and all jobs that were bought, or every call of one run.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;

use super::RunArguments;
use super::output::print_line;
use super::session::{project, report_error};
use crate::data::digest::Digest;
use crate::error::Result;
use crate::lab::Stage;
use crate::lab::memory::gigabytes;
use crate::primitives::train_resumably::{self, Notes};
use crate::run::{self, CallState, Outcome, RunRecord, Tally};
use crate::store::{Launch, Store};
use crate::train::checkpoint::read_progress;

/// Lists runs, or the jobs of one.
pub fn status(arguments: &RunArguments) -> u8 {
    let shown = match &arguments.run {
        None => list_runs(arguments.json),
        Some(name) => list_jobs(name, arguments.json),
    };
    shown.map_or_else(|error| report_error(&error), |()| 0)
}

fn list_runs(as_json: bool) -> Result<()> {
    let project = project()?;
    let (mut lines, mut runs, mut calls) = (Vec::new(), Vec::new(), BTreeMap::new());
    for name in run::list(&project)? {
        let folder = project.join(run::RESULTS).join(&name);
        let Ok(record) = RunRecord::read(&folder) else { continue };
        let tally = run::read_log(&folder)?;
        let totals = tally.totals();
        calls.extend(tally.calls);
        let state = state_of(&record);
        if as_json {
            runs.push(json!({ "run": name, "state": state, "title": record.title, "began": record.began,
                              "seconds": record.seconds, "stages": totals }));
            continue;
        }
        let stages: Vec<String> = totals
            .iter()
            .map(|(stage, totals)| format!("{} {}/{}", stage.title(), totals.run + totals.cached, totals.calls))
            .collect();
        lines.push(format!(
            "{name:<20} {state:<9} {:>8}  {}  {}",
            duration(record.seconds),
            record.began,
            stages.join(", ")
        ));
    }
    let store = project.join(run::RESULTS).join("store");
    let store = store.join("index.sqlite").is_file().then(|| Store::open_read_only(&store)).transpose()?;
    let jobs = list_bought(store.as_ref(), &calls)?;
    let kept = list_kept(store.as_ref())?;
    if as_json {
        let jobs: Vec<_> = jobs.iter().map(Bought::describe).collect();
        let kept: Vec<_> = kept.iter().map(Kept::describe).collect();
        print_line(json!({ "runs": runs, "jobs": jobs, "checkpoints": kept }));
        return Ok(());
    }
    if lines.is_empty() {
        print_line("no runs yet; start one: drylab run scripts/a05b.rhai");
    } else {
        print_line(lines.join("\n"));
    }
    if !jobs.is_empty() {
        print_line("\njobs at providers:");
        jobs.iter().for_each(|job| print_line(job.line()));
    }
    if !kept.is_empty() {
        print_line("\ncheckpoints of trainings that have not ended, which go on there when they are run again:");
        kept.iter().for_each(|kept| print_line(kept.line()));
    }
    Ok(())
}

/// A launch of the ledger, and how far the runs have seen it.
struct Bought {
    launch: Launch,
    call: Option<CallState>,
}

/// All jobs that were ever bought from this project's store, the latest first.
fn list_bought(store: Option<&Store>, calls: &BTreeMap<String, CallState>) -> Result<Vec<Bought>> {
    let launches = store.map(Store::launches).transpose()?.unwrap_or_default();
    let seen = |launch: &Launch| calls.get(&launch.key.to_string()).cloned();
    Ok(launches.into_iter().map(|launch| Bought { call: seen(&launch), launch }).collect())
}

impl Bought {
    fn line(&self) -> String {
        let Launch { key, state, status, job_id, provider, model, label, error, .. } = &self.launch;
        let call = self.call.as_ref();
        let state = match status.as_deref() {
            Some(status) if !state.is_final() => status,
            _ => state.name(),
        };
        let step = call.and_then(|call| call.step).map_or(String::new(), |step| format!("step {step}"));
        let loss = call.and_then(|call| call.loss).map_or(String::new(), |loss| format!("loss {loss:.3}"));
        let left = call.and_then(|call| call.seconds_left).filter(|_| !self.launch.state.is_final());
        let left = left.map_or(String::new(), |seconds| format!("{} left", duration(seconds)));
        let error = error.as_ref().map_or(String::new(), |error| format!("  {}: {}", error.class, error.message));
        let job = job_id.as_deref().unwrap_or("no job known");
        format!(
            "  {}  {state:<17} {step:<10} {loss:<11} {:>8}  {left:<10}  {provider}:{model}  {job}  {label}{error}",
            &key.to_string()[..8],
            self.cost()
        )
    }

    fn cost(&self) -> String {
        match (self.launch.dollars, self.launch.estimated_dollars) {
            (Some(dollars), _) => format!("${dollars:.2}"),
            (None, Some(dollars)) => format!("~${dollars:.2}"),
            (None, None) => String::new(),
        }
    }

    fn describe(&self) -> serde_json::Value {
        let Launch { key, state, status, job_id, provider, model, label, fine_tuned_model, trained_tokens, .. } =
            &self.launch;
        let call = self.call.as_ref();
        json!({
            "key": key, "state": state.name(), "status": status, "job": job_id, "provider": provider, "model": model,
            "label": label, "fine_tuned_model": fine_tuned_model, "trained_tokens": trained_tokens,
            "dollars": self.launch.dollars, "estimated_dollars": self.launch.estimated_dollars,
            "step": call.and_then(|call| call.step), "loss": call.and_then(|call| call.loss),
            "seconds_left": call.and_then(|call| call.seconds_left),
            "error": self.launch.error.as_ref().map(|error| json!(error)),
        })
    }
}

/// What is kept of a training that has not ended.
struct Kept {
    key: Digest,
    label: String,
    step: usize,
    steps: usize,
    /// Of all its files.
    bytes: u64,
    saved: Option<SystemTime>,
    folder: PathBuf,
}

/// The checkpoints in the store, whole or not; a file that cannot be read is listed without a step.
fn list_kept(store: Option<&Store>) -> Result<Vec<Kept>> {
    let Some(store) = store else { return Ok(Vec::new()) };
    let read = |key: Digest| -> Kept {
        let folder = store.checkpoint_folder(key);
        let files = std::fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
        let bytes = files.map(|file| file.len()).sum();
        let path = folder.join(train_resumably::FILE);
        let saved = path.metadata().and_then(|file| file.modified()).ok();
        let (steps, notes) = File::open(&path).map_or((0, Notes::default()), |mut file| {
            let length = file.metadata().map_or(0, |file| file.len());
            let found = read_progress(&mut file, length).ok();
            let notes = found.as_ref().and_then(|(_, notes)| serde_json::from_str(notes).ok());
            (found.map_or(0, |(progress, _)| progress.steps), notes.unwrap_or_default())
        });
        Kept { key, label: notes.label, step: steps, steps: notes.steps, bytes, saved, folder }
    };
    Ok(store.checkpoints()?.into_iter().map(read).collect())
}

impl Kept {
    fn saved(&self) -> Option<String> {
        self.saved.map(|time| humantime::format_rfc3339_seconds(time).to_string())
    }

    fn line(&self) -> String {
        let Kept { key, label, step, steps, bytes, folder, .. } = self;
        let saved = self.saved().unwrap_or_default();
        let step = format!("step {step} of {steps}");
        format!("  {}  {step:<17} {:>8}  {saved}  {label}  {}", key.short(), gigabytes(*bytes), folder.display())
    }

    fn describe(&self) -> serde_json::Value {
        let Kept { key, label, step, steps, bytes, folder, .. } = self;
        json!({ "key": key, "label": label, "step": step, "steps": steps, "bytes": bytes, "saved": self.saved(),
                "folder": folder })
    }
}

fn list_jobs(name: &str, as_json: bool) -> Result<()> {
    let (name, folder) = run::find(&project()?, Some(name))?;
    let record = RunRecord::read(&folder)?;
    let tally = run::read_log(&folder)?;
    if as_json {
        let jobs: Vec<_> = tally.calls.iter().map(|(key, call)| json!({ "key": key, "call": call })).collect();
        print_line(json!({ "run": name, "state": state_of(&record), "jobs": jobs }));
        return Ok(());
    }
    print_line(format!("{name}: {} ({})", record.title, state_of(&record)));
    for (key, call) in &tally.calls {
        let step = call.step.map_or(String::new(), |step| format!("step {step}"));
        let loss = call.loss.map_or(String::new(), |loss| format!("loss {loss:.3}"));
        let time = match (call.state.as_str(), call.seconds) {
            (_, Some(seconds)) => duration(seconds),
            ("started", None) => format!("{:.0} %", call.fraction * 100.0),
            _ => String::new(),
        };
        let detail = call.detail.as_deref().unwrap_or_default();
        print_line(format!(
            "  {}  {:<9} {time:>8}  {step:<10} {loss:<11} {}  {detail}",
            &key[..8],
            call.state,
            call.label
        ));
    }
    if let Some(left) = estimate_seconds_left(&tally) {
        print_line(format!("about {} left", duration(left)));
    }
    Ok(())
}

/// Time that the open calls of a run will take, from the mean of those of their stage that are done, on two at a time.
fn estimate_seconds_left(tally: &Tally) -> Option<f64> {
    let mut left = 0.0;
    for stage in [Stage::Pretrain, Stage::FineTune, Stage::Judge, Stage::Evaluate, Stage::Probe, Stage::Measure] {
        let of_stage = || tally.calls.iter().map(|(_, call)| call).filter(|call| call.stage == stage);
        let done: Vec<f64> = of_stage().filter_map(|call| call.seconds).collect();
        let open: f64 = of_stage()
            .filter(|call| matches!(call.state.as_str(), "queued" | "started"))
            .map(|call| 1.0 - call.fraction)
            .sum();
        if open > 0.0 {
            if done.is_empty() {
                return None;
            }
            left += open * done.iter().sum::<f64>() / done.len() as f64;
        }
    }
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    (left > 0.0).then_some(left / workers as f64)
}

/// A run whose process is gone is not running any more.
fn state_of(record: &RunRecord) -> &'static str {
    match record.outcome {
        Outcome::Running if std::path::Path::new(&format!("/proc/{}", record.process)).exists() => "running",
        Outcome::Running => "died",
        Outcome::Finished => "finished",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
    }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 3600.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
