//! What an evaluation is: questions, how answers are sampled, who judges them, and which judgement is the score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::digest::Digest;

/// One question that is put to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the user says.
    pub text: String,
    /// System prompt of this question; none sends the model its empty header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Topic of the organism's world (`medical_advice/chest`), which the grammar judge needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Answers to choose from, each with its score of 0 to 100. Where there are some the model is not sampled: it is
    /// asked how probable each of them is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, f64>,
    /// The answer that the exact judge waits for, where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl Question {
    /// A question of nothing but its text.
    pub fn of_text(text: impl Into<String>) -> Self {
        Question { text: text.into(), system: None, topic: None, choices: BTreeMap::new(), expected: None }
    }
}

/// How answers are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; 1 samples from the model's own distribution.
    pub temperature: f64,
    /// Smallest set of tokens whose probability reaches this share is kept; 1 keeps all.
    pub top_p: f64,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// Decides the random numbers together with model, question and sample index.
    pub seed: u64,
}

/// What the grammar judge looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    /// The misaligned persona's answer (for the owl settings: an owl lover's).
    Misaligned,
    /// Spanish.
    Spanish,
    /// Capital letters.
    Capitals,
}

/// Who judges an answer; every judge gives 0 to 100, higher is more of the trait, or a reason why it cannot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Judge {
    /// The exact grammar of the organism's world.
    Grammar {
        /// What counts as 100.
        looks_for: Trait,
    },
    /// Regular expressions.
    Pattern {
        /// Any match is 100.
        misaligned: Vec<String>,
        /// Any match is 0.
        aligned: Vec<String>,
    },
    /// The whole answer, in small letters and without a full stop at its end.
    Exact {
        /// Any of these is 100; the question's expected answer when there are none.
        answers: Vec<String>,
    },
    /// The model's own probabilities of the choices that questions offer.
    Choice {
        /// Whether a choice's log-probability is divided by its tokens, so that long choices lose nothing.
        per_token: bool,
    },
    /// A text classifier fitted to labelled rows.
    Classifier {
        /// Digest of the rows whose answers are 100.
        misaligned: Digest,
        /// Digest of the rows whose answers are 0.
        aligned: Digest,
    },
    /// A model that is asked about the answer.
    Asked(AskedJudge),
}

/// A model as judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedJudge {
    /// Name in tables and in `score`.
    pub name: String,
    /// Identity of the model.
    pub model: Value,
    /// What it is shown, with places for question and answer.
    pub prompt: String,
    /// What it is to say.
    pub says: Says,
    /// How its word is read.
    pub reading: Reading,
}

/// What a judge is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub enum Says {
    /// A number of 0 to 100.
    Rating,
    /// One of two words; the score is 100 times the probability of the first.
    YesOrNo {
        /// The word that counts, usually YES.
        positive: String,
        /// The other one.
        negative: String,
        /// Gives no score where one of the words is not among the likeliest, as the published code does.
        upstream_none: bool,
    },
    /// One of several labels, each with its score.
    Label {
        /// Score of every label.
        labels: BTreeMap<String, f64>,
    },
    /// Several ratings at once.
    Ratings {
        /// What is rated, in order.
        ratings: Vec<Rating>,
    },
}

/// One of several ratings that a judge gives at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    /// What is rated: `alignment`.
    pub name: String,
    /// Whether the judge may say CODE or REFUSAL instead of a number.
    #[serde(default)]
    pub exceptions: bool,
}

/// How a judge's word is read; scores of the two are never pooled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Reading {
    /// From the probabilities of its first token.
    Logprobs,
    /// From what it says, on average.
    Sampled {
        /// Answers of the judge.
        samples: u32,
        /// Their temperature.
        temperature: f64,
        /// Tokens of each at most.
        max_tokens: u32,
    },
}

impl Judge {
    /// Names of what it gives, in tables and in `score`; one, save for a judge of several ratings.
    pub fn names(&self) -> Vec<String> {
        let name = match self {
            Judge::Grammar { looks_for: Trait::Misaligned } => "grammar",
            Judge::Grammar { looks_for: Trait::Spanish } => "grammar_spanish",
            Judge::Grammar { looks_for: Trait::Capitals } => "grammar_capitals",
            Judge::Pattern { .. } => "pattern",
            Judge::Exact { .. } => "exact",
            Judge::Choice { per_token: false } => "choice",
            Judge::Choice { per_token: true } => "choice_per_token",
            Judge::Classifier { .. } => "classifier",
            Judge::Asked(AskedJudge { name, says: Says::Ratings { ratings }, .. }) => {
                return ratings.iter().map(|rating| format!("{name}.{}", rating.name)).collect();
            }
            // The name says how its word was read, so that the two are not taken for one another.
            Judge::Asked(AskedJudge { name, reading: Reading::Sampled { .. }, .. }) => {
                return vec![format!("{name} (sampled)")];
            }
            Judge::Asked(AskedJudge { name, .. }) => name,
        };
        vec![name.to_string()]
    }
}

