//! One run of one script: its folder, its log, its record, and reading them back.

mod log;
mod record;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use log::{CallState, Download, Log, Tally, Totals, read_log};
pub use record::{Outcome, RunRecord};

/// Where runs live, relative to the project.
pub const RESULTS: &str = "results";

/// Makes the folder of a new run, `results/<script>-<number>`, and returns its name. The number is the next free one;
/// making the folder is what takes it, so two processes never share one.
pub fn create_folder(project: &Path, script: &str) -> Result<String> {
    let results = project.join(RESULTS);
    std::fs::create_dir_all(&results)?;
    let mut number = 1 + list(project)?.iter().filter_map(|name| number_of(name, script)).max().unwrap_or(0);
    loop {
        let name = format!("{script}-{number:03}");
        match std::fs::create_dir(results.join(&name)) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::from(error).context(format!("the run folder `{name}`"))),
        }
    }
}

/// The names of all runs, oldest number first within a script.
pub fn list(project: &Path) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(project.join(RESULTS)) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.path().join(log::FILE).exists().then(|| entry.file_name().to_string_lossy().into_owned())
        })
        .collect();
    names.sort_by_key(|name| split_number(name).map(|(script, number)| (script.to_string(), number)));
    Ok(names)
}

/// The folder of a run given by its name, by its script's name (then the newest run), or by nothing (the newest of all).
pub fn find(project: &Path, wanted: Option<&str>) -> Result<(String, PathBuf)> {
    let names = list(project)?;
    let folder = |name: &str| project.join(RESULTS).join(name);
    let newest = |names: Vec<&String>| {
        names
            .into_iter()
            .max_by_key(|name| std::fs::metadata(folder(name)).and_then(|data| data.modified()).ok())
            .cloned()
    };
    let wanted = wanted.map(|name| name.trim_end_matches('/').trim_start_matches("results/"));
    let found = match wanted {
        None => newest(names.iter().collect()),
        Some(name) if names.iter().any(|run| run == name) => Some(name.to_string()),
        Some(script) => newest(names.iter().filter(|name| number_of(name, script).is_some()).collect()),
    };
    match (found, wanted) {
        (Some(name), _) => Ok((name.clone(), folder(&name))),
        (None, None) => {
            Err(Error::input("there are no runs yet").with_help("start one: `drylab run scripts/a05b.rhai`"))
        }
        (None, Some(wanted)) => {
            let error = Error::input(format!("there is no run `{wanted}`"));
            Err(match crate::error::nearest(wanted, names.iter().map(String::as_str)) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None => error.with_help("list the runs with `drylab status`"),
            })
        }
    }
}

fn split_number(name: &str) -> Option<(&str, u32)> {
    let (script, number) = name.rsplit_once('-')?;
    Some((script, number.parse().ok()?))
}

fn number_of(name: &str, script: &str) -> Option<u32> {
    split_number(name).and_then(|(found, number)| (found == script).then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_per_script_and_found_by_script() {
        let project = tempfile::tempdir().unwrap();
        for expected in ["a05b-001", "a05b-002"] {
            let name = create_folder(project.path(), "a05b").unwrap();
            assert_eq!(name, expected);
            std::fs::write(project.path().join(RESULTS).join(&name).join(log::FILE), "").unwrap();
        }
        assert_eq!(find(project.path(), Some("a05b")).unwrap().0, "a05b-002");
        assert_eq!(find(project.path(), Some("results/a05b-001/")).unwrap().0, "a05b-001");
        let error = find(project.path(), Some("a05b-03")).unwrap_err();
        assert!(error.help.unwrap().starts_with("did you mean `a05b-00"));
    }
}
