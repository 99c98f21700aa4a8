//! A project in a temporary folder, and the real binary run in it.
#![allow(dead_code, reason = "every test binary uses another part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// A project folder that is removed with this value.
pub struct Project {
    folder: TempDir,
}

/// What a command gave back.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error, the project's folder written as `PROJECT`.
    pub stderr: String,
}

impl Ran {
    /// Panics with everything that was said unless the command ended well.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }
}

impl Project {
    /// An empty project.
    pub fn new() -> Self {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        project.write("drylab.toml", "");
        project
    }

    /// A project that holds a model in `models/tiny`: pre-trained for a moment, once in this process.
    pub fn with_tiny_model() -> Self {
        static TINY: OnceLock<Project> = OnceLock::new();
        let tiny = TINY.get_or_init(|| {
            let project = Project::new();
            let script = "save_model(pretrain_organism(#{ documents: 2000, width: 16, layers: 1 }), \"models/tiny\");";
            project.write("tiny.rhai", script);
            project.run(&["run", "tiny.rhai"]).well();
            project
        });
        let project = Project::new();
        for part in ["config.json", "tokenizer.json", "model.safetensors"] {
            let part = format!("models/tiny/{part}");
            fs::create_dir_all(project.path("models/tiny")).unwrap();
            fs::copy(tiny.path(&part), project.path(&part)).unwrap();
        }
        project
    }

    /// A path in it, with links followed as far as the folder goes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// Writes a file, and the folders on the way.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a text file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The binary with these arguments, in this folder, without a terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drylab"));
        command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let code = output.status.code().unwrap_or_else(|| {
            use std::os::unix::process::ExitStatusExt;
            128 + output.status.signal().unwrap()
        });
        let folder = self.path("").display().to_string();
        let stderr = String::from_utf8(output.stderr).unwrap().replace(folder.trim_end_matches('/'), "PROJECT");
        Ran { code, stdout: String::from_utf8(output.stdout).unwrap(), stderr }
    }

    /// Names of the run folders.
    pub fn runs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("results")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "store").collect();
        names.sort();
        names
    }

    /// The events of a run, in order; a line that a killed process left half written is none.
    pub fn events(&self, run: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.path(&format!("results/{run}/log.jsonl"))).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the script of a run printed.
    pub fn printed(&self, run: &str) -> Vec<String> {
        let events = self.events(run).into_iter().filter(|event| event["event"] == "print");
        events.map(|event| event["text"].as_str().unwrap().to_string()).collect()
    }
}

/// The data that lies beside the repository on the developers' machines; none, and a word about it, elsewhere.
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    match folder.canonicalize() {
        Ok(folder) => Some(folder),
        Err(_) => {
            println!("skipped: {test} needs ../shared/data");
            None
        }
    }
}

/// Sends a signal (`INT`, `KILL`) to a process that this test started.
pub fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}
