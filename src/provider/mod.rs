//! Models behind an API: one door to every provider, exactly one launch of what is paid for.

pub mod adopt;
pub mod ask_many;
pub mod batch;
pub mod budget;
pub mod capability;
pub mod chat;
pub mod curve;
pub mod endpoint;
pub mod failure;
pub mod fault;
pub mod follow;
pub mod forecast;
pub mod hub;
pub mod hyperparameters;
pub mod id;
pub mod jobs;
pub mod launch;
pub mod limit;
#[cfg(test)]
mod loopback;
pub mod models;
pub mod money;
pub mod price;
pub mod replay;
pub mod rows;
pub mod secret;
pub mod settings;
pub mod sha256;
pub mod tokens;
pub mod wire;
