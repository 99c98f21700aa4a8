//! Bootstrap intervals: seeds, questions and answers resampled in turn, or seed means alone as papers do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::distribution::normal_quantile;
use super::noncentral::normal_distribution;
use super::{CONFIDENCE, Interval, Observation, check_confidence, mean};
use crate::data::random::Random;
use crate::ensure;
use crate::error::Result;

/// Seeds from which on a bootstrap over them says more than their range does.
const ENOUGH_SEEDS: usize = 6;
/// Resamples of the published Python code, and of a mean.
const RESAMPLES: usize = 2_000;

/// How questions are resampled within resampled seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// One resample of the questions for all seeds: every seed answers the same ones.
    #[default]
    Crossed,
    /// Each drawn seed resamples its own questions.
    Nested,
}

/// Which points of the resampled means are the ends of the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// The quantiles themselves.
    #[default]
    Percentile,
    /// Quantiles corrected for bias and acceleration (Efron 1987), which is learnt by leaving out one seed at a time.
    Bca,
}

/// How a hierarchical bootstrap is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapOptions {
    /// Questions within seeds.
    pub questions: Resampling,
    /// Ends of the interval.
    pub ends: Ends,
    /// How many resamples: 2,000 for means, 10,000 for extreme quantiles.
    pub resamples: usize,
    /// Of the generator; equal seeds give equal intervals.
    pub seed: u64,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        BootstrapOptions {
            questions: Resampling::default(),
            ends: Ends::default(),
            resamples: RESAMPLES,
            seed: 0,
            confidence: CONFIDENCE,
        }
    }
}

/// A mean with a bootstrap interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrapped {
    /// Mean over seeds of the mean over their scored answers, as in [`Estimate`](super::Estimate).
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of the interval, as a share: 0.95.
    pub confidence: f64,
    /// How many times was resampled.
    pub resamples: usize,
    /// Training runs.
    pub seeds: usize,
    /// `percentile bootstrap over 6 seeds, 8 questions (crossed) and their answers, 2000 resamples`.
    pub method: String,
    /// Why the interval is not to be trusted, when seeds are few.
    pub warning: Option<String>,
}

/// Resamples seeds with replacement, questions (see [`Resampling`]), and the answers of a seed to a question. Answers
/// without a score are left out; in a crossed resample a seed has the drawn questions that it has scores for.
///
/// Fails when no answer has a score, and [`Ends::Bca`] with one seed.
pub fn hierarchical_bootstrap(observations: &[Observation], options: &BootstrapOptions) -> Result<Bootstrapped> {
    check_confidence(options.confidence)?;
    ensure!(
        options.resamples >= 100,
        "a bootstrap needs at least 100 resamples, found {}", options.resamples; help: "write 2000"
    );
    let group = Group::of(observations);
    let seeds = group.seeds.len();
    ensure!(seeds > 0, "no answer has a score");
    ensure!(
        options.ends == Ends::Percentile || seeds >= 2,
        "the acceleration of a BCa interval needs at least 2 seeds, found {seeds}"; help: "use the percentile ends"
    );
    let seed_means = group.seed_means();
    let mean = mean(&seed_means);
    let resampled = group.resample(options);
    let (interval, name) = match options.ends {
        Ends::Percentile => (percentile(&resampled, options.confidence), "percentile"),
        Ends::Bca => (bca(&resampled, mean, &seed_means, options.confidence), "BCa"),
    };
    let resampling = match options.questions {
        Resampling::Crossed => "crossed",
        Resampling::Nested => "nested",
    };
    Ok(Bootstrapped {
        mean,
        low: interval.low,
        high: interval.high,
        confidence: options.confidence,
        resamples: options.resamples,
        seeds,
        method: format!(
            "{name} bootstrap over {}, {} ({resampling}) and their answers, {} resamples",
            counted(seeds, "seed"),
            counted(group.questions, "question"),
            options.resamples
        ),
        warning: warning(seeds),
    })
}

