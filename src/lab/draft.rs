//! A file in the making: it is there once it is finished, whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Bytes that are written as they come, beside the place where they will stand.
pub struct Draft {
    path: String,
    target: PathBuf,
    temporary: PathBuf,
    /// The file, until it is finished.
    out: Option<BufWriter<File>>,
}

impl Draft {
    /// Begins the file that will stand at `target`; `path` is what people call it.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn new(path: &str, target: PathBuf) -> Result<Self> {
        let temporary = target.with_extension(format!("{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(|error| unwritable(path, &error))?;
        Ok(Draft { path: path.to_string(), target, temporary, out: Some(BufWriter::new(file)) })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// A full disk, and the like.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    /// Puts the file in its place; what people call it.
    ///
    /// # Errors
    /// A full disk, and the like; then the file is gone.
    pub fn finish(mut self) -> Result<String> {
        let mut out = self.out.take().expect("a file is finished once");
        let done = out.flush().and_then(|()| std::fs::rename(&self.temporary, &self.target));
        if let Err(error) = done {
            let _ = std::fs::remove_file(&self.temporary);
            return Err(unwritable(&self.path, &error));
        }
        Ok(std::mem::take(&mut self.path))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.as_mut().expect("nothing is written to a finished file").write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.as_mut().expect("nothing is written to a finished file").flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn unwritable(path: &str, error: &std::io::Error) -> Error {
    Error::environment(format!("`{path}` cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        let begin = || Draft::new("a.npy", folder.path().join("a.npy")).unwrap();
        let mut left = begin();
        left.add(b"half").unwrap();
        drop(left);
        assert_eq!(files(), 0);
        let mut whole = begin();
        whole.add(b"first ").unwrap();
        whole.add(b"second").unwrap();
        assert!(!folder.path().join("a.npy").exists());
        assert_eq!(whole.finish().unwrap(), "a.npy");
        assert_eq!((std::fs::read(folder.path().join("a.npy")).unwrap(), files()), (b"first second".to_vec(), 1));
        assert!(Draft::new("b", folder.path().join("no/b")).err().unwrap().message.contains("`b` cannot be written"));
    }
}
