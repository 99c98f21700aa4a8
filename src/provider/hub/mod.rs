//! The Hugging Face hub: checkpoints by `owner/name`, fetched once into the cache that Python's tools share.
//!
//! What is in the cache is used without a word to anybody. Else one request tells the commit and the digests of all
//! files, and only those that a checkpoint needs are downloaded.

mod cache;
mod client;
mod download;
mod files;
mod repository;

use std::fs;
use std::path::{Path, PathBuf};

pub use self::files::{FileDigest, ListedFile};
pub use self::repository::Repository;

use self::cache::{Cache, Kept};
use self::client::{Client, Trouble};
use self::download::Download;
use self::files::{INDEX, Listing, OPTIONAL};
use super::fault::{Class, Fault};
use super::secret::Secret;
use crate::error::{Error, Result};

/// The hub of Hugging Face.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Bytes between two words about progress, at least.
const STEP: u64 = 1 << 20;

/// Which hub, which cache, and as whom.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The address of the hub.
    pub endpoint: String,
    /// The folder that holds the cache.
    pub cache: PathBuf,
    /// Sent to the hub, and to nobody else.
    pub token: Option<HubToken>,
    /// Why nothing may be asked, where that is so: `this run is offline`.
    pub offline: Option<String>,
}

/// Opens what an account may see.
#[derive(Clone, Debug)]
pub struct HubToken {
    /// The variable or file that it came from.
    pub from: String,
    /// The token.
    pub secret: Secret,
}

/// A repository in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with its files.
    pub folder: PathBuf,
    /// The commit that the revision means.
    pub commit: String,
}

/// How far a download is, or what it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// The commit.
    pub commit: String,
    /// Files that are not in the cache yet.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of these have come.
    pub fetched: u64,
}

/// The hub and the cache.
pub struct Hub {
    settings: HubSettings,
}

impl Hub {
    /// The hub of these settings; nothing is asked yet.
    pub fn new(settings: HubSettings) -> Self {
        Hub { settings }
    }

    /// A checkpoint, from the cache or the hub. `check` sees the folder when its small files are there, before the
    /// weights are downloaded; `tell` learns the progress.
    ///
    /// # Errors
    /// No network or none allowed, a repository that is not there, not open or no checkpoint, a file with a wrong
    /// digest, no room.
    pub async fn fetch(
        &self,
        repository: &Repository,
        check: &dyn Fn(&Path) -> Result<()>,
        tell: &dyn Fn(Fetching),
    ) -> Result<Snapshot> {
        let found = match self.find(repository).await? {
            Found::Kept(snapshot) => return Ok(snapshot),
            Found::Listed(found) => found,
        };
        let Wanted { cache, client, listing } = found;
        let commit = listing.commit.clone();
        let snapshot = Snapshot { folder: cache.snapshot(&commit), commit: commit.clone() };
        let small = listing.small().map_err(|error| error.context(format!("`{repository}`")))?;
        let unwritten = |error: std::io::Error| {
            Error::environment(format!("the cache `{}` cannot be written: {error}", self.settings.cache.display()))
                .with_help("set `HF_HOME` or `HF_HUB_CACHE` to a folder that can be written")
        };
        cache.prepare(&commit).map_err(unwritten)?;
        cache.set_commit(repository.revision(), &commit).map_err(unwritten)?;
        for file in OPTIONAL.iter().filter(|file| !listing.files.contains_key(**file)) {
            cache.mark_absent(&commit, file).map_err(unwritten)?;
        }
        let fetch_one = async |file: &ListedFile, on_bytes: &dyn Fn(u64)| -> Result<()> {
            let digits = file.digest.digits();
            let (whole, growing) = cache.blob(digits);
            let url = client.address(repository, &commit, &file.path);
            let lock = cache.lock_file(digits).map_err(unwritten)?;
            let download = Download { url, file, places: (&whole, &growing), lock };
            match download.run(&client, on_bytes).await {
                Ok(()) => cache.link(&commit, &file.path, digits).map_err(unwritten),
                Err(Trouble::Fault(fault)) if is_away(&fault) => {
                    Err(client.tell(fault, repository).context(format!("`{}` of `{repository}`", file.path)))
                }
                Err(Trouble::Fault(fault)) => Err(client.tell(fault, repository)),
                Err(Trouble::Error(error)) => Err(error),
            }
        };
        // The index of shards tells what else there is to fetch, so the count begins behind it.
        for file in small.iter().filter(|file| file.path == INDEX && !cache.has(&commit, INDEX)) {
            fetch_one(file, &|_| ()).await?;
        }
        let missing = self.missing_files(&cache, &listing).map_err(|error| error.context(format!("`{repository}`")))?;
        let bytes = missing.iter().map(|file| file.bytes).sum();
        self.check_room(bytes)?;
        let mut state = Fetching { commit: commit.clone(), files: missing.len() as u64, bytes, fetched: 0 };
        if bytes > 0 {
            tell(state.clone());
        }
        let is_weight = |file: &&ListedFile| file.path.ends_with(".safetensors");
        let (weights, small): (Vec<&ListedFile>, Vec<&ListedFile>) = missing.into_iter().partition(is_weight);
        for file in small {
            fetch_one(file, &|_| ()).await?;
            state.fetched += file.bytes;
        }
        check(&snapshot.folder)?;
        for file in weights {
            let (before, told) = (state.fetched, std::cell::Cell::new(0));
            let on_bytes = |there: u64| {
                if there >= told.get() + (bytes / 200).max(STEP) {
                    told.set(there);
                    tell(Fetching { fetched: before + there, ..state.clone() });
                }
            };
            fetch_one(file, &on_bytes).await?;
            state.fetched += file.bytes;
        }
        if bytes > 0 {
            tell(Fetching { fetched: bytes, ..state });
        }
        Ok(snapshot)
    }

