//! Prints lines, also to a reader that has gone away: a closed pipe is no failure, and what nobody reads is dropped.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody was told that standard output cannot be written.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Prints a line to standard output, which is for data.
pub fn print_line(line: impl Display) {
    let written = writeln!(stdout().lock(), "{line}");
    // The work goes on and its results are in their files; the reader of this has left, or its disk is full.
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        tell_line(format!("error: standard output cannot be written: {error}"));
    }
}

/// Prints a line to standard error, which is for people.
pub fn tell_line(line: impl Display) {
    // There is nobody left to tell that this cannot be written.
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Whether something was to be printed and could not be.
pub fn has_failed() -> bool {
    TOLD.load(Ordering::Relaxed)
}
