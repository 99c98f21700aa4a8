//! Models: which there are, whose they are, when they end, and deployments that stand for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;

use serde_json::{Value, json};

use super::reply::{Reply, decode};
use super::route::{Call, Outcome};
use super::state::State;

struct Model {
    shutdown_date: Option<String>,
    /// The only project that sees it.
    project: Option<String>,
}

/// The models of a fake.
pub struct Models {
    models: RwLock<BTreeMap<String, Model>>,
    deployments: RwLock<HashMap<String, String>>,
}

/// Models that every fake has, and when they end.
const USUAL: &[(&str, Option<&str>)] = &[
    ("gpt-4.1-2025-04-14", Some("2027-01-14")),
    ("gpt-4.1-mini-2025-04-14", Some("2027-01-14")),
    ("gpt-4.1-nano-2025-04-14", Some("2026-10-23")),
    ("gpt-4o-2024-08-06", Some("2027-01-14")),
    ("gpt-4o-mini-2024-07-18", Some("2027-01-14")),
    ("gpt-4.1", None),
    ("gpt-4.1-mini", None),
    ("gpt-4o", None),
    ("gpt-4o-mini", None),
    ("meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", None),
];

impl Models {
    pub fn new() -> Models {
        let models = Models { models: RwLock::default(), deployments: RwLock::default() };
        for (model, shutdown_date) in USUAL {
            models.add(model, *shutdown_date, None);
        }
        models
    }
    pub fn add(&self, model: &str, shutdown_date: Option<&str>, project: Option<&str>) {
        let entry = Model { shutdown_date: shutdown_date.map(Into::into), project: project.map(Into::into) };
        self.models.write().unwrap().insert(model.into(), entry);
    }
    pub fn deploy(&self, deployment: &str, model: &str) {
        self.deployments.write().unwrap().insert(deployment.into(), model.into());
    }
    /// The model behind a deployment.
    pub fn deployed(&self, deployment: &str) -> Option<String> {
        self.deployments.read().unwrap().get(deployment).cloned()
    }
    /// Whether a project may use a model.
    pub fn allows(&self, model: &str, project: &str) -> bool {
        self.models.read().unwrap().get(model).is_some_and(|entry| entry.is_seen_by(project))
    }
    fn remove(&self, model: &str) {
        self.models.write().unwrap().remove(model);
    }
}

impl Model {
    fn is_seen_by(&self, project: &str) -> bool {
        self.project.as_ref().is_none_or(|owner| owner == project)
    }
    fn object(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "model",
            "created": 1_744_316_542,
            "owned_by": if self.project.is_some() { "org-fake" } else { "system" },
            "shutdown_date": self.shutdown_date,
        })
    }
}

/// The refusal of a model that is not there for this project.
pub fn missing(model: &str) -> Box<Reply> {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    Box::new(Reply::error(404, "invalid_request_error", None, Some("model_not_found"), &message))
}

pub fn list(state: &State, call: &Call) -> Outcome {
    let models = state.models.models.read().unwrap();
    let seen = models.iter().filter(|(_, model)| model.is_seen_by(&call.caller.project));
    let data: Vec<Value> = seen.map(|(id, model)| model.object(id)).collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data })))
}

pub fn retrieve(state: &State, call: &Call, id: &str) -> Outcome {
    // Clients encode the slashes and colons of ids.
    let id = decode(id);
    let models = state.models.models.read().unwrap();
    match models.get(&id).filter(|model| model.is_seen_by(&call.caller.project)) {
        Some(model) => Ok(Reply::json(&model.object(&id))),
        None => Err(missing(&id)),
    }
}

pub fn delete(state: &State, call: &Call, id: &str) -> Outcome {
    let id = &decode(id);
    if !state.models.allows(id, &call.caller.project) || !id.starts_with("ft:") {
        return Err(missing(id));
    }
    state.models.remove(id);
    Ok(Reply::json(&json!({ "id": id, "object": "model", "deleted": true })))
}
