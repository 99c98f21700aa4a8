//! Two evaluations against each other, with intervals on both axes.

use serde_json::Value;

use super::{Options, seeds};
use crate::data::statistics::{Estimate, Wanted, hypervolume, non_dominated};
use crate::data::summary::{Condition, Summary, label};
use crate::error::{Result, ensure};
use crate::plot::figure::{Axis, Mark, Scatter};

/// One mark for every condition that has a score on both evaluations, and one for each baseline.
pub fn scatter(summary: &Summary, shown: &[String], options: &Options) -> Result<Scatter> {
    let (across, down) = (shown[0].as_str(), shown[shown.len() - 1].as_str());
    // A number beside something else says of what it is: `kl, beta 10`.
    let named = |condition: &Condition| {
        let (numbers, words): (Vec<_>, Vec<_>) = condition.point.iter().partition(|(_, value)| value.is_number());
        let alone = words.is_empty() && numbers.len() == 1;
        let number = |(axis, value): (&String, &Value)| match alone {
            true => label(value),
            false => format!("{axis} {}", label(value)),
        };
        let values: Vec<String> =
            words.iter().map(|(_, value)| label(value)).chain(numbers.into_iter().map(number)).collect();
        if values.is_empty() { "all seeds".to_string() } else { values.join(", ") }
    };
    let mut marks = Vec::new();
    let base = summary.baseline_name.as_deref().unwrap_or_default();
    let of_base = |condition: &Condition| match condition.point.is_empty() {
        true => base.to_string(),
        false => format!("{base}, {}", named(condition)),
    };
    for one in &summary.baseline {
        let other = summary.baseline.iter().find(|other| other.evaluation == down && other.point == one.point);
        marks.extend(mark(of_base(one), Some(one).filter(|one| one.evaluation == across), other));
    }
    for one in summary.conditions.iter().filter(|one| one.evaluation == across) {
        let other = summary.conditions.iter().find(|other| other.evaluation == down && other.point == one.point);
        marks.extend(mark(named(one), Some(one), other));
    }
    ensure!(!marks.is_empty(), "no condition has scores on both `{across}` and `{down}`, so there is nothing to draw");
    let axis = |label: &str| Axis { label: label.to_string(), range: Some((0.0, 100.0)), ..Axis::default() };
    Ok(Scatter {
        x: axis(options.x_label.as_deref().unwrap_or(across)),
        y: axis(options.y_label.as_deref().unwrap_or(down)),
        front: front(&marks, options),
        marks,
        diagonal: None,
    })
}

/// Corners of the front of what no other condition beats on both evaluations, baselines included; none where no ends are
/// wanted.
fn front(marks: &[Mark], options: &Options) -> Vec<(f64, f64)> {
    let Some((across, down)) = options.front else { return Vec::new() };
    let points: Vec<(f64, f64)> = marks.iter().map(|mark| (mark.x, mark.y)).collect();
    let order = non_dominated(&points, (across.end(), down.end()));
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for point in order.into_iter().map(|index| points[index]) {
        // From one to the next the worse of both is certain.
        if let Some(last) = corners.last().copied() {
            corners.push((point.0, last.1));
        }
        corners.push(point);
    }
    corners
}

/// The front in words: who is on it, and the area that it covers of the whole square.
pub fn told(scatter: &Scatter, options: &Options) -> Option<String> {
    let (across, down) = options.front?;
    let points: Vec<(f64, f64)> = scatter.marks.iter().map(|mark| (mark.x, mark.y)).collect();
    let ends = (across.end(), down.end());
    let worst = |end: Wanted| if end == Wanted::High { 0.0 } else { 100.0 };
    let area = hypervolume(&points, ends, (worst(ends.0), worst(ends.1))) / 100.0;
    let names = non_dominated(&points, ends).into_iter().map(|index| scatter.marks[index].label.as_str());
    Some(format!(
        "Grey: not dominated by means ({}); they cover {area:.1} % of the square.",
        names.collect::<Vec<_>>().join("; ")
    ))
}

fn mark(label: String, across: Option<&Condition>, down: Option<&Condition>) -> Option<Mark> {
    let (x, y): (&Estimate, &Estimate) = (across?.estimate.as_ref()?, down?.estimate.as_ref()?);
    let pairs = seeds(&x.seed_means).into_iter().zip(seeds(&y.seed_means));
    Some(Mark {
        label,
        x: x.mean,
        y: y.mean,
        x_low: Some(x.low),
        x_high: Some(x.high),
        y_low: Some(y.low),
        y_high: Some(y.high),
        // A seed without a score on one of them has no pair.
        seeds: if x.seed_means.len() == y.seed_means.len() { pairs.collect() } else { Vec::new() },
    })
}
