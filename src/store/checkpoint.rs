//! What unfinished work keeps to go on from, one folder per key: `checkpoints/KEY/…`, removed when its result is there.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use super::Store;
use super::blob::at;
use crate::data::digest::Digest;
use crate::error::{Error, Result};

impl Store {
    /// The folder of what the unfinished work of this key has kept, whether or not it is there.
    pub fn checkpoint_folder(&self, key: Digest) -> PathBuf {
        self.folder.join("checkpoints").join(key.to_string())
    }

    /// Keeps a file for unfinished work, in the place of an older one of this name: whole or not at all, and durably.
    pub fn put_checkpoint(
        &self,
        key: Digest,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::environment(format!("`{}` is open for reading only", self.folder.display())));
        }
        self.blobs.replace(&self.checkpoint_folder(key).join(name), write)
    }

    /// Removes what was kept for this key, if anything was.
    pub fn remove_checkpoint(&self, key: Digest) -> Result<()> {
        let folder = self.checkpoint_folder(key);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&folder, error)),
            _ => Ok(()),
        }
    }

    /// The keys for which something is kept, in order.
    pub fn checkpoints(&self) -> Result<Vec<Digest>> {
        let folder = self.folder.join("checkpoints");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&folder, error)),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut keys: Vec<Digest> = names.filter_map(|name| Digest::parse(&name)).collect();
        keys.sort_by_key(|key| key.0);
        Ok(keys)
    }

    /// Removes what is kept for work that is done: its owner was killed between the result and the removal.
    pub(super) fn sweep_checkpoints(&self) -> Result<()> {
        for key in self.checkpoints()? {
            // Whoever holds the lock works on it, because its blob was lost.
            if self.get_call(key)?.is_some()
                && let Some(_lock) = self.try_lock(key)?
            {
                self.remove_checkpoint(key)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{CallRecord, Key};
    use super::*;

    #[test]
    fn a_checkpoint_is_replaced_whole_and_goes_with_the_result() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::new("train", 1, serde_json::json!("rows"), serde_json::Value::Null).unwrap();
        let open = || Store::open(folder.path()).unwrap();
        let store = open();
        let path = store.checkpoint_folder(key.digest()).join("state");
        store.remove_checkpoint(key.digest()).unwrap();
        for text in ["one", "two, which is longer", "3"] {
            store.put_checkpoint(key.digest(), "state", |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let failed = store.put_checkpoint(key.digest(), "state", |file| {
            file.write_all(b"half")?;
            Err(std::io::Error::other("no"))
        });
        assert!(failed.is_err() && fs::read_to_string(&path).unwrap() == "3");
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(open().checkpoints().unwrap(), [key.digest()]);
        let record = CallRecord {
            key: key.clone(),
            options: None,
            output: None,
            blob: None,
            started_at: SystemTime::UNIX_EPOCH,
            seconds: 0.0,
            program: String::new(),
            run: String::new(),
            host: String::new(),
        };
        store.put_call(&record).unwrap();
        assert!(open().checkpoints().unwrap().is_empty());
    }
}
