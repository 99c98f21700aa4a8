//! Scores of both classes, ranked: what everything that is called a ranking needs, and what one class never becomes.

use super::quantity::count_distinct;
use crate::error::{Error, Result, bail, ensure};

/// Scores with labels of both classes. Only a set that has both can become one, so no function that takes this can
/// be asked for the ranking of one class.
#[derive(Clone, Debug)]
pub struct TwoClasses<'a> {
    scores: &'a [f64],
    labels: &'a [bool],
    groups: Option<&'a [u32]>,
    /// Rows from the highest score to the lowest.
    order: Vec<u32>,
    /// For each place of the order: whether the row is positive, and whether the next has a lower score.
    places: Vec<(bool, bool)>,
    positives: usize,
}

/// What lies at or above one threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Above {
    /// The threshold: the lowest score that is flagged.
    pub score: f64,
    /// Positives flagged.
    pub positives: u64,
    /// Negatives flagged.
    pub negatives: u64,
}

impl<'a> TwoClasses<'a> {
    /// Ranks the rows. `labels[i]` is true for the positive class, a higher score speaks for it; rows of equal
    /// `groups[i]` are not independent of each other.
    ///
    /// # Errors
    /// One class only; lengths that differ; a score that is not finite.
    pub fn new(scores: &'a [f64], labels: &'a [bool], groups: Option<&'a [u32]>) -> Result<Self> {
        check_rows(scores, labels, groups)?;
        if let Some(reason) = reason_without_ranking(labels) {
            return Err(
                Error::input(reason).with_help("measure rates at a threshold that was fixed on named negatives")
            );
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        let score = |place: usize| scores[order[place] as usize];
        // Compared as numbers: 0 and −0 tie, though they are sorted apart.
        let ends_tie = |place: usize| place + 1 == order.len() || score(place) != score(place + 1);
        let places = (0..order.len()).map(|place| (labels[order[place] as usize], ends_tie(place))).collect();
        let positives = labels.iter().filter(|label| **label).count();
        Ok(TwoClasses { scores, labels, groups, order, places, positives })
    }

    /// Number of rows of the positive class, at least 1.
    pub fn positives(&self) -> usize {
        self.positives
    }
    /// Number of rows of the negative class, at least 1.
    pub fn negatives(&self) -> usize {
        self.labels.len() - self.positives
    }
    /// Rows from the highest score to the lowest.
    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }
    /// True for the positive class.
    pub(super) fn label(&self, row: u32) -> bool {
        self.labels[row as usize]
    }
    /// The group of a row; every row is its own where none were given.
    pub(super) fn group(&self, row: u32) -> u32 {
        self.groups.map_or(row, |groups| groups[row as usize])
    }
    /// Whether some group has several rows.
    pub(super) fn is_grouped(&self) -> bool {
        self.groups.is_some_and(|groups| count_distinct(groups) < groups.len())
    }

    /// Calls `see` at every threshold, from the highest score down. `weights[place]` says how often the row at that
    /// place of the order counts; once where there are none.
    pub(super) fn descend(&self, weights: Option<&[u32]>, mut see: impl FnMut(Above)) {
        let (mut positives, mut negatives) = (0, 0);
        for (place, (positive, ends_tie)) in self.places.iter().enumerate() {
            let weight = weights.map_or(1, |weights| u64::from(weights[place]));
            positives += weight * u64::from(*positive);
            negatives += weight * u64::from(!*positive);
            if *ends_tie {
                see(Above { score: self.scores[self.order[place] as usize], positives, negatives });
            }
        }
    }

    /// Mean of the shares of positives and negatives that are called rightly, `called` in the order of the scores.
    pub(super) fn balanced_accuracy(&self, called: &[bool], weights: Option<&[u32]>) -> f64 {
        let (mut right_positives, mut right_negatives) = (0u64, 0u64);
        for (place, ((positive, _), called)) in self.places.iter().zip(called).enumerate() {
            let weight = weights.map_or(1, |weights| u64::from(weights[place]));
            right_positives += weight * u64::from(*positive && *called);
            right_negatives += weight * u64::from(!*positive && !*called);
        }
        let (positives, negatives) = self.totals(weights);
        (right_positives as f64 / positives + right_negatives as f64 / negatives) / 2.0
    }

