//! Where the spread of scores comes from, and what seeds x questions x samples can detect with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::power::{Arms, POWER, detectable_standard_errors};
use super::{CONFIDENCE, Observation, mean, variance};
use crate::ensure;
use crate::error::Result;

/// Variances of a score by what they come from, where every seed answers the same questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Components {
    /// Between training runs.
    pub seed: f64,
    /// Between questions.
    pub question: f64,
    /// What a run does with one question beyond both.
    pub seed_question: f64,
    /// Between answers of one run to one question.
    pub sample: f64,
}

/// Estimates the components of one group by the expected mean squares of a table of random seeds and questions.
///
/// Cells count equally whatever their number of answers, and K is the harmonic mean of these numbers, which leaves the
/// estimates unbiased; with equal numbers it is the usual analysis of variance. Answers without a score are left out,
/// and so is a question that some seed has no score for. An estimate below 0 becomes 0. With one answer in every cell
/// the spread of answers cannot be told from that of cells and counts as `seed_question`, so that no plan hopes for
/// more samples.
///
/// Fails with fewer than two seeds or two such questions.
pub fn components(observations: &[Observation]) -> Result<Components> {
    let cells = cells(observations);
    table(&cells, |cell| Some(Cell::of(cells.get(cell)?)))
}

/// Estimates the components of the difference of two groups whose equal seeds share their data order, for plans with
/// [`Arms::Paired`]. Both groups have the same seeds; `sample` is the sum of both groups' spread of answers.
pub fn components_of_difference(a: &[Observation], b: &[Observation]) -> Result<Components> {
    let (a, b) = (cells(a), cells(b));
    let seeds = |cells: &Scores| cells.keys().map(|(seed, _)| *seed).collect::<BTreeSet<_>>();
    let alone = seeds(&a).symmetric_difference(&seeds(&b)).next().copied();
    ensure!(
        alone.is_none(),
        "only one of the two groups has scores for seed {}", alone.unwrap_or_default();
        help: "plan with independent arms, or compare groups of the same seeds"
    );
    table(&a, |cell| Some(Cell::of(a.get(cell)?).minus(&Cell::of(b.get(cell)?))))
}

/// Variance of the mean over so many seeds, questions and answers to each question: σ²_seed/S + σ²_question/Q +
/// σ²_seed×question/(SQ) + σ²_sample/(SQK).
pub fn variance_of_mean(components: &Components, seeds: usize, questions: usize, samples: usize) -> f64 {
    let (seeds, questions, samples) = (seeds as f64, questions as f64, samples as f64);
    components.seed / seeds
        + components.question / questions
        + components.seed_question / (seeds * questions)
        + components.sample / (seeds * questions * samples)
}

/// What a comparison of two groups is to speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Other seeds with these questions: how questions differ does not matter.
    #[default]
    TheseQuestions,
    /// Other seeds and other questions: the spread of questions remains, however many seeds there are.
    OtherQuestions,
}

/// Which plans are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// Numbers of seeds in each group, each at least 2.
    pub seeds: Vec<usize>,
    /// Numbers of questions.
    pub questions: Vec<usize>,
    /// Numbers of answers to each question.
    pub samples: Vec<usize>,
    /// How the seeds of the two groups belong together. Paired plans need [`components_of_difference`].
    pub arms: Arms,
    /// What the comparison is to speak of.
    pub claim: Claim,
    /// Of the two-sided test, as a share: 0.95.
    pub confidence: f64,
    /// The probability to find the difference, as a share: 0.8.
    pub power: f64,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            seeds: vec![2, 3, 4, 5, 6, 10],
            questions: vec![8, 16, 32, 64],
            samples: vec![1, 10, 50, 100],
            arms: Arms::default(),
            claim: Claim::default(),
            confidence: CONFIDENCE,
            power: POWER,
        }
    }
}

/// One way to spend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seeds in each of the two groups.
    pub seeds: usize,
    /// Questions, the same for all seeds.
    pub questions: usize,
    /// Answers to each question by each seed.
    pub samples: usize,
    /// The smallest difference of two groups' means that is found, in the unit of the scores.
    pub detectable: f64,
    /// Answers of both groups: 2 x seeds x questions x samples.
    pub answers: usize,
}

