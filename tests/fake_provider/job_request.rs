//! What a request for a job must be like, checked as the service checks it.

use serde_json::Value;

use super::files;
use super::models;
use super::reply::{Reply, check_metadata};
use super::route::Call;
use super::state::{State, World};

/// Refuses what the service would refuse with 400 or 404.
pub fn check_request(state: &State, world: &World, call: &Call, request: &Value) -> Result<(), Box<Reply>> {
    let refuse = |param: &str, message: &str| Err(Box::new(Reply::bad(param, message)));
    let known = [
        "model",
        "training_file",
        "validation_file",
        "suffix",
        "seed",
        "metadata",
        "method",
        "hyperparameters",
        "integrations",
    ];
    if let Some(name) =
        request.as_object().and_then(|fields| fields.keys().find(|name| !known.contains(&name.as_str())))
    {
        return refuse(name, &format!("Unrecognized request argument supplied: {name}"));
    }
    let Some(model) = request["model"].as_str() else {
        return refuse("model", "you must provide a model parameter");
    };
    if !state.models.allows(model, &call.caller.project) {
        return Err(models::missing(model));
    }
    let Some(training_file) = request["training_file"].as_str() else {
        return refuse("training_file", "you must provide a training_file parameter");
    };
    for (param, id) in
        [("training_file", Some(training_file)), ("validation_file", request["validation_file"].as_str())]
    {
        let Some(id) = id else { continue };
        match files::find(world, &call.caller.project, id) {
            None => return refuse(param, &format!("File '{id}' does not exist")),
            Some(file) if file.purpose != "fine-tune" => {
                return refuse(param, &format!("File '{id}' has the wrong purpose '{}'", file.purpose));
            }
            Some(_) => {}
        }
    }
    check_metadata(&request["metadata"])?;
    match &request["suffix"] {
        Value::Null => {}
        Value::String(suffix) if (1..=64).contains(&suffix.chars().count()) => {}
        _ => return refuse("suffix", "Invalid 'suffix': expected a string of 1 to 64 characters."),
    }
    match &request["seed"] {
        Value::Null => {}
        seed if seed.as_u64().is_some_and(|seed| seed <= 2_147_483_647) => {}
        _ => return refuse("seed", "Invalid 'seed': expected an integer from 0 to 2147483647."),
    }
    check_method(&request["method"])?;
    check_hyperparameters("hyperparameters", &request["hyperparameters"])
}

fn check_method(method: &Value) -> Result<(), Box<Reply>> {
    let refuse = |param: &str, message: &str| Err(Box::new(Reply::bad(param, message)));
    if method.is_null() {
        return Ok(());
    }
    let Some(kind @ ("supervised" | "dpo" | "reinforcement")) = method["type"].as_str() else {
        return refuse("method.type", "Invalid value for 'method.type': supported are supervised, dpo, reinforcement.");
    };
    let fields = method.as_object().into_iter().flatten().map(|(name, _)| name);
    if let Some(other) = fields.into_iter().find(|name| *name != "type" && *name != kind) {
        return refuse("method", &format!("Unrecognized argument for a method of type '{kind}': {other}"));
    }
    if kind == "reinforcement" && !method[kind]["grader"].is_object() {
        return refuse("method.reinforcement.grader", "you must provide a grader");
    }
    check_hyperparameters(&format!("method.{kind}.hyperparameters"), &method[kind]["hyperparameters"])
}

fn check_hyperparameters(place: &str, given: &Value) -> Result<(), Box<Reply>> {
    let whole = |value: &Value, most: u64| value.as_u64().is_some_and(|value| (1..=most).contains(&value));
    for (name, value) in given.as_object().into_iter().flatten() {
        let is_good = match name.as_str() {
            _ if value == "auto" || value.is_null() => true,
            "n_epochs" => whole(value, 50),
            "batch_size" => whole(value, 256),
            "learning_rate_multiplier" => value.as_f64().is_some_and(|value| value > 0.0),
            "beta" if place.contains("dpo") => value.as_f64().is_some_and(|value| value > 0.0 && value <= 2.0),
            "reasoning_effort" | "compute_multiplier" | "eval_interval" | "eval_samples" => {
                place.contains("reinforcement")
            }
            _ => false,
        };
        if !is_good {
            let message = format!("Invalid value for '{place}.{name}': {value}");
            return Err(Box::new(Reply::bad(&format!("{place}.{name}"), &message)));
        }
    }
    Ok(())
}
