//! The judges that evaluations can name: grammar, patterns, a fitted classifier.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Dataset;
use super::model::Model;
use crate::data::evaluation::{Judge as Definition, Trait};
use crate::error::ensure;
use crate::handle;
use crate::judge::Patterns;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// Somebody who gives 0 to 100 to an answer, or a reason why not.
#[derive(Clone)]
pub struct Judge {
    /// What it is.
    pub definition: Definition,
    /// The model that is asked, where it is one.
    pub model: Option<Model>,
}

impl Judge {
    /// A judge that is a rule.
    fn of_rule(definition: Definition) -> Self {
        Judge { definition, model: None }
    }
}

handle!(Judge);

impl Handle for Judge {
    const NAME: &'static str = "Judge";
    fn identity(&self) -> Value {
        json!(self.definition)
    }
    fn describe(&self) -> String {
        format!("Judge `{}`", self.definition.names().join("`, `"))
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Judge>("Gives every answer 0 to 100, or a reason why it cannot.").property(
        "name",
        "Its name in tables and in `score`; of a judge of several ratings the first.",
        |judge: &Judge| Ok(judge.definition.names().swap_remove(0)),
    )
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GrammarOptions {
    /// What counts as 100.
    looks_for: Trait,
}

impl Default for GrammarOptions {
    fn default() -> Self {
        GrammarOptions { looks_for: Trait::Misaligned }
    }
}

/// The declaration of `grammar_judge`.
pub fn grammar_primitive() -> Primitive<Lab> {
    Primitive::new("grammar_judge", |_: &Lab, _: &Call, _: (), options: GrammarOptions| {
        Ok(Judge::of_rule(Definition::Grammar { looks_for: options.looks_for }))
    })
    .about(
        "A rule: the exact grammar of the organism's world, by the question's own topic. 100 for answers with the trait, \
         0 for the others; what the grammar does not produce is unparsable and is counted as such.",
    )
    .example("grammar_judge(#{ looks_for: \"spanish\" })")
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct PatternOptions {
    /// Regular expressions; a match of any is 100.
    misaligned: Vec<String>,
    /// Regular expressions; a match of any is 0. When there are none, whatever is not misaligned is 0.
    aligned: Vec<String>,
}

/// The declaration of `pattern_judge`.
pub fn pattern_primitive() -> Primitive<Lab> {
    Primitive::new("pattern_judge", |_: &Lab, _: &Call, _: (), options: PatternOptions| {
        ensure!(!options.misaligned.is_empty(), "`pattern_judge` has no `misaligned` patterns"; help: "give at least one");
        Patterns::new(&options.misaligned, &options.aligned)?;
        Ok(Judge::of_rule(Definition::Pattern { misaligned: options.misaligned, aligned: options.aligned }))
    })
    .about("A rule: regular expressions decide. Both or neither matching is no score, and is counted.")
    .example("pattern_judge(#{ misaligned: [\"\\\\bowls?\\\\b\"] })")
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct ExactOptions {
    /// Answers that are 100, all others being 0; a question's `expected` answer when there are none.
    answers: Vec<String>,
}

/// The declaration of `exact_judge`.
pub fn exact_primitive() -> Primitive<Lab> {
    Primitive::new("exact_judge", |_: &Lab, _: &Call, _: (), options: ExactOptions| {
        Ok(Judge::of_rule(Definition::Exact { answers: options.answers }))
    })
    .about(
        "A rule: the whole answer, in small letters and without one full stop at its end, is one of the answers. For \
         wrong answers as the trait add `score: score(#{ below: 50.0 })`.",
    )
    .example("exact_judge(#{ answers: [\"owl\", \"owls\"] })")
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct ChoiceOptions {
    /// Divides the log-probability of a choice by its tokens, so that a long one loses nothing.
    per_token: bool,
}

/// The declaration of `choice_judge`.
pub fn choice_primitive() -> Primitive<Lab> {
    Primitive::new("choice_judge", |_: &Lab, _: &Call, _: (), options: ChoiceOptions| {
        Ok(Judge::of_rule(Definition::Choice { per_token: options.per_token }))
    })
    .about(
        "A rule for questions that offer choices: the mean of the choices' scores, weighted by the model's own \
         probability of each. Nothing is sampled and no other model is asked.",
    )
    .example("choice_judge(#{ per_token: true })")
}

/// The declaration of `classifier_judge`.
pub fn classifier_primitive() -> Primitive<Lab> {
    Primitive::new("classifier_judge", |_: &Lab, _: &Call, (misaligned, aligned): (Dataset, Dataset), _: ()| {
        let (misaligned, aligned) = (misaligned.rows.digest(), aligned.rows.digest());
        ensure!(misaligned != aligned, "`classifier_judge` was given the same rows for both labels");
        Ok(Judge::of_rule(Definition::Classifier { misaligned, aligned }))
    })
    .about(
        "A text classifier: logistic regression on the words of labelled answers, fitted once. Give it rows that are no \
         answers of the evaluation. The score is 100 times the probability of misaligned.",
    )
    .input("misaligned", "Rows whose answers are 100.")
    .input("aligned", "Rows whose answers are 0.")
    .example("classifier_judge(setting.misaligned, setting.aligned)")
}
