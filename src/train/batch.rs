//! Which rows make a step, and how a step is divided for threads.

use std::ops::Range;

use crate::data::random::Random;

/// Rows that are sorted by length together.
const POOL: usize = 2000;
/// Tokens of a shard: enough to use each weight often, few enough that activations stay in the cache.
const SHARD_TOKENS: usize = 1024;
/// Most shards of a batch.
const SHARDS: usize = 8;

/// One epoch: every row once, in batches of rows of similar length with at most `batch_tokens` tokens if all were as
/// long as the longest (a longer row is a batch alone), in random order.
pub fn batches(lengths: &[usize], batch_tokens: usize, random: &mut Random) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut order);
    let mut batches = Vec::new();
    for pool in order.chunks_mut(POOL) {
        pool.sort_by_key(|row| lengths[*row]);
        let mut batch: Vec<usize> = Vec::new();
        for row in pool.iter() {
            if !batch.is_empty() && (batch.len() + 1) * lengths[*row] > batch_tokens {
                batches.push(std::mem::take(&mut batch));
            }
            batch.push(*row);
        }
        batches.push(batch);
    }
    random.shuffle(&mut batches);
    batches
}

/// Cuts a batch's rows into consecutive shards of about equal tokens. Their number follows from the batch alone, so
/// that the order of every sum, and with it every bit of the result, is the same on any number of threads.
pub fn shards(lengths: &[usize]) -> Vec<Range<usize>> {
    let total: usize = lengths.iter().sum();
    let count = total.div_ceil(SHARD_TOKENS).next_power_of_two().clamp(1, SHARDS);
    let mut shards = Vec::with_capacity(count);
    let (mut start, mut tokens) = (0, 0);
    for (row, length) in lengths.iter().enumerate() {
        tokens += length;
        if tokens * count >= total * (shards.len() + 1) {
            shards.push(start..row + 1);
            start = row + 1;
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_epoch_has_every_row_once(lengths in proptest::collection::vec(1usize..90, 1..300), seed: u64) {
            let batches = batches(&lengths, 256, &mut Random::new(seed));
            let mut rows = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|row| lengths[*row]).max().unwrap();
                prop_assert!(batch.len() == 1 || batch.len() * longest <= 256);
            }
        }
        #[test]
        fn shards_cover_a_batch(lengths in proptest::collection::vec(1usize..400, 1..60)) {
            let shards = shards(&lengths);
            prop_assert!(!shards.is_empty() && shards.len() <= SHARDS);
            prop_assert_eq!(shards[0].start, 0);
            prop_assert_eq!(shards.last().unwrap().end, lengths.len());
            prop_assert!(shards.windows(2).all(|pair| pair[0].end == pair[1].start && !pair[1].is_empty()));
        }
    }
}
