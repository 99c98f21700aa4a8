//! Counts prompts and rows that occur in more than one dataset.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::chat::Role;
use crate::data::dataset::Dataset;
use crate::data::digest::Digest;
use crate::data::record::NO_PROMPT;

/// What several datasets have in common. A prompt is all messages before the last assistant message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Different prompts that occur in more than one dataset.
    pub prompts: usize,
    /// Rows with such a prompt, in all datasets together.
    pub rows: usize,
    /// Different rows, prompt and answer, that occur in more than one dataset.
    pub identical_rows: usize,
}

/// What `datasets` have in common, whatever their order; rows without a prompt share none.
pub fn overlap(datasets: &[Dataset]) -> Overlap {
    let sizes: Vec<usize> = datasets.iter().map(Dataset::len).collect();
    let tagged = sizes.iter().enumerate().flat_map(|(tag, rows)| (0..*rows).map(move |row| (tag, row)));
    overlap_of(datasets, tagged)
}

/// The same for some of the rows, given as (dataset, row).
pub(super) fn overlap_of(datasets: &[Dataset], rows: impl Iterator<Item = (usize, usize)> + Clone) -> Overlap {
    if datasets.len() < 2 {
        return Overlap::default();
    }
    let (prompts, rows_sharing) = shared(rows.clone().filter_map(|(tag, row)| {
        let prompt = datasets[tag].mark(row).prompt;
        (prompt != NO_PROMPT).then(|| (u128::from_le_bytes(prompt), tag))
    }));
    let row_key = |tag: usize, row: usize| datasets[tag].mark(row).row.0[..16].try_into().map(u128::from_le_bytes);
    let (identical_rows, _) =
        shared(rows.map(|(tag, row)| (row_key(tag, row).expect("a digest has more than 16 bytes"), tag)));
    Overlap { prompts, rows: rows_sharing, identical_rows }
}

/// What users say in a dataset, by [`text_mark`].
pub fn said_by_users(dataset: &Dataset) -> HashSet<u128> {
    let of_row = |index: usize| {
        let messages = dataset.row(index).messages.into_iter().filter(|message| message.role == Role::User);
        messages.map(|message| text_mark(&message.content)).collect::<Vec<_>>()
    };
    (0..dataset.len()).into_par_iter().flat_map_iter(of_row).collect()
}

/// What stands for a text where texts are compared: 128 bits of its digest.
pub fn text_mark(text: &str) -> u128 {
    let digest = Digest::of(text.as_bytes());
    u128::from_le_bytes(*digest.0.first_chunk().expect("a digest has 32 bytes"))
}

/// How many keys have more than one tag, and how many items have such a key.
fn shared(items: impl Iterator<Item = (u128, usize)>) -> (usize, usize) {
    // 128 bits of a digest: among 10^9 items two meet by chance with probability below 10^-20.
    let mut items: Vec<(u128, usize)> = items.collect();
    items.par_sort_unstable();
    let groups = items.chunk_by(|a, b| a.0 == b.0);
    groups
        .filter(|group| group[0].1 != group[group.len() - 1].1)
        .fold((0, 0), |(keys, rows), group| (keys + 1, rows + group.len()))
}
