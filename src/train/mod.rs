//! One training loop, its schedule, its optimizer and its objectives.

pub mod batch;
pub mod fit;
pub mod lora;
pub mod objective;
pub mod optimizer;
pub mod schedule;

pub use fit::{Method, Options, Step, Trained, fit};
