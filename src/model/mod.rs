//! Networks: tokenizer, chat format, forward, backward and sampling.

pub mod alternatives;
mod attention;
pub mod backward;
pub mod batch;
pub mod chat;
pub mod config;
pub mod decoder;
pub mod divergence;
pub mod forward;
pub mod head;
pub mod kernels;
pub mod likelihood;
pub mod sample;
pub mod template;
pub mod surprise;
pub mod tokenizer;
pub mod weights;
