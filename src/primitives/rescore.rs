//! `rescore`: other judges or another score for answers that are there already.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluate::put_through;
use super::evaluation::{Evaluation, Score};
use super::judges::Judge;
use super::results::Results;
use crate::error::{Result, ensure};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Who judges instead; the same judges when left out.
    judges: Option<Vec<Judge>>,
    /// Which judgement is the score, and how: `score(#{ judge: "alignment", below: 30.0 })`.
    score: Option<Score>,
    /// Added to the names of the evaluations: `general questions (strict)`.
    suffix: Option<String>,
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("rescore", run)
        .about(
            "The same answers with other judges, another threshold or another filter. Nothing is sampled again; judges \
             that have judged an answer before are not asked again.",
        )
        .input("results", "What `evaluate` returned.")
        .example("rescore(results, #{ score: score(#{ judge: \"classifier\", above: 70.0 }), suffix: \"strict\" })")
}

fn run(lab: &Lab, _: &Call, (results,): (Results,), options: Options) -> Result<Results> {
    if let Some(judges) = &options.judges {
        ensure!(!judges.is_empty(), "`judges` is empty"; help: "name at least one, or leave it out");
    }
    let model = results.model()?.clone();
    let changed = results.parts().iter().map(|part| {
        let mut definition = (*part.evaluation).clone();
        let mut models = (*part.judge_models).clone();
        if let Some(judges) = &options.judges {
            definition.judges = judges.iter().map(|judge| judge.definition.clone()).collect();
            models = judges.iter().map(|judge| judge.model.clone()).collect();
        }
        if let Some(score) = &options.score {
            definition.score = score.definition().clone();
        }
        if let Some(suffix) = &options.suffix {
            definition.id = format!("{} ({suffix})", definition.id);
        }
        let evaluation = Evaluation { definition: Arc::new(definition), judge_models: Arc::new(models) };
        evaluation.check().map(|()| evaluation)
    });
    put_through(lab, model, changed.collect::<Result<_>>()?)
}
