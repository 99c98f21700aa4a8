//! Judges: from a question and an answer to a score or a reason why there is none.
