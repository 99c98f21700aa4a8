//! Where scripts and libraries come from: the project folder, over the library that travels in the program.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bail;
use crate::error::{Error, Result, nearest};

/// A script or module: its name in messages (its path in the project) and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path from the project folder, as in `scripts/a05b.rhai`.
    pub name: String,
    /// The text.
    pub text: String,
}

impl Source {
    /// A source of this name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source { name: name.into(), text: text.into() }
    }
}

type RealPath = Arc<dyn Fn(&Path) -> io::Result<PathBuf> + Send + Sync>;
type Read = Arc<dyn Fn(&Path) -> io::Result<String> + Send + Sync>;
type List = Arc<dyn Fn(&Path) -> io::Result<Vec<String>> + Send + Sync>;

/// How files are reached.
#[derive(Clone)]
pub struct Files {
    /// The path with every link followed; an error where there is no such file.
    pub real_path: RealPath,
    /// The text of a file.
    pub read: Read,
    /// Names of the files in a folder, sorted.
    pub list: List,
}

impl Files {
    /// The file system.
    pub fn on_disk() -> Self {
        let list = |path: &Path| {
            let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<String>>>()?;
            names.sort();
            Ok(names)
        };
        Files {
            real_path: Arc::new(|path| path.canonicalize()),
            read: Arc::new(|path| std::fs::read_to_string(path)),
            list: Arc::new(list),
        }
    }
}

/// The folder of a project and the library of the program.
#[derive(Clone)]
pub struct Project {
    root: PathBuf,
    embedded: &'static [(&'static str, &'static str)],
    files: Files,
}

/// The folder of the project whose files stand before the embedded library.
pub const LIBRARY: &str = "stdlib";

impl Project {
    /// A project in the folder `root` with this embedded library: names as in `import` (`settings/medical`) and texts.
    pub fn new(root: impl Into<PathBuf>, embedded: &'static [(&'static str, &'static str)], files: Files) -> Self {
        Project { root: root.into(), embedded, files }
    }

    /// The module that `path` means in `import` within the file `importer`: of the library (`stdlib/` of the project,
    /// then embedded), else relative to the importing file; never outside the project folder.
    pub fn find(&self, importer: &str, path: &str) -> Result<Source> {
        if path.starts_with('/') || path.contains('\\') || Path::new(path).is_absolute() {
            bail!("the import path `{path}` is absolute"; help: "write it relative to the importing file");
        }
        let file = if path.ends_with(".rhai") { path.to_string() } else { format!("{path}.rhai") };
        let relative = path.starts_with("./") || path.starts_with("../");
        let folder = importer.rsplit_once('/').map_or("", |(folder, _)| folder);
        let candidates = [(!relative).then(|| format!("{LIBRARY}/{file}")), Some(format!("{folder}/{file}"))];
        for candidate in candidates.into_iter().flatten() {
            let Some(name) = normalize(&candidate) else {
                bail!("the import `{path}` leaves the project folder"; help: "move the file into the project");
            };
            if let Some(text) = self.read(&name, path)? {
                return Ok(Source { name, text });
            }
        }
        let error = Error::input(format!("there is no module `{path}`"));
        Err(match nearest(path, self.embedded.iter().map(|(name, _)| *name)) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!(
                "put `{file}` beside `{importer}` or into `{LIBRARY}/`, or use one of the library: {}",
                self.embedded.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )),
        })
    }

    /// Modules that an import of a computed name may mean: those of the project's own library whose path begins with
    /// `folder`, as in `settings/`.
    pub fn own_modules(&self, folder: &str) -> Vec<String> {
        let Some(place) = normalize(folder).filter(|_| folder.ends_with('/') && !folder.starts_with(['/', '.'])) else {
            return Vec::new();
        };
        let names = (self.files.list)(&self.root.join(LIBRARY).join(place)).unwrap_or_default();
        names.iter().filter_map(|name| Some(format!("{folder}{}", name.strip_suffix(".rhai")?))).collect()
    }

    fn read(&self, name: &str, path: &str) -> Result<Option<String>> {
        if let Ok(file) = (self.files.real_path)(&self.root.join(name)) {
            let root = (self.files.real_path)(&self.root)?;
            if !file.starts_with(&root) {
                bail!("the import `{path}` is a link out of the project folder"; help: "copy the file into the project");
            }
            let text = (self.files.read)(&file).map_err(|error| Error::from(error).context(format!("`{name}`")))?;
            return Ok(Some(text));
        }
        let embedded = name.strip_prefix(LIBRARY).and_then(|name| name.strip_prefix('/'));
        let module = embedded.and_then(|name| name.strip_suffix(".rhai"));
        Ok(self.embedded.iter().find(|(name, _)| Some(*name) == module).map(|(_, text)| (*text).to_string()))
    }
}

/// The path without `.` and `..`; none when it leads above its start.
fn normalize(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
