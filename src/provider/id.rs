//! Names of models in scripts: who runs a model, and what it is called there.

use super::hub::Repository;
use crate::error::{Result, bail, ensure};

/// What a name in `model("…")` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelId {
    /// The model that travels in the program.
    Organism,
    /// A folder of the project.
    Folder(String),
    /// A repository of the Hugging Face hub, unless the project has a folder of this name, which follows as written.
    Hub(Repository, String),
    /// A file of recorded answers.
    Replay(String),
    /// A model at a provider.
    Provider {
        /// Name of a block in `drylab.toml`, a well-known provider, or an address.
        provider: String,
        /// Its name there; none lets the server at an address choose.
        model: Option<String>,
    },
}

impl ModelId {
    /// Reads a name: `organism`, a folder, `hf:FOLDER`, `hf:OWNER/NAME`, `replay:FILE`, `PROVIDER:MODEL`, or an address
    /// such as `http://127.0.0.1:8000/v1`, with `#MODEL` behind it where the server has several.
    ///
    /// # Errors
    /// A name without its second half.
    pub fn parse(name: &str) -> Result<Self> {
        ensure!(!name.trim().is_empty(), "the name of a model is empty"; help: "write `organism`, a folder, or `openai:MODEL`");
        if name.starts_with("http://") || name.starts_with("https://") {
            let (address, model) = name.split_once('#').map_or((name, None), |(address, model)| (address, Some(model)));
            ensure!(model != Some(""), "`{name}` names no model behind `#`"; help: "write `{address}#MODEL`, or leave `#` out");
            let provider = address.trim_end_matches('/').to_string();
            ensure!(provider.contains("://"), "`{name}` names no server"; help: "write its address, as in `http://127.0.0.1:8000/v1`");
            return Ok(ModelId::Provider { provider, model: model.map(str::to_string) });
        }
        if name == "organism" {
            return Ok(ModelId::Organism);
        }
        // A path may hold a colon, a provider's name holds no slash.
        match name.split_once(':').filter(|(before, _)| !before.contains(['/', '.', '\\']) && !before.is_empty()) {
            None => Ok(ModelId::Folder(name.to_string())),
            Some((provider, "")) => bail!("`{name}` names no model"; help: "write `{provider}:MODEL`"),
            Some(("hf", place)) => Ok(match Repository::parse(place)? {
                Some(repository) => ModelId::Hub(repository, place.to_string()),
                None => ModelId::Folder(place.to_string()),
            }),
            Some(("local", folder)) => Ok(ModelId::Folder(folder.to_string())),
            Some(("replay", file)) => Ok(ModelId::Replay(file.to_string())),
            Some((provider, model)) => {
                Ok(ModelId::Provider { provider: provider.to_string(), model: Some(model.to_string()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_runs_a_model() {
        let at = |provider: &str, model: Option<&str>| ModelId::Provider {
            provider: provider.to_string(),
            model: model.map(str::to_string),
        };
        let read = |name: &str| ModelId::parse(name).unwrap();
        assert_eq!(read("organism"), ModelId::Organism);
        assert_eq!(read("results/my-model"), ModelId::Folder("results/my-model".to_string()));
        assert_eq!(read("./a:b"), ModelId::Folder("./a:b".to_string()));
        assert_eq!(read("hf:./Qwen"), ModelId::Folder("./Qwen".to_string()));
        assert_eq!(read("hf:Qwen"), ModelId::Folder("Qwen".to_string()));
        let repository = Repository::parse("Qwen/Qwen3@v1").unwrap().unwrap();
        assert_eq!(read("hf:Qwen/Qwen3@v1"), ModelId::Hub(repository, "Qwen/Qwen3@v1".to_string()));
        assert_eq!(read("Qwen/Qwen3"), ModelId::Folder("Qwen/Qwen3".to_string()));
        assert_eq!(read("replay:answers.jsonl"), ModelId::Replay("answers.jsonl".to_string()));
        assert_eq!(read("openai:ft:gpt-4.1:org::x"), at("openai", Some("ft:gpt-4.1:org::x")));
        assert_eq!(read("http://127.0.0.1:8000/v1/"), at("http://127.0.0.1:8000/v1", None));
        assert_eq!(read("https://a/v1#m/x"), at("https://a/v1", Some("m/x")));
        for wrong in ["", "openai:", "http://a/v1#", "http://", "https://#m", "hf:a/b@"] {
            assert!(ModelId::parse(wrong).is_err(), "{wrong}");
        }
    }
}