/// The smallest detectable difference of two groups for every combination of the options, in their order: seeds, then
/// questions, then samples.
///
/// Components of one group are taken for both. For [`Claim::TheseQuestions`] it is the t test over seed means. For
/// [`Claim::OtherQuestions`] the degrees of freedom are at most questions - 1, as in [`two_way`](super::two_way()), and
/// for [`Arms::Independent`] the whole variance of questions counts in each group: what both groups share of it would
/// cancel, so the plan promises too little rather than too much.
pub fn plans(components: &Components, options: &PlanOptions) -> Result<Vec<Plan>> {
    let Components { seed, question, seed_question, sample } = *components;
    ensure!(
        [seed, question, seed_question, sample].iter().all(|variance| variance.is_finite() && *variance >= 0.0),
        "variances are not negative, found {seed}, {question}, {seed_question} and {sample}"
    );
    let fewest_questions = if options.claim == Claim::OtherQuestions { 2 } else { 1 };
    for (numbers, least, noun) in [
        (&options.seeds, 2, "seeds"),
        (&options.questions, fewest_questions, "questions"),
        (&options.samples, 1, "samples"),
    ] {
        let found = numbers.iter().min().copied().unwrap_or(0);
        ensure!(found >= least, "a plan needs at least {least} {noun}, found {found}");
    }
    let counted = match options.claim {
        Claim::TheseQuestions => Components { question: 0.0, ..*components },
        Claim::OtherQuestions => *components,
    };
    let mut standard_errors = BTreeMap::<u64, f64>::new();
    let mut plans = Vec::new();
    for &seeds in &options.seeds {
        for &questions in &options.questions {
            let of_seeds = options.arms.degrees_of_freedom(seeds);
            let degrees = match options.claim {
                Claim::TheseQuestions => of_seeds,
                Claim::OtherQuestions => of_seeds.min(questions as f64 - 1.0),
            };
            let needed = match standard_errors.get(&degrees.to_bits()) {
                Some(needed) => *needed,
                None => detectable_standard_errors(degrees, options.confidence, options.power)?,
            };
            standard_errors.insert(degrees.to_bits(), needed);
            for &samples in &options.samples {
                let of_mean = variance_of_mean(&counted, seeds, questions, samples);
                plans.push(Plan {
                    seeds,
                    questions,
                    samples,
                    detectable: needed * (of_mean * options.arms.variance_of_difference(1.0)).sqrt(),
                    answers: 2 * seeds * questions * samples,
                });
            }
        }
    }
    Ok(plans)
}

type Scores = BTreeMap<(u64, u32), Vec<f64>>;

/// Scores by seed and question.
fn cells(observations: &[Observation]) -> Scores {
    let mut cells = Scores::new();
    for observation in observations {
        if let Ok(score) = observation.score {
            cells.entry((observation.seed, observation.question)).or_default().push(score);
        }
    }
    cells
}

/// What one seed makes of one question: a mean, or a difference of two.
struct Cell {
    mean: f64,
    /// (n, Σ (x - x̄)²) of each group.
    groups: Vec<(f64, f64)>,
}

impl Cell {
    fn of(scores: &[f64]) -> Self {
        let squares = variance(scores) * (scores.len() as f64 - 1.0);
        Cell { mean: mean(scores), groups: vec![(scores.len() as f64, squares)] }
    }
    fn minus(mut self, other: &Cell) -> Self {
        self.mean -= other.mean;
        self.groups.extend(&other.groups);
        self
    }
}

