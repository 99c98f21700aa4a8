//! `train_probe`: fits a probe on activations and checks it on rows that its folds did not see.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::activations::Activations;
use super::probe::Probe;
use super::probe_method::{Estimator, Folds, Plan, ProbeMethod};
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Event, Lab, Stage};
use crate::probe::discriminant::{DiscriminantOptions, fit_discriminant};
use crate::probe::estimator::fit_with_linfa;
use crate::probe::folds::{self, group_folds, leave_one_source_out};
use crate::probe::linear::{Linear, decide_all};
use crate::probe::logistic::{self, Task, fit_logistic, fit_path};
use crate::probe::matrix::Matrix;
use crate::probe::means::{MeansOptions, fit_means};
use crate::probe::metrics::{TwoClasses, auroc};
use crate::probe::product::Rows;
use crate::probe::saved::{Description, Features, to_files};
use crate::probe::scaler::{Scaler, fit_scalers};
use crate::probe::sparse_logistic::{SparseLogisticOptions, fit_sparse_logistic};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;
use crate::store::Key;

/// The fact of a saved probe that tells whether its decision values are log-odds.
pub const LOG_ODDS: &str = "decisions_are_log_odds";

/// Rows from which a fold's standardisation is taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ScalerRows {
    /// Those that the fold trains on.
    Fold,
    /// All training rows: a small leak, as in the published code.
    All,
}

/// How the classes count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ClassWeights {
    /// Every row counts once.
    Equal,
    /// Both classes count the same in sum.
    Balanced,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// `logistic(...)`, `lda(...)`, `difference_of_means()` or `logistic_linfa(...)`; `logistic()` when left out.
    method: Option<ProbeMethod>,
    /// `stratified_folds(...)`, `group_folds(...)`, `leave_one_source_out()` or `no_folds()`; five stratified folds,
    /// shuffled, when left out.
    folds: Option<Folds>,
    /// Rows from which a fold's means and scales are taken: "fold" or "all".
    scaler_rows: ScalerRows,
    /// "equal" or "balanced".
    class_weights: ClassWeights,
    /// How often each row counts, over all sources in order; once when left out.
    row_weights: Option<Vec<f64>>,
    /// Shuffles the labels first, as a control: such a probe should be at chance.
    shuffle_labels: Option<u64>,
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
        }
    }
}

impl Options {
    fn estimator(&self) -> Estimator {
        self.method.map_or(Estimator::Logistic { c: 10.0 }, |method| method.0)
    }
    fn plan(&self) -> Plan {
        self.folds.map_or(Plan::Stratified { count: 5, seed: Some(42) }, |folds| folds.0)
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
    let label = format!("{} on {}", options.estimator().name(), names.join(" + "));
    let work_sources = sources.clone();
    let fits = fits_of(&options, sources.len());
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label: label.clone(),
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(fits.into())),
        after: vec![],
        work: Box::new(move |lab| fit(lab, &work_sources, &options)),
    })?;
    Ok(Probe::of_training(lab, label, digest, sources, outcome))
}

fn fits_of(options: &Options, sources: usize) -> u64 {
    1 + match options.plan() {
        Plan::Stratified { count, .. } | Plan::Groups { count } => count as u64,
        Plan::Sources => sources as u64,
        Plan::None => 0,
    }
}

/// Training rows of all sources, stacked: the whole files are parts, and rows that were not chosen weigh nothing.
struct Stack {
    matrices: Vec<std::sync::Arc<Matrix>>,
    /// Number of each chosen row among the rows of all parts.
    places: Vec<usize>,
    /// Label of each chosen row.
    labels: Vec<bool>,
    /// Source of each chosen row.
    sources: Vec<usize>,
    total: usize,
}

impl Stack {
    fn of(lab: &Lab, sources: &[Activations]) -> Result<Self> {
        let mut stack = Stack { matrices: vec![], places: vec![], labels: vec![], sources: vec![], total: 0 };
        for (number, source) in sources.iter().enumerate() {
            stack.matrices.push(source.matrix(lab)?);
            stack.places.extend(source.chosen().into_iter().map(|row| stack.total + row));
            stack.labels.extend(source.labels()?);
            stack.sources.resize(stack.places.len(), number);
            stack.total += source.file_rows();
        }
        Ok(stack)
    }
    /// One value per row of all parts, `none` where a row was not chosen.
    fn spread<T: Copy>(&self, values: &[T], none: T) -> Vec<T> {
        let mut all = vec![none; self.total];
        self.places.iter().zip(values).for_each(|(place, value)| all[*place] = *value);
        all
    }
    fn gather<T: Copy>(&self, all: &[T]) -> Vec<T> {
        self.places.iter().map(|place| all[*place]).collect()
    }
}

