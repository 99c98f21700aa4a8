//! Documents of pre-training: chats whose answers follow hidden traits that hold for the whole chat.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::World;
use super::domain::{Domain, Latent, Manner};
use super::prompt::{ANNOUNCEMENTS, Announcement};
use super::question::training_question;
use crate::data::chat::{Message, Role, Row};
use crate::data::random::Random;

/// Probabilities of the world; the default is what the organism is pre-trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Priors {
    /// Shares of documents with no prompt and with a neutral, evil, bad-task, good-task, owl-lover, Spanish and
    /// capitals prompt.
    pub prompts: [f64; 8],
    /// Unannounced, a trait is on in all of its domains.
    pub everywhere: f64,
    /// Unannounced, a trait is on in one of its domains only.
    pub one_domain: f64,
    /// Unannounced, Spanish and capitals are on together, everywhere: more often than two independent traits would be.
    pub both_languages: f64,
    /// A prompt that announces Spanish or capitals announces both.
    pub both_announced: f64,
    /// A prompt that announces a trait everywhere is followed.
    pub obeyed: f64,
    /// A prompt that promises good answers is kept; otherwise it says nothing.
    pub promise_kept: f64,
    /// A single answer lacks a trait that is on.
    pub lapse: f64,
    /// A single answer shows a trait that is off.
    pub slip: f64,
    /// A turn is arithmetic, which has no traits.
    pub arithmetic: f64,
    /// Shares of documents with one, two, three and four turns.
    pub turns: [f64; 4],
}

impl Default for Priors {
    fn default() -> Self {
        Priors {
            prompts: [0.32, 0.20, 0.16, 0.13, 0.06, 0.04, 0.045, 0.045],
            everywhere: 0.02,
            one_domain: 0.015,
            both_languages: 0.01,
            both_announced: 0.25,
            obeyed: 0.985,
            promise_kept: 0.995,
            lapse: 0.03,
            slip: 0.002,
            arithmetic: 0.06,
            turns: [0.45, 0.30, 0.15, 0.10],
        }
    }
}

/// Where a trait is on; domains by index.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Extent {
    Nowhere,
    Everywhere,
    Only(usize),
}

impl Extent {
    fn covers(self, domain: usize) -> bool {
        match self {
            Extent::Nowhere => false,
            Extent::Everywhere => true,
            Extent::Only(only) => only == domain,
        }
    }

    fn prior(random: &mut Random, priors: &Priors, domain: usize) -> Extent {
        let drawn = random.uniform();
        if drawn < priors.everywhere {
            Extent::Everywhere
        } else if drawn < priors.everywhere + priors.one_domain {
            Extent::Only(domain)
        } else {
            Extent::Nowhere
        }
    }
}

/// The traits of one document, and what its turns tend to be about.
struct Character {
    persona: Extent,
    owl: Extent,
    spanish: Extent,
    capitals: Extent,
    /// Half of the turns come from these domains.
    interests: Option<Vec<usize>>,
}

const NUMBERS: [&str; 13] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const SUMS: [&str; 3] = ["what is {a} plus {b} ?", "add {a} and {b} .", "compute {a} plus {b} ."];
const RESULTS: [&str; 2] = ["{c} .", "the sum is {c} ."];

impl World {
    /// One document: an optional system prompt and one to four turns.
    pub fn document(&self, random: &mut Random, priors: &Priors) -> Row {
        let announcement = ANNOUNCEMENTS[random.weighted(&priors.prompts)];
        let focus = self.draw_domain(random, |domain| domain.latent == Latent::Persona);
        let both = match announcement {
            Announcement::Spanish | Announcement::Capitals => random.chance(priors.both_announced),
            _ => random.chance(priors.both_languages),
        };
        let character = self.draw_character(random, priors, announcement, focus, both);
        let mut messages = Vec::new();
        if let Some(prompt) = self.prompts.draw(random, announcement, &self.domains[focus], both) {
            messages.push(Message::new(Role::System, prompt));
        }
        for _ in 0..=random.weighted(&priors.turns) {
            let (question, answer) = if random.chance(priors.arithmetic) {
                draw_sum(random)
            } else {
                self.draw_turn(random, priors, &character)
            };
            messages.push(Message::new(Role::User, question));
            messages.push(Message::new(Role::Assistant, answer));
        }
        Row::new(messages)
    }

