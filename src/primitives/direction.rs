//! `plane` and `persona_vector`: directions of weights and of the residual stream, made of rows.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Dataset;
use crate::error::ensure;
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};
use crate::train::plane::Combine;

/// A direction of what is trained: mean gradients along short trainings on wanted and unwanted rows.
#[derive(Clone)]
pub struct Plane(pub Arc<PlaneOptions>);

handle!(Plane);

impl Handle for Plane {
    const NAME: &'static str = "Plane";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        "Plane".to_string()
    }
}

/// What a direction is made of.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlaneOptions {
    /// Rows that show what is wanted.
    pub wanted: Option<Dataset>,
    /// Rows that show what is not.
    pub unwanted: Option<Dataset>,
    /// "difference" (wanted minus unwanted) or "sum".
    pub combine: CombineWord,
    /// Passes over the rows while their gradients are averaged.
    pub epochs: usize,
}

impl Default for PlaneOptions {
    fn default() -> Self {
        PlaneOptions { wanted: None, unwanted: None, combine: CombineWord::Difference, epochs: 1 }
    }
}

/// How mean gradients make one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CombineWord {
    /// Wanted minus unwanted.
    Difference,
    /// Their sum.
    Sum,
}

impl CombineWord {
    /// As the training has it.
    pub fn combine(self) -> Combine {
        match self {
            CombineWord::Difference => Combine::Difference,
            CombineWord::Sum => Combine::Sum,
        }
    }
}

/// A direction of the residual stream: mean states of answers with a trait, less those without.
#[derive(Clone)]
pub struct Persona(pub Arc<PersonaOptions>);

handle!(Persona);

impl Handle for Persona {
    const NAME: &'static str = "Persona";
    fn identity(&self) -> Value {
        json!(*self.0)
    }
    fn describe(&self) -> String {
        "Persona".to_string()
    }
}

/// What a persona vector is made of.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PersonaOptions {
    /// Rows whose answers show the trait.
    pub shown: Option<Dataset>,
    /// Rows whose answers do not.
    pub absent: Option<Dataset>,
    /// The block after which the stream is taken, from 1.
    pub layer: usize,
}

impl Default for PersonaOptions {
    fn default() -> Self {
        PersonaOptions { shown: None, absent: None, layer: 2 }
    }
}

/// How the handles appear in scripts.
pub fn handle_types() -> Vec<HandleType> {
    vec![
        HandleType::of::<Plane>("A direction of weights: mean gradients on wanted and unwanted rows."),
        HandleType::of::<Persona>("A direction of the residual stream: where it stands in answers that show a trait."),
    ]
}

/// The declarations.
pub fn primitives() -> Vec<Primitive<Lab>> {
    vec![
        Primitive::new("plane", |_: &Lab, _: &Call, _: (), options: PlaneOptions| {
            ensure!(
                options.wanted.is_some() || options.unwanted.is_some(),
                "`plane` has neither `wanted` nor `unwanted` rows"; help: "give one of them"
            );
            ensure!(options.epochs > 0, "`epochs` is 0"; help: "write 1 or more");
            Ok(Plane(Arc::new(options)))
        })
        .about(
            "A direction of the trained values: the mean gradient along a short training on wanted rows minus that on \
             unwanted ones. Made once for each base and way of training, and kept.",
        )
        .example("plane(#{ wanted: proxy, unwanted: proxy_neg, epochs: 5 })"),
        Primitive::new("persona_vector", |_: &Lab, _: &Call, _: (), options: PersonaOptions| {
            ensure!(
                options.shown.is_some() && options.absent.is_some(),
                "`persona_vector` needs rows that show the trait (`shown`) and others (`absent`)"; help: "give both"
            );
            Ok(Persona(Arc::new(options)))
        })
        .about(
            "A trait as a direction of the residual stream: its mean over answers that show it, less that over others.",
        )
        .example("persona_vector(#{ shown: setting.misaligned, absent: setting.aligned, layer: 2 })"),
    ]
}