/// The interval that published Python code draws around means of runs: quantiles of the means of 2,000 resamples of
/// the seed means by `numpy.random.default_rng(0)`, draw for draw. With 3 seeds it is their least and greatest mean.
pub fn percentile_over_seeds(seed_means: &[f64], confidence: f64) -> Result<Bootstrapped> {
    check_confidence(confidence)?;
    let seeds = seed_means.len();
    ensure!(seeds > 0, "no seed has a mean");
    ensure!(seed_means.iter().all(|mean| mean.is_finite()), "a seed's mean is a number, found one that is not");
    let mut random = NumpyZero::new();
    let mut draw = || (0..seeds).map(|_| seed_means[random.below(seeds as u32)]).sum::<f64>() / seeds as f64;
    let mut resampled: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
    resampled.sort_by(f64::total_cmp);
    let interval = percentile(&resampled, confidence);
    Ok(Bootstrapped {
        mean: mean(seed_means),
        low: interval.low,
        high: interval.high,
        confidence,
        resamples: RESAMPLES,
        seeds,
        method: format!("percentile bootstrap over the means of {}, {RESAMPLES} resamples", counted(seeds, "seed")),
        warning: warning(seeds),
    })
}

/// The range of n values covers the centre of a symmetric distribution with probability 1 - 2/2ⁿ, and no bootstrap of
/// them leaves their range.
fn warning(seeds: usize) -> Option<String> {
    match seeds {
        1 => Some("a bootstrap of one run says nothing about other seeds; train more seeds".to_string()),
        2..ENOUGH_SEEDS => Some(format!(
            "a bootstrap over {seeds} seeds gives little more than their range, which covers {} %; \
             use t over the seeds' means, or train {ENOUGH_SEEDS}",
            100.0 * (1.0 - 2.0 * 0.5f64.powi(seeds as i32))
        )),
        _ => None,
    }
}

struct Group {
    /// Of each seed, the scores of its answers to each question, none where it has none.
    seeds: Vec<Vec<Vec<f64>>>,
    questions: usize,
}

impl Group {
    fn of(observations: &[Observation]) -> Self {
        let scored = || observations.iter().filter_map(|o| Some((o.seed, o.question, *o.score.as_ref().ok()?)));
        let questions: BTreeSet<u32> = scored().map(|(_, question, _)| question).collect();
        let places: BTreeMap<u32, usize> = questions.iter().enumerate().map(|(place, q)| (*q, place)).collect();
        let mut seeds = BTreeMap::<u64, Vec<Vec<f64>>>::new();
        for (seed, question, score) in scored() {
            seeds.entry(seed).or_insert_with(|| vec![Vec::new(); questions.len()])[places[&question]].push(score);
        }
        Group { seeds: seeds.into_values().collect(), questions: questions.len() }
    }

    fn seed_means(&self) -> Vec<f64> {
        self.seeds.iter().map(|cells| mean(&cells.concat())).collect()
    }

    /// Means of the resamples, upwards.
    fn resample(&self, options: &BootstrapOptions) -> Vec<f64> {
        let answered: Vec<Vec<usize>> = self
            .seeds
            .iter()
            .map(|cells| (0..self.questions).filter(|question| !cells[*question].is_empty()).collect())
            .collect();
        let mut random = Random::new(options.seed);
        let mut resampled = Vec::with_capacity(options.resamples);
        let mut questions = Vec::new();
        while resampled.len() < options.resamples {
            if options.questions == Resampling::Crossed {
                questions = (0..self.questions).map(|_| random.below(self.questions)).collect();
            }
            let (mut sum_of_means, mut seeds) = (0.0, 0);
            for _ in 0..self.seeds.len() {
                let seed = random.below(self.seeds.len());
                if options.questions == Resampling::Nested {
                    questions = answered[seed].iter().map(|_| *random.choose(&answered[seed])).collect();
                }
                let (mut sum, mut count) = (0.0, 0);
                for question in &questions {
                    let cell = &self.seeds[seed][*question];
                    sum += cell.iter().map(|_| *random.choose(cell)).sum::<f64>();
                    count += cell.len();
                }
                if count > 0 {
                    sum_of_means += sum / count as f64;
                    seeds += 1;
                }
            }
            // Where no drawn seed has any of the drawn questions there is no mean: such a resample is drawn again.
            if seeds > 0 {
                resampled.push(sum_of_means / f64::from(seeds));
            }
        }
        resampled.sort_by(f64::total_cmp);
        resampled
    }
}

fn percentile(sorted: &[f64], confidence: f64) -> Interval {
    let tail = (1.0 - confidence) / 2.0;
    Interval { low: quantile(sorted, tail), high: quantile(sorted, 1.0 - tail) }
}

