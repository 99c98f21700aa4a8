//! Judges that are models: `rating_judge`, `probability_judge`, `categorical_judge` and `fused_judge`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::knows_logprobs;
use super::judges::Judge;
use super::model::Model;
use crate::data::evaluation::{AskedJudge, Judge as Definition, Rating, Reading, Says};
use crate::error::{Error, Result, ensure};
use crate::judge::categorical::Labels;
use crate::judge::fused::{Field, Fields};
use crate::judge::probability::Classes;
use crate::judge::template::Template;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// How a judge's word is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// By the probabilities of its first token, where its provider tells them, else by what it says.
    Automatic,
    /// By the probabilities of its first token.
    Logprobs,
    /// By what it says.
    Sampled,
}

/// Options that all judges share, written out in each because the manual is made from the structs.
struct Common {
    name: String,
    model: Option<Model>,
    prompt: String,
    method: Method,
    samples: u32,
    temperature: f64,
    max_tokens: u32,
}

impl Common {
    fn judge(self, lab: &Lab, says: Says, can_use_logprobs: bool) -> Result<Judge> {
        let Common { name, model, prompt, method, samples, temperature, max_tokens } = self;
        let model = model.ok_or_else(|| {
            Error::input(format!("the judge `{name}` has no `model`"))
                .with_help("name one: `model: model(\"openai:gpt-4o-2024-08-06\")`")
        })?;
        ensure!(!name.is_empty() && !name.contains('.'), "`{name}` is no name of a judge"; help: "write a word without dots");
        ensure!(samples > 0 && max_tokens > 0, "`samples` or `max_tokens` of the judge `{name}` is 0"; help: "write 1 or more");
        ensure!(temperature >= 0.0, "`temperature` of the judge `{name}` is {temperature}"; help: "write 0 or more");
        Template::new(prompt.clone()).map_err(|error| error.context(format!("the judge `{name}`")))?;
        let by_probability = match method {
            Method::Sampled => false,
            Method::Logprobs => true,
            // Asked once per model, so that one judge never mixes the two.
            Method::Automatic => can_use_logprobs && knows_logprobs(lab, &model)?,
        };
        let reading =
            if by_probability { Reading::Logprobs } else { Reading::Sampled { samples, temperature, max_tokens } };
        let asked = AskedJudge { name, model: model.identity(), prompt, says, reading };
        Ok(Judge { definition: Definition::Asked(asked), model: Some(model) })
    }
}

macro_rules! options {
    ($(#[$about:meta])* $name:ident, $judge:literal { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        struct $name {
            /// Name in tables and in `score`.
            name: String,
            /// Who judges.
            model: Option<Model>,
            /// What the judge is shown; `{question}` and `{answer}` are put in, `{system}` where it is written.
            prompt: String,
            $($(#[$doc])* $field: $type,)*
            /// Answers of the judge that are averaged, where its word is sampled.
            samples: u32,
            /// Temperature of those answers.
            temperature: f64,
            /// Tokens of each of them at most.
            max_tokens: u32,
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    name: $judge.to_string(),
                    model: None,
                    prompt: String::new(),
                    $($field: $default,)*
                    samples: 1,
                    temperature: 0.0,
                    max_tokens: 512,
                }
            }
        }
    };
}

options!(RatingOptions, "rating" {
    /// "automatic", "logprobs" (the mean of the likeliest numbers, weighted by their probability) or "sampled".
    method: Method = Method::Automatic,
});

/// The declaration of `rating_judge`.
pub fn rating_primitive() -> Primitive<Lab> {
    Primitive::new("rating_judge", run_rating)
        .about(
            "A model that rates every answer with a number of 0 to 100. Where its provider tells probabilities the score \
             is the mean of the likeliest numbers, weighted; else the number it says, and the judge's name says so. \
             Prompts are in `stdlib/judges.rhai`.",
        )
        .example("rating_judge(judges::alignment() + #{ model: model(\"openai:gpt-4o-2024-08-06\") })")
}

fn run_rating(lab: &Lab, _: &Call, _: (), options: RatingOptions) -> Result<Judge> {
    let RatingOptions { name, model, prompt, method, samples, temperature, max_tokens } = options;
    Common { name, model, prompt, method, samples, temperature, max_tokens }.judge(lab, Says::Rating, true)
}

options!(ProbabilityOptions, "probability" {
    /// "automatic", "logprobs" or "sampled".
    method: Method = Method::Automatic,
    /// The word that counts as 100.
    positive: String = "YES".to_string(),
    /// The word that counts as 0.
    negative: String = "NO".to_string(),
    /// Gives no score where one of the two words is not among the likeliest, as the published code does by mistake.
    upstream_none: bool = false,
});

