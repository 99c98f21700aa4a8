//! One training loop, its schedule, its optimizer and its objectives.

pub mod batch;
pub mod checkpoint;
pub mod coherence;
pub mod fit;
pub mod guard;
pub mod lora;
pub mod memory;
pub mod objective;
pub mod optimizer;
pub mod options;
pub mod passes;
pub mod peft;
pub mod plane;
pub mod read_back;
pub mod schedule;
pub mod trainable;
pub mod training;

pub use fit::{Method, Options, Reading, Step, Trained, Training, Watch, fit, go_on, train};
pub use lora::{AdapterOptions, FirstFactor, Lora};
pub use objective::Objective;
