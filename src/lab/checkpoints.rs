//! When a training keeps a checkpoint, and where.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Lab;
use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// Time between two checkpoints, where `drylab.toml` says nothing.
const USUAL_SECONDS: f64 = 60.0;
/// Keeping checkpoints takes at most one part in so many of a training's time.
const SHARE: u32 = 20;

/// The checkpoints of one call, which holds the lock of its key.
pub struct Checkpoints<'l> {
    lab: &'l Lab,
    key: Digest,
    since: Instant,
    wait: Duration,
}

impl Lab {
    /// The checkpoints of a call that begins now.
    pub fn checkpoints(&self, key: Digest) -> Checkpoints<'_> {
        Checkpoints { lab: self, key, since: Instant::now(), wait: self.time_between_checkpoints() }
    }

    fn time_between_checkpoints(&self) -> Duration {
        Duration::from_secs_f64(self.inner.checkpoint_seconds.unwrap_or(USUAL_SECONDS))
    }
}

impl Checkpoints<'_> {
    /// Whether it is time for one.
    pub fn is_due(&self) -> bool {
        self.since.elapsed() >= self.wait
    }

    /// Keeps a file, in the place of an older one of this name.
    pub fn put(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let begun = Instant::now();
        let outcome = self.lab.store().put_checkpoint(self.key, name, write);
        self.since = Instant::now();
        self.wait = self.lab.time_between_checkpoints().max(begun.elapsed() * SHARE);
        outcome
    }

    /// The file of this name and its length, if one was kept.
    pub fn open(&self, name: &str) -> Result<Option<(File, u64)>> {
        let path = self.folder().join(name);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) => Ok(Some((file, length))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::environment(format!("`{}`: {error}", path.display()))),
        }
    }

    /// Removes all that was kept.
    pub fn remove(&self) -> Result<()> {
        self.lab.store().remove_checkpoint(self.key)
    }

    /// The folder of all that is kept, from the project folder where it lies below that.
    pub fn folder(&self) -> PathBuf {
        self.lab.store().checkpoint_folder(self.key)
    }

    /// The folder as a script of the project would write it.
    pub fn folder_in_scripts(&self) -> String {
        let folder = self.folder();
        folder.strip_prefix(self.lab.project()).unwrap_or(&folder).display().to_string()
    }
}
