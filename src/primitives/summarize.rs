//! From cells to what they say: collects scores, and refuses to compare what was not measured alike.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::results::{Part, Results};
use super::sweep::Cells;
use crate::data::evaluation::Evaluation;
use crate::data::summary::{Axes, Baseline, Cell, Point, Summary, SummaryOptions};
use crate::error::{Error, Result, ensure};

/// Results of one model, or cells of a sweep.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Measured {
    /// Of one model.
    Results(Results),
    /// Results by the points of a grid.
    Cells(Cells),
}

impl Measured {
    /// Results with the points where they hold.
    pub fn cells(&self) -> Vec<(Point, &Results)> {
        match self {
            Measured::Results(results) => vec![(Point::new(), results)],
            Measured::Cells(cells) => {
                cells.0.iter().flat_map(|(point, results)| results.iter().map(|one| (point.clone(), one))).collect()
            }
        }
    }
}

/// Cells as they are looked at, checked before anything is waited for.
pub struct View {
    /// The axes.
    pub axes: Axes,
    /// The evaluations, in order of appearance; of those that share a name the first.
    pub evaluations: Vec<Arc<Evaluation>>,
}

impl View {
    /// Reads the axes and checks that no cell has two results of one name.
    pub fn of(cells: &Cells, x: Option<&str>, series: Option<&str>, reference: Option<&Measured>) -> Result<Self> {
        let points: Vec<Point> = cells.0.iter().map(|(point, _)| point.clone()).collect();
        let axes = Axes::of(&points, x, series)?;
        let mut evaluations: Vec<Arc<Evaluation>> = Vec::new();
        for (_, results) in cells.0.iter() {
            let mut here: Vec<&str> = Vec::new();
            for part in results.iter().flat_map(Results::parts) {
                let id = part.evaluation.id.as_str();
                ensure!(
                    !here.contains(&id),
                    "a cell has two results named `{id}`";
                    help: "tell them apart: `evaluate(model, evaluations, #{{ suffix: \"prompted\" }})`"
                );
                here.push(id);
                if !evaluations.iter().any(|known| known.id == id) {
                    evaluations.push(part.evaluation.clone());
                }
            }
        }
        if let Some(reference) = reference {
            let mut parts = reference.cells().into_iter().flat_map(|(_, results)| results.parts());
            let shared = parts.any(|part| evaluations.iter().any(|known| known.id == part.evaluation.id));
            ensure!(shared, "`reference` has none of the cells' evaluations"; help: "put the model to compare with through the same evaluations");
        }
        Ok(View { axes, evaluations })
    }

    /// Checks that an evaluation means the same wherever it is compared: along x, within each series.
    pub fn check_alike(&self, cells: &Cells, reference: Option<&Measured>) -> Result<()> {
        for series in self.axes.each_series() {
            let mut known: Vec<&Evaluation> = Vec::new();
            for (_, results) in cells.0.iter().filter(|(point, _)| self.axes.in_series(point, series)) {
                for part in results.iter().flat_map(Results::parts) {
                    match known.iter().find(|known| known.id == part.evaluation.id) {
                        Some(known) => check_alike(known, &part.evaluation, "at different points of the grid")?,
                        None => known.push(&part.evaluation),
                    }
                }
            }
            for (point, results) in reference.iter().flat_map(|reference| reference.cells()) {
                let elsewhere = self.axes.series_of(&point).is_some() && !self.axes.in_series(&point, series);
                for part in results.parts().iter().filter(|_| !elsewhere) {
                    if let Some(known) = known.iter().find(|known| known.id == part.evaluation.id) {
                        check_alike(known, &part.evaluation, "in the cells and in the reference")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Collects the scores, waiting for them, and summarises them.
    pub fn summarize(&self, cells: &Cells, reference: Option<&Measured>, options: &SummaryOptions) -> Result<Summary> {
        let mut all = Vec::new();
        for (point, results) in cells.0.iter() {
            for result in results {
                all.extend(cells_of(point, result)?);
            }
        }
        let baseline = reference.map(|reference| {
            let before = reference.cells();
            let name = before.first().map_or(String::new(), |(_, results)| results.name().to_string());
            let cells = before.iter().map(|(point, results)| cells_of(point, results));
            let cells = cells.collect::<Result<Vec<_>>>()?.concat();
            Ok::<_, Error>(Baseline { name, cells })
        });
        crate::data::summary::summarize(&self.axes, &all, baseline.transpose()?.as_ref(), options)
    }
}

fn cells_of(point: &Point, results: &Results) -> Result<Vec<Cell>> {
    let cell = |part: &Part| {
        let (point, evaluation) = (point.clone(), part.evaluation.id.clone());
        Ok(Cell { point, evaluation, scores: results.scores(part)? })
    };
    results.parts().iter().map(cell).collect()
}

/// Numbers under one name must be one measure. System prompts may differ: they can be what is compared.
fn check_alike(a: &Evaluation, b: &Evaluation, place: &str) -> Result<()> {
    let asked = |evaluation: &Evaluation| -> Vec<(String, Option<String>)> {
        evaluation.questions.iter().map(|question| (question.text.clone(), question.topic.clone())).collect()
    };
    let different = [
        ("questions", asked(a) != asked(b)),
        ("sampling", a.sampling != b.sampling),
        ("judges", a.judges != b.judges),
        ("score", a.score != b.score),
    ];
    if let Some((what, _)) = different.iter().find(|(_, differs)| *differs) {
        let message = format!("`{}` has another {what} {place}, so its numbers cannot be compared", a.id);
        return Err(Error::input(
            message.replace("another questions", "other questions").replace("another judges", "other judges"),
        )
        .with_help("use one evaluation for all, or give different ones different ids"));
    }
    Ok(())
}
