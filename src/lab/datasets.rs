//! The datasets of a run, by what they hold.

use std::collections::HashSet;
use std::sync::Arc;

use super::Lab;
use crate::data::dataset::Dataset;
use crate::data::digest::Digest;
use crate::data::overlap::said_by_users;
use crate::error::{Error, Result};

impl Lab {
    /// Makes a dataset findable by its digest for the calls that need its rows later.
    pub fn keep_dataset(&self, dataset: &Dataset) {
        let mut kept = self.inner.datasets.lock().expect("no panic while holding the datasets");
        kept.insert(dataset.digest(), dataset.clone());
    }

    /// A dataset that was kept in this run.
    pub fn dataset(&self, digest: Digest) -> Result<Dataset> {
        let kept = self.inner.datasets.lock().expect("no panic while holding the datasets");
        kept.get(&digest)
            .cloned()
            .ok_or_else(|| Error::internal(format!("the dataset {} was not kept", digest.short())))
    }

    /// What users say in a dataset that was kept, as [`text_mark`](crate::data::overlap::text_mark) has it; found out once.
    pub fn said_by_users(&self, digest: Digest) -> Result<Arc<HashSet<u128>>> {
        let lock = || self.inner.said_by_users.lock().expect("no panic while holding the texts");
        if let Some(known) = lock().get(&digest) {
            return Ok(known.clone());
        }
        let found = Arc::new(said_by_users(&self.dataset(digest)?));
        lock().insert(digest, found.clone());
        Ok(found)
    }
}
