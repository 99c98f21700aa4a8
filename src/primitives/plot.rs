//! `plot`: draws the scores of a sweep; and the handle that scripts hold for the figure.

mod answers;
mod dots;
mod heat;
mod scatter;

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::intervals::Intervals as IntervalsOf;
use super::summarize::{Measured, View};
use super::sweep::Cells;
use crate::data::statistics;
use crate::data::summary::{Condition, Summary, SummaryOptions, counts, label, methods};
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
    /// A dot with its interval per series in a group for every x.
    Dots,
    /// A matrix: x against the series, or against the evaluations.
    Heat,
    /// Two evaluations against each other, a mark for every condition.
    Scatter,
    /// Two judges' words on every answer, a panel for every condition.
    Density,
    /// One judge's words on every answer, a row for every condition.
    Histogram,
}

impl Kind {
    /// Its name in scripts and in files.
    fn name(self) -> &'static str {
        match self {
            Kind::Line => "line",
            Kind::Bars => "bars",
            Kind::Dots => "dots",
            Kind::Heat => "heat",
            Kind::Scatter => "scatter",
            Kind::Density => "density",
            Kind::Histogram => "histogram",
        }
    }
    /// Whether it shows single answers, which only results of `evaluate` have.
    fn shows_answers(self) -> bool {
        matches!(self, Kind::Density | Kind::Histogram)
    }
}

/// Which end of an evaluation is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    /// More is better.
    High,
    /// Less is better.
    Low,
}

impl Wanted {
    fn end(self) -> statistics::Wanted {
        match self {
            Wanted::High => statistics::Wanted::High,
            Wanted::Low => statistics::Wanted::Low,
        }
    }
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
    /// "line" (x is a number), "bars", "dots" (like bars, for many groups), "heat" (a matrix of x and series), "scatter"
    /// (`evaluation` against `against`), "density" (two `judges` on every answer), "histogram" (one judge); a line when
    /// x is a number and bars otherwise, when left out.
    kind: Option<Kind>,
    /// Axis of the grid to compare along; the only one beside `seed` when left out.
    x: Option<String>,
    /// Axis of the grid with one line or colour for each value; one for each evaluation when left out.
    series: Option<String>,
    /// Which evaluation is drawn when `series` is an axis of the grid; of a scatter the horizontal one.
    evaluation: Option<String>,
    /// The vertical evaluation of a scatter.
    against: Option<String>,
    /// Which ends of a scatter's two evaluations are wanted, for its front of non-dominated conditions:
    /// `["high", "low"]`.
    front: Option<(Wanted, Wanted)>,
    /// Whose words a density (two names, the horizontal one first) or a histogram (one) shows; of a histogram the judge
    /// of the score when left out.
    judges: Vec<String>,
    /// Where those judges' words are parted.
    thresholds: Vec<f64>,
    /// Of the x axis of a line: "linear" or "log".
    scale: Scale,
    /// Scores of a model to compare with, usually before training: dashed, or, where it is another one for every group
    /// (cells of another sweep), a mark of its own.
    reference: Option<Measured>,
    /// How intervals are made: `bootstrap(...)`, `two_way()` or `published_bootstrap()`; t over seeds when left out.
    intervals: Option<IntervalsOf>,
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
        .example("plot(cells, #{ kind: \"dots\", x: \"setting\", series: \"group\", evaluation: \"general questions\" })")
        .example("plot(cells, #{ kind: \"heat\", x: \"ratio\", series: \"rows\", evaluation: \"general questions\" })")
        .example("plot(cells, #{ kind: \"scatter\", x: \"arm\", evaluation: \"chat: spanish\", against: \"chat: capitals\" })")
        .example("plot(cells, #{ kind: \"density\", x: \"arm\", judges: [\"alignment\", \"coherence\"], thresholds: [50.0, 30.0] })")
}

fn run(lab: &Lab, _: &Call, (cells,): (Cells,), options: Options) -> Result<Figure> {
    let reference = options.reference.as_ref();
    let view = View::of(&cells, options.x.as_deref(), options.series.as_deref(), reference)?;
    let kind = choose_kind(&view, &options)?;
    let shown = choose_evaluations(&view, kind, &options)?;
    if kind == Kind::Line {
        view.check_alike(&cells, reference)?;
    }
    if kind.shows_answers() {
        answers::check(&cells, &view, &shown, kind, &options)?;
    }
    let name = options.save.clone().unwrap_or_else(|| free_name(lab, kind));
    if lab.planning() {
        return Ok(Figure(Arc::new(format!("{name}.svg"))));
    }
    let intervals = options.intervals.as_ref().map(IntervalsOf::definition).unwrap_or_default();
    let (title, question) = lab.title();
    let mut drawn = if kind.shows_answers() {
        answers::figure(&cells, &view, &shown[0], kind, &options)?
    } else {
        figure_of(&view.summarize(&cells, reference, &SummaryOptions::shown_only(intervals))?, kind, &shown, &options)?
    };
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
    let stem = kind.name();
    let written = lab.results();
    let names = std::iter::once(stem.to_string()).chain((2..).map(|number| format!("{stem}-{number}")));
    names.into_iter().find(|name| !written.contains(&format!("{name}.svg"))).expect("numbers do not end")
}

fn choose_kind(view: &View, options: &Options) -> Result<Kind> {
    let axes = &view.axes;
    let kind = options.kind.unwrap_or(if axes.numeric { Kind::Line } else { Kind::Bars });
    ensure!(kind != Kind::Line || axes.numeric, "`{}` is not a number everywhere, so it has no line", axes.x; help: "draw bars: `kind: \"bars\"`");
    if options.scale == Scale::Log {
        ensure!(kind == Kind::Line, "a figure of the kind `{}` has no `scale`", kind.name(); help: "leave it out");
        let low = axes.x_values.first().and_then(Value::as_f64).unwrap_or(1.0);
        if low <= 0.0 {
            bail!("`{}` has the value {low}, which a log scale cannot show", axes.x; help: "leave `scale` out");
        }
    }
    Ok(kind)
}

