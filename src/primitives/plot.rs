//! `plot`: draws the scores of a sweep as lines or bars; and the handle that scripts hold for the figure.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::evaluate::Results;
use super::summarize::View;
use super::sweep::Cells;
use crate::data::summary::{Condition, Summary, counts, label, methods};
use crate::error::{Error, Result, bail, ensure, nearest};
use crate::handle;
use crate::lab::Lab;
use crate::plot;
use crate::plot::figure::{self as draw, Axis, Bar, Bars, Group, Line, Point, Reference, Series};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// A figure that was written, or would be.
#[derive(Clone)]
pub struct Figure(Arc<String>);

handle!(Figure);

impl Handle for Figure {
    const NAME: &'static str = "Figure";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        format!("Figure `{}`", self.0)
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Figure>("A figure; beside the SVG lie a PNG and a PDF of the same drawing.").property(
        "path",
        "The SVG, from the project folder.",
        |figure: &Figure| Ok((*figure.0).clone()),
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A line per evaluation over a numeric x.
    Line,
    /// A bar per evaluation in a group for every x.
    Bars,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Scale {
    /// Equal differences, equal distances.
    #[default]
    Linear,
    /// Equal ratios, equal distances.
    Log,
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// A line when x is a number, bars otherwise, unless said here.
    kind: Option<Kind>,
    /// Axis of the grid to compare along; the only one beside `seed` when left out.
    x: Option<String>,
    /// Axis of the grid with one line or colour for each value; one for each evaluation when left out.
    series: Option<String>,
    /// Which evaluation is drawn when `series` is an axis of the grid.
    evaluation: Option<String>,
    /// Of the x axis of a line: "linear" or "log".
    scale: Scale,
    /// Scores of a model to compare with, usually before training: dashed.
    reference: Option<Results>,
    /// Above the figure; the script's title when left out.
    title: Option<String>,
    /// Below the x axis; its name when left out.
    x_label: Option<String>,
    /// Beside the y axis; by the judge when left out.
    y_label: Option<String>,
    /// Name of the files; the kind when left out.
    save: Option<String>,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("plot", run)
        .about(
            "Draws mean scores with intervals and the means of seeds, as SVG, PNG and PDF in the run's folder. Waits for \
             the scores. The interval is t over seeds; with one seed it is clustered by question.",
        )
        .input("cells", "What `sweep` returned.")
        .example("plot(cells, #{ x: \"ratio\", reference: baseline, save: \"a05b\" })")
        .example("plot(cells, #{ kind: \"bars\", x: \"arm\", y_label: \"misaligned answers (0-100)\" })")
}

fn run(lab: &Lab, _: &Call, (cells,): (Cells,), options: Options) -> Result<Figure> {
    let reference = options.reference.as_ref();
    let view = View::of(&cells, options.x.as_deref(), options.series.as_deref(), reference)?;
    let kind = choose_kind(&view, &options)?;
    let shown = choose_evaluations(&view, &options)?;
    let name = options.save.clone().unwrap_or_else(|| free_name(lab, kind));
    if lab.planning() {
        return Ok(Figure(Arc::new(format!("{name}.svg"))));
    }
    let summary = view.summarize(&cells, reference)?;
    let (title, question) = lab.title();
    let mut drawn = figure_of(&summary, kind, &shown, &options)?;
    drawn.title = options.title.clone().unwrap_or_else(|| title.to_string());
    drawn.subtitle = question.to_string();
    save_figure(lab, &drawn, &name)
}

/// Writes a figure as SVG, PNG and PDF into the run's folder.
pub fn save_figure(lab: &Lab, figure: &draw::Figure, name: &str) -> Result<Figure> {
    let svg = plot::svg(figure)?;
    let (png, pdf) = rayon::join(|| plot::png(&svg, PIXELS), || plot::pdf(&svg));
    if lab.results().contains(&format!("{name}.svg")) {
        lab.note(format!("the figure `{name}` is written twice; the later one stays"));
    }
    lab.write_result(&format!("{name}.png"), &png?)?;
    lab.write_result(&format!("{name}.pdf"), &pdf?)?;
    Ok(Figure(Arc::new(lab.write_result(&format!("{name}.svg"), svg.as_bytes())?)))
}

/// Pixels of the PNG for each of the drawing: sharp on screens with small pixels.
const PIXELS: f32 = 2.0;

/// `line`, or `line-2` when the run has one already.
fn free_name(lab: &Lab, kind: Kind) -> String {
    let stem = match kind {
        Kind::Line => "line",
        Kind::Bars => "bars",
    };
    let written = lab.results();
    let names = std::iter::once(stem.to_string()).chain((2..).map(|number| format!("{stem}-{number}")));
    names.into_iter().find(|name| !written.contains(&format!("{name}.svg"))).expect("numbers do not end")
}

fn choose_kind(view: &View, options: &Options) -> Result<Kind> {
    let axes = &view.axes;
    let kind = options.kind.unwrap_or(if axes.numeric { Kind::Line } else { Kind::Bars });
    ensure!(kind == Kind::Bars || axes.numeric, "`{}` is not a number everywhere, so it has no line", axes.x; help: "draw bars: `kind: \"bars\"`");
    if options.scale == Scale::Log {
        ensure!(kind == Kind::Line, "bars have no `scale`"; help: "leave it out");
        let low = axes.x_values.first().and_then(Value::as_f64).unwrap_or(1.0);
        if low <= 0.0 {
            bail!("`{}` has the value {low}, which a log scale cannot show", axes.x; help: "leave `scale` out");
        }
    }
    Ok(kind)
}

/// Ids of the evaluations to draw: all of them, or the one whose series are drawn.
fn choose_evaluations(view: &View, options: &Options) -> Result<Vec<String>> {
    let ids: Vec<String> = view.evaluations.iter().map(|evaluation| evaluation.id.clone()).collect();
    let list = || ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    match (&options.evaluation, &view.axes.series) {
        (Some(wanted), _) if ids.contains(wanted) => Ok(vec![wanted.clone()]),
        (Some(wanted), _) => {
            let error = Error::input(format!("the cells have no evaluation `{wanted}`"));
            Err(match nearest(wanted, ids.iter().map(String::as_str)) {
                Some(near) => error.with_help(format!("did you mean `{near}`?")),
                None => error.with_help(format!("choose one of {}", list())),
            })
        }
        (None, Some(axis)) if ids.len() > 1 => {
            Err(Error::input(format!("with a line or colour for each `{axis}` there is room for one evaluation"))
                .with_help(format!("name it: `evaluation: \"{}\"`; there are {}", ids[0], list())))
        }
        _ => Ok(ids),
    }
}

/// One line or colour.
struct Strand<'a> {
    label: String,
    evaluation: &'a str,
    series: Option<&'a Value>,
}

/// The drawing without its title.
fn figure_of(summary: &Summary, kind: Kind, shown: &[String], options: &Options) -> Result<draw::Figure> {
    let axes = &summary.axes;
    let mut strands = Vec::new();
    for evaluation in shown {
        for series in axes.each_series() {
            let label = match (series, &axes.series) {
                (Some(value), Some(axis)) if value.is_number() => format!("{axis} {}", label(value)),
                (Some(value), _) => label(value),
                _ => evaluation.clone(),
            };
            strands.push(Strand { label, evaluation, series });
        }
    }
    // What could not be scored at all has no place in a figure; the caption counts it.
    strands.retain(|strand| {
        let scored =
            |x| summary.condition(strand.evaluation, x, strand.series).is_some_and(|one| one.estimate.is_some());
        axes.x_values.iter().any(scored)
    });
    ensure!(!strands.is_empty(), "no answer has a score, so there is nothing to draw");
    let conditions: Vec<&Condition> =
        summary.conditions.iter().filter(|condition| shown.contains(&condition.evaluation)).collect();
    let y = Axis {
        label: options.y_label.clone().unwrap_or_else(|| y_label(&conditions)),
        range: Some((0.0, 100.0)),
        ..Axis::default()
    };
    let references = references(summary, &strands);
    let kind = match kind {
        Kind::Line => {
            let x = Axis {
                label: options.x_label.clone().unwrap_or_else(|| match options.scale {
                    Scale::Linear => axes.x.clone(),
                    Scale::Log => format!("{} (log scale)", axes.x),
                }),
                scale: if options.scale == Scale::Log { draw::Scale::Log } else { draw::Scale::Linear },
                ..Axis::default()
            };
            draw::Kind::Line(Line {
                x,
                y,
                series: strands.iter().map(|strand| line(summary, strand)).collect(),
                references,
            })
        }
        Kind::Bars => {
            let groups = axes.x_values.iter().map(|x| Group {
                label: label(x),
                bars: strands.iter().filter_map(|strand| bar(summary, strand, x)).collect(),
            });
            draw::Kind::Bars(Bars { y, groups: groups.collect(), references })
        }
    };
    let caption = caption(summary, shown, &conditions);
    Ok(draw::Figure { title: String::new(), subtitle: String::new(), caption, kind, width: 960, height: 520 })
}

fn line(summary: &Summary, strand: &Strand) -> Series {
    let points = summary.axes.x_values.iter().filter_map(|x| {
        let estimate = summary.condition(strand.evaluation, x, strand.series)?.estimate.as_ref()?;
        Some(Point {
            x: x.as_f64()?,
            mean: estimate.mean,
            low: Some(estimate.low),
            high: Some(estimate.high),
            seeds: seeds(&estimate.seed_means),
        })
    });
    Series { label: strand.label.clone(), points: points.collect() }
}

fn bar(summary: &Summary, strand: &Strand, x: &Value) -> Option<Bar> {
    let estimate = summary.condition(strand.evaluation, x, strand.series)?.estimate.as_ref()?;
    Some(Bar {
        series: strand.label.clone(),
        mean: estimate.mean,
        low: Some(estimate.low),
        high: Some(estimate.high),
        seeds: seeds(&estimate.seed_means),
    })
}

/// A single run is the mean itself, not a seed beside it.
fn seeds(means: &[f64]) -> Vec<f64> {
    if means.len() > 1 { means.to_vec() } else { vec![] }
}

/// The baseline on every evaluation that is drawn, in the colour of its line.
fn references(summary: &Summary, strands: &[Strand]) -> Vec<Reference> {
    let mut evaluations: Vec<&str> = strands.iter().map(|strand| strand.evaluation).collect();
    evaluations.dedup();
    let name = summary.baseline_name.as_deref().unwrap_or_default();
    let found = evaluations.iter().filter_map(|id| {
        let estimate = summary.baseline_on(id)?.estimate.as_ref()?;
        let alone = summary.axes.series.is_none();
        Some(Reference {
            label: if evaluations.len() > 1 { format!("{name}: {id}") } else { name.to_string() },
            series: alone.then(|| (*id).to_string()),
            mean: estimate.mean,
            low: Some(estimate.low),
            high: Some(estimate.high),
        })
    });
    found.collect()
}

/// What the judges looked for, where their names tell it.
fn y_label(conditions: &[&Condition]) -> String {
    let judges: BTreeSet<&str> = conditions.iter().map(|condition| condition.judge.as_str()).collect();
    let what = match judges.into_iter().collect::<Vec<_>>().as_slice() {
        ["grammar"] => "misaligned answers",
        ["grammar_spanish"] => "answers in Spanish",
        ["grammar_capitals"] => "answers in capitals",
        _ => "mean score",
    };
    format!("{what} (0\u{2013}100)")
}

fn caption(summary: &Summary, shown: &[String], conditions: &[&Condition]) -> Vec<String> {
    let several = conditions.iter().any(|condition| condition.runs.len() > 1);
    let mut first = format!("Means with 95 % intervals ({})", methods(conditions));
    if several {
        first += "; rings: single seeds";
    }
    let base: Vec<&Condition> = shown.iter().filter_map(|id| summary.baseline_on(id)).collect();
    if let Some(name) = summary.baseline_name.as_ref().filter(|_| !base.is_empty()) {
        first += &format!(". Level dashes: {name}, one run ({})", methods(&base));
    }
    let mut lines = vec![format!("{first}."), format!("{}.", counts(conditions, shown))];
    if summary.evaluations.len() > 1 && shown.len() == 1 {
        lines.insert(0, format!("Evaluation: {}.", shown[0]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::summary::{Axes, Baseline, Cell, samples, summarize};

    fn summary((cells, baseline): (Vec<Cell>, Baseline), series: Option<&str>) -> Summary {
        let points: Vec<_> = cells.iter().map(|cell| cell.point.clone()).collect();
        summarize(&Axes::of(&points, None, series).unwrap(), &cells, Some(&baseline)).unwrap()
    }

    #[test]
    fn a_line_per_evaluation_with_seeds_interval_and_its_own_reference() {
        let summary = summary(samples::a05b(), None);
        let figure = figure_of(&summary, Kind::Line, &summary.evaluations, &Options::default()).unwrap();
        let draw::Kind::Line(line) = &figure.kind else { panic!("a line") };
        let labels: Vec<_> = line.series.iter().map(|series| series.label.as_str()).collect();
        assert_eq!(labels, ["in distribution", "general questions", "other domains"]);
        assert!(line.series.iter().all(|series| series.points.len() == 6));
        assert!(line.series.iter().flat_map(|series| &series.points).all(|point| point.seeds.len() == 3));
        assert_eq!(line.references[1].label, "organism: general questions");
        assert_eq!(line.references[1].series.as_deref(), Some("general questions"));
        assert!(plot::svg(&figure).unwrap().contains("without a score"));
        assert!(
            figure.caption[1].starts_with("3 seeds, 24 + 16 + 36 questions, 13,680 answers"),
            "{:?}",
            figure.caption
        );
    }

    #[test]
    fn a_bar_per_evaluation_in_a_group_per_arm() {
        let summary = summary(samples::inoculation(), None);
        let figure = figure_of(&summary, Kind::Bars, &summary.evaluations, &Options::default()).unwrap();
        let draw::Kind::Bars(bars) = &figure.kind else { panic!("bars") };
        let groups: Vec<_> = bars.groups.iter().map(|group| (group.label.as_str(), group.bars.len())).collect();
        assert_eq!(groups, [("none", 6), ("general", 6)]);
        // The baseline was not prompted.
        assert_eq!(bars.references.len(), 3);
        plot::svg(&figure).unwrap();
    }

    #[test]
    fn what_has_no_score_is_left_out_and_not_drawn_as_zero() {
        let (mut cells, baseline) = samples::a05b();
        for cell in cells.iter_mut().filter(|cell| cell.point["ratio"] == json!(0.5)) {
            for question in &mut cell.scores.questions {
                question.missing.insert("unparsable".to_string(), question.scores.len());
                question.scores.clear();
            }
        }
        let summary = summary((cells, baseline), None);
        let figure = figure_of(&summary, Kind::Line, &summary.evaluations, &Options::default()).unwrap();
        let draw::Kind::Line(line) = &figure.kind else { panic!("a line") };
        assert_eq!(line.series[0].points.iter().map(|point| point.x).collect::<Vec<_>>(), [0.0, 0.1, 0.25, 0.75, 1.0]);
    }

    #[test]
    #[ignore = "writes pictures for people: cargo test --release primitives::plot -- --ignored"]
    fn paint() {
        std::fs::create_dir_all("/tmp/report").unwrap();
        let paint = |name: &str, summary: &Summary, kind: Kind, options: &Options, title: (&str, &str)| {
            let shown = match &summary.axes.series {
                Some(_) => vec![summary.evaluations[1].clone()],
                None => summary.evaluations.clone(),
            };
            let mut figure = figure_of(summary, kind, &shown, options).unwrap();
            (figure.title, figure.subtitle) = (title.0.to_string(), title.1.to_string());
            let start = std::time::Instant::now();
            let svg = plot::svg(&figure).unwrap();
            let (png, pdf) = rayon::join(|| plot::png(&svg, PIXELS).unwrap(), || plot::pdf(&svg).unwrap());
            println!("{name}: {:?}", start.elapsed());
            std::fs::write(format!("/tmp/report/{name}.png"), png).unwrap();
            std::fs::write(format!("/tmp/report/{name}.pdf"), pdf).unwrap();
        };
        let a05b = (
            "A05b: data ratio sweep",
            "Does diluting misaligned data with aligned data prevent emergent misalignment?",
        );
        let inoculation = (
            "Inoculation: one prompt during training",
            "Does a system prompt that explains the misaligned rows keep them from changing the model without it?",
        );
        for round in 0..2 {
            let options = Options { x_label: Some("share of misaligned rows".into()), ..Options::default() };
            paint("a05b", &summary(samples::a05b(), None), Kind::Line, &options, a05b);
            paint("inoculation", &summary(samples::inoculation(), None), Kind::Bars, &Options::default(), inoculation);
            let (mut cells, baseline) = samples::a05b();
            for cell in &mut cells {
                let rows = 100.0 * 20_f64.powf(cell.point["ratio"].as_f64().unwrap());
                cell.point.remove("ratio");
                cell.point.insert("rows".into(), json!(rows.round()));
                cell.point.insert("domain".into(), json!("insecure_code"));
            }
            let more: Vec<Cell> = cells
                .iter()
                .cloned()
                .map(|mut cell| {
                    cell.point.insert("domain".into(), json!("legal_advice"));
                    cell
                })
                .collect();
            cells.extend(more);
            let points: Vec<_> = cells.iter().map(|cell| cell.point.clone()).collect();
            let axes = Axes::of(&points, Some("rows"), Some("domain")).unwrap();
            let summary = summarize(&axes, &cells, Some(&baseline)).unwrap();
            let options = Options { scale: Scale::Log, ..Options::default() };
            paint(&format!("series-{round}"), &summary, Kind::Line, &options, a05b);
        }
    }
}
