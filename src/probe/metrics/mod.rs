//! Everything that is measured of a probe on one set: rankings, rates, calibration, each number with its interval.
//!
//! A set of one class has no AUROC, and nothing here can give it one: what needs both classes takes [`TwoClasses`],
//! which one class cannot become, and [`Ranking`] has another case for such a set. In JSON the key `auroc` appears
//! only for sets with both classes.

use serde::{Deserialize, Serialize};

mod auroc;
mod bootstrap;
mod calibration;
mod classes;
mod curve;
mod quantity;
mod threshold;

pub use auroc::{Comparison, auroc, compare_delong};
pub use bootstrap::{Bootstrap, bootstrap};
pub use calibration::{Calibration, Decisions, Reliability, ReliabilityBin, calibration, decisions};
pub use classes::TwoClasses;
pub use curve::{AtFpr, RocPoint, average_precision, partial_auroc, roc, roc_corners, tpr_at_fpr};
pub use quantity::{Quantity, Rate};
pub use threshold::{AtThreshold, Quantiles, Threshold, fix_threshold, quantiles, rates_at};

use crate::data::statistics::CONFIDENCE;
use crate::error::{Result, ensure};

/// How the scored rows stand to the rows that the probe was fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// They are the same rows: the number says how well the probe fits, not how well it generalises.
    Resubstitution,
    /// Every row was scored by a probe that was fitted without the row's fold.
    OutOfFold,
    /// No row was in training.
    HeldOut,
    /// Every row was scored by a probe that was fitted without the row's source.
    LeaveOneSourceOut,
}

/// What is measured, and how sure intervals are.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Of every interval, as a share.
    pub confidence: f64,
    /// The FPRs at which the TPR is read off the set's own ROC curve, each from 0 to below 1.
    pub target_fprs: Vec<f64>,
    /// Where the partial AUROC ends.
    pub partial_up_to: f64,
    /// Number of reliability bins.
    pub bins: usize,
    /// Resamples of every bootstrap.
    pub resamples: usize,
    /// Seed of every bootstrap.
    pub seed: u64,
}

impl Default for Options {
    /// 95 %, 1 % and 5 % FPR, partial up to 10 %, 10 bins, 2000 resamples.
    fn default() -> Self {
        Options {
            confidence: CONFIDENCE,
            target_fprs: vec![0.01, 0.05],
            partial_up_to: 0.1,
            bins: 10,
            resamples: 2000,
            seed: 0,
        }
    }
}

/// The scored rows of one set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<'a> {
    /// Decision values; a higher one speaks for the positive class.
    pub scores: &'a [f64],
    /// Probabilities of the positive class, where the probe gives them.
    pub probabilities: Option<&'a [f64]>,
    /// True for the positive class.
    pub labels: &'a [bool],
    /// Rows of equal numbers are not independent: one prompt, one conversation, one parent of augmentations.
    pub groups: Option<&'a [u32]>,
}

/// Negatives with a name, to compare a set with that has none.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredNegatives<'a> {
    /// Name of the set they come from.
    pub set: &'a str,
    /// Whether they come from the source of the positives; from another source they also measure its difference.
    pub same_source: bool,
    /// Their decision values by the same probe.
    pub scores: &'a [f64],
}

/// What is known beside the set itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elsewhere<'a> {
    /// Thresholds that were fixed on named negatives.
    pub thresholds: &'a [Threshold],
    /// Used for a set of positives only.
    pub negatives: Option<DeclaredNegatives<'a>>,
}

/// Everything measured on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the set.
    pub set: String,
    /// How its rows stand to the training rows.
    pub how: How,
    /// Rows of the positive class.
    pub n_positive: usize,
    /// Rows of the negative class.
    pub n_negative: usize,
    /// Independent groups of rows, where groups were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_groups: Option<usize>,
    /// How well positives are told from negatives, where there are both.
    pub ranking: Ranking,
    /// Rates at thresholds that were fixed elsewhere.
    pub at_thresholds: Vec<AtThreshold>,
    /// Where the scores of the positives lie.
    pub scores_of_positives: Option<Quantiles>,
    /// Where the scores of the negatives lie.
    pub scores_of_negatives: Option<Quantiles>,
    /// Decisions at a probability of one half, where there are probabilities.
    pub decisions: Option<Decisions>,
    /// Where there are probabilities.
    pub calibration: Option<Calibration>,
}

