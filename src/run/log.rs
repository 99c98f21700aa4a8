//! The log of a run, `log.jsonl`: one event a line, written as it happens, so that another process can watch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::lab::{Bill, Event, Outcome, Stage};

/// Name of the log in the run's folder.
pub const FILE: &str = "log.jsonl";

/// The log of a run, the state of its calls, and how much was worked.
pub struct Log {
    file: Option<Mutex<File>>,
    begun: Instant,
    state: Mutex<Tally>,
}

/// What became of one call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallState {
    /// Kind of work.
    pub stage: Stage,
    /// What people call it.
    pub label: String,
    /// `queued`, `started`, `finished`, `cached`, `failed` or `planned`.
    pub state: String,
    /// Share that is done.
    pub fraction: f64,
    /// Latest step of a training.
    pub step: Option<u64>,
    /// Latest loss of a training.
    pub loss: Option<f64>,
    /// How long it may still take, by what it took so far.
    pub seconds_left: Option<f64>,
    /// How long it worked.
    pub seconds: Option<f64>,
    /// Why it failed, or which run did the work.
    pub detail: Option<String>,
}

/// Everything that is known about a run's calls.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By key, in the order in which they were called.
    pub calls: Vec<(String, CallState)>,
    /// Pieces of work that were done, by stage.
    pub worked: BTreeMap<Stage, u64>,
    /// Pieces of work that would have to be done (when planning), by stage.
    pub missing: BTreeMap<Stage, u64>,
    /// What would have to be bought (when planning), by model and purpose.
    pub bills: Vec<Bill>,
    /// What was or would be downloaded.
    pub downloads: Vec<Download>,
    /// Files that were written.
    pub files: Vec<String>,
    position: BTreeMap<String, usize>,
}

/// A checkpoint that comes from the hub.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Download {
    /// Its repository.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// Files that were not in the cache.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many calls of a stage are in which state.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// All of them.
    pub calls: usize,
    /// Done in this run.
    pub run: usize,
    /// Found in the store.
    pub cached: usize,
    /// Would have to be done.
    pub planned: usize,
    /// Failed.
    pub failed: usize,
    /// Waiting or working.
    pub open: usize,
}

impl Log {
    /// A log in the folder of a run, or one that only counts.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        let file = match folder {
            Some(folder) => Some(Mutex::new(File::create(folder.join(FILE))?)),
            None => None,
        };
        Ok(Log { file, begun: Instant::now(), state: Mutex::default() })
    }

    /// Takes an event in: into the file, and into the tally.
    pub fn take(&self, event: &Event) {
        if let Some(file) = &self.file {
            let mut line = serde_json::to_value(event)
                .unwrap_or_else(|error| json!({ "event": "lost", "why": error.to_string() }));
            if let Value::Object(fields) = &mut line {
                fields.insert("second".into(), json!((self.begun.elapsed().as_secs_f64() * 1e3).round() / 1e3));
            }
            // A full disk shows where results are written; the log must not hide it by failing first.
            let _ = writeln!(file.lock().expect("no panic while holding the log"), "{line}");
        }
        self.state.lock().expect("no panic while holding the tally").take(event);
    }

    /// What is known so far.
    pub fn tally(&self) -> Tally {
        self.state.lock().expect("no panic while holding the tally").clone()
    }
}

