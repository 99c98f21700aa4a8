//! Which files of a repository a checkpoint needs; pickles are none of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::repository::is_hexadecimal;
use crate::ensure;
use crate::error::{Error, Result};

/// Files without which nothing can be loaded.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that not every repository has.
pub(super) const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
/// Weights that are not cut into shards.
const WHOLE: &str = "model.safetensors";
/// Which shard has which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// A file of a repository as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What its content gives.
    pub digest: FileDigest,
}

/// How the content of a file is known; the digits are its name in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDigest {
    /// SHA-256, of large files.
    Sha256(String),
    /// SHA-1 as git makes it, of small ones.
    Git(String),
}

impl FileDigest {
    /// Its digits.
    pub fn digits(&self) -> &str {
        match self {
            FileDigest::Sha256(digits) | FileDigest::Git(digits) => digits,
        }
    }
}

/// What the hub says about a repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// The commit that the revision means.
    pub commit: String,
    /// All files, by path.
    pub files: BTreeMap<String, ListedFile>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the answer of `/api/models/ID/revision/REVISION?blobs=true`; none where it is not the hub's.
    pub fn read(body: &[u8]) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let listed = |sibling: Sibling| {
            let (bytes, digest) = match (sibling.lfs, sibling.size, sibling.blob_id) {
                (Some(large), _, _) => (large.size, FileDigest::Sha256(large.sha256)),
                (None, Some(size), Some(id)) => (size, FileDigest::Git(id)),
                _ => return None,
            };
            let lengths = if matches!(digest, FileDigest::Sha256(_)) { 64 } else { 40 };
            // The digits become a path in the cache.
            let is_sound = digest.digits().len() == lengths && is_hexadecimal(digest.digits());
            is_sound.then_some((sibling.rfilename.clone(), ListedFile { path: sibling.rfilename, bytes, digest }))
        };
        let files = answer.siblings.into_iter().map(listed).collect::<Option<_>>()?;
        super::repository::is_commit(&answer.sha).then_some(Listing { commit: answer.sha, files })
    }

    /// The small files that a checkpoint needs.
    ///
    /// # Errors
    /// A repository that holds no checkpoint that can be read here.
    pub fn small(&self) -> Result<Vec<&ListedFile>> {
        let has = |name: &str| self.files.contains_key(name);
        let lacking = |name: &str| Error::input(format!("the repository has no `{name}`"));
        if !has("config.json") {
            return Err(
                lacking("config.json").with_help("name a repository of a model, not of an adapter or of GGUF files")
            );
        }
        if !has("tokenizer.json") {
            return Err(lacking("tokenizer.json").with_help(
                "convert its tokenizer with transformers (`AutoTokenizer.from_pretrained(ID).save_pretrained(FOLDER)`), \
                 beside the weights, and name the folder",
            ));
        }
        if !has(WHOLE) && !has(INDEX) {
            let pickles = self.files.keys().any(|path| path.ends_with(".bin") || path.ends_with(".pth"));
            let found = if pickles { ", only pickles, which can run code when they are read" } else { "" };
            return Err(Error::input(format!("the repository has no weights in safetensors{found}"))
                .with_help("name a repository or revision with `model.safetensors` or its shards"));
        }
        let index = (!has(WHOLE)).then_some(INDEX);
        let wanted = NEEDED.iter().chain(&OPTIONAL).copied().chain(index);
        Ok(wanted.filter_map(|name| self.files.get(name)).collect())
    }

    /// The files of its weights; `index` is the content of the index where it is at hand, else shards are known by
    /// their names.
    ///
    /// # Errors
    /// An index that names what is not there.
    pub fn weights(&self, index: Option<&str>) -> Result<Vec<&ListedFile>> {
        if let Some(whole) = self.files.get(WHOLE) {
            return Ok(vec![whole]);
        }
        let Some(index) = index else {
            let is_shard = |path: &str| path.starts_with("model-") && path.ends_with(".safetensors");
            return Ok(self.files.values().filter(|file| is_shard(&file.path)).collect());
        };
        let of_shard = |shard: &String| {
            self.files.get(shard).ok_or_else(|| Error::input(format!("`{INDEX}` names `{shard}`, which is not there")))
        };
        shards(index)?.iter().map(of_shard).collect()
    }
}

