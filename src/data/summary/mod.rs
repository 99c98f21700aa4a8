//! What a grid of scores says: an estimate for every condition, trends and comparisons for every evaluation.

mod assessment;
mod axes;
mod table;
mod words;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::evaluation::Scores;
use super::statistics::{CONFIDENCE, Estimate, Observation, Range, estimate, missing_warnings};
use crate::error::{Error, Result, ensure};

pub use assessment::{Assessment, Claim, Comparison, Dose};
pub use axes::{Axes, Point, SEED, label, same};
pub use table::{Table, csv};
pub use words::{counts, methods, statements};

/// Scores of one model, trained at one point of the grid, on one evaluation.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Where in the grid; `seed` among its axes.
    pub point: Point,
    /// Which evaluation.
    pub evaluation: String,
    /// What came out.
    pub scores: Scores,
}

/// A model to compare with, such as the one before training.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What it is called.
    pub name: String,
    /// Its scores by evaluation.
    pub scores: Vec<(String, Scores)>,
}

/// One run within a condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Mean of its scored answers; none when no answer could be scored.
    pub mean: Option<f64>,
    /// Its answers, with and without a score.
    pub answers: usize,
}

/// All runs at one point of the grid that differ in their seed only, on one evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    /// Where in the grid, without the seed; empty for the baseline.
    pub point: Point,
    /// Which evaluation.
    pub evaluation: String,
    /// Mean, interval, counts; none when no answer could be scored.
    pub estimate: Option<Estimate>,
    /// The runs behind it, by seed.
    pub runs: Vec<Run>,
    /// Answers of all runs, with and without a score.
    pub answers: usize,
    /// Answers without a score, by reason.
    pub missing: BTreeMap<String, usize>,
    /// Share of the answers without a score, for whatever reason, 0 to 1.
    pub missing_share: f64,
    /// Share of the answers that no judge's rule could read, 0 to 1.
    pub unparsable_share: f64,
    /// Answers that were cut because they were too long.
    pub cut: usize,
    /// Whose judgement is the score.
    pub judge: String,
    /// Share of answers that another judge puts on the same side of 50, mean over runs, 0 to 1.
    pub agreement: BTreeMap<String, f64>,
    #[serde(skip)]
    observations: Vec<Observation>,
}

impl Condition {
    /// Different questions that were asked.
    pub fn questions(&self) -> usize {
        self.observations.iter().map(|observation| observation.question).collect::<BTreeSet<_>>().len()
    }
}

/// What was counted, over all conditions without the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Points of the grid, seeds not counted.
    pub points: usize,
    /// Points of the grid, seeds counted: models.
    pub models: usize,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Answers, with and without a score.
    pub answers: usize,
    /// Answers without a score, by reason.
    pub missing: BTreeMap<String, usize>,
    /// Share of the answers that could not be read, 0 to 1.
    pub unparsable_share: f64,
}

/// Everything that a grid of scores says.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How the grid was looked at.
    pub axes: Axes,
    /// Names of the evaluations, in order.
    pub evaluations: Vec<String>,
    /// What was counted.
    pub counts: Counts,
    /// By evaluation, then series, then x.
    pub conditions: Vec<Condition>,
    /// What the baseline is called.
    pub baseline_name: Option<String>,
    /// The baseline on those evaluations that the grid has.
    pub baseline: Vec<Condition>,
    /// What can be said of every evaluation and series.
    pub assessments: Vec<Assessment>,
    /// What a reader must know before believing the rest.
    pub warnings: Vec<String>,
}

impl Summary {
    /// The condition at an x (and a series) of an evaluation.
    pub fn condition(&self, evaluation: &str, x: &Value, series: Option<&Value>) -> Option<&Condition> {
        let holds = |condition: &&Condition| self.axes.holds(&condition.point, x, series);
        self.conditions.iter().filter(|condition| condition.evaluation == evaluation).find(holds)
    }
    /// The baseline on an evaluation.
    pub fn baseline_on(&self, evaluation: &str) -> Option<&Condition> {
        self.baseline.iter().find(|condition| condition.evaluation == evaluation)
    }
}

