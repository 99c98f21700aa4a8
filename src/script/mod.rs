//! Rhai and nothing about experiments: declarations, checks, imports, errors, manual.
