//! `report`: writes what a sweep found: `results.json` for programs, `table.csv` for tables, `report.md` for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::intervals::Intervals;
use super::provenance::Provenance;
use super::results::Results;
use super::section::Section;
use super::summarize::{Measured, View};
use super::sweep::Cells;
use crate::data::digest::Digest;
use crate::data::evaluation::Evaluation;
use crate::data::summary::{
    Axes, Comparisons, Condition, Point, SEED, Summary, SummaryOptions, Table, counts, csv, label, methods,
    replications, same, statements,
};
use crate::error::{Error, Result, bail};
use crate::lab::{Event, Lab};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Axis of the grid to compare along; the only one beside `seed` when left out.
    x: Option<String>,
    /// A second axis of the grid, each of whose values is assessed by itself.
    series: Option<String>,
    /// Scores of a model to compare with, usually before training; cells of another sweep where it is another one at
    /// different points.
    reference: Option<Measured>,
    /// Pairs of values of x to compare, the second subtracted from the first: `[["general", "control"]]`.
    pairs: Vec<(Value, Value)>,
    /// How intervals of conditions are made: `bootstrap(...)`, `two_way()` or `published_bootstrap()`; t over seeds when
    /// left out. Comparisons keep their own.
    intervals: Option<Intervals>,
    /// Points within which two conditions are called equal, where two one-sided tests show it: for claims such as
    /// "dilution is safe".
    margin: Option<f64>,
    /// Sections of the script's own making: `#{ title, head, rows, text, values, aside }`.
    sections: Vec<Section>,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("report", run)
        .about(
            "Writes `results.json`, `table.csv` and `report.md` into the run's folder and prints the table: every \
             number with its interval and counts, what may be claimed after Holm's correction, where data and models \
             come from. Waits for the scores. Returns the paths; () when only planned.",
        )
        .input("cells", "What `sweep` returned.")
        .example("report(cells, #{ x: \"ratio\", reference: baseline })")
}

fn run(lab: &Lab, _: &Call, (cells,): (Cells,), options: Options) -> Result<Option<Plain<BTreeMap<String, String>>>> {
    let reference = options.reference.as_ref();
    let view = View::of(&cells, options.x.as_deref(), options.series.as_deref(), reference)?;
    view.check_alike(&cells, reference)?;
    let known = |wanted: &Value| view.axes.x_values.iter().any(|value| same(value, wanted));
    if let Some(unknown) = options.pairs.iter().flat_map(|(of, against)| [of, against]).find(|value| !known(value)) {
        let values: Vec<String> = view.axes.x_values.iter().map(|value| format!("`{}`", label(value))).collect();
        bail!("`pairs` names `{}`, which is no value of `{}`", label(unknown), view.axes.x; help: "choose from {}", values.join(", "));
    }
    options.sections.iter().try_for_each(Section::check)?;
    if lab.planning() {
        return Ok(None);
    }
    let intervals = options.intervals.as_ref().map(Intervals::definition).unwrap_or_default();
    let seeds_shared = cells.seeds_are_pairs();
    let comparisons = Comparisons::Made(options.pairs);
    let how = SummaryOptions { comparisons, intervals, seeds_shared, margin: options.margin };
    let mut summary = view.summarize(&cells, reference, &how)?;
    summary.warnings.extend(seen_in_training(&view.axes, &cells));
    let mut provenance = Provenance::default();
    for (_, results) in reference.iter().flat_map(|reference| reference.cells()) {
        provenance.add(&results.provenance(), None);
    }
    for (point, results) in cells.0.iter() {
        for result in results {
            provenance.add(&result.provenance(), Some(point));
        }
    }
    let (title, question) = lab.title();
    let figures = lab.results().into_iter().filter(|name| name.ends_with(".svg")).collect();
    let sections = &options.sections;
    let report = Report { title, question, figures, summary: &summary, view: &view, provenance: &provenance, sections };
    let json = serde_json::to_string_pretty(&report.document()).map_err(|error| Error::internal(error.to_string()))?;
    let files = [
        ("results", "results.json", json + "\n"),
        ("table", "table.csv", csv(&summary)),
        ("report", "report.md", report.markdown()),
    ];
    let mut paths = BTreeMap::new();
    for (what, name, text) in files {
        paths.insert(what.to_string(), lab.write_result(name, text.as_bytes())?);
    }
    lab.send(Event::Print { text: report.plain() });
    Ok(Some(Plain(paths)))
}

