//! Everything that is remembered: keys, immutable blobs, and the SQLite index.
//!
//! A row implies its blob: bytes are durable before the row that names them is committed, and a result is durable
//! before it is counted. Failures are never stored. What is written last under a key is what is read.

mod blob;
mod call;
mod checkpoint;
mod filesystem;
mod fsck;
mod index;
mod judgement;
pub mod key;
mod launch;
mod lock;
mod response;
mod sample;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

pub use call::CallRecord;
pub use fsck::Report;
pub use judgement::Judgement;
pub use key::Key;
pub use launch::{Launch, LaunchError, LaunchState};
pub use lock::KeyLock;
pub use response::{Response, Upload};
pub use sample::Sample;

use crate::data::digest::Digest;
use crate::error::{Error, Result};
use blob::Blobs;
use filesystem::FileSystem;
use index::Index;

/// One store, shared by all threads of a process and by all processes that open the same folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    index: Index,
    blobs: Blobs,
    notes: Vec<String>,
}

impl Store {
    /// Opens the store in `folder` (usually `results/store`), creating it where there is none, and clears away what
    /// killed processes left half-done.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        blob::create_folder(folder)?;
        Self::open_on(folder, FileSystem::of(folder)?)
    }

    fn open_on(folder: &Path, file_system: FileSystem) -> Result<Self> {
        let blobs = Blobs::new(folder);
        blobs.prepare()?;
        let locks = folder.join("locks");
        blob::create_folder(&locks)?;
        lock::sweep(&locks)?;
        let creating = lock::acquire(locks.join("index"))?;
        let index = Index::open(&folder.join("index.sqlite"), file_system)?;
        drop(creating);
        let notes = file_system.note().into_iter().collect();
        let store = Store { folder: folder.to_path_buf(), index, blobs, notes };
        store.sweep_checkpoints()?;
        Ok(store)
    }

    /// Opens a store that exists and writes nothing to it, also where nothing can be written.
    pub fn open_read_only(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let index = Index::open_read_only(&folder.join("index.sqlite"))?;
        let mut notes = Vec::new();
        if index.has_unread_log() {
            notes.push("the index has a log that cannot be read here: the latest results may be missing".to_string());
        }
        Ok(Store { folder: folder.to_path_buf(), index, blobs: Blobs::new(folder), notes })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.index.is_read_only()
    }
    /// What people should know about where it lies, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The finished call of this key. Its blob may be lost: [`Store::get_blob`] tells, and then the call runs again.
    pub fn get_call(&self, key: Digest) -> Result<Option<CallRecord>> {
        self.index.read(|transaction| call::get(transaction, key))
    }
    /// The latest finished calls of a primitive, newest first.
    pub fn recent_calls(&self, primitive: &str, limit: usize) -> Result<Vec<CallRecord>> {
        self.index.read(|transaction| call::recent(transaction, primitive, limit))
    }
    /// Remembers a finished call; its blob must have been stored before.
    pub fn put_call(&self, record: &CallRecord) -> Result<()> {
        if let Some(blob) = record.blob
            && !self.blobs.path(blob).is_file()
        {
            return Err(Error::internal(format!("blob `{blob}` of {:?} was not stored before it", record.key)));
        }
        self.index.write(|transaction| call::put(transaction, record))
    }

    /// The samples of these keys ([`Key::sample`]), in their order.
    pub fn get_samples(&self, keys: &[Digest]) -> Result<Vec<Option<Sample>>> {
        self.index.read(|transaction| sample::get(transaction, keys))
    }
    /// Remembers samples, all of them or none.
    pub fn put_samples(&self, samples: &[Sample]) -> Result<()> {
        self.index.write(|transaction| sample::put(transaction, samples))
    }

    /// The verdicts of these keys, in their order.
    pub fn get_judgements(&self, keys: &[Digest]) -> Result<Vec<Option<Judgement>>> {
        self.index.read(|transaction| judgement::get(transaction, keys))
    }
    /// Remembers verdicts, all of them or none.
    pub fn put_judgements(&self, judgements: &[Judgement]) -> Result<()> {
        self.index.write(|transaction| judgement::put(transaction, judgements))
    }

    /// The attempt that counts for a purchase.
    pub fn get_launch(&self, key: Digest) -> Result<Option<Launch>> {
        self.index.read(|transaction| launch::get(transaction, key))
    }
    /// All attempts of a purchase, oldest first.
    pub fn launch_attempts(&self, key: Digest) -> Result<Vec<Launch>> {
        self.index.read(|transaction| launch::attempts(transaction, key))
    }
    /// The attempts that count, of all purchases, newest first.
    pub fn launches(&self) -> Result<Vec<Launch>> {
        self.index.read(launch::all)
    }
    /// Attempts that other attempts replaced while nobody knew whether a job came of them; their jobs may turn up late.
    pub fn lost_launches(&self, provider: &str) -> Result<Vec<Launch>> {
        self.index.read(|transaction| launch::lost(transaction, provider))
    }
    /// Remembers the first attempt of a purchase; false where the purchase has an owner already.
    pub fn begin_launch(&self, launch: &Launch) -> Result<bool> {
        self.index.write(|transaction| launch::begin(transaction, launch))
    }
    /// Puts a new attempt in the place of `old`, which is kept; nothing where `old` does not count any more.
    ///
    /// # Errors
    /// `old` is on its way, or has a job that goes well.
    pub fn supersede_launch(&self, launch: &Launch, old: &str) -> Result<Option<Launch>> {
        self.index.write(|transaction| launch::supersede(transaction, launch, old))?
    }
    /// Makes the attempt `old` count again instead of `current`, because its job was found; nothing where `current`
    /// does not count any more.
    ///
    /// # Errors
    /// `current` has a job.
    pub fn revive_launch(&self, key: Digest, current: &str, old: &str, now: SystemTime) -> Result<Option<Launch>> {
        self.index.write(|transaction| launch::revive(transaction, key, current, old, now))?
    }
    /// Changes what is known about an attempt: its state, its job and what became of it. Nothing where there is no such
    /// attempt.
    ///
    /// # Errors
    /// A step that cannot follow, as from a job to none.
    pub fn update_launch(
        &self,
        attempt: &str,
        now: SystemTime,
        change: impl FnOnce(&mut Launch),
    ) -> Result<Option<Launch>> {
        self.index.write(|transaction| launch::update(transaction, attempt, now, change))?
    }

    /// The file with these bytes at a provider, as far as is known.
    pub fn get_upload(&self, provider: &str, identity: &str, sha256: &str) -> Result<Option<Upload>> {
        self.index.read(|transaction| response::get_upload(transaction, provider, identity, sha256))
    }
    /// Remembers a file at a provider.
    pub fn put_upload(&self, upload: &Upload) -> Result<()> {
        self.index.write(|transaction| response::put_upload(transaction, upload))
    }
    /// The raw responses of these keys, in their order.
    pub fn get_responses(&self, keys: &[Digest]) -> Result<Vec<Option<Response>>> {
        self.index.read(|transaction| response::get(transaction, keys))
    }
    /// Remembers raw responses, all of them or none.
    pub fn put_responses(&self, responses: &[Response]) -> Result<()> {
        self.index.write(|transaction| response::put(transaction, responses))
    }
    /// Where a batch stands.
    pub fn get_batch(&self, key: Digest) -> Result<Option<Value>> {
        self.index.read(|transaction| response::get_batch(transaction, key))
    }
    /// All batches, the last changed first.
    pub fn batches(&self) -> Result<Vec<(Digest, Value)>> {
        self.index.read(response::batches)
    }
    /// Remembers where a batch stands.
    pub fn put_batch(&self, key: Digest, state: &Value, now: SystemTime) -> Result<()> {
        self.index.write(|transaction| response::put_batch(transaction, key, state, now))
    }

    /// Stores bytes under their digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        if self.is_read_only() {
            return Err(Error::environment(format!("`{}` is open for reading only", self.folder.display())));
        }
        self.blobs.write(bytes)
    }
    /// The bytes of this digest, verified; nothing when they are missing, short or altered.
    pub fn get_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.blobs.read_verified(digest)
    }
    /// The file with the bytes of this digest, whether or not it is there; for mapping into memory.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs.path(digest)
    }

    /// Waits until nobody else, in this process or another, works on this key. Read the store again after this.
    pub fn lock(&self, key: Digest) -> Result<KeyLock> {
        lock::acquire(self.lock_path(key)?)
    }
    /// The lock of this key, or nothing when somebody else works on it.
    pub fn try_lock(&self, key: Digest) -> Result<Option<KeyLock>> {
        lock::try_acquire(self.lock_path(key)?)
    }

    /// Checks the whole store; see [`Report`].
    pub fn fsck(&self) -> Result<Report> {
        fsck::check(self)
    }

    fn lock_path(&self, key: Digest) -> Result<PathBuf> {
        if self.is_read_only() {
            return Err(Error::environment(format!("`{}` is open for reading only", self.folder.display())));
        }
        Ok(self.folder.join("locks").join(key.to_string()))
    }
}
