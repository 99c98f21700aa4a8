//! Which rows make a step, and how it is divided.

use std::ops::Range;

use crate::data::random::Random;

/// Rows that are sorted by length together.
const POOL: usize = 2000;
/// Most parts of a batch.
const PARTS: usize = 8;

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

/// The batches of a whole run: which belong to one step, and where epochs end.
pub struct Plan {
    /// Batches of each step.
    pub steps: Vec<Vec<Vec<usize>>>,
    /// Steps after which an epoch has ended.
    pub epoch_ends: Vec<usize>,
}

impl Plan {
    /// `epochs` times every row once, in steps of `accumulate` batches; the last step of an epoch has what is left.
    pub fn new(lengths: &[usize], epochs: usize, batch_tokens: usize, accumulate: usize, random: &mut Random) -> Self {
        let mut plan = Plan { steps: Vec::new(), epoch_ends: Vec::with_capacity(epochs) };
        for _ in 0..epochs {
            let mut batches = batches(lengths, batch_tokens, random).into_iter().peekable();
            while batches.peek().is_some() {
                plan.steps.push(batches.by_ref().take(accumulate).collect());
            }
            plan.epoch_ends.push(plan.steps.len());
        }
        plan
    }
}

/// Batches without end: epoch after epoch, each in an order of its own.
pub struct Cycle {
    lengths: Vec<usize>,
    batch_tokens: usize,
    random: Random,
    /// What is left of the epoch, last first.
    left: Vec<Vec<usize>>,
}

impl Cycle {
    /// The cycle of rows with these lengths, at least one.
    pub fn new(lengths: &[usize], batch_tokens: usize, random: Random) -> Self {
        Cycle { lengths: lengths.to_vec(), batch_tokens, random, left: Vec::new() }
    }

    /// The next `count` batches.
    pub fn take(&mut self, count: usize) -> Vec<Vec<usize>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            if self.left.is_empty() {
                self.left = batches(&self.lengths, self.batch_tokens, &mut self.random);
                self.left.reverse();
            }
            taken.extend(self.left.pop());
        }
        taken
    }
}

/// Cuts rows into consecutive parts of about equal tokens: 1, 2, 4 or 8 of them, near `part_tokens` each. The cut follows
/// from the rows alone, so that the order of every sum, and with it every bit of the result, is the same on any number
/// of threads.
pub fn cut(lengths: &[usize], part_tokens: usize) -> Vec<Range<usize>> {
    let total: usize = lengths.iter().sum();
    let count = total.div_ceil(part_tokens).next_power_of_two().min(PARTS);
    let mut parts = Vec::with_capacity(count);
    let (mut start, mut tokens) = (0, 0);
    for (row, length) in lengths.iter().enumerate() {
        tokens += length;
        if tokens * count >= total * (parts.len() + 1) {
            parts.push(start..row + 1);
            start = row + 1;
        }
    }
    parts
}

/// Consecutive rows that pass through a decoder at a time where nothing is trained: at most 1,024 tokens together, a
/// longer row alone. A device takes at most `device_tokens`, and counts rows as if all were as long as the longest,
/// because that is the room that its attention needs.
pub fn runs(lengths: &[usize], device_tokens: Option<usize>) -> Vec<Range<usize>> {
    let most = device_tokens.unwrap_or(1024);
    let (mut runs, mut start, mut tokens, mut longest) = (Vec::new(), 0, 0, 0);
    for (row, length) in lengths.iter().enumerate() {
        let room = match device_tokens {
            None => tokens + length,
            Some(_) => (row + 1 - start) * longest.max(*length),
        };
        if row > start && room > most {
            runs.push(start..row);
            (start, tokens, longest) = (row, 0, 0);
        }
        tokens += length;
        longest = longest.max(*length);
    }
    if start < lengths.len() {
        runs.push(start..lengths.len());
    }
    runs
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
        fn steps_have_every_row_of_every_epoch_once(lengths in proptest::collection::vec(1usize..90, 1..100), seed: u64) {
            let plan = Plan::new(&lengths, 3, 256, 4, &mut Random::new(seed));
            let mut start = 0;
            for end in plan.epoch_ends {
                let mut rows = plan.steps[start..end].concat().concat();
                rows.sort_unstable();
                prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
                prop_assert!(plan.steps[start..end - 1].iter().all(|step| step.len() == 4));
                start = end;
            }
            let flat: Vec<Vec<usize>> = plan.steps.concat();
            let mut random = Random::new(seed);
            let single: Vec<Vec<usize>> = (0..3).flat_map(|_| batches(&lengths, 256, &mut random)).collect();
            prop_assert_eq!(&flat, &single);
            let mut cycle = Cycle::new(&lengths, 256, Random::new(seed));
            let mut taken = Vec::new();
            while taken.len() < single.len() {
                taken.extend(cycle.take(2));
            }
            prop_assert!(taken.starts_with(&single));
        }
        #[test]
        fn runs_cover_all_rows(lengths in proptest::collection::vec(1usize..1400, 0..60)) {
            let runs = runs(&lengths, None);
            prop_assert!(runs.iter().cloned().flatten().eq(0..lengths.len()));
            for run in runs {
                prop_assert!(run.len() == 1 || lengths[run].iter().sum::<usize>() <= 1024);
            }
        }
        #[test]
        fn parts_cover_a_batch(lengths in proptest::collection::vec(1usize..400, 1..60)) {
            let parts = cut(&lengths, 1024);
            prop_assert!(!parts.is_empty() && parts.len() <= PARTS);
            prop_assert_eq!(parts[0].start, 0);
            prop_assert_eq!(parts.last().unwrap().end, lengths.len());
            prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start && !pair[1].is_empty()));
        }
    }
}
