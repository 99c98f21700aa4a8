//! `drylab plan`: what a run would do: what is cached, what would run.

use serde_json::json;

use super::Script;
use super::run::rehearse;
use super::session::{host, print_report, project, report_error};
use crate::run::Tally;

/// Prints the plan of a script.
pub fn plan(script: &Script) -> u8 {
    let project = match project() {
        Ok(project) => project,
        Err(error) => return report_error(&error),
    };
    match rehearse(&host(&project), &project, script) {
        Ok((tally, open_end)) => {
            print_plan(&tally, script.json, open_end.map(|error| error.message));
            0
        }
        Err(report) => print_report(&report),
    }
}

fn print_plan(tally: &Tally, as_json: bool, open_end: Option<String>) {
    if as_json {
        println!("{}", json!({ "stages": tally.totals(), "missing": tally.missing, "depends_on": open_end }));
        return;
    }
    println!("{:<14} {:>8} {:>8} {:>14}", "stage", "cached", "to run", "of which new");
    for (stage, totals) in tally.totals() {
        let missing = tally.missing.get(&stage).copied().unwrap_or(0);
        println!("{:<14} {:>8} {:>8} {missing:>14} {}", stage.title(), totals.cached, totals.planned, stage.unit());
    }
    match open_end {
        Some(message) => println!("the script reads a value on the way ({message}): what follows depends on it"),
        None if tally.missing.is_empty() => println!("everything is cached"),
        None => (),
    }
}
