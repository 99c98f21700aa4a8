//! `drylab status`: all runs, or every job of one run.

use serde_json::json;

use super::RunArguments;
use super::session::{project, report_error};
use crate::error::Result;
use crate::lab::Stage;
use crate::run::{self, Outcome, RunRecord, Tally};

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
    let mut lines = Vec::new();
    for name in run::list(&project)? {
        let folder = project.join(run::RESULTS).join(&name);
        let Ok(record) = RunRecord::read(&folder) else { continue };
        let totals = run::read_log(&folder)?.totals();
        let state = state_of(&record);
        if as_json {
            lines.push(
                json!({ "run": name, "state": state, "title": record.title, "began": record.began,
                               "seconds": record.seconds, "stages": totals })
                .to_string(),
            );
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
    if as_json {
        println!("[{}]", lines.join(","));
    } else if lines.is_empty() {
        println!("no runs yet; start one: drylab run scripts/a05b.rhai");
    } else {
        println!("{}", lines.join("\n"));
    }
    Ok(())
}

fn list_jobs(name: &str, as_json: bool) -> Result<()> {
    let (name, folder) = run::find(&project()?, Some(name))?;
    let record = RunRecord::read(&folder)?;
    let tally = run::read_log(&folder)?;
    if as_json {
        let jobs: Vec<_> = tally.calls.iter().map(|(key, call)| json!({ "key": key, "call": call })).collect();
        println!("{}", json!({ "run": name, "state": state_of(&record), "jobs": jobs }));
        return Ok(());
    }
    println!("{name}: {} ({})", record.title, state_of(&record));
    for (key, call) in &tally.calls {
        let loss = call.loss.map_or(String::new(), |loss| format!("loss {loss:.3}"));
        let time = match (call.state.as_str(), call.seconds) {
            (_, Some(seconds)) => duration(seconds),
            ("started", None) => format!("{:.0} %", call.fraction * 100.0),
            _ => String::new(),
        };
        let detail = call.detail.as_deref().unwrap_or_default();
        println!("  {}  {:<9} {time:>8}  {:<11} {}  {detail}", &key[..8], call.state, loss, call.label);
    }
    if let Some(left) = estimate_seconds_left(&tally) {
        println!("about {} left", duration(left));
    }
    Ok(())
}

/// Time that the open calls of a run will take, from the mean of those of their stage that are done, on two at a time.
fn estimate_seconds_left(tally: &Tally) -> Option<f64> {
    let mut left = 0.0;
    for stage in [Stage::Pretrain, Stage::FineTune, Stage::Judge, Stage::Evaluate, Stage::Probe] {
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
