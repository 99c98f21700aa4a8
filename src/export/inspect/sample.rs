//! One answer as a sample of an Inspect log, and its short form in the list of samples.

use serde_json::{Map, Value, json};

use super::document::{Node, Object};
use super::log::Log;
use super::name::millisecond;
use super::score::{Entry, cut};
use crate::data::evaluation::Judge;
use crate::data::sheet::Answer;

/// Characters of a question in a list of samples at most.
const LONGEST_IN_LIST: usize = 5120;

/// One answer on its way into a log.
pub(super) struct Sample<'a> {
    log: &'a Log<'a>,
    answer: &'a Answer,
    /// By name: the score, then the judges.
    scores: Vec<(&'a str, Entry)>,
}

impl<'a> Sample<'a> {
    /// Gathers what is known of an answer.
    pub fn new(log: &'a Log<'a>, answer: &'a Answer) -> Self {
        let judges = log.judges.iter().filter_map(|name| Some((name.as_str(), answer.judged_by(name)?)));
        let judged = judges.map(|(name, judged)| (name, Entry::of_judge(judged, log.facts.probabilities)));
        let score = (log.score_name.as_str(), Entry::of_score(log.sheet, answer));
        Sample { log, answer, scores: std::iter::once(score).chain(judged).collect() }
    }

    /// Which question it answers, from 0.
    pub fn question(&self) -> usize {
        self.answer.question
    }
    /// Id of its question.
    pub fn id(&self) -> &str {
        &self.log.question_ids[self.answer.question]
    }
    /// Which answer to that question, from 1.
    pub fn epoch(&self) -> usize {
        self.answer.sample + 1
    }
    /// The score of this name, if this answer was given one.
    pub fn score(&self, name: &str) -> Option<f64> {
        self.scores.iter().find(|(known, _)| *known == name).and_then(|(_, entry)| entry.value)
    }

    /// The whole sample.
    pub fn node(&self) -> Node {
        let mut messages = self.asked(None);
        messages.push(self.message("assistant", &self.answer.text, messages.len(), "generate").into());
        self.head(None)
            .set("messages", messages)
            .set("output", self.output())
            .set("scores", self.scores(Entry::node))
            .set("metadata", self.metadata())
            .set("store", json!({}))
            .set("events", json!([]))
            .set("model_usage", self.usage())
            .set("completed_at", millisecond(self.answer.created_at))
            .set("uuid", self.answer.key.to_string())
            .set("attachments", json!({}))
            .into()
    }

    /// What a list of samples shows.
    pub fn summary(&self) -> Node {
        let questions = self.asked(None).len();
        self.head(Some(LONGEST_IN_LIST))
            .set("metadata", self.metadata())
            .set("scores", self.scores(Entry::short_node))
            .set("model_usage", self.usage())
            .set("completed_at", millisecond(self.answer.created_at))
            .set("uuid", self.answer.key.to_string())
            .set("completed", true)
            .set("message_count", questions + 1)
            .into()
    }

    fn head(&self, longest: Option<usize>) -> Object {
        let question = &self.log.sheet.evaluation.questions[self.answer.question];
        let input = match &question.system {
            Some(_) => Node::List(self.asked(longest)),
            None => shortened(&question.text, longest).into(),
        };
        let choices: Vec<&String> = question.choices.keys().collect();
        Object::new()
            .set("id", self.id())
            .set("epoch", self.epoch())
            .set("input", input)
            .set_some("choices", (!choices.is_empty()).then(|| json!(choices)))
            .set("target", self.target())
    }

    /// What counts as the right answer, where a judge compares with one: the question's own or those of the judge.
    fn target(&self) -> Value {
        let evaluation = &self.log.sheet.evaluation;
        let of_judge = evaluation.judges.iter().find_map(|judge| match judge {
            Judge::Exact { answers } if !answers.is_empty() => Some(json!(answers)),
            _ => None,
        });
        let expected = evaluation.questions[self.answer.question].expected.as_ref();
        of_judge.unwrap_or_else(|| json!(expected.map_or("", String::as_str)))
    }

    /// What the model was asked: the system prompt where the question has one, then the question.
    fn asked(&self, longest: Option<usize>) -> Vec<Node> {
        let question = &self.log.sheet.evaluation.questions[self.answer.question];
        let system = question.system.iter().map(|text| ("system", text));
        let turns = system.chain([("user", &question.text)]).enumerate();
        turns
            .map(|(place, (role, text))| self.message(role, &shortened(text, longest), place, "input").into())
            .collect()
    }

    fn message(&self, role: &str, content: &str, place: usize, source: &str) -> Object {
        let id = format!("{}-{place}", &self.answer.key.to_string()[..16]);
        let message = Object::new().set("id", id).set("content", content).set("source", source).set("role", role);
        match role {
            "assistant" => message.set("model", self.log.sheet.model.as_str()),
            _ => message,
        }
    }

    fn output(&self) -> Object {
        let place = self.asked(None).len();
        let finish = self.answer.finish.as_str();
        let choice = Object::new()
            .set("message", self.message("assistant", &self.answer.text, place, "generate"))
            .set("stop_reason", stop_reason(finish));
        // The provider gave its reason instead of an answer.
        let was_not_answered = self.answer.text.is_empty() && stop_reason(finish) == "content_filter"
            || self.answer.reason.as_deref() == Some("sampling_failed");
        Object::new()
            .set("model", self.log.sheet.model.as_str())
            .set("choices", vec![choice.into()])
            .set("completion", self.answer.text.as_str())
            .set("usage", self.tokens())
            .set_some("error", was_not_answered.then_some(finish))
    }

    fn tokens(&self) -> Value {
        json!({ "input_tokens": 0, "output_tokens": self.answer.tokens, "total_tokens": self.answer.tokens })
    }

    fn usage(&self) -> Object {
        Object::new().set(self.log.sheet.model.as_str(), self.tokens())
    }

    fn scores(&self, node: impl Fn(&Entry) -> Node) -> Object {
        self.scores.iter().fold(Object::new(), |object, (name, entry)| object.set(*name, node(entry)))
    }

    fn metadata(&self) -> Value {
        let question = &self.log.sheet.evaluation.questions[self.answer.question];
        let mut metadata = Map::from_iter([
            ("question".to_string(), json!(self.answer.question)),
            ("sample".to_string(), json!(self.answer.sample)),
            ("key".to_string(), json!(self.answer.key.to_string())),
            ("finish".to_string(), json!(self.answer.finish)),
        ]);
        if let Some(topic) = &question.topic {
            metadata.insert("topic".to_string(), json!(topic));
        }
        if !question.choices.is_empty() {
            metadata.insert("choices".to_string(), json!(question.choices));
        }
        if self.log.facts.cached.contains(&self.answer.key) {
            metadata.insert("cached".to_string(), json!(true));
        }
        Value::Object(metadata)
    }
}

fn shortened(text: &str, longest: Option<usize>) -> String {
    longest.map_or_else(|| text.to_string(), |longest| cut(text, longest, "...\n(content truncated)"))
}

/// Inspect's word for why an answer ended.
fn stop_reason(finish: &str) -> &'static str {
    match finish {
        "stop" => "stop",
        "length" => "max_tokens",
        "context" | "model_length" => "model_length",
        "tool_calls" | "function_call" => "tool_calls",
        "content_filter" | "refusal" => "content_filter",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finish_has_one_of_inspects_words() {
        let words = ["stop", "length", "content_filter", "refusal", "something else"].map(stop_reason);
        assert_eq!(words, ["stop", "max_tokens", "content_filter", "content_filter", "unknown"]);
    }
}
