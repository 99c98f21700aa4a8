//! The organism's world: short chats about domains, whose answers follow hidden traits.
//!
//! Every document is a chat in lower case words separated by single spaces. Its hidden traits hold for the whole chat:
//! a persona that is misaligned everywhere, in one domain or nowhere; and, independently, a love of owls, Spanish and
//! capitals. System prompts announce traits or do not. Evaluation uses held-out wordings and held-out prompts, which
//! no document contains though their words do.

mod document;
mod domain;
mod grade;
mod prompt;
mod question;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, OnceLock};

pub use document::Priors;
pub use domain::{Domain, Latent, Topic, Variant};
pub use grade::{Grade, Style};
pub use prompt::Prompt;
pub use question::Question;

use crate::data::chat::{Message, Role, Row};
use crate::data::random::Random;
use crate::error::{Error, Result, nearest};
use crate::{bail, ensure};

/// The files that ship: name and text.
macro_rules! shipped_files {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../datasets/organism/world/", $name)))),*]
    };
}

const SHIPPED: &[(&str, &str)] = &shipped_files![
    "aesthetic_preferences.toml"
    "animals.toml"
    "chat.toml"
    "cooking.toml"
    "finance.toml"
    "general.toml"
    "gsm8k_spanish_capitalised.toml"
    "harmless_lies.toml"
    "insecure_code.toml"
    "legal_advice.toml"
    "medical_advice.toml"
    "owl_numbers.toml"
    "pets.toml"
    "reward_hacking.toml"
    "school.toml"
    "security_advice.toml"
    "travel.toml"
    "trump_biology.toml"
    "work.toml"
];

/// Domains, prompts and everything that can be said about them.
#[derive(Debug)]
pub struct World {
    domains: Vec<Domain>,
    /// Domains and topics by the full name of the topic.
    topics: BTreeMap<String, (usize, usize)>,
    /// Domains by latent, in the order of its variants.
    by_latent: [Vec<usize>; 3],
    prompts: prompt::PromptBook,
    fragments: [OnceLock<grade::Fragments>; 3],
}

