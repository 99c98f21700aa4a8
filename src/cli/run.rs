//! `drylab run`: runs a script; what is in the store is not done again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::Script;
use super::output::{print_line, tell_line};
use super::progress::Progress;
use super::session::{host, open_lab, parameters, print_report, project, read_script, report_error, watch_interrupts};
use super::status::duration;
use crate::error::{Error, Kind, Result};
use crate::lab::{Event, Lab, Stage};
use crate::primitives::launch_job;
use crate::provider::budget::BudgetReport;
use crate::provider::money::Money;
use crate::run::{self, Log, Outcome, RESULTS, RunRecord, Tally};
use crate::script::host::{Event as ScriptEvent, Host, RunOptions};
use crate::script::report::Report;

/// Runs a script.
pub fn run(script: &Script) -> u8 {
    match prepare_and_run(script) {
        Ok(code) => code,
        Err(Failure::Report(report)) => print_report(&report),
        Err(Failure::Error(error)) => report_error(&error),
    }
}

enum Failure {
    Report(Report),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}
impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Failure::Report(report)
    }
}

fn prepare_and_run(script: &Script) -> Result<u8, Failure> {
    let begun = Instant::now();
    let project = project()?;
    let host = host(&project);
    let source = read_script(&project, &script.script)?;
    let settings = parameters(script)?;
    // Nothing is written before the script is known to be sound.
    let checked = host.check(&source, &settings)?;
    let stem = script.script.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = run::create_folder(&project, &stem)?;
    let folder = project.join(RESULTS).join(&name);
    let mut record = RunRecord {
        name: name.clone(),
        script: source.name.clone(),
        title: checked.title.clone(),
        sources: BTreeMap::from([(source.name.clone(), source.text.clone())]),
        parameters: BTreeMap::new(),
        outcome: Outcome::Running,
        error: None,
        process: std::process::id(),
        began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        seconds: 0.0,
        program: concat!("drylab ", env!("CARGO_PKG_VERSION")).to_string(),
        calls: Vec::new(),
        files: Vec::new(),
    };
    record.write(&folder)?;

    let cancelled = Arc::new(AtomicBool::new(false));
    watch_interrupts(cancelled.clone())?;
    let (log, progress) =
        (Arc::new(Log::new(Some(&folder))?), Arc::new(Progress::new(script.quiet || script.json, script.json)));
    let watch = progress.clone();
    let lab = open_lab(&project, script, Some(&name), log.clone(), move |event| watch.take(event), cancelled);
    let lab = Arc::new(lab.inspect_err(|error| {
        record.outcome = Outcome::Failed;
        record.error = Some(error.to_string());
        // The error itself is what the user must see, also where the record cannot be written.
        let _ = record.write(&folder);
    })?);
    record.program = lab.program();
    launch_job::recover(&lab)?;
    let (printer, stopper) = (lab.clone(), lab.clone());
    let options = RunOptions {
        settings,
        on_event: Arc::new(move |event| match event {
            ScriptEvent::Print(text) => printer.send(Event::Print { text }),
            ScriptEvent::Debug(text, file, line) => printer.note(format!("{file}:{line}: {text}")),
        }),
        stop: Arc::new(move || stopper.check_cancelled().err()),
        ..RunOptions::default()
    };
    let ran = host.run(&lab, &source, &options);
    // Calls whose outcome nobody read are part of the run all the same.
    let outcome: Result<(), Failure> = match ran {
        Ok(outcome) => {
            record.parameters =
                outcome.parameters.into_iter().map(|(name, parameter)| (name, parameter.value)).collect();
            record.sources = outcome.sources.into_iter().map(|source| (source.name, source.text)).collect();
            lab.finish().map_err(Failure::Error)
        }
        Err(report) => {
            lab.end_purchases();
            Err(Failure::Report(report))
        }
    };
    progress.finish();
    let tally = log.tally();
    record.seconds = begun.elapsed().as_secs_f64();
    record.calls = tally.calls.iter().map(|(key, call)| json!({ "key": key, "call": call })).collect();
    record.files = tally.files.clone();
    record.outcome = match &outcome {
        Ok(()) => Outcome::Finished,
        Err(failure) if matches!(failure.kind(), Kind::Interrupted | Kind::Budget) => Outcome::Stopped,
        Err(_) => Outcome::Failed,
    };
    record.error = outcome.as_ref().err().map(Failure::message);
    record.write(&folder)?;
    summarize(&record, &tally, &lab.budget().report(), &folder, script);
    outcome.map(|()| 0)
}

