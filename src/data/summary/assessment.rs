//! What the intervals of one evaluation allow to be said: trend, ends, neighbours, baseline; adjusted for being several.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Axes, Condition, label, same};
use crate::data::statistics::{
    CONFIDENCE, Correlation, Design, Difference, Direction, Equivalence, Interval, Observation, TrendPoint, compare,
    equivalence, holm, paired, spearman, suitable_design, trend,
};
use crate::error::Result;

/// What can be said of one evaluation (and series).
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    /// Which evaluation.
    pub evaluation: String,
    /// Which series, where the grid has a second axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Value>,
    /// How the score follows x; none when x is no number or has one value.
    pub dose: Option<Dose>,
    /// The greatest x against the least; the one comparison that was meant beforehand, so not adjusted.
    pub highest_against_lowest: Option<Comparison>,
    /// Each x against the one before it; for a numeric x.
    pub neighbours: Vec<Comparison>,
    /// Each x against the first one; for an x that is no number.
    pub against_first: Vec<Comparison>,
    /// Each x against the baseline.
    pub against_baseline: Vec<Comparison>,
    /// Pairs of x that the script names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<Comparison>,
}

/// How a score follows a numeric x.
#[derive(Clone, Debug, Serialize)]
pub struct Dose {
    /// Spearman's rank correlation of x and the means of runs.
    pub rank_correlation_over_runs: Option<Correlation>,
    /// Spearman's rank correlation of x and the means of conditions.
    pub rank_correlation_over_conditions: Option<Correlation>,
    /// Where the means of conditions go.
    pub direction: Direction,
    /// Whether they go one way or stay.
    pub monotone: bool,
    /// Change of the score per unit of x.
    pub slope: f64,
    /// t over the seeds' slopes; missing with one seed.
    pub slope_interval: Option<Interval>,
    /// How the slope's interval was made.
    pub slope_method: String,
    /// Each x with the mean of its runs.
    #[serde(skip)]
    pub means: Vec<(f64, f64)>,
}

/// What an adjusted comparison allows to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The first is higher.
    Higher,
    /// The first is lower.
    Lower,
    /// Nothing; least of all that they are equal.
    Nothing,
}

/// One condition against another.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The x whose score comes first.
    pub of: Value,
    /// The x, or the name of the baseline, whose score is subtracted.
    pub against: Value,
    /// The difference with its interval and its own p.
    #[serde(flatten)]
    pub difference: Difference,
    /// p after Holm's correction over `comparisons`.
    pub adjusted_p: f64,
    /// How many comparisons were corrected for: those of this kind over all evaluations and series.
    pub comparisons: usize,
    /// What may be claimed at 5 % after the correction.
    pub claim: Claim,
    /// Whether the two are equal up to a margin, where that was asked; not corrected for other comparisons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equality: Option<Equivalence>,
}