/// `units` are the means whose leaving out gives the acceleration.
fn bca(sorted: &[f64], mean: f64, units: &[f64], confidence: f64) -> Interval {
    let n = sorted.len() as f64;
    // Resamples that equal the mean count half.
    let below = sorted.partition_point(|value| *value < mean) + sorted.partition_point(|value| *value <= mean);
    let share = (below as f64 / (2.0 * n)).clamp(0.5 / n, 1.0 - 0.5 / n);
    let bias = normal_quantile(2.0 * share - 1.0);
    // Leaving one out moves the mean against that one's distance from it.
    let moments = |power| units.iter().map(|unit| (unit - mean).powi(power)).sum::<f64>();
    let acceleration = if moments(2) > 0.0 { moments(3) / (6.0 * moments(2).powf(1.5)) } else { 0.0 };
    let end = |side: f64| {
        let shifted = bias + side * normal_quantile(confidence);
        let stretch = (1.0 - acceleration * shifted).max(f64::MIN_POSITIVE);
        quantile(sorted, normal_distribution(bias + shifted / stretch))
    };
    Interval { low: end(-1.0), high: end(1.0) }
}

/// Linear between order statistics, as numpy's.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `numpy.random.default_rng(0)`, as far as `choice` with replacement needs it: PCG64 (XSL-RR) in halves of 32 bits.
struct NumpyZero {
    state: u128,
    /// The upper half of the last word, which numpy gives out next.
    upper: Option<u32>,
}

impl NumpyZero {
    const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
    /// What `SeedSequence(0)` makes of the seed.
    const STATE: u128 = 0x1AA1_B534_5996_452D_0958_5EB7_A695_61E3;
    const INCREMENT: u128 = 0x418D_DADB_3AF7_1A82_5881_33BC_4478_73A9;

    fn new() -> Self {
        NumpyZero { state: Self::STATE, upper: None }
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(upper) = self.upper.take() {
            return upper;
        }
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(Self::INCREMENT);
        let word = ((self.state >> 64) as u64 ^ self.state as u64).rotate_right((self.state >> 122) as u32);
        self.upper = Some((word >> 32) as u32);
        word as u32
    }

