//! The rules of the house, read off the source tree: bands, sizes, names, who may print, what ships.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Lines that a file may have.
const LONGEST: usize = 600;
/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];
/// Bands that know nothing of scripts, of the command line, or of each other.
const CRAFTS: &[&str] = &["store", "provider", "model", "train", "judge", "probe", "plot", "export"];
/// The ways in which a craft may use another.
const CRAFT_USES: &[(&str, &str)] = &[("train", "model"), ("provider", "store")];
/// Macros at the crate's root and the bands that define them.
const MACROS: &[(&str, &str)] = &[("bail", "error"), ("ensure", "error"), ("handle", "script")];
/// Files outside `lab`, `run` and `cli` that may read the clock or the environment, and why.
const CLOCK_READERS: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file of `src`.
struct SourceFile {
    /// Path below `src`, with `/`.
    name: String,
    text: String,
    /// Compiled for tests only.
    only_tests: bool,
}

impl SourceFile {
    /// The top-level module it belongs to.
    fn band(&self) -> &str {
        self.name.split('/').next().unwrap().trim_end_matches(".rs")
    }
    /// How deep its module lies below the crate's root.
    fn depth(&self) -> usize {
        self.name.split('/').filter(|part| *part != "mod.rs").count()
    }
    /// Numbered lines without comments, those of the test module at its end marked.
    fn code(&self) -> Vec<(usize, &str, bool)> {
        let mut in_tests = self.only_tests;
        let mut lines = Vec::new();
        let mut previous = "";
        for (number, line) in self.text.lines().enumerate() {
            in_tests |= previous == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
            previous = line;
            if !line.trim_start().starts_with("//") {
                lines.push((number + 1, line, in_tests));
            }
        }
        lines
    }
    /// The same without what is compiled for tests only.
    fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().into_iter().filter(|(_, _, in_tests)| !in_tests).map(|(number, line, _)| (number, line))
    }
}

fn sources() -> Vec<SourceFile> {
    let src = root().join("src");
    let test_module = Regex::new(r"(?m)^#\[cfg\(test\)\]\n(?:pub(?:\([a-z]+\))? )?mod ([a-z_]+);").unwrap();
    let mut only_tests = BTreeSet::new();
    let paths = files_below(&src, "rs");
    for path in &paths {
        let beside = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
            path.parent().unwrap().to_path_buf()
        } else {
            path.with_extension("")
        };
        for module in test_module.captures_iter(&fs::read_to_string(path).unwrap()) {
            only_tests.insert(beside.join(format!("{}.rs", &module[1])));
        }
    }
    let read = |path: &PathBuf| SourceFile {
        name: path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(path).unwrap(),
        only_tests: only_tests.contains(path),
    };
    paths.iter().map(read).collect()
}

/// The bands in order, as the map in `src/lib.rs` lists them.
fn bands() -> Vec<String> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let lines = map.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_start);
    let listed = lines.skip_while(|line| !line.starts_with("```")).skip(1).take_while(|line| !line.starts_with("```"));
    listed.map(|line| line.split_whitespace().next().unwrap().to_string()).collect()
}

