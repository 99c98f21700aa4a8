//! The distribution of a judge's first answer token, as far as the endpoint lists it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Tokens that are looked at: what OpenAI lists at most. Endpoints that list more are cut to the same, so that their
/// scores mean the same.
pub const MOST_TOKENS: usize = 20;
/// Log-probability by which OpenAI says "very unlikely"; it is a mark and no measurement.
const VERY_UNLIKELY: f64 = -9999.0;
/// By how much rounded probabilities may add to more than 1.
const ROUNDING: f64 = 0.01;

/// Token texts and their probabilities, the most probable first; equal texts are one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FirstToken {
    tokens: Vec<(String, f64)>,
    smallest: Option<f64>,
}

impl FirstToken {
    /// Reads what the endpoint lists for the place of the first token: text and natural logarithm of its probability.
    ///
    /// * What is marked as very unlikely (-9999.0) counts as not listed.
    /// * The 20 most probable are kept.
    /// * Different tokens of equal text: their probabilities add.
    ///
    /// Values that are no log-probabilities (above 0, adding to more than 1, not a number) are an error: some servers
    /// list raw scores, from which no rating can be computed.
    pub fn new<T: Into<String>>(listed: impl IntoIterator<Item = (T, f64)>) -> Result<Self> {
        let mut entries: Vec<(String, f64)> = listed.into_iter().map(|(token, value)| (token.into(), value)).collect();
        if let Some((token, _)) = entries.iter().find(|(_, logprob)| logprob.is_nan()) {
            return Err(unusable(format!("the log-probability of `{token}` is not a number")));
        }
        entries.retain(|(_, logprob)| *logprob > VERY_UNLIKELY);
        // Equal probabilities are ordered by text, so that the order of the list decides nothing.
        entries.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        entries.truncate(MOST_TOKENS);
        let smallest = entries.last().map(|(_, logprob)| logprob.exp());
        let mut merged: BTreeMap<String, f64> = BTreeMap::new();
        for (token, logprob) in entries {
            *merged.entry(token).or_default() += logprob.exp();
        }
        let mut tokens: Vec<(String, f64)> = merged.into_iter().collect();
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let found = FirstToken { tokens, smallest };
        let covered = found.covered_mass();
        if covered > 1.0 + ROUNDING {
            return Err(unusable(format!("its probabilities add to {covered:.3}")));
        }
        Ok(found)
    }

    /// Tokens and probabilities, the most probable first.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, f64)> {
        self.tokens.iter().map(|(token, probability)| (token.as_str(), *probability))
    }

    /// Probability of exactly this text, 0 when it is not listed.
    pub fn probability(&self, token: &str) -> f64 {
        self.tokens().find(|(found, _)| *found == token).map_or(0.0, |(_, probability)| probability)
    }

    /// Probability of all listed tokens together.
    pub fn covered_mass(&self) -> f64 {
        self.tokens().map(|(_, probability)| probability).sum()
    }

    /// The most probable text; none when nothing is listed.
    pub fn most_probable(&self) -> Option<&str> {
        self.tokens.first().map(|(token, _)| token.as_str())
    }

    /// Probability that each token which is not listed has at most: that of the last listed one.
    pub fn most_of_unlisted(&self) -> f64 {
        self.smallest.unwrap_or(1.0)
    }

    /// Whether nothing is listed, as with endpoints that know no log-probabilities.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// The endpoint's list cannot be used at all.
fn unusable(what: String) -> Error {
    Error::experiment(format!("the judge's endpoint does not list log-probabilities: {what}"))
        .with_help("choose `method: \"sampled\"` for this judge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_add_and_very_unlikely_is_not_listed() {
        let first =
            FirstToken::new([("50", 0.25f64.ln()), ("I", -9999.0), ("50", 0.25f64.ln()), ("7", 0.3f64.ln())]).unwrap();
        let tokens: Vec<_> = first.tokens().map(|(token, _)| token).collect();
        assert_eq!(tokens, ["50", "7"]);
        assert!((first.probability("50") - 0.5).abs() < 1e-15);
        assert!((first.covered_mass() - 0.8).abs() < 1e-15);
        assert!((first.most_of_unlisted() - 0.25).abs() < 1e-15, "each of the two `50` was listed with a quarter");
        assert_eq!(first.probability("I"), 0.0);
    }

    #[test]
    fn the_twenty_most_probable_count_whatever_else_is_listed() {
        let listed: Vec<(String, f64)> = (0..30).map(|index| (format!("{index}"), -0.5 * f64::from(index))).collect();
        // exp(0) alone is 1: make room below it.
        let listed = listed.into_iter().map(|(token, logprob)| (token, logprob - 1.0));
        let first = FirstToken::new(listed).unwrap();
        assert_eq!(first.tokens().count(), 20);
        assert_eq!(first.probability("20"), 0.0);
        assert!(first.probability("19") > 0.0);
    }

    #[test]
    fn raw_scores_are_not_taken_for_log_probabilities() {
        for listed in [vec![("85", 12.5)], vec![("85", f64::NAN)], vec![("85", 0.0), ("90", -0.1)]] {
            let error = FirstToken::new(listed).unwrap_err();
            assert!(error.message.starts_with("the judge's endpoint does not list log-probabilities"), "{error}");
        }
        assert!(FirstToken::new([("85", 1e-4)]).is_ok(), "rounding of single precision is no error");
    }

    #[test]
    fn nothing_listed_covers_nothing() {
        let first = FirstToken::new(Vec::<(String, f64)>::new()).unwrap();
        assert!(first.is_empty() && first.covered_mass() == 0.0 && first.most_probable().is_none());
    }
}
