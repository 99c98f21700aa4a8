//! Plain types and pure functions: no files, no clock, no threads of control.
