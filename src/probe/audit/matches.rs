//! Pairs of a training row and a row that it is a copy of, as the checks hand them on.

use std::collections::BTreeSet;

use super::{Options, Pair, Part, Place};

/// A row: number of its source, number of the row there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct At {
    pub source: usize,
    pub row: usize,
}

/// Two rows that are too much alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Match {
    pub training: At,
    /// An evaluation row, or an earlier training row.
    pub other: At,
    /// From 0 to 1.
    pub score: f64,
}

impl Match {
    /// Whether both labels are known and differ.
    pub fn conflicts(&self, parts: &[Part<'_>]) -> bool {
        self.labels_agree(parts) == Some(false)
    }

    fn labels_agree(&self, parts: &[Part<'_>]) -> Option<bool> {
        let label = |at: At| parts[at.source].label(at.row);
        Some(label(self.training)? == label(self.other)?)
    }
}

/// The training rows of one source that are copies of rows of another list, and the first that is none.
pub(super) struct Near {
    /// Number of the training rows' source.
    pub training: usize,
    /// Number of the source of the evaluation rows; none where training rows of all sources are compared.
    pub evaluation: Option<usize>,
    /// One per training row, its best, best first.
    pub matches: Vec<Match>,
    /// Best score of a training row that stays below the limit.
    pub next: Option<f64>,
}

impl Near {
    /// Parts what reaches `limit` from what does not. `best` holds one match per training row.
    pub fn from_best(training: usize, evaluation: Option<usize>, mut best: Vec<Match>, limit: f64) -> Self {
        sort(&mut best);
        let found = best.partition_point(|found| found.score >= limit);
        let next = best.get(found).map(|found| found.score);
        best.truncate(found);
        Near { training, evaluation, matches: best, next }
    }

    /// `0.48 to 0.87, the next has 0.009; labels agree in 18 of 18 pairs`.
    pub fn range(&self, parts: &[Part<'_>]) -> String {
        let (Some(best), Some(worst)) = (self.matches.first(), self.matches.last()) else { return String::new() };
        let mut range = score(worst.score);
        if score(best.score) != range {
            range = format!("{range} to {}", score(best.score));
        }
        if let Some(next) = self.next {
            range += &format!(", the next has {}", score(next));
        }
        let known: Vec<bool> = self.matches.iter().filter_map(|found| found.labels_agree(parts)).collect();
        if !known.is_empty() {
            let agree = known.iter().filter(|agree| **agree).count();
            range += &format!("; labels agree in {agree} of {}", number(known.len(), "pair"));
        }
        range
    }
}

/// Best first; equal ones in row order.
pub(super) fn sort(matches: &mut [Match]) {
    matches.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| (a.training, a.other).cmp(&(b.training, b.other))));
}

/// The first pairs of a list, as a finding shows them.
pub(super) fn pairs(parts: &[Part<'_>], matches: &[Match], options: &Options) -> Vec<Pair> {
    let pair = |found: &Match| Pair {
        score: found.score,
        training: place(parts, found.training),
        other: place(parts, found.other),
    };
    matches.iter().take(options.pairs).map(pair).collect()
}

/// The training rows of a list, each once, in the order of sources and rows.
pub(super) fn training_rows(parts: &[Part<'_>], matches: &[Match]) -> Vec<Place> {
    let rows: BTreeSet<At> = matches.iter().map(|found| found.training).collect();
    rows.into_iter().map(|at| place(parts, at)).collect()
}

/// `1 row`, `2 rows`.
pub(super) fn number(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The verb after a number of things.
pub(super) fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Two significant digits below 0.1, else two decimals, so that 0.0091 and 0.87 both can be read; 1 only for 1.
pub(super) fn score(value: f64) -> String {
    if value.abs() >= 0.0995 {
        let rounded = format!("{value:.2}");
        return if rounded == "1.00" && value < 1.0 { format!("{value:.4}") } else { rounded };
    }
    let digits = if value == 0.0 { 0 } else { (1.0 - value.abs().log10().floor()).clamp(2.0, 6.0) as usize };
    format!("{value:.digits$}")
}

fn place(parts: &[Part<'_>], at: At) -> Place {
    parts[at.source].place(at.row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_written_so_that_small_and_near_equal_ones_can_be_told() {
        let written = [0.87, 0.0091, 0.5, 0.99994, 1.0, 0.0, -0.25].map(score);
        assert_eq!(written, ["0.87", "0.0091", "0.50", "0.9999", "1.00", "0", "-0.25"]);
    }
}
