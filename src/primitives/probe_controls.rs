//! `negative_control`, `weight_on_unseen`: whether a probe's numbers can be about its concept at all.

use serde_json::{Value, json};

use super::activations::Activations;
use super::evaluate_probe::{Rule, Scorer};
use super::probe::Probe;
use crate::engine::Turn;
use crate::error::{Error, Result};
use crate::lab::{Call as LabCall, Lab, Missing, Stage, Work};
use crate::probe::audit::weight_on_unseen;
use crate::probe::metrics::{DeclaredNegatives, negative_control};
use crate::probe::saved::check_applies;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;
use crate::store::Key;

/// Of the interval.
const CONFIDENCE: f64 = 0.95;

/// The declaration of `negative_control`.
pub fn negative_primitive() -> Primitive<Lab> {
    Primitive::new("negative_control", run_negatives)
        .about(
            "How well a probe tells negatives of one source from negatives of another, as AUROC with DeLong's interval. \
             Neither holds the concept, so that whatever is far from 0.5 is the probe's view of the sources. Training \
             rows are scored out of fold. Waits.",
        )
        .input("probe", "The probe.")
        .input("data", "Activations whose rows of class 0 stand for the positives.")
        .input("against", "Activations whose rows of class 0 they are ranked against.")
        .example("negative_control(probe, benchmark, gold)")
}

fn run_negatives(
    lab: &Lab,
    call: &Call,
    (probe, data, against): (Probe, Activations, Activations),
    _: (),
) -> Result<Plain<Value>> {
    data.file_labels()?;
    against.file_labels()?;
    let label = format!("negatives of {} against {} by `{}`", data.name(), against.name(), probe.name());
    let control = probe.clone();
    let work = move |lab: &Lab| {
        let scorer = Scorer::of(&control)?;
        let [of, other] = [&data, &against].map(|source| scorer.negative_scores(lab, source, Rule::Honest));
        let same_source = data.name() == against.name();
        let found = negative_control(
            DeclaredNegatives { set: data.name(), same_source, scores: &of? },
            DeclaredNegatives { set: against.name(), same_source, scores: &other? },
            CONFIDENCE,
        )?;
        serde_json::to_value(found).map_err(|error| Error::internal(error.to_string()))
    };
    outcome(lab, call, &probe, label, Box::new(work))
}

/// The declaration of `weight_on_unseen`.
pub fn unseen_primitive() -> Primitive<Lab> {
    Primitive::new("weight_on_unseen", run_unseen)
        .about(
            "How much of a probe lies on features that are 0 in all rows of the data: the numbers of features with a \
             weight and of those never seen, and shares of features, of absolute and of squared weights on standardised \
             features. What is unseen cannot help there. Waits.",
        )
        .input("probe", "The probe.")
        .input("data", "Activations that it is to be applied to; they need no labels.")
        .example("weight_on_unseen(probe, sycophant).share_of_weight")
}

fn run_unseen(lab: &Lab, call: &Call, (probe, data): (Probe, Activations), _: ()) -> Result<Plain<Value>> {
    let label = format!("weight of `{}` on what {} never shows", probe.name(), data.name());
    let applied = probe.clone();
    let work = move |lab: &Lab| {
        let (linear, description) = applied.read()?;
        check_applies(&description, data.features())?;
        // The weights stand on standardised features already.
        let unseen = weight_on_unseen(&linear.weights, None, &*data.matrix(lab)?, &data.chosen())?;
        serde_json::to_value(unseen).map_err(|error| Error::internal(error.to_string()))
    };
    outcome(lab, call, &probe, label, Box::new(work))
}

fn outcome(lab: &Lab, call: &Call, probe: &Probe, label: String, work: Work<Value>) -> Result<Plain<Value>> {
    let outcome = lab.call(LabCall {
        key: Key::new(call.primitive, call.version, call.inputs.clone(), Value::Null)?,
        options: json!(null),
        label,
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(Missing::from(0))),
        after: probe.after(),
        work,
    })?;
    Ok(Plain((*lab.wait(&outcome)?).clone()))
}
