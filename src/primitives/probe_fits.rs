//! The fits behind `train_probe` and `probe_path`: rows stacked, folds made, one fit per fold and one on all rows.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::activations::Activations;
use super::probe_method::{Estimator, Plan, RandomFeatures};
use super::train_probe::{ClassWeights, Options, ScalerRows};
use crate::data::digest::Digest;
use crate::data::random::Random;
use crate::error::{Error, Result, ensure};
use crate::lab::{Event, Lab, Stage};
use crate::probe::discriminant::{DiscriminantOptions, fit_discriminant};
use crate::probe::estimator::fit_with_linfa;
use crate::probe::folds::{self, group_folds, leave_one_source_out};
use crate::probe::kept::Keeping;
use crate::probe::linear::{Linear, decide_all};
use crate::probe::logistic::{self, Task, fit_logistic, fit_path};
use crate::probe::matrix::Matrix;
use crate::probe::means::{MeansOptions, fit_means};
use crate::probe::metrics::{TwoClasses, auroc};
use crate::probe::product::Rows;
use crate::probe::scaler::fit_scalers;
use crate::probe::sparse_logistic::{SparseLogisticOptions, fit_sparse_logistic};

/// Training rows of all sources, stacked: the whole files are parts, and rows that were not chosen weigh nothing.
pub struct Stack {
    matrices: Vec<Arc<Matrix>>,
    /// Number of each chosen row among the rows of all parts.
    places: Vec<usize>,
    /// Label of each chosen row.
    pub labels: Vec<bool>,
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
    /// The values of the chosen rows.
    pub fn gather<T: Copy>(&self, all: &[T]) -> Vec<T> {
        self.places.iter().map(|place| all[*place]).collect()
    }
    /// Keeps features drawn from those that are not 0 in some chosen row; returns their numbers.
    fn draw_features(&mut self, draw: RandomFeatures) -> Result<Vec<u32>> {
        let rows = Rows::new(&self.matrices.iter().map(AsRef::as_ref).collect::<Vec<&Matrix>>())?;
        let mut seen = vec![false; rows.columns()];
        self.places.iter().for_each(|row| rows.for_each(*row, |column, _| seen[column] = true));
        let mut features: Vec<u32> = (0..).zip(&seen).filter(|(_, seen)| **seen).map(|(column, _)| column).collect();
        ensure!(features.len() >= draw.count,
            "`random_features` asks for {} features, and {} occur in the training rows", draw.count, features.len();
            help: "ask for fewer");
        Random::stream(draw.seed, &[0x6665_6174]).shuffle(&mut features);
        features.truncate(draw.count);
        features.sort_unstable();
        self.matrices = self.matrices.iter().map(|matrix| Arc::new(matrix.with_columns(&features))).collect();
        Ok(features)
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
pub struct Fits {
    /// What they were fitted on.
    pub stack: Stack,
    /// Which rows each fold left out.
    pub folds: Option<folds::Folds>,
    /// Features that they could use; all when absent.
    pub features: Option<Vec<u32>>,
    /// By C, then by fold.
    pub fitted: Vec<Vec<Fitted>>,
    /// Decision values of all rows of all parts, likewise.
    pub decisions: Vec<Vec<Vec<f64>>>,
}

/// Fits with the estimator as it is, or at each C of a path; the call of this key tells how far it is.
pub fn fit_folds(
    lab: &Lab,
    key: Digest,
    sources: &[Activations],
    options: &Options,
    path: Option<&[f64]>,
) -> Result<Fits> {
    let mut stack = Stack::of(lab, sources)?;
    let features = options.features.map(|draw| stack.draw_features(draw)).transpose()?;
    if let Some(seed) = options.shuffle_labels {
        let mut random = Random::stream(seed, &[0x6c61_6265_6c73]);
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
    let scalers = match options.scaler_rows {
        ScalerRows::Fold => {
            // The last fit's rows first: the last digits of a scaler depend on those before it, and inner products under
            // this one are shared with calls of other folds.
            let mut presence = presence(&counted);
            presence.rotate_right(1);
            let mut scalers = fit_scalers(&rows, &presence.iter().map(Vec::as_slice).collect::<Vec<_>>());
            scalers.rotate_left(1);
            scalers
        }
        ScalerRows::All => {
            let all = presence(&counted[count..]);
            vec![fit_scalers(&rows, &[&all[0]]).remove(0)]
        }
    };
    let scaler = |task: usize| scalers.get(task).unwrap_or(&scalers[0]);
    lab.check_call(key)?;
    let identity: Vec<&Value> = sources.iter().map(Activations::digest).collect();
    let keeping = Keeping { products: lab.products(), rows: Digest::of_json(&json!([identity, features]))? };
    let follower = Follower { lab, key, told: Mutex::new(0.0) };
    let estimator = options.estimator();
    let tasks: Vec<Task> = (0..)
        .zip(&counted)
        .map(|(task, weights)| Task { labels: &labels, weights, scaler: scaler(task), c: estimator.c(), start: None })
        .collect();
    let fitted = fit_all(&follower, &rows, &tasks, estimator, path, keeping)?;
    lab.send(Event::Worked { stage: Stage::Probe, count: fitted.iter().map(|fitted| fitted.len() as u64).sum() });
    let decide =
        |fitted: &Vec<Fitted>| decide_all(&rows, &fitted.iter().map(|fitted| &fitted.probe).collect::<Vec<_>>());
    let decisions = fitted.iter().map(decide).collect();
    Ok(Fits { stack, folds, features, fitted, decisions })
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

/// A probe and what proves it.
pub struct Fitted {
    /// The probe.
    pub probe: Linear,
    /// What proves it.
    pub certificate: Value,
}

/// Passes on how far the fits of a call are, a hundred times at most, and stops them when somebody asked to.
struct Follower<'a> {
    lab: &'a Lab,
    key: Digest,
    told: Mutex<f64>,
}

impl Follower<'_> {
    fn follow(&self, fraction: f64) -> Result<()> {
        let mut told = self.told.lock().expect("no panic while holding the fraction");
        if fraction >= *told + 0.01 || (fraction == 1.0 && *told < 1.0) {
            *told = fraction;
            self.lab.send(Event::Progress { key: self.key, fraction, step: None, loss: None });
        }
        self.lab.check_call(self.key)
    }
}

fn fit_all(
    follower: &Follower,
    rows: &Rows,
    tasks: &[Task],
    estimator: Estimator,
    path: Option<&[f64]>,
    keeping: Keeping,
) -> Result<Vec<Vec<Fitted>>> {
    let follow = |fraction: f64| follower.follow(fraction);
    if let Estimator::Logistic { .. } = estimator {
        let options = logistic::Options { follow: &follow, keeping: Some(keeping), ..logistic::Options::default() };
        let fits = match path {
            Some(path) => fit_path(rows, tasks, path, &options)?,
            None => vec![fit_logistic(rows, tasks, &options)?],
        };
        let proved = |fit: logistic::Fit| Fitted { probe: fit.probe, certificate: json!(fit.certificate) };
        return Ok(fits.into_iter().map(|fits| fits.into_iter().map(proved).collect()).collect());
    }
    let mut by_c: Vec<Vec<Fitted>> = (0..path.map_or(1, <[f64]>::len)).map(|_| Vec::new()).collect();
    for (number, task) in tasks.iter().enumerate() {
        follower.follow(number as f64 / tasks.len() as f64)?;
        let of_task = fit_one(rows, task, estimator, path)?;
        by_c.iter_mut().zip(of_task).for_each(|(fits, fit)| fits.push(fit));
    }
    Ok(by_c)
}

/// Fits of one set of row weights by anything but L2 logistic regression: one, or one per C.
fn fit_one(rows: &Rows, task: &Task, estimator: Estimator, path: Option<&[f64]>) -> Result<Vec<Fitted>> {
    let Task { labels, weights, scaler, .. } = *task;
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

/// AUROC of every fold on the rows it did not see, and those rows' scores.
pub fn cross_validate(stack: &Stack, folds: &folds::Folds, decisions: &[Vec<f64>]) -> Result<(Value, Vec<f64>)> {
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

#[cfg(test)]
mod tests {
    use crate::lab::{Events, Lab, Settings};
    use crate::script::host::{Host, RunOptions};
    use crate::script::project::{Files, Project, Source};
    use std::sync::Arc;

    #[test]
    fn calls_on_the_same_rows_take_their_inner_products_once() {
        let folder = tempfile::tempdir().unwrap();
        let new = Settings::new(folder.path().to_path_buf(), folder.path().join("store"), "shared-001");
        let settings = Settings { jobs: 2, offline: true, ..new };
        let lab = Arc::new(Lab::open(settings, Events::silent(), Arc::default()).unwrap());
        let host = Host::new(
            crate::primitives::all(),
            crate::primitives::handles(),
            Project::new(folder.path(), crate::primitives::library::MODULES, Files::on_disk()),
        );
        let script = "//! Shared
let folder = synthetic_activations(\"data\", #{ fraction: 0.02, features: 300 });
let train = activations(folder + \"/train_activations.npy\", #{ labels: folder + \"/train_labels.npy\" });
let probes = [];
for c in [0.01, 0.1, 1.0] { probes.push(train_probe([train], #{ method: logistic(#{ c: c }) })); }
probes.push(train_probe([train], #{ shuffle_labels: 1 }));
probes.push(train_probe([train], #{ folds: stratified_folds(#{ count: 3 }), class_weights: \"balanced\" }));
probes.push(train_probe([train], #{ folds: no_folds(), scaler_rows: \"all\" }));
for probe in probes { probe.non_zeros; }
probe_path([train], [0.5, 5.0]);";
        host.run(&lab, &Source::new("shared.rhai", script), &RunOptions::default())
            .map_err(|e| e.error().clone())
            .unwrap();
        assert_eq!(lab.products().taken(), 1);
    }
}
