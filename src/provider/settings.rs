//! What `drylab.toml` says about a provider: where it is, which keys open it, how hard it may be pressed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, nearest};

/// How a provider's fine-tuning and authorisation are spoken to; chat is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// api.openai.com.
    OpenAi,
    /// Azure: `api-key` header, deployments instead of models.
    Azure,
    /// Together: its own fine-tuning calls.
    Together,
    /// Any server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, SGLang, LiteLLM, OpenRouter, `drylab serve`.
    Compatible,
}

impl Dialect {
    /// Its name in `drylab.toml` and in keys.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Azure => "azure",
            Dialect::Together => "together",
            Dialect::Compatible => "compatible",
        }
    }
}

/// One environment variable with a key, and what the key belongs to where the provider does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeyText", deny_unknown_fields)]
pub struct KeySource {
    /// Name of the environment variable.
    pub variable: String,
    /// Sent as `OpenAI-Organization`.
    pub organization: Option<String>,
    /// Sent as `OpenAI-Project`.
    pub project: Option<String>,
}

/// A key may be written as the variable's name alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyText {
    Name(String),
    Whole(WholeKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeKey {
    variable: String,
    organization: Option<String>,
    project: Option<String>,
}

impl From<KeyText> for KeySource {
    fn from(text: KeyText) -> Self {
        match text {
            KeyText::Name(variable) => KeySource { variable, organization: None, project: None },
            KeyText::Whole(WholeKey { variable, organization, project }) => {
                KeySource { variable, organization, project }
            }
        }
    }
}

/// One block `[providers.NAME]`. None of it changes a result, so none of it is part of a key, save what `dialect` and
/// `deployments` say about which model answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// How it is spoken to; for the names `openai`, `azure` and `together` their own, else `compatible`.
    pub dialect: Option<Dialect>,
    /// Where it is, usually ending in `/v1`.
    pub base_url: Option<String>,
    /// Environment variables with keys, never the keys themselves.
    pub keys: Vec<KeySource>,
    /// `api-version` that Azure wants in every query; none for its v1 paths.
    pub api_version: Option<String>,
    /// For Azure: which base model a deployment serves.
    pub deployments: BTreeMap<String, String>,
    /// Requests at a time, at most.
    pub most_in_flight: usize,
    /// Requests per minute; learned from the provider's answers where it tells them.
    pub requests_per_minute: Option<f64>,
    /// Tokens per minute, likewise.
    pub tokens_per_minute: Option<f64>,
    /// How long an answer may take from the moment it was asked for; waiting for a turn does not count.
    pub timeout_seconds: f64,
    /// Tries of a request that may be repeated.
    pub most_tries: usize,
    /// Asks questions through the provider's batch service, at half the price and within a day.
    pub batch: bool,
    /// Fine-tuning jobs at a time.
    pub most_jobs: usize,
    /// Launches once more what was launched this long ago without any trace of a job; without it a person decides.
    pub relaunch_unknown_after_minutes: Option<f64>,
    /// Seconds between two looks at a job.
    pub poll_seconds: f64,
    /// How long a job is looked for whose launch got no answer; lists lag behind.
    pub search_seconds: f64,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        ProviderSettings {
            dialect: None,
            base_url: None,
            keys: Vec::new(),
            api_version: None,
            deployments: BTreeMap::new(),
            most_in_flight: 100,
            requests_per_minute: None,
            tokens_per_minute: None,
            timeout_seconds: 600.0,
            most_tries: 12,
            batch: false,
            most_jobs: 3,
            relaunch_unknown_after_minutes: None,
            poll_seconds: 10.0,
            search_seconds: 120.0,
        }
    }
}

