//! The hub as the environment describes it, in the words of `huggingface_hub`, and fetching from it.

use std::path::{Path, PathBuf};

use super::{Event, Lab};
use crate::error::{Error, Kind, Result};
use crate::provider::hub::{ENDPOINT, Fetching, Hub, HubSettings, HubToken, Repository, Snapshot};
use crate::provider::secret::Secret;

impl Lab {
    /// A checkpoint of the hub, from the cache where it is there. When planning, nothing is downloaded: one that is
    /// not there is told, and has not been run. `check` sees its folder before the weights are downloaded.
    pub fn fetch_checkpoint(&self, repository: &Repository, check: &dyn Fn(&Path) -> Result<()>) -> Result<Snapshot> {
        let offline = self.inner.settings.offline;
        let hub = Hub::new(read_settings(offline, &|name| std::env::var(name).ok())?);
        let tell = |Fetching { commit, files, bytes, fetched }: Fetching| {
            self.send(Event::Fetch { name: repository.to_string(), commit, files, bytes, fetched });
        };
        if self.planning()
            && let Some(missing) = self.block_on(hub.preview(repository))?
        {
            tell(missing);
            return Err(Error::new(Kind::NotRun, format!("`{repository}` has not been downloaded")));
        }
        self.block_on_or_stop(hub.fetch(repository, check, &tell))
    }
}

/// What the variables say; one that is empty is not set.
fn read_settings(offline: bool, variable: &dyn Fn(&str) -> Option<String>) -> Result<HubSettings> {
    let set = |name: &str| variable(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
    let home = set("HOME").map(PathBuf::from);
    let path = |name: &str| {
        set(name).map(|value| match (value.strip_prefix("~/"), &home) {
            (Some(below), Some(home)) => home.join(below),
            _ => PathBuf::from(value),
        })
    };
    let user = || path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
    let own = path("HF_HOME").or_else(|| Some(user()?.join("huggingface")));
    let cache =
        path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(own.as_ref()?.join("hub")));
    let cache = cache.ok_or_else(|| {
        Error::environment("there is no folder for models of the hub: `HOME` is not set")
            .with_help("set `HF_HOME` to a folder")
    })?;
    let of_variable = |name: &str| set(name).map(|value| (format!("${name}"), value));
    let of_file = || {
        let file = path("HF_TOKEN_PATH").or_else(|| Some(own.as_ref()?.join("token")))?;
        let token = std::fs::read_to_string(&file).ok().filter(|token| !token.trim().is_empty())?;
        Some((file.display().to_string(), token))
    };
    let token = of_variable("HF_TOKEN").or_else(|| of_variable("HUGGING_FACE_HUB_TOKEN")).or_else(of_file);
    let is_on = |name: &&str| {
        set(name).is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
    };
    let offline = match ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().find(|name| is_on(name)) {
        _ if offline => Some("this run is offline".to_string()),
        name => name.map(|name| format!("`{name}` is set")),
    };
    Ok(HubSettings {
        endpoint: set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string()),
        cache,
        token: token.map(|(from, token)| HubToken { from, secret: Secret::new(&token) }),
        offline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        read_settings(false, &find).unwrap()
    }

    #[test]
    fn the_cache_lies_where_python_looks_for_it() {
        let cache = |variables: &[(&str, &str)]| read(variables).cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), "/h/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), "/c");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HUB_CACHE", " ")]), "/h/.cache/huggingface/hub");
        assert!(read_settings(false, &|_| None).unwrap_err().help.is_some());
    }

    #[test]
    fn the_token_is_the_variable_s_then_the_file_s() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().display().to_string();
        assert!(read(&[("HF_HOME", &home)]).token.is_none());
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let of_file = read(&[("HF_HOME", &home)]).token.unwrap();
        assert_eq!((of_file.secret.expose(), of_file.from.ends_with("/token")), ("hf_file", true));
        let token = read(&[("HF_HOME", &home), ("HF_TOKEN", "hf_set")]).token.unwrap();
        assert_eq!((token.secret.expose(), token.from.as_str()), ("hf_set", "$HF_TOKEN"));
        assert!(!format!("{token:?}").contains("hf_set"));
    }

    #[test]
    fn what_forbids_the_network_is_named() {
        let why = |variables: &[(&str, &str)]| read(&[&[("HOME", "/h")], variables].concat()).offline;
        assert_eq!((why(&[]), why(&[("HF_HUB_OFFLINE", "0")])), (None, None));
        assert_eq!(why(&[("HF_HUB_OFFLINE", "true")]).as_deref(), Some("`HF_HUB_OFFLINE` is set"));
        let offline = read_settings(true, &|name| (name == "HOME").then(|| "/h".to_string())).unwrap().offline;
        assert_eq!(offline.as_deref(), Some("this run is offline"));
    }
}