    /// What [`Hub::fetch`] would download; none where all is in the cache.
    ///
    /// # Errors
    /// As [`Hub::fetch`].
    pub async fn preview(&self, repository: &Repository) -> Result<Option<Fetching>> {
        let Wanted { cache, listing, .. } = match self.find(repository).await? {
            Found::Kept(_) => return Ok(None),
            Found::Listed(found) => found,
        };
        let missing = self.missing_files(&cache, &listing).map_err(|error| error.context(format!("`{repository}`")))?;
        let bytes = missing.iter().map(|file| file.bytes).sum();
        Ok(Some(Fetching { commit: listing.commit.clone(), files: missing.len() as u64, bytes, fetched: 0 }))
    }

    /// Looks into the cache, and asks the hub where that does not do.
    async fn find(&self, repository: &Repository) -> Result<Found> {
        let cache = Cache::new(&self.settings.cache, repository);
        let commit = cache.commit(repository.revision());
        let kept = commit.as_deref().and_then(|commit| cache.look(commit));
        let snapshot = || {
            let commit = commit.clone().unwrap_or_default();
            Found::Kept(Snapshot { folder: cache.snapshot(&commit), commit })
        };
        let is_likely = match &kept {
            Some(Kept::Whole) => return Ok(snapshot()),
            kept => *kept == Some(Kept::Likely),
        };
        if let Some(why) = &self.settings.offline {
            return if is_likely { Ok(snapshot()) } else { Err(self.tell_offline(repository, kept, why)) };
        }
        let client = Client::new(&self.settings)?;
        // What was begun is ended at the same commit, even if the branch has moved on.
        let revision = commit.as_deref().filter(|_| kept.is_some()).unwrap_or(repository.revision());
        match client.list(repository, revision).await {
            Ok(listing) => Ok(Found::Listed(Wanted { cache, client, listing })),
            // Whatever the hub says, what is there can be used.
            Err(_) if is_likely => Ok(snapshot()),
            Err(fault) if is_away(&fault) => {
                Err(client.tell(fault, repository).context(format!("`{repository}` is not whole in the cache")))
            }
            Err(fault) => Err(client.tell(fault, repository)),
        }
    }

    fn missing_files<'a>(&self, cache: &Cache, listing: &'a Listing) -> Result<Vec<&'a ListedFile>> {
        let index = fs::read_to_string(cache.snapshot(&listing.commit).join(INDEX)).ok();
        let wanted = listing.small()?.into_iter().chain(listing.weights(index.as_deref())?);
        Ok(wanted.filter(|file| !cache.has(&listing.commit, &file.path)).collect())
    }

    fn tell_offline(&self, repository: &Repository, kept: Option<Kept>, why: &str) -> Error {
        let cache = self.settings.cache.display();
        let found = match kept {
            Some(Kept::Lacking(file)) => format!("`{repository}` lacks `{file}` in the cache {cache}"),
            _ => format!("`{repository}` is not in the cache {cache}"),
        };
        Error::input(format!("{found}, and {why}"))
            .with_help("run once with the network, or name a folder that holds the checkpoint: `hf:./FOLDER`")
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        let Ok(disk) = rustix::fs::statvfs(&self.settings.cache) else { return Ok(()) };
        let free = disk.f_bavail * disk.f_frsize;
        if bytes <= free {
            return Ok(());
        }
        let cache = self.settings.cache.display();
        Err(Error::environment(format!(
            "the download has {bytes} bytes, the disk of the cache {cache} has room for {free}"
        ))
        .with_help("make room, or set `HF_HOME` to a folder on another disk"))
    }
}

/// What the first look found.
enum Found {
    Kept(Snapshot),
    Listed(Wanted),
}

/// What is to be fetched.
struct Wanted {
    cache: Cache,
    client: Client,
    listing: Listing,
}

/// Whether a failure says nothing about the repository.
fn is_away(fault: &Fault) -> bool {
    use Class::*;
    matches!(fault.class, NotSent | Unreachable | Lost | Server | RateLimit | SlowDown | Malformed)
}
