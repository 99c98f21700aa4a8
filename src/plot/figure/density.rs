//! Input of density panels: how often two scores of an answer occur together, a panel for every group.

use serde::{Deserialize, Serialize};

use super::{Axis, Scale, check_axis, scores_of};
use crate::ensure;
use crate::error::Result;

/// The most panels.
pub const MOST_PANELS: usize = 8;
/// The most bins of an axis.
pub(super) const BINS: usize = 100;

/// Where the answers of several groups lie by two scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Density {
    /// The horizontal score, linear; from 0 to 100 where no range is given.
    pub x: Axis,
    /// The vertical score, linear; from 0 to 100 where no range is given.
    pub y: Axis,
    /// One per group, at most eight, on the same axes and colours.
    pub panels: Vec<Cloud>,
    /// Bins along each axis, each closed below, the last one above too.
    #[serde(default = "default_bins")]
    pub bins: usize,
    /// What the colours show.
    #[serde(default)]
    pub measure: Measure,
    /// How the measure becomes a colour; equal ratios, since most answers usually share few bins.
    #[serde(default = "default_scale")]
    pub scale: Scale,
    /// Where a vertical line parts the answers; one that lies on it belongs to the right.
    #[serde(default)]
    pub x_threshold: Option<f64>,
    /// Where a level line parts the answers; one that lies on it belongs above.
    #[serde(default)]
    pub y_threshold: Option<f64>,
}

fn default_bins() -> usize {
    20
}

fn default_scale() -> Scale {
    Scale::Log
}

/// What the colour of a bin shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The part of the panel's answers.
    #[default]
    Share,
    /// The number of answers.
    Count,
}

/// The answers of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cloud {
    /// Its name, written above.
    pub label: String,
    /// x and y of every answer that has both scores; without any, the panel says `n/a`.
    pub points: Vec<(f64, f64)>,
}

/// Shares of the answers on the four sides of two thresholds; they sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quadrants {
    /// Below x, at or above y.
    pub upper_left: f64,
    /// At or above both.
    pub upper_right: f64,
    /// Below both.
    pub lower_left: f64,
    /// At or above x, below y.
    pub lower_right: f64,
}

impl Cloud {
    /// How the answers divide at (x, y); nothing where there are none. A threshold of minus infinity divides nothing.
    pub fn quadrants(&self, x: f64, y: f64) -> Option<Quadrants> {
        let part = |right: bool, upper: bool| {
            let inside = self.points.iter().filter(|point| (point.0 >= x) == right && (point.1 >= y) == upper);
            inside.count() as f64 / self.points.len() as f64
        };
        (!self.points.is_empty()).then(|| Quadrants {
            upper_left: part(false, true),
            upper_right: part(true, true),
            lower_left: part(false, false),
            lower_right: part(true, false),
        })
    }
}

