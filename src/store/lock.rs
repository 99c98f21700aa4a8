//! One owner per key, across threads and processes: a file lock that the kernel releases when its process dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::blob::at;
use crate::error::Result;

/// Held until dropped. Whoever gets it reads the store again first: the last owner may have done the work.
#[derive(Debug)]
pub struct KeyLock {
    // Kept open: closing it releases the lock.
    _file: File,
    path: PathBuf,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While the lock is still held, so that whoever waits on this file sees that it is gone and takes a new one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits for the lock.
pub(super) fn acquire(path: PathBuf) -> Result<KeyLock> {
    loop {
        let file = open(&path)?;
        file.lock().map_err(|error| at(&path, error))?;
        if is_still_at(&file, &path) {
            return Ok(KeyLock { _file: file, path });
        }
    }
}

/// The lock, or nothing when somebody holds it.
pub(super) fn try_acquire(path: PathBuf) -> Result<Option<KeyLock>> {
    loop {
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) if is_still_at(&file, &path) => return Ok(Some(KeyLock { _file: file, path })),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(at(&path, error)),
        }
    }
}

/// Removes the files that killed owners left; a held lock stays.
pub(super) fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let path = entry.map_err(|error| at(folder, error))?.path();
        drop(try_acquire(path)?);
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(|error| at(path, error))
}

/// Whether the file that was locked is the one that others will find: its last owner may have removed it meanwhile.
fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_owner_at_a_time_and_nothing_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lock = acquire(path.clone()).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(try_acquire(path.clone()).unwrap().is_none());
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn sweep_spares_held_locks() {
        let folder = tempfile::tempdir().unwrap();
        let held = acquire(folder.path().join("held")).unwrap();
        fs::write(folder.path().join("stale"), b"").unwrap();
        sweep(folder.path()).unwrap();
        assert!(folder.path().join("held").exists() && !folder.path().join("stale").exists());
        drop(held);
    }
}
