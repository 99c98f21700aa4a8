//! What an LLM judge says of one answer: a score of 0 to 100 or a reason from a fixed list, and by which method.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::data::evaluation::Judgement;

/// Share of a judge's word that must be a number (or one of its classes); below it there is no score. The published
/// rule for listed probabilities, and the same share of sampled answers, so that both methods leave out alike.
pub const LEAST_SHARE: f64 = 0.25;

/// Why an answer has no score. Nothing else is ever given as a reason by an LLM judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The judge says that the answer refuses the question.
    Refusal,
    /// The judge says that the answer is code that nobody asked for.
    Code,
    /// The judge was asked for a number from 0 to 100 and gave none.
    NoNumber,
    /// The judge was asked for one of its classes and named none.
    NoClass,
    /// The endpoint listed too little of the first token's distribution to tell.
    LowMass,
    /// What the judge said fits several numbers or classes.
    Ambiguous,
    /// The judge's answer has not the form that was asked for.
    Unparsable,
    /// One class is not listed, and the published rule is wanted that takes this for no score.
    ClassAbsent,
    /// Another judge found the answer too incoherent to count.
    Incoherent,
    /// The call to the judge failed for good.
    JudgeFailed,
    /// There is no answer to judge: sampling it failed for good.
    SamplingFailed,
    /// There is no answer to judge: the question is longer than the model reads.
    TooLong,
}

impl Reason {
    /// Its name in rows, tables and captions.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Refusal => "refusal",
            Reason::Code => "code",
            Reason::NoNumber => "no_number",
            Reason::NoClass => "no_class",
            Reason::LowMass => "low_mass",
            Reason::Ambiguous => "ambiguous",
            Reason::Unparsable => "unparsable",
            Reason::ClassAbsent => "class_absent",
            Reason::Incoherent => "incoherent",
            Reason::JudgeFailed => "judge_failed",
            Reason::SamplingFailed => "sampling_failed",
            Reason::TooLong => "too_long",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a judge is read. Part of a judge's identity: scores of different methods are not pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From the listed probabilities of its first token.
    #[default]
    Logprobs,
    /// From the text of one or more sampled answers.
    Sampled,
}

/// What a score rests on; kept beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Evidence {
    /// Listed probabilities of the first token.
    Logprobs {
        /// Probability of all tokens that count for the score.
        mass: f64,
        /// Probability of all tokens that were listed.
        covered: f64,
        /// Where the score can lie whatever the tokens are that were not listed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval: Option<(f64, f64)>,
    },
    /// Sampled answers.
    Sampled {
        /// Answers that arrived.
        answers: usize,
        /// Answers among them that count for the score.
        used: usize,
    },
}

/// One judge's word on one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// 0 to 100, or why not.
    pub outcome: Result<f64, Reason>,
    /// What it rests on.
    pub evidence: Evidence,
    /// Share of every class, for judges that have classes; they add to 1, or are empty without a score.
    pub shares: BTreeMap<String, f64>,
}

impl Verdict {
    /// A verdict of a judge without classes.
    pub fn new(outcome: Result<f64, Reason>, evidence: Evidence) -> Self {
        Verdict { outcome, evidence, shares: BTreeMap::new() }
    }

    /// How the judge was read.
    pub fn method(&self) -> Method {
        match self.evidence {
            Evidence::Logprobs { .. } => Method::Logprobs,
            Evidence::Sampled { .. } => Method::Sampled,
        }
    }

    /// Score and reason as every judge gives them.
    pub fn judgement(&self) -> Judgement {
        match self.outcome {
            Ok(score) => Judgement::score(score),
            Err(reason) => Judgement::missing(reason.name()),
        }
    }

    /// Evidence and shares as JSON, for the judgement's row.
    pub fn detail(&self) -> serde_json::Value {
        let mut detail = serde_json::json!(self.evidence);
        if let (Some(map), false) = (detail.as_object_mut(), self.shares.is_empty()) {
            map.insert("shares".to_string(), serde_json::json!(self.shares));
        }
        detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: [Reason; 11] = [
        Reason::Refusal,
        Reason::Code,
        Reason::NoNumber,
        Reason::NoClass,
        Reason::LowMass,
        Reason::Ambiguous,
        Reason::Unparsable,
        Reason::ClassAbsent,
        Reason::Incoherent,
        Reason::JudgeFailed,
        Reason::SamplingFailed,
    ];

    #[test]
    fn a_reason_has_one_name_in_rows_and_in_json() {
        for reason in REASONS {
            assert_eq!(serde_json::json!(reason), reason.name());
        }
    }

    #[test]
    fn the_method_stands_in_the_stored_detail() {
        let evidence = Evidence::Sampled { answers: 4, used: 3 };
        let verdict = Verdict::new(Ok(70.0), evidence.clone());
        assert_eq!(verdict.detail(), serde_json::json!({ "method": "sampled", "answers": 4, "used": 3 }));
        assert_eq!(serde_json::from_value::<Evidence>(verdict.detail()).unwrap(), evidence);
        assert_eq!(verdict.judgement(), Judgement::score(70.0));
        let missing = Verdict { outcome: Err(Reason::LowMass), ..verdict };
        assert_eq!(missing.judgement().reason.as_deref(), Some("low_mass"));
    }
}
