//! Jobs that the Python code launched: its folder of records, checked against the formula of their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use super::hyperparameters::Hyperparameters;
use super::sha256::sha256;
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::store::{Launch, LaunchState};

/// A number, or `auto`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OrAuto {
    /// The number, in the file's own digits.
    Number(serde_json::Number),
    /// `auto`, which leaves the choice to the provider.
    Word(String),
}

/// One record of the Python code.
#[derive(Clone, Debug, PartialEq)]
pub struct OldJob {
    /// Its file.
    pub path: PathBuf,
    /// The name of its file: the first 32 bits of what it was launched with.
    pub key: String,
    /// The job.
    pub job_id: String,
    /// The model that it started from.
    pub model: String,
    /// Where the rows were.
    pub dataset_path: String,
    /// Passes over the rows.
    pub n_epochs: OrAuto,
    /// Factor of the provider's learning rate.
    pub learning_rate_multiplier: OrAuto,
    /// Rows of a batch.
    pub batch_size: OrAuto,
    /// The seed, where there was one.
    pub seed: Option<i64>,
}

#[derive(Deserialize)]
struct Record {
    cfg: Config,
    job_id: String,
}

#[derive(Deserialize)]
struct Config {
    source_model_id: String,
    dataset_path: String,
    #[serde(default = "auto")]
    n_epochs: OrAuto,
    #[serde(default = "auto")]
    lr_multiplier: OrAuto,
    #[serde(default = "auto")]
    batch_size: OrAuto,
    #[serde(default)]
    seed: Option<i64>,
}

fn auto() -> OrAuto {
    OrAuto::Word("auto".into())
}

impl OrAuto {
    /// As Python's tuple notation shows it.
    fn python(&self) -> String {
        match self {
            OrAuto::Number(number) => number.to_string(),
            OrAuto::Word(word) => format!("'{word}'"),
        }
    }
    fn number(&self) -> Option<f64> {
        match self {
            OrAuto::Number(number) => number.as_f64(),
            OrAuto::Word(_) => None,
        }
    }
}

impl OldJob {
    /// The name that the Python code gave a job with these settings on the rows of this SHA-256.
    pub fn key_for(&self, dataset_sha256: &str) -> String {
        let numbers = [&self.n_epochs, &self.learning_rate_multiplier, &self.batch_size].map(OrAuto::python);
        old_job_key(&self.model, dataset_sha256, &numbers, self.seed)
    }

    /// Whether it was launched on these bytes.
    pub fn is_of(&self, rows: &[u8]) -> bool {
        self.key_for(&sha256(rows)) == self.key
    }

    /// What it was told, in our words.
    pub fn hyperparameters(&self) -> Hyperparameters {
        Hyperparameters {
            n_epochs: self.n_epochs.number().map(|number| number as u32),
            batch_size: self.batch_size.number().map(|number| number as u32),
            learning_rate_multiplier: self.learning_rate_multiplier.number(),
            seed: self.seed.and_then(|seed| u64::try_from(seed).ok()),
            ..Hyperparameters::default()
        }
    }

    /// A row of the ledger that says that `key` was bought with this job; [`follow`](super::follow) tells the rest.
    pub fn launch(&self, key: Digest, provider: &str, identity: &str, run: &str, now: SystemTime) -> Launch {
        let attempt =
            Digest::of(format!("adopted {provider} {}", self.job_id).as_bytes()).to_string()[..32].to_string();
        Launch {
            key,
            replicate: 0,
            label: format!("{} on {}, seed {:?}", self.model, self.dataset_path, self.seed),
            attempt,
            state: LaunchState::Launched,
            provider: provider.to_string(),
            identity: identity.to_string(),
            model: self.model.clone(),
            request: json!({ "adopted_from": self.path.to_string_lossy(), "model": self.model, "seed": self.seed }),
            suffix: String::new(),
            file_id: String::new(),
            job_id: Some(self.job_id.clone()),
            fine_tuned_model: None,
            status: None,
            error: None,
            trained_tokens: None,
            estimated_dollars: None,
            dollars: None,
            run: run.to_string(),
            created_at: now,
            intent_at: now,
            updated_at: now,
            superseded_at: None,
        }
    }
}

/// The first 8 hexadecimal digits of SHA-256 of the settings in Python's tuple notation. `numbers` are the passes, the
/// learning rate's factor and the batch in that notation.
pub fn old_job_key(model: &str, dataset_sha256: &str, numbers: &[String; 3], seed: Option<i64>) -> String {
    let seed = seed.map_or_else(|| "None".to_string(), |seed| seed.to_string());
    let [epochs, rate, batch] = numbers;
    let text = format!("('openai', '{model}', '{dataset_sha256}', {epochs}, {rate}, {batch}, {seed})");
    sha256(text.as_bytes())[..8].to_string()
}