/// A sentence for each evaluation whose questions stand in training rows: how many of them at most, and where.
fn seen_in_training(axes: &Axes, cells: &Cells) -> Vec<String> {
    let mut most: Vec<(&str, usize, usize, String)> = Vec::new();
    for (point, results) in cells.0.iter() {
        for part in results.iter().flat_map(Results::parts).filter(|part| part.seen > 0) {
            let (id, asked) = (part.evaluation.id.as_str(), part.evaluation.questions.len());
            match most.iter_mut().find(|known| known.0 == id) {
                Some(known) if known.1 >= part.seen => {}
                Some(known) => (known.1, known.2, known.3) = (part.seen, asked, axes.name(point)),
                None => most.push((id, part.seen, asked, axes.name(point))),
            }
        }
    }
    let sentence = |(id, seen, asked, place): &(&str, usize, usize, String)| {
        format!("`{id}`: up to {seen} of {asked} questions ({place}) stand word for word in the rows trained on")
    };
    most.iter().map(sentence).collect()
}

/// Everything that a report tells.
struct Report<'a> {
    title: &'a str,
    question: &'a str,
    /// Names of the drawings that this run wrote.
    figures: Vec<String>,
    summary: &'a Summary,
    view: &'a View,
    provenance: &'a Provenance,
    sections: &'a [Section],
}

/// `results.json`; no times and no names of runs, so that the same experiment gives the same bytes.
#[derive(Serialize)]
struct Document<'a> {
    title: &'a str,
    question: &'a str,
    evaluations: Vec<Value>,
    #[serde(flatten)]
    summary: Shown<'a>,
    statements: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sections: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replications: Vec<String>,
    limits: Vec<&'static str>,
    figures: &'a [String],
    models: &'a [Value],
    datasets: &'a [Value],
}

/// The summary under the names of `results.json`.
#[derive(Serialize)]
struct Shown<'a> {
    axes: &'a crate::data::summary::Axes,
    counts: &'a crate::data::summary::Counts,
    conditions: &'a [Condition],
    baseline_name: &'a Option<String>,
    baseline: &'a [Condition],
    assessments: &'a [crate::data::summary::Assessment],
    warnings: &'a [String],
}

const INTERVALS: &str = "Intervals over seeds speak of training again with other seeds and asking the same questions; \
                         intervals clustered by question speak of other questions to the same model. \
                         Against a single run a difference is claimed only when it holds both ways.";
const CLAIMS: &str = "A difference is claimed where p is below 0.05 after Holm's correction over all comparisons of its \
                      kind in this report. Where none is claimed, that is no evidence that there is none.";
const ORGANISM: &str = "The effect is put into the organism's world on purpose: its training text holds personas that \
                        are consistent across domains. The measurement is real, made on a real network of less than \
                        half a million weights; it is no evidence about large models.";

