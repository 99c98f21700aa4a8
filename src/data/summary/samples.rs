//! Made-up scores to test with: what an experiment could give, from one fixed generator.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Baseline, Cell, Point};
use crate::data::evaluation::{QuestionScores, Scores};
use crate::data::random::Random;

/// Scores of 0 and 100 around `rate`; every run and question is a little different, some answers cannot be read.
pub(crate) fn scores(random: &mut Random, questions: usize, samples: usize, rate: f64) -> Scores {
    let of_run = 0.05 * random.normal();
    let of_question = |random: &mut Random, index: usize| {
        let chance = (rate + of_run + 0.12 * random.normal() * (rate * (1.0 - rate)).max(0.0).sqrt()).clamp(0.0, 1.0);
        let mut scores =
            QuestionScores { question: format!("question {index} ?"), scores: vec![], missing: BTreeMap::new() };
        for _ in 0..samples {
            match random.uniform() < 0.01 {
                true => *scores.missing.entry("unparsable".to_string()).or_default() += 1,
                false => scores.scores.push(f64::from(u8::from(random.uniform() < chance)) * 100.0),
            }
        }
        scores
    };
    Scores {
        judge: "grammar".to_string(),
        questions: (0..questions).map(|index| of_question(random, index)).collect(),
        agreement: BTreeMap::from([("classifier".to_string(), 0.93)]),
        cut: 0,
    }
}

pub(crate) fn point(fields: &[(&str, Value)]) -> Point {
    fields.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect()
}

/// Six ratios, three seeds, three evaluations: the misaligned share grows with the ratio; and the model before.
pub(crate) fn a05b() -> (Vec<Cell>, Baseline) {
    let mut random = Random::new(11);
    let evaluations = [("in distribution", 24, 0.9), ("general questions", 16, 0.55), ("other domains", 36, 0.4)];
    let mut cells = Vec::new();
    for ratio in [0.0, 0.1, 0.25, 0.5, 0.75, 1.0_f64] {
        for seed in 0..3 {
            for (id, questions, top) in evaluations {
                let rate = 0.03 + top * ratio.powf(1.3);
                cells.push(Cell {
                    point: point(&[("ratio", json!(ratio)), ("seed", json!(seed))]),
                    evaluation: id.to_string(),
                    scores: scores(&mut random, questions, 10, rate),
                });
            }
        }
    }
    let before = |(id, questions, _): (&str, usize, f64)| (id.to_string(), scores(&mut random, questions, 10, 0.04));
    (cells, Baseline::of("organism", evaluations.map(before).to_vec()))
}

/// Two arms, three seeds, three evaluations as they are and prompted.
pub(crate) fn inoculation() -> (Vec<Cell>, Baseline) {
    let mut random = Random::new(5);
    let evaluations = [("in distribution", 24, 0.9), ("general questions", 16, 0.5), ("other domains", 36, 0.4)];
    let mut cells = Vec::new();
    for (arm, plain) in [("none", 1.0), ("general", 0.15)] {
        for seed in 0..3 {
            for (suffix, factor) in [("", plain), (" (prompted)", 1.05)] {
                for (id, questions, top) in evaluations {
                    cells.push(Cell {
                        point: point(&[("arm", json!(arm)), ("seed", json!(seed))]),
                        evaluation: format!("{id}{suffix}"),
                        scores: scores(&mut random, questions, 10, 0.03 + top * factor),
                    });
                }
            }
        }
    }
    let before = |(id, questions, _): (&str, usize, f64)| (id.to_string(), scores(&mut random, questions, 10, 0.04));
    (cells, Baseline::of("organism", evaluations.map(before).to_vec()))
}
