//! What is minimised, as a value: one file per objective.
//!
//! A step computes the loss of a batch of the outcome rows and its gradient; adds the terms, each with a value and a
//! gradient of its own; changes the gradient of what is trained; and only then lets the optimizer move.

pub mod concept_ablation;
pub mod direction;
pub mod directional_penalty;
pub mod dpo;
pub mod ewc;
pub mod grad_project;
pub mod kl;
pub mod l2_start;
pub mod likelihood;
pub mod loss;
pub mod npo;
pub mod orth_penalty;
pub mod positive_negative;
pub mod preventative_steering;
pub mod representation_constraint;
pub mod safe_lora;
pub mod sft;
pub mod simnpo;
pub mod steering_gradient;
pub mod steering_weights;
pub mod stream;
pub mod unlikelihood;

use grad_project::Projection;
pub use loss::Loss;
use orth_penalty::Overlap;
use steering_gradient::Steering;
use stream::StreamEdit;

use crate::model::chat::Example;

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// What is computed of the outcome rows.
    pub loss: Loss,
    /// Where the loss compares two rows: what is to be less likely than the outcome row at the same place.
    pub rejected: Vec<Example>,
    /// What is added to it.
    pub terms: Vec<Term>,
    /// What is done to the gradient, in this order.
    pub changes: Vec<Change>,
    /// What happens to the residual stream while the outcome rows are trained.
    pub edits: Vec<StreamEdit>,
}

/// A part of the loss beside the outcome rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// As reports and errors name it.
    pub name: String,
    /// Factor of its value; with 0 it is measured and not trained.
    pub coefficient: f64,
    /// What is measured.
    pub penalty: Penalty,
}

/// What a term measures.
#[derive(Clone, Debug, PartialEq)]
pub enum Penalty {
    /// A loss of other rows, batch by batch in an order of their own.
    Rows {
        /// What is computed of them.
        loss: Loss,
        /// The rows, or the chosen ones of pairs.
        rows: Vec<Example>,
        /// The rejected ones of pairs.
        rejected: Vec<Example>,
    },
    /// Squared distance of all values from the start.
    Distance,
    /// The same, half of it, with a weight for each value.
    Ewc {
        /// How much rows depend on each of the weights.
        fisher: Vec<f32>,
    },
    /// What the change of the trained values has in common with a direction.
    Overlap {
        /// The direction, a vector of what is trained.
        plane: Vec<f32>,
        /// How it is measured.
        overlap: Overlap,
    },
}

/// Something done to the gradient of what is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Its component along another direction is removed.
    Project {
        /// The direction.
        against: Against,
        /// Which part, and when.
        projection: Projection,
    },
    /// A direction is added to it.
    Steer {
        /// The direction, a vector of what is trained.
        plane: Vec<f32>,
        /// How much of it.
        steering: Steering,
    },
}

/// A direction that gradients are projected against.
#[derive(Clone, Debug, PartialEq)]
pub enum Against {
    /// The gradient of a batch of these rows, anew in every step.
    Rows {
        /// What is computed of them.
        loss: Loss,
        /// The rows.
        rows: Vec<Example>,
        /// -1 where they are what is not wanted.
        sign: f64,
    },
    /// A vector of what is trained, made beforehand.
    Plane(Vec<f32>),
}

impl Objective {
    /// Plain fine-tuning.
    pub fn sft() -> Self {
        Self::of(Loss::Sft)
    }

    /// This loss of the outcome rows and nothing else.
    pub fn of(loss: Loss) -> Self {
        Objective { loss, rejected: Vec::new(), terms: Vec::new(), changes: Vec::new(), edits: Vec::new() }
    }

    /// Adds terms. A second term of the same name is numbered.
    pub fn with(mut self, terms: impl IntoIterator<Item = Term>) -> Self {
        for mut term in terms {
            let same = |other: &&Term| other.name == term.name || other.name.starts_with(&format!("{} ", term.name));
            let count = self.terms.iter().filter(same).count();
            if count > 0 {
                term.name = format!("{} {}", term.name, count + 1);
            }
            self.terms.push(term);
        }
        self
    }

    /// Adds a change of the gradient, after those that are there.
    pub fn changing(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds changes of the residual stream, after those that are there.
    pub fn editing(mut self, edits: impl IntoIterator<Item = StreamEdit>) -> Self {
        self.edits.extend(edits);
        self
    }
}

impl Term {
    /// A term with the mean `loss` of other rows, named as the loss is.
    pub fn on_rows(loss: Loss, coefficient: f64, rows: Vec<Example>) -> Self {
        Self::on_pairs(loss, coefficient, rows, Vec::new())
    }

    /// The same of pairs.
    pub fn on_pairs(loss: Loss, coefficient: f64, rows: Vec<Example>, rejected: Vec<Example>) -> Self {
        Term { name: loss.name().to_string(), coefficient, penalty: Penalty::Rows { loss, rows, rejected } }
    }
}

impl Change {
    /// As reports and errors name it.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Project { .. } => "grad_project",
            Change::Steer { .. } => "steering_gradient",
        }
    }
}

#[cfg(test)]
mod tests;
