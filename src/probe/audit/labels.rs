//! What tells a label without reading the concept: copies, groups, the source, the order of the rows.

use std::collections::{BTreeMap, BTreeSet};

use super::duplicates::finding;
use super::matches::{Match, is_or_are, number, score, sort};
use super::shift::area;
use super::{Finding, Kind, Options, Part, Severity, Shift};

/// Fewer rows than this, or fewer than a quarter of it in a class, say nothing about order.
const LEAST_ROWS: usize = 20;
/// Up to here features do not tell a source from others. Well below what counts as a shift, because the difference of
/// means is a lower bound of what a fitted probe can tell.
const INDISTINCT: f64 = 0.6;

/// Copies and near copies with different labels.
pub(super) fn conflicts(parts: &[Part<'_>], mut found: Vec<Match>, options: &Options) -> Option<Finding> {
    sort(&mut found);
    // The same two rows can be alike by their features and by their texts.
    let mut seen = BTreeSet::new();
    found.retain(|pair| seen.insert((pair.training, pair.other)));
    let worst = found.first()?.score;
    let rows: BTreeSet<_> = found.iter().map(|pair| pair.training).collect();
    let verb = if rows.len() == 1 { "has" } else { "have" };
    let kind = if worst >= 1.0 { "copy or near copy" } else { "near copy" };
    let message = format!("{} {verb} a {kind} with the other label", number(rows.len(), "training row"));
    Some(finding(parts, Kind::LabelConflicts, Severity::Severe, message, &found, options))
}

/// Groups on both sides.
pub(super) fn groups(parts: &[Part<'_>]) -> Option<Finding> {
    // Of each group its training rows, and how many rows it is tested on.
    let mut sides: BTreeMap<&str, Sides> = BTreeMap::new();
    for (source, part) in parts.iter().enumerate() {
        let Some(groups) = part.source.groups else { continue };
        let name = |row: &usize| groups[*row].as_str();
        for row in part.training.iter().filter(|row| !name(row).is_empty()) {
            sides.entry(name(row)).or_default().0.push((source, *row));
        }
        for row in part.evaluation.iter().filter(|row| !name(row).is_empty()) {
            sides.entry(name(row)).or_default().1 += 1;
        }
    }
    sides.retain(|_, (training, evaluation)| !training.is_empty() && *evaluation > 0);
    let first = sides.keys().next()?;
    let mut rows: Vec<(usize, usize)> = sides.values().flat_map(|(training, _)| training).copied().collect();
    rows.sort_unstable();
    let evaluation: usize = sides.values().map(|(_, evaluation)| evaluation).sum();
    let message = format!(
        "{} {} on both sides, `{first}` for one: {} and {}",
        number(sides.len(), "group"),
        is_or_are(sides.len()),
        number(rows.len(), "training row"),
        number(evaluation, "evaluation row")
    );
    let rows = rows.into_iter().map(|(source, row)| parts[source].place(row)).collect();
    Some(Finding { rows, ..Finding::new(Kind::SharedGroups, Severity::Severe, message) })
}

/// Sources of one class, in training and in evaluation.
pub(super) fn classes(parts: &[Part<'_>], shift: &[Shift], options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let training: Vec<Counts> = parts.iter().map(|part| Counts::of(part, &part.training)).collect();
    let pool = training.iter().fold(Counts::default(), |sum, one| sum.plus(one));
    if let Some(label) = pool.only() {
        let message =
            format!("all {} have label {}: there is nothing to learn", pool.rows("training"), u8::from(label));
        findings.push(Finding::new(Kind::OneClass, Severity::Severe, message));
    }
    for (part, counts) in parts.iter().zip(&training) {
        let others = pool.minus(counts);
        // A source that is the whole pool is no shortcut, and neither is one of the only class there is.
        if let Some(label) = counts.majority(options.minority)
            && others.positive + others.negative > 0
            && others.majority(options.minority) != Some(label)
        {
            findings.push(source_equals_label(part, counts, label, shift));
        }
    }
    for part in parts {
        let tested: Vec<usize> = part.evaluation.iter().chain(&part.both).copied().collect();
        let counts = Counts::of(part, &tested);
        if let Some(label) = counts.only() {
            let (rows, name) = (counts.rows("evaluation"), part.source.name);
            let message = format!("all {rows} of `{name}` have label {}: AUROC is undefined there", u8::from(label));
            findings.push(Finding::new(Kind::OneClass, Severity::Note, message));
        }
    }
    findings
}

/// Row numbers that tell the label: sorted or blocked classes.
pub(super) fn order(parts: &[Part<'_>]) -> Vec<Finding> {
    parts.iter().filter_map(order_of_source).collect()
}

fn source_equals_label(part: &Part<'_>, counts: &Counts, label: bool, shift: &[Shift]) -> Finding {
    let name = part.source.name;
    let seen = shift.iter().find(|shift| shift.source == name).and_then(|shift| shift.domain_auroc);
    // What features cannot tell apart, a probe cannot use; without features the worst is assumed.
    let severity = match seen {
        Some(auroc) if auroc <= INDISTINCT => Severity::Warning,
        _ => Severity::Severe,
    };
    let tell = match seen {
        Some(auroc) => format!(", and its features tell it from the other sources with AUROC {}", score(auroc)),
        None => String::new(),
    };
    let class = if label { counts.positive } else { counts.negative };
    let share = if counts.only().is_some() { "all".into() } else { format!("{class} of the") };
    let message = format!(
        "source equals label: {share} {} of `{name}` have label {}{tell}",
        counts.rows("training"),
        u8::from(label)
    );
    Finding::new(Kind::SourceEqualsLabel, severity, message)
}

fn order_of_source(part: &Part<'_>) -> Option<Finding> {
    let labels: Vec<bool> = part.training.iter().filter_map(|row| part.label(*row)).collect();
    let places = |class: bool| -> Vec<f64> {
        let of_class = labels.iter().enumerate().filter(|(_, label)| **label == class);
        of_class.map(|(place, _)| place as f64).collect()
    };
    let (positive, negative) = (places(true), places(false));
    let (m, n) = (positive.len() as f64, negative.len() as f64);
    if labels.len() < LEAST_ROWS || positive.len().min(negative.len()) < LEAST_ROWS / 4 {
        return None;
    }
    let area = area(&positive, &negative)?;
    let deviation = (area - 0.5) / ((m + n + 1.0) / (12.0 * m * n)).sqrt();
    // Wald and Wolfowitz: the number of runs of equal labels, which is small where classes lie in blocks.
    let runs = 1 + labels.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let expected = 1.0 + 2.0 * m * n / (m + n);
    let variance = (expected - 1.0) * (expected - 2.0) / (m + n - 1.0);
    let blocks = (runs as f64 - expected) / variance.sqrt();
    let (trend, blocked) =
        (deviation.abs() > 4.0 && (area - 0.5).abs() > 0.2, blocks < -5.0 && 2 * runs < expected as usize);
    (trend || blocked).then(|| {
        let message = format!(
            "the order of the {} of `{}` tells the label: AUROC {} of the row number, {} of equal labels where {:.0} \
             are expected",
            number(labels.len(), "training row"),
            part.source.name,
            score(area),
            number(runs, "run"),
            expected
        );
        Finding::new(Kind::OrderEqualsLabel, Severity::Warning, message)
    })
}

/// Training rows, by source and row, and the number of evaluation rows.
type Sides = (Vec<(usize, usize)>, usize);

/// Rows of each class.
#[derive(Clone, Copy, Default)]
struct Counts {
    positive: usize,
    negative: usize,
}

impl Counts {
    fn of(part: &Part<'_>, rows: &[usize]) -> Self {
        let positive = rows.iter().filter(|row| part.label(**row) == Some(true)).count();
        let negative = rows.iter().filter(|row| part.label(**row) == Some(false)).count();
        Counts { positive, negative }
    }
    fn plus(self, other: &Counts) -> Self {
        Counts { positive: self.positive + other.positive, negative: self.negative + other.negative }
    }
    fn minus(self, other: &Counts) -> Self {
        Counts { positive: self.positive - other.positive, negative: self.negative - other.negative }
    }
    /// The class of all rows.
    fn only(&self) -> Option<bool> {
        (self.positive.min(self.negative) == 0 && self.positive + self.negative > 0).then_some(self.positive > 0)
    }
    /// The class of all rows, or of all but less than the share `minority`.
    fn majority(&self, minority: f64) -> Option<bool> {
        let all = self.positive + self.negative;
        let few = self.positive.min(self.negative) as f64;
        (all > 0 && (few == 0.0 || few < minority * all as f64)).then_some(self.positive > self.negative)
    }
    fn rows(&self, role: &str) -> String {
        number(self.positive + self.negative, &format!("{role} row"))
    }
}
