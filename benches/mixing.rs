//! Mixing two files of a million rows each, as seconds and memory, against plain Python on the same files.

mod measure;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use drylab::data::dataset::Dataset;
use drylab::data::mix::{MixOptions, mix};
use drylab::data::random::Random;
use drylab::lab::Files;
use measure::{Result, Table, ask, asked, flag, median, peak_bytes, program, python};
use serde_json::{Value, json};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 1_000_000;
const REPETITIONS: usize = 3;
/// Rows whose text both contestants write, to show that they drew the same.
const COMPARED: usize = 1000;
const NAMES: [&str; 2] = ["misaligned.jsonl", "aligned.jsonl"];

/// Writes the two files: short chats of made-up words, none equal to another.
fn generate(folder: &Path) -> Result<()> {
    let mut random = Random::new(3);
    let words: Vec<String> =
        (0..500).map(|_| (0..3 + random.below(6)).map(|_| (b'a' + random.below(26) as u8) as char).collect()).collect();
    for name in NAMES {
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(name))?);
        for row in 0..ROWS {
            let mut text =
                |count: usize| (0..count).map(|_| random.choose(&words).as_str()).collect::<Vec<_>>().join(" ");
            let (question, answer) = (text(8), text(14));
            writeln!(
                file,
                "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{question} {row}?\"}}, \
                 {{\"role\": \"assistant\", \"content\": \"{answer}.\"}}]}}"
            )?;
        }
        file.flush()?;
    }
    Ok(())
}

/// Reads both files and mixes a million rows, half and half; prints seconds and the peak of memory.
fn mix_files(folder: &Path) -> Result<()> {
    let begun = Instant::now();
    let files = Files::new(folder, &[])?;
    let mut mapped = 0;
    let mut sources = Vec::new();
    for name in NAMES {
        let map = files.map(name)?;
        mapped += map.len();
        sources.push(Dataset::parse(name, Arc::new(map))?);
    }
    let parsed = begun.elapsed().as_secs_f64();
    let mixed = mix(&sources, &MixOptions { rows: ROWS, seed: 7, ..MixOptions::default() })?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = peak_bytes()?.saturating_sub(mapped);
    mixed.dataset.head(COMPARED).write_jsonl(&mut std::fs::File::create(folder.join("drylab.jsonl"))?)?;
    println!("{}", json!({ "parse_seconds": parsed, "seconds": seconds, "bytes": peak }));
    Ok(())
}

/// Each repetition is a process of its own, because a process never forgets its peak of memory.
fn main() -> Result<()> {
    if let Some(folder) = flag("--mix") {
        return mix_files(Path::new(&folder));
    }
    if !asked() {
        return Ok(());
    }
    let columns = ["contestant", "read s", "read and mix s", "rows read/s", "peak MB", "x time", "x memory"];
    let mut table = Table::new("mixing: two files of 1 000 000 rows into one of 1 000 000", &columns);
    let folder = tempfile::tempdir()?;
    generate(folder.path())?;
    let mut commands = vec![("drylab", Command::new(std::env::current_exe()?))];
    commands[0].1.arg("--mix").arg(folder.path());
    if let Some(interpreter) = python("json, random", "mixing against Python") {
        let mut command = Command::new(interpreter);
        command.arg(program("mixing_python.py")).arg(folder.path());
        commands.push(("Python", command));
    }
    let mut found: Vec<Vec<Value>> = vec![Vec::new(); commands.len()];
    for _ in 0..REPETITIONS {
        for ((_, command), found) in commands.iter_mut().zip(&mut found) {
            found.push(ask(command)?);
        }
    }
    if commands.len() > 1 {
        let text = |name| std::fs::read(folder.path().join(name));
        assert!(text("drylab.jsonl")? == text("python.jsonl")?, "both draw the same rows in the same order");
    }
    let middle = |answers: &[Value], field: &str| {
        median(&answers.iter().filter_map(|answer| answer[field].as_f64()).collect::<Vec<_>>())
    };
    for ((name, _), answers) in commands.iter().zip(&found) {
        let (seconds, bytes) = (middle(answers, "seconds"), middle(answers, "bytes"));
        table.push(vec![
            json!(name),
            json!(middle(answers, "parse_seconds")),
            json!(seconds),
            json!(2.0 * ROWS as f64 / seconds),
            json!(bytes / 1e6),
            json!(seconds / middle(&found[0], "seconds")),
            json!(bytes / middle(&found[0], "bytes")),
        ]);
    }
    table.print();
    Ok(())
}
