//! `drylab show`: the report of a run.

use super::RunArguments;
use super::output::print_line;
use super::session::{project, report_error};
use crate::error::{Error, Result};
use crate::run::{self, RunRecord};

/// Prints the report of a run and where its files are.
pub fn show(arguments: &RunArguments) -> u8 {
    print_run(arguments).map_or_else(|error| report_error(&error), |()| 0)
}

fn print_run(arguments: &RunArguments) -> Result<()> {
    let (name, folder) = run::find(&project()?, arguments.run.as_deref())?;
    let record = RunRecord::read(&folder)?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&record).map_err(|error| Error::internal(error.to_string()))?;
        print_line(text);
        return Ok(());
    }
    match std::fs::read_to_string(folder.join("report.md")) {
        Ok(report) => print_line(report),
        Err(_) => print_line(format!("{name}: {} wrote no report", record.title)),
    }
    for file in &record.files {
        print_line(file);
    }
    if let Some(error) = &record.error {
        print_line(format!("\n{error}"));
    }
    Ok(())
}