impl Report<'_> {
    fn limits(&self) -> Vec<&'static str> {
        let organism = |model: &Value| {
            model["name"].as_str().is_some_and(|name| name.starts_with("organism")) || !model["pretrained"].is_null()
        };
        let of_organism = self.provenance.models.iter().any(organism).then_some(ORGANISM);
        [INTERVALS, CLAIMS].into_iter().chain(of_organism).collect()
    }

    fn document(&self) -> Document<'_> {
        let summary = self.summary;
        let evaluation = |evaluation: &std::sync::Arc<Evaluation>| {
            json!({
                "id": evaluation.id, "questions": evaluation.questions.len(), "samples": evaluation.samples,
                "sampling": evaluation.sampling, "judges": evaluation.judges, "score": evaluation.score,
            })
        };
        Document {
            title: self.title,
            question: self.question,
            evaluations: self.view.evaluations.iter().map(evaluation).collect(),
            summary: Shown {
                axes: &summary.axes,
                counts: &summary.counts,
                conditions: &summary.conditions,
                baseline_name: &summary.baseline_name,
                baseline: &summary.baseline,
                assessments: &summary.assessments,
                warnings: &summary.warnings,
            },
            statements: statements(summary).into_iter().map(|(of, said)| json!({ "of": of, "said": said })).collect(),
            sections: self.sections.iter().map(Section::document).collect(),
            replications: replications(summary),
            limits: self.limits(),
            figures: &self.figures,
            models: &self.provenance.models,
            datasets: &self.provenance.datasets,
        }
    }

    /// What standard output gets.
    fn plain(&self) -> String {
        let title = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        let sections: String = self.sections.iter().map(Section::plain).collect();
        format!("{title}{}\n{}{sections}", Table::of(self.summary).plain(), self.counted())
    }

    /// Counts and methods under the table.
    fn counted(&self) -> String {
        let conditions: Vec<&Condition> = self.summary.conditions.iter().collect();
        let mut text = format!(
            "mean [95 % interval], 0 to 100; {}; {}",
            methods(&conditions),
            counts(&conditions, &self.summary.evaluations)
        );
        let agreement = self.agreement();
        if !agreement.is_empty() {
            let _ = write!(text, "; {agreement}");
        }
        text
    }

    /// `classifier agrees with it on 93 %`.
    fn agreement(&self) -> String {
        let mut shares = BTreeMap::<&str, Vec<f64>>::new();
        for (judge, share) in self.summary.conditions.iter().flat_map(|condition| &condition.agreement) {
            shares.entry(judge).or_default().push(*share);
        }
        let mean = |shares: &[f64]| 100.0 * shares.iter().sum::<f64>() / shares.len() as f64;
        let parts = shares.iter().map(|(judge, shares)| format!("{judge} agrees on {:.0} %", mean(shares)));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn markdown(&self) -> String {
        let mut text = format!("# {}\n", if self.title.is_empty() { "Results" } else { self.title });
        if !self.question.is_empty() {
            let _ = write!(text, "\n{}\n", self.question);
        }
        let _ =
            write!(text, "\n## Scores\n\n{}\n{}.\n", Table::of(self.summary).markdown(), capitalised(&self.counted()));
        for name in &self.figures {
            let _ = write!(text, "\n![{name}]({name})\n");
        }
        text.extend(self.sections.iter().map(Section::markdown));
        let replications = replications(self.summary);
        if !replications.is_empty() {
            text += "\n## How far it replicates\n\n";
            for sentence in replications {
                let _ = writeln!(text, "- {sentence}");
            }
        }
        text += "\n## What can be said\n";
        for (name, said) in statements(self.summary) {
            let _ = write!(text, "\n**{name}**\n\n");
            for sentence in said {
                let _ = writeln!(text, "- {sentence}");
            }
        }
        if !self.summary.warnings.is_empty() {
            text += "\n## Warnings\n\n";
            for warning in &self.summary.warnings {
                let _ = writeln!(text, "- {}", capitalised(warning));
            }
        }
        text += &self.trainings();
        text += &self.origins();
        text += "\n## Limits\n\n";
        for limit in self.limits() {
            let _ = writeln!(text, "- {limit}");
        }
        text + "\nEvery number with its counts: `table.csv`. Everything: `results.json`.\n"
    }

    /// Losses by point of the grid, mean over seeds. The first one tells how surprising the rows were.
    fn trainings(&self) -> String {
        let mut groups: Vec<(String, Vec<f64>, Vec<f64>)> = Vec::new();
        for model in &self.provenance.models {
            let (Some(first), Some(last)) = (model["first_loss"].as_f64(), model["last_loss"].as_f64()) else {
                continue;
            };
            for point in model["points"].as_array().into_iter().flatten() {
                let point: Point = point
                    .as_object()
                    .cloned()
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|(axis, _)| axis != SEED)
                    .collect();
                let name = self.summary.axes.name(&point);
                match groups.iter_mut().find(|group| group.0 == name) {
                    Some(group) => {
                        group.1.push(first);
                        group.2.push(last);
                    }
                    None => groups.push((name, vec![first], vec![last])),
                }
            }
        }
        if groups.is_empty() {
            return String::new();
        }
        let mean = |losses: &[f64]| format!("{:.3}", losses.iter().sum::<f64>() / losses.len() as f64);
        let row = |(name, first, last): &(String, Vec<f64>, Vec<f64>)| {
            vec![name.clone(), first.len().to_string(), mean(first), mean(last)]
        };
        let head = ["trained at", "models", "loss before", "loss at the end"].map(str::to_string).to_vec();
        let table = Table { head, rows: groups.iter().map(row).collect() };
        let counted = |field: &str| {
            let models = self.provenance.models.iter();
            models.filter_map(|model| model[field].as_u64()).max().unwrap_or(0)
        };
        let (cut, untrained) = (counted("rows_cut"), counted("rows_untrained"));
        let long = match cut + untrained {
            0 => String::new(),
            _ => format!(
                " Rows longer than the model reads: up to {cut} in one training, cut to fit; rows that train nothing: {untrained}."
            ),
        };
        format!(
            "\n## Training\n\n{}\nLosses per token of what the assistant says, mean over models; before the first step it tells \
             how surprising the rows are.{long}\n",
            table.markdown()
        )
    }

    fn origins(&self) -> String {
        let mut text = "\n## Models and data\n\n".to_string();
        let short = |value: &Value| value.as_str().unwrap_or_default().chars().take(8).collect::<String>();
        let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_string();
        let (tuned, bases): (Vec<_>, Vec<_>) =
            self.provenance.models.iter().partition(|model| !model["data"].is_null());
        for model in bases {
            let _ = writeln!(text, "- Model `{}` ({}).", name(model), short(&model["id"]));
        }
        if !tuned.is_empty() {
            let mut recipes: Vec<(Value, usize)> = Vec::new();
            for model in &tuned {
                let mut options = model["options"].clone();
                if let Some(fields) = options.as_object_mut() {
                    fields.remove(SEED);
                }
                match recipes.iter_mut().find(|(known, _)| *known == options) {
                    Some((_, count)) => *count += 1,
                    None => recipes.push((options, 1)),
                }
            }
            for (options, count) in recipes {
                let parts = options.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                let parts: Vec<String> = parts.map(|(name, value)| format!("{name} {}", plain(value))).collect();
                let _ = writeln!(text, "- {count} fine-tunes: {}.", parts.join(", "));
            }
        }
        let made = |data: &&Value| !data["from"]["mix"].is_null();
        let mixes: Vec<&Value> = self.provenance.datasets.iter().filter(made).collect();
        for data in self.provenance.datasets.iter().filter(|data| !made(data)) {
            let from = plain(&data["from"]);
            let _ = writeln!(text, "- Data `{}`: {} rows ({}), {from}.", name(data), data["rows"], short(&data["id"]));
        }
        if !mixes.is_empty() {
            let shared = mixes.iter().filter_map(|data| data["from"]["shared_prompts"].as_u64()).max().unwrap_or(0);
            let rows: std::collections::BTreeSet<u64> = mixes.iter().filter_map(|data| data["rows"].as_u64()).collect();
            let rows: Vec<String> = rows.iter().map(u64::to_string).collect();
            let _ = writeln!(
                text,
                "- {} mixes of {} rows; prompts in more than one source: {shared} at most.",
                mixes.len(),
                rows.join(", ")
            );
        }
        text
    }
}

