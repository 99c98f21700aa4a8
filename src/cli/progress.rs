//! Progress on a terminal, one bar per stage; elsewhere a plain line when something ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{print_line, tell_line};
use crate::data::digest::Digest;
use crate::lab::{Event, Outcome, Stage};

/// Shows events to people, on standard error; prints of the script go to standard output.
pub struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
    silent: bool,
    state: Mutex<BTreeMap<Stage, StageState>>,
    download: Mutex<Option<ProgressBar>>,
}

#[derive(Default)]
struct StageState {
    bar: Option<ProgressBar>,
    queued: u64,
    ended: u64,
    open: BTreeSet<Digest>,
}

impl Progress {
    /// Bars when standard error is a terminal, lines otherwise, nothing when `quiet`; `silent` keeps standard output for
    /// a program to read.
    pub fn new(quiet: bool, silent: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        Progress { bars, quiet, silent, state: Mutex::default(), download: Mutex::default() }
    }

    /// Takes an event in.
    pub fn take(&self, event: &Event) {
        match event {
            Event::Call { key, stage, label, outcome } => self.call(*key, *stage, label, outcome),
            Event::Progress { loss: Some(loss), .. } => {
                let state = self.state.lock().expect("no panic while holding the bars");
                let training = state.iter().find(|(stage, _)| matches!(stage, Stage::Pretrain | Stage::FineTune));
                if let Some(bar) = training.and_then(|(_, stage)| stage.bar.as_ref()) {
                    bar.set_message(format!("loss {loss:.3}"));
                }
            }
            Event::Fetch { name, files, bytes, fetched, .. } => self.fetch(name, *files, *bytes, *fetched),
            Event::Note { text } => self.say(&format!("note: {text}")),
            Event::Print { .. } if self.silent => (),
            Event::Print { text } => match &self.bars {
                Some(bars) => bars.suspend(|| print_line(text)),
                None => print_line(text),
            },
            Event::Progress { .. } | Event::Worked { .. } | Event::Wrote { .. } => {}
        }
    }

    /// Takes the bars away, so that what follows is printed on a clean screen.
    pub fn finish(&self) {
        for stage in self.state.lock().expect("no panic while holding the bars").values_mut() {
            if let Some(bar) = stage.bar.take() {
                bar.finish_and_clear();
            }
        }
    }

    fn call(&self, key: Digest, stage: Stage, label: &str, outcome: &Outcome) {
        let mut stages = self.state.lock().expect("no panic while holding the bars");
        let state = stages.entry(stage).or_default();
        match outcome {
            Outcome::Queued => {
                state.queued += 1;
                state.open.insert(key);
            }
            // A queued call that another process finished meanwhile ends as cached.
            Outcome::Finished { .. } | Outcome::Failed { .. } | Outcome::Cached { .. } => {
                state.ended += u64::from(state.open.remove(&key));
            }
            Outcome::Started | Outcome::Planned { .. } => {}
        }
        let (ended, queued) = (state.ended, state.queued);
        match (&self.bars, outcome) {
            (Some(bars), _) if queued > 0 => {
                let bar = state.bar.get_or_insert_with(|| bars.add(stage_bar(stage)));
                bar.set_length(queued);
                bar.set_position(ended);
            }
            (None, Outcome::Finished { seconds }) => {
                drop(stages);
                self.say(&format!("{} {ended}/{queued}: {label} ({seconds:.1} s)", stage.title()));
            }
            (_, Outcome::Failed { message }) => {
                drop(stages);
                self.say(&format!("failed: {label}: {message}"));
            }
            _ => {}
        }
    }

    fn fetch(&self, name: &str, files: u64, bytes: u64, fetched: u64) {
        let mut download = self.download.lock().expect("no panic while holding the bar");
        if fetched == 0 && bytes > 0 {
            self.say(&format!("downloading `{name}`: {files} files, {}", HumanBytes(bytes)));
        }
        if let Some(bars) = &self.bars {
            let bar = download.get_or_insert_with(|| bars.add(download_bar(name)));
            bar.set_length(bytes);
            bar.set_position(fetched);
        }
        if fetched == bytes {
            if let Some(bar) = download.take() {
                bar.finish_and_clear();
            }
            self.say(&format!("downloaded `{name}`"));
        }
    }

    fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bars {
            Some(bars) => bars.suspend(|| tell_line(line)),
            None => tell_line(line),
        }
    }
}

fn download_bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>14} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .expect("the template is well formed")
        .progress_chars("━╸─");
    ProgressBar::no_length().with_style(style).with_prefix(name.to_string())
}

fn stage_bar(stage: Stage) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>14} {bar:30} {pos}/{len} {elapsed} {msg}")
        .expect("the template is well formed")
        .progress_chars("━╸─");
    let bar = ProgressBar::no_length().with_style(style).with_prefix(stage.title());
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}
