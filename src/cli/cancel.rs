//! `drylab cancel`: stops a fine-tuning job at its provider.

use super::CancelArguments;
use super::output::print_line;
use super::session::{open_tool_lab, project, report_error};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::provider::launch::{LaunchOptions, cancel_launch};
use crate::store::Launch;

/// Cancels a job.
pub fn cancel(arguments: &CancelArguments) -> u8 {
    match cancel_job(&arguments.job) {
        Ok(launch) => {
            let job = launch.job_id.unwrap_or_default();
            print_line(format!("job {job} at {} is {}: {}", launch.provider, launch.state.name(), launch.label));
            0
        }
        Err(error) => report_error(&error),
    }
}

fn cancel_job(name: &str) -> Result<Launch> {
    let lab = open_tool_lab(&project()?)?;
    let launch = find(&lab, name)?;
    let endpoint = lab.endpoint(&launch.provider)?;
    lab.block_on(cancel_launch(lab.store(), &endpoint, &launch, &LaunchOptions::new(&Lab::now)))
}

/// The launch whose key begins so, or whose job has this number.
fn find(lab: &Lab, name: &str) -> Result<Launch> {
    let is_meant = |launch: &Launch| launch.job_id.as_deref() == Some(name) || launch.key.to_string().starts_with(name);
    let mut found: Vec<Launch> = lab.store().launches()?.into_iter().filter(is_meant).collect();
    match (found.pop(), found.is_empty()) {
        (Some(launch), true) => Ok(launch),
        (Some(_), false) => Err(Error::input(format!("`{name}` means {} jobs", found.len() + 1))
            .with_help("write more of the key, or the job's number")),
        (None, _) => {
            Err(Error::input(format!("no job `{name}` was bought here")).with_help("list them with `drylab status`"))
        }
    }
}
