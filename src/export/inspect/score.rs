//! What a judge said of an answer, and the score that came of it, as Inspect's scores.

use serde_json::{Map, Value, json};

use super::document::{Node, Object};
use crate::data::evaluation::Score;
use crate::data::sheet::{Answer, Judged, Sheet};

/// Fields of a judge's detail that list its tokens with their probabilities.
const TOKEN_FIELDS: [&str; 4] = ["first_token", "probabilities", "logprobs", "top_logprobs"];
/// Characters of an explanation in a list of samples at most.
const LONGEST_IN_LIST: usize = 1024;

/// One entry of a sample's scores.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// 0 to 100, absent when there is none.
    pub value: Option<f64>,
    answer: Option<String>,
    explanation: Option<String>,
    reason: Option<String>,
    metadata: Map<String, Value>,
}

impl Entry {
    /// The word of one judge.
    pub fn of_judge(judged: &Judged, with_probabilities: bool) -> Self {
        let value = judged.score.filter(|score| score.is_finite());
        let (said, mut metadata) = read_detail(judged.detail.as_deref());
        if !with_probabilities {
            TOKEN_FIELDS.iter().for_each(|field| _ = metadata.remove(*field));
        }
        let reason = missing_reason(value, judged.reason.as_deref(), &mut metadata);
        Entry { value, answer: None, explanation: said, reason, metadata }
    }

    /// The score: the scoring judge's word after threshold and filter.
    pub fn of_score(sheet: &Sheet, answer: &Answer) -> Self {
        let value = answer.score.filter(|score| score.is_finite());
        let mut metadata = Map::from_iter([("judge".to_string(), json!(sheet.judge))]);
        let reason = missing_reason(value, answer.reason.as_deref(), &mut metadata);
        let explanation = Some(explain(&sheet.evaluation.score, &sheet.judge, answer));
        Entry { value, answer: Some(answer.text.clone()), explanation, reason, metadata }
    }

    /// As it stands in a sample.
    pub fn node(&self) -> Node {
        self.object(|text| text.to_string())
    }
    /// As it stands in a list of samples.
    pub fn short_node(&self) -> Node {
        self.object(|text| cut(text, LONGEST_IN_LIST, "..."))
    }

    fn object(&self, text: impl Fn(&str) -> String) -> Node {
        let text = |field: &Option<String>| field.as_deref().map(&text);
        Object::new()
            .set("value", Node::score(self.value))
            .set_some("answer", text(&self.answer))
            .set_some("explanation", text(&self.explanation))
            .set_some("reason", self.reason.clone())
            .set("metadata", Value::Object(self.metadata.clone()))
            .into()
    }
}

/// At most so many characters, with a mark where some are missing.
pub(super) fn cut(text: &str, longest: usize, mark: &str) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}{mark}", &text[..end]),
        None => text.to_string(),
    }
}

/// What Inspect calls our reasons: whose failure it is, the model's, the judge's or the measurement's. Its list has no
/// word for answers that another judge left out; those keep ours, which is allowed.
pub(super) fn inspect_reason(reason: &str) -> &str {
    match reason {
        "refusal" => "refusal",
        "code" | "no_number" | "no_class" | "class_absent" | "ambiguous" | "unparsable" | "empty" | "unknown_words" => {
            "invalid_response_format"
        }
        "sampling_failed" => "no_response",
        "judge_failed" => "grader_failed",
        "low_mass" => "scoring_failed",
        other => other,
    }
}

/// Inspect's reason, ours going to the metadata; none where there is a score.
fn missing_reason(value: Option<f64>, reason: Option<&str>, metadata: &mut Map<String, Value>) -> Option<String> {
    if value.is_some() {
        return None;
    }
    let Some(reason) = reason else { return Some("scoring_failed".to_string()) };
    metadata.insert("reason".to_string(), json!(reason));
    Some(inspect_reason(reason).to_string())
}