/// Ids of the evaluations to draw: all of them, or the one whose series or answers are drawn, or the two of a scatter.
fn choose_evaluations(view: &View, kind: Kind, options: &Options) -> Result<Vec<String>> {
    let ids: Vec<String> = view.evaluations.iter().map(|evaluation| evaluation.id.clone()).collect();
    let list = || ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let find = |wanted: &String| {
        if ids.contains(wanted) {
            return Ok(wanted.clone());
        }
        let error = Error::input(format!("the cells have no evaluation `{wanted}`"));
        Err(match nearest(wanted, ids.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!("choose one of {}", list())),
        })
    };
    ensure!(
        kind == Kind::Scatter || options.against.is_none(),
        "`against` belongs to a scatter, and this is `{}`", kind.name();
        help: "write `kind: \"scatter\"`, or leave it out"
    );
    match (&options.evaluation, &options.against) {
        (Some(across), Some(down)) => return Ok(vec![find(across)?, find(down)?]),
        _ if kind == Kind::Scatter => {
            let two = ids.get(1).unwrap_or(&ids[0]);
            bail!("a scatter shows two evaluations"; help: "name them: `evaluation: \"{}\", against: \"{two}\"`; there are {}", ids[0], list());
        }
        _ => {}
    }
    let needs_one = view.axes.series.is_some() || kind.shows_answers();
    match &options.evaluation {
        Some(wanted) => Ok(vec![find(wanted)?]),
        None if needs_one && ids.len() > 1 => {
            let what = match &view.axes.series {
                Some(axis) => format!("with a line or colour for each `{axis}`"),
                None => format!("in a {}", kind.name()),
            };
            Err(Error::input(format!("{what} there is room for one evaluation")).with_help(format!(
                "name it: `evaluation: \"{}\"`; there are {}",
                ids[0],
                list()
            )))
        }
        None => Ok(ids),
    }
}

/// One line or colour.
struct Strand<'a> {
    label: String,
    evaluation: &'a str,
    series: Option<&'a Value>,
}

/// The lines or colours of a figure: evaluations, or series of one evaluation.
fn strands<'a>(summary: &'a Summary, shown: &'a [String]) -> Vec<Strand<'a>> {
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
    strands
}

/// The drawing without its title.
fn figure_of(summary: &Summary, kind: Kind, shown: &[String], options: &Options) -> Result<draw::Figure> {
    let axes = &summary.axes;
    let mut strands = strands(summary, shown);
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
    let (mut width, mut more) = (960, Vec::new());
    let kind = match kind {
        Kind::Dots => {
            let dots = dots::dots(summary, &strands, y, references);
            width = dots::width(&dots);
            draw::Kind::Dots(dots)
        }
        Kind::Heat => draw::Kind::Heat(heat::heat(summary, &strands, y.label, options)),
        Kind::Scatter => {
            width = 760;
            let drawn = scatter::scatter(summary, shown, options)?;
            more.extend(scatter::told(&drawn, options));
            draw::Kind::Scatter(drawn)
        }
        Kind::Density | Kind::Histogram => return Err(Error::internal("single answers are drawn elsewhere")),
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
    let mut caption = caption(summary, shown, &conditions, &kind);
    caption.extend(more);
    Ok(draw::Figure { title: String::new(), subtitle: String::new(), caption, kind, width, height: 520 })
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

/// The baseline on every evaluation that is drawn, in the colour of its line; none where it is another one for every
/// group, which is a mark of its own.
fn references(summary: &Summary, strands: &[Strand]) -> Vec<Reference> {
    if summary.baseline_varies() {
        return Vec::new();
    }
    let mut evaluations: Vec<&str> = strands.iter().map(|strand| strand.evaluation).collect();
    evaluations.dedup();
    let name = summary.baseline_name.as_deref().unwrap_or_default();
    let found = evaluations.iter().filter_map(|id| {
        let estimate = summary.baseline_at(id, summary.axes.x_values.first()?, None)?.estimate.as_ref()?;
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

fn caption(summary: &Summary, shown: &[String], conditions: &[&Condition], kind: &draw::Kind) -> Vec<String> {
    let several = conditions.iter().any(|condition| condition.runs.len() > 1);
    let mut first = format!("Means with 95 % intervals ({})", methods(conditions));
    if several && !matches!(kind, draw::Kind::Heat(_)) {
        first += "; rings: single seeds";
    }
    let base: Vec<&Condition> = summary.baseline.iter().filter(|one| shown.contains(&one.evaluation)).collect();
    let drawn = |_: &&String| !base.is_empty() && !matches!(kind, draw::Kind::Heat(_));
    if let Some(name) = summary.baseline_name.as_ref().filter(drawn) {
        let is_mark = summary.baseline_varies() || matches!(kind, draw::Kind::Scatter(_));
        let what = if is_mark { name.clone() } else { format!("Level dashes: {name}") };
        first += &format!(". {what}, one run ({})", methods(&base));
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
        summarize(&Axes::of(&points, None, series).unwrap(), &cells, Some(&baseline), &SummaryOptions::default())
            .unwrap()
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
            let summary = summarize(&axes, &cells, Some(&baseline), &SummaryOptions::default()).unwrap();
            let options = Options { scale: Scale::Log, ..Options::default() };
            paint(&format!("series-{round}"), &summary, Kind::Line, &options, a05b);
        }
    }
}