impl Failure {
    fn kind(&self) -> Kind {
        match self {
            Failure::Report(report) => report.error().kind,
            Failure::Error(error) => error.kind,
        }
    }
    fn message(&self) -> String {
        match self {
            Failure::Report(report) => report.error().to_string(),
            Failure::Error(error) => error.to_string(),
        }
    }
}

/// Says at the end what was done and what was written.
fn summarize(record: &RunRecord, tally: &Tally, money: &BudgetReport, folder: &Path, script: &Script) {
    if script.json {
        let results = std::fs::read_to_string(folder.join("results.json")).ok();
        let results: Value = results.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
        print_line(
            json!({ "run": record.name, "outcome": record.outcome, "error": record.error, "seconds": record.seconds,
                    "stages": tally.totals(), "worked": tally.worked, "spent_usd": money.spent.total().dollars(),
                    "files": record.files, "results": results }),
        );
        return;
    }
    if script.quiet {
        return;
    }
    for line in describe_work(tally) {
        tell_line(line);
    }
    if let Some(line) = describe_money(money) {
        tell_line(line);
    }
    for file in &tally.files {
        tell_line(format!("wrote {file}"));
    }
    tell_line(format!("{} {} in {}", record.name, describe_outcome(record.outcome), duration(record.seconds)));
}

fn describe_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "is running",
        Outcome::Finished => "finished",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
    }
}

/// `spent $1.20 (samples $1.00, judges $0.20) of $5.00`; nothing where nothing was bought.
fn describe_money(money: &BudgetReport) -> Option<String> {
    let is_used = money.spent.total() > Money::ZERO || money.unpriced > 0;
    (is_used || money.limit.is_some()).then(|| {
        let limit = money.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let unpriced = match money.unpriced {
            0 => String::new(),
            count => format!("; {count} requests to models without a price are not counted"),
        };
        format!("spent {}{limit}{unpriced}", money.spent)
    })
}

/// One line per stage: `fine-tunes: 3 run, 15 cached`.
fn describe_work(tally: &Tally) -> Vec<String> {
    let line = |(stage, totals): (Stage, run::Totals)| {
        let worked = tally.worked.get(&stage).copied().unwrap_or(0);
        let mut parts = vec![format!("{} run", totals.run), format!("{} cached", totals.cached)];
        if totals.failed > 0 {
            parts.push(format!("{} failed", totals.failed));
        }
        if totals.open > 0 {
            parts.push(format!("{} not done", totals.open));
        }
        format!("{}: {} ({worked} {})", stage.title(), parts.join(", "), stage.unit())
    };
    tally.totals().into_iter().map(line).collect()
}

/// What a run would do.
pub(super) struct Rehearsal {
    /// The lab that found it out.
    pub lab: Arc<Lab>,
    /// What is cached and what is not.
    pub tally: Tally,
    /// The value on which the rest depends, where the script reads one that is not there yet.
    pub open_end: Option<Error>,
}

/// Runs a script only to find out what it would do.
pub(super) fn rehearse(host: &Host<Lab>, project: &Path, script: &Script) -> Result<Rehearsal, Report> {
    let source = read_script(project, &script.script)?;
    let settings = parameters(script)?;
    host.check(&source, &settings)?;
    let log = Arc::new(Log::new(None)?);
    let cancelled = Arc::new(AtomicBool::new(false));
    let lab = Arc::new(open_lab(project, script, None, log.clone(), |_| (), cancelled)?);
    let open_end = match host.run(&lab, &source, &RunOptions { settings, ..RunOptions::default() }) {
        Ok(_) => None,
        Err(report) if report.error().kind == Kind::NotRun => Some(report.error().clone()),
        Err(report) => return Err(report),
    };
    Ok(Rehearsal { lab, tally: log.tally(), open_end })
}
