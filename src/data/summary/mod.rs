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
use super::statistics::{
    BootstrapOptions, CONFIDENCE, Estimate, Observation, Range, estimate, hierarchical_bootstrap, missing_warnings,
    percentile_over_seeds, two_way,
};
use crate::error::{Error, Result, ensure};

pub use assessment::{Assessment, Claim, Comparison, Dose};
pub use axes::{Axes, Point, SEED, label, same};
pub use table::{Table, csv};
pub use words::{counts, methods, replications, statements};

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
    /// Its scores: at points that have some of the grid's axes, such as a setting, or none.
    pub cells: Vec<Cell>,
}

impl Baseline {
    /// One model that is compared with everything, by its scores on each evaluation.
    pub fn of(name: impl Into<String>, scores: Vec<(String, Scores)>) -> Self {
        let cell = |(evaluation, scores)| Cell { point: Point::new(), evaluation, scores };
        Baseline { name: name.into(), cells: scores.into_iter().map(cell).collect() }
    }
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
    /// Where in the grid, without the seed; empty for a baseline that is the same everywhere.
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
    #[serde(skip)]
    asked: Vec<String>,
}

impl Condition {
    /// Every answer with its seed and question.
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }
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
    /// The baseline of an evaluation at an x (and a series).
    pub fn baseline_at(&self, evaluation: &str, x: &Value, series: Option<&Value>) -> Option<&Condition> {
        baseline_at(&self.axes, &self.baseline, evaluation, x, series)
    }
    /// Whether the baseline is another one at different points of the grid.
    pub fn baseline_varies(&self) -> bool {
        self.baseline.iter().any(|condition| !condition.point.is_empty())
    }
}

fn baseline_at<'a>(
    axes: &Axes,
    baseline: &'a [Condition],
    evaluation: &str,
    x: &Value,
    series: Option<&Value>,
) -> Option<&'a Condition> {
    let fits = |axis: &str, value: &Value, condition: &Condition| {
        condition.point.get(axis).is_none_or(|found| same(found, value))
    };
    let of_series = |condition: &Condition| match (&axes.series, series) {
        (Some(axis), Some(value)) => fits(axis, value, condition),
        _ => true,
    };
    let here = |condition: &&Condition| fits(&axes.x, x, condition) && of_series(condition);
    baseline.iter().filter(|condition| condition.evaluation == evaluation).find(here)
}

/// What is made of conditions.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparisons {
    /// They are compared along x, within each series; and so are these pairs of x, the second subtracted from the first.
    Made(Vec<(Value, Value)>),
    /// They are only shown: what stands side by side may be answers to different questions.
    NotMade,
}

/// How the interval of every condition is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Intervals {
    /// As the design allows: t over seeds, clustered by question for one run.
    #[default]
    Standard,
    /// Seeds, questions and answers drawn again.
    Bootstrap(BootstrapOptions),
    /// About other seeds and other questions.
    TwoWay,
    /// As the published code makes them: a percentile bootstrap over seed means, which for three seeds is their range.
    Published,
}

/// How a grid of scores is summarised.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    /// What is made of conditions.
    pub comparisons: Comparisons,
    /// How intervals of conditions are made; comparisons keep their own.
    pub intervals: Intervals,
    /// Whether equal seeds of two conditions mean equal data order, so that they are pairs.
    pub seeds_shared: bool,
    /// Differences smaller than this are called equal where that can be shown; none looks for no equality.
    pub margin: Option<f64>,
}

impl Default for SummaryOptions {
    /// Conditions compared along x, with standard intervals.
    fn default() -> Self {
        SummaryOptions {
            comparisons: Comparisons::Made(vec![]),
            intervals: Intervals::Standard,
            seeds_shared: true,
            margin: None,
        }
    }
}

impl SummaryOptions {
    /// Conditions that are only shown.
    pub fn shown_only(intervals: Intervals) -> Self {
        SummaryOptions { comparisons: Comparisons::NotMade, intervals, ..SummaryOptions::default() }
    }
}

