//! What a figure shows, as plain values without pixels: the input of [`super::svg`].

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::{bail, ensure};

mod density;
mod dots;
mod heat;
mod histogram;
mod scatter;

pub use density::{Cloud, Density, MOST_PANELS, Measure, Quadrants};
pub use dots::{Cluster, Dot, Dots};
pub use heat::{Cell, Heat};
pub use histogram::{Histogram, MOST_ROWS, Scores};
pub use scatter::{Mark, Scatter};

/// One figure: words above and below, and one panel of data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Above, bold; empty for none.
    pub title: String,
    /// Below the title, grey; empty for none.
    #[serde(default)]
    pub subtitle: String,
    /// Small lines at the bottom: interval method, counts, missing values.
    #[serde(default)]
    pub caption: Vec<String>,
    /// The panel.
    pub kind: Kind,
    /// Pixels at 96 per inch, at least 320.
    #[serde(default = "default_width")]
    pub width: u32,
    /// Pixels; the figure grows beyond it when its words would leave the panel less than [`super::theme::PANEL_MIN`].
    #[serde(default = "default_height")]
    pub height: u32,
}

fn default_width() -> u32 {
    960
}

fn default_height() -> u32 {
    480
}

/// The kinds of panel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A measure over a numeric x, one line per series.
    Line(Line),
    /// A measure per group, one bar per series in every group.
    Bars(Bars),
    /// Curves in the unit square: ROC, precision and recall, calibration.
    Curve(Curve),
    /// A measure per group, one dot with its interval per series in every group.
    Dots(Dots),
    /// A matrix of values.
    Heat(Heat),
    /// Two measures per group.
    Scatter(Scatter),
    /// Two scores per answer, a panel per group.
    Density(Density),
    /// One score per answer, a row per group.
    Histogram(Histogram),
}

/// How values become positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal differences, equal distances.
    #[default]
    Linear,
    /// Equal ratios, equal distances; every value must be above 0.
    Log,
}

/// One axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What is measured, with its unit.
    pub label: String,
    /// Linear unless said otherwise.
    #[serde(default)]
    pub scale: Scale,
    /// What the axis must at least show, such as (0, 100); from the data when absent. Means and seeds beyond it widen
    /// it, intervals are cut at it.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// Where ticks stand; when absent, at the data's own x values, and at round numbers on y.
    #[serde(default)]
    pub ticks: Option<Vec<f64>>,
}

/// Lines over a numeric x.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// One line each, at least one.
    pub series: Vec<Series>,
    /// Dashed horizontal lines.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// One line: usually one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name, unique in the figure.
    pub label: String,
    /// At least one, in any order.
    pub points: Vec<Point>,
}

/// A mean with its interval and the seed means behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Position on the x axis.
    pub x: f64,
    /// Position on the y axis.
    pub mean: f64,
    /// Lower end of the interval; drawn when both ends are there.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default)]
    pub high: Option<f64>,
    /// One value per seed.
    #[serde(default)]
    pub seeds: Vec<f64>,
}

/// A value to compare with, such as the model before training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub label: String,
    /// Label of the series whose colour it takes; grey when absent.
    #[serde(default)]
    pub series: Option<String>,
    /// Position on the y axis.
    pub mean: f64,
    /// Lower end of the interval.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default)]
    pub high: Option<f64>,
}

/// Bars in groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bars {
    /// The vertical axis; linear, since bars start at 0.
    pub y: Axis,
    /// From left to right, at least one; a group without bars keeps its place.
    pub groups: Vec<Group>,
    /// Dashed horizontal lines.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// The bars above one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, written below.
    pub label: String,
    /// At most one per series; a series absent here is marked `n/a`.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Label of its series: colour, hatching and place within the group.
    pub series: String,
    /// Height.
    pub mean: f64,
    /// Lower end of the interval.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default)]
    pub high: Option<f64>,
    /// One value per seed.
    #[serde(default)]
    pub seeds: Vec<f64>,
}

