//! What went wrong in a script, as text: message, excerpt with the offending text underlined, calls, help.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use owo_colors::{OwoColorize, Style};
use rhai::{EvalAltResult, Position};

use crate::error::Error;
use crate::script::describe::describe;
use crate::script::place::Place;
use crate::script::project::Source;
use crate::script::vocabulary::Vocabulary;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What was wrong and what to do.
    pub error: Error,
    /// Where, if known.
    pub place: Option<Place>,
    /// The calls that led there, innermost first.
    pub calls: Vec<Frame>,
}

/// One step of the way to a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What was being done: "in `helper`, called".
    pub what: String,
    /// Where.
    pub place: Option<Place>,
}

/// Everything that is wrong, sorted by place; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        Report { problems: vec![Problem { error, place: None, calls: Vec::new() }] }
    }
}

impl Report {
    /// Exit code of the process that ends with this report.
    pub fn exit_code(&self) -> u8 {
        self.problems.first().map_or(1, |problem| problem.error.exit_code())
    }
    /// The first error.
    pub fn error(&self) -> &Error {
        &self.problems[0].error
    }
    /// The text that people read, a blank line between problems.
    pub fn render(&self, colour: bool) -> String {
        self.problems.iter().map(|problem| problem.render(colour)).collect::<Vec<_>>().join("\n")
    }
}

impl Problem {
    fn render(&self, colour: bool) -> String {
        let paint = |text: &str, style: Style| if colour { text.style(style).to_string() } else { text.to_string() };
        let (bold, red, blue) = (Style::new().bold(), Style::new().red().bold(), Style::new().blue());
        let mut out = format!("{}: {}\n", paint("error", red), paint(&self.error.message, bold));
        let mut write = |line: String| {
            let _ = writeln!(out, "{}", line.trim_end());
        };
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let (line, indent) = excerpt(place);
            write(format!("{margin}{} {}:{}:{}", paint("-->", blue), place.file, place.line, place.column));
            write(format!("{margin} {}", paint("|", blue)));
            write(format!("{} {} {line}", paint(&number, blue), paint("|", blue)));
            let shown = place.width.min(line.chars().count().saturating_sub(indent)).max(1);
            write(format!("{margin} {} {}{}", paint("|", blue), " ".repeat(indent), paint(&"^".repeat(shown), red)));
        }
        for frame in &self.calls {
            let at = frame.place.as_ref().map(|at| format!(" at {}:{}:{}", at.file, at.line, at.column));
            write(format!("{} {}{}", paint("=", blue), frame.what, at.unwrap_or_default()));
        }
        if let Some(help) = &self.error.help {
            write(format!("{}: {help}", paint("help", bold)));
        }
        out
    }
}

const WIDEST: usize = 120;

/// The line, cut to what fits around the place, and where the underline starts.
fn excerpt(place: &Place) -> (String, usize) {
    let characters: Vec<char> = place.text.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let start = if place.column + place.width > WIDEST { place.column.saturating_sub(WIDEST / 2) } else { 0 };
    let line: String = characters.iter().skip(start).take(WIDEST).collect();
    (line, place.column - 1 - start)
}

/// The sources of a run, by name.
pub type Sources = BTreeMap<String, Source>;

/// The sources that define each function, closures included.
pub type Definitions = HashMap<String, Vec<String>>;

/// The report of an error that Rhai returned while running `script`.
pub fn of_evaluation(
    error: &EvalAltResult,
    script: &str,
    sources: &Sources,
    definitions: &Definitions,
    words: &Vocabulary,
) -> Report {
    let mut file = script.to_string();
    let mut calls = Vec::new();
    let mut error = error;
    loop {
        let place = |position: Position| sources.get(&file).and_then(|source| Place::at(source, position));
        match error {
            EvalAltResult::ErrorInFunctionCall(name, source, inner, position) => {
                let what = match (name.starts_with("anon$"), &**inner) {
                    (true, _) => Some("in a closure, called".to_string()),
                    // Rhai wraps a closure's error once more in the native function that called it.
                    (false, EvalAltResult::ErrorInFunctionCall(closure, ..)) if closure.starts_with("anon$") => None,
                    (false, _) => Some(format!("in `{name}`, called")),
                };
                calls.extend(what.map(|what| Frame { what, place: place(*position) }));
                // Of a closure that another file calls, Rhai tells the file of the caller.
                match definitions.get(name).map(Vec::as_slice) {
                    Some([only]) => file.clone_from(only),
                    _ if sources.contains_key(source) => file.clone_from(source),
                    _ => {}
                }
                error = inner;
            }
            EvalAltResult::ErrorInModule(name, inner, position) => {
                calls.push(Frame { what: format!("in `{name}`, imported"), place: place(*position) });
                if sources.contains_key(name) {
                    file.clone_from(name);
                }
                error = inner;
            }
            _ => break,
        }
    }
    calls.reverse();
    let (described, position) = (describe(error, words), error.position());
    let source = sources.get(&file);
    let key = source.and_then(|source| Place::of_key(source, position, quoted(&described.message)));
    let place = key.or_else(|| source.and_then(|source| Place::at(source, position)));
    Report { problems: vec![Problem { error: described, place, calls }] }
}

