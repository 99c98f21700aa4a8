//! Failing loudly where a run would otherwise end with a result that means nothing.

use super::training::Reading;
use crate::error::{Error, Result};

/// Steps in which a term may do nothing: most are 0 before the first step, by definition.
const PATIENCE: usize = 5;

/// What has been seen of the terms and changes of an objective.
pub struct Guard {
    /// Name, and the factor that is to act.
    watched: Vec<(String, f64)>,
    /// Whether each has had a value, and whether it has had a gradient.
    seen: Vec<(bool, bool)>,
}

impl Guard {
    /// Watches these names; those with a factor of 0 may stay idle.
    pub fn new(watched: Vec<(String, f64)>) -> Self {
        let seen = vec![(false, false); watched.len()];
        Guard { watched, seen }
    }

    /// What is watched.
    pub fn names(&self) -> Vec<String> {
        self.watched.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether each has had a value, and whether it has had a gradient.
    pub fn seen(&self) -> &[(bool, bool)] {
        &self.seen
    }

    /// Goes on from what [`Guard::seen`] told.
    pub fn resume(&mut self, seen: &[(bool, bool)]) {
        self.seen = seen.to_vec();
    }

    /// Looks at the readings after `steps` of `all` steps.
    ///
    /// # Errors
    /// A value that is no number; one that has done nothing for five steps, or in a whole run of fewer.
    pub fn check(&mut self, readings: &[Reading], steps: usize, all: usize) -> Result<()> {
        for ((reading, seen), (name, factor)) in readings.iter().zip(&mut self.seen).zip(&self.watched) {
            if !(reading.value.is_finite() && reading.gradient_norm.is_finite()) {
                let message = format!(
                    "the term `{name}` is {} with gradient norm {} at step {steps} of {all}",
                    reading.value, reading.gradient_norm
                );
                return Err(Error::experiment(message).with_help("lower its coefficient or `learning_rate`"));
            }
            seen.0 |= reading.value != 0.0;
            seen.1 |= reading.gradient_norm != 0.0;
            let late = steps >= PATIENCE || (steps == all && all > 1);
            if *factor == 0.0 || !late || (seen.0 && seen.1) {
                continue;
            }
            let what = if seen.0 { "had no gradient" } else { "stayed 0" };
            let message = format!("the term `{name}` {what} for {steps} steps although its coefficient is {factor}");
            return Err(Error::experiment(message)
                .with_help("look at the rows that it is computed on and at `learning_rate`, or leave the term out"));
        }
        Ok(())
    }
}

/// Refuses a training that has changed nothing.
///
/// # Errors
/// Every value is what it was before the first step.
pub fn check_changed(first: &[f32], last: &[f32], steps: usize) -> Result<()> {
    let same = first.iter().zip(last).all(|(first, last)| first.to_bits() == last.to_bits());
    if steps > 0 && same {
        return Err(Error::experiment(format!("no parameter changed in {steps} steps"))
            .with_help("raise `learning_rate`, or look at whether the rows carry loss"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(value: f64, gradient_norm: f64) -> [Reading; 1] {
        [Reading { name: "kl".to_string(), value, gradient_norm }]
    }

    #[test]
    fn a_term_that_does_nothing_stops_the_run() {
        let guard = |factor| Guard::new(vec![("kl".to_string(), factor)]);
        let mut idle = guard(10.0);
        assert!((1..5).all(|step| idle.check(&reading(0.0, 0.0), step, 100).is_ok()));
        let error = idle.check(&reading(0.0, 0.0), 5, 100).unwrap_err();
        assert!(error.message.starts_with("the term `kl` stayed 0 for 5 steps"), "{error}");
        assert!(guard(10.0).check(&reading(0.0, 0.0), 3, 3).is_err());
        assert!(guard(10.0).check(&reading(0.0, 0.0), 1, 1).is_ok());
        assert!(guard(0.0).check(&reading(0.0, 0.0), 5, 100).is_ok());
        assert!(guard(10.0).check(&reading(3.0, 0.0), 5, 100).unwrap_err().message.contains("had no gradient"));
        assert!(guard(0.0).check(&reading(f64::NAN, 0.0), 1, 100).is_err());
        let mut late = guard(1.0);
        assert!(late.check(&reading(1e-9, 1e-9), 2, 100).is_ok() && late.check(&reading(0.0, 0.0), 9, 100).is_ok());
    }

    #[test]
    fn a_training_that_changes_nothing_fails() {
        assert!(check_changed(&[1.0, 2.0], &[1.0, 2.0], 3).unwrap_err().message.contains("no parameter changed"));
        assert!(check_changed(&[1.0, 2.0], &[1.0, 2.5], 3).is_ok());
        assert!(check_changed(&[1.0], &[1.0], 0).is_ok());
    }
}
