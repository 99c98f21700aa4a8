//! The providers that this project reaches: what `drylab.toml` says about them, and the keys of the environment.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::error::{Error, Result, ensure};
use crate::model::processor::Processor;
use crate::provider::chat::Chat;
use crate::provider::endpoint::{AccessKey, Endpoint};
use crate::provider::price::PriceList;
use crate::provider::secret::Secret;
use crate::provider::settings::{ProviderSettings, settings_of};

/// The file that marks a project's folder.
pub const FILE: &str = "drylab.toml";

/// A project's own prices, which are asked before those that came with the program.
pub const PRICES: &str = "prices.toml";

/// Largest amount that is believed.
const MOST: f64 = 1e12;

/// Reads what providers charge.
pub fn read_prices(project: &Path) -> Result<PriceList> {
    match std::fs::read_to_string(project.join(PRICES)) {
        Ok(text) => PriceList::built_in().with_file(&text, PRICES),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(PriceList::built_in()),
        Err(error) => Err(Error::environment(format!("`{PRICES}` cannot be read: {error}"))),
    }
}

/// What `drylab.toml` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// Blocks by name.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Time between two checkpoints of a training.
    pub checkpoint_seconds: Option<f64>,
    /// Memory that a run may use, where that is less than the machine has.
    pub memory_gigabytes: Option<f64>,
    /// What computes the passes over models.
    pub device: Processor,
}

impl File {
    /// Reads the file of a project, where there is one.
    pub fn read(project: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(project.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::environment(format!("`{FILE}` cannot be read: {error}"))),
        };
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::input(format!("`{FILE}`:{line}: {}", error.message().replace('\n', " ")))
                .with_help("see `drylab help providers` and `drylab help training`")
        })?;
        let amounts = [("checkpoint_seconds", file.checkpoint_seconds), ("memory_gigabytes", file.memory_gigabytes)];
        for (name, amount) in amounts {
            let amount = amount.unwrap_or_default();
            ensure!(
                (0.0..=MOST).contains(&amount), "`{FILE}`: `{name}` is {amount}";
                help: "write a number of at least 0, see `drylab help training`"
            );
        }
        Ok(file)
    }
}

/// Providers by name, opened when they are first asked for: all calls of a run share their limits.
#[derive(Default)]
pub struct Providers {
    blocks: BTreeMap<String, ProviderSettings>,
    open: Mutex<HashMap<String, Chat>>,
    offline: bool,
}

impl Providers {
    /// The providers of these blocks, and those that are known anyway. With `offline` none can be reached.
    pub fn new(blocks: BTreeMap<String, ProviderSettings>, offline: bool) -> Self {
        Providers { blocks, open: Mutex::default(), offline }
    }

    /// What is known about a provider, by the name or the address that stands in a model id; needs no key.
    pub fn settings(&self, name: &str) -> Result<ProviderSettings> {
        if !is_address(name) {
            return settings_of(name, &self.blocks);
        }
        // An address that a block describes is that block's provider.
        let of_url = ProviderSettings::of_url(name);
        let block = self.blocks.iter().find(|(_, block)| {
            block.base_url.as_deref().is_some_and(|url| url.trim_end_matches('/') == of_url.base_url())
        });
        block.map_or(Ok(of_url), |(name, block)| block.clone().complete(name))
    }

    /// The provider itself, with its keys.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint> {
        Ok(self.chat(name)?.endpoint().clone())
    }

    /// The door to its chat models.
    pub fn chat(&self, name: &str) -> Result<Chat> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chat) = open.get(name) {
            return Ok(chat.clone());
        }
        if self.offline {
            return Err(Error::input(format!("`{name}` cannot be asked: this run is offline"))
                .with_help("leave `--offline` out, or use what is in the store"));
        }
        let settings = self.settings(name)?;
        let keys = read_keys(name, &settings)?;
        let chat = Chat::new(Endpoint::new(name, settings, keys)?);
        open.insert(name.to_string(), chat.clone());
        Ok(chat)
    }
}

/// Whether the provider of a model id is an address, not a name.
pub fn is_address(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// Keys of the variables that are set; at least one, where the provider wants any.
fn read_keys(name: &str, settings: &ProviderSettings) -> Result<Vec<AccessKey>> {
    let keys: Vec<AccessKey> = settings
        .keys
        .iter()
        .filter_map(|source| {
            let value = std::env::var(&source.variable).ok().filter(|value| !value.trim().is_empty())?;
            Some(AccessKey {
                variable: source.variable.clone(),
                secret: Secret::new(&value),
                organization: source.organization.clone(),
                project: source.project.clone(),
            })
        })
        .collect();
    if keys.is_empty() && !settings.keys.is_empty() {
        let names: Vec<String> = settings.keys.iter().map(|source| format!("`{}`", source.variable)).collect();
        return Err(Error::input(format!("`{name}` wants a key, and {} is not set", names.join(" or ")))
            .with_help(format!("set it in the shell: `export {}=…`", settings.keys[0].variable)));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(text: &str, offline: bool) -> Result<Providers> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        Ok(Providers::new(File::read(folder.path())?.providers, offline))
    }

    #[test]
    fn a_mistake_in_the_file_names_its_line() {
        let error = providers("\n[providers.lab]\nbase_ulr = \"http://a/v1\"\n", false).err().unwrap();
        assert!(error.message.starts_with("`drylab.toml`:3: unknown field `base_ulr`"), "{error}");
    }

    #[test]
    fn an_amount_below_nothing_is_refused() {
        let error = providers("checkpoint_seconds = -1.0\n", false).err().unwrap();
        assert_eq!(error.message, "`drylab.toml`: `checkpoint_seconds` is -1");
        assert!(providers("checkpoint_seconds = 0.5\nmemory_gigabytes = 64\n", false).is_ok());
    }

    #[test]
    fn a_missing_key_names_its_variable() {
        let file = "[providers.lab]\nbase_url = \"http://a/v1\"\nkeys = [\"DRYLAB_TEST_NO_SUCH_KEY\"]\n";
        let error = providers(file, false).unwrap().endpoint("lab").unwrap_err();
        assert_eq!(error.message, "`lab` wants a key, and `DRYLAB_TEST_NO_SUCH_KEY` is not set");
        assert_eq!(providers(file, true).unwrap().endpoint("lab").unwrap_err().kind, crate::error::Kind::Input);
    }

    #[test]
    fn an_address_finds_its_block() {
        let found = providers("[providers.lab]\nbase_url = \"http://a/v1/\"\nmost_jobs = 7\n", false).unwrap();
        assert_eq!(found.settings("http://a/v1").unwrap().most_jobs, 7);
        assert_eq!(found.settings("http://b/v1").unwrap(), ProviderSettings::of_url("http://b/v1"));
    }
}
