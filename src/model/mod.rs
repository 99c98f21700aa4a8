//! Networks: tokenizer, chat format, forward, backward and sampling.

pub mod adapter;
pub mod alternatives;
mod attention;
pub mod backward;
pub mod batch;
mod block;
pub mod chat;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod device;
pub mod divergence;
mod draft;
mod draw;
pub mod format;
pub mod forward;
pub mod head;
mod hugging_face;
pub mod kernels;
pub mod layout;
pub mod likelihood;
pub mod persona;
pub mod processor;
mod reading;
mod rotary;
pub mod sample;
pub mod sample_shared;
pub mod share;
pub mod states;
pub mod tap;
pub mod template;
pub mod tokenizer;
pub mod variant;
pub mod weights;

#[cfg(test)]
mod gradient_tests;