/// What can be said of an order of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The set has both classes.
    TwoClasses(Box<TwoClassRanking>),
    /// The set has one class.
    OneClass(OneClass),
}

/// How well positives are told from negatives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoClassRanking {
    /// Area under the ROC curve.
    pub auroc: Quantity,
    /// Area up to [`Self::partial_up_to`], standardised: 0.5 is chance.
    pub partial_auroc: Quantity,
    /// The FPR at which the partial area ends.
    pub partial_up_to: f64,
    /// Average precision; [`Self::prevalence`] is chance.
    pub average_precision: Quantity,
    /// Share of the rows that are positive.
    pub prevalence: f64,
    /// TPR at the FPRs asked for, read off this set's own curve.
    pub tpr_at_fpr: Vec<TprAtFpr>,
}

/// TPR at one FPR with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TprAtFpr {
    /// The FPR asked for.
    pub target_fpr: f64,
    /// The TPR there.
    pub tpr: Quantity,
    /// The point of the curve.
    pub point: AtFpr,
}

/// A set that cannot be ranked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneClass {
    /// In words: `all 319 rows are positive: an AUROC needs both classes`.
    pub reason: String,
    /// The set's positives beside negatives of another set, where those were declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_declared_negatives: Option<AgainstDeclaredNegatives>,
}

/// Positives of one set ranked against negatives that were declared for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgainstDeclaredNegatives {
    /// Name of the set of the negatives.
    pub negatives: String,
    /// How many they are.
    pub n_negative: usize,
    /// `same source`, or `cross-source, also measures domain shift`.
    pub label: String,
    /// The area under that ROC curve; no property of the set alone.
    pub auroc_against_declared_negatives: Quantity,
}

/// Negatives of two sources ranked against each other. Neither holds what the probe looks for, so everything but 0.5
/// is the difference of the sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NegativeControl {
    /// Name of the set whose negatives stand in for positives.
    pub of: String,
    /// Name of the set of the other negatives.
    pub against: String,
    /// Above 0.5 where the first score higher.
    pub auroc_of_negatives: Quantity,
}

/// Measures one set.
///
/// # Errors
/// No rows; lengths that differ; a score or probability that is not what it should be; options out of range.
pub fn measure(set: &str, how: How, rows: Rows, elsewhere: Elsewhere, options: &Options) -> Result<Measured> {
    let Rows { scores, probabilities, labels, groups } = rows;
    let in_set = |error: crate::error::Error| error.context(format!("set `{set}`"));
    classes::check_rows(scores, labels, groups).map_err(in_set)?;
    ensure!(!labels.is_empty(), "set `{set}` has no rows to measure"; help: "leave it out");
    let confidence = options.confidence;
    let mut decided = probabilities.map(|p| decisions(p, labels, groups, confidence)).transpose().map_err(in_set)?;
    let ranking = match classes::reason_without_ranking(labels) {
        Some(reason) => Ranking::OneClass(one_class(reason, rows, elsewhere.negatives, confidence).map_err(in_set)?),
        None => {
            let classes = TwoClasses::new(scores, labels, groups)?;
            let (ranking, balanced) = two_classes(&classes, probabilities, options).map_err(in_set)?;
            if let Some(decided) = &mut decided {
                decided.balanced_accuracy = balanced;
            }
            Ranking::TwoClasses(Box::new(ranking))
        }
    };
    let at_thresholds =
        elsewhere.thresholds.iter().map(|threshold| rates_at(threshold, scores, labels, groups, confidence));
    let scores_of =
        |class: bool| quantiles((0..labels.len()).filter(|row| labels[*row] == class).map(|row| scores[row]));
    let n_positive = labels.iter().filter(|label| **label).count();
    Ok(Measured {
        set: set.to_string(),
        how,
        n_positive,
        n_negative: labels.len() - n_positive,
        n_groups: groups.map(quantity::count_distinct),
        ranking,
        at_thresholds: at_thresholds.collect::<Result<_>>()?,
        scores_of_positives: scores_of(true),
        scores_of_negatives: scores_of(false),
        decisions: decided,
        calibration: probabilities
            .map(|p| calibration(p, labels, groups, options.bins, confidence))
            .transpose()
            .map_err(in_set)?,
    })
}

