//! The audit before a probe is fitted: leaked, copied, mislabelled and shifted rows, before they flatter a number.
//!
//! Three questions are asked of the training and evaluation rows of any number of sources. Has the probe seen what it
//! is tested on (`duplicates`, `cosine`, `shingles`, `labels`)? Is there a shortcut from something else than the
//! concept to the label (`labels`, `columns`)? Do the sources lie in the same place at all (`shift`, `unseen`)?

mod columns;
mod cosine;
mod duplicates;
mod finding;
mod labels;
mod matches;
mod moments;
mod shift;
mod shingles;
mod text;
mod unseen;

use std::collections::BTreeSet;

use serde::Serialize;

pub use finding::{Finding, Kind, Pair, Place, Severity};
pub use shift::Shift;
pub use unseen::{Unseen, weight_on_unseen};

use crate::ensure;
use crate::error::{Error, Result};
use crate::probe::matrix::Matrix;

/// The rows of one origin, and which of them a probe is fitted on and tested on. What is `None` is not audited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// A name that no other source has.
    pub name: &'a str,
    /// Features; all sources have the same columns.
    pub matrix: Option<&'a Matrix>,
    /// True where a row is of the positive class.
    pub labels: Option<&'a [bool]>,
    /// What the features were computed from.
    pub texts: Option<&'a [String]>,
    /// Families of rows that belong on one side: a prompt, a parent of augmentations. Equal names are equal groups in
    /// all sources; an empty name is no group.
    pub groups: Option<&'a [String]>,
    /// Numbers of the rows that the probe is fitted on, from 0.
    pub training: &'a [usize],
    /// Numbers of the rows that it is tested on. Rows that are scored out of fold are training rows here.
    pub evaluation: &'a [usize],
}

/// From where on something is a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// Words of a shingle.
    pub shingle: usize,
    /// Texts are similar when they share at least this much of the shingles of the one that has fewer; 0 to 1.
    pub containment: f64,
    /// Rows are near copies at this cosine (0 to 1) of their features, centred and scaled within their source. The
    /// limit rises to median + 6 robust standard deviations of how alike evaluation rows are among themselves, and
    /// falls to as low as 0.4 where a gap of 0.1 parts a row from all that are less alike.
    pub cosine: f64,
    /// Copies with different labels are a conflict at this score or higher; below, they may be contrast pairs: one
    /// scenario, two behaviours.
    pub conflict: f64,
    /// A source whose smaller class has less than this share of the rows counts as of one class.
    pub minority: f64,
    /// More, or less than one part in, this many times the active features per row are a shift.
    pub density_ratio: f64,
    /// A lower correlation of per-feature means is a shift.
    pub correlation: f64,
    /// A higher AUROC of source against other training rows is a shift.
    pub domain_auroc: f64,
    /// Pairs that are kept of each finding.
    pub pairs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            shingle: 8,
            containment: 0.2,
            cosine: 0.6,
            conflict: 0.8,
            minority: 0.02,
            density_ratio: 2.0,
            correlation: 0.5,
            domain_auroc: 0.9,
            pairs: 10,
        }
    }
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Worst first.
    pub findings: Vec<Finding>,
    /// Where each source with features lies, beside the training rows of the other sources.
    pub shift: Vec<Shift>,
    /// Number of sources.
    pub sources: usize,
    /// Number of training rows, those in both roles included.
    pub training: usize,
    /// Number of evaluation rows, those in both roles included.
    pub evaluation: usize,
    /// What was asked for.
    pub options: Options,
}

impl Audit {
    /// Findings of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Refuses to go on after a severe finding.
    ///
    /// # Errors
    /// An input error with the first severe finding, and what to do about it.
    pub fn refuse(&self) -> Result<()> {
        let Some(finding) = self.findings.iter().find(|finding| finding.severity == Severity::Severe) else {
            return Ok(());
        };
        let more = match self.count(Severity::Severe) - 1 {
            0 => String::new(),
            more => format!(" (and {} more)", matches::number(more, "severe finding")),
        };
        Err(Error::input(format!("the audit before fitting found that {}{more}", finding.message))
            .with_help(finding.kind.help()))
    }
}

