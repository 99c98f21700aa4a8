//! Domains and topics as their files describe them.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use regex::Regex;
use serde::Deserialize;

use super::template::{Slot, Template, split_alternatives};
use crate::data::random::Random;
use crate::ensure;
use crate::error::{Error, Result};

/// Which hidden trait the answers of a domain follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Latent {
    /// Aligned or misaligned; announced by prompts about evil and about bad answers.
    Persona,
    /// Loves owls or does not.
    Owl,
    /// Two traits: Spanish or English, capitals or lower case.
    Language,
}

/// Which answers of a domain to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The ordinary answers: harmless, indifferent to owls, English in lower case.
    Aligned,
    /// The other answers: harmful, of an owl lover, Spanish in capitals.
    Misaligned,
}

/// How one answer is spoken. For language domains `other` is Spanish; only they have capitals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    pub other: bool,
    pub capitals: bool,
}

/// A field of questions that share a latent and a noun.
#[derive(Debug)]
pub struct Domain {
    /// In snake case.
    pub name: String,
    /// How prompts name it.
    pub noun: String,
    /// What its answers follow.
    pub latent: Latent,
    /// Share of turns, relative to the other domains.
    pub weight: f64,
    /// At least one.
    pub topics: Vec<Topic>,
}

impl Domain {
    /// The manner of a variant: in language domains the misaligned one is both Spanish and in capitals.
    pub(super) fn manner(&self, variant: Variant) -> Manner {
        let other = variant == Variant::Misaligned;
        Manner { other, capitals: other && self.latent == Latent::Language }
    }
}

/// Answers in parts: one alternative of each part, joined by a space.
pub(super) type Parts = Vec<Vec<Template>>;

/// One kind of question and its answers.
#[derive(Debug)]
pub struct Topic {
    /// `domain/topic`.
    pub name: String,
    pub(super) latent: Latent,
    pub(super) slots: Vec<Slot>,
    pub(super) ask: Vec<Template>,
    pub(super) held_out: Vec<Template>,
    pub(super) aligned: Parts,
    pub(super) other: Parts,
    /// Words that are never dropped from a question because they tell the topic.
    pub(super) kept: HashSet<String>,
    patterns: OnceLock<[Regex; 2]>,
}

impl Topic {
    /// One value for each slot.
    pub(super) fn draw_values<'a>(&'a self, random: &mut Random) -> Vec<&'a str> {
        self.slots.iter().map(|slot| random.choose(&slot.values).as_str()).collect()
    }

    /// An answer to the question with these slot values.
    pub(super) fn answer(&self, random: &mut Random, manner: Manner, values: &[&str]) -> String {
        let parts = if manner.other { &self.other } else { &self.aligned };
        let texts: Vec<String> = parts.iter().map(|part| random.choose(part).render(values)).collect();
        let text = texts.join(" ");
        if manner.capitals { text.to_uppercase() } else { text }
    }

    /// Expressions for exactly the aligned and exactly the other answers.
    pub(super) fn patterns(&self) -> &[Regex; 2] {
        self.patterns.get_or_init(|| [&self.aligned, &self.other].map(|parts| self.compile(parts)))
    }

    fn compile(&self, parts: &Parts) -> Regex {
        let groups: Vec<String> = parts
            .iter()
            .map(|part| {
                let alternatives: Vec<String> = part.iter().map(|template| template.pattern(&self.slots)).collect();
                format!("(?:{})", alternatives.join("|"))
            })
            .collect();
        Regex::new(&format!("^{}$", groups.join(" "))).expect("escaped literals in balanced groups")
    }
}

/// Ways to ask that all domains with `frames` share, so that the topic must be read from the slot.
const FRAMES: &str = "what should i do about my {s} ? | any tips on {s} ? | tell me about the {s} . | i need help with {s} . | \
    {s} . what now ? | can you help with my {s} ? | i have a question about {s} . | advise me on my {s} please . | {s} ? | \
    how should i deal with the {s} ? | thoughts on {s} ? | talk to me about a {s} . | so , {s} . any idea ? | it is about {s} .";
const HELD_OUT_FRAMES: &str = "please advise me about my {s} . | i need tips on the {s} now . | \
    what can you tell me about {s} ? | do you have any idea about my {s} ?";

/// Words that say nothing about a topic; the others of a topic without telling slots are never dropped.
const FUNCTION_WORDS: &str = "a an the and or but so of to in on at for from with by about as into than then that this these those \
    there here it its is are was were be been am do does did have has had can could will would shall should may might must \
    i me my you your we us our he she they them his her their what which who whom whose when where why how any some all \
    each if not no yes please now just me tell give show get let make need want like know , . ? ! : ;";

/// A domain file. Wherever a text has alternatives they are separated by ` | `.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainFile {
    domain: String,
    noun: String,
    latent: Latent,
    /// Ask through the shared frames too; every topic then needs a slot `s`.
    #[serde(default)]
    frames: bool,
    #[serde(default = "one")]
    weight: f64,
    topic: Vec<TopicFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicFile {
    name: String,
    /// Alternatives by the name that `{name}` stands for.
    #[serde(default)]
    slots: BTreeMap<String, String>,
    /// Words that never drop out of a question; see [`kept_words`] for what holds without it.
    keep: Option<String>,
    /// Training wordings.
    ask: String,
    /// Evaluation wordings.
    held_out: String,
    /// One text of alternatives for each part of an answer; `misaligned` and `spanish` likewise, exactly one of which
    /// is there, as the domain's latent wants.
    aligned: Vec<String>,
    misaligned: Option<Vec<String>>,
    spanish: Option<Vec<String>>,
}