/// Groups cells into conditions and assesses them. Seeds are the unit of every interval where there are two or more.
///
/// Fails when a point of the grid occurs twice, when a seed is no whole number, and when answers to one evaluation are
/// answers to different questions.
pub fn summarize(axes: &Axes, cells: &[Cell], baseline: Option<&Baseline>) -> Result<Summary> {
    let mut evaluations: Vec<String> = Vec::new();
    for cell in cells {
        if !evaluations.contains(&cell.evaluation) {
            evaluations.push(cell.evaluation.clone());
        }
    }
    let (mut conditions, mut base) = (Vec::new(), Vec::new());
    for evaluation in &evaluations {
        let of_evaluation: Vec<&Cell> = cells.iter().filter(|cell| &cell.evaluation == evaluation).collect();
        let before = baseline.and_then(|baseline| baseline.scores.iter().find(|(id, _)| id == evaluation));
        check_questions(
            evaluation,
            of_evaluation.iter().map(|cell| &cell.scores).chain(before.map(|(_, scores)| scores)),
        )?;
        for series in axes.each_series() {
            for x in &axes.x_values {
                let here = of_evaluation.iter().filter(|cell| axes.holds(&cell.point, x, series));
                let runs = here.map(|cell| Ok((cell, seed_of(&cell.point)?))).collect::<Result<Vec<_>>>()?;
                if let Some((first, _)) = runs.first() {
                    let mut point = first.point.clone();
                    point.remove(SEED);
                    let runs = runs.iter().map(|(cell, seed)| (*seed, &cell.scores)).collect();
                    conditions.push(condition(axes, point, evaluation, runs)?);
                }
            }
        }
        if let Some((_, scores)) = before {
            base.push(condition(axes, Point::new(), evaluation, vec![(0, scores)])?);
        }
    }
    let mut warnings = warn(axes, &evaluations, &conditions);
    let name = baseline.map(|baseline| baseline.name.clone());
    let mut assessments = Vec::new();
    for evaluation in &evaluations {
        for series in axes.each_series() {
            let group: Vec<&Condition> = conditions
                .iter()
                .filter(|condition| &condition.evaluation == evaluation && axes.in_series(&condition.point, series))
                .collect();
            let before = base.iter().find(|condition| &condition.evaluation == evaluation);
            let before = name.as_deref().zip(before);
            assessments.push(assessment::assess(axes, evaluation, series, &group, before, &mut warnings)?);
        }
    }
    let counts = count(cells, &conditions)?;
    Ok(Summary {
        axes: axes.clone(),
        evaluations,
        counts,
        conditions,
        baseline_name: name.filter(|_| !base.is_empty()),
        baseline: base,
        assessments,
        warnings,
    })
}

/// The seed of a point; 0 where the grid has none.
fn seed_of(point: &Point) -> Result<u64> {
    match point.get(SEED) {
        None => Ok(0),
        Some(seed) => seed.as_u64().ok_or_else(|| {
            Error::input(format!("the seed `{}` is no whole number", label(seed))).with_help("write seeds as 0, 1, 2")
        }),
    }
}

/// Comparisons pair questions by their place, so the places must hold the same questions.
fn check_questions<'a>(evaluation: &str, scores: impl Iterator<Item = &'a Scores>) -> Result<()> {
    let mut asked: Option<Vec<&str>> = None;
    for scores in scores {
        let questions: Vec<&str> = scores.questions.iter().map(|question| question.question.as_str()).collect();
        let first = asked.get_or_insert_with(|| questions.clone());
        ensure!(
            *first == questions,
            "`{evaluation}` asks different questions at different points";
            help: "give evaluations with different questions different names"
        );
    }
    Ok(())
}