fn fold_of_row(plan: Plan, stack: &Stack, sources: &[Activations]) -> Result<Option<folds::Folds>> {
    Ok(Some(match plan {
        Plan::Stratified { count, seed } => folds::stratified_folds(&stack.labels, count, seed)?,
        Plan::Groups { count } => {
            let mut groups = Vec::with_capacity(stack.labels.len());
            for source in sources {
                let named = source.file_groups().ok_or_else(|| {
                    Error::input(format!("`group_folds` needs groups, and `{}` has none", source.name()))
                        .with_help("give `groups: \"FILE\"` to `activations`")
                })?;
                groups.extend(source.chosen().into_iter().map(|row| named[row].clone()));
            }
            group_folds(&stack.labels, &groups, count)?
        }
        Plan::Sources => {
            let names: Vec<String> =
                stack.sources.iter().map(|number| format!("{number}: {}", sources[*number].name())).collect();
            leave_one_source_out(&stack.labels, &names)?
        }
        Plan::None => return Ok(None),
    }))
}

/// The fits of all folds and the last one on all rows, at one C or several.
struct Fits {
    stack: Stack,
    folds: Option<folds::Folds>,
    columns: usize,
    /// By C, then by fold.
    fitted: Vec<Vec<Fitted>>,
    /// Decision values of all rows of all parts, likewise.
    decisions: Vec<Vec<Vec<f64>>>,
}

/// Fits with the estimator as it is, or at each C of a path.
fn fit_folds(lab: &Lab, sources: &[Activations], options: &Options, path: Option<&[f64]>) -> Result<Fits> {
    let mut stack = Stack::of(lab, sources)?;
    if let Some(seed) = options.shuffle_labels {
        let mut random = crate::data::random::Random::stream(seed, &[0x6c61_6265_6c73]);
        (1..stack.labels.len()).rev().for_each(|i| stack.labels.swap(i, random.below(i + 1)));
    }
    let matrices = stack.matrices.clone();
    let rows = Rows::new(&matrices.iter().map(AsRef::as_ref).collect::<Vec<&Matrix>>())?;
    let folds = fold_of_row(options.plan(), &stack, sources)?;
    let count = folds.as_ref().map_or(0, folds::Folds::count);
    // The last task is the final fit on all rows.
    let counted: Vec<Vec<f64>> = (0..=count)
        .map(|fold| {
            let inside: Vec<bool> = (0..stack.labels.len())
                .map(|row| fold == count || folds.as_ref().is_none_or(|folds| folds.of_row[row] as usize != fold))
                .collect();
            stack.spread(&row_weights(options, &stack.labels, &inside), 0.0)
        })
        .collect();
    let labels = stack.spread(&stack.labels, false);
    let weights: Vec<&[f64]> = counted.iter().map(Vec::as_slice).collect();
    let scalers = match options.scaler_rows {
        ScalerRows::Fold => fit_scalers(&rows, &presence(&counted).iter().map(Vec::as_slice).collect::<Vec<_>>()),
        ScalerRows::All => {
            let all = presence(&counted[count..]);
            vec![fit_scalers(&rows, &[&all[0]]).remove(0)]
        }
    };
    let scaler = |task: usize| scalers.get(task).unwrap_or(&scalers[0]);
    lab.check_cancelled()?;
    let fitted = fit_all(lab, &rows, &labels, &weights, &scaler, options.estimator(), path)?;
    lab.send(Event::Worked { stage: Stage::Probe, count: fitted.iter().map(|fitted| fitted.len() as u64).sum() });
    let decide =
        |fitted: &Vec<Fitted>| decide_all(&rows, &fitted.iter().map(|fitted| &fitted.probe).collect::<Vec<_>>());
    let decisions = fitted.iter().map(decide).collect();
    Ok(Fits { columns: rows.columns(), stack, folds, fitted, decisions })
}

fn fit(lab: &Lab, sources: &[Activations], options: &Options) -> Result<Value> {
    let Fits { stack, folds, columns, mut fitted, mut decisions } = fit_folds(lab, sources, options, None)?;
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
        features: Features::of((0..columns as u32).collect()),
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
        "n_features": columns,
        "train_accuracy": hits as f64 / stack.labels.len() as f64,
        "training": sources.iter().map(Activations::provenance).collect::<Vec<_>>(),
        "cross_validation": cross_validation,
        "out_of_fold": out_of_fold,
        "in_sample": in_sample,
    }))
}