    /// Uniform below `bound`; of a single possibility nothing is drawn.
    fn below(&mut self, bound: u32) -> usize {
        if bound == 1 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u64::from(self.next_u32()) * u64::from(bound);
            if wide as u32 >= threshold {
                return (wide >> 32) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden(name: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        all[name].as_array().unwrap().clone()
    }

    fn floats(value: &Value) -> Vec<f64> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn percentile_over_seeds_is_what_numpy_draws_and_the_range_of_three() {
        for case in golden("percentile") {
            let found = percentile_over_seeds(&floats(&case["means"]), 0.95).unwrap();
            let expected = floats(&case["interval"]);
            assert!((found.low - expected[0]).abs() < 1e-12 && (found.high - expected[1]).abs() < 1e-12, "{case}");
            assert_eq!(found.warning.is_some(), found.seeds < 6);
        }
        let three = percentile_over_seeds(&[0.4775, 0.59875, 0.465], 0.95).unwrap();
        assert_eq!((three.low, three.high, three.resamples), (0.465, 0.59875, 2000));
        let warning = three.warning.unwrap();
        assert!(warning.starts_with("a bootstrap over 3 seeds gives little more than their range, which covers 75 %"));
        assert!(percentile_over_seeds(&[], 0.95).is_err());
    }

    #[test]
    fn bca_ends_agree_with_scipy() {
        for case in golden("bca") {
            let float = |name: &str| case[name].as_f64().unwrap();
            let mut resampled = floats(&case["resampled"]);
            resampled.sort_by(f64::total_cmp);
            let found = bca(&resampled, float("mean"), &floats(&case["values"]), float("confidence"));
            assert!(
                (found.low - float("low")).abs() < 1e-9 && (found.high - float("high")).abs() < 1e-9,
                "found {found:?}, expected {} to {}",
                float("low"),
                float("high")
            );
        }
    }

    /// 7 seeds x 5 questions x 4 answers; the variances of the means over one factor, with n.
    fn group() -> Vec<Observation> {
        let mut random = Random::new(8);
        let questions: Vec<f64> = (0..5).map(|_| 20.0 * random.normal()).collect();
        let mut all = Vec::new();
        for seed in 0..7 {
            let of_seed = 10.0 * random.normal();
            for (question, of_question) in questions.iter().enumerate() {
                let cell = of_seed + of_question + 6.0 * random.normal();
                for _ in 0..4 {
                    let score = Ok(cell + 8.0 * random.normal());
                    all.push(Observation { seed, question: question as u32, score });
                }
            }
        }
        all
    }

    /// With n, as a resample sees them.
    fn variance(values: &[f64]) -> f64 {
        let centre = mean(values);
        values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn resampled_means_vary_as_theory_says_they_do() {
        let observations = group();
        let group = Group::of(&observations);
        let cells: Vec<Vec<f64>> =
            group.seeds.iter().map(|seed| seed.iter().map(|answers| mean(answers)).collect()).collect();
        let within = mean(&group.seeds.iter().flatten().map(|answers| variance(answers)).collect::<Vec<_>>());
        let of_questions: Vec<f64> =
            (0..5).map(|question| mean(&cells.iter().map(|cells| cells[question]).collect::<Vec<_>>())).collect();
        let of_seeds = variance(&group.seed_means());
        let of_cells = variance(&cells.concat());
        let answers = within / (7.0 * 5.0 * 4.0);
        // Drawn with replacement, factors by themselves and cells where they meet.
        let interaction = of_cells - of_seeds - variance(&of_questions);
        let crossed = of_seeds / 7.0 + variance(&of_questions) / 5.0 + interaction / 35.0 + answers;
        let nested = of_seeds / 7.0 + (of_cells - of_seeds) / 35.0 + answers;
        for (questions, expected) in [(Resampling::Crossed, crossed), (Resampling::Nested, nested)] {
            let options = BootstrapOptions { questions, resamples: 20_000, ..BootstrapOptions::default() };
            let found = variance(&group.resample(&options));
            assert!((found / expected - 1.0).abs() < 0.04, "{questions:?}: {found}, expected {expected}");
        }
        assert!(crossed > 2.0 * nested);
    }

    #[test]
    fn equal_generator_seeds_give_equal_intervals_and_few_seeds_a_warning() {
        let all = group();
        for ends in [Ends::Percentile, Ends::Bca] {
            let options = BootstrapOptions { ends, resamples: 500, ..BootstrapOptions::default() };
            let found = hierarchical_bootstrap(&all, &options).unwrap();
            assert_eq!(found, hierarchical_bootstrap(&all, &options).unwrap());
            assert_ne!(found, hierarchical_bootstrap(&all, &BootstrapOptions { seed: 1, ..options }).unwrap());
            assert!(found.low < found.mean && found.mean < found.high && found.warning.is_none(), "{found:?}");
        }
        let options = BootstrapOptions::default();
        let few: Vec<_> = all.iter().filter(|observation| observation.seed < 5).cloned().collect();
        let found = hierarchical_bootstrap(&few, &options).unwrap();
        assert!(found.warning.unwrap().contains("over 5 seeds") && found.method.contains("over 5 seeds, 5 questions"));
        let one: Vec<_> = all.iter().filter(|observation| observation.seed == 0).cloned().collect();
        assert!(hierarchical_bootstrap(&one, &options).unwrap().warning.unwrap().contains("one run"));
        assert!(hierarchical_bootstrap(&one, &BootstrapOptions { ends: Ends::Bca, ..options }).is_err());
        assert!(hierarchical_bootstrap(&[], &options).is_err());
        assert!(hierarchical_bootstrap(&all, &BootstrapOptions { resamples: 10, ..options }).is_err());
    }

    #[test]
    fn seeds_that_lack_questions_are_resampled_among_what_they_have() {
        let observe = |seed, question, score: f64| Observation { seed, question, score: Ok(score) };
        let mut uneven = vec![observe(0, 0, 10.0), observe(1, 1, 20.0), observe(2, 1, 30.0)];
        uneven.push(Observation { seed: 3, question: 0, score: Err("refused".into()) });
        for questions in [Resampling::Crossed, Resampling::Nested] {
            let options = BootstrapOptions { questions, ..BootstrapOptions::default() };
            let found = hierarchical_bootstrap(&uneven, &options).unwrap();
            assert_eq!((found.mean, found.seeds), (20.0, 3));
            assert!(10.0 <= found.low && found.high <= 30.0);
        }
    }
}
