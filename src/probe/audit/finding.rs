//! What an audit finds: a sentence with counts, how bad it is, the rows concerned and the worst pairs.

use serde::Serialize;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A number computed on these rows does not mean what it seems to mean.
    Severe,
    /// A number may mislead; it has to be read beside this.
    Warning,
    /// Good to know.
    Note,
}

/// What was found. The order is the order of findings of equal severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows that are listed both for training and for evaluation.
    RowsInBothRoles,
    /// Evaluation rows whose features are exactly those of a training row.
    ExactDuplicates,
    /// Evaluation texts that share word sequences with a training text.
    SimilarTexts,
    /// Evaluation rows whose features are nearly those of a training row.
    NearDuplicates,
    /// The same group on both sides.
    SharedGroups,
    /// Exact or near copies with different labels.
    LabelConflicts,
    /// A training source that holds one class only.
    SourceEqualsLabel,
    /// Training or evaluation rows that are all of one class.
    OneClass,
    /// A single column that separates the classes of the training rows.
    ColumnEqualsLabel,
    /// A single column that separates a training source from the others.
    ColumnEqualsSource,
    /// A column that only counts rows.
    IdentifierColumns,
    /// Row numbers that tell the label.
    OrderEqualsLabel,
    /// Exact duplicates among training rows.
    DuplicatesInTraining,
    /// Similar texts among training rows.
    SimilarTextsInTraining,
    /// A source whose features lie elsewhere than those of the training rows.
    Shift,
    /// Columns with one value, not 0, in all training rows.
    ConstantColumns,
    /// Rows without any active feature.
    EmptyRows,
}

impl Kind {
    /// What to do about it; starts with a verb.
    pub fn help(self) -> &'static str {
        match self {
            Kind::RowsInBothRoles => "evaluate out of fold, or take these rows out of one of the two lists",
            Kind::ExactDuplicates | Kind::SimilarTexts | Kind::NearDuplicates => {
                "remove these training rows, or keep each family of copies on one side by giving it a group"
            }
            Kind::SharedGroups => "split by group, so that each group is on one side only",
            Kind::LabelConflicts => "look at these pairs and correct or remove the rows with the wrong label",
            Kind::SourceEqualsLabel => "add rows of the other class from the same source, or leave the source out",
            Kind::OneClass => "add rows of the other class, or report rates at a fixed threshold instead of AUROC",
            Kind::ColumnEqualsLabel => "check that no column was made from the labels",
            Kind::ColumnEqualsSource => "check that all sources were extracted by the same code, or drop these columns",
            Kind::IdentifierColumns => "drop these columns",
            Kind::OrderEqualsLabel => "shuffle the rows before folds are made of consecutive rows",
            Kind::DuplicatesInTraining | Kind::SimilarTextsInTraining => {
                "give each family of copies a group, so that no fold is tested on copies of what it was fitted on"
            }
            Kind::Shift => "extract all sources by the same code, and read results on this source as another domain's",
            Kind::ConstantColumns => "drop these columns, they carry nothing",
            Kind::EmptyRows => "check how these rows were extracted",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was found.
    pub kind: Kind,
    /// How bad that is.
    pub severity: Severity,
    /// A sentence with counts; lower case, no full stop.
    pub message: String,
    /// All rows concerned, by source and row number. Of pairs: the training rows, which are what one would remove.
    pub rows: Vec<Place>,
    /// The worst pairs, worst first.
    pub pairs: Vec<Pair>,
    /// The columns concerned, ascending.
    pub columns: Vec<usize>,
}

impl Finding {
    /// A finding about no particular row.
    pub(super) fn new(kind: Kind, severity: Severity, message: String) -> Self {
        Finding { kind, severity, message, rows: Vec::new(), pairs: Vec::new(), columns: Vec::new() }
    }
}

/// A row of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The source's name.
    pub source: String,
    /// Row number there, from 0.
    pub row: usize,
    /// Whether it is of the positive class, where labels are known.
    pub label: Option<bool>,
}

/// Two rows that are too much alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// From 0 to 1; 1 for exact copies. What is measured stands in the finding's message.
    pub score: f64,
    /// The training row.
    pub training: Place,
    /// The evaluation row, or the earlier training row.
    pub other: Place,
}