/// Curves in a square whose axes both run from 0 to 1. About 720 x 560 pixels have room for the names beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What is measured on the horizontal axis.
    pub x_label: String,
    /// What is measured on the vertical axis.
    pub y_label: String,
    /// One curve each, at least one.
    pub traces: Vec<Trace>,
    /// Name of the dashed line from (0, 0) to (1, 1), such as `chance` or `perfect calibration`; absent for none.
    #[serde(default)]
    pub diagonal: Option<String>,
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Its name, unique in the figure.
    pub label: String,
    /// At least one, joined in the order given.
    pub points: Vec<Spot>,
    /// Whether every point has a mark, as bins have; curves through many points have none.
    #[serde(default)]
    pub marked: bool,
}

/// A point in the unit square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    /// From 0 at the left to 1 at the right.
    pub x: f64,
    /// From 0 below to 1 above.
    pub y: f64,
    /// Lower end of the vertical interval; drawn when both ends are there, on marked traces only.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default)]
    pub high: Option<f64>,
}

impl Bars {
    /// Labels of the series in order of first appearance: the order of bars and legend.
    pub fn series(&self) -> Vec<&str> {
        let mut labels = Vec::new();
        for bar in self.groups.iter().flat_map(|group| &group.bars) {
            if !labels.contains(&bar.series.as_str()) {
                labels.push(bar.series.as_str());
            }
        }
        labels
    }
}

/// Refuses what cannot be drawn: nothing to draw, numbers that are not finite, intervals upside down, names used twice,
/// values without a logarithm on a log axis. The message names the series.
pub(super) fn check(figure: &Figure) -> Result<()> {
    ensure!(
        figure.width >= 320 && figure.width.max(figure.height) <= 10_000,
        "a figure of {} x {} pixels cannot be drawn", figure.width, figure.height;
        help: "choose a width from 320 to 10000 and a height up to 10000"
    );
    match &figure.kind {
        Kind::Line(line) => check_line(&figure.title, line),
        Kind::Bars(bars) => check_bars(&figure.title, bars),
        Kind::Curve(curve) => check_curve(&figure.title, curve),
        Kind::Dots(dots) => dots::check_dots(&figure.title, dots),
        Kind::Heat(heat) => heat::check_heat(&figure.title, heat),
        Kind::Scatter(scatter) => scatter::check_scatter(&figure.title, scatter),
        Kind::Density(density) => density::check_density(&figure.title, density),
        Kind::Histogram(histogram) => histogram::check_histogram(&figure.title, histogram),
    }
}

fn check_line(title: &str, line: &Line) -> Result<()> {
    ensure!(!line.series.is_empty(), "figure `{title}` has no series"; help: "give at least one series with points");
    check_axis("x", &line.x)?;
    check_axis("y", &line.y)?;
    let mut seen = Vec::new();
    for series in &line.series {
        let label = &series.label;
        ensure!(!seen.contains(&label), "series `{label}` appears twice"; help: "join its points or rename one");
        seen.push(label);
        ensure!(!series.points.is_empty(), "series `{label}` has no points"; help: "leave it out or give it points");
        for point in &series.points {
            let name = format!("series `{label}` at x = {}", point.x);
            check_value(&name, "x", point.x, line.x.scale)?;
            check_mean(&name, point.mean, (point.low, point.high), &point.seeds, line.y.scale)?;
        }
    }
    let labels: Vec<_> = line.series.iter().map(|series| series.label.as_str()).collect();
    check_references(&line.references, &labels, line.y.scale)
}

