//! A matrix of means: x against the series, or against the evaluations where there are no series.

use super::{Options, Strand};
use crate::data::summary::{Summary, label};
use crate::plot::figure::{Cell, Heat};
use crate::plot::palette::display_name;

/// Columns are the values of x, rows the strands.
pub fn heat(summary: &Summary, strands: &[Strand], value_label: String, options: &Options) -> Heat {
    let axes = &summary.axes;
    let cell = |strand: &Strand, x| {
        let estimate = summary.condition(strand.evaluation, x, strand.series)?.estimate.as_ref()?;
        let note = format!("[{:.0}, {:.0}]", estimate.low, estimate.high);
        Some(Cell { value: estimate.mean, note })
    };
    let named = |strand: &Strand| strand.series.map_or_else(|| strand.label.clone(), label);
    Heat {
        x_label: options.x_label.clone().unwrap_or_else(|| display_name(&axes.x)),
        y_label: axes.series.as_deref().map_or_else(|| "evaluation".to_string(), display_name),
        columns: axes.x_values.iter().map(label).collect(),
        rows: strands.iter().map(named).collect(),
        cells: strands.iter().map(|strand| axes.x_values.iter().map(|x| cell(strand, x)).collect()).collect(),
        value_label,
        range: Some((0.0, 100.0)),
        diverging: false,
        decimals: Some(1),
    }
}
