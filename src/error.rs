//! The one error type: a message in the user's words, its kind, and what to do about it.

use std::fmt;

/// What went wrong, decides the exit code and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The script, an option or a data file is wrong: the user can mend it. Exit code 2.
    Input,
    /// The machine failed: disk, permission, network. Exit code 1.
    Environment,
    /// The budget would be passed. Exit code 3.
    Budget,
    /// Somebody asked to stop. Exit code 130.
    Interrupted,
    /// The experiment itself failed (a loss became NaN, a job failed). Exit code 1.
    Experiment,
    /// Only a plan was asked for, and this value would have to be computed. Exit code 1.
    NotRun,
    /// An invariant of ours does not hold. Exit code 1.
    Internal,
}

/// A failure: lower case message with the user's own words in backticks and no full stop; `help` starts with a verb.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What kind of failure this is.
    pub kind: Kind,
    /// What was wrong and what was found.
    pub message: String,
    /// What to do, when there is something to do.
    pub help: Option<String>,
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the given kind without help.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), help: None }
    }
    /// The user's script, option or file is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }
    /// The machine failed.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }
    /// An invariant of ours is broken.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
    /// The experiment failed.
    pub fn experiment(message: impl Into<String>) -> Self {
        Self::new(Kind::Experiment, message)
    }
    /// Adds what to do about it.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Puts the circumstance in front: `<circumstance>: <message>`.
    pub fn context(mut self, circumstance: impl fmt::Display) -> Self {
        self.message = format!("{circumstance}: {}", self.message);
        self
    }
    /// Exit code of the process that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Input => 2,
            Kind::Budget => 3,
            Kind::Interrupted => 130,
            Kind::Environment | Kind::Experiment | Kind::NotRun | Kind::Internal => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::environment(error.to_string())
    }
}

/// Returns early with an input error: `bail!("message {x}")` or `bail!("message"; help: "do that")`.
#[macro_export]
macro_rules! bail {
    ($message:literal $(, $arg:expr)* ; help: $help:literal $(, $help_arg:expr)* $(,)?) => {
        return Err($crate::error::Error::input(format!($message $(, $arg)*)).with_help(format!($help $(, $help_arg)*)))
    };
    ($message:literal $(, $arg:expr)* $(,)?) => {
        return Err($crate::error::Error::input(format!($message $(, $arg)*)))
    };
}

/// `bail!` unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($rest:tt)+) => {
        // Named, so that a comparison with NaN reads as what it is: a condition that does not hold.
        let holds: bool = $condition;
        if !holds {
            $crate::bail!($($rest)+);
        }
    };
}

pub use crate::{bail, ensure};

/// The candidate nearest to `word`, when it is near enough to be what was meant (Damerau-Levenshtein, at most 3 and
/// less than half of the word's length).
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= 3 && 2 * distance < word.chars().count().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_typo_and_no_stranger() {
        assert_eq!(nearest("rato", ["ratio", "rows"]), Some("ratio"));
        assert_eq!(nearest("temperature", ["ratio", "rows"]), None);
    }

    #[test]
    fn help_follows_the_message() {
        let error = Error::input("`rows` is int, found string").with_help("write a number");
        assert_eq!(error.to_string(), "`rows` is int, found string\nhelp: write a number");
    }
}