impl ProviderSettings {
    /// What holds for a provider that the file does not mention.
    pub fn known(name: &str) -> Option<Self> {
        let (dialect, base_url, key) = match name {
            "openai" => (Dialect::OpenAi, "https://api.openai.com/v1", "OPENAI_API_KEY"),
            "together" => (Dialect::Together, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
            "openrouter" => (Dialect::Compatible, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
            "tinker" => (
                Dialect::Compatible,
                "https://tinker.thinkingmachines.dev/services/tinker-prod/oai/api/v1",
                "TINKER_API_KEY",
            ),
            _ => return None,
        };
        Some(ProviderSettings {
            dialect: Some(dialect),
            base_url: Some(base_url.to_string()),
            keys: vec![KeySource { variable: key.to_string(), organization: None, project: None }],
            ..ProviderSettings::default()
        })
    }

    /// The settings of a bare URL: a server of one's own, without a key, that queues by itself and may be looked at often.
    pub fn of_url(base_url: &str) -> Self {
        ProviderSettings {
            dialect: Some(Dialect::Compatible),
            base_url: Some(base_url.to_string()),
            most_jobs: 100,
            poll_seconds: 0.5,
            ..ProviderSettings::default()
        }
    }

    /// Fills in what a block leaves out from what is known of a provider of this name, and checks the rest.
    pub fn complete(mut self, name: &str) -> Result<Self> {
        let known = Self::known(name);
        let named = if name == "azure" { Some(Dialect::Azure) } else { known.as_ref().and_then(|known| known.dialect) };
        self.dialect = self.dialect.or(named).or(Some(Dialect::Compatible));
        // A block with its own address does not send the well-known provider's key there.
        if self.base_url.is_none() {
            if self.keys.is_empty() {
                self.keys = known.as_ref().map(|known| known.keys.clone()).unwrap_or_default();
            }
            self.base_url = known.and_then(|known| known.base_url);
        }
        ensure!(
            self.base_url.is_some(),
            "`[providers.{name}]` of `drylab.toml` has no `base_url`"; help: "add `base_url = \"https://…/v1\"`"
        );
        ensure!(
            self.timeout_seconds > 0.0 && self.poll_seconds > 0.0 && self.most_in_flight > 0 && self.most_tries > 0,
            "`[providers.{name}]` of `drylab.toml` has a limit of 0"; help: "write numbers above 0"
        );
        for key in &self.keys {
            let is_name = key.variable.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            // Whoever puts the key itself here must not see it in an error.
            ensure!(
                is_name && !key.variable.is_empty(),
                "`keys` of `[providers.{name}]` holds something that is no name of an environment variable";
                help: "write the variable's name, as in `keys = [\"OPENAI_API_KEY\"]`, and never the key itself"
            );
        }
        Ok(self)
    }

    /// How it is spoken to.
    pub fn dialect(&self) -> Dialect {
        self.dialect.unwrap_or(Dialect::Compatible)
    }
    /// Where it is, without a slash at the end.
    pub fn base_url(&self) -> &str {
        self.base_url.as_deref().unwrap_or_default().trim_end_matches('/')
    }
}

/// The settings of a provider by its name in a model id: its block, or what is known without one.
pub fn settings_of(name: &str, blocks: &BTreeMap<String, ProviderSettings>) -> Result<ProviderSettings> {
    if let Some(block) = blocks.get(name) {
        return block.clone().complete(name);
    }
    if let Some(known) = ProviderSettings::known(name) {
        return Ok(known);
    }
    let names = blocks.keys().map(String::as_str).chain(["openai", "azure", "together", "openrouter", "tinker"]);
    let unknown = Error::input(format!("there is no provider `{name}`"));
    Err(match nearest(name, names) {
        Some(near) => unknown.with_help(format!("did you mean `{near}`?")),
        None => unknown.with_help(format!("describe it in `drylab.toml`: `[providers.{name}]` with its `base_url`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> BTreeMap<String, ProviderSettings> {
        #[derive(Deserialize)]
        struct File {
            providers: BTreeMap<String, ProviderSettings>,
        }
        toml::from_str::<File>(text).unwrap().providers
    }

    #[test]
    fn a_block_adds_to_what_is_known() {
        let found =
            settings_of("openai", &blocks("[providers.openai]\nkeys = [\"A\", { variable = \"B\", project = \"p\" }]"));
        let found = found.unwrap();
        assert_eq!(found.base_url(), "https://api.openai.com/v1");
        assert_eq!(found.keys.iter().map(|key| key.variable.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(settings_of("together", &BTreeMap::new()).unwrap().dialect(), Dialect::Together);
    }

    #[test]
    fn a_block_with_its_own_address_sends_no_well_known_key_there() {
        let found =
            settings_of("openai", &blocks("[providers.openai]\nbase_url = \"http://localhost:1/v1/\"")).unwrap();
        assert!(found.keys.is_empty());
        assert_eq!(found.base_url(), "http://localhost:1/v1");
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated() {
        let error = settings_of("openai", &blocks("[providers.openai]\nkeys = [\"sk-abc-def\"]")).unwrap_err();
        assert!(!error.to_string().contains("sk-abc"), "{error}");
    }

    #[test]
    fn an_unknown_provider_names_its_neighbour() {
        let error = settings_of("opnai", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `openai`?"));
        assert!(settings_of("lab", &BTreeMap::new()).unwrap_err().help.unwrap().contains("[providers.lab]"));
    }
}