/// Assesses the conditions of one evaluation and series, in the order of x.
pub(super) fn assess(
    axes: &Axes,
    evaluation: &str,
    series: Option<&Value>,
    conditions: &[&Condition],
    baseline_name: &str,
    baseline: &[Option<&Condition>],
    (pairs, seeds_shared): (&[(Value, Value)], bool),
    warnings: &mut Vec<String>,
) -> Result<Assessment> {
    let is_scored = |condition: &&Condition| condition.estimate.is_some();
    let scored: Vec<&Condition> = conditions.iter().copied().filter(is_scored).collect();
    let x = |condition: &Condition| axes.x_of(&condition.point).clone();
    let mut family = |pairs: Vec<(Value, &Condition, Value, &Condition)>| {
        let mut made = Vec::new();
        for (of, a, against, b) in pairs {
            match difference(&a.observations, &b.observations, seeds_shared) {
                Ok(difference) => made.push((of, against, difference)),
                Err(error) => warnings.push(format!(
                    "`{evaluation}`: {} and {} could not be compared: {}",
                    label(&of),
                    label(&against),
                    error.message
                )),
            }
        }
        unadjusted(made)
    };
    let (mut neighbours, mut against_first, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    if axes.numeric {
        neighbours = family(scored.windows(2).map(|pair| (x(pair[1]), pair[1], x(pair[0]), pair[0])).collect());
        if let [first, .., last] = scored.as_slice() {
            ends = family(vec![(x(last), last, x(first), first)]);
        }
    } else if let [first, others @ ..] = scored.as_slice() {
        against_first = family(others.iter().map(|other| (x(other), *other, x(first), *first)).collect());
    }
    let name = Value::String(baseline_name.to_string());
    let before = conditions.iter().copied().zip(baseline).filter(|(one, _)| is_scored(one));
    let before = before.filter_map(|(one, base)| Some((one, base.filter(is_scored)?)));
    let against_baseline = family(before.map(|(one, base)| (x(one), one, name.clone(), base)).collect());
    let at = |wanted: &Value| scored.iter().copied().find(|one| same(axes.x_of(&one.point), wanted));
    let named = pairs.iter().filter_map(|(of, against)| Some((of.clone(), at(of)?, against.clone(), at(against)?)));
    let planned = family(named.collect());
    Ok(Assessment {
        evaluation: evaluation.to_string(),
        series: series.cloned(),
        dose: if axes.numeric { dose(axes, &scored)? } else { None },
        highest_against_lowest: ends.pop(),
        neighbours,
        against_first,
        against_baseline,
        planned,
    })
}

/// Paired by seed where both have the same seeds and these mean the same, else Welch; where one of them is a single run, by question and, if the
/// other has seeds, over them too: the less certain of the two stands, so that a claim holds for other questions and for
/// other seeds.
fn difference(a: &[Observation], b: &[Observation], seeds_shared: bool) -> Result<Difference> {
    let design = suitable_design(a, b, seeds_shared);
    if design != Design::PairedByQuestion {
        let over_seeds = compare(a, b, design, CONFIDENCE)?;
        // Seeds that agree to the last digit do not tell how far apart seeds can be; questions do.
        if over_seeds.standard_error > 0.0 || over_seeds.mean == 0.0 {
            return Ok(over_seeds);
        }
    }
    // A question without any score on one side has no pair; that answers are missing is counted and warned about.
    let scored = |group: &[Observation]| -> BTreeSet<u32> {
        group.iter().filter(|observation| observation.score.is_ok()).map(|observation| observation.question).collect()
    };
    let both: BTreeSet<u32> = scored(a).intersection(&scored(b)).copied().collect();
    let of_both = |group: &[Observation]| -> Vec<Observation> {
        group.iter().filter(|observation| both.contains(&observation.question)).cloned().collect()
    };
    let by_question = compare(&of_both(a), &of_both(b), Design::PairedByQuestion, CONFIDENCE)?;
    match over_seeds(a, b)? {
        Some(over_seeds) if over_seeds.p > by_question.p => Ok(over_seeds),
        _ => Ok(by_question),
    }
}

/// t over the seeds of `a`, each against the mean of the one run `b`; none when `a` has no two seeds.
fn over_seeds(a: &[Observation], b: &[Observation]) -> Result<Option<Difference>> {
    let means = |group: &[Observation]| -> Vec<f64> {
        let mut seeds = BTreeMap::<u64, (f64, f64)>::new();
        for (seed, score) in group.iter().filter_map(|one| Some((one.seed, one.score.as_ref().ok()?))) {
            let (sum, count) = seeds.entry(seed).or_default();
            *sum += score;
            *count += 1.0;
        }
        seeds.into_values().map(|(sum, count)| sum / count).collect()
    };
    let (means, base) = (means(a), means(b));
    let ([_, _, ..], [base]) = (means.as_slice(), base.as_slice()) else { return Ok(None) };
    let against = vec![*base; means.len()];
    let method = format!("t over {} seeds against one run", means.len());
    Ok(Some(Difference { method, ..paired(&means, &against, CONFIDENCE)? }))
}

/// Comparisons whose family is not known yet: as if each were the only one.
fn unadjusted(made: Vec<(Value, Value, Difference)>) -> Vec<Comparison> {
    let comparison = |(of, against, difference): (Value, Value, Difference)| {
        let (adjusted_p, claim) = (difference.p, claim(&difference, difference.p));
        Comparison { of, against, difference, adjusted_p, comparisons: 1, claim, equality: None }
    };
    made.into_iter().map(comparison).collect()
}

/// Corrects for several comparisons: all of one kind, over all evaluations and series, are one family.
pub(super) fn adjust(assessments: &mut [Assessment]) {
    let kinds: [fn(&mut Assessment) -> &mut Vec<Comparison>; 4] = [
        |one| &mut one.neighbours,
        |one| &mut one.against_first,
        |one| &mut one.against_baseline,
        |one| &mut one.planned,
    ];
    for kind in kinds {
        let mut family: Vec<&mut Comparison> = assessments.iter_mut().flat_map(kind).collect();
        let adjusted = holm(&family.iter().map(|one| one.difference.p).collect::<Vec<_>>());
        let comparisons = family.len();
        for (one, adjusted_p) in family.iter_mut().zip(adjusted) {
            one.claim = claim(&one.difference, adjusted_p);
            (one.adjusted_p, one.comparisons) = (adjusted_p, comparisons);
        }
    }
}

/// Tests the comparisons with the first x, the baseline and those that were planned for equality up to `margin`.
pub(super) fn look_for_equality(assessments: &mut [Assessment], margin: f64) -> Result<()> {
    for one in assessments {
        for comparison in one.against_first.iter_mut().chain(&mut one.against_baseline).chain(&mut one.planned) {
            comparison.equality = Some(equivalence(&comparison.difference, margin, CONFIDENCE)?);
        }
    }
    Ok(())
}

fn claim(difference: &Difference, adjusted_p: f64) -> Claim {
    match adjusted_p < 1.0 - CONFIDENCE {
        true if difference.mean > 0.0 => Claim::Higher,
        true => Claim::Lower,
        false => Claim::Nothing,
    }
}

fn dose(axes: &Axes, conditions: &[&Condition]) -> Result<Option<Dose>> {
    let runs: Vec<TrendPoint> = conditions
        .iter()
        .flat_map(|condition| {
            let dose = axes.x_of(&condition.point).as_f64().unwrap_or(f64::NAN);
            condition.runs.iter().filter_map(move |run| Some(TrendPoint { dose, seed: run.seed, score: run.mean? }))
        })
        .collect();
    // A seed with one dose has no slope.
    let sloped = |seed: u64| runs.iter().filter(|run| run.seed == seed).count() >= 2;
    let kept: Vec<TrendPoint> = runs.iter().copied().filter(|run| sloped(run.seed)).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let trend = trend(&kept, CONFIDENCE)?;
    let (doses, means): (Vec<f64>, Vec<f64>) = trend.means.iter().copied().unzip();
    Ok(Some(Dose {
        rank_correlation_over_runs: trend.correlation,
        rank_correlation_over_conditions: spearman(&doses, &means)?,
        direction: trend.direction,
        monotone: trend.direction != Direction::Mixed,
        slope: trend.slope,
        slope_interval: trend.slope_interval,
        slope_method: trend.method,
        means: trend.means,
    }))
}