/// Groups cells into conditions and assesses them. Seeds are the unit of every interval where there are two or more.
///
/// Fails when a point of the grid occurs twice, when a seed is no whole number, and when answers that are compared are
/// answers to different questions.
pub fn summarize(
    axes: &Axes,
    cells: &[Cell],
    baseline: Option<&Baseline>,
    options: &SummaryOptions,
) -> Result<Summary> {
    let mut evaluations: Vec<String> = Vec::new();
    for cell in cells {
        if !evaluations.contains(&cell.evaluation) {
            evaluations.push(cell.evaluation.clone());
        }
    }
    let mut conditions = Vec::new();
    for evaluation in &evaluations {
        let of_evaluation: Vec<&Cell> = cells.iter().filter(|cell| &cell.evaluation == evaluation).collect();
        for series in axes.each_series() {
            for x in &axes.x_values {
                let here = of_evaluation.iter().filter(|cell| axes.holds(&cell.point, x, series));
                let runs = here.map(|cell| Ok((*cell, seed_of(&cell.point)?))).collect::<Result<Vec<_>>>()?;
                if !runs.is_empty() {
                    conditions.push(condition(axes, evaluation, runs)?);
                }
            }
        }
    }
    let base = conditions_of(axes, baseline, &evaluations)?;
    let mut warnings = warn(axes, &evaluations, &conditions);
    change_intervals(&mut conditions, &options.intervals, &mut warnings)?;
    let name = baseline.map(|baseline| baseline.name.clone());
    let mut assessments = Vec::new();
    let pairs = match &options.comparisons {
        Comparisons::Made(pairs) => Some(pairs),
        Comparisons::NotMade => None,
    };
    for (evaluation, pairs) in pairs.iter().flat_map(|pairs| evaluations.iter().map(move |one| (one, pairs))) {
        for series in axes.each_series() {
            let group: Vec<&Condition> = conditions
                .iter()
                .filter(|condition| &condition.evaluation == evaluation && axes.in_series(&condition.point, series))
                .collect();
            let before = |one: &Condition| baseline_at(axes, &base, evaluation, axes.x_of(&one.point), series);
            let before: Vec<Option<&Condition>> = group.iter().map(|one| before(one)).collect();
            check_questions(evaluation, group.iter().chain(before.iter().flatten()))?;
            let name = name.as_deref().unwrap_or_default();
            assessments.push(assessment::assess(
                axes,
                evaluation,
                series,
                &group,
                name,
                &before,
                (pairs, options.seeds_shared),
                &mut warnings,
            )?);
        }
    }
    assessment::adjust(&mut assessments);
    if let Some(margin) = options.margin {
        assessment::look_for_equality(&mut assessments, margin)?;
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

/// Puts other intervals into the estimates of conditions with several seeds; the others keep theirs.
fn change_intervals(conditions: &mut [Condition], intervals: &Intervals, warnings: &mut Vec<String>) -> Result<()> {
    for condition in conditions.iter_mut().filter(|condition| condition.runs.len() > 1) {
        let Some(estimate) = &mut condition.estimate else { continue };
        let made = match intervals {
            Intervals::Standard => return Ok(()),
            Intervals::Bootstrap(options) => hierarchical_bootstrap(&condition.observations, options)?,
            Intervals::Published => percentile_over_seeds(&estimate.seed_means, CONFIDENCE)?,
            Intervals::TwoWay => {
                let found = two_way(&condition.observations, Range::default(), CONFIDENCE)?;
                (estimate.low, estimate.high, estimate.method) = (found.low, found.high, found.method);
                continue;
            }
        };
        warnings.extend(made.warning.filter(|warning| !warnings.contains(warning)));
        (estimate.low, estimate.high) = (made.low, made.high);
        (estimate.confidence, estimate.method) = (made.confidence, made.method);
    }
    Ok(())
}

/// The conditions of a baseline on these evaluations, in order of appearance.
fn conditions_of(axes: &Axes, baseline: Option<&Baseline>, evaluations: &[String]) -> Result<Vec<Condition>> {
    // Evaluation, point without the seed, and its runs with their seeds.
    type Group<'a> = (&'a str, Point, Vec<(&'a Cell, u64)>);
    let mut groups: Vec<Group> = Vec::new();
    for cell in baseline.iter().flat_map(|baseline| &baseline.cells) {
        if !evaluations.contains(&cell.evaluation) {
            continue;
        }
        let (run, mut point) = ((cell, seed_of(&cell.point)?), cell.point.clone());
        point.remove(SEED);
        match groups.iter_mut().find(|group| group.0 == cell.evaluation && group.1 == point) {
            Some(group) => group.2.push(run),
            None => groups.push((&cell.evaluation, point, vec![run])),
        }
    }
    groups.into_iter().map(|(evaluation, _, runs)| condition(axes, evaluation, runs)).collect()
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
fn check_questions<'a>(evaluation: &str, mut conditions: impl Iterator<Item = &'a &'a Condition>) -> Result<()> {
    let first = conditions.next();
    ensure!(
        conditions.all(|condition| first.is_none_or(|first| first.asked == condition.asked)),
        "`{evaluation}` asks different questions at different points";
        help: "give evaluations with different questions different names"
    );
    Ok(())
}

fn condition(axes: &Axes, evaluation: &str, mut cells: Vec<(&Cell, u64)>) -> Result<Condition> {
    cells.sort_by_key(|(_, seed)| *seed);
    let mut point = cells[0].0.point.clone();
    point.remove(SEED);
    if let Some(pair) = cells.windows(2).find(|pair| pair[0].1 == pair[1].1) {
        return Err(Error::input(format!("the grid has {} with seed {} twice", axes.name(&point), pair[0].1))
            .with_help("write every value of an axis once"));
    }
    let asked = |scores: &Scores| -> Vec<String> {
        scores.questions.iter().map(|question| question.question.clone()).collect()
    };
    let questions = asked(&cells[0].0.scores);
    ensure!(
        cells.iter().all(|(cell, _)| asked(&cell.scores) == questions),
        "`{evaluation}` asks different questions at different seeds";
        help: "give evaluations with different questions different names"
    );
    let runs: Vec<(u64, &Scores)> = cells.iter().map(|(cell, seed)| (*seed, &cell.scores)).collect();
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
        asked: questions,
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