impl Tally {
    /// How many calls are in which state, by stage.
    pub fn totals(&self) -> BTreeMap<Stage, Totals> {
        let mut totals: BTreeMap<Stage, Totals> = BTreeMap::new();
        for (_, call) in &self.calls {
            let of_stage = totals.entry(call.stage).or_default();
            of_stage.calls += 1;
            match call.state.as_str() {
                "finished" => of_stage.run += 1,
                "cached" => of_stage.cached += 1,
                "planned" => of_stage.planned += 1,
                "failed" => of_stage.failed += 1,
                _ => of_stage.open += 1,
            }
        }
        totals
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Call { key, stage, label, outcome } => {
                let (state, seconds, detail) = match outcome {
                    Outcome::Planned { missing, bills } => {
                        *self.missing.entry(*stage).or_default() += missing;
                        bills.iter().for_each(|bill| match self.bills.iter_mut().find(|known| known.is_like(bill)) {
                            Some(known) => known.add(bill),
                            None => self.bills.push(bill.clone()),
                        });
                        ("planned", None, None)
                    }
                    Outcome::Queued => ("queued", None, None),
                    Outcome::Cached { run } => ("cached", None, Some(run.clone())),
                    Outcome::Started => ("started", None, None),
                    Outcome::Finished { seconds } => ("finished", Some(*seconds), None),
                    Outcome::Failed { message } => ("failed", None, Some(message.clone())),
                };
                let call = self.call(&key.to_string(), *stage, label);
                call.state = state.to_string();
                call.seconds = seconds;
                call.seconds_left = None;
                call.detail = detail;
            }
            Event::Progress { key, fraction, step, loss } => {
                if let Some(index) = self.position.get(&key.to_string()) {
                    let call = &mut self.calls[*index].1;
                    call.fraction = *fraction;
                    call.step = step.or(call.step);
                    call.loss = loss.or(call.loss);
                }
            }
            Event::Worked { stage, count } => *self.worked.entry(*stage).or_default() += count,
            Event::Fetch { name, commit, files, bytes, .. } => {
                if !self.downloads.iter().any(|known| known.name == *name && known.commit == *commit) {
                    let (name, commit) = (name.clone(), commit.clone());
                    self.downloads.push(Download { name, commit, files: *files, bytes: *bytes });
                }
            }
            Event::Wrote { path } => self.files.push(path.clone()),
            Event::Note { .. } | Event::Print { .. } => {}
        }
    }

    fn call(&mut self, key: &str, stage: Stage, label: &str) -> &mut CallState {
        let index = *self.position.entry(key.to_string()).or_insert_with(|| {
            let state = CallState {
                stage,
                label: label.to_string(),
                state: String::new(),
                fraction: 0.0,
                step: None,
                loss: None,
                seconds_left: None,
                seconds: None,
                detail: None,
            };
            self.calls.push((key.to_string(), state));
            self.calls.len() - 1
        });
        &mut self.calls[index].1
    }
}

/// When a line was written.
#[derive(serde::Deserialize)]
struct Stamp {
    second: f64,
}

/// Reads the log of a run, finished or not, back into a tally. A last line that is not whole yet is left out.
pub fn read_log(folder: &Path) -> Result<Tally> {
    let text = std::fs::read_to_string(folder.join(FILE))?;
    let mut tally = Tally::default();
    let mut begun: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
        tally.take(&event);
        let second = serde_json::from_str::<Stamp>(line).map_or(0.0, |stamp| stamp.second);
        match &event {
            Event::Call { key, outcome: Outcome::Started, .. } => _ = begun.insert(key.to_string(), second),
            Event::Progress { key, fraction, .. } if *fraction > 0.0 => {
                let key = key.to_string();
                if let (Some(begun), Some(place)) = (begun.get(&key), tally.position.get(&key)) {
                    tally.calls[*place].1.seconds_left = Some((second - begun) * (1.0 - fraction) / fraction);
                }
            }
            _ => {}
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digest::Digest;

    fn event(outcome: Outcome) -> Event {
        Event::Call { key: Digest::of(b"call"), stage: Stage::FineTune, label: "tune".into(), outcome }
    }

    #[test]
    fn a_log_reads_back_as_the_tally_that_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(Some(folder.path())).unwrap();
        let progress = Event::Progress { key: Digest::of(b"call"), fraction: 0.5, step: Some(5), loss: Some(1.5) };
        let worked = Event::Worked { stage: Stage::FineTune, count: 7 };
        let wrote = Event::Wrote { path: "results/x/report.md".into() };
        let note = Event::Note { text: "a note".into() };
        let outcomes = [event(Outcome::Queued), event(Outcome::Started), progress, worked, wrote, note];
        outcomes.iter().for_each(|event| log.take(event));
        let running = read_log(folder.path()).unwrap();
        assert_eq!((running.calls[0].1.state.as_str(), running.calls[0].1.loss), ("started", Some(1.5)));
        log.take(&event(Outcome::Finished { seconds: 2.0 }));
        let (kept, read) = (log.tally(), read_log(folder.path()).unwrap());
        assert_eq!(kept.calls, read.calls);
        assert_eq!(read.totals()[&Stage::FineTune], Totals { calls: 1, run: 1, ..Totals::default() });
        assert_eq!(read.worked[&Stage::FineTune], 7);
        assert_eq!(read.files, ["results/x/report.md"]);
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(Some(folder.path())).unwrap();
        log.take(&event(Outcome::Started));
        let mut file = File::options().append(true).open(folder.path().join(FILE)).unwrap();
        write!(file, "{{\"event\":\"call\",\"key").unwrap();
        assert_eq!(read_log(folder.path()).unwrap().calls.len(), 1);
    }
}
