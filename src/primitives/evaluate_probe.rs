//! `evaluate_probe`, `compare_probes`, `roc_curve`: what a probe's scores on a source are worth.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activations::Activations;
use super::probe::Probe;
use super::train_probe::LOG_ODDS;
use crate::engine::Turn;
use crate::engine::deferred::Deferred;
use crate::error::{Error, Result, ensure};
use crate::handle;
use crate::lab::{Call as LabCall, Lab, Missing, Stage};
use crate::probe::linear::{Linear, probability};
use crate::probe::metrics::{
    self, DeclaredNegatives, Elsewhere, How, Rows as Scored, TwoClasses, compare_delong, fix_threshold, measure,
    roc_corners,
};
use crate::probe::product::Rows;
use crate::probe::saved::{Description, check_applies};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType, Plain};
use crate::store::Key;

/// What a probe is worth on a set, perhaps not measured yet.
#[derive(Clone)]
pub struct Measurement {
    lab: Lab,
    name: String,
    identity: Value,
    outcome: Deferred<Value>,
}

handle!(Measurement);

impl Handle for Measurement {
    const NAME: &'static str = "Measurement";
    fn identity(&self) -> Value {
        self.identity.clone()
    }
    fn describe(&self) -> String {
        format!("Measurement of {}", self.name)
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Measurement>("What a probe is worth on a set of rows.")
        .property("values", "All numbers with their intervals, as a map.", |measured: &Measurement| {
            let mut values = (*measured.lab.wait(&measured.outcome)?).clone();
            values.as_object_mut().map(|fields| fields.remove("roc"));
            Ok(Plain(values))
        })
        .property(
            "roc",
            "Points of the ROC curve as maps of fpr and tpr; () for a set of one class.",
            |measured: &Measurement| Ok(Plain(measured.lab.wait(&measured.outcome)?["roc"].clone())),
        )
}

/// Whose rows a score belongs to.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Training rows by the fold that did not see them, other rows by the probe itself.
    Honest,
    /// Training rows by the probe that was fitted on them.
    Resubstitution,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// "honest": training rows are scored by folds that did not see them; "resubstitution": by the probe itself.
    scores: Rule,
    /// Negatives to rank a set of positives only against; a cross-source comparison also measures the domain.
    negatives: Option<Activations>,
    /// Source on whose negatives thresholds are fixed, at each of `target_fprs`.
    thresholds_from: Option<Activations>,
    /// False-positive rates at which the true-positive rate is read.
    target_fprs: Vec<f64>,
    /// Resamples of a bootstrap.
    resamples: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            scores: Rule::Honest,
            negatives: None,
            thresholds_from: None,
            target_fprs: vec![0.01, 0.05],
            resamples: 2000,
        }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("evaluate_probe", run)
        .about(
            "AUROC with DeLong's interval, average precision, TPR at fixed FPR, accuracy, calibration. Training rows are \
             scored out of fold and say so. A set of one class has no AUROC: it gets rates at thresholds that were fixed \
             on named negatives. Returns at once; reading a property waits.",
        )
        .input("probe", "The probe.")
        .input("data", "Activations with labels.")
        .example("evaluate_probe(probe, sycophant, #{ thresholds_from: gold, negatives: gold })")
}

fn run(lab: &Lab, call: &Call, (probe, data): (Probe, Activations), options: Options) -> Result<Measurement> {
    data.file_labels()?;
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let (digest, after) = (key.digest(), probe.after());
    let name = format!("`{}` on {}", probe.name(), data.name());
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label: format!("measure {name}"),
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(Missing::from(0))),
        after,
        work: Box::new(move |lab| measured(lab, &probe, &data, &options)),
    })?;
    Ok(Measurement { lab: lab.clone(), name, identity: json!({ "call": digest }), outcome })
}

fn measured(lab: &Lab, probe: &Probe, data: &Activations, options: &Options) -> Result<Value> {
    let scorer = Scorer::of(probe)?;
    let (how, scores) = scorer.scores(lab, data, options.scores)?;
    let labels = data.labels()?;
    let logistic = scorer.description.facts.get(LOG_ODDS).and_then(Value::as_bool).unwrap_or(false);
    let probabilities: Option<Vec<f64>> = logistic.then(|| scores.iter().map(|score| probability(*score)).collect());
    let groups = data.file_groups().map(|groups| numbered(data.chosen().into_iter().map(|row| groups[row].as_str())));
    let mut thresholds = Vec::new();
    if let Some(source) = &options.thresholds_from {
        let negatives = scorer.negative_scores(lab, source, options.scores)?;
        for target in &options.target_fprs {
            thresholds.push(fix_threshold(&format!("negatives of {}", source.name()), &negatives, *target)?);
        }
    }
    let declared = match &options.negatives {
        Some(source) => Some((source.clone(), scorer.negative_scores(lab, source, options.scores)?)),
        None => None,
    };
    let negatives = declared.as_ref().map(|(source, scores)| DeclaredNegatives {
        set: source.name(),
        same_source: source.name() == data.name(),
        scores,
    });
    let rows =
        Scored { scores: &scores, probabilities: probabilities.as_deref(), labels: &labels, groups: groups.as_deref() };
    let settings = metrics::Options {
        target_fprs: options.target_fprs.clone(),
        resamples: options.resamples,
        ..metrics::Options::default()
    };
    let measured = measure(data.name(), how, rows, Elsewhere { thresholds: &thresholds, negatives }, &settings)?;
    let mut values = serde_json::to_value(&measured).map_err(|error| Error::internal(error.to_string()))?;
    let mean = |class: Option<bool>| {
        let chosen: Vec<f64> = scores
            .iter()
            .zip(&labels)
            .filter(|(_, label)| class.is_none_or(|class| **label == class))
            .map(|(score, _)| probability(*score))
            .collect();
        (!chosen.is_empty()).then(|| chosen.iter().sum::<f64>() / chosen.len() as f64)
    };
    if logistic {
        values["mean_probability"] =
            json!({ "all": mean(None), "positives": mean(Some(true)), "negatives": mean(Some(false)) });
    }
    values["roc"] = match TwoClasses::new(&scores, &labels, None) {
        Ok(classes) => {
            json!(roc_corners(&classes).iter().map(|p| json!({ "fpr": p.fpr, "tpr": p.tpr })).collect::<Vec<_>>())
        }
        Err(_) => Value::Null,
    };
    Ok(values)
}