/// The shards that an index names.
fn shards(index: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index =
        serde_json::from_str(index).map_err(|error| Error::input(format!("`{INDEX}` cannot be read: {error}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    for shard in &shards {
        ensure!(
            !shard.contains('/') && shard.ends_with(".safetensors"),
            "`{INDEX}` names `{}`, which is no safetensors file beside it",
            shard
        );
    }
    Ok(shards)
}

/// The first file that a snapshot lacks, told by what it has; none for a whole one.
pub(super) fn first_lacking(has: impl Fn(&str) -> bool, read_index: impl Fn() -> Option<String>) -> Option<String> {
    if let Some(name) = NEEDED.iter().find(|name| !has(name)) {
        return Some(name.to_string());
    }
    if has(WHOLE) {
        return None;
    }
    let Some(shards) = read_index().and_then(|index| shards(&index).ok()) else { return Some(WHOLE.to_string()) };
    shards.into_iter().find(|shard| !has(shard))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing(files: &[&str]) -> Listing {
        let small = |path: &&str| json!({ "rfilename": path, "size": 3, "blobId": "a".repeat(40) });
        let siblings: Vec<_> = files.iter().map(small).collect();
        let body = json!({ "sha": "c".repeat(40), "siblings": siblings, "gated": false }).to_string();
        Listing::read(body.as_bytes()).unwrap()
    }

    fn paths(files: Vec<&ListedFile>) -> Vec<&str> {
        files.into_iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn what_is_needed_is_named_and_nothing_else_is() {
        let both = listing(&["README.md", "config.json", "tokenizer.json", "pytorch_model.bin", "model.safetensors"]);
        assert_eq!(paths(both.small().unwrap()), ["config.json", "tokenizer.json"]);
        assert_eq!(paths(both.weights(None).unwrap()), ["model.safetensors"]);
        let files =
            ["config.json", "tokenizer.json", INDEX, "model-1.safetensors", "model-2.safetensors", "x.safetensors"];
        let cut = listing(&files);
        assert_eq!(paths(cut.small().unwrap()), ["config.json", "tokenizer.json", INDEX]);
        assert_eq!(paths(cut.weights(None).unwrap()), ["model-1.safetensors", "model-2.safetensors"]);
        let index = |shard: &str| json!({ "weight_map": { "a": "model-2.safetensors", "b": shard } }).to_string();
        assert_eq!(
            paths(cut.weights(Some(&index("x.safetensors"))).unwrap()),
            ["model-2.safetensors", "x.safetensors"]
        );
        for wrong in ["../x.safetensors", "x.bin", "model-3.safetensors"] {
            assert!(cut.weights(Some(&index(wrong))).is_err(), "{wrong}");
        }
        for without in
            [&["tokenizer.json", WHOLE][..], &["config.json", WHOLE], &["config.json", "tokenizer.json", "a.bin"]]
        {
            assert!(listing(without).small().unwrap_err().help.is_some());
        }
    }

    #[test]
    fn a_snapshot_is_whole_with_its_shards() {
        let index = r#"{ "weight_map": { "a": "model-1.safetensors", "b": "model-2.safetensors" } }"#;
        let lacking = |has: &[&str]| {
            first_lacking(|name| has.contains(&name), || has.contains(&INDEX).then(|| index.to_string()))
        };
        let small = ["config.json", "tokenizer.json"];
        assert_eq!(lacking(&small[..1]).as_deref(), Some("tokenizer.json"));
        assert_eq!(lacking(&small).as_deref(), Some(WHOLE));
        assert_eq!(lacking(&[&small[..], &[WHOLE]].concat()), None);
        let cut = [&small[..], &[INDEX, "model-1.safetensors"]].concat();
        assert_eq!(lacking(&cut).as_deref(), Some("model-2.safetensors"));
        assert_eq!(lacking(&[&cut[..], &["model-2.safetensors"]].concat()), None);
    }

    #[test]
    fn an_answer_that_tells_no_digests_is_not_the_hub_s() {
        let commit = "c".repeat(40);
        let read = |sibling: serde_json::Value| {
            Listing::read(json!({ "sha": commit, "siblings": [sibling] }).to_string().as_bytes())
        };
        let large = json!({ "rfilename": "m", "size": 9, "blobId": "a".repeat(40), "lfs": { "sha256": "b".repeat(64), "size": 9, "pointerSize": 1 } });
        assert_eq!(read(large).unwrap().files["m"].digest, FileDigest::Sha256("b".repeat(64)));
        assert_eq!(read(json!({ "rfilename": "m" })), None);
        assert_eq!(read(json!({ "rfilename": "m", "size": 1, "blobId": "../../../etc/passwd" })), None);
        assert_eq!(Listing::read(br#"{ "sha": "main", "siblings": [] }"#), None);
    }
}