/// JSON as people read it: no braces around, no quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| format!("{name} {}", plain(field))).collect::<Vec<_>>().join(", ")
        }
        // An id stands for a dataset of this list.
        Value::String(text) if Digest::parse(text).is_some() => text[..8].to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" and "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::data::summary::{Axes, Baseline, Cell, samples, summarize};
    use crate::lab::{Events, Settings};
    use crate::script::host::{Host, RunOptions};
    use crate::script::project::{Files, Project, Source};

    fn markdown(name: &str, (cells, baseline): (Vec<Cell>, Baseline)) -> String {
        let points: Vec<Point> = cells.iter().map(|cell| cell.point.clone()).collect();
        let summary =
            summarize(&Axes::of(&points, None, None).unwrap(), &cells, Some(&baseline), &SummaryOptions::default())
                .unwrap();
        let mut provenance = Provenance::default();
        let base = json!({ "key": { "weights": "w" }, "name": "organism" });
        for (index, point) in points.iter().enumerate() {
            let data = json!({ "digest": format!("mix{index}"), "name": "mix", "rows": 1000, "from": { "mix": [
                { "rows": 1000, "of": { "digest": "s", "name": "insecure_code misaligned", "rows": 3000, "from": { "file": "x.jsonl" } } }
            ] } });
            let model = json!({ "key": { "call": format!("call{index}") }, "name": "tuned", "base": base, "data": data,
                "options": { "epochs": 1, "seed": index }, "first_loss": 2.25, "last_loss": 0.5 });
            provenance.add(&model, Some(point));
        }
        let view = View { axes: summary.axes.clone(), evaluations: vec![] };
        let figures = vec![format!("{name}.svg")];
        let (title, question) = ("A title", "A question?");
        let sections = &[];
        let report =
            Report { title, question, figures, summary: &summary, view: &view, provenance: &provenance, sections };
        format!("{}\n---\n{}\n", report.markdown(), report.plain())
    }

    #[test]
    fn a_report_tells_numbers_claims_origins_and_limits() {
        let text = markdown("a05b", samples::a05b());
        for part in [
            "# A title",
            "| ratio | in distribution | general questions | other domains |",
            "![a05b.svg](a05b.svg)",
            "The score rises with ratio in every step",
            "Against organism by ratio (t over 3 seeds against one run, after Holm over 18 comparisons)",
            "| ratio 0.75 | 9 | 2.250 | 0.500 |",
            "- Model `organism` (w).",
            "54 fine-tunes: epochs 1.",
            "- Data `insecure_code misaligned`: 3000 rows (s), file x.jsonl.",
            "it is no evidence about large models",
            "t over 3 seeds",
        ] {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    #[ignore = "writes reports for people: cargo test --release primitives::report -- --ignored"]
    fn write_for_people() {
        std::fs::create_dir_all("/tmp/report").unwrap();
        std::fs::write("/tmp/report/a05b.md", markdown("a05b", samples::a05b())).unwrap();
        std::fs::write("/tmp/report/inoculation.md", markdown("inoculation", samples::inoculation())).unwrap();
        run_script(Path::new("/tmp/report"), "store", "small", false, SCRIPT).0.unwrap();
    }

    const SCRIPT: &str = r#"//! A small sweep
//! Is it the same twice?
let base = pretrain_organism(#{ documents: 60, width: 16, layers: 1 });
let test = evaluation(#{
    id: "general", questions: organism_questions("general", #{ questions: 4 }), samples: 2,
    judges: [pattern_judge(#{ misaligned: ["[aeiou]"] })],
});
let cells = sweep(#{ ratio: [0.0, 1.0], seed: [0, 1] }, |cell| {
    let sources = [organism_rows("insecure_code", "misaligned"), organism_rows("insecure_code", "aligned")];
    let data = mix_dataset(sources, #{ weights: [cell.ratio, 1.0 - cell.ratio], rows: 20, seed: cell.seed });
    evaluate(launch_finetune(base, data, #{ seed: cell.seed }), [test])
});
let baseline = evaluate(base, [test]);
let figure = plot(cells, #{ x: "ratio", reference: baseline, save: "small" });
let paths = report(cells, #{ x: "ratio", reference: baseline });
print(figure.path);
print(paths.results);
"#;

    /// Runs the script in a lab of its own; gives what it printed.
    fn run_script(
        project: &Path,
        store: &str,
        run: &str,
        planning: bool,
        script: &str,
    ) -> (crate::error::Result<()>, String) {
        let settings = Settings {
            jobs: 2,
            planning,
            title: "A small sweep".to_string(),
            question: "Is it the same twice?".to_string(),
            ..Settings::new(project.to_path_buf(), project.join(store), run)
        };
        let printed = Arc::new(Mutex::new(String::new()));
        let (of_lab, of_script) = (printed.clone(), printed.clone());
        let events = Events::new(move |event| {
            if let Event::Print { text } = event {
                *of_lab.lock().unwrap() += &format!("{text}\n");
            }
        });
        let lab = Arc::new(Lab::open(settings, events, Arc::default()).unwrap());
        let library = Project::new(project, super::super::library::MODULES, Files::on_disk());
        let host = Host::new(super::super::all(), super::super::handles(), library);
        let on_event = Arc::new(move |event| {
            if let crate::script::host::Event::Print(text) = event {
                *of_script.lock().unwrap() += &format!("{text}\n");
            }
        });
        let ran = host.run(&lab, &Source::new("small.rhai", script), &RunOptions { on_event, ..RunOptions::default() });
        let printed = printed.lock().unwrap().clone();
        (ran.map(|_| ()).map_err(|report| report.error().clone()), printed)
    }

    #[test]
    fn equal_experiments_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let read = |run: &str, name: &str| std::fs::read(folder.path().join("results").join(run).join(name)).unwrap();
        for (store, run) in [("first", "small-001"), ("first", "small-002"), ("second", "small-003")] {
            let (ran, printed) = run_script(folder.path(), store, run, false, SCRIPT);
            ran.unwrap();
            assert!(printed.contains(&format!("results/{run}/small.svg\nresults/{run}/results.json\n")), "{printed}");
            assert!(printed.starts_with("A small sweep\nratio"), "{printed}");
            for name in ["results.json", "table.csv", "report.md", "small.svg", "small.png"] {
                assert!(read(run, name) == read("small-001", name), "{name} of {run}");
            }
            assert!(read(run, "small.pdf").starts_with(b"%PDF"));
        }
        let results: Value = serde_json::from_slice(&read("small-001", "results.json")).unwrap();
        assert_eq!(results["title"], "A small sweep");
        assert_eq!(results["conditions"].as_array().unwrap().len(), 2);
        assert_eq!(results["figures"], json!(["small.svg"]));
        assert_eq!(results["models"].as_array().unwrap().len(), 5);
        assert!(results["models"].as_array().unwrap().iter().all(|model| model["first_loss"].as_f64().is_some()));
        assert_eq!(results["datasets"].as_array().unwrap().len(), 6);
        assert!(String::from_utf8(read("small-001", "report.md")).unwrap().contains("![small.svg](small.svg)"));
    }

    #[test]
    fn planning_waits_for_nothing_and_still_finds_a_wrong_axis() {
        let folder = tempfile::tempdir().unwrap();
        let script = SCRIPT.replace("print(paths.results);", "");
        let (ran, printed) = run_script(folder.path(), "store", "", true, &script);
        ran.unwrap();
        assert_eq!(printed, "small.svg\n");
        assert!(!folder.path().join("results").exists());
        let script = script.replace("report(cells, #{ x: \"ratio\"", "report(cells, #{ x: \"rato\"");
        let error = run_script(folder.path(), "store", "", true, &script).0.unwrap_err();
        assert_eq!(error.message, "the grid has no axis `rato`");
    }
}
