//! The objects of the protocol as they travel: what is missing has a default, what is new does no harm.

pub mod batch;
pub mod chat;
pub mod file;
pub mod job;
pub mod model;

use serde::Deserialize;

/// One page of a list, newest first unless said otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    /// What is on the page.
    #[serde(default = "Vec::new")]
    pub data: Vec<T>,
    /// Whether another page follows.
    #[serde(default)]
    pub has_more: bool,
}
