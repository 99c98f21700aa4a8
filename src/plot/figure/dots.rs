//! Input of a figure of dots: a mean with its interval and seeds for every series in every group.

use serde::{Deserialize, Serialize};

use super::{Axis, Reference, check_axis, check_mean, check_references};
use crate::error::Result;
use crate::{bail, ensure};

/// Dots in groups: what [`super::Bars`] shows, for many groups and series and for axes without a zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dots {
    /// The vertical axis.
    pub y: Axis,
    /// Labels of the series in the order of places and legend; when empty, in order of first appearance.
    #[serde(default)]
    pub series: Vec<String>,
    /// From left to right, at least one; a group without dots keeps its place.
    pub groups: Vec<Cluster>,
    /// Dashed horizontal lines.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// The dots above one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name, written below.
    pub label: String,
    /// At most one per series; the place of a series absent here stays empty and is marked `n/a`.
    pub dots: Vec<Dot>,
}

/// One dot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dot {
    /// Label of its series: colour, shape and place within the group.
    pub series: String,
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

impl Dots {
    /// Labels of the series in the order of places and legend.
    pub fn series(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.series.iter().map(String::as_str).collect();
        for dot in self.groups.iter().flat_map(|group| &group.dots) {
            if !labels.contains(&dot.series.as_str()) {
                labels.push(dot.series.as_str());
            }
        }
        labels
    }
}

pub(super) fn check_dots(title: &str, dots: &Dots) -> Result<()> {
    ensure!(!dots.groups.is_empty(), "figure `{title}` has no groups"; help: "give at least one group of dots");
    check_axis("y", &dots.y)?;
    for (index, label) in dots.series.iter().enumerate() {
        ensure!(!dots.series[..index].contains(label), "series `{label}` appears twice"; help: "name every series once");
    }
    let is_empty = dots.groups.iter().all(|group| group.dots.is_empty());
    ensure!(!is_empty, "figure `{title}` has no dots in any group"; help: "give at least one dot");
    for group in &dots.groups {
        for (index, dot) in group.dots.iter().enumerate() {
            let name = format!("series `{}` in group `{}`", dot.series, group.label);
            if group.dots[..index].iter().any(|earlier| earlier.series == dot.series) {
                bail!("{name} appears twice"; help: "keep one dot per series and group");
            }
            ensure!(
                dots.series.is_empty() || dots.series.contains(&dot.series),
                "{name} is not among the series of the figure"; help: "name one of: {}", dots.series.join(", ")
            );
            check_mean(&name, dot.mean, (dot.low, dot.high), &dot.seeds, dots.y.scale)?;
        }
    }
    check_references(&dots.references, &dots.series(), dots.y.scale)
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::super::{Kind, check};
    use super::*;

    #[test]
    fn refusals_name_series_and_group() {
        let good = samples::dots(3, 3);
        assert_eq!(check(&good), Ok(()));
        let changed = |change: &dyn Fn(&mut Dots)| {
            let mut figure = good.clone();
            let Kind::Dots(dots) = &mut figure.kind else { panic!("no dots") };
            change(dots);
            check(&figure).map_err(|error| error.message)
        };
        let message = |change: &dyn Fn(&mut Dots)| changed(change).unwrap_err();
        assert_eq!(
            message(&|dots| dots.groups[1].dots[2].mean = f64::NAN),
            "series `none` in group `reward_hacking`: mean is NaN"
        );
        assert_eq!(
            message(&|dots| dots.groups[0].dots[1].series = "base".into()),
            "series `base` in group `insecure_code` appears twice"
        );
        assert!(
            message(&|dots| dots.groups[0].dots[1].series = "bas".into())
                .ends_with("not among the series of the figure")
        );
        assert!(message(&|dots| dots.series.push("base".into())).ends_with("appears twice"));
        assert!(message(&|dots| dots.groups.clear()).ends_with("has no groups"));
        assert!(message(&|dots| dots.groups.iter_mut().for_each(|group| group.dots.clear())).ends_with("in any group"));
        assert_eq!(changed(&|dots| dots.groups[1].dots.clear()), Ok(()));
    }

    #[test]
    fn series_keep_the_order_declared_and_else_that_of_appearance() {
        let figure = samples::dots(2, 3);
        let Kind::Dots(mut dots) = figure.kind else { panic!("no dots") };
        dots.groups[0].dots.remove(0);
        assert_eq!(dots.series(), ["base", "aligned", "none"]);
        dots.series.clear();
        assert_eq!(dots.series(), ["aligned", "none", "base"]);
    }
}
