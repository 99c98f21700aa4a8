//! Dots with intervals in groups: x by x, a place for every series, the model before training first.

use super::{Strand, seeds};
use crate::data::statistics::Estimate;
use crate::data::summary::{Summary, label};
use crate::plot::figure::{Axis, Cluster, Dot, Dots, Reference};

/// The groups of `summary`, each with a dot for every strand that has a score there.
pub fn dots(summary: &Summary, strands: &[Strand], y: Axis, references: Vec<Reference>) -> Dots {
    let before = summary.baseline_name.as_deref().filter(|_| summary.baseline_varies());
    let groups = summary.axes.x_values.iter().map(|x| {
        let base = before.and_then(|name| {
            let strand = strands.first()?;
            let condition = strands.iter().find_map(|one| summary.baseline_at(strand.evaluation, x, one.series))?;
            Some(dot(name, condition.estimate.as_ref()?))
        });
        let of_strand = |strand: &Strand| {
            let condition = summary.condition(strand.evaluation, x, strand.series)?;
            Some(dot(&strand.label, condition.estimate.as_ref()?))
        };
        let dots = base.into_iter().chain(strands.iter().filter_map(of_strand));
        Cluster { label: label(x), dots: dots.collect() }
    });
    let groups: Vec<Cluster> = groups.collect();
    let series = before.map(str::to_string).into_iter().chain(strands.iter().map(|strand| strand.label.clone()));
    Dots { y, series: series.collect(), groups, references }
}

fn dot(series: &str, estimate: &Estimate) -> Dot {
    Dot {
        series: series.to_string(),
        mean: estimate.mean,
        low: Some(estimate.low),
        high: Some(estimate.high),
        seeds: seeds(&estimate.seed_means),
    }
}

/// Pixels that keep the marks apart.
pub fn width(dots: &Dots) -> u32 {
    let marks = dots.groups.len() * (dots.series.len() + 1);
    (160 + 15 * marks as u32).clamp(960, 1600)
}
