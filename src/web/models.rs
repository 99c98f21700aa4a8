//! `/v1/models`: the organism, the folders given on the command line, and what was fine-tuned here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::jobs::Status;
use super::{Server, records};
use crate::data::digest::Digest;
use crate::error::{Error, Result, ensure};
use crate::lab::Lab;
use crate::primitives::load_model;
use crate::primitives::model::Model;

/// The embedded model.
const ORGANISM: &str = "organism";

/// A model that can be asked.
pub struct Served {
    /// Its name in requests.
    pub id: String,
    /// The model.
    pub model: Model,
    /// Changes with the model, and with the program.
    pub fingerprint: String,
}

impl Served {
    /// The model under the name that requests use.
    pub fn new(id: String, model: Model) -> Result<Self> {
        let identity = json!([model.identity(), env!("CARGO_PKG_VERSION")]);
        let fingerprint = format!("fp_{}", &Digest::of_json(&identity)?.to_string()[..12]);
        Ok(Served { id, model, fingerprint })
    }
}

/// The models to start from, and those of finished jobs that were asked for.
pub struct Models {
    created: u64,
    bases: Vec<Arc<Served>>,
    tuned: Mutex<HashMap<String, Arc<Served>>>,
}

impl Models {
    /// The organism, and the models of these names in these folders.
    pub fn open(lab: &Lab, folders: &[(String, String)]) -> Result<Self> {
        let mut bases = vec![Arc::new(Served::new(ORGANISM.to_string(), load_model::organism(lab)?)?)];
        for (name, folder) in folders {
            ensure!(
                !name.is_empty() && !bases.iter().any(|base| base.id == *name),
                "`--model {}` would be served as `{}`, which is taken", folder, name;
                help: "rename the folder: its last name is the model's"
            );
            let model = load_model::folder_model(lab, name.clone(), folder)?;
            bases.push(Arc::new(Served::new(name.clone(), model)?));
        }
        Ok(Models { created: records::now(), bases, tuned: Mutex::default() })
    }

    /// A model to start from.
    pub fn base(&self, id: &str) -> Option<Arc<Served>> {
        self.bases.iter().find(|base| base.id == id).cloned()
    }
    /// A fine-tuned model that was asked for before.
    pub fn tuned(&self, id: &str) -> Option<Arc<Served>> {
        self.at_hand().get(id).cloned()
    }
    /// Keeps a fine-tuned model at hand; its weights are the lab's to keep.
    pub fn keep(&self, served: Arc<Served>) {
        self.at_hand().insert(served.id.clone(), served);
    }
    /// Lets a fine-tuned model go.
    pub fn forget(&self, id: &str) {
        self.at_hand().remove(id);
    }

    fn at_hand(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Served>>> {
        self.tuned.lock().expect("no panic while holding the models")
    }
}

fn object(id: &str, created: u64) -> Value {
    json!({ "id": id, "object": "model", "created": created, "owned_by": "drylab", "shutdown_date": null })
}

/// Every model, those to start from first.
fn objects(server: &Server) -> Vec<Value> {
    let bases = server.models.bases.iter().map(|base| object(&base.id, server.models.created));
    let tuned = server.jobs.all().into_iter().filter_map(|job| match (job.status, job.fine_tuned_model, job.deleted) {
        (Status::Succeeded, Some(id), false) => Some(object(&id, job.finished_at.unwrap_or(job.created_at))),
        _ => None,
    });
    bases.chain(tuned).collect()
}

/// `GET /models`.
pub async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": objects(&server) }))
}

/// `GET /models/{id}`.
pub async fn retrieve(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let found = objects(&server).into_iter().find(|model| model["id"] == id.as_str());
    found.map(Json).ok_or_else(|| ApiError::no_model(&id))
}

/// `DELETE /models/{id}`: a fine-tuned model is served no more. Its weights stay in the store, shared with scripts.
pub async fn delete(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let job = server.jobs.of_model(&id).filter(|job| !job.deleted).ok_or_else(|| match server.models.base(&id) {
        Some(_) => {
            ApiError::invalid("model", format!("The model `{id}` was not fine-tuned here and cannot be deleted."))
        }
        None => ApiError::no_model(&id),
    })?;
    server.jobs.change(&server.lab, &job.id, |job| job.deleted = true)?;
    server.models.forget(&id);
    Ok(Json(json!({ "id": id, "object": "model", "deleted": true })))
}

/// The error of a model whose training can no longer be told from its record.
pub fn changed_base(id: &str) -> Error {
    Error::environment(format!("`{id}` was trained from another version of its base"))
        .with_help("fine-tune again with this version")
}
