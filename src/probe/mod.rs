//! Probes on activations: reading files, fitting at the exact optimum, folds, metrics, the audit for leaks.

pub mod audit;
#[cfg(test)]
mod cases;
pub mod classes;
pub mod discriminant;
pub mod estimator;
pub mod folds;
pub mod kept;
pub mod kernel;
pub mod legacy;
pub mod linear;
pub mod logistic;
pub mod matrix;
pub mod means;
pub mod metrics;
pub mod product;
pub mod read;
pub mod saved;
pub mod scaler;
pub mod sparse_logistic;
pub mod synthetic;
pub mod vector;
pub mod write;
