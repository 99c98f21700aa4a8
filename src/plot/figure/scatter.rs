//! Input of a scatter figure: one point per group, measured twice.

use serde::{Deserialize, Serialize};

use super::{Axis, check_axis, check_mean};
use crate::ensure;
use crate::error::Result;

/// Groups by two measures, in a square. About 720 x 560 pixels have room for the names beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// At least one.
    pub marks: Vec<Mark>,
    /// Name of the dashed line on which x equals y, such as `no difference`; absent for none.
    #[serde(default)]
    pub diagonal: Option<String>,
    /// Corners of a front, drawn as a line through them in their order; empty for none.
    #[serde(default)]
    pub front: Vec<(f64, f64)>,
}

/// One group: the means of two measures, their intervals, and the pair of every seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Its name, unique in the figure.
    pub label: String,
    /// Mean of the horizontal measure.
    pub x: f64,
    /// Mean of the vertical measure.
    pub y: f64,
    /// Left end of the horizontal interval; drawn when both ends are there.
    #[serde(default)]
    pub x_low: Option<f64>,
    /// Right end of the horizontal interval.
    #[serde(default)]
    pub x_high: Option<f64>,
    /// Lower end of the vertical interval; drawn when both ends are there.
    #[serde(default)]
    pub y_low: Option<f64>,
    /// Upper end of the vertical interval.
    #[serde(default)]
    pub y_high: Option<f64>,
    /// x and y of every seed.
    #[serde(default)]
    pub seeds: Vec<(f64, f64)>,
}

pub(super) fn check_scatter(title: &str, scatter: &Scatter) -> Result<()> {
    ensure!(!scatter.marks.is_empty(), "figure `{title}` has no marks"; help: "give at least one mark");
    check_axis("x", &scatter.x)?;
    check_axis("y", &scatter.y)?;
    for (index, mark) in scatter.marks.iter().enumerate() {
        let label = &mark.label;
        let appears_before = scatter.marks[..index].iter().any(|earlier| &earlier.label == label);
        ensure!(!appears_before, "mark `{label}` appears twice"; help: "rename one");
        let (across, down) = mark.seeds.iter().copied().unzip::<f64, f64, Vec<_>, Vec<_>>();
        let name = |axis: &str| format!("mark `{label}` on the {axis} axis");
        check_mean(&name("x"), mark.x, (mark.x_low, mark.x_high), &across, scatter.x.scale)?;
        check_mean(&name("y"), mark.y, (mark.y_low, mark.y_high), &down, scatter.y.scale)?;
    }
    ensure!(
        scatter.diagonal.is_none() || scatter.x.scale == scatter.y.scale,
        "the diagonal is no line between a linear and a log axis"; help: "leave `diagonal` out or use one scale for both"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::super::{Kind, Scale, check};
    use super::*;

    #[test]
    fn refusals_name_mark_and_axis() {
        let good = samples::scatter(3);
        assert_eq!(check(&good), Ok(()));
        let message = |change: &dyn Fn(&mut Scatter)| {
            let mut figure = good.clone();
            let Kind::Scatter(scatter) = &mut figure.kind else { panic!("no scatter") };
            change(scatter);
            check(&figure).unwrap_err().message
        };
        assert_eq!(message(&|scatter| scatter.marks[1].y = f64::NAN), "mark `aligned` on the y axis: mean is NaN");
        assert_eq!(
            message(&|scatter| scatter.marks[2].seeds[0].0 = f64::INFINITY),
            "mark `none` on the x axis: seed is inf"
        );
        assert!(
            message(&|scatter| scatter.marks[0].x_low = Some(1000.0)).contains("on the x axis: the interval runs from")
        );
        assert_eq!(message(&|scatter| scatter.marks[1].label = "base".into()), "mark `base` appears twice");
        assert!(message(&|scatter| scatter.marks.clear()).ends_with("has no marks"));
        assert!(
            message(&|scatter| (scatter.x.scale, scatter.x.range) = (Scale::Log, None)).contains("diagonal is no line")
        );
    }
}