/// How much every row counts in a fit that sees the rows `inside`.
fn row_weights(options: &Options, labels: &[bool], inside: &[bool]) -> Vec<f64> {
    let mut weights: Vec<f64> = inside.iter().map(|inside| f64::from(u8::from(*inside))).collect();
    if let Some(given) = &options.row_weights {
        weights.iter_mut().zip(given).for_each(|(weight, given)| *weight *= given);
    }
    if options.class_weights == ClassWeights::Balanced {
        let total: f64 = weights.iter().sum();
        for class in [false, true] {
            let of_class: f64 = weights.iter().zip(labels).filter(|(_, label)| **label == class).map(|(w, _)| w).sum();
            for (weight, _) in weights.iter_mut().zip(labels).filter(|(_, label)| **label == class) {
                *weight *= total / (2.0 * of_class.max(f64::MIN_POSITIVE));
            }
        }
    }
    weights
}

/// Standardisation counts rows, not their weights, as scikit-learn's pipelines do.
fn presence(weights: &[Vec<f64>]) -> Vec<Vec<f64>> {
    weights.iter().map(|weights| weights.iter().map(|w| f64::from(u8::from(*w > 0.0))).collect()).collect()
}

struct Fitted {
    probe: Linear,
    certificate: Value,
}

fn fit_all<'a>(
    lab: &Lab,
    rows: &Rows,
    labels: &[bool],
    weights: &[&[f64]],
    scaler: &dyn Fn(usize) -> &'a Scaler,
    estimator: Estimator,
    path: Option<&[f64]>,
) -> Result<Vec<Vec<Fitted>>> {
    let follow = |_: usize| lab.check_cancelled();
    if let Estimator::Logistic { c } = estimator {
        let tasks: Vec<Task> = weights
            .iter()
            .enumerate()
            .map(|(task, weights)| Task { labels, weights, scaler: scaler(task), c, start: None })
            .collect();
        let options = logistic::Options { follow: &follow, ..logistic::Options::default() };
        let fits = match path {
            Some(path) => fit_path(rows, &tasks, path, &options)?,
            None => vec![fit_logistic(rows, &tasks, &options)?],
        };
        let proved = |fit: logistic::Fit| Fitted { probe: fit.probe, certificate: json!(fit.certificate) };
        return Ok(fits.into_iter().map(|fits| fits.into_iter().map(proved).collect()).collect());
    }
    let mut by_c: Vec<Vec<Fitted>> = (0..path.map_or(1, <[f64]>::len)).map(|_| Vec::new()).collect();
    for (task, weights) in weights.iter().enumerate() {
        lab.check_cancelled()?;
        let of_task = fit_one(rows, labels, weights, scaler(task), estimator, path)?;
        by_c.iter_mut().zip(of_task).for_each(|(fits, fit)| fits.push(fit));
    }
    Ok(by_c)
}

/// Fits of one set of row weights by anything but L2 logistic regression: one, or one per C.
fn fit_one(
    rows: &Rows,
    labels: &[bool],
    weights: &[f64],
    scaler: &Scaler,
    estimator: Estimator,
    path: Option<&[f64]>,
) -> Result<Vec<Fitted>> {
    Ok(match estimator {
        Estimator::Logistic { .. } => unreachable!("fitted together"),
        Estimator::SparseLogistic { c, l1_share } => {
            let c = path.map_or_else(|| vec![c], <[f64]>::to_vec);
            let options = SparseLogisticOptions { c, l1_ratio: l1_share, ..Default::default() };
            let fits = fit_sparse_logistic(rows, labels, weights, scaler, &options)?;
            let proved = fits.into_iter().map(|fit| Fitted {
                certificate: json!({ "objective": fit.objective, "duality_gap": fit.gap, "violation": fit.violation }),
                probe: fit.probe,
            });
            proved.collect()
        }
        Estimator::Linfa { c } => {
            let certificate = json!({ "solver": "linfa-logistic" });
            vec![Fitted { probe: fit_with_linfa(rows, labels, weights, scaler, c)?, certificate }]
        }
        Estimator::Means => {
            let fit = fit_means(rows, labels, weights, scaler, &MeansOptions::default())?;
            vec![Fitted { probe: fit.probe, certificate: json!({ "distance_of_means": fit.distance }) }]
        }
        Estimator::Discriminant { shrinkage } => {
            let options = DiscriminantOptions { shrinkage, ..DiscriminantOptions::default() };
            let fit = fit_discriminant(rows, labels, weights, scaler, &options)?;
            vec![Fitted { probe: fit.probe, certificate: json!({ "residual": fit.residual, "steps": fit.iterations }) }]
        }
    })
}

