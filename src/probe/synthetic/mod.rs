//! Made-up activations that look like the real ones: sources, extraction, class signal and leaks, all from one seed.

mod options;
mod plan;
mod row;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use self::options::{Extraction, Leak, Noise, SourceOptions, SynthesisOptions};
use self::plan::Plan;
use self::row::Row;
use super::matrix::{Matrix, Sparse, Values};
use crate::data::random::Random;
use crate::error::Result;

/// What was made, in the order of the options.
#[derive(Clone, Debug, PartialEq)]
pub struct Sources {
    /// One per entry of [`SynthesisOptions::sources`].
    pub sources: Vec<Source>,
    /// The direction that sources have in common, one number per feature: by how much the log-odds of being active
    /// differ between the classes in a source whose `shared` is 1; 0 for features without signal.
    pub shared: Vec<f64>,
}

/// The rows of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// As in its options.
    pub name: String,
    /// Rows x features, sparse f32; every value positive and exact in bf16.
    pub activations: Matrix,
    /// Per row whether it is of the positive class (alignment faking).
    pub labels: Vec<bool>,
    /// Per row what it belongs to, for splits that keep kin together; numbers are unique over all sources, and a
    /// leaked row has the number of its parent.
    pub groups: Vec<u32>,
    /// Per row the row that it was copied from, if it leaked.
    pub parents: Vec<Option<Parent>>,
    /// The truth: by how much the log-odds of being active differ between the classes of this source, per feature.
    pub direction: Vec<f64>,
}

/// Where a leaked row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Row of [`Leak::from`].
    pub row: u32,
    /// How far the copy is from it.
    pub noise: Noise,
}

/// Makes the sources. Each row is drawn from a stream of its own, so equal options give equal bytes on any number of
/// threads; the real size (6,174 rows of 16,384 features) takes about a second.
///
/// # Errors
/// Options that contradict each other, see [`SynthesisOptions`].
pub fn synthesize(options: &SynthesisOptions) -> Result<Sources> {
    let leak = options.check()?;
    let plan = Plan::of(options);
    let mut starts = options.sources.iter().scan(0u32, |next, source| {
        let start = *next;
        *next += source.rows as u32;
        Some(start)
    });
    let starts: Vec<u32> = starts.by_ref().collect();
    let labels: Vec<Vec<bool>> = (0..options.sources.len()).map(|source| draw_labels(options, source)).collect();
    let mut made = Vec::new();
    for (number, source) in options.sources.iter().enumerate() {
        let mut parents = vec![None; source.rows];
        let mut own_labels = labels[number].clone();
        if let Some((leak, from, into)) = leak
            && into == number
        {
            parents = draw_parents(options, leak, from, source.rows);
            own_labels = relabel(own_labels, &parents, &labels[from], options.positives(number), &source.name)?;
        }
        let rows: Vec<Row> = (0..source.rows)
            .into_par_iter()
            .map(|index| {
                let fresh = plan.row(number, index, own_labels[index]);
                match (parents[index], leak) {
                    (Some(Parent { row, noise }), Some((_, from, _))) => {
                        let parent = plan.row(from, row as usize, labels[from][row as usize]);
                        row::blur(&parent, &fresh, noise, &mut options.stream(&[BLUR, number as u64, index as u64]))
                    }
                    _ => fresh,
                }
            })
            .collect();
        let group = |(index, parent): (usize, &Option<Parent>)| match (parent, leak) {
            (Some(parent), Some((_, from, _))) => starts[from] + parent.row,
            _ => starts[number] + index as u32,
        };
        made.push(Source {
            name: source.name.clone(),
            activations: join(rows, options.columns)?,
            labels: own_labels,
            groups: parents.iter().enumerate().map(group).collect(),
            parents,
            direction: plan.direction(number),
        });
    }
    Ok(Sources { sources: made, shared: plan.shared().to_vec() })
}

// What a stream is for; the first of its parts.
const LABELS: u64 = 1;
const PARENTS: u64 = 2;
const BLUR: u64 = 3;
const ROW: u64 = 4;
const COLUMNS: u64 = 5;
const SIGNAL: u64 = 6;
const OFFSET: u64 = 7;

impl SynthesisOptions {
    fn stream(&self, parts: &[u64]) -> Random {
        Random::stream(self.seed, parts)
    }
}

fn draw_labels(options: &SynthesisOptions, source: usize) -> Vec<bool> {
    let positives = options.positives(source);
    let mut labels: Vec<bool> = (0..options.sources[source].rows).map(|row| row < positives).collect();
    options.stream(&[LABELS, source as u64]).shuffle(&mut labels);
    labels
}

/// Which rows are copies: as many of each noise as the leak says, at random places, of parents that come in turn.
fn draw_parents(options: &SynthesisOptions, leak: &Leak, from: usize, rows: usize) -> Vec<Option<Parent>> {
    let mut random = options.stream(&[PARENTS]);
    let mut turn: Vec<u32> = (0..options.sources[from].rows as u32).collect();
    random.shuffle(&mut turn);
    let noises = leak.counts(rows).into_iter().flat_map(|(noise, count)| std::iter::repeat_n(noise, count));
    let mut parents: Vec<Option<Parent>> =
        noises.zip(turn.iter().cycle()).map(|(noise, row)| Some(Parent { row: *row, noise })).collect();
    parents.resize(rows, None);
    random.shuffle(&mut parents);
    parents
}

/// Copies have the labels of their parents; among the other rows as many labels change, first places first, as keep
/// the number of positive rows.
fn relabel(
    mut labels: Vec<bool>,
    parents: &[Option<Parent>],
    parent_labels: &[bool],
    positives: usize,
    name: &str,
) -> Result<Vec<bool>> {
    for (label, parent) in labels.iter_mut().zip(parents) {
        if let Some(parent) = parent {
            *label = parent_labels[parent.row as usize];
        }
    }
    let found = labels.iter().filter(|label| **label).count();
    let (excess, surplus) = (found > positives, found.abs_diff(positives));
    let free = labels.iter_mut().zip(parents).filter(|(label, parent)| parent.is_none() && **label == excess);
    let changed = free.take(surplus).map(|(label, _)| *label = !excess).count();
    crate::ensure!(changed == surplus, "the rows that leak into `{name}` do not leave it {positives} positive rows";
        help: "leak fewer rows or change the number of positive rows");
    Ok(labels)
}

fn join(rows: Vec<Row>, columns: usize) -> Result<Matrix> {
    let total = rows.iter().map(|row| row.columns.len()).sum();
    let mut sparse = Sparse { starts: vec![0], columns: Vec::with_capacity(total), values: Vec::with_capacity(total) };
    let count = rows.len();
    for row in rows {
        sparse.columns.extend(row.columns);
        sparse.values.extend(row.values);
        sparse.starts.push(sparse.columns.len());
    }
    Matrix::new(count, columns, Values::Sparse32(sparse))
}
