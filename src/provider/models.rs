//! The models of a provider: their list, the day they go away, and adapters that a running server loads.

use serde_json::json;

use super::endpoint::{Endpoint, Request};
use super::fault::Fault;
use super::wire::Page;
use super::wire::model::RemoteModel;
use crate::error::{Error, Result};

/// All models that a key can use.
///
/// # Errors
/// As [`Endpoint::fetch`].
pub async fn list_models(endpoint: &Endpoint, key: usize) -> Result<Vec<RemoteModel>, Fault> {
    let (page, _) = endpoint.fetch::<Page<RemoteModel>>(&Request { key, ..Request::get("/models") }).await?;
    Ok(page.data)
}

/// One model. Servers without this call are asked for the whole list.
///
/// # Errors
/// [`super::fault::Class::NotFound`] where a key cannot use it; else as [`Endpoint::fetch`].
pub async fn get_model(endpoint: &Endpoint, key: usize, model: &str) -> Result<RemoteModel, Fault> {
    let request = Request { key, ..Request::get(format!("/models/{}", escape(model))) };
    match endpoint.fetch::<RemoteModel>(&request).await {
        Ok((found, _)) => Ok(found),
        Err(fault) => match list_models(endpoint, key).await {
            Ok(models) => models.into_iter().find(|listed| listed.id == model).ok_or(fault),
            Err(_) => Err(fault),
        },
    }
}

/// The day on which a model goes away, `YYYY-MM-DD`, where the provider tells one.
///
/// # Errors
/// As [`get_model`].
pub async fn shutdown_date(endpoint: &Endpoint, key: usize, model: &str) -> Result<Option<String>, Fault> {
    Ok(get_model(endpoint, key, model).await?.shutdown_date)
}

/// The model that is meant by a server's bare address: its only base model, or the one named `organism`.
///
/// # Errors
/// None or several.
pub fn pick_model<'a>(models: &'a [RemoteModel], base_url: &str) -> Result<&'a RemoteModel> {
    let bases: Vec<&RemoteModel> = models.iter().filter(|model| model.parent.is_none()).collect();
    match (bases.as_slice(), bases.iter().find(|model| model.id == "organism")) {
        ([only], _) | (_, Some(only)) => Ok(only),
        ([], None) => Err(Error::input(format!("the server at `{base_url}` lists no model"))
            .with_help("load a model there, or check that the address ends in `/v1`")),
        (_, None) => {
            let names: Vec<String> = bases.iter().take(8).map(|model| format!("`{}`", model.id)).collect();
            let more = if bases.len() > 8 { ", …" } else { "" };
            let found = format!("the server at `{base_url}` lists {} models: {}{more}", bases.len(), names.join(", "));
            Err(Error::input(found).with_help(format!("write `{base_url}#NAME` with one of them")))
        }
    }
}

/// Loads an adapter from a folder that the server can read (vLLM with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`); `replaces`
/// an adapter of this name that is loaded already.
///
/// # Errors
/// As [`Endpoint::send`]; a bad request where the name is taken.
pub async fn load_adapter(endpoint: &Endpoint, name: &str, folder: &str, replaces: bool) -> Result<(), Fault> {
    let mut body = json!({ "lora_name": name, "lora_path": folder });
    if replaces {
        body["load_inplace"] = json!(true);
    }
    // The answer of success is text, not JSON.
    endpoint.send(&Request::post("/load_lora_adapter", &body)).await.map(drop)
}

/// A name as one part of a path; `/`, as in `Qwen/Qwen3-8B`, stays, since servers take the rest of the path.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, parent: Option<&str>) -> RemoteModel {
        let parent = parent.map(str::to_string);
        RemoteModel { id: id.to_string(), owned_by: String::new(), shutdown_date: None, parent }
    }

    #[test]
    fn a_bare_address_means_the_only_base_model_or_the_organism() {
        let url = "http://127.0.0.1:8000/v1";
        let adapted = [model("Qwen/Qwen3-8B", None), model("tuned", Some("Qwen/Qwen3-8B"))];
        assert_eq!(pick_model(&adapted, url).unwrap().id, "Qwen/Qwen3-8B");
        let served = [model("ft:organism:1", None), model("organism", None)];
        assert_eq!(pick_model(&served, url).unwrap().id, "organism");
        let error = pick_model(&[model("a", None), model("b", None)], url).unwrap_err().to_string();
        assert!(error.contains("`a`, `b`") && error.contains("help: "), "{error}");
        assert!(pick_model(&[], url).is_err());
    }

    #[test]
    fn names_of_models_make_paths() {
        assert_eq!(escape("ft:gpt-4.1:org:a b?:x"), "ft:gpt-4.1:org:a%20b%3F:x");
        assert_eq!(escape("Qwen/Qwen3-8B"), "Qwen/Qwen3-8B");
    }
}
