//! Models behind an API: one door to every provider, exactly one launch of what is paid for.

pub mod endpoint;
pub mod fault;
pub mod id;
pub mod secret;
pub mod settings;
pub mod wire;