/// The components of the cells that `cell` gives for the seeds and questions of `keys`.
fn table(keys: &Scores, cell: impl Fn(&(u64, u32)) -> Option<Cell>) -> Result<Components> {
    let seeds: BTreeSet<u64> = keys.keys().map(|(seed, _)| *seed).collect();
    let all_questions: BTreeSet<u32> = keys.keys().map(|(_, question)| *question).collect();
    // One row per question, a cell per seed.
    let rows: Vec<Vec<Cell>> = all_questions
        .iter()
        .filter_map(|question| seeds.iter().map(|seed| cell(&(*seed, *question))).collect())
        .collect();
    ensure!(
        seeds.len() >= 2 && rows.len() >= 2,
        "components need at least 2 seeds and 2 questions that every seed has a score for, found {} and {}",
        seeds.len(), rows.len();
        help: "train a second seed, or plan questions alone"
    );
    let (s, q) = (seeds.len() as f64, rows.len() as f64);
    let of_questions: Vec<f64> = rows.iter().map(|row| row.iter().map(|cell| cell.mean).sum::<f64>() / s).collect();
    let of_seeds: Vec<f64> =
        (0..seeds.len()).map(|seed| rows.iter().map(|row| row[seed].mean).sum::<f64>() / q).collect();
    let centre = mean(&of_questions);
    let mut interaction = 0.0;
    for (row, of_question) in rows.iter().zip(&of_questions) {
        for (cell, of_seed) in row.iter().zip(&of_seeds) {
            interaction += (cell.mean - of_question - of_seed + centre).powi(2);
        }
    }
    interaction /= (s - 1.0) * (q - 1.0);
    let (mut sample, mut sample_of_cell) = (0.0, 0.0);
    for group in 0..rows[0][0].groups.len() {
        let counts: Vec<(f64, f64)> = rows.iter().flatten().map(|cell| cell.groups[group]).collect();
        let degrees: f64 = counts.iter().map(|(n, _)| n - 1.0).sum();
        if degrees > 0.0 {
            let within = counts.iter().map(|(_, squares)| squares).sum::<f64>() / degrees;
            sample += within;
            sample_of_cell += within * counts.iter().map(|(n, _)| 1.0 / n).sum::<f64>() / (s * q);
        }
    }
    Ok(Components {
        seed: (variance(&of_seeds) - interaction / q).max(0.0),
        question: (variance(&of_questions) - interaction / s).max(0.0),
        seed_question: (interaction - sample_of_cell).max(0.0),
        sample,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::power::seeds_detectable;
    use super::*;
    use crate::data::random::Random;

    fn observations(scores: &[Vec<Vec<f64>>]) -> Vec<Observation> {
        let mut all = Vec::new();
        for (seed, questions) in scores.iter().enumerate() {
            for (question, answers) in questions.iter().enumerate() {
                let observe =
                    |score: &f64| Observation { seed: seed as u64, question: question as u32, score: Ok(*score) };
                all.extend(answers.iter().map(observe));
            }
        }
        all
    }

    fn values(components: Components) -> [f64; 4] {
        [components.seed, components.question, components.seed_question, components.sample]
    }

    fn near(found: &[f64], expected: &[f64], tolerance: f64) {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
        assert!(found.iter().zip(expected).all(close), "found {found:?}, expected {expected:?}");
    }

    #[test]
    fn components_agree_with_the_mean_squares_of_statsmodels() {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        for case in all["components"].as_array().unwrap() {
            let scores: Vec<Vec<Vec<f64>>> = serde_json::from_value(case["scores"].clone()).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["components"].clone()).unwrap();
            near(&values(components(&observations(&scores)).unwrap()), &expected, 1e-8);
        }
    }

    /// Scores with variances 9, 16, 4 and 25, of 1 to 4 answers per cell; `shift` moves the seeds.
    fn draw(random: &mut Random, shift: &[f64; 4]) -> Vec<Observation> {
        let questions: Vec<f64> = (0..6).map(|_| 4.0 * random.normal()).collect();
        let mut all = Vec::new();
        for (seed, shift) in shift.iter().enumerate() {
            let of_seed = shift + 3.0 * random.normal();
            for (question, of_question) in questions.iter().enumerate() {
                let cell = of_seed + of_question + 2.0 * random.normal();
                for _ in 0..=random.below(4) {
                    let score = Ok(cell + 5.0 * random.normal());
                    all.push(Observation { seed: seed as u64, question: question as u32, score });
                }
            }
        }
        all
    }

    #[test]
    fn components_of_unequal_cells_are_found_on_average_and_pairs_cancel_what_seeds_share() {
        let mut random = Random::new(3);
        let (mut of_one, mut of_pair) = ([0.0; 4], [0.0; 4]);
        let draws = 1500;
        for _ in 0..draws {
            let shift: [f64; 4] = std::array::from_fn(|_| 30.0 * random.normal());
            let (a, b) = (draw(&mut random, &shift), draw(&mut random, &shift));
            let alone = values(components(&draw(&mut random, &[0.0; 4])).unwrap());
            let pair = values(components_of_difference(&a, &b).unwrap());
            (0..4).for_each(|i| of_one[i] += alone[i] / f64::from(draws));
            (0..4).for_each(|i| of_pair[i] += pair[i] / f64::from(draws));
        }
        // Clipping at 0 lifts the means a little.
        near(&of_one, &[9.0, 16.0, 4.0, 25.0], 1.5);
        near(&of_pair, &[18.0, 32.0, 8.0, 50.0], 3.0);
    }

    #[test]
    fn questions_that_a_seed_lacks_are_left_out_and_one_seed_is_refused() {
        let mut scores = observations(&[vec![vec![1.0, 2.0], vec![5.0, 4.0]], vec![vec![3.0, 3.5], vec![9.0, 9.5]]]);
        let whole = components(&scores).unwrap();
        scores.push(Observation { seed: 0, question: 7, score: Ok(100.0) });
        scores.push(Observation { seed: 1, question: 7, score: Err("refused".into()) });
        assert_eq!(components(&scores).unwrap(), whole);
        assert!(components(&scores[..4]).is_err() && components(&[]).is_err());
        assert!(components_of_difference(&scores, &scores[..4]).is_err());
    }

    const SPREAD: Components = Components { seed: 9.0, question: 16.0, seed_question: 4.0, sample: 25.0 };

    #[test]
    fn plans_about_these_questions_are_t_tests_over_seed_means() {
        for arms in [Arms::Independent, Arms::Paired] {
            let options = PlanOptions { arms, ..PlanOptions::default() };
            let plans = plans(&SPREAD, &options).unwrap();
            assert_eq!(plans.len(), 6 * 4 * 4);
            for plan in &plans {
                let (questions, samples) = (plan.questions as f64, plan.samples as f64);
                let deviation = (9.0 + 4.0 / questions + 25.0 / (questions * samples)).sqrt();
                let expected = deviation * seeds_detectable(plan.seeds, arms, 0.95, 0.8).unwrap();
                assert!((plan.detectable - expected).abs() < 1e-9 * expected);
                assert_eq!(plan.answers, 2 * plan.seeds * plan.questions * plan.samples);
            }
        }
    }

    #[test]
    fn more_of_anything_never_detects_less_and_samples_saturate_at_the_questions() {
        for claim in [Claim::TheseQuestions, Claim::OtherQuestions] {
            let at = |seeds, questions, samples| {
                let options = PlanOptions {
                    seeds: vec![seeds],
                    questions: vec![questions],
                    samples: vec![samples],
                    claim,
                    ..PlanOptions::default()
                };
                plans(&SPREAD, &options).unwrap()[0].detectable
            };
            let least = at(3, 8, 10);
            assert!(at(4, 8, 10) < least && at(3, 9, 10) < least && at(3, 8, 11) < least);
            assert!(at(3, 8, 1_000_000) > 0.95 * least);
        }
        let options = PlanOptions { claim: Claim::OtherQuestions, ..PlanOptions::default() };
        let (these, other) = (plans(&SPREAD, &PlanOptions::default()).unwrap(), plans(&SPREAD, &options).unwrap());
        assert!(these.iter().zip(&other).all(|(these, other)| these.detectable < other.detectable));
        assert!(plans(&SPREAD, &PlanOptions { seeds: vec![1], ..options.clone() }).is_err());
        assert!(plans(&SPREAD, &PlanOptions { samples: vec![], ..options }).is_err());
        // Where questions alone vary, 3 of them are as few units as 3 pairs of seeds, however many seeds answer them.
        let questions = Components { question: 16.0, ..Components::default() };
        let options = PlanOptions {
            seeds: vec![10],
            questions: vec![3],
            arms: Arms::Paired,
            claim: Claim::OtherQuestions,
            ..PlanOptions::default()
        };
        let expected = 4.0 * seeds_detectable(3, Arms::Paired, 0.95, 0.8).unwrap();
        assert!((plans(&questions, &options).unwrap()[0].detectable - expected).abs() < 1e-9 * expected);
        // The formula of the reference page, section 1.
        assert_eq!(variance_of_mean(&SPREAD, 3, 8, 5), 9.0 / 3.0 + 16.0 / 8.0 + 4.0 / 24.0 + 25.0 / 120.0);
    }
}
