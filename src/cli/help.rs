//! `drylab help`: the manual of a function, a handle, a module or a topic, from the declarations themselves.

use super::HelpArguments;
use super::output::print_line;
use super::session::report_error;
use crate::error::{Error, nearest};
use crate::primitives;
use crate::script::manual::{handle_manual, manual, reference};

/// Topics that are no function: name and text.
const TOPICS: &[(&str, &str)] = &[
    ("organism", include_str!("../../datasets/organism/README.md")),
    ("providers", include_str!("../../docs/providers.md")),
    ("settings", include_str!("../../docs/settings.md")),
    ("training", include_str!("../../docs/training.md")),
];

/// Prints what is asked for, or a list of everything.
pub fn help(arguments: &HelpArguments) -> u8 {
    let (functions, handles) = (primitives::all(), primitives::handles());
    if arguments.reference {
        print_line(reference(&functions, &handles));
        return 0;
    }
    let Some(name) = &arguments.name else {
        print_line("functions (drylab help NAME explains one):");
        for function in &functions {
            print_line(format!("  {:<20} {}", function.name, first_sentence(function.about)));
        }
        print_line("\nhandles:");
        for handle in &handles {
            print_line(format!("  {:<20} {}", handle.name, handle.about));
        }
        print_line("\nlibrary (import \"NAME\" as name):");
        for (name, text) in primitives::library::MODULES {
            print_line(format!("  {name:<34} {}", module_title(text)));
        }
        print_line(format!("\ntopics: {}", TOPICS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")));
        return 0;
    };
    if let Some(function) = functions.iter().find(|function| function.name == name) {
        print_line(manual(function));
    } else if let Some(handle) = handles.iter().find(|handle| handle.name == name) {
        print_line(handle_manual(handle));
    } else if let Some((_, text)) = TOPICS.iter().find(|(topic, _)| topic == name) {
        print_line(text);
    } else if let Some((_, text)) = primitives::library::MODULES.iter().find(|(module, _)| module == name) {
        print_line(text);
    } else {
        let names = functions.iter().map(|function| function.name).chain(handles.iter().map(|handle| handle.name));
        let names = names
            .chain(TOPICS.iter().map(|(topic, _)| *topic))
            .chain(primitives::library::MODULES.iter().map(|(module, _)| *module));
        let error = Error::input(format!("there is no function, handle, module or topic `{name}`"));
        return report_error(&match nearest(name, names) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help("list everything with `drylab help`"),
        });
    }
    0
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or(text).trim()
}

fn module_title(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("//!").trim()
}