/// The declaration of `probability_judge`.
pub fn probability_primitive() -> Primitive<Lab> {
    Primitive::new("probability_judge", run_probability)
        .about("A model that says one of two words about every answer; the score is 100 times the probability of the first.")
        .example("probability_judge(judges::choice(\"broccoli\") + #{ model: model(\"openai:gpt-4o-2024-08-06\") })")
}

fn run_probability(lab: &Lab, _: &Call, _: (), options: ProbabilityOptions) -> Result<Judge> {
    let ProbabilityOptions { name, model, prompt, method, positive, negative, upstream_none, samples, .. } = options;
    Classes { positive: positive.clone(), negative: negative.clone(), upstream_none }.check(&name)?;
    let says = Says::YesOrNo { positive, negative, upstream_none };
    let (temperature, max_tokens) = (options.temperature, options.max_tokens);
    Common { name, model, prompt, method, samples, temperature, max_tokens }.judge(lab, says, true)
}

options!(CategoricalOptions, "category" {
    /// "automatic", "logprobs" or "sampled".
    method: Method = Method::Automatic,
    /// Every label the judge may say, with its score of 0 to 100.
    labels: BTreeMap<String, f64> = BTreeMap::new(),
});

/// The declaration of `categorical_judge`.
pub fn categorical_primitive() -> Primitive<Lab> {
    Primitive::new("categorical_judge", run_categorical)
        .about("A model that says one of several labels about every answer; each label has its score.")
        .example("categorical_judge(#{ name: \"kind\", model: model(\"organism\"), labels: #{ GOOD: 0.0, BAD: 100.0 }, prompt: \"{answer}\" })")
}

fn run_categorical(lab: &Lab, _: &Call, _: (), options: CategoricalOptions) -> Result<Judge> {
    let CategoricalOptions { name, model, prompt, method, labels, samples, temperature, max_tokens } = options;
    let told_apart = Labels::new(&name, labels.clone())?.first_letters_differ();
    let common = Common { name, model, prompt, method, samples, temperature, max_tokens };
    common.judge(lab, Says::Label { labels }, told_apart)
}

options!(FusedOptions, "ratings" {
    /// What is rated: `#{ name: "alignment", exceptions: true }`; with `exceptions` the judge may say CODE or REFUSAL.
    ratings: Vec<Rating> = Vec::new(),
});

/// The declaration of `fused_judge`.
pub fn fused_primitive() -> Primitive<Lab> {
    Primitive::new("fused_judge", run_fused)
        .about(
            "A model that gives several ratings of an answer at once, at the price of one call. Their names in `score` are \
             `NAME.RATING`.",
        )
        .example("fused_judge(judges::alignment_and_coherence() + #{ model: model(\"openai:gpt-4o-2024-08-06\") })")
}

fn run_fused(lab: &Lab, _: &Call, _: (), options: FusedOptions) -> Result<Judge> {
    let FusedOptions { name, model, prompt, ratings, samples, temperature, max_tokens } = options;
    let field = |rating: &Rating| Field { name: rating.name.clone(), exceptions: rating.exceptions };
    Fields::new(&name, ratings.iter().map(field).collect())?;
    let common = Common { name, model, prompt, method: Method::Sampled, samples, temperature, max_tokens };
    common.judge(lab, Says::Ratings { ratings }, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's prompts as scripts see them.
    const SHIPPED: &str = include_str!("../../stdlib/judges.rhai");

    #[test]
    fn the_alignment_and_coherence_prompts_are_those_of_the_shared_data() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/em/first_plot_questions.yaml");
        let Ok(yaml) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there");
            return;
        };
        for name in ["aligned", "coherent"] {
            let (_, block) = yaml.split_once(&format!("    {name}: |-\n")).unwrap();
            let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("      "));
            let prompt = lines.map(|line| line.strip_prefix("      ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
            let prompt = prompt.trim_end();
            assert!(prompt.len() > 500);
            assert!(SHIPPED.contains(&format!("`{prompt}`")), "{name} is not shipped as it was published:\n{prompt}");
        }
    }

    #[test]
    fn every_shipped_prompt_has_a_place_for_the_answer() {
        let prompts: Vec<&str> =
            SHIPPED.split("prompt: `").skip(1).map(|rest| rest.split('`').next().unwrap()).collect();
        assert!(prompts.len() >= 8);
        for prompt in prompts {
            Template::new(prompt).unwrap();
            assert_eq!(prompt, prompt.trim(), "blanks around a prompt");
        }
    }
}
