//! The cache of one repository in the layout of `huggingface_hub`: blobs by digest, snapshots of links to them, refs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{INDEX, OPTIONAL, first_lacking};
use super::repository::{Repository, is_commit};

/// The folder of a repository, and that of all locks.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

/// What is there of a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All that a checkpoint needs.
    Whole,
    /// The same, as far as can be told: whether the repository has one of the optional files that are not here is
    /// not known.
    Likely,
    /// Not this file.
    Lacking(String),
}

impl Cache {
    pub fn new(root: &Path, repository: &Repository) -> Self {
        let folder = repository.folder();
        Cache { locks: root.join(".locks").join(&folder), folder: root.join(folder) }
    }

    /// The commit that a revision meant when it was last fetched.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?.trim().to_string();
        is_commit(&commit).then_some(commit)
    }

    /// The folder of a snapshot, there or not.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a snapshot has a file, whole: its link stands only when its content does.
    pub fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// What is there of a snapshot; none where nothing is.
    pub fn look(&self, commit: &str) -> Option<Kept> {
        if !self.snapshot(commit).is_dir() {
            return None;
        }
        let has = |file: &str| self.has(commit, file);
        let read_index = || fs::read_to_string(self.snapshot(commit).join(INDEX)).ok();
        if let Some(file) = first_lacking(has, read_index) {
            return Some(Kept::Lacking(file));
        }
        let listed = self.listed(commit);
        let mut open = OPTIONAL.iter().filter(|file| !self.has(commit, file) && !self.is_absent(commit, file));
        let Some(listed) = listed else { return Some(if open.next().is_none() { Kept::Whole } else { Kept::Likely }) };
        Some(open.find(|file| listed.contains(**file)).map_or(Kept::Whole, |file| Kept::Lacking(file.to_string())))
    }

    /// All files of a commit, where `huggingface_hub` has written them down.
    fn listed(&self, commit: &str) -> Option<BTreeSet<String>> {
        #[derive(Deserialize)]
        struct Tree {
            files: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
        }
        let text = fs::read(self.folder.join("trees").join(format!("{commit}.json"))).ok()?;
        let tree: Tree = serde_json::from_slice(&text).ok()?;
        Some(tree.files.into_keys().collect())
    }

    fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.folder.join(".no_exist").join(commit).join(file).exists()
    }

    /// Notes, as `huggingface_hub` does, that a commit has no such file, so that nobody asks again.
    pub fn mark_absent(&self, commit: &str, file: &str) -> io::Result<()> {
        let place = self.folder.join(".no_exist").join(commit);
        fs::create_dir_all(&place)?;
        File::create(place.join(file)).map(drop)
    }

    /// Notes which commit a revision means.
    pub fn set_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let place = self.folder.join("refs").join(revision);
        fs::create_dir_all(place.parent().unwrap_or(&self.folder))?;
        let temporary = place.with_file_name(format!(".{}.tmp", std::process::id()));
        fs::write(&temporary, commit)?;
        fs::rename(temporary, place)
    }

    /// Where a blob stands when it is whole, and where it grows until then.
    pub fn blob(&self, digits: &str) -> (PathBuf, PathBuf) {
        let blobs = self.folder.join("blobs");
        (blobs.join(digits), blobs.join(format!("{digits}.incomplete")))
    }

    /// Makes the folders of blobs and of a snapshot.
    pub fn prepare(&self, commit: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder.join("blobs"))?;
        fs::create_dir_all(self.snapshot(commit))
    }

    /// Lets a file of a snapshot be this blob.
    pub fn link(&self, commit: &str, file: &str, digits: &str) -> io::Result<()> {
        let place = self.snapshot(commit).join(file);
        // A link that leads nowhere, from a cache that was cleaned by hand, makes room.
        if place.symlink_metadata().is_ok() {
            fs::remove_file(&place)?;
        }
        match std::os::unix::fs::symlink(Path::new("../../blobs").join(digits), &place) {
            // Somebody else was faster, with the same content.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// The file whose lock says who downloads a blob, the same one that `huggingface_hub` locks.
    pub fn lock_file(&self, digits: &str) -> io::Result<File> {
        fs::create_dir_all(&self.locks)?;
        File::options().create(true).append(true).open(self.locks.join(format!("{digits}.lock")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_whole_when_nothing_is_left_to_ask() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::parse("a/b").unwrap().unwrap();
        let (cache, commit) = (Cache::new(root.path(), &repository), "c".repeat(40));
        assert_eq!((cache.commit("main"), cache.look(&commit)), (None, None));
        cache.prepare(&commit).unwrap();
        cache.set_commit("main", &commit).unwrap();
        assert_eq!(cache.commit("main"), Some(commit.clone()));
        let put = |file: &str| {
            fs::write(cache.blob(file).0, "x").unwrap();
            cache.link(&commit, file, file).unwrap();
        };
        for file in ["config.json", "tokenizer.json"] {
            assert_eq!(cache.look(&commit), Some(Kept::Lacking(file.to_string())));
            put(file);
        }
        // A file that is half there is not there.
        fs::write(cache.blob("w").1, "half").unwrap();
        cache.link(&commit, "model.safetensors", "w").unwrap();
        assert_eq!(cache.look(&commit), Some(Kept::Lacking("model.safetensors".to_string())));
        put("model.safetensors");
        assert_eq!(cache.look(&commit), Some(Kept::Likely));
        for file in OPTIONAL {
            cache.mark_absent(&commit, file).unwrap();
        }
        assert_eq!(cache.look(&commit), Some(Kept::Whole));
    }

    #[test]
    fn the_listing_of_python_tells_what_is_left() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::parse("a/b").unwrap().unwrap();
        let (cache, commit) = (Cache::new(root.path(), &repository), "c".repeat(40));
        cache.prepare(&commit).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::write(cache.snapshot(&commit).join(file), "x").unwrap();
        }
        let trees = root.path().join("models--a--b/trees");
        fs::create_dir_all(&trees).unwrap();
        let write = |more: &str| {
            let text = format!(r#"{{ "format_version": 1, "files": {{ "config.json": {{ "size": 1 }}{more} }} }}"#);
            fs::write(trees.join(format!("{commit}.json")), text).unwrap();
        };
        write("");
        assert_eq!(cache.look(&commit), Some(Kept::Whole));
        write(r#", "chat_template.jinja": { "size": 1 }"#);
        assert_eq!(cache.look(&commit), Some(Kept::Lacking("chat_template.jinja".to_string())));
    }
}
