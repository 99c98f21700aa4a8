//! From cells to what they say: collects scores, and refuses to compare what was not measured alike.

use std::sync::Arc;

use super::evaluate::Results;
use super::sweep::Cells;
use crate::data::evaluation::Evaluation;
use crate::data::summary::{Axes, Baseline, Cell, Point, Summary};
use crate::error::{Error, Result, ensure};

/// Cells as they are looked at, checked before anything is waited for.
pub struct View {
    /// The axes.
    pub axes: Axes,
    /// The evaluations, in order of appearance.
    pub evaluations: Vec<Arc<Evaluation>>,
}

impl View {
    /// Reads the axes and checks that every evaluation means the same wherever it appears.
    pub fn of(cells: &Cells, x: Option<&str>, series: Option<&str>, reference: Option<&Results>) -> Result<Self> {
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
                match evaluations.iter().find(|known| known.id == id) {
                    Some(known) => check_alike(known, &part.evaluation, "at different points of the grid")?,
                    None => evaluations.push(part.evaluation.clone()),
                }
            }
        }
        if let Some(reference) = reference {
            let mut shared = 0;
            for part in reference.parts() {
                if let Some(known) = evaluations.iter().find(|known| known.id == part.evaluation.id) {
                    check_alike(known, &part.evaluation, "in the cells and in the reference")?;
                    shared += 1;
                }
            }
            ensure!(shared > 0, "`reference` has none of the cells' evaluations"; help: "put the model to compare with through the same evaluations");
        }
        Ok(View { axes, evaluations })
    }

    /// Collects the scores, waiting for them, and summarises them.
    pub fn summarize(&self, cells: &Cells, reference: Option<&Results>) -> Result<Summary> {
        let mut all = Vec::new();
        for (point, results) in cells.0.iter() {
            for result in results {
                for part in result.parts() {
                    let (point, evaluation) = (point.clone(), part.evaluation.id.clone());
                    all.push(Cell { point, evaluation, scores: result.scores(part)? });
                }
            }
        }
        let baseline = reference
            .map(|reference| {
                let scores = reference.parts().iter().map(|part| {
                    let id = part.evaluation.id.clone();
                    Ok((id, reference.scores(part)?))
                });
                Ok::<_, Error>(Baseline {
                    name: reference.model().name().to_string(),
                    scores: scores.collect::<Result<_>>()?,
                })
            })
            .transpose()?;
        crate::data::summary::summarize(&self.axes, &all, baseline.as_ref())
    }
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
