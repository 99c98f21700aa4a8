//! Files: uploaded, listed, read, deleted.

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart};
use serde_json::{Value, json};

use super::reply::{Reply, page};
use super::route::{Call, Outcome};
use super::state::{FileRecord, State, World};

/// A stored file.
#[derive(Clone)]
pub struct File {
    pub id: String,
    pub project: String,
    pub name: String,
    pub purpose: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub content: Bytes,
}

impl File {
    fn object(&self) -> Value {
        let mut object = json!({
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.name,
            "bytes": self.content.len(),
            "created_at": self.created_at,
            "status": "processed",
        });
        if let Some(expires_at) = self.expires_at {
            object["expires_at"] = json!(expires_at);
        }
        object
    }
}

pub fn record(file: &File) -> FileRecord {
    FileRecord {
        id: file.id.clone(),
        project: file.project.clone(),
        name: file.name.clone(),
        purpose: file.purpose.clone(),
        content: file.content.to_vec(),
    }
}

/// Stores a file and gives its id.
pub fn insert(state: &State, world: &mut World, project: &str, name: &str, purpose: &str, content: Bytes) -> String {
    let created_at = state.now();
    let id = state.next_id("file-");
    let expires_at = purpose.starts_with("batch").then_some(created_at + 30 * 86_400);
    let (project, name, purpose) = (project.into(), name.into(), purpose.into());
    world.files.push(File { id: id.clone(), project, name, purpose, created_at, expires_at, content });
    id
}

/// A file that the caller may see.
pub fn find<'a>(world: &'a World, project: &str, id: &str) -> Option<&'a File> {
    world.files.iter().find(|file| file.id == id && file.project == project)
}

fn find_or_refuse<'a>(world: &'a World, call: &Call, id: &str) -> Result<&'a File, Box<Reply>> {
    find(world, &call.caller.project, id).ok_or_else(|| {
        let message = format!("No such File object: {id}");
        Box::new(Reply::error(404, "invalid_request_error", Some("id"), None, &message))
    })
}

pub async fn upload(state: &State, call: &Call) -> Outcome {
    let unreadable = |error: &dyn std::fmt::Display| Box::new(Reply::bad("file", &format!("Unreadable form: {error}")));
    let mut form = Multipart::from_request(call.whole(), &()).await.map_err(|error| unreadable(&error))?;
    let (mut purpose, mut file, mut name) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(|error| unreadable(&error))? {
        match field.name() {
            Some("purpose") => purpose = Some(field.text().await.map_err(|error| unreadable(&error))?),
            Some("file") => {
                let file_name = field.file_name().unwrap_or_default().to_string();
                name = name.or(Some(file_name));
                file = Some(field.bytes().await.map_err(|error| unreadable(&error))?);
            }
            // Together names the file in a field of its own.
            Some("file_name") => name = Some(field.text().await.map_err(|error| unreadable(&error))?),
            _ => {}
        }
    }
    let refuse = |param: &str, message: String| Err(Box::new(Reply::bad(param, &message)));
    let Some(purpose) = purpose else {
        return refuse("purpose", "'purpose' is a required property".into());
    };
    if !["fine-tune", "batch", "assistants", "vision", "user_data", "evals"].contains(&purpose.as_str()) {
        return refuse("purpose", format!("'{purpose}' is not one of the supported purposes."));
    }
    let (Some(file), Some(name)) = (file, name) else {
        return refuse("file", "'file' is a required property".into());
    };
    if file.is_empty() {
        return refuse("file", "File is empty.".into());
    }
    if purpose == "fine-tune" && !name.ends_with(".jsonl") {
        return refuse("file", "Invalid file format for Fine-Tuning API. Must be .jsonl".into());
    }
    let mut world = state.world.lock().unwrap();
    insert(state, &mut world, &call.caller.project, &name, &purpose, file);
    Ok(Reply::json(&world.files.last().expect("a file was stored").object()))
}

pub fn list(state: &State, call: &Call) -> Outcome {
    let given = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let world = state.world.lock().unwrap();
    let visible = world.files.iter().filter(|file| file.project == call.caller.project);
    let wanted = visible.filter(|file| given("purpose").is_none_or(|purpose| purpose == file.purpose));
    let mut objects: Vec<Value> = wanted.map(File::object).collect();
    if given("order") != Some("asc") {
        objects.reverse();
    }
    let mut list = page(objects, &call.query, 10_000, 10_000)?;
    if list["first_id"].is_null() {
        // The description demands both, as text.
        list["first_id"] = json!("");
        list["last_id"] = json!("");
    }
    Ok(Reply::json(&list))
}

pub fn retrieve(state: &State, call: &Call, id: &str) -> Outcome {
    let world = state.world.lock().unwrap();
    Ok(Reply::json(&find_or_refuse(&world, call, id)?.object()))
}

pub fn content(state: &State, call: &Call, id: &str) -> Outcome {
    let world = state.world.lock().unwrap();
    let file = find_or_refuse(&world, call, id)?;
    Ok(Reply::bytes(200, "application/octet-stream", file.content.clone()))
}

pub fn delete(state: &State, call: &Call, id: &str) -> Outcome {
    let mut world = state.world.lock().unwrap();
    find_or_refuse(&world, call, id)?;
    world.files.retain(|file| file.id != id);
    Ok(Reply::json(&json!({ "object": "file", "id": id, "deleted": true })))
}
