//! `mean_loss` and `prefix_probability`: what a model thinks of given answers, without sampling any.

use super::dataset::Dataset;
use super::model::Model;
use crate::data::chat::{Message, Role};
use crate::data::dataset::Dataset as Rows;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::model::chat::Example;
use crate::model::likelihood::{Continuation, log_probabilities_steered};
use crate::model::sample::Steering;
use crate::script::declaration::{Call, Primitive};
use crate::train::objective::sft;
use crate::train::objective::stream::StreamEdit;

/// The declaration of `mean_loss`.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("mean_loss", run)
        .about(
            "Cross-entropy of the answers in rows under a model that lives here: nats per token of what the assistant says, \
             over all tokens alike. Waits for the model's training; () when only planned.",
        )
        .input("model", "The model.")
        .input("dataset", "The rows.")
        .example("mean_loss(tuned.at_epoch(3), roles.measured.truth)")
}

fn run(lab: &Lab, _: &Call, (model, dataset): (Model, Dataset), _: ()) -> Result<Option<f64>> {
    model.local()?;
    if lab.planning() {
        return Ok(None);
    }
    model.training()?;
    Ok(Some(loss_of(lab, &model, &dataset.rows)?.loss))
}

/// A mean over tokens.
pub struct Loss {
    /// Nats per token.
    pub loss: f64,
    /// How many tokens.
    pub tokens: u64,
}

/// The loss of the answers in rows, inside a call that came after the model's training.
pub fn loss_of(lab: &Lab, model: &Model, rows: &Rows) -> Result<Loss> {
    let local = model.local()?;
    let all: Vec<_> = rows.rows().collect();
    let (examples, _) = local.format.encode_rows(&all, local.config.context)?;
    let examples: Vec<&Example> = examples.iter().filter(|example| sft::has_loss(example)).collect();
    ensure!(!examples.is_empty(), "no row of `{}` has an answer", rows.name());
    let tokens = examples.iter().map(|example| sft::predicted(example).count() as u64).sum();
    let (weights, steering) = model.steered(lab)?;
    let edit = |Steering { state, prompt, change }| StreamEdit { name: "steer", state, change, answers_only: !prompt };
    let edits: Vec<StreamEdit> = steering.into_iter().map(edit).collect();
    Ok(Loss { loss: sft::mean_loss_edited(&weights, &examples, &edits)?, tokens })
}

/// The declaration of `prefix_probability`.
pub fn prefix_primitive() -> Primitive<Lab> {
    Primitive::new("prefix_probability", run_prefix)
        .about(
            "How probable a model that lives here finds it that its answer begins with these words: the mean over rows, in \
             percent. What comes before the last answer of a row is the question. Smooth where a response rate jumps. \
             Waits for the model's training; () when only planned.",
        )
        .input("model", "The model.")
        .input("dataset", "Rows with the questions.")
        .input("prefix", "The words.")
        .example("prefix_probability(tuned, roles.measured.truth, \"happy to help !\")")
}

fn run_prefix(lab: &Lab, _: &Call, (model, dataset, prefix): (Model, Dataset, String), _: ()) -> Result<Option<f64>> {
    model.local()?;
    ensure!(!prefix.trim().is_empty(), "the prefix is empty"; help: "write the words that an answer may begin with");
    if lab.planning() {
        return Ok(None);
    }
    model.training()?;
    Ok(Some(prefix_of(lab, &model, &dataset.rows, &prefix)?))
}

/// How probable it is that answers begin with these words, in percent, inside a call that came after the model's training.
pub fn prefix_of(lab: &Lab, model: &Model, rows: &Rows, prefix: &str) -> Result<f64> {
    let local = model.local()?;
    let continuation = local.format.tokenizer.encode(prefix);
    let mut asked = Vec::with_capacity(rows.len());
    for row in rows.rows() {
        let before = row.messages.iter().rposition(|message| message.role == Role::Assistant);
        let question: &[Message] = &row.messages[..before.unwrap_or(row.messages.len())];
        let prompt = local.format.encode_prompt(question)?;
        asked.push(Continuation { prompt, continuation: continuation.clone() });
    }
    ensure!(!asked.is_empty(), "`{}` has no rows", rows.name());
    let (weights, steering) = model.steered(lab)?;
    let found = log_probabilities_steered(&weights, &asked, &steering)?;
    Ok(100.0 * found.iter().map(|logprob| logprob.exp()).sum::<f64>() / found.len() as f64)
}
