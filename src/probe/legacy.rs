//! numpy's legacy generator, draw for draw, so that splits and folds equal those of the research code.

use crate::data::mersenne::Mersenne;

/// `numpy.random.RandomState(seed)`, as far as shuffles need it.
#[derive(Clone)]
pub struct Legacy {
    words: Mersenne,
}

impl Legacy {
    /// The generator of `RandomState(seed)`, which scikit-learn makes of `random_state=seed`.
    pub fn new(seed: u32) -> Self {
        Legacy { words: Mersenne::with_plain_seed(seed) }
    }

    /// Shuffles in place, as `RandomState.shuffle` does: from the last place down, by masked rejection.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.up_to(index));
        }
    }

    /// Uniform from 0 to `largest`, which is included: numpy's `random_interval` below 2^32.
    fn up_to(&mut self, largest: usize) -> usize {
        let largest = u32::try_from(largest).expect("no more than 2^32 items are shuffled");
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let drawn = self.words.next_u32() & mask;
            if drawn <= largest {
                return drawn as usize;
            }
        }
    }
}

/// The research code's split of a source that is added to the training rows: 80 % of the rows to train on and 20 % to
/// evaluate, in shuffled order, not stratified. The seed is 42 plus the sum of the character codes of the name, so
/// that every step and every machine cuts a source in the same way.
pub fn split_80_20(source: &str, rows: usize) -> (Vec<u32>, Vec<u32>) {
    let seed = source.chars().fold(42u32, |sum, character| sum.wrapping_add(u32::from(character)));
    let mut train: Vec<u32> = (0..rows as u32).collect();
    Legacy::new(seed).shuffle(&mut train);
    // Python's `int(0.8 * n)`: the product is rounded to a float first.
    let test = train.split_off((0.8 * rows as f64) as usize);
    (train, test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        shuffles: Vec<Shuffle>,
        splits: Vec<Split>,
    }
    #[derive(Deserialize)]
    struct Shuffle {
        seed: u32,
        continued: bool,
        items: Vec<u32>,
    }
    #[derive(Deserialize)]
    struct Split {
        name: String,
        rows: usize,
        train: Vec<u32>,
        test: Vec<u32>,
    }

    fn golden() -> Golden {
        // Made by tests/generators/probe_folds.py.
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/probes/folds.json"));
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn shuffles_equal_numpy() {
        let mut legacy = Legacy::new(0);
        for case in golden().shuffles {
            if !case.continued {
                legacy = Legacy::new(case.seed);
            }
            let mut items: Vec<u32> = (0..case.items.len() as u32).collect();
            legacy.shuffle(&mut items);
            assert_eq!(items, case.items, "seed {}", case.seed);
        }
    }

    #[test]
    fn splits_equal_numpy() {
        for case in golden().splits {
            assert_eq!(split_80_20(&case.name, case.rows), (case.train, case.test), "{}", case.name);
        }
    }

    #[test]
    fn splits_equal_the_published_indices() {
        let published = [
            ("sycophant", 319, 255, [68, 200, 168, 203, 314, 95, 48, 277], [204, 24, 9, 286]),
            ("model_organism", 730, 584, [454, 698, 329, 714, 391, 563, 170, 288], [618, 9, 51, 120]),
            ("benchmark", 2330, 1864, [1214, 1728, 1896, 660, 2253, 2087, 1986, 1133], [2170, 1163, 2068, 1658]),
        ];
        for (name, rows, trained, train_start, test_start) in published {
            let (train, test) = split_80_20(name, rows);
            assert_eq!((train.len(), test.len()), (trained, rows - trained));
            assert_eq!((&train[..8], &test[..4]), (&train_start[..], &test_start[..]), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_row_is_on_one_side(name in ".{0,20}", rows in 0usize..500) {
            let (mut train, test) = split_80_20(&name, rows);
            prop_assert_eq!(train.len(), rows * 4 / 5);
            train.extend(test);
            train.sort_unstable();
            prop_assert_eq!(train, (0..rows as u32).collect::<Vec<_>>());
        }
    }
}