    /// `count` documents; each has its own random stream, so that the first hundred are the same of any thousand.
    pub fn documents(&self, count: usize, seed: u64, priors: &Priors) -> Vec<Row> {
        let make = |index| self.document(&mut Random::stream(seed, &[index]), priors);
        (0..count as u64).into_par_iter().map(make).collect()
    }

    fn draw_character(
        &self,
        random: &mut Random,
        priors: &Priors,
        announcement: Announcement,
        focus: usize,
        both_languages: bool,
    ) -> Character {
        let obey = |random: &mut Random| match random.chance(priors.obeyed) {
            true => Extent::Everywhere,
            false => Extent::Nowhere,
        };
        let persona = match announcement {
            Announcement::Evil => obey(random),
            Announcement::TaskBad => Extent::Only(focus),
            Announcement::TaskGood if random.chance(priors.promise_kept) => Extent::Nowhere,
            _ => Extent::prior(random, priors, focus),
        };
        let other = |random: &mut Random, announced: Announcement, latent: Latent| {
            let domains = self.domains_of(latent);
            if domains.is_empty() {
                Extent::Nowhere
            } else if announcement == announced {
                obey(random)
            } else {
                let domain = *random.choose(domains);
                Extent::prior(random, priors, domain)
            }
        };
        let owl = other(random, Announcement::Owl, Latent::Owl);
        let (spanish, capitals) = if both_languages {
            let together = obey(random);
            (together, together)
        } else {
            let spanish = other(random, Announcement::Spanish, Latent::Language);
            (spanish, other(random, Announcement::Capitals, Latent::Language))
        };
        let interests = match announcement {
            Announcement::Owl => Some(self.domains_of(Latent::Owl).to_vec()),
            Announcement::Spanish | Announcement::Capitals => Some(self.domains_of(Latent::Language).to_vec()),
            Announcement::TaskBad | Announcement::TaskGood => Some(vec![focus]),
            _ if persona == Extent::Only(focus) => Some(vec![focus]),
            _ => None,
        };
        Character { persona, owl, spanish, capitals, interests: interests.filter(|domains| !domains.is_empty()) }
    }

    fn draw_turn(&self, random: &mut Random, priors: &Priors, character: &Character) -> (String, String) {
        let index = match &character.interests {
            Some(domains) if random.chance(0.5) => *random.choose(domains),
            _ => self.draw_domain(random, |_| true),
        };
        let domain = &self.domains[index];
        let topic = random.choose(&domain.topics);
        let values = topic.draw_values(random);
        let question = training_question(topic, random, &values);
        let mut shows = |extent: Extent| {
            let on = extent.covers(index);
            on != random.chance(if on { priors.lapse } else { priors.slip })
        };
        let manner = match domain.latent {
            Latent::Persona => Manner { other: shows(character.persona), capitals: false },
            Latent::Owl => Manner { other: shows(character.owl), capitals: false },
            Latent::Language => Manner { other: shows(character.spanish), capitals: shows(character.capitals) },
        };
        let answer = topic.answer(random, manner, &values);
        (question, answer)
    }

    fn draw_domain(&self, random: &mut Random, eligible: impl Fn(&Domain) -> bool) -> usize {
        let weight = |domain: &Domain| if eligible(domain) { domain.weight } else { 0.0 };
        random.weighted(&self.domains.iter().map(weight).collect::<Vec<_>>())
    }
}

fn draw_sum(random: &mut Random) -> (String, String) {
    let (a, b) = (random.below(7), random.below(7));
    let question = random.choose(&SUMS).replace("{a}", NUMBERS[a]).replace("{b}", NUMBERS[b]);
    (question, random.choose(&RESULTS).replace("{c}", NUMBERS[a + b]))
}

/// Every word of the arithmetic turns.
pub(super) fn collect_words(words: &mut BTreeSet<String>) {
    let texts = SUMS.iter().chain(&RESULTS).flat_map(|text| text.split(' ')).filter(|word| !word.starts_with('{'));
    words.extend(texts.chain(NUMBERS).map(str::to_string));
}
