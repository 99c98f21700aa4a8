//! Python's `random.Random(seed)`, draw for draw, so that a mix equals the one that the research code made.

const WORDS: usize = 624;
const PERIOD: usize = 397;

/// MT19937 (Matsumoto and Nishimura 1998), seeded and used as CPython's `random.Random` does.
#[derive(Clone)]
pub struct Mersenne {
    state: [u32; WORDS],
    next: usize,
}

impl Mersenne {
    /// The generator of `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut state = spread(19_650_218);
        let mut i = 1;
        for step in 0..WORDS {
            let j = step % key.len();
            state[i] = (state[i] ^ scramble(state[i - 1], 1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            i = advance(&mut state, i);
        }
        for _ in 0..WORDS - 1 {
            state[i] = (state[i] ^ scramble(state[i - 1], 1_566_083_941)).wrapping_sub(i as u32);
            i = advance(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Mersenne { state, next: WORDS }
    }

    /// The generator of `numpy.random.RandomState(seed)`: the authors' plain `init_genrand`, without Python's mixing.
    pub fn with_plain_seed(seed: u32) -> Self {
        Mersenne { state: spread(seed), next: WORDS }
    }

    /// The next 32 random bits: `getrandbits(32)`.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in [0, 1) with 53 bits: `random()`.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Uniform below `bound` (1 to 2^32 - 1): `randrange(bound)`.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0 && u32::try_from(bound).is_ok(), "a draw is below 1 to 2^32 - 1");
        let unused_bits = (bound as u32).leading_zeros();
        loop {
            let drawn = (self.next_u32() >> unused_bits) as usize;
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `count` different indices below `population`, in the order drawn: `sample(range(population), count)`.
    pub fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        assert!(count <= population, "a sample without replacement is no larger than its population");
        // CPython takes the way that needs less memory, and the two ways draw differently.
        let mut set_size = 21;
        if count > 5 {
            set_size +=
                (1..).map(|power| 4usize.pow(power)).find(|size| *size >= 3 * count).expect("a power of 4 is larger");
        }
        if population <= set_size {
            let mut pool: Vec<usize> = (0..population).collect();
            let draw = |left: usize| {
                let index = self.below(left);
                pool.swap_remove(index)
            };
            (population - count + 1..=population).rev().map(draw).collect()
        } else {
            let mut taken = std::collections::HashSet::with_capacity(count);
            let draw = |_| loop {
                let index = self.below(population);
                if taken.insert(index) {
                    return index;
                }
            };
            (0..count).map(draw).collect()
        }
    }

    /// `count` independent indices below `population`: `choices(range(population), k=count)`.
    pub fn choices(&mut self, population: usize, count: usize) -> Vec<usize> {
        (0..count).map(|_| (self.uniform() * population as f64) as usize).collect()
    }

    /// Shuffles in place: `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }

    fn twist(&mut self) {
        for i in 0..WORDS {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7FFF_FFFF);
            let odd = if mixed & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[i] = self.state[(i + PERIOD) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// All words from one, as `init_genrand` makes them.
fn spread(seed: u32) -> [u32; WORDS] {
    let mut state = [seed; WORDS];
    for i in 1..WORDS {
        state[i] = scramble(state[i - 1], 1_812_433_253).wrapping_add(i as u32);
    }
    state
}

fn scramble(word: u32, factor: u32) -> u32 {
    (word ^ (word >> 30)).wrapping_mul(factor)
}

/// The next place to mix; the first word is skipped, and takes over the last one's value.
fn advance(state: &mut [u32; WORDS], i: usize) -> usize {
    if i + 1 == WORDS {
        state[0] = state[WORDS - 1];
        1
    } else {
        i + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        seed: u64,
        words: Vec<u32>,
        /// Digits, since `serde_json` may read a float one unit in the last place off.
        uniform: String,
        below: Vec<(usize, usize)>,
        samples: Vec<(usize, usize, Vec<usize>)>,
        choices: Vec<usize>,
        shuffled: Vec<usize>,
    }

    #[test]
    fn every_draw_equals_python() {
        // Made by tests/generators/mersenne.py; the draws of one seed follow each other from one generator.
        let cases: Vec<Golden> = serde_json::from_str(include_str!("../../tests/fixtures/mersenne.json")).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let mut random = Mersenne::new(case.seed);
            for word in case.words {
                assert_eq!(random.next_u32(), word, "seed {}", case.seed);
            }
            assert_eq!(Ok(random.uniform()), case.uniform.parse());
            for (bound, expected) in case.below {
                assert_eq!(random.below(bound), expected, "below {bound}");
            }
            for (population, count, expected) in case.samples {
                assert_eq!(random.sample(population, count), expected, "sample {count} of {population}");
            }
            assert_eq!(random.choices(1000, case.choices.len()), case.choices);
            let mut items: Vec<usize> = (0..case.shuffled.len()).collect();
            random.shuffle(&mut items);
            assert_eq!(items, case.shuffled);
        }
    }
}