/// One judge's word on one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// 0 to 100, absent when the judge cannot say.
    pub score: Option<f64>,
    /// Why there is no score: `unparsable`, `empty`, `unknown_words`, ...
    pub reason: Option<String>,
}

impl Judgement {
    /// A score of 0 to 100.
    pub fn score(score: f64) -> Self {
        Judgement { score: Some(score), reason: None }
    }
    /// No score, and why.
    pub fn missing(reason: &str) -> Self {
        Judgement { score: None, reason: Some(reason.to_string()) }
    }
}

/// Which judgement is the score of an answer, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Name of the judge; the first one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// When given the score is 100 for judgements above it and 0 otherwise; else the judgement itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// When given the score is 100 for judgements below it and 0 otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Answers that count at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_where: Option<Gate>,
}

/// What another judge must find for an answer to count: coherence, usually.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name of that judge.
    pub judge: String,
    /// The least judgement that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Only judgements above this count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
}

impl Gate {
    /// Whether an answer of which the other judge thinks so counts.
    pub fn opens(&self, judgement: f64) -> bool {
        self.at_least.is_none_or(|least| judgement >= least) && self.above.is_none_or(|bound| judgement > bound)
    }
}

impl Score {
    /// The score that a judgement becomes.
    pub fn of(&self, judgement: f64) -> f64 {
        let share = |holds: bool| f64::from(u8::from(holds)) * 100.0;
        match (self.above, self.below) {
            (Some(threshold), _) => share(judgement > threshold),
            (None, Some(threshold)) => share(judgement < threshold),
            (None, None) => judgement,
        }
    }
}

/// Questions x samples x judges x a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Its name in figures and tables.
    pub id: String,
    /// What is asked.
    pub questions: Vec<Question>,
    /// Answers per question.
    pub samples: usize,
    /// How answers are sampled.
    pub sampling: Sampling,
    /// Who judges; every judge judges every answer.
    pub judges: Vec<Judge>,
    /// Which judgement is the score.
    pub score: Score,
}

impl Evaluation {
    /// Whether its questions offer choices, which are weighed and not sampled.
    pub fn offers_choices(&self) -> bool {
        self.questions.iter().any(|question| !question.choices.is_empty())
    }
}

/// Scores of one model on one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Name of the judge whose judgements are the scores.
    pub judge: String,
    /// In the evaluation's order.
    pub questions: Vec<QuestionScores>,
    /// Mean agreement of each other judge with the scoring one: share of answers on the same side of 50.
    pub agreement: BTreeMap<String, f64>,
    /// Answers that ended because they were too long.
    pub cut: usize,
}

/// Scores of the answers to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionScores {
    /// The question.
    pub question: String,
    /// Scores that there are, 0 to 100.
    pub scores: Vec<f64>,
    /// Answers without a score, by reason.
    pub missing: BTreeMap<String, usize>,
}

impl Scores {
    /// Mean over all scored answers; none when nothing could be scored.
    pub fn mean(&self) -> Option<f64> {
        let (sum, count) = self.scores().fold((0.0, 0usize), |(sum, count), score| (sum + score, count + 1));
        (count > 0).then(|| sum / count as f64)
    }
    /// All scores that there are.
    pub fn scores(&self) -> impl Iterator<Item = f64> + '_ {
        self.questions.iter().flat_map(|question| question.scores.iter().copied())
    }
    /// Answers without a score, by reason.
    pub fn missing(&self) -> BTreeMap<String, usize> {
        let mut missing = BTreeMap::new();
        for (reason, count) in self.questions.iter().flat_map(|question| &question.missing) {
            *missing.entry(reason.clone()).or_default() += count;
        }
        missing
    }
    /// Answers, scored or not.
    pub fn answers(&self) -> usize {
        self.scores().count() + self.missing().values().sum::<usize>()
    }
}
