//! Conditions as tables: one row each for programs, means with intervals side by side for people.

use super::{Condition, Summary, label};

/// A table for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Heads of the columns, the first one above the names of the rows.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Means with intervals: points of the grid (and the baseline) against evaluations, the longer side downwards.
    pub fn of(summary: &Summary) -> Self {
        let axes = &summary.axes;
        // One line per point: what it is called, and its condition on an evaluation.
        type Find<'a> = Box<dyn Fn(&str) -> Option<&'a Condition> + 'a>;
        let mut lines: Vec<(String, Find)> = Vec::new();
        let uniform = summary.baseline_name.as_ref().filter(|_| !summary.baseline_varies());
        if let (Some(name), Some(x)) = (uniform, axes.x_values.first()) {
            lines.push((name.clone(), Box::new(move |evaluation| summary.baseline_at(evaluation, x, None))));
        }
        for series in axes.each_series() {
            let of_series = summary.baseline_name.as_ref().filter(|_| summary.baseline_varies());
            if let (Some(name), Some(x)) = (of_series, axes.x_values.first()) {
                let name = series.map(label).into_iter().chain([name.clone()]).collect::<Vec<_>>().join(", ");
                lines.push((name, Box::new(move |evaluation| summary.baseline_at(evaluation, x, series))));
            }
            for x in &axes.x_values {
                let name = [series, Some(x)].into_iter().flatten().map(label).collect::<Vec<_>>().join(", ");
                lines.push((name, Box::new(move |evaluation| summary.condition(evaluation, x, series))));
            }
        }
        let corner =
            [axes.series.as_deref(), Some(axes.x.as_str())].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let text = |find: &Find, evaluation: &String| find(evaluation).map_or("-".to_string(), cell);
        if lines.len() >= summary.evaluations.len() {
            let head = [corner].into_iter().chain(summary.evaluations.iter().cloned()).collect();
            let row = |(name, find): &(String, Find)| {
                [name.clone()].into_iter().chain(summary.evaluations.iter().map(|id| text(find, id))).collect()
            };
            return Table { head, rows: lines.iter().map(row).collect() };
        }
        let head = [corner].into_iter().chain(lines.iter().map(|(name, _)| name.clone())).collect();
        let row = |id: &String| [id.clone()].into_iter().chain(lines.iter().map(|(_, find)| text(find, id))).collect();
        Table { head, rows: summary.evaluations.iter().map(row).collect() }
    }

    /// Columns in line, for a terminal; names to the left, numbers to the right.
    pub fn plain(&self) -> String {
        let lines = || [&self.head].into_iter().chain(&self.rows);
        let wide = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(wide).collect();
        let line = |line: &Vec<String>| {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (text, width))| match column {
                0 => format!("{text:<width$}"),
                _ => format!("{text:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| {
            format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rule = format!("|---|{}\n", "---:|".repeat(self.head.len() - 1));
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}{rule}{rows}", line(&self.head))
    }
}

/// `43.8 [40.1, 47.5]`.
fn cell(condition: &Condition) -> String {
    match &condition.estimate {
        Some(estimate) => format!("{:.1} [{:.1}, {:.1}]", estimate.mean, estimate.low, estimate.high),
        None => "no score".to_string(),
    }
}

/// One row per condition and evaluation, then the baseline's, by RFC 4180. Lists within a field are separated by `;`.
pub fn csv(summary: &Summary) -> String {
    let axes: Vec<&str> =
        summary.conditions.first().map_or(vec![], |first| first.point.keys().map(String::as_str).collect());
    let head = axes.iter().map(|axis| (*axis).to_string()).chain(
        [
            "model",
            "evaluation",
            "mean",
            "low",
            "high",
            "confidence",
            "method",
            "seeds",
            "questions",
            "answers",
            "missing",
            "missing_by_reason",
            "unparsable_share",
            "cut",
            "judge",
            "seed",
            "seed_mean",
        ]
        .map(str::to_string),
    );
    let mut text = record(head);
    let trained = summary.conditions.iter().map(|condition| ("trained", condition));
    let base =
        summary.baseline.iter().map(|condition| (summary.baseline_name.as_deref().unwrap_or("baseline"), condition));
    for (model, condition) in trained.chain(base) {
        let estimate = condition.estimate.as_ref();
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let list = |items: Vec<String>| items.join(";");
        let axes = axes.iter().map(|axis| condition.point.get(*axis).map(label).unwrap_or_default());
        text += &record(axes.chain([
            model.to_string(),
            condition.evaluation.clone(),
            number(estimate.map(|estimate| estimate.mean)),
            number(estimate.map(|estimate| estimate.low)),
            number(estimate.map(|estimate| estimate.high)),
            number(estimate.map(|estimate| estimate.confidence)),
            estimate.map(|estimate| estimate.method.clone()).unwrap_or_default(),
            condition.runs.len().to_string(),
            condition.questions().to_string(),
            condition.answers.to_string(),
            condition.missing.values().sum::<usize>().to_string(),
            list(condition.missing.iter().map(|(reason, count)| format!("{reason}:{count}")).collect()),
            condition.unparsable_share.to_string(),
            condition.cut.to_string(),
            condition.judge.clone(),
            list(condition.runs.iter().map(|run| run.seed.to_string()).collect()),
            list(condition.runs.iter().map(|run| number(run.mean)).collect()),
        ]));
    }
    text
}

fn record(fields: impl Iterator<Item = String>) -> String {
    let quoted = fields.map(|field| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}
