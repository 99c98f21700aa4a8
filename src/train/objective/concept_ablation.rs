//! Concept ablation (CAFT, Casademunt et al. 2025): directions are taken out of the residual stream during training, and
//! gradients flow through what is left.

use super::stream::StreamEdit;
use crate::error::{Error, Result};
use crate::model::tap::Change;

/// Takes the span of `directions` out after block `state` while the outcome rows are trained.
///
/// # Errors
/// Directions that are no numbers or depend on each other.
pub fn concept_ablation(state: usize, directions: &[Vec<f32>], answers_only: bool) -> Result<StreamEdit> {
    let change = Change::Remove(orthonormal(directions)?);
    Ok(StreamEdit { name: "concept_ablation", state, change, answers_only })
}

/// The same span in orthonormal axes, by Gram-Schmidt in f64.
fn orthonormal(directions: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
    let mut axes: Vec<Vec<f64>> = Vec::with_capacity(directions.len());
    for (index, direction) in directions.iter().enumerate() {
        let mut left: Vec<f64> = direction.iter().map(|value| f64::from(*value)).collect();
        let norm = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
        let whole = norm(&left);
        for _ in 0..2 {
            for axis in &axes {
                let along: f64 = axis.iter().zip(&left).map(|(axis, left)| axis * left).sum();
                left.iter_mut().zip(axis).for_each(|(left, axis)| *left -= along * axis);
            }
        }
        let length = norm(&left);
        if !(length.is_finite() && length > 1e-5 * whole) {
            let message = format!("direction {} of `concept_ablation` adds nothing to those before it", index + 1);
            return Err(Error::input(message).with_help("leave it out"));
        }
        left.iter_mut().for_each(|value| *value /= length);
        axes.push(left);
    }
    Ok(axes.into_iter().map(|axis| axis.into_iter().map(|value| value as f32).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_has_nothing_of_any_direction() {
        let directions = [vec![1.0, 2.0, 0.0, 1.0], vec![1.0, 2.0, 0.5, 1.0]];
        let edit = concept_ablation(1, &directions, false).unwrap();
        let mut row = [3.0, -1.0, 4.0, 1.5];
        edit.change.apply(&mut row);
        for direction in &directions {
            assert!(row.iter().zip(direction).map(|(a, b)| a * b).sum::<f32>().abs() < 1e-5);
        }
        assert!(row.iter().any(|value| value.abs() > 0.1));
        assert!(concept_ablation(1, &[vec![1.0, 0.0], vec![2.0, 0.0]], false).is_err());
    }
}