pub(super) fn check_density(title: &str, density: &Density) -> Result<()> {
    ensure!(!density.panels.is_empty(), "figure `{title}` has no panels"; help: "give at least one group of answers");
    ensure!(
        density.panels.len() <= MOST_PANELS,
        "figure `{title}` has {} panels, more than {MOST_PANELS}", density.panels.len(); help: "split it into two figures"
    );
    ensure!(
        (1..=BINS).contains(&density.bins),
        "{} bins cannot be drawn", density.bins; help: "choose 1 to {BINS} bins per axis"
    );
    for (name, axis, threshold) in [("x", &density.x, density.x_threshold), ("y", &density.y, density.y_threshold)] {
        check_axis(name, axis)?;
        ensure!(axis.scale == Scale::Linear, "bins on a log {name} axis are not equally wide"; help: "use a linear axis");
        let (low, high) = scores_of(axis);
        let lies_inside = threshold.is_none_or(|threshold| (low..=high).contains(&threshold));
        ensure!(
            lies_inside,
            "the threshold {} lies outside of the {name} axis from {low} to {high}", threshold.unwrap_or(f64::NAN);
            help: "choose one on the axis"
        );
    }
    let (x, y) = (scores_of(&density.x), scores_of(&density.y));
    for (index, cloud) in density.panels.iter().enumerate() {
        let label = &cloud.label;
        let appears_before = density.panels[..index].iter().any(|earlier| &earlier.label == label);
        ensure!(!appears_before, "panel `{label}` appears twice"; help: "join its answers or rename one");
        for point in &cloud.points {
            for (name, value, (low, high)) in [("x", point.0, x), ("y", point.1, y)] {
                ensure!(
                    (low..=high).contains(&value),
                    "panel `{label}` has an answer whose {name} is {value}, outside of {low} to {high}";
                    help: "give the {name} axis a `range` that holds all scores and leave out missing ones"
                );
            }
        }
    }
    let is_empty = density.panels.iter().all(|cloud| cloud.points.is_empty());
    ensure!(!is_empty, "figure `{title}` has no answers in any panel"; help: "give at least one answer");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::super::{Figure, Kind, check};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_name_the_panel() {
        let good = samples::density(2);
        assert_eq!(check(&good), Ok(()));
        let message = |change: &dyn Fn(&mut Density)| {
            let mut figure = good.clone();
            let Kind::Density(density) = &mut figure.kind else { panic!("no density") };
            change(density);
            check(&figure).unwrap_err().message
        };
        assert_eq!(
            message(&|density| density.panels[1].points[3].1 = 101.0),
            "panel `aligned` has an answer whose y is 101, outside of 0 to 100"
        );
        assert!(
            message(&|density| density.panels[0].points[0].0 = f64::NAN)
                .contains("panel `base` has an answer whose x is NaN")
        );
        assert!(message(&|density| density.panels[1].label = "base".into()).contains("`base` appears twice"));
        assert!(message(&|density| density.panels = vec![Cloud::default(); 9]).contains("9 panels, more than 8"));
        assert!(message(&|density| density.bins = 0).starts_with("0 bins"));
        assert!(
            message(&|density| density.x_threshold = Some(-1.0))
                .starts_with("the threshold -1 lies outside of the x axis")
        );
        assert!(
            message(&|density| density.panels.iter_mut().for_each(|cloud| cloud.points.clear())).ends_with("any panel")
        );
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let short = r#"{"title": "t", "kind": {"density": {"x": {"label": "alignment"}, "y": {"label": "coherence"},
            "panels": [{"label": "base", "points": [[90, 100]]}]}}}"#;
        let figure: Figure = serde_json::from_str(short).unwrap();
        assert_eq!(check(&figure), Ok(()));
        let Kind::Density(density) = figure.kind else { panic!("no density") };
        assert_eq!((density.bins, density.measure, density.scale), (20, Measure::Share, Scale::Log));
    }

    proptest! {
        #[test]
        fn shares_of_the_quadrants_sum_to_one(
            points in prop::collection::vec((0f64..=100.0, 0f64..=100.0), 1..50), x in 0f64..100.0, y in 0f64..100.0,
        ) {
            let quadrants = Cloud { label: String::new(), points }.quadrants(x, y).unwrap();
            let Quadrants { upper_left, upper_right, lower_left, lower_right } = quadrants;
            prop_assert!((upper_left + upper_right + lower_left + lower_right - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn an_answer_on_a_threshold_belongs_to_the_upper_side_and_no_answers_have_no_shares() {
        let cloud = Cloud { label: String::new(), points: vec![(50.0, 30.0), (49.9, 30.0), (50.0, 29.9), (0.0, 0.0)] };
        let quarter = Quadrants { upper_left: 0.25, upper_right: 0.25, lower_left: 0.25, lower_right: 0.25 };
        assert_eq!(cloud.quadrants(50.0, 30.0), Some(quarter));
        assert_eq!(Cloud::default().quadrants(50.0, 30.0), None);
    }
}
