//! `at_epoch`: a model in the middle of its training.

use super::model::Model;
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("at_epoch", run)
        .about(
            "What a model was at the end of an epoch of its training, from 0 before the first step. The training must have \
             been launched with `keep_epochs: true`.",
        )
        .input("model", "What `launch_finetune` returned.")
        .input("epoch", "The epoch.")
        .example("evaluate(tuned.at_epoch(3), setting.evaluations)")
}

fn run(_: &Lab, _: &Call, (model, epoch): (Model, usize), _: ()) -> Result<Model> {
    model.at_epoch(epoch)
}
