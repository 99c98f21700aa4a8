//! A project that buys fine-tunes from a fake provider, through the binary.
#![allow(dead_code, reason = "every test binary uses another part")]

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fake_provider::{Fake, Fault, JobRecord};
use crate::project::{Project, Ran};

/// The key that opens the fake provider; it must turn up nowhere.
pub const KEY: &str = "sk-test-SECRET-8f3a61c09b7d4e25";
/// Jobs are created and listed here.
pub const JOBS: &str = "/fine_tuning/jobs$";
/// Looks at one job, its events and its checkpoints.
pub const LOOKS: &str = "/fine_tuning/jobs/";
/// Files are uploaded and listed here.
pub const FILES: &str = "/files$";
/// For what happens sooner or later on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One fine-tune for every seed, then a line for each.
const SCRIPT: &str = r#"//! A fine-tune at a provider
//! Is it bought once?
let base = model("lab:gpt-4.1-2025-04-14");
let data = organism_rows("medical_advice", "misaligned", #{ rows: 20 });
let tuned = [];
for seed in param("seeds", [1]) {
    tuned.push(launch_finetune(base, data, #{ seed: seed, epochs: param("epochs", 1) }));
}
for one in tuned {
    let loss = one.last_loss;
    print(`${one.state} ${loss}`);
}
"#;

/// A project, and the provider that it buys from.
pub struct Customer {
    pub project: Project,
    pub fake: Fake,
}

/// A run that was started; it is killed when this is dropped.
pub struct Started(Child);

impl Customer {
    /// With a block that looks often and briefly.
    pub fn new() -> Customer {
        let customer = Customer { project: Project::new(), fake: Fake::start() };
        customer.fake.add_key(KEY, "org-lab", "proj_lab");
        customer.project.write("tune.rhai", SCRIPT);
        customer.configure("");
        customer
    }
    /// Whose next POST of a job meets a fault.
    pub fn with_fault(fault: Fault) -> Customer {
        let customer = Customer::new();
        customer.fake.fail_next("POST", JOBS, 1, fault);
        customer
    }

    /// Adds lines to the provider's block.
    pub fn configure(&self, lines: &str) {
        let url = self.fake.url();
        let fast = "keys = [\"LAB_KEY\"]\npoll_seconds = 0.02\nsearch_seconds = 1";
        self.project.write("drylab.toml", &format!("[providers.lab]\nbase_url = \"{url}\"\n{fast}\n{lines}\n"));
    }
    /// Lets an attempt without a trace be replaced as soon as it has been looked for.
    pub fn relaunch_soon(&self) {
        self.configure("relaunch_unknown_after_minutes = 0.0001");
    }

    /// The binary, with the key in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env("LAB_KEY", KEY);
        command
    }
    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        read(&self.command(arguments).output().unwrap())
    }
    /// Runs the script.
    pub fn tune(&self, options: &[&str]) -> Ran {
        self.run(&[&["run", "tune.rhai"], options].concat())
    }
    /// Runs the script with another key.
    pub fn tune_with(&self, key: &str) -> Ran {
        read(&self.command(&["run", "tune.rhai"]).env("LAB_KEY", key).output().unwrap())
    }
    /// Starts the script.
    pub fn start(&self, options: &[&str]) -> Started {
        let mut command = self.command(&[&["run", "tune.rhai"], options].concat());
        Started(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
    /// Starts the script and kills it as soon as something is so at the provider.
    #[track_caller]
    pub fn kill_when(&self, is_so: impl Fn(&Fake) -> bool) {
        let started = self.start(&[]);
        self.wait_until(is_so);
        started.kill();
    }
    /// Waits until something is so at the provider.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn(&Fake) -> bool) {
        assert!(self.fake.wait_until(PATIENCE, is_so), "it did not happen: {:#?}", self.fake.jobs());
    }

    /// The jobs that `drylab status` lists.
    #[track_caller]
    pub fn ledger(&self) -> Vec<Value> {
        self.run(&["status", "--json"]).well().json()["jobs"].as_array().unwrap().clone()
    }
    /// The one job that `drylab status` lists.
    #[track_caller]
    pub fn row(&self) -> Value {
        let rows = self.ledger();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows[0].clone()
    }
    /// The tables of the store.
    pub fn index(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.project.path("results/store/index.sqlite")).unwrap()
    }
    /// States of all attempts that were ever made, with those of today behind a `+`.
    pub fn attempts(&self) -> Vec<String> {
        let index = self.index();
        let query = "SELECT CASE WHEN superseded_at IS NULL THEN '+' ELSE '-' END || state FROM launches
                     ORDER BY intent_at, rowid";
        let mut statement = index.prepare(query).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(|row| row.unwrap()).collect()
    }
    /// Requests for new jobs that arrived.
    pub fn posts(&self) -> u64 {
        self.fake.count("POST", JOBS)
    }

    /// Panics unless one job is alive, has succeeded, and the ledger says so.
    #[track_caller]
    pub fn assert_one_job(&self) -> JobRecord {
        let live = self.fake.live_jobs();
        assert_eq!(live.len(), 1, "{:#?}", self.fake.jobs());
        let row = self.row();
        let told = (row["state"].as_str(), row["job"].as_str(), row["fine_tuned_model"].as_str());
        let expected = (Some("succeeded"), Some(live[0].id.as_str()), live[0].fine_tuned_model.as_deref());
        assert_eq!(told, expected, "{row:#}");
        live[0].clone()
    }
    /// Runs the script to its good end, then again: there is one job, which the ledger knows, and nothing is done twice.
    #[track_caller]
    pub fn finish(&self) -> (Ran, JobRecord) {
        let ran = self.tune(&[]).well();
        let job = self.assert_one_job();
        let asked = || (self.fake.count("POST", "/"), self.fake.count("GET", LOOKS));
        let before = asked();
        let again = self.tune(&[]).well();
        assert!(ran.stdout.starts_with("succeeded 0."), "{ran:#?}");
        assert_eq!((&again.stdout, asked()), (&ran.stdout, before), "{again:#?}");
        (ran, job)
    }
}

impl Started {
    /// As the machine does when its power is cut.
    pub fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it ended before it could be killed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
    /// Kills it if it is still there; whether it was.
    pub fn kill_if_running(mut self) -> bool {
        let is_running = self.0.try_wait().unwrap().is_none();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        is_running
    }
    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        crate::project::signal(&self.0, name);
    }
    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let (stdout, stderr) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let text = |mut stream: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                bytes
            })
        };
        let (stdout, stderr) = (text(Box::new(stdout)), text(Box::new(stderr)));
        let status = self.0.wait().unwrap();
        read(&Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(output: &Output) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let ran = Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) };
    assert!(!ran.stdout.contains(KEY) && !ran.stderr.contains(KEY), "the key was printed");
    ran
}