/// Ranks negatives of one source against negatives of another, by the same probe.
///
/// # Errors
/// No negatives in one of them; a score that is not finite.
pub fn negative_control(of: DeclaredNegatives, against: DeclaredNegatives, confidence: f64) -> Result<NegativeControl> {
    for negatives in [of, against] {
        ensure!(
            !negatives.scores.is_empty(),
            "set `{}` has no negatives to compare", negatives.set; help: "name two sets with negatives"
        );
    }
    Ok(NegativeControl {
        of: of.set.to_string(),
        against: against.set.to_string(),
        auroc_of_negatives: area_of(of.scores, None, against.scores, confidence)?,
    })
}

fn two_classes(
    classes: &TwoClasses,
    probabilities: Option<&[f64]>,
    options: &Options,
) -> Result<(TwoClassRanking, Option<Quantity>)> {
    let up_to = options.partial_up_to;
    let points: Vec<AtFpr> =
        options.target_fprs.iter().map(|target| tpr_at_fpr(classes, *target)).collect::<Result<_>>()?;
    // One bootstrap for all: drawing costs more than counting.
    let mut values = vec![average_precision(classes), partial_auroc(classes, up_to)?];
    values.extend(points.iter().map(|point| point.tpr));
    let called = probabilities
        .map(|p| classes.order().iter().map(|row| calibration::is_positive(p[*row as usize])).collect::<Vec<bool>>());
    let balanced = |weights: Option<&[u32]>| called.as_ref().map(|called| classes.balanced_accuracy(called, weights));
    values.extend(balanced(None));
    let plan = Bootstrap { resamples: options.resamples, seed: options.seed, confidence: options.confidence };
    let found = bootstrap(classes, &plan, &values, |weights| {
        let mut numbers = vec![
            curve::average_precision_of(classes, Some(weights)),
            curve::partial_auroc_of(classes, Some(weights), up_to),
        ];
        numbers.extend(options.target_fprs.iter().map(|target| curve::tpr_at_fpr_of(classes, weights, *target)));
        numbers.extend(balanced(Some(weights)));
        numbers
    })?;
    let mut found = found.into_iter();
    let mut next = || found.next().expect("one quantity per value");
    let (average_precision, partial_auroc) = (next(), next());
    let at = options.target_fprs.iter().zip(points);
    let tpr_at_fpr = at.map(|(target, point)| TprAtFpr { target_fpr: *target, tpr: next(), point }).collect();
    let ranking = TwoClassRanking {
        auroc: auroc(classes, options.confidence)?,
        partial_auroc,
        partial_up_to: up_to,
        average_precision,
        prevalence: classes.positives() as f64 / (classes.positives() + classes.negatives()) as f64,
        tpr_at_fpr,
    };
    Ok((ranking, found.next()))
}

fn one_class(reason: String, rows: Rows, negatives: Option<DeclaredNegatives>, confidence: f64) -> Result<OneClass> {
    let against = match negatives.filter(|_| rows.labels.iter().all(|label| *label)) {
        None => None,
        Some(negatives) => {
            let set = negatives.set;
            ensure!(
                !negatives.scores.is_empty(),
                "the declared negatives of `{set}` are none"; help: "name a set with negatives"
            );
            let source = if negatives.same_source { "same source" } else { "cross-source, also measures domain shift" };
            Some(AgainstDeclaredNegatives {
                negatives: set.to_string(),
                n_negative: negatives.scores.len(),
                label: source.to_string(),
                auroc_against_declared_negatives: area_of(rows.scores, rows.groups, negatives.scores, confidence)?,
            })
        }
    };
    Ok(OneClass { reason, against_declared_negatives: against })
}

/// The AUROC of these scores against those, as [`auroc()`] has it; each of those is a group of its own.
///
/// # Errors
/// No score on one side; one that is not finite.
pub fn area_of(positives: &[f64], groups: Option<&[u32]>, negatives: &[f64], confidence: f64) -> Result<Quantity> {
    let scores = [positives, negatives].concat();
    let labels: Vec<bool> = (0..scores.len()).map(|row| row < positives.len()).collect();
    let groups = groups.map(|groups| {
        let mut names = groups.to_vec();
        names.sort_unstable();
        names.dedup();
        let place = |group: &u32| names.partition_point(|name| name < group) as u32;
        let others = (0..negatives.len()).map(|row| (names.len() + row) as u32);
        groups.iter().map(place).chain(others).collect::<Vec<u32>>()
    });
    auroc(&TwoClasses::new(&scores, &labels, groups.as_deref())?, confidence)
}

#[cfg(test)]
mod tests;
