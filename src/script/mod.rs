//! Rhai and nothing about experiments: declarations, checks, imports, errors, manual.
//!
//! A primitive is declared once ([`declaration::Primitive`]); its Rhai binding ([`bind`]), the static check of scripts
//! ([`check`]), its manual ([`manual`]) and its cache key ([`declaration::Call`]) derive from that. [`host::Host`] puts
//! them together.

pub mod bind;
pub mod check;
pub mod declaration;
pub mod describe;
pub mod handle;
pub mod host;
pub mod import;
pub mod infer;
pub mod kind;
pub mod manual;
pub mod parameters;
pub mod place;
pub mod program;
pub mod project;
pub mod registry;
pub mod report;
pub mod shape;
#[cfg(test)]
mod toy;
pub mod vocabulary;