/// A probe, read once for all that it scores.
pub struct Scorer<'a> {
    probe: &'a Probe,
    linear: Linear,
    description: Description,
}

impl<'a> Scorer<'a> {
    /// Inside a call that came after [`Probe::after`].
    pub fn of(probe: &'a Probe) -> Result<Self> {
        let (linear, description) = probe.read()?;
        Ok(Scorer { probe, linear, description })
    }

    /// Scores of the rows, and how the probe stands to them.
    pub fn scores(&self, lab: &Lab, data: &Activations, rule: Rule) -> Result<(How, Vec<f64>)> {
        let chosen = data.chosen();
        let mut start = 0;
        for source in self.probe.training() {
            let trained = source.chosen();
            if source.digest() == data.digest() {
                let place: std::collections::HashMap<usize, usize> = trained.iter().copied().zip(start..).collect();
                let known: Vec<Option<usize>> = chosen.iter().map(|row| place.get(row).copied()).collect();
                let inside = known.iter().flatten().count();
                ensure!(
                    inside == 0 || inside == chosen.len(),
                    "{inside} of the {} rows of `{}` are training rows of the probe, the others are not", chosen.len(), data.name();
                    help: "evaluate the two parts one by one"
                );
                if inside > 0 {
                    let record = self.probe.outcome()?.ok_or_else(|| Error::internal("a fitted probe has a record"))?;
                    let (how, list) = match rule {
                        Rule::Honest => (How::OutOfFold, "out_of_fold"),
                        Rule::Resubstitution => (How::Resubstitution, "in_sample"),
                    };
                    let how = if rule == Rule::Honest && record["left_out"] == "source" {
                        How::LeaveOneSourceOut
                    } else {
                        how
                    };
                    let scores = record[list].as_array().ok_or_else(|| {
                        Error::input(format!("`{}` was trained on, and the probe has no folds", data.name()))
                            .with_help("train it with folds, or evaluate with `scores: \"resubstitution\"`")
                    })?;
                    return Ok((how, known.iter().flatten().map(|row| scores[*row].as_f64().unwrap_or(0.0)).collect()));
                }
            }
            start += trained.len();
        }
        check_applies(&self.description, data.features())?;
        let matrix = data.matrix(lab)?;
        let decisions = self.linear.decide(&Rows::new(&[&matrix])?);
        Ok((How::HeldOut, chosen.into_iter().map(|row| decisions[row]).collect()))
    }

    /// Scores of the rows of class 0.
    pub fn negative_scores(&self, lab: &Lab, source: &Activations, rule: Rule) -> Result<Vec<f64>> {
        let (_, scores) = self.scores(lab, source, rule)?;
        let negatives: Vec<f64> =
            scores.into_iter().zip(source.labels()?).filter(|(_, label)| !label).map(|(score, _)| score).collect();
        ensure!(!negatives.is_empty(), "`{}` has no negatives", source.name(); help: "name a source with rows of class 0");
        Ok(negatives)
    }
}

fn numbered<'a>(groups: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut numbers = std::collections::HashMap::new();
    groups
        .map(|group| {
            let next = numbers.len() as u32;
            *numbers.entry(group).or_insert(next)
        })
        .collect()
}

/// The declaration of `compare_probes`.
pub fn compare_primitive() -> Primitive<Lab> {
    Primitive::new("compare_probes", compare)
        .about("DeLong's paired test of two probes on the same rows: difference of AUROC, interval, p. Waits for both.")
        .input("a", "The first probe.")
        .input("b", "The second probe.")
        .input("data", "Activations with both classes.")
        .example("compare_probes(step_1, step_0, gold)")
}

fn compare(lab: &Lab, call: &Call, (a, b, data): (Probe, Probe, Activations), _: ()) -> Result<Plain<Value>> {
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), Value::Null)?;
    let outcome = lab.call(LabCall {
        key,
        options: Value::Null,
        label: format!("compare `{}` with `{}` on {}", a.name(), b.name(), data.name()),
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(|_| Ok(Missing::from(0))),
        after: [a.after(), b.after()].concat(),
        work: Box::new(move |lab| {
            let (how_a, first) = Scorer::of(&a)?.scores(lab, &data, Rule::Honest)?;
            let (how_b, second) = Scorer::of(&b)?.scores(lab, &data, Rule::Honest)?;
            let comparison = compare_delong(&first, &second, &data.labels()?, None, 0.95)?;
            let mut value = serde_json::to_value(comparison).map_err(|error| Error::internal(error.to_string()))?;
            (value["how_a"], value["how_b"]) = (json!(how_a), json!(how_b));
            Ok(value)
        }),
    })?;
    Ok(Plain((*lab.wait(&outcome)?).clone()))
}
