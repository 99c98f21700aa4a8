//! Immutable files named by the BLAKE3 digest of what they hold: `blobs/ab/abcdef…`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::digest::Digest;
use crate::error::{Error, Result};

/// Bytes that are gathered before they are written.
const WRITTEN_AT_ONCE: usize = 1 << 18;

/// The blob files of one store.
#[derive(Debug)]
pub struct Blobs {
    blobs: PathBuf,
    temporary: PathBuf,
    host: String,
}

impl Blobs {
    /// The blobs under a store's folder; touches no file.
    pub fn new(store: &Path) -> Self {
        // The name tells whose a leftover is; without /proc every host is called the same, and the lock decides.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().replace('/', "-");
        Blobs {
            blobs: store.join("blobs"),
            temporary: store.join("tmp"),
            host: if host.is_empty() { "host".into() } else { host },
        }
    }

    /// Creates the folders, and removes the temporary files that dead processes of this host left.
    pub fn prepare(&self) -> Result<()> {
        create_folder(&self.blobs)?;
        create_folder(&self.temporary)?;
        for entry in fs::read_dir(&self.temporary).map_err(|error| at(&self.temporary, error))? {
            let path = entry.map_err(|error| at(&self.temporary, error))?.path();
            if self.is_leftover(&path) {
                // Somebody else may have swept it first.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Where the blob of this digest lies, for those who map it into memory.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.blobs.join(&name[..2]).join(name)
    }

    /// Stores bytes; when this returns, they survive a power loss. An intact blob that is there already is left alone,
    /// a damaged one is replaced.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.path(digest);
        if self.read_verified(digest)?.is_none() {
            self.replace(&path, |file| file.write_all(bytes))?;
        }
        // Also for a blob that was there: its writer may have been killed between the rename and this.
        sync_folder(path.parent().expect("a blob lies in a folder"))?;
        Ok(digest)
    }

    /// Writes a file of the store, whole or not at all; when this returns, it survives a power loss.
    pub fn replace(&self, path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let folder = path.parent().expect("a file lies in a folder");
        create_folder(folder)?;
        let (temporary, file) = self.create_temporary()?;
        let mut sink = BufWriter::with_capacity(WRITTEN_AT_ONCE, file);
        let written = (write(&mut sink).and_then(|()| sink.flush()).and_then(|()| sink.get_ref().sync_all()))
            .map_err(|error| at(&temporary, error))
            .and_then(|()| fs::rename(&temporary, path).map_err(|error| at(path, error)));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        sync_folder(folder)
    }

    /// The bytes, or nothing when the file is missing, short or altered: for free work that is a miss.
    pub fn read_verified(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(bytes) => Ok((Digest::of(&bytes) == digest).then_some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path, error)),
        }
    }

    /// Every file that is named like a blob, in no order.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for folder in fs::read_dir(&self.blobs).map_err(|error| at(&self.blobs, error))? {
            let folder = folder.map_err(|error| at(&self.blobs, error))?.path();
            for entry in fs::read_dir(&folder).map_err(|error| at(&folder, error))? {
                let name = entry.map_err(|error| at(&folder, error))?.file_name();
                digests.extend(name.to_str().and_then(Digest::parse));
            }
        }
        Ok(digests)
    }

    /// A new file `tmp/host.pid.n`, read-only for everybody but this handle, locked for as long as it is written.
    fn create_temporary(&self) -> Result<(PathBuf, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.temporary.join(format!("{}.{}.{number}", self.host, std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path) {
                Ok(file) => {
                    file.lock().map_err(|error| at(&path, error))?;
                    return Ok((path, file));
                }
                // Left by an earlier process of this number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&path, error)),
            }
        }
    }

    /// Written on this host by a process that is gone. The lock covers hosts of one name and separate process numbers.
    fn is_leftover(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut parts = name.rsplitn(3, '.').skip(1);
        let (Some(process), Some(host)) = (parts.next(), parts.next()) else { return false };
        host == self.host
            && process != std::process::id().to_string()
            && !Path::new("/proc").join(process).exists()
            && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
    }
}

/// Creates a folder and what lies above it, durably.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at(folder, error)),
        _ => {}
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| at(folder, error))
}

/// A failure of the machine at a path.
pub(super) fn at(path: &Path, error: std::io::Error) -> Error {
    let failure = Error::environment(format!("`{}`: {error}", path.display()));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => failure.with_help("free some space and run again"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            failure.with_help("choose a results folder that you may write to")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path());
        blobs.prepare().unwrap();
        (folder, blobs)
    }

    #[test]
    fn blob_is_named_by_its_content_and_read_only() {
        let (folder, blobs) = blobs();
        let digest = blobs.write(b"abc").unwrap();
        assert_eq!(digest, blobs.write(b"abc").unwrap());
        assert_eq!(
            blobs.path(digest),
            folder.path().join("blobs/64/6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85")
        );
        assert_eq!(fs::metadata(blobs.path(digest)).unwrap().permissions().mode() & 0o333, 0);
        assert_eq!(blobs.read_verified(digest).unwrap().unwrap(), b"abc");
        assert_eq!(blobs.list().unwrap(), [digest]);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn missing_truncated_and_flipped_blobs_are_misses_and_are_healed() {
        let (_folder, blobs) = blobs();
        let digest = blobs.write(b"hello blob").unwrap();
        for damaged in [Some(b"hello".to_vec()), Some(b"hellO blob".to_vec()), Some(Vec::new()), None] {
            fs::remove_file(blobs.path(digest)).unwrap();
            if let Some(bytes) = damaged {
                fs::write(blobs.path(digest), bytes).unwrap();
            }
            assert_eq!(blobs.read_verified(digest).unwrap(), None);
            assert_eq!(blobs.write(b"hello blob").unwrap(), digest);
            assert_eq!(blobs.read_verified(digest).unwrap().unwrap(), b"hello blob");
        }
    }

    #[test]
    fn only_leftovers_of_dead_processes_of_this_host_are_swept() {
        let (folder, blobs) = blobs();
        let tmp = folder.path().join("tmp");
        // No process has this number: Linux stops at 2^22.
        let dead = tmp.join(format!("{}.999999999.0", blobs.host));
        let locked = tmp.join(format!("{}.999999998.0", blobs.host));
        let own = tmp.join(format!("{}.{}.0", blobs.host, std::process::id()));
        let parent = tmp.join(format!("{}.1.0", blobs.host));
        let elsewhere = tmp.join("another.host.999999999.0");
        for path in [&dead, &locked, &own, &parent, &elsewhere] {
            fs::write(path, b"half").unwrap();
        }
        let held = File::open(&locked).unwrap();
        held.lock().unwrap();
        blobs.prepare().unwrap();
        assert!(!dead.exists());
        assert!([&locked, &own, &parent, &elsewhere].iter().all(|path| path.exists()));
    }
}