fn condition(axes: &Axes, point: Point, evaluation: &str, mut runs: Vec<(u64, &Scores)>) -> Result<Condition> {
    runs.sort_by_key(|(seed, _)| *seed);
    if let Some(pair) = runs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::input(format!("the grid has {} with seed {} twice", axes.name(&point), pair[0].0))
            .with_help("write every value of an axis once"));
    }
    let observations: Vec<Observation> = runs.iter().flat_map(|(seed, scores)| observations(*seed, scores)).collect();
    let mut missing = BTreeMap::<String, usize>::new();
    let mut agreement = BTreeMap::<String, Vec<f64>>::new();
    for (_, scores) in &runs {
        for (reason, count) in scores.missing() {
            *missing.entry(reason).or_default() += count;
        }
        for (judge, share) in &scores.agreement {
            agreement.entry(judge.clone()).or_default().push(*share);
        }
    }
    let answers = observations.len();
    let share = |count: usize| count as f64 / answers.max(1) as f64;
    let scored = observations.iter().any(|observation| observation.score.is_ok());
    Ok(Condition {
        point,
        evaluation: evaluation.to_string(),
        estimate: if scored { Some(estimate(&observations, Range::default(), CONFIDENCE)?) } else { None },
        runs: runs
            .iter()
            .map(|(seed, scores)| Run { seed: *seed, mean: scores.mean(), answers: scores.answers() })
            .collect(),
        answers,
        missing_share: share(missing.values().sum()),
        unparsable_share: share(missing.get("unparsable").copied().unwrap_or(0)),
        missing,
        cut: runs.iter().map(|(_, scores)| scores.cut).sum(),
        judge: runs.first().map(|(_, scores)| scores.judge.clone()).unwrap_or_default(),
        agreement: agreement
            .into_iter()
            .map(|(judge, shares)| (judge, shares.iter().sum::<f64>() / shares.len() as f64))
            .collect(),
        observations,
    })
}

fn observations(seed: u64, scores: &Scores) -> Vec<Observation> {
    let mut all = Vec::with_capacity(scores.answers());
    for (question, answers) in (0..).zip(&scores.questions) {
        all.extend(answers.scores.iter().map(|score| Observation { seed, question, score: Ok(*score) }));
        for (reason, count) in &answers.missing {
            let lost = Observation { seed, question, score: Err(reason.clone()) };
            all.extend(std::iter::repeat_n(lost, *count));
        }
    }
    all
}

fn count(cells: &[Cell], conditions: &[Condition]) -> Result<Counts> {
    let mut missing = BTreeMap::<String, usize>::new();
    for (reason, count) in conditions.iter().flat_map(|condition| &condition.missing) {
        *missing.entry(reason.clone()).or_default() += count;
    }
    let answers: usize = conditions.iter().map(|condition| condition.answers).sum();
    // `Value` has no order; its canonical text has.
    let text = |point: &Point| serde_json::to_string(point).map_err(|error| Error::internal(error.to_string()));
    let models = cells.iter().map(|cell| text(&cell.point)).collect::<Result<BTreeSet<_>>>()?;
    let points = conditions.iter().map(|condition| text(&condition.point)).collect::<Result<BTreeSet<_>>>()?;
    let seeds = conditions.iter().flat_map(|condition| &condition.runs).map(|run| run.seed).collect::<BTreeSet<_>>();
    Ok(Counts {
        points: points.len(),
        models: models.len(),
        seeds: seeds.into_iter().collect(),
        answers,
        unparsable_share: missing.get("unparsable").copied().unwrap_or(0) as f64 / answers.max(1) as f64,
        missing,
    })
}

fn warn(axes: &Axes, evaluations: &[String], conditions: &[Condition]) -> Vec<String> {
    let mut warnings = Vec::new();
    if conditions.iter().any(|condition| condition.runs.len() == 1) {
        warnings.push(
            "some conditions have one seed only: their intervals are about other questions and say nothing about \
             training again"
                .to_string(),
        );
    }
    for condition in conditions {
        let name = || format!("`{}` at {}", condition.evaluation, axes.name(&condition.point));
        let scored = condition.runs.iter().filter(|run| run.mean.is_some()).count();
        if scored < condition.runs.len() {
            warnings.push(format!("{}: {scored} of {} seeds have scores", name(), condition.runs.len()));
        }
        if condition.cut * 20 > condition.answers {
            warnings.push(format!(
                "{}: {} of {} answers were cut at the greatest length",
                name(),
                condition.cut,
                condition.answers
            ));
        }
    }
    for evaluation in evaluations {
        let named: Vec<(String, &Estimate)> = conditions
            .iter()
            .filter(|condition| &condition.evaluation == evaluation)
            .filter_map(|condition| {
                Some((format!("{evaluation}, {}", axes.name(&condition.point)), condition.estimate.as_ref()?))
            })
            .collect();
        let groups: Vec<(&str, &Estimate)> = named.iter().map(|(name, estimate)| (name.as_str(), *estimate)).collect();
        warnings.extend(missing_warnings(&groups));
    }
    warnings
}
