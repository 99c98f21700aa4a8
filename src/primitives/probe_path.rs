//! `probe_path`: a probe at several C, each fit remembered on its own.

use serde_json::{Value, json};

use super::activations::Activations;
use super::probe_fits::{Fits, cross_validate, fit_folds};
use super::probe_method::Estimator;
use super::train_probe::Options;
use crate::engine::Turn;
use crate::error::{Error, Result, ensure};
use crate::lab::{Call as LabCall, Lab, Stage};
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::Plain;
use crate::store::Key;

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("probe_path", run)
        .about(
            "Fits and checks a logistic probe at several C, each from the ones before, and tells for each C the AUROC of \
             the folds, the number of weights that are not 0 and what proves the fit. Much cheaper than as many calls of \
             `train_probe`. Every C is remembered on its own: a longer path fits only what it adds. The last digits of a \
             fit depend on those it started from, within what its certificate proves. Returns an array of maps in the \
             order of `c`. Waits.",
        )
        .input("sources", "Activations with labels; their rows are stacked in order.")
        .input("c", "Inverse strengths of the penalty.")
        .example("probe_path([train], [0.01, 0.1, 1.0, 10.0], #{ method: logistic(#{ penalty: l1() }) })")
}

fn run(
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
    let changed = call.options.clone().unwrap_or(Value::Null);
    let key = Key::new(call.primitive, call.version, call.inputs.clone(), changed.clone())?;
    let digest = key.digest();
    let mut points = Vec::with_capacity(path.len());
    for c in &path {
        points.push((*c, point_key(call, options.estimator().with_c(*c), changed.clone())?));
    }
    let (fits, label) = (options.fits(sources.len()), format!("path of {} values of C", path.len()));
    let unknown = points.clone();
    let outcome = lab.call(LabCall {
        key,
        options: serde_json::to_value(&options).map_err(|error| Error::internal(error.to_string()))?,
        label,
        stage: Stage::Probe,
        turn: Turn::Compute,
        missing: Box::new(move |lab| Ok((fits * missing(lab, &unknown)?.len() as u64).into())),
        after: vec![],
        work: Box::new(move |lab| {
            let wanted = missing(lab, &points)?;
            if !wanted.is_empty() {
                let path: Vec<f64> = wanted.iter().map(|(c, _)| *c).collect();
                let fits = fit_folds(lab, digest, &sources, &options, Some(&path))?;
                remember(lab, &fits, wanted, &options)?;
            }
            let recalled = |(c, key): &(f64, Key)| {
                lab.recall(key)?.ok_or_else(|| Error::internal(format!("the fit at C {c} was not remembered")))
            };
            points.iter().map(recalled).collect::<Result<Vec<_>>>().map(Value::Array)
        }),
    })?;
    Ok(Plain((*lab.wait(&outcome)?).clone()))
}

/// Under which the fits at one C are remembered, whatever path they are on.
fn point_key(call: &Call, estimator: Estimator, mut changed: Value) -> Result<Key> {
    // The method's own C is not looked at, its kind is in the estimator.
    changed.as_object_mut().map(|fields| fields.remove("method"));
    let changed = if changed.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { changed };
    let inputs = json!({ "sources": call.inputs[0], "estimator": estimator });
    Key::new(call.primitive, call.version, inputs, changed)
}

/// Those that are not remembered, each once.
fn missing(lab: &Lab, points: &[(f64, Key)]) -> Result<Vec<(f64, Key)>> {
    let mut missing: Vec<(f64, Key)> = Vec::new();
    for (c, key) in points {
        if missing.iter().all(|(_, known)| known != key) && lab.recall(key)?.is_none() {
            missing.push((*c, key.clone()));
        }
    }
    Ok(missing)
}

fn remember(lab: &Lab, fits: &Fits, points: Vec<(f64, Key)>, options: &Options) -> Result<()> {
    let described = serde_json::to_value(options).map_err(|error| Error::internal(error.to_string()))?;
    for (((c, key), fitted), decisions) in points.into_iter().zip(&fits.fitted).zip(&fits.decisions) {
        let mut check = match &fits.folds {
            Some(folds) => cross_validate(&fits.stack, folds, decisions)?.0,
            None => Value::Null,
        };
        check.as_object_mut().map(|fields| fields.remove("fold_of_row"));
        let last = &fitted[fitted.len() - 1];
        let point = json!({
            "c": c, "non_zeros": last.probe.non_zeros(), "certificate": last.certificate, "cross_validation": check,
        });
        lab.remember(key, described.clone(), point)?;
    }
    Ok(())
}
