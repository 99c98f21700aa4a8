//! `/v1/files`: training files; bytes are blobs of the store, and what is said about them is a record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Multipart, Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use super::page::page;
use super::{Server, query, records};
use crate::data::digest::Digest;
use crate::error::Result;
use crate::lab::Lab;

/// What is known of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// `file-…`.
    pub id: String,
    /// Seconds since 1970.
    pub created_at: u64,
    /// As the client called it.
    pub filename: String,
    /// `fine-tune`, or `fine-tune-results`.
    pub purpose: String,
    /// How long it is.
    pub bytes: u64,
    /// Its bytes in the store.
    pub blob: Digest,
    /// Counts up, for files of the same second.
    pub number: u64,
}

impl File {
    fn object(&self) -> Value {
        json!({
            "id": self.id, "object": "file", "bytes": self.bytes, "created_at": self.created_at,
            "filename": self.filename, "purpose": self.purpose, "status": "processed",
        })
    }
}

/// All files.
pub struct Files {
    known: Mutex<BTreeMap<String, File>>,
}

impl Files {
    /// Reads what an earlier server left.
    pub fn open(lab: &Lab) -> Result<Self> {
        Ok(Files { known: Mutex::new(records::read_all(lab, "files")?) })
    }

    /// Keeps bytes as a file.
    pub fn add(&self, lab: &Lab, filename: String, purpose: &str, bytes: &[u8]) -> Result<File> {
        let blob = lab.store().put_blob(bytes)?;
        let mut known = self.known();
        let file = File {
            id: records::new_id("file-"),
            created_at: records::now(),
            filename,
            purpose: purpose.to_string(),
            bytes: bytes.len() as u64,
            blob,
            number: known.values().map(|file| file.number + 1).max().unwrap_or(0),
        };
        records::write(lab, "files", &file.id, &file)?;
        known.insert(file.id.clone(), file.clone());
        Ok(file)
    }

    /// The file of this id; `param` is the part of the request that names it.
    pub fn get(&self, id: &str, param: &str) -> ApiResult<File> {
        self.known().get(id).cloned().ok_or_else(|| ApiError::missing(param, format!("No such File object: {id}")))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.known.lock().expect("no panic while holding the files")
    }
}

/// `POST /files`.
pub async fn upload(State(server): State<Arc<Server>>, mut form: Multipart) -> ApiResult<Json<Value>> {
    let broken = |error: axum::extract::multipart::MultipartError| {
        ApiError::malformed(format!("The multipart form could not be read: {}.", error.body_text()))
            .with_status(error.status())
    };
    let (mut file, mut purpose) = (None, None);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "file" => {
                let name = field.file_name().unwrap_or("file.jsonl").to_string();
                file = Some((name, field.bytes().await.map_err(broken)?));
            }
            "purpose" => purpose = Some(field.text().await.map_err(broken)?),
            other => {
                let message = format!("Unsupported parameter: '{other}' is not supported by local models.");
                return Err(ApiError::invalid(other, message).with_code("unsupported_parameter"));
            }
        }
    }
    let required = |name: &str| {
        ApiError::invalid(name, format!("Missing required parameter: '{name}'."))
            .with_code("missing_required_parameter")
    };
    let (name, bytes) = file.ok_or_else(|| required("file"))?;
    let purpose = purpose.ok_or_else(|| required("purpose"))?;
    if purpose != "fine-tune" {
        let message = format!("'{purpose}' is no purpose that this server knows: it takes files to 'fine-tune' on.");
        return Err(ApiError::invalid("purpose", message));
    }
    if bytes.is_empty() {
        return Err(ApiError::invalid("file", "The file is empty."));
    }
    let file = server.blocking(move |server| Ok(server.files.add(&server.lab, name, &purpose, &bytes)?)).await?;
    Ok(Json(file.object()))
}

/// `GET /files`.
pub async fn list(State(server): State<Arc<Server>>, RawQuery(text): RawQuery) -> ApiResult<Json<Value>> {
    let query = query(text)?;
    let mut files: Vec<File> = server.files.known().values().cloned().collect();
    files.retain(|file| query.get("purpose").is_none_or(|purpose| purpose == file.purpose));
    files.sort_by_key(|file| std::cmp::Reverse(file.number));
    match query.get("order") {
        None | Some("desc") => {}
        Some("asc") => files.reverse(),
        Some(_) => return Err(ApiError::invalid("order", "Invalid 'order': expected 'asc' or 'desc'.")),
    }
    Ok(Json(page(files.iter().map(File::object).collect(), &query, 10_000, 10_000)?))
}

/// `GET /files/{id}`.
pub async fn retrieve(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(server.files.get(&id, "id")?.object()))
}

/// `GET /files/{id}/content`.
pub async fn content(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Response> {
    let file = server.files.get(&id, "id")?;
    let bytes = server.blocking(move |server| server.bytes(file.blob)).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Bytes::from(bytes)).into_response())
}

/// `DELETE /files/{id}`: forgets the file. Its bytes stay in the store, where a job that was started with it needs them.
pub async fn delete(State(server): State<Arc<Server>>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    server.files.get(&id, "id")?;
    let mut known = server.files.known();
    records::remove(&server.lab, "files", &id)?;
    known.remove(&id);
    Ok(Json(json!({ "id": id, "object": "file", "deleted": true })))
}