    /// Positives and negatives with their weights.
    pub(super) fn totals(&self, weights: Option<&[u32]>) -> (f64, f64) {
        let Some(weights) = weights else { return (self.positives() as f64, self.negatives() as f64) };
        let (mut positives, mut all) = (0u64, 0u64);
        for ((positive, _), weight) in self.places.iter().zip(weights) {
            positives += u64::from(*weight) * u64::from(*positive);
            all += u64::from(*weight);
        }
        (positives as f64, (all - positives) as f64)
    }
}

/// Why these labels allow no ranking: `all 319 rows are positive: an AUROC needs both classes`.
pub(super) fn reason_without_ranking(labels: &[bool]) -> Option<String> {
    let positives = labels.iter().filter(|label| **label).count();
    let class = match (positives, labels.len()) {
        (0, 0) => return Some("there are no rows: an AUROC needs both classes".to_string()),
        (0, _) => "negative",
        (positives, rows) if positives == rows => "positive",
        _ => return None,
    };
    Some(match labels.len() {
        1 => format!("the only row is {class}: an AUROC needs both classes"),
        rows => format!("all {rows} rows are {class}: an AUROC needs both classes"),
    })
}

/// Refuses lengths that differ and scores that are not finite.
pub(super) fn check_rows(scores: &[f64], labels: &[bool], groups: Option<&[u32]>) -> Result<()> {
    ensure!(scores.len() == labels.len(), "found {} scores and {} labels", scores.len(), labels.len());
    ensure!(u32::try_from(scores.len()).is_ok(), "{} rows are more than can be ranked", scores.len());
    if let Some(groups) = groups {
        ensure!(groups.len() == labels.len(), "found {} groups and {} labels", groups.len(), labels.len());
    }
    check_finite(scores)
}

/// Refuses scores that are not finite.
pub(super) fn check_finite(scores: &[f64]) -> Result<()> {
    if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
        bail!("the score of row {row} is {}", scores[row]; help: "look for a feature that is not finite");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_never_becomes_two() {
        let refused = |labels: &[bool]| TwoClasses::new(&vec![0.5; labels.len()], labels, None).unwrap_err().message;
        assert_eq!(refused(&[true; 319]), "all 319 rows are positive: an AUROC needs both classes");
        assert_eq!(refused(&[false; 2]), "all 2 rows are negative: an AUROC needs both classes");
        assert_eq!(refused(&[true]), "the only row is positive: an AUROC needs both classes");
        assert_eq!(refused(&[]), "there are no rows: an AUROC needs both classes");
    }

    #[test]
    fn what_cannot_be_ranked_is_refused() {
        let message = |scores: &[f64], labels: &[bool], groups: Option<&[u32]>| {
            TwoClasses::new(scores, labels, groups).unwrap_err().message
        };
        assert_eq!(message(&[0.1, f64::NAN], &[true, false], None), "the score of row 1 is NaN");
        assert_eq!(message(&[0.1], &[true, false], None), "found 1 scores and 2 labels");
        assert_eq!(message(&[0.1, 0.2], &[true, false], Some(&[1])), "found 1 groups and 2 labels");
    }

    #[test]
    fn ties_are_one_threshold() {
        let classes = TwoClasses::new(&[0.0, 1.0, -0.0, 2.0], &[true, true, false, false], None).unwrap();
        let mut seen = Vec::new();
        classes.descend(None, |above| seen.push((above.positives, above.negatives)));
        assert_eq!(seen, [(0, 1), (1, 1), (2, 2)]);
        assert_eq!((classes.positives(), classes.negatives()), (2, 2));
    }
}
