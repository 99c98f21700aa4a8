//! The files that a script may touch: below the project, and what the user named on the command line.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The door to files.
#[derive(Debug)]
pub struct Files {
    project: PathBuf,
    readable: Vec<PathBuf>,
}

impl Files {
    /// Scripts read and write below `project`, and read below each of `readable`.
    pub fn new(project: &Path, readable: &[PathBuf]) -> Result<Self> {
        let project = project.canonicalize().map_err(|error| {
            Error::input(format!("the project folder `{}` cannot be opened: {error}", project.display()))
        })?;
        let readable = readable.iter().filter_map(|path| project.join(path).canonicalize().ok()).collect();
        Ok(Files { project, readable })
    }

    /// Maps a file into memory for reading. It must not be changed meanwhile, which researchers' data files are not.
    pub fn map(&self, path: &str) -> Result<Mmap> {
        let file = File::open(self.resolve(path)?)?;
        // SAFETY: the map is only read; a file that shrinks under it would end the process, as with every mapped file.
        unsafe { Mmap::map(&file) }.map_err(|error| Error::environment(format!("`{path}` cannot be read: {error}")))
    }

    /// Reads a text file.
    pub fn read_text(&self, path: &str) -> Result<String> {
        let bytes = std::fs::read(self.resolve(path)?)?;
        String::from_utf8(bytes).map_err(|error| Error::input(format!("`{path}` is no UTF-8 text: {error}")))
    }

    /// The real path of an existing file that may be read.
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        let found = self.project.join(path).canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let folder = self.project.join(path).parent().map(Path::to_path_buf).unwrap_or_default();
                let missing = Error::input(format!("there is no file `{path}`"));
                match nearest_name(&folder, path) {
                    Some(name) => missing.with_help(format!("did you mean `{name}`?")),
                    None => {
                        missing.with_help(format!("write the path from the project folder {}", self.project.display()))
                    }
                }
            }
            _ => Error::environment(format!("`{path}` cannot be opened: {error}")),
        })?;
        let allowed = found.starts_with(&self.project) || self.readable.iter().any(|root| found.starts_with(root));
        if !allowed {
            return Err(Error::input(format!("`{path}` lies outside the project folder"))
                .with_help("allow it with `--read FOLDER`, or give the path itself with `--set`"));
        }
        Ok(found)
    }

    /// A path below the project to which a script may write; folders on the way are made.
    pub fn writable(&self, path: &str) -> Result<PathBuf> {
        let relative = Path::new(path);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let target = self.project.join(relative);
        if !inside {
            return Err(Error::input(format!("`{path}` does not stay in the project folder"))
                .with_help("write a path without `..` below the project folder"));
        }
        let folder = target.parent().unwrap_or(&self.project);
        std::fs::create_dir_all(folder)?;
        // A link on the way could lead out.
        if !folder.canonicalize()?.starts_with(&self.project) {
            return Err(Error::input(format!("`{path}` leads out of the project folder through a link")));
        }
        Ok(target)
    }
}

fn nearest_name(folder: &Path, path: &str) -> Option<String> {
    let wanted = Path::new(path).file_name()?.to_string_lossy().into_owned();
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let name = crate::error::nearest(&wanted, names.iter().map(String::as_str))?;
    Some(Path::new(path).with_file_name(name).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_cannot_leave_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        std::fs::create_dir(&project).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path(), project.join("link")).unwrap();
        let files = Files::new(&project, &[]).unwrap();
        for path in ["../secret", "link/secret", "/etc/passwd"] {
            assert!(files.resolve(path).unwrap_err().message.contains("outside the project"), "{path}");
        }
        for path in ["../out", "/tmp/out", "link/out"] {
            assert!(files.writable(path).is_err(), "{path}");
        }
        let named = Files::new(&project, &[PathBuf::from("../secret")]).unwrap();
        assert_eq!(named.read_text("../secret").unwrap(), "x");
    }

    #[test]
    fn a_missing_file_names_its_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), "").unwrap();
        let files = Files::new(folder.path(), &[]).unwrap();
        assert_eq!(files.resolve("row.jsonl").unwrap_err().help.as_deref(), Some("did you mean `rows.jsonl`?"));
    }
}