/// The words in backticks, without what follows a dot or bracket.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    message.split('`').skip(1).step_by(2).map(move |text| &text[..word(text)]).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::script::toy::{host, run_with};

    fn rendered(script: &str, set: &[&str]) -> String {
        let report = run_with(&host(), script, set).result.unwrap_err();
        format!("{}(exit code {})\n", report.render(false), report.exit_code())
    }

    #[test]
    fn reports_look_like_this() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("unknown_option", "let a = dataset(\"a\");\nlet data = mix_dataset([a], #{ row: 10 });", &[]),
            ("unknown_option_nothing_near", "mix_dataset([], #{ temperature: 1 })", &[]),
            ("unknown_function", "//! title\nlet a = datset(\"a\");", &[]),
            ("wrong_type", "mix_dataset([dataset(\"a\")],\n    #{ rows: \"ten\" })", &[]),
            (
                "wrong_type_known_only_at_run_time",
                "fn rows() { \"ten\" }\nmix_dataset([],\n    #{ seed: 1, rows: rows() })",
                &[],
            ),
            ("wrong_arity", "mix_dataset([], #{}, 3)", &[]),
            ("missing_import", "import \"setings\" as settings;\nsettings::get(\"a\")", &[]),
            ("syntax_error", "let a = [1, 2;\nprint(a)", &[]),
            ("unclosed", "let a = mix_dataset([1, 2]", &[]),
            ("reserved_word", "let default = 1;", &[]),
            ("undefined_variable", "let setting = 1;\nprint(setings);", &[]),
            ("undefined_module", "settings::get(\"a\")", &[]),
            (
                "error_in_a_library_function",
                "import \"settings\" as settings;\nfn helper(n) { settings::get(n) }\nlet d = \"missing\";\nhelper(d);",
                &[],
            ),
            (
                "error_in_a_closure",
                "let names = [\"a\", \"missing\"];\nsweep(names, |name| {\n    dataset(name)\n});",
                &[],
            ),
            (
                "error_in_a_closure_called_by_rhai",
                "let names = [\"a\", \"missing\"];\nnames.map(|name| dataset(name));",
                &[],
            ),
            (
                "error_in_a_closure_called_by_a_library",
                "import \"figures\" as f;\nf::apply(|x| dataset(\"missing\"))",
                &[],
            ),
            (
                "runtime_error_of_a_primitive",
                "let w = [1.0, 2.0];\nmix_dataset([dataset(\"a\")], #{\n    rows: 3,\n    weights: w,\n})",
                &[],
            ),
            ("error_of_a_lazy_value", "let r = evaluate(model(\"m\"));\nprint(r.trouble)", &[]),
            ("unknown_setting", "let r = param(\"ratios\", [0.5]);", &["ratio=1"]),
            ("setting_of_another_kind", "let r = param(\"rows\", 1000);", &["rows=[1, 2]"]),
            ("unknown_property", "let r = evaluate(model(\"m\"));\nprint(r.scroe)", &[]),
            ("unknown_property_at_run_time", "let r = [evaluate(model(\"m\"))];\nprint(r[0].scroe)", &[]),
            ("unknown_key_of_a_map", "let m = #{ a: 1 };\nm.b", &[]),
            ("index_out_of_bounds", "let m = [1];\nm[3]", &[]),
            ("thrown", "throw \"no result\"", &[]),
            ("endless_loop", "loop { }", &[]),
            ("endless_recursion", "fn f(x) { f(x + 1) }\nf(0)", &[]),
            ("two_defaults", "param(\"a\", 1); param(\"a\", 2);", &[]),
            ("several", "datset(1);\nmix_dataset([], #{ row: 1 })", &[]),
            ("wrong_operands", "let a = dataset(\"a\");\na + 1", &[]),
            (
                "long_line",
                "let aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = 1; let bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb = 2; datset(\"a\"); let c = 3;",
                &[],
            ),
        ];
        insta::with_settings!({ snapshot_path => "../../tests/snapshots", omit_expression => true }, {
            for (name, script, set) in cases {
                insta::assert_snapshot!(*name, rendered(script, set));
            }
        });
    }

    #[test]
    fn colour_is_an_addition() {
        let report = run_with(&host(), "datset(1)", &[]).result.unwrap_err();
        let coloured = report.render(true);
        assert!(coloured.contains("\u{1b}["));
        let plain = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap().replace_all(&coloured, "").into_owned();
        assert_eq!(plain, report.render(false));
    }
}
