//! `drylab data`: takes over what other programs left; for now the jobs of the published Python code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::AdoptArguments;
use super::output::print_line;
use super::session::{open_tool_lab, project, report_error};
use crate::data::dataset::Dataset as Rows;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::primitives::dataset::Dataset;
use crate::primitives::launch_finetune::{self, Options};
use crate::primitives::model::Model;
use crate::provider::adopt::{OldJob, read_old_jobs};

/// Adopts a folder of jobs.
pub fn adopt(arguments: &AdoptArguments) -> u8 {
    match adopt_jobs(arguments) {
        Ok(()) => 0,
        Err(error) => report_error(&error),
    }
}

fn adopt_jobs(arguments: &AdoptArguments) -> Result<()> {
    let lab = open_tool_lab(&project()?)?;
    let jobs = read_old_jobs(&arguments.folder)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &jobs {
        let outcome = match find_rows(job, &arguments.rows)? {
            None => "without their rows",
            Some(rows) => adopt_job(&lab, job, rows, &arguments.provider)?,
        };
        print_line(format!("{}  {}  {outcome}: {}", job.key, job.job_id, job.dataset_path));
        *counts.entry(outcome).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    print_line(format!(
        "{} jobs: {}",
        jobs.len(),
        if parts.is_empty() { "none".to_string() } else { parts.join(", ") }
    ));
    if counts.contains_key("without their rows") {
        print_line(
            "help: name the folder with the rows with `--rows FOLDER`; a file counts only when it is the one that was used",
        );
    }
    Ok(())
}

/// The bytes that a job was launched on: the file of its record, or one of the same name below a folder.
fn find_rows(job: &OldJob, folders: &[PathBuf]) -> Result<Option<Vec<u8>>> {
    let name = Path::new(&job.dataset_path).file_name().unwrap_or_default();
    let beside = folders.iter().flat_map(|folder| [folder.join(&job.dataset_path), folder.join(name)]);
    for path in std::iter::once(PathBuf::from(&job.dataset_path)).chain(beside).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&path)
            .map_err(|error| Error::environment(format!("`{}` cannot be read: {error}", path.display())))?;
        if job.is_of(&bytes) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Enters a job into the ledger under the key of the call that would buy it now.
fn adopt_job(lab: &Lab, job: &OldJob, rows: Vec<u8>, provider: &str) -> Result<&'static str> {
    let rows = Rows::parse(&job.dataset_path, std::sync::Arc::new(rows))?;
    let data = Dataset::new(lab, rows, json!({ "file": job.dataset_path }));
    let base = Model::of_provider(lab, format!("{provider}:{}", job.model), provider.to_string(), job.model.clone())?;
    let told = job.hyperparameters();
    let options = Options {
        epochs: told.n_epochs.unwrap_or(0) as usize,
        batch_size: told.batch_size.map(|rows| rows as usize),
        learning_rate_multiplier: told.learning_rate_multiplier,
        seed: told.seed.unwrap_or(0),
        ..Options::default()
    };
    let key = launch_finetune::key(&launch_finetune::call(&base, &data, &options)?)?.digest();
    if lab.store().get_launch(key)?.is_some() {
        return Ok("known already");
    }
    let launch = job.launch(key, provider, "adopted", lab.run_name(), Lab::now());
    Ok(if lab.store().begin_launch(&launch)? { "adopted" } else { "known already" })
}
