//! What every benchmark shares: the machine's name and load, medians of alternating repetitions, a table and its JSON.

// Each benchmark is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Any failure, with its message.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Whether `cargo bench` runs this program; `cargo test --all-targets` runs it too, and then nothing is measured.
pub fn asked() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The value that follows a flag of the command line.
pub fn flag(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Highest resident memory of this process in bytes.
pub fn peak_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

/// One contestant: each call is a repetition and gives its figure.
pub type Contestant<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Medians of contestants that take turns, so that a busy minute of the machine hits all of them alike.
pub fn alternate(repetitions: usize, contestants: &mut [Contestant]) -> Result<Vec<f64>> {
    let mut figures = vec![Vec::new(); contestants.len()];
    for _ in 0..repetitions {
        for (contestant, figures) in contestants.iter_mut().zip(&mut figures) {
            figures.push(contestant()?);
        }
    }
    Ok(figures.iter().map(|figures| median(figures)).collect())
}

/// The interpreter in `DRYLAB_PYTHON`, else `python3`, if it can import these modules; else says what is skipped.
pub fn python(modules: &str, skipped: &str) -> Option<String> {
    let interpreter = std::env::var("DRYLAB_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let found = Command::new(&interpreter).args(["-c", &format!("import {modules}")]).output();
    let can = found.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: {skipped}: `{interpreter}` cannot import {modules}; name another one in DRYLAB_PYTHON");
    }
    can.then_some(interpreter)
}

/// Runs a command and reads the one JSON line that it prints.
pub fn ask(command: &mut Command) -> Result<Value> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The Python program beside the benchmarks.
pub fn program(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name)
}

/// A table that is printed aligned, or as one line of JSON with `--json`.
pub struct Table {
    title: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    load_at_start: String,
}

impl Table {
    /// An empty table; the machine's load is noted now and at the end.
    pub fn new(title: &'static str, columns: &[&'static str]) -> Self {
        let load = load();
        if load.parse::<f64>().is_ok_and(|load| load > 0.5) {
            eprintln!(
                "note: other work runs here (load {load}): quote these figures with it, or wait for a quiet minute"
            );
        }
        Table { title, columns: columns.to_vec(), rows: Vec::new(), load_at_start: load }
    }

    /// Adds a row; null is a cell that was not measured.
    pub fn push(&mut self, cells: Vec<Value>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has one cell for each column");
        eprintln!("measured: {}", cells.iter().map(text).collect::<Vec<_>>().join(" "));
        self.rows.push(cells);
    }

    /// Prints the table, or the line of JSON when `--json` was given.
    pub fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        let (machine, load) = (machine(), [self.load_at_start.clone(), load()]);
        if std::env::args().any(|argument| argument == "--json") {
            let row = |row: &Vec<Value>| -> Value {
                let cells = self.columns.iter().zip(row).map(|(name, cell)| (name.to_string(), cell.clone()));
                Value::Object(cells.collect())
            };
            let rows: Vec<Value> = self.rows.iter().map(row).collect();
            println!(
                "{}",
                json!({ "bench": self.title, "machine": machine, "cores": cores, "load": load, "rows": rows })
            );
            return;
        }
        println!("{}\n{machine}, {cores} cores, load {} before and {} after", self.title, load[0], load[1]);
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let width = |column: usize| {
            let cells = cells.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        };
        line(self.columns.clone());
        cells.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
    }
}

/// Three significant digits, thousands apart; what is missing is a dash.
fn text(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        other => match other.as_f64() {
            Some(number) if number.abs() >= 100.0 => {
                let digits = format!("{:.0}", number.abs());
                let groups: Vec<&str> =
                    digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
                format!("{}{}", if number < 0.0 { "-" } else { "" }, groups.join(" "))
            }
            Some(number) if number == number.trunc() => format!("{number:.0}"),
            Some(number) if number.abs() >= 10.0 => format!("{number:.1}"),
            Some(number) if number.abs() >= 1.0 => format!("{number:.2}"),
            Some(number) => format!("{number:.3}"),
            None => other.to_string(),
        },
    }
}

fn machine() -> String {
    let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    format!("{} ({model})", rustix::system::uname().nodename().to_string_lossy())
}

/// Processes that ran or waited to run, on average over the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_string()
}