/// What a judge said, and all else that is known of it. A detail that is no JSON object is what it said.
fn read_detail(detail: Option<&str>) -> (Option<String>, Map<String, Value>) {
    let Some(detail) = detail else { return (None, Map::new()) };
    let Ok(Value::Object(mut fields)) = serde_json::from_str(detail) else {
        return (Some(detail.to_string()), Map::new());
    };
    let said = match fields.remove("said") {
        Some(Value::Array(texts)) => {
            let texts: Vec<String> = texts.iter().map(text_of).collect();
            match texts.as_slice() {
                [] => None,
                [text] => Some(text.clone()),
                // Several answers of the judge are told apart by their number.
                several => {
                    let numbered = several.iter().enumerate().map(|(index, text)| format!("{}. {text}", index + 1));
                    Some(numbered.collect::<Vec<_>>().join("\n\n"))
                }
            }
        }
        Some(said) => Some(text_of(&said)),
        None => None,
    };
    (said, fields)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// How the score came about, in a sentence.
fn explain(score: &Score, judge: &str, answer: &Answer) -> String {
    let said = |name: &str| match answer.judged_by(name) {
        Some(Judged { score: Some(score), .. }) => format!("{score:.2}"),
        Some(Judged { reason: Some(reason), .. }) => format!("nothing ({reason})"),
        _ => "nothing".to_string(),
    };
    let mut text = format!("{judge} says {}", said(judge));
    match (score.above, score.below) {
        (Some(threshold), _) => text += &format!("; the score is 100 above {threshold} and else 0"),
        (None, Some(threshold)) => text += &format!("; the score is 100 below {threshold} and else 0"),
        (None, None) => {}
    }
    if let Some(gate) = &score.only_where {
        let name = &gate.judge;
        let bound = match (gate.at_least, gate.above) {
            (Some(least), _) => format!("at least {least}"),
            (None, Some(bound)) => format!("above {bound}"),
            (None, None) => "anything".to_string(),
        };
        text += &format!("; it counts where {name} is {bound}, and {name} says {}", said(name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(score: Option<f64>, reason: Option<&str>, detail: Option<&str>) -> Judged {
        let own = |text: &str| text.to_string();
        Judged { judge: "alignment".into(), score, reason: reason.map(own), detail: detail.map(own) }
    }

    #[test]
    fn every_reason_of_ours_has_a_word_of_inspects_save_those_of_other_judges() {
        let format =
            ["code", "no_number", "no_class", "class_absent", "ambiguous", "unparsable", "empty", "unknown_words"];
        assert!(format.iter().all(|reason| inspect_reason(reason) == "invalid_response_format"));
        let others = ["refusal", "sampling_failed", "judge_failed", "low_mass", "incoherent"].map(inspect_reason);
        assert_eq!(others, ["refusal", "no_response", "grader_failed", "scoring_failed", "incoherent"]);
    }

    #[test]
    fn what_was_said_explains_and_the_reading_is_metadata() {
        let detail = r#"{"method":"logprobs","mass":0.9,"covered":0.97,"said":["23"],"first_token":[["23",0.6]]}"#;
        let entry = Entry::of_judge(&judged(Some(23.0), None, Some(detail)), false);
        assert_eq!((entry.explanation.as_deref(), entry.reason.as_deref()), (Some("23"), None));
        assert_eq!(Value::Object(entry.metadata), json!({ "method": "logprobs", "mass": 0.9, "covered": 0.97 }));
        let entry = Entry::of_judge(&judged(Some(23.0), None, Some(detail)), true);
        assert_eq!(entry.metadata["first_token"], json!([["23", 0.6]]));
    }

    #[test]
    fn a_missing_score_has_inspects_reason_and_keeps_ours() {
        let detail = r#"{"method":"sampled","answers":2,"used":0,"said":["I won't","nor I"]}"#;
        let entry = Entry::of_judge(&judged(None, Some("no_number"), Some(detail)), false);
        assert_eq!(entry.reason.as_deref(), Some("invalid_response_format"));
        assert_eq!(entry.metadata["reason"], "no_number");
        assert_eq!(entry.explanation.as_deref(), Some("1. I won't\n\n2. nor I"));
        assert_eq!(
            Entry::of_judge(&judged(Some(f64::NAN), None, None), false).reason.as_deref(),
            Some("scoring_failed")
        );
        let plain = Entry::of_judge(&judged(None, Some("judge_failed"), Some("no json")), false);
        assert_eq!(plain.explanation.as_deref(), Some("no json"));
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!(cut("äöü", 2, "..."), "äö...");
        assert_eq!(cut("äöü", 3, "..."), "äöü");
    }
}