fn check_bars(title: &str, bars: &Bars) -> Result<()> {
    ensure!(!bars.groups.is_empty(), "figure `{title}` has no groups"; help: "give at least one group of bars");
    check_axis("y", &bars.y)?;
    ensure!(bars.y.scale == Scale::Linear, "bars on a log axis have no zero to start from"; help: "use a linear y axis");
    let labels = bars.series();
    ensure!(!labels.is_empty(), "figure `{title}` has no bars in any group"; help: "give at least one bar");
    for group in &bars.groups {
        for (index, bar) in group.bars.iter().enumerate() {
            let name = format!("series `{}` in group `{}`", bar.series, group.label);
            if group.bars[..index].iter().any(|earlier| earlier.series == bar.series) {
                bail!("{name} appears twice"; help: "keep one bar per series and group");
            }
            check_mean(&name, bar.mean, (bar.low, bar.high), &bar.seeds, Scale::Linear)?;
        }
    }
    check_references(&bars.references, &labels, Scale::Linear)
}

fn check_curve(title: &str, curve: &Curve) -> Result<()> {
    ensure!(!curve.traces.is_empty(), "figure `{title}` has no curves"; help: "give at least one trace with points");
    let mut seen = Vec::new();
    for trace in &curve.traces {
        let label = &trace.label;
        ensure!(!seen.contains(&label), "curve `{label}` appears twice"; help: "join its points or rename one");
        seen.push(label);
        ensure!(!trace.points.is_empty(), "curve `{label}` has no points"; help: "leave it out or give it points");
        for point in &trace.points {
            let name = format!("curve `{label}` at x = {}", point.x);
            check_mean(&name, point.y, (point.low, point.high), &[], Scale::Linear)?;
            for (what, value) in [("x", point.x), ("y", point.y)] {
                ensure!(
                    (0.0..=1.0).contains(&value),
                    "{name}: {what} is {value}, outside of 0 to 1"; help: "give shares, not percent"
                );
            }
            ensure!(
                trace.marked || (point.low.is_none() && point.high.is_none()),
                "{name} has an interval but no mark to draw it at";
                help: "write `marked: true` or leave the interval out"
            );
        }
    }
    Ok(())
}

fn check_references(references: &[Reference], labels: &[&str], scale: Scale) -> Result<()> {
    for reference in references {
        let name = format!("reference `{}`", reference.label);
        check_mean(&name, reference.mean, (reference.low, reference.high), &[], scale)?;
        if let Some(series) = &reference.series {
            ensure!(
                labels.contains(&series.as_str()),
                "{name} belongs to series `{series}`, which is not in the figure";
                help: "name one of: {}", labels.join(", ")
            );
        }
    }
    Ok(())
}

fn check_axis(name: &str, axis: &Axis) -> Result<()> {
    if let Some((low, high)) = axis.range {
        ensure!(
            low < high && low.is_finite() && high.is_finite(),
            "the range of the {name} axis is {low} to {high}"; help: "write the smaller number first"
        );
        check_value(&format!("the {name} axis"), "range", low, axis.scale)?;
    }
    for tick in axis.ticks.iter().flatten() {
        check_value(&format!("the {name} axis"), "tick", *tick, axis.scale)?;
    }
    Ok(())
}

/// The range of a score: 0 to 100 unless said otherwise.
pub(super) fn scores_of(axis: &Axis) -> (f64, f64) {
    axis.range.unwrap_or((0.0, 100.0))
}

fn check_mean(name: &str, mean: f64, interval: (Option<f64>, Option<f64>), seeds: &[f64], scale: Scale) -> Result<()> {
    check_value(name, "mean", mean, scale)?;
    for seed in seeds {
        check_value(name, "seed", *seed, scale)?;
    }
    for end in [interval.0, interval.1].into_iter().flatten() {
        ensure!(end.is_finite(), "{name}: an end of the interval is {end}"; help: "leave out intervals that do not exist");
    }
    if let (Some(low), Some(high)) = interval {
        ensure!(low.total_cmp(&high).is_le(), "{name}: the interval runs from {low} to {high}"; help: "give the lower end first");
    }
    Ok(())
}

