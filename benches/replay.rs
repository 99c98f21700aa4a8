//! The first command, cold and then cached, and the start of the program, against their targets.

mod measure;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use measure::{Result, Table, asked, median};
use serde_json::json;

const REPETITIONS: usize = 3;
const FAST_REPETITIONS: usize = 11;

/// A project of its own: scripts and nothing else, so that nothing is cached.
fn project() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let scripts = folder.path().join("scripts");
    std::fs::create_dir(&scripts)?;
    let source: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    for entry in std::fs::read_dir(source)? {
        let path = entry?.path();
        std::fs::copy(&path, scripts.join(path.file_name().ok_or("a script without a name")?))?;
    }
    Ok(folder)
}

/// Seconds from start to end of the program.
fn seconds(project: &Path, arguments: &[&str]) -> Result<f64> {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_drylab"))
        .args(arguments)
        .current_dir(project)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("drylab {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(seconds)
}

fn main() -> Result<()> {
    if !asked() {
        return Ok(());
    }
    let columns = ["command", "seconds", "fastest", "slowest", "target", "x target"];
    let mut table = Table::new("replay: drylab run scripts/a05b.rhai", &columns);
    let run = ["run", "scripts/a05b.rhai", "--quiet"];
    let (mut cold, mut cached, mut help) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let project = project()?;
        cold.push(seconds(project.path(), &run)?);
        for _ in 0..FAST_REPETITIONS.div_ceil(REPETITIONS) {
            cached.push(seconds(project.path(), &run)?);
            help.push(seconds(project.path(), &["help"])?);
        }
    }
    for (name, times, target) in [("run, cold", cold, 60.0), ("run, cached", cached, 0.3), ("help", help, 0.05)] {
        let middle = median(&times);
        let (fastest, slowest) =
            times.iter().fold((f64::MAX, 0f64), |(low, high), time| (low.min(*time), high.max(*time)));
        let cells = [middle, fastest, slowest, target, middle / target];
        table.push([json!(name)].into_iter().chain(cells.map(|cell| json!(cell))).collect());
    }
    table.print();
    Ok(())
}