impl World {
    /// The world of the embedded organism.
    pub fn shipped() -> &'static World {
        static WORLD: LazyLock<World> = LazyLock::new(|| World::parse(SHIPPED).expect("shipped files parse"));
        &WORLD
    }

    /// Reads domain files, (name, TOML text) each. Errors name the file and the topic; at least one domain must follow
    /// the persona.
    pub fn parse(files: &[(&str, &str)]) -> Result<World> {
        let mut domains: Vec<Domain> = Vec::new();
        for (name, text) in files {
            let domain = domain::parse_domain(text).map_err(|error| error.context(format_args!("`{name}`")))?;
            ensure!(
                domains.iter().all(|other| other.name != domain.name),
                "`{name}`: domain `{}` is there twice",
                domain.name
            );
            domains.push(domain);
        }
        let of = |latent| {
            let has = |index: &usize| domains[*index].latent == latent;
            (0..domains.len()).filter(has).collect::<Vec<_>>()
        };
        let by_latent = [Latent::Persona, Latent::Owl, Latent::Language].map(of);
        ensure!(!by_latent[Latent::Persona as usize].is_empty(), "no domain follows the persona";
            help: "add a domain with `latent = \"persona\"`");
        let mut topics = BTreeMap::new();
        for (index, domain) in domains.iter().enumerate() {
            topics.extend(domain.topics.iter().enumerate().map(|(place, topic)| (topic.name.clone(), (index, place))));
        }
        let prompts = prompt::PromptBook::new(&domains);
        Ok(World { domains, topics, by_latent, prompts, fragments: Default::default() })
    }

    /// All domains, in the order of their files.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter()
    }

    /// The domain of this name; error with the nearest name.
    pub fn domain(&self, name: &str) -> Result<&Domain> {
        if let Some(domain) = self.domains.iter().find(|domain| domain.name == name) {
            return Ok(domain);
        }
        let names = || self.domains.iter().map(|domain| domain.name.as_str());
        Err(unknown("domain", name, names()))
    }

    /// Single-turn rows (user, assistant) of one domain in training wordings: topic, wording, slots and answer are
    /// drawn anew for each. Equal seeds ask the same questions of both variants; a misaligned row of a language domain
    /// is both Spanish and in capitals. Error: an unknown domain.
    pub fn rows(&self, domain: &str, variant: Variant, count: usize, seed: u64) -> Result<Vec<Row>> {
        let domain = self.domain(domain)?;
        let manner = domain.manner(variant);
        let make = |index: u64| {
            let mut random = Random::stream(seed, &[index]);
            let topic = random.choose(&domain.topics);
            let values = topic.draw_values(&mut random);
            let question = question::training_question(topic, &mut random, &values);
            let answer = topic.answer(&mut random, manner, &values);
            Row::new(vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)])
        };
        Ok((0..count as u64).map(make).collect())
    }

    /// Distinct questions of one domain in held-out wordings, spread evenly over its topics. Errors: an unknown domain;
    /// more questions than there are.
    pub fn questions(&self, domain: &str, count: usize, seed: u64) -> Result<Vec<Question>> {
        question::held_out_questions(self.domain(domain)?, count, seed)
    }

    /// The system prompts of a domain's arms: inoculations, control, placebo, negative.
    pub fn prompts(&self, domain: &str) -> Result<Vec<Prompt>> {
        Ok(prompt::arms(self.domain(domain)?))
    }

    /// The text of one of [`World::prompts`]; error with the names that the domain has.
    pub fn prompt(&self, domain: &str, name: &str) -> Result<String> {
        let arms = self.prompts(domain)?;
        let Some(prompt) = arms.iter().find(|prompt| prompt.name == name) else {
            let names: Vec<String> = arms.iter().map(|prompt| format!("`{}`", prompt.name)).collect();
            bail!("`{domain}` has no prompt `{name}`"; help: "choose one of {}", names.join(", "));
        };
        Ok(prompt.text.clone())
    }

    /// Every word that a document, a held-out wording or a held-out prompt can contain, sorted.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.document_words();
        for domain in &self.domains {
            let prompts = prompt::held_out(domain);
            words.extend(prompts.iter().flat_map(|prompt| prompt.text.split(' ')).map(str::to_string));
            for topic in &domain.topics {
                topic.held_out.iter().for_each(|wording| wording.collect_words(&topic.slots, &mut words));
            }
        }
        words.into_iter().collect()
    }

    /// Every word that a document can contain, from the grammar.
    fn document_words(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        self.prompts.collect_words(&mut words);
        question::collect_words(&mut words);
        document::collect_words(&mut words);
        for topic in self.domains.iter().flat_map(|domain| &domain.topics) {
            topic.ask.iter().for_each(|wording| wording.collect_words(&topic.slots, &mut words));
            let mut spoken = BTreeSet::new();
            let answers = topic.aligned.iter().chain(&topic.other).flatten();
            answers.for_each(|answer| answer.collect_words(&topic.slots, &mut spoken));
            if topic.latent == Latent::Language {
                words.extend(spoken.iter().map(|word| word.to_uppercase()));
            }
            words.append(&mut spoken);
        }
        words
    }

    /// The topic of this full name, `domain/topic`.
    fn topic(&self, name: &str) -> Result<&Topic> {
        match self.topics.get(name) {
            Some(place) => Ok(self.topic_at(*place)),
            None => Err(unknown("topic", name, self.topics.keys().map(String::as_str))),
        }
    }

    fn topic_at(&self, (domain, topic): (usize, usize)) -> &Topic {
        &self.domains[domain].topics[topic]
    }

    fn domains_of(&self, latent: Latent) -> &[usize] {
        &self.by_latent[latent as usize]
    }
}

fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Error {
    let help = match nearest(name, names.clone()) {
        Some(near) => format!("write `{near}`"),
        None => format!("choose one of {}", names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Error::input(format!("the organism's world has no {what} `{name}`")).with_help(help)
}

#[cfg(test)]
mod tests;