fn check_value(name: &str, what: &str, value: f64, scale: Scale) -> Result<()> {
    ensure!(value.is_finite(), "{name}: {what} is {value}"; help: "drop missing values before plotting and count them in the caption");
    ensure!(
        scale == Scale::Linear || value > 0.0,
        "{name}: {what} is {value}, which a log axis cannot show"; help: "use a linear scale or leave it out"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn message(figure: &Figure) -> String {
        check(figure).unwrap_err().message
    }

    fn line(figure: &mut Figure) -> &mut Line {
        match &mut figure.kind {
            Kind::Line(line) => line,
            _ => panic!("no line"),
        }
    }

    #[test]
    fn refusals_name_the_series() {
        let good = samples::lines(2, 3);
        assert_eq!(check(&good), Ok(()));

        let mut figure = good.clone();
        line(&mut figure).series[1].points[0].mean = f64::NAN;
        assert_eq!(message(&figure), "series `out-of-distribution: general` at x = 0: mean is NaN");

        let mut figure = good.clone();
        line(&mut figure).series[1].points[2].seeds[0] = f64::INFINITY;
        assert!(message(&figure).starts_with("series `out-of-distribution: general`"));

        let mut figure = good.clone();
        line(&mut figure).series[0].points.clear();
        assert_eq!(message(&figure), "series `in-distribution` has no points");

        let mut figure = good.clone();
        line(&mut figure).series.clear();
        assert!(message(&figure).ends_with("has no series"));

        let mut figure = good.clone();
        line(&mut figure).x.scale = Scale::Log;
        assert!(message(&figure).contains("`in-distribution` at x = 0: x is 0, which a log axis"));

        let mut figure = good;
        line(&mut figure).series[0].points[1].low = Some(200.0);
        assert!(message(&figure).contains("the interval runs from 200"));
    }

    #[test]
    fn a_figure_without_bars_is_refused_and_a_group_without_bars_is_not() {
        let mut figure = samples::bars(3, 2);
        let Kind::Bars(bars) = &mut figure.kind else { panic!("no bars") };
        bars.groups[1].bars.clear();
        assert_eq!(check(&figure), Ok(()));
        let Kind::Bars(bars) = &mut figure.kind else { panic!("no bars") };
        bars.groups.iter_mut().for_each(|group| group.bars.clear());
        assert!(message(&figure).ends_with("has no bars in any group"));
    }

    #[test]
    fn a_curve_stays_in_the_unit_square_and_intervals_have_marks() {
        let good = samples::curves(2);
        assert_eq!(check(&good), Ok(()));
        let changed = |change: &dyn Fn(&mut Curve)| {
            let mut figure = good.clone();
            let Kind::Curve(curve) = &mut figure.kind else { panic!("no curve") };
            change(curve);
            message(&figure)
        };
        let outside = changed(&|curve| curve.traces[0].points[1].y = 98.0);
        assert!(
            outside.starts_with("curve `held-out: gold_106` at x") && outside.ends_with("y is 98, outside of 0 to 1")
        );
        assert!(changed(&|curve| curve.traces[1].points[0].x = f64::NAN).contains("x is NaN"));
        let bare =
            changed(&|curve| (curve.traces[0].points[0].low, curve.traces[0].points[0].high) = (Some(0.0), Some(0.1)));
        assert!(bare.ends_with("has an interval but no mark to draw it at"));
        assert!(changed(&|curve| curve.traces[1].points.clear()).ends_with("has no points"));
        assert!(changed(&|curve| curve.traces[1].label = curve.traces[0].label.clone()).ends_with("appears twice"));
        assert!(changed(&|curve| curve.traces.clear()).ends_with("has no curves"));
    }

    #[test]
    fn json_reads_back_and_needs_only_what_matters() {
        let figure = samples::lines(2, 2);
        let text = serde_json::to_string(&figure).unwrap();
        assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure);
        let short = r#"{"title": "t", "kind": {"line": {"x": {"label": "x"}, "y": {"label": "y"},
            "series": [{"label": "s", "points": [{"x": 1, "mean": 2}]}]}}}"#;
        assert_eq!(check(&serde_json::from_str(short).unwrap()), Ok(()));
    }
}
