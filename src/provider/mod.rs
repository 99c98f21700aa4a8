//! Models behind an API: one door to every provider, exactly one launch of what is paid for.

pub mod ask_many;
pub mod budget;
pub mod capability;
pub mod chat;
pub mod endpoint;
pub mod fault;
pub mod forecast;
pub mod id;
pub mod limit;
#[cfg(test)]
mod loopback;
pub mod models;
pub mod money;
pub mod price;
pub mod replay;
pub mod secret;
pub mod settings;
pub mod tokens;
pub mod wire;
