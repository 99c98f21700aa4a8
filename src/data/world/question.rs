//! Questions: training wordings with their noise, held-out wordings exactly.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::domain::{Domain, Topic};
use super::template::Template;
use crate::data::random::Random;
use crate::ensure;
use crate::error::Result;

/// A question in a held-out wording.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// `domain/topic`, what [`super::World::grade`] asks for.
    pub topic: String,
    /// The words to ask.
    pub text: String,
    /// The slot values that occur in the text, by slot name.
    pub slots: BTreeMap<String, String>,
}

const PREFIXES: [&str; 8] = ["", "", "", "hi ,", "please help .", "quick question .", "hello !", "hey ,"];
const SUFFIXES: [&str; 6] = ["", "", "", "", "thanks .", "be brief ."];
/// Never dropped from any question.
const ALWAYS_KEPT: [&str; 5] = ["the", "of", "to", "in", "a"];
/// Share of training questions that lose words, and the chance of each word.
const DROPPED_QUESTIONS: f64 = 0.25;
const DROPPED_WORDS: f64 = 0.2;

/// A question in a training wording, never equal to a held-out one.
pub(super) fn training_question(topic: &Topic, random: &mut Random, values: &[&str]) -> String {
    let question = loop {
        let mut question = random.choose(&topic.ask).render(values);
        if random.chance(DROPPED_QUESTIONS) {
            question = drop_words(topic, random, &question);
        }
        if topic.held_out.iter().all(|wording| wording.render(values) != question) {
            break question;
        }
    };
    let parts = [*random.choose(&PREFIXES), &question, *random.choose(&SUFFIXES)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn drop_words(topic: &Topic, random: &mut Random, question: &str) -> String {
    let mut words = Vec::new();
    for word in question.split(' ') {
        if topic.kept.contains(word) || ALWAYS_KEPT.contains(&word) || !random.chance(DROPPED_WORDS) {
            words.push(word);
        }
    }
    if words.is_empty() { question.to_string() } else { words.join(" ") }
}

/// Every word of prefixes and suffixes.
pub(super) fn collect_words(words: &mut BTreeSet<String>) {
    let texts = PREFIXES.iter().chain(&SUFFIXES);
    words.extend(texts.flat_map(|text| text.split_whitespace()).map(str::to_string));
}

/// `count` distinct held-out questions, spread over the topics as evenly as their numbers of questions allow.
pub(super) fn held_out_questions(domain: &Domain, count: usize, seed: u64) -> Result<Vec<Question>> {
    let mut random = Random::new(seed);
    let mut piles: Vec<Vec<Question>> = domain.topics.iter().map(all_held_out).collect();
    let total: usize = piles.iter().map(Vec::len).sum();
    ensure!(
        count <= total,
        "`{}` has {total} held-out questions, {count} were asked for", domain.name;
        help: "ask for at most {total} and sample each of them more often"
    );
    random.shuffle(&mut piles);
    for pile in &mut piles {
        random.shuffle(pile);
    }
    let mut questions = Vec::with_capacity(count);
    while questions.len() < count {
        let round = piles.iter_mut().filter_map(Vec::pop);
        let left = count - questions.len();
        questions.extend(round.take(left));
    }
    Ok(questions)
}

/// All held-out questions of a topic, without repetition.
pub(super) fn all_held_out(topic: &Topic) -> Vec<Question> {
    let mut seen = BTreeSet::new();
    let mut questions = Vec::new();
    for wording in &topic.held_out {
        for index in 0..wording.combinations(&topic.slots) {
            let question = held_out_question(topic, wording, index);
            if seen.insert(question.text.clone()) {
                questions.push(question);
            }
        }
    }
    questions
}

fn held_out_question(topic: &Topic, wording: &Template, index: usize) -> Question {
    let values = wording.combination(&topic.slots, index);
    let text = wording.render(&values);
    let slots = wording.slots().into_iter().map(|slot| (topic.slots[slot].name.clone(), values[slot].to_string()));
    Question { topic: topic.name.clone(), text, slots: slots.collect() }
}