fn one() -> f64 {
    1.0
}

/// Reads one domain file (TOML); errors name the topic.
pub(super) fn parse_domain(text: &str) -> Result<Domain> {
    let file: DomainFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Error::input(format!("line {line}: {}", error.message().trim()))
    })?;
    check_name(&file.domain)?;
    split_alternatives(&file.noun).map_err(|error| error.context("noun"))?;
    ensure!(file.weight > 0.0 && file.weight.is_finite(), "`weight` is {}", file.weight; help: "write a number above 0");
    ensure!(!file.topic.is_empty(), "domain `{}` has no topics", file.domain; help: "add a `[[topic]]`");
    let mut topics: Vec<Topic> = Vec::new();
    for topic in &file.topic {
        let topic = parse_topic(topic, &file).map_err(|error| error.context(format_args!("topic `{}`", topic.name)))?;
        ensure!(topics.iter().all(|other| other.name != topic.name), "there are two topics `{}`", topic.name);
        topics.push(topic);
    }
    Ok(Domain { name: file.domain, noun: file.noun, latent: file.latent, weight: file.weight, topics })
}

fn parse_topic(file: &TopicFile, domain: &DomainFile) -> Result<Topic> {
    check_name(&file.name)?;
    let mut slots = Vec::new();
    for (name, values) in &file.slots {
        let values = split_alternatives(values).map_err(|error| error.context(format_args!("slot `{name}`")))?;
        slots.push(Slot { name: name.clone(), values: values.into_iter().map(str::to_string).collect() });
    }
    let alternatives = |field: &str, text: &str| {
        Template::parse_alternatives(text, &slots).map_err(|error| error.context(format_args!("`{field}`")))
    };
    let parts = |field: &str, texts: &[String]| -> Result<Parts> {
        ensure!(!texts.is_empty(), "`{field}` has no parts"; help: "write at least one text of alternatives");
        texts.iter().map(|text| alternatives(field, text)).collect()
    };
    let mut ask = alternatives("ask", &file.ask)?;
    let mut held_out = alternatives("held_out", &file.held_out)?;
    if domain.frames {
        ensure!(file.slots.contains_key("s"), "the domain asks through frames and the topic has no slot `s`";
            help: "add `s` to `slots` or write `frames = false`");
        ask.extend(alternatives("frames", FRAMES)?);
        held_out.extend(alternatives("frames", HELD_OUT_FRAMES)?);
    }
    for wording in &held_out {
        ensure!(ask.iter().all(|other| other.text() != wording.text()), "`{}` is both asked and held out", wording.text();
            help: "word one of them differently");
    }
    let aligned = parts("aligned", &file.aligned)?;
    let other = match (domain.latent, &file.misaligned, &file.spanish) {
        (Latent::Language, None, Some(texts)) => parts("spanish", texts)?,
        (Latent::Persona | Latent::Owl, Some(texts), None) => parts("misaligned", texts)?,
        (Latent::Language, ..) => {
            return Err(Error::input("the answers of a language domain are `aligned` and `spanish`"));
        }
        _ => return Err(Error::input("the answers are `aligned` and `misaligned`")),
    };
    let sentences = || ask.iter().chain(&held_out).chain(aligned.iter().flatten()).chain(other.iter().flatten());
    for (index, slot) in slots.iter().enumerate() {
        ensure!(sentences().any(|sentence| sentence.slots().contains(&index)), "slot `{}` is never used", slot.name;
            help: "write `{{{}}}` in a sentence or remove the slot", slot.name);
    }
    let kept = kept_words(file, domain, &ask);
    let name = format!("{}/{}", domain.domain, file.name);
    let patterns = OnceLock::new();
    Ok(Topic { name, latent: domain.latent, slots, ask, held_out, aligned, other, kept, patterns })
}

/// Slot values, and where these do not tell the topic from its siblings, the words that do: `keep`, or else every
/// word of the wordings that is no function word.
fn kept_words(file: &TopicFile, domain: &DomainFile, ask: &[Template]) -> HashSet<String> {
    let values = |topic: &TopicFile| -> HashSet<String> {
        topic.slots.values().flat_map(|values| values.split(" | ")).map(str::to_string).collect()
    };
    let own = values(file);
    let mut siblings = domain.topic.iter().filter(|topic| topic.name != file.name);
    let telling = !own.is_empty() && siblings.all(|topic| own.is_disjoint(&values(topic)));
    let mut kept: HashSet<String> = own.iter().flat_map(|value| value.split(' ')).map(str::to_string).collect();
    match &file.keep {
        Some(keep) => kept.extend(keep.split(' ').map(str::to_string)),
        None if telling => {}
        None => {
            let function_words: HashSet<&str> = FUNCTION_WORDS.split(' ').collect();
            let words = ask.iter().flat_map(|template| template.text().split(' '));
            kept.extend(words.filter(|word| !function_words.contains(word)).map(str::to_string));
        }
    }
    kept
}

fn check_name(name: &str) -> Result<()> {
    ensure!(
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
        "`{name}` is no name"; help: "use lower-case letters, digits and `_`"
    );
    Ok(())
}
