//! `train_probe`: fits a probe on activations and checks it on rows that its folds did not see.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activations::Activations;
use super::probe::Probe;
use super::probe_fits::{Fits, cross_validate, fit_folds};
use super::probe_method::{Estimator, Folds, Plan, ProbeMethod, RandomFeatures};
use crate::data::digest::Digest;
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Lab, Stage};
use crate::probe::saved::{Description, Features, to_files};
use crate::script::declaration::{Call, Primitive};
use crate::store::Key;

/// The fact of a saved probe that tells whether its decision values are log-odds.
pub const LOG_ODDS: &str = "decisions_are_log_odds";

/// Rows from which a fold's standardisation is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalerRows {
    /// Those that the fold trains on.
    Fold,
    /// All training rows: a small leak, as in the published code.
    All,
}

/// How the classes count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every row counts once.
    Equal,
    /// Both classes count the same in sum.
    Balanced,
}

/// The options of `train_probe` and `probe_path`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `logistic(...)`, `lda(...)`, `difference_of_means()` or `logistic_linfa(...)`; `logistic()` when left out.
    pub method: Option<ProbeMethod>,
    /// `stratified_folds(...)`, `group_folds(...)`, `leave_one_source_out()` or `no_folds()`; five stratified folds,
    /// shuffled, when left out.
    pub folds: Option<Folds>,
    /// Rows from which a fold's means and scales are taken: "fold" or "all".
    pub scaler_rows: ScalerRows,
    /// "equal" or "balanced".
    pub class_weights: ClassWeights,
    /// How often each row counts, over all sources in order; once when left out.
    pub row_weights: Option<Vec<f64>>,
    /// Shuffles the labels first, as a control: such a probe should be at chance.
    pub shuffle_labels: Option<u64>,
    /// `random_features(...)`: fits on so many features drawn at random, as a control; all when left out.
    pub features: Option<RandomFeatures>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            method: None,
            folds: None,
            scaler_rows: ScalerRows::Fold,
            class_weights: ClassWeights::Equal,
            row_weights: None,
            shuffle_labels: None,
            features: None,
        }
    }
}

impl Options {
    /// What is fitted.
    pub fn estimator(&self) -> Estimator {
        self.method.map_or(Estimator::Logistic { c: 10.0 }, |method| method.0)
    }
    /// How rows are held out.
    pub fn plan(&self) -> Plan {
        self.folds.map_or(Plan::Stratified { count: 5, seed: Some(42) }, |folds| folds.0)
    }
    /// Number of fits: one per fold, and one on all rows.
    pub fn fits(&self, sources: usize) -> u64 {
        1 + match self.plan() {
            Plan::Stratified { count, .. } | Plan::Groups { count } => count as u64,
            Plan::Sources => sources as u64,
            Plan::None => 0,
        }
    }
    /// What the estimator is called in tables, and what it may see.
    fn name(&self) -> String {
        match self.features {
            Some(RandomFeatures { count, .. }) => format!("{} on {count} random features", self.estimator().name()),
            None => self.estimator().name(),
        }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("train_probe", run)
        .about(
            "Fits a linear probe on standardised activations of one or more sources, and once more per fold, so that \
             every training row has a score of a probe that did not see it. Returns at once; reading a property waits.",
        )
        .input("sources", "Activations with labels; their rows are stacked in order.")
        .example("train_probe([train, benchmark], #{ method: logistic(#{ c: 10.0 }) })")
}

fn run(lab: &Lab, call: &Call, (sources,): (Vec<Activations>,), options: Options) -> Result<Probe> {
    ensure!(!sources.is_empty(), "`train_probe` has no sources"; help: "write `train_probe([data])`");
    let rows: usize = sources.iter().map(Activations::rows).sum();
    for source in &sources {
        source.file_labels()?;
        ensure!(
            source.features() == sources[0].features(),
            "`{}` has {} features and `{}` {}", source.name(), source.features(), sources[0].name(), sources[0].features();
            help: "use activations of the same layer and dictionary"
        );
    }
    if let Some(weights) = &options.row_weights {
        ensure!(weights.len() == rows, "`row_weights` has {} numbers for {rows} rows", weights.len();
            help: "give one per row of all sources, in order");
    }
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let digest = key.digest();
    let names: Vec<&str> = sources.iter().map(Activations::name).collect();
    let label = format!("{} on {}", options.name(), names.join(" + "));
    let work_sources = sources.clone();
    let fits = options.fits(sources.len());
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label: label.clone(),
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(fits.into())),
        after: vec![],
        work: Box::new(move |lab| fit(lab, digest, &work_sources, &options)),
    })?;
    Ok(Probe::of_training(lab, label, digest, sources, outcome))
}

fn fit(lab: &Lab, key: Digest, sources: &[Activations], options: &Options) -> Result<Value> {
    let Fits { stack, folds, features, mut fitted, mut decisions } = fit_folds(lab, key, sources, options, None)?;
    let columns = sources[0].features();
    let (fitted, decisions) = (fitted.remove(0), decisions.remove(0));
    let count = fitted.len() - 1;
    let in_sample = stack.gather(&decisions[count]);
    let hits = in_sample.iter().zip(&stack.labels).filter(|(score, label)| (**score > 0.0) == **label).count();
    let (cross_validation, out_of_fold) = match &folds {
        Some(folds) => {
            let (check, scores) = cross_validate(&stack, folds, &decisions)?;
            (Some(check), Some(scores))
        }
        None => (None, None),
    };
    let last = &fitted[count];
    let training = sources.iter().map(|source| (source.name().to_string(), source.provenance()));
    let description = Description {
        method: options.estimator().name(),
        options: match serde_json::to_value(options) {
            Ok(Value::Object(options)) => options.into_iter().collect(),
            _ => Default::default(),
        },
        scaler: "standard".to_string(),
        label_names: ["0".to_string(), "1".to_string()],
        features: Features::of(features.unwrap_or_else(|| (0..columns as u32).collect())),
        columns,
        training: training.collect(),
        certificate: Some(last.certificate.clone()),
        facts: [(LOG_ODDS.to_string(), json!(options.estimator().gives_log_odds()))].into(),
    };
    let (json, tensors) = to_files(&last.probe, &description)?;
    let blob = lab.store().put_blob(&tensors)?;
    Ok(json!({
        "blob": blob,
        "left_out": if options.plan() == Plan::Sources { "source" } else { "fold" },
        "description": json,
        "certificate": last.certificate,
        "fold_certificates": fitted[..count].iter().map(|fitted| &fitted.certificate).collect::<Vec<_>>(),
        "non_zeros": last.probe.non_zeros(),
        "intercept": last.probe.intercept,
        "weight_norm": last.probe.weights.iter().map(|w| w * w).sum::<f64>().sqrt(),
        "n_training_samples": stack.labels.len(),
        "n_features": last.probe.weights.len(),
        "train_accuracy": hits as f64 / stack.labels.len() as f64,
        "training": sources.iter().map(Activations::provenance).collect::<Vec<_>>(),
        "cross_validation": cross_validation,
        "out_of_fold": out_of_fold,
        "in_sample": in_sample,
    }))
}
