//! `drylab check`: looks for mistakes in scripts without running anything.

use serde_json::json;

use super::CheckArguments;
use super::output::print_line;
use super::session::{host, print_report, project, read_script, report_error};
use crate::script::parameters::Settings;

/// Checks scripts; the exit code is that of the first bad one.
pub fn check(arguments: &CheckArguments) -> u8 {
    let project = match project() {
        Ok(project) => project,
        Err(error) => return report_error(&error),
    };
    let host = host(&project);
    let mut code = 0;
    let mut found = Vec::new();
    for path in &arguments.scripts {
        let source = match read_script(&project, path) {
            Ok(source) => source,
            Err(error) => {
                code = report_error(&error).max(code);
                continue;
            }
        };
        match host.check(&source, &Settings::default()) {
            Ok(checked) => {
                if arguments.json {
                    found.push(
                        json!({ "script": source.name, "title": checked.title, "parameters": checked.parameters }),
                    );
                } else {
                    print_line(format!("{}: {}", source.name, checked.title));
                }
            }
            Err(report) => {
                found.push(json!({ "script": source.name, "problems": report.render(false) }));
                code = print_report(&report).max(code);
            }
        }
    }
    if arguments.json {
        print_line(json!(found));
    }
    code
}
