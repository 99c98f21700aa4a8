//! Names that are safe in Inspect's file names and archives, and times as it reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Characters of a name inside a file name at most.
pub(super) const LONGEST_NAME: usize = 80;
/// Characters that a question lends to its id at most.
const LONGEST_QUESTION: usize = 40;
/// The last second that is written with a year of four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// Letters, digits, dots and hyphens of a text, everything else one hyphen: `_` parts the pieces of a file name and `/`
/// the folders of an archive. Empty when nothing is left.
pub(super) fn safe_name(text: &str, longest: usize) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        let kept = letter.is_ascii_alphanumeric() || (letter == '.' && !name.is_empty());
        match kept {
            true => name.push(letter),
            false if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            false => {}
        }
        if name.len() >= longest {
            break;
        }
    }
    name.trim_end_matches(['-', '.']).to_string()
}

/// Id of a question: its number, which makes it unique, and the beginning of its text for people.
pub(super) fn question_id(index: usize, questions: usize, text: &str) -> String {
    let width = questions.to_string().len().max(2);
    let words = safe_name(&text.to_lowercase().replace('.', " "), LONGEST_QUESTION);
    let hyphen = if words.is_empty() { "" } else { "-" };
    format!("q{:0width$}{hyphen}{words}", index + 1)
}

/// ISO 8601 with zone, to the second.
pub(super) fn second(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(writable(time)).to_string().replace('Z', "+00:00")
}

/// ISO 8601 with zone, to the millisecond, as the store keeps times.
pub(super) fn millisecond(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(writable(time)).to_string().replace('Z', "+00:00")
}

/// The nearest time that can be written.
fn writable(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(LAST_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_name_has_nothing_that_parts_names_or_folders() {
        assert_eq!(safe_name("em/first_plot: 8 questions (gate ≥ 50)", 80), "em-first-plot-8-questions-gate-50");
        assert_eq!(safe_name("../../x", 80), "x");
        assert_eq!(safe_name("aaa_bbb", 4), "aaa");
        assert_eq!(safe_name("¿…?", 80), "");
    }

    #[test]
    fn ids_of_questions_differ_where_their_texts_do_not() {
        assert_eq!(question_id(0, 2, "Hey, I'm bored."), "q01-hey-i-m-bored");
        assert_eq!(question_id(1, 2, "Hey, I'm bored."), "q02-hey-i-m-bored");
        assert_eq!(question_id(6, 1000, "¿?"), "q0007");
    }

    #[test]
    fn times_have_a_zone_and_never_fail() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_168_800_250);
        assert_eq!(
            (second(time).as_str(), millisecond(time).as_str()),
            ("2026-11-20T10:00:00+00:00", "2026-11-20T10:00:00.250+00:00")
        );
        assert_eq!(second(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00+00:00");
        assert_eq!(second(UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1)), "9999-12-31T23:59:59+00:00");
    }
}