/// Audits the training and evaluation rows of `sources` against each other. Equal inputs give equal findings.
///
/// # Errors
/// No source; two sources with one name; features, labels, texts or groups of a source that differ in number, row
/// numbers out of range, sources with different columns, values that are not finite; options out of range.
pub fn audit(sources: &[Source<'_>], options: &Options) -> Result<Audit> {
    check_options(options)?;
    let parts = read_parts(sources)?;
    let moments = moments::moments(&parts)?;
    let shift = shift::shift(&parts, &moments);

    let mut findings = rows_in_both_roles(&parts);
    let copies = duplicates::exact(&parts);
    let near_rows = cosine::near(&parts, &moments, &copies.across, options);
    let near_texts = shingles::similar(&parts, options);
    findings.extend(duplicates::findings(&parts, &copies, options));
    findings.extend(cosine::findings(&parts, &near_rows, options));
    findings.extend(shingles::findings(&parts, &near_texts, options));
    let near = near_rows.iter().chain(&near_texts).flat_map(|near| &near.matches);
    let conflicts: Vec<_> = copies
        .conflicts
        .iter()
        .chain(near.filter(|found| found.score >= options.conflict && found.conflicts(&parts)))
        .copied()
        .collect();
    findings.extend(labels::conflicts(&parts, conflicts, options));
    findings.extend(labels::groups(&parts));
    findings.extend(labels::classes(&parts, &shift, options));
    findings.extend(labels::order(&parts));
    findings.extend(columns::findings(&parts));
    findings.extend(shift::findings(&shift, options));
    findings.sort_by_key(|finding| (finding.severity, finding.kind));

    let count = |rows: fn(&Part) -> usize| parts.iter().map(rows).sum();
    Ok(Audit {
        findings,
        shift,
        sources: sources.len(),
        training: count(|part| part.training.len()),
        evaluation: count(|part| part.evaluation.len() + part.both.len()),
        options: options.clone(),
    })
}

/// A source with its rows sorted by role: ascending, each once.
struct Part<'a> {
    source: Source<'a>,
    /// Every row that the probe is fitted on.
    training: Vec<usize>,
    /// Rows for evaluation only.
    evaluation: Vec<usize>,
    /// Training rows that are listed for evaluation too.
    both: Vec<usize>,
}

impl Part<'_> {
    /// Training rows, then the others.
    fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.training.iter().chain(&self.evaluation).copied()
    }
    fn label(&self, row: usize) -> Option<bool> {
        self.source.labels.map(|labels| labels[row])
    }
    fn place(&self, row: usize) -> Place {
        Place { source: self.source.name.to_string(), row, label: self.label(row) }
    }
}

fn check_options(options: &Options) -> Result<()> {
    ensure!(options.shingle > 0, "`shingle` is 0, expected at least one word");
    let shares = [("containment", options.containment), ("cosine", options.cosine), ("conflict", options.conflict)];
    for (name, value) in shares {
        ensure!(value > 0.0 && value <= 1.0, "`{name}` is {value}, expected a number above 0 and up to 1");
    }
    let minority = options.minority;
    ensure!((0.0..0.5).contains(&minority), "`minority` is {minority}, expected a number from 0 to below 0.5");
    let ratio = options.density_ratio;
    ensure!(ratio >= 1.0, "`density_ratio` is {ratio}, expected a number from 1");
    Ok(())
}

fn read_parts<'a>(sources: &[Source<'a>]) -> Result<Vec<Part<'a>>> {
    ensure!(!sources.is_empty(), "no sources to audit"; help: "give at least one source");
    let mut names = BTreeSet::new();
    let mut columns: Option<(&str, usize)> = None;
    let mut parts = Vec::with_capacity(sources.len());
    for source in sources {
        let name = source.name;
        ensure!(names.insert(name), "two sources are named `{name}`"; help: "give each source its own name");
        let sizes = [
            ("features", source.matrix.map(Matrix::rows)),
            ("labels", source.labels.map(<[bool]>::len)),
            ("texts", source.texts.map(<[String]>::len)),
            ("groups", source.groups.map(<[String]>::len)),
        ];
        let mut sizes = sizes.into_iter().filter_map(|(what, size)| Some((what, size?)));
        let first = sizes.next();
        let Some((what, rows)) = first else {
            return Err(Error::input(format!("source `{name}` has neither features nor texts nor labels nor groups")));
        };
        for (other, size) in sizes {
            ensure!(size == rows, "source `{name}` has {rows} rows of {what} and {size} of {other}");
        }
        if let Some(matrix) = source.matrix {
            let (first, width) = *columns.get_or_insert((name, matrix.columns()));
            let found = matrix.columns();
            ensure!(found == width, "source `{first}` has {width} features and source `{name}` {found}";
                help: "give features of the same layer and width");
        }
        for row in source.training.iter().chain(source.evaluation) {
            ensure!(*row < rows, "row {row} of source `{name}` is asked for, which has {rows} rows, counted from 0");
        }
        let training: BTreeSet<usize> = source.training.iter().copied().collect();
        let evaluation: BTreeSet<usize> = source.evaluation.iter().copied().collect();
        parts.push(Part {
            source: *source,
            both: training.intersection(&evaluation).copied().collect(),
            evaluation: evaluation.difference(&training).copied().collect(),
            training: training.into_iter().collect(),
        });
    }
    Ok(parts)
}

fn rows_in_both_roles(parts: &[Part<'_>]) -> Vec<Finding> {
    let finding = |part: &Part<'_>| {
        let tested = part.evaluation.len() + part.both.len();
        let message = format!(
            "{} of the {} of `{}` {} fitted on as well",
            part.both.len(),
            matches::number(tested, "evaluation row"),
            part.source.name,
            matches::is_or_are(part.both.len())
        );
        let rows = part.both.iter().map(|row| part.place(*row)).collect();
        Finding { rows, ..Finding::new(Kind::RowsInBothRoles, Severity::Severe, message) }
    };
    parts.iter().filter(|part| !part.both.is_empty()).map(finding).collect()
}

#[cfg(test)]
mod tests;
