//! Figures of single answers: where two judges put them, and how one judge's words are spread.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Options};
use crate::data::sheet::{Answer, Sheet};
use crate::data::summary::{Point, SEED, label};
use crate::error::{Error, Result, bail, ensure, nearest};
use crate::plot::figure::{self as draw, Axis, Cloud, Density, Histogram, Scores};
use crate::primitives::results::Results;
use crate::primitives::summarize::View;
use crate::primitives::sweep::Cells;

/// Checks the names of judges, the number of thresholds and that all groups have room, before anything is waited for.
pub fn check(cells: &Cells, view: &View, shown: &[String], kind: Kind, options: &Options) -> Result<()> {
    let evaluation = view.evaluations.iter().find(|evaluation| evaluation.id == shown[0]);
    let evaluation = evaluation.ok_or_else(|| Error::internal("a chosen evaluation is gone"))?;
    let names: Vec<String> = evaluation.judges.iter().flat_map(|judge| judge.names()).collect();
    if let Some(wanted) = options.judges.iter().find(|wanted| !names.contains(wanted)) {
        let error = Error::input(format!("`{}` has no judge `{wanted}`", evaluation.id));
        return Err(match nearest(wanted, names.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!("choose one of `{}`", names.join("`, `"))),
        });
    }
    if kind == Kind::Density && options.judges.len() != 2 {
        bail!("a density shows the words of two judges, found {}", options.judges.len(); help: "name them: `judges: [\"alignment\", \"coherence\"]`; there are `{}`", names.join("`, `"));
    }
    ensure!(
        kind == Kind::Density || options.judges.len() <= 1,
        "a histogram shows the words of one judge, found {}",
        options.judges.len()
    );
    ensure!(
        options.thresholds.len() <= options.judges.len().max(1),
        "`thresholds` has {} numbers for {} judges", options.thresholds.len(), options.judges.len().max(1);
        help: "give one for each judge"
    );
    let has =
        |results: &[Results]| results.iter().flat_map(|one| one.parts()).any(|part| part.evaluation.id == shown[0]);
    let groups: BTreeSet<String> =
        cells.0.iter().filter(|(_, results)| has(results)).map(|(point, _)| group_of(point)).collect();
    let most = if kind == Kind::Density { draw::MOST_PANELS } else { draw::MOST_ROWS };
    ensure!(
        groups.len() <= most,
        "a {} has room for {most} groups, found {}", kind.name(), groups.len();
        help: "draw fewer points of the grid at a time"
    );
    Ok(())
}

/// What the answers at a point are called together with those of other seeds.
fn group_of(point: &Point) -> String {
    let axes: BTreeMap<_, _> = point.iter().filter(|(name, _)| *name != SEED).collect();
    let name = axes.values().map(|value| label(value)).collect::<Vec<_>>().join(", ");
    if name.is_empty() { "all seeds".to_string() } else { name }
}

/// The drawing without its title.
pub fn figure(cells: &Cells, view: &View, evaluation: &str, kind: Kind, options: &Options) -> Result<draw::Figure> {
    let groups = groups(cells, evaluation)?;
    let scoring = groups.first().and_then(|(_, sheets)| sheets.first()).map(|sheet| sheet.judge.clone());
    let first = options.judges.first().cloned().or(scoring).unwrap_or_default();
    let answers = |sheets: &'_ [Sheet]| sheets.iter().map(|sheet| sheet.answers.len()).sum::<usize>();
    let mut shown = 0;
    let said = |answer: &Answer, judge: &str| answer.judged_by(judge).and_then(|judged| judged.score);
    let axis = |judge: &str| Axis { label: judge.to_string(), range: Some((0.0, 100.0)), ..Axis::default() };
    let kind = match (kind, options.judges.get(1)) {
        (Kind::Density, Some(second)) => {
            let cloud = |(label, sheets): &(String, Vec<Sheet>)| {
                let all = sheets.iter().flat_map(|sheet| &sheet.answers);
                let points: Vec<(f64, f64)> =
                    all.filter_map(|answer| Some((said(answer, &first)?, said(answer, second)?))).collect();
                Cloud { label: label.clone(), points }
            };
            let panels: Vec<Cloud> = groups.iter().map(cloud).collect();
            shown += panels.iter().map(|panel| panel.points.len()).sum::<usize>();
            draw::Kind::Density(Density {
                x: axis(&first),
                y: axis(second),
                panels,
                bins: 20,
                x_threshold: options.thresholds.first().copied(),
                y_threshold: options.thresholds.get(1).copied(),
                scale: draw::Scale::Log,
                ..Density::default()
            })
        }
        _ => {
            let row = |(label, sheets): &(String, Vec<Sheet>)| {
                let all = sheets.iter().flat_map(|sheet| &sheet.answers);
                let values: Vec<f64> = all.filter_map(|answer| said(answer, &first)).collect();
                Scores { label: label.clone(), values, counts: Vec::new() }
            };
            let rows: Vec<Scores> = groups.iter().map(row).collect();
            shown += rows.iter().map(|row| row.values.len()).sum::<usize>();
            draw::Kind::Histogram(Histogram {
                x: axis(&first),
                rows,
                bins: 20,
                threshold: options.thresholds.first().copied(),
                ..Histogram::default()
            })
        }
    };
    let all: usize = groups.iter().map(|(_, sheets)| answers(sheets)).sum();
    let mut caption = vec![format!("{shown} of {all} answers have a judgement; all seeds together.")];
    if view.evaluations.len() > 1 {
        caption.insert(0, format!("Evaluation: {evaluation}."));
    }
    Ok(draw::Figure { title: String::new(), subtitle: String::new(), caption, kind, width: 960, height: 520 })
}

/// The answers of every point of the grid, all seeds together, in order of appearance.
fn groups(cells: &Cells, evaluation: &str) -> Result<Vec<(String, Vec<Sheet>)>> {
    let mut groups: Vec<(String, Vec<Sheet>)> = Vec::new();
    for (point, results) in cells.0.iter() {
        let name = group_of(point);
        for result in results {
            for part in result.parts().iter().filter(|part| part.evaluation.id == evaluation) {
                let sheet = result.sheet(part, point)?;
                match groups.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sheets)) => sheets.push(sheet),
                    None => groups.push((name.clone(), vec![sheet])),
                }
            }
        }
    }
    Ok(groups)
}
