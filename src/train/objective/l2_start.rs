//! Squared distance of the weights from where training started (L2-SP, Li et al. 2018).

use super::{Penalty, Term};

/// `coefficient` times the squared distance of all values from the start; with adapters, of the merged ones.
pub fn l2_start(coefficient: f64) -> Term {
    Term { name: "l2_start".to_string(), coefficient, penalty: Penalty::Distance }
}

/// The squared distance; adds its gradient times `coefficient` where one is wanted.
pub(crate) fn distance(values: &[f32], start: &[f32], coefficient: f64, gradient: Option<&mut [f32]>) -> f64 {
    if let Some(gradient) = gradient {
        let factor = (2.0 * coefficient) as f32;
        for ((gradient, value), start) in gradient.iter_mut().zip(values).zip(start) {
            *gradient += factor * (value - start);
        }
    }
    let squares = |(value, start): (&f32, &f32)| f64::from(value - start).powi(2);
    values.iter().zip(start).map(squares).sum()
}