/// The bands that a line names, given the file's depth below the root: `crate::x`, `super::…` that leads to the root.
fn named_bands(line: &str, depth: usize) -> Vec<String> {
    let path = Regex::new(r"\b(?:(\$?crate)::|((?:super::)+))(\{[^}]*\}|[a-z_]+)").unwrap();
    let mut named = Vec::new();
    for found in path.captures_iter(line) {
        let supers = found.get(2).map_or(0, |supers| supers.as_str().matches("super").count());
        if found.get(1).is_none() && supers < depth {
            continue;
        }
        let first_words = |group: &str| -> Vec<String> {
            let items = group.trim_matches(['{', '}']).split(',');
            items.map(|item| item.trim().split("::").next().unwrap().to_string()).collect()
        };
        named.extend(first_words(&found[3]));
    }
    named
        .into_iter()
        .map(|name| MACROS.iter().find(|(word, _)| *word == name).map_or(name, |(_, band)| band.to_string()))
        .collect()
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_lists_every_module_of_the_crate() {
    let modules: BTreeSet<String> = Regex::new(r"(?m)^(?:pub )?mod ([a-z_]+);")
        .unwrap()
        .captures_iter(&fs::read_to_string(root().join("src/lib.rs")).unwrap())
        .map(|found| found[1].to_string())
        .collect();
    assert_eq!(bands().into_iter().collect::<BTreeSet<_>>(), modules);
}

#[test]
fn a_band_uses_itself_and_those_above_it() {
    let bands = bands();
    let place: BTreeMap<&str, usize> = bands.iter().enumerate().map(|(place, band)| (band.as_str(), place)).collect();
    let (mut wrong, mut uses) = (Vec::new(), 0);
    for file in sources().iter().filter(|file| !["lib.rs", "main.rs"].contains(&file.name.as_str())) {
        for (number, line, in_tests) in file.code() {
            let inside_inline_module = in_tests && !file.only_tests;
            for used in named_bands(line, file.depth() + usize::from(inside_inline_module)) {
                uses += 1;
                match place.get(used.as_str()) {
                    None => wrong.push(format!("src/{}:{number}: `{used}` is no band", file.name)),
                    Some(there) if *there > place[file.band()] => {
                        wrong.push(format!("src/{}:{number}: `{}` stands above `{used}`", file.name, file.band()));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    assert!(uses > 300, "only {uses} uses were found: the pattern has gone blind");
    assert_none(wrong);
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    assert_eq!(named_bands("use crate::data::chat::Row;", 2), ["data"]);
    assert_eq!(named_bands("use crate::{bail, store::Key, handle};", 2), ["error", "store", "script"]);
    assert_eq!(named_bands("let x = super::super::lab::Lab::open(crate::run::list());", 2), ["lab", "run"]);
    assert!(named_bands("use super::fit::Step; use super::super::objective;", 3).is_empty());
}

#[test]
fn crafts_know_nothing_of_scripts_commands_or_each_other() {
    let word = Regex::new(r"\b(rhai|clap)\b").unwrap();
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| CRAFTS.contains(&file.band())) {
        for (number, line, _) in file.code() {
            let strangers = named_bands(line, file.depth()).into_iter().filter(|used| {
                CRAFTS.contains(&used.as_str())
                    && used != file.band()
                    && !CRAFT_USES.contains(&(file.band(), used.as_str()))
            });
            let words = word.find_iter(line).map(|found| found.as_str().to_string());
            for found in strangers.chain(words) {
                wrong.push(format!("src/{}:{number}: `{}` names `{found}`", file.name, file.band()));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn only_the_command_line_prints_or_exits() {
    let prints = Regex::new(r"\b(e?print(ln)?!|dbg!|process::exit|process::abort|std(out|err)\(\))").unwrap();
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| file.band() != "cli" && file.name != "main.rs") {
        for (number, line) in file.shipped_code().filter(|(_, line)| prints.is_match(line)) {
            wrong.push(format!("src/{}:{number}: {}", file.name, line.trim()));
        }
    }
    assert_none(wrong);
}

#[test]
fn only_the_endpoint_listens() {
    let listens = Regex::new(r"\b(axum|TcpListener|UnixListener)\b").unwrap();
    let (mut wrong, mut found) = (Vec::new(), 0);
    for file in sources() {
        for (number, line) in file.shipped_code().filter(|(_, line)| listens.is_match(line)) {
            match file.band() {
                "web" => found += 1,
                _ => wrong.push(format!("src/{}:{number}: {}", file.name, line.trim())),
            }
        }
    }
    assert!(found > 10, "only {found} uses were found: the pattern has gone blind");
    assert_none(wrong);
}

#[test]
fn only_the_lab_and_those_who_open_it_read_clock_and_environment() {
    let reads = Regex::new(r"\b(env::(var|args|current_dir|temp_dir|home_dir)|(SystemTime|Instant)::now)").unwrap();
    let (mut wrong, mut excused) = (Vec::new(), BTreeSet::new());
    for file in sources().iter().filter(|file| !["lab", "run", "cli", "provider"].contains(&file.band())) {
        for (number, line) in file.shipped_code().filter(|(_, line)| reads.is_match(line)) {
            match CLOCK_READERS.iter().find(|(name, _)| *name == file.name) {
                Some((name, _)) => _ = excused.insert(*name),
                None => wrong.push(format!("src/{}:{number}: {}", file.name, line.trim())),
            }
        }
    }
    assert_none(wrong);
    assert_eq!(excused.len(), CLOCK_READERS.len(), "an exception is not needed any more: take it out of the list");
}

#[test]
fn every_file_says_what_it_is_is_short_and_has_a_telling_name() {
    let mut wrong = Vec::new();
    for file in sources() {
        if !file.text.starts_with("//! ") {
            wrong.push(format!("src/{} does not start with `//!` and a sentence", file.name));
        }
        let lines = file.text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("src/{} has {lines} lines, more than {LONGEST}", file.name));
        }
        for part in file.name.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                wrong.push(format!("src/{}: `{part}` says nothing", file.name));
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn nothing_is_left_to_do() {
    let unfinished = Regex::new(r"\b(todo!|unimplemented!|TODO|FIXME|XXX|HACK)").unwrap();
    let mut wrong = Vec::new();
    for file in sources() {
        for (number, line) in file.text.lines().enumerate().filter(|(_, line)| unfinished.is_match(line)) {
            wrong.push(format!("src/{}:{}: {}", file.name, number + 1, line.trim()));
        }
    }
    assert_none(wrong);
}

#[test]
fn the_library_on_disk_is_the_library_in_the_binary() {
    let stdlib = root().join("stdlib");
    let on_disk: BTreeSet<String> = files_below(&stdlib, "rhai")
        .iter()
        .map(|path| path.strip_prefix(&stdlib).unwrap().with_extension("").to_string_lossy().into_owned())
        .collect();
    let embedded: BTreeSet<String> =
        drylab::primitives::library::MODULES.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(on_disk, embedded);
    for (name, text) in drylab::primitives::library::MODULES {
        assert!(text.starts_with("//! "), "stdlib/{name}.rhai does not start with `//!` and a sentence");
    }
}

#[test]
fn every_script_starts_with_a_title_and_a_question() {
    let mut wrong = Vec::new();
    let scripts = files_below(&root().join("scripts"), "rhai");
    assert!(!scripts.is_empty());
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let doc: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        let asks = doc.get(1..).is_some_and(|question| question.join(" ").contains('?'));
        if !asks || doc[0].ends_with(['.', '?']) {
            wrong.push(format!("{} starts with `//! TITLE` and `//! QUESTION?`, found {doc:?}", path.display()));
        }
    }
    assert_none(wrong);
}

#[test]
fn every_dependency_is_used() {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let code = |folder: &str| -> String {
        let files = files_below(&root().join(folder), "rs");
        files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let shipped: String = sources()
        .iter()
        .flat_map(|file| file.shipped_code().map(|(_, line)| format!("{line}\n")).collect::<Vec<_>>())
        .collect();
    let everything = code("src") + code("tests").as_str();
    let mut unused = Vec::new();
    for (section, text) in [("dependencies", &shipped), ("dev-dependencies", &everything)] {
        for name in manifest[section].as_table().unwrap().keys() {
            let used = Regex::new(&format!(r"\b{}(::|!|;)", name.replace('-', "_"))).unwrap();
            if !used.is_match(text) {
                unused.push(format!("[{section}] {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "not used: {}", unused.join(", "));
}

#[test]
fn the_reference_page_is_what_the_declarations_say() {
    let (functions, handles) = (drylab::primitives::all(), drylab::primitives::handles());
    let page = drylab::script::manual::reference(&functions, &handles) + "\n";
    let path = root().join("docs/reference.md");
    if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == page,
        "docs/reference.md is old; run `INSTA_UPDATE=always ./test reference_page`"
    );
}