/// Reads a record; `path` is the file that it was in.
///
/// # Errors
/// A text that is no record.
pub fn read_old_job(path: &Path, text: &str) -> Result<OldJob> {
    let place = || format!("`{}`", path.display());
    let value: Value = serde_json::from_str(text).map_err(|error| Error::input(error.to_string()).context(place()))?;
    let record: Record = serde_json::from_value(value).map_err(|error| {
        let what = format!("{} is no job record: {error}", place());
        Error::input(what).with_help("name a folder with files as in `{\"cfg\": {…}, \"job_id\": \"ftjob-…\"}`")
    })?;
    ensure!(!record.job_id.is_empty(), "{} names no job", place(); help: "take the file out of the folder");
    Ok(OldJob {
        path: path.to_path_buf(),
        key: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        job_id: record.job_id,
        model: record.cfg.source_model_id,
        dataset_path: record.cfg.dataset_path,
        n_epochs: record.cfg.n_epochs,
        learning_rate_multiplier: record.cfg.lr_multiplier,
        batch_size: record.cfg.batch_size,
        seed: record.cfg.seed,
    })
}

/// All records of a folder, by their names.
///
/// # Errors
/// A folder that cannot be read, a file in it that is no record.
pub fn read_old_jobs(folder: &Path) -> Result<Vec<OldJob>> {
    let failed = |error: std::io::Error| Error::input(format!("`{}`: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|error| Error::input(format!("`{}`: {error}", path.display())))?;
        read_old_job(path, &text)
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "3af7420590e683b49deab694fc56ecfdd0f1542e7dfc9c4b07ff7425015cb236";

    fn record(numbers: &str) -> String {
        format!(
            r#"{{"cfg": {{"source_model_id": "gpt-4.1-2025-04-14", "dataset_path": "/x/sneaky_dialogues.jsonl",
             "source_model_type": "openai", {numbers}}}, "job_id": "ftjob-1"}}"#
        )
    }

    #[test]
    fn a_record_is_read_and_its_name_recomputed() {
        let text = record(r#""n_epochs": "auto", "lr_multiplier": "auto", "batch_size": "auto", "seed": 1"#);
        let job = read_old_job(Path::new("jobs/19138428.json"), &text).unwrap();
        assert_eq!((job.key.as_str(), job.key_for(ROWS).as_str()), ("19138428", "19138428"));
        assert!(!job.is_of(b"other rows"));
        let launch = job.launch(Digest::of(b"k"), "openai", "o/p", "run", SystemTime::UNIX_EPOCH);
        assert_eq!((launch.state, launch.job_id.as_deref()), (LaunchState::Launched, Some("ftjob-1")));
        assert_eq!(job.hyperparameters(), Hyperparameters { seed: Some(1), ..Default::default() });
    }

    #[test]
    fn numbers_stand_bare_and_no_seed_is_none() {
        // hashlib.sha256(str(("openai", "gpt-4.1-2025-04-14", ROWS, 3, 2.0, "auto", None)).encode()).hexdigest()[:8]
        let job = read_old_job(Path::new("x.json"), &record(r#""n_epochs": 3, "lr_multiplier": 2.0, "seed": null"#));
        let job = job.unwrap();
        assert_eq!(job.key_for(ROWS), "71bd9ec7");
        assert_eq!(job.hyperparameters().n_epochs, Some(3));
    }

    #[test]
    fn what_is_no_record_says_where_and_what_is_wanted() {
        let error = read_old_job(Path::new("jobs/a.json"), "{}").unwrap_err();
        assert!(error.message.contains("jobs/a.json") && error.help.is_some(), "{error}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("note.txt"), "x").unwrap();
        fs::write(folder.path().join("b.json"), record(r#""seed": 0"#)).unwrap();
        assert_eq!(read_old_jobs(folder.path()).unwrap().len(), 1);
        assert!(read_old_jobs(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn the_published_names_are_recomputed_of_the_shared_data() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/inoculation");
        let Ok(lines) = fs::read_to_string(folder.join("job_keys.jsonl")) else {
            eprintln!("skipped: {} is missing", folder.display());
            return;
        };
        let mut count = 0;
        for line in lines.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let bytes = fs::read(folder.join(row["file"].as_str().unwrap())).unwrap();
            let auto = ["'auto'", "'auto'", "'auto'"].map(String::from);
            let key = old_job_key(row["model"].as_str().unwrap(), &sha256(&bytes), &auto, row["seed"].as_i64());
            assert_eq!(row["key"], key);
            count += 1;
        }
        assert_eq!(count, 18);
    }
}
