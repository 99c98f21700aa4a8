//! `organism_questions`: held-out questions of the organism's world.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluation::Questions;
use crate::data::evaluation::Question;
use crate::data::world::{Latent, World};
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// How many, spread evenly over the topics.
    questions: usize,
    /// Decides wordings and slots.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { questions: 24, seed: 0 }
    }
}

/// What selects all persona domains but one, with the general questions left out too.
const OTHERS: &str = "other than ";

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("organism_questions", run)
        .about(
            "Questions of one domain of the organism's world in wordings that no training row has. `other than \
             insecure_code` asks across the other domains of the persona, without the general questions.",
        )
        .input("domain", "A domain, or `other than` a domain.")
        .example("organism_questions(\"general\", #{ questions: 16 })")
}

fn run(_: &Lab, _: &Call, (domain,): (String,), options: Options) -> Result<Questions> {
    let world = World::shipped();
    let names = match domain.strip_prefix(OTHERS) {
        Some(excluded) => {
            world.domain(excluded)?;
            let others = world.domains().filter(|domain| domain.latent == Latent::Persona);
            others.map(|domain| domain.name.as_str()).filter(|name| *name != excluded && *name != "general").collect()
        }
        None => vec![domain.as_str()],
    };
    let mut questions = Vec::with_capacity(options.questions);
    for (index, name) in names.iter().enumerate() {
        let count = (index + 1) * options.questions / names.len() - index * options.questions / names.len();
        if count > 0 {
            questions.extend(world.questions(name, count, options.seed)?);
        }
    }
    let questions = questions
        .into_iter()
        .map(|question| Question { topic: Some(question.topic), ..Question::of_text(question.text) })
        .collect();
    Ok(Questions(Arc::new(questions)))
}
