//! Names of repositories: `owner/name`, with `@revision` where it is not the main branch that is meant.

use std::fmt;

use crate::ensure;
use crate::error::Result;

/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// Letters that an owner or a name may have.
const LONGEST: usize = 96;

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
    revision: String,
}

impl Repository {
    /// Reads `owner/name` or `owner/name@revision`; none for a text of another shape, which is a path.
    ///
    /// # Errors
    /// A revision that can be none.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
        let Some((owner, name)) = id.split_once('/').filter(|(owner, name)| is_name(owner) && is_name(name)) else {
            return Ok(None);
        };
        let revision = revision.unwrap_or(MAIN);
        // It becomes a path in the cache.
        let is_sound = |part: &str| {
            !part.is_empty()
                && part != "."
                && !part.contains("..")
                && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\~^:?*[".contains(&byte))
        };
        ensure!(
            revision.split('/').all(is_sound),
            "`{text}` names no revision";
            help: "write `{id}@REVISION` with a branch, a tag or a commit, or leave `@` out"
        );
        Ok(Some(Repository { owner: owner.to_string(), name: name.to_string(), revision: revision.to_string() }))
    }

    /// `owner/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
    /// The name without its owner.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }
    /// The name of its folder in the cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision == MAIN {
            true => write!(f, "{}/{}", self.owner, self.name),
            false => write!(f, "{}/{}@{}", self.owner, self.name, self.revision),
        }
    }
}

/// Whether a text is the whole number of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hexadecimal(text)
}

/// Whether a text is a number in lower-case hexadecimal digits.
pub(super) fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As the hub allows owners and names.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_owner_and_a_name() {
        let read = |text: &str| Repository::parse(text).unwrap().map(|found| found.to_string());
        for id in ["Qwen/Qwen2.5-0.5B-Instruct", "a/b", "a/b@v1.0", "a/b@refs/pr/3"] {
            assert_eq!(read(id).as_deref(), Some(id));
        }
        assert_eq!(read("a/b@main").as_deref(), Some("a/b"));
        for path in ["gpt2", "./a/b", "/a/b", "../a", "a/b/c", "a/..", "a/.b", "a/", "a--b/c", "a/b c", "", "a b/c@d"] {
            assert_eq!(read(path), None, "{path}");
        }
        for wrong in ["a/b@", "a/b@../x", "a/b@x//y", "a/b@x y", "a/b@/x"] {
            assert!(Repository::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Repository::parse("a/b").unwrap().unwrap().folder(), "models--a--b");
    }
}
