//! One file per function that scripts can call.