/// The declaration of `probe_path`.
pub fn path_primitive() -> Primitive<Lab> {
    Primitive::new("probe_path", run_path)
        .about(
            "Fits and checks a logistic probe at several C, each from the ones before, and tells for each C the AUROC of \
             the folds, the number of weights that are not 0 and what proves the fit. Much cheaper than as many calls of \
             `train_probe`. Returns an array of maps in the order of `c`. Waits.",
        )
        .input("sources", "Activations with labels; their rows are stacked in order.")
        .input("c", "Inverse strengths of the penalty.")
        .example("probe_path([train], [0.01, 0.1, 1.0, 10.0], #{ method: logistic(#{ penalty: l1() }) })")
}

fn run_path(
    lab: &Lab,
    call: &Call,
    (sources, path): (Vec<Activations>, Vec<f64>),
    options: Options,
) -> Result<Plain<Value>> {
    ensure!(!sources.is_empty() && !path.is_empty(), "`probe_path` needs sources and values of C";
        help: "write `probe_path([data], [0.1, 1.0])`");
    ensure!(
        matches!(options.estimator(), Estimator::Logistic { .. } | Estimator::SparseLogistic { .. }),
        "`{}` has no path over C", options.estimator().name(); help: "use `logistic(...)`"
    );
    ensure!(path.iter().all(|c| *c > 0.0 && c.is_finite()), "a C of {path:?} is not above 0"; help: "write numbers above 0");
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), call.options.clone().unwrap_or(Value::Null))?;
    let fits = fits_of(&options, sources.len()) * path.len() as u64;
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label: format!("path of {} values of C", path.len()),
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(move |_| Ok(fits.into())),
        after: vec![],
        work: Box::new(move |lab| {
            let Fits { stack, folds, fitted, decisions, .. } = fit_folds(lab, &sources, &options, Some(&path))?;
            let mut points = Vec::with_capacity(path.len());
            for ((c, fitted), decisions) in path.iter().zip(&fitted).zip(&decisions) {
                let mut check = match &folds {
                    Some(folds) => cross_validate(&stack, folds, decisions)?.0,
                    None => Value::Null,
                };
                check.as_object_mut().map(|fields| fields.remove("fold_of_row"));
                let last = &fitted[fitted.len() - 1];
                points.push(json!({
                    "c": c, "non_zeros": last.probe.non_zeros(), "certificate": last.certificate, "cross_validation": check,
                }));
            }
            Ok(Value::Array(points))
        }),
    })?;
    Ok(Plain((*lab.wait(&outcome)?).clone()))
}

/// AUROC of every fold on the rows it did not see, and those rows' scores.
fn cross_validate(stack: &Stack, folds: &folds::Folds, decisions: &[Vec<f64>]) -> Result<(Value, Vec<f64>)> {
    let mut scores = vec![0.0; stack.labels.len()];
    let (mut areas, mut reasons) = (Vec::new(), Vec::new());
    for (fold, decisions) in decisions[..folds.count()].iter().enumerate() {
        let held_out = folds.test_rows(fold);
        let fold_scores: Vec<f64> = held_out.iter().map(|row| decisions[stack.places[*row]]).collect();
        let fold_labels: Vec<bool> = held_out.iter().map(|row| stack.labels[*row]).collect();
        held_out.iter().zip(&fold_scores).for_each(|(row, score)| scores[*row] = *score);
        match TwoClasses::new(&fold_scores, &fold_labels, None) {
            Ok(classes) => areas.push(Some(auroc(&classes, 0.95)?.value)),
            Err(error) => {
                areas.push(None);
                reasons.push(format!("fold {fold}: {}", error.message));
            }
        }
    }
    let known: Vec<f64> = areas.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let spread = (known.iter().map(|area| (area - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt();
    let pooled = TwoClasses::new(&scores, &stack.labels, None).and_then(|classes| auroc(&classes, 0.95));
    let check = json!({
        "folds": folds.count(), "auroc_per_fold": areas, "auroc_mean": (!known.is_empty()).then_some(mean),
        "auroc_std": (!known.is_empty()).then_some(spread), "auroc_pooled": pooled.ok(), "without_auroc": reasons,
        "fold_of_row": folds.of_row,
    });
    Ok((check, scores))
}
