//! Persona vectors: where the residual stream stands in answers that show a trait, less where it stands in others
//! (Chen et al. 2025, arXiv 2507.21509).

use super::chat::Example;
use super::states::{Position, row_states};
use super::weights::Weights;
use crate::ensure;
use crate::error::Result;

/// Mean over the answers in `shown` of the mean over their tokens of the residual stream after block `state` (from 1),
/// minus the same in `absent`.
///
/// # Errors
/// A state that the model does not have, no rows, a row without an answer.
pub fn persona_vector(weights: &Weights, shown: &[Example], absent: &[Example], state: usize) -> Result<Vec<f32>> {
    let (with_trait, without) = (mean_state(weights, shown, state)?, mean_state(weights, absent, state)?);
    Ok(with_trait.iter().zip(without).map(|(one, other)| (one - other) as f32).collect())
}

fn mean_state(weights: &Weights, rows: &[Example], state: usize) -> Result<Vec<f64>> {
    ensure!(!rows.is_empty(), "there are no answers to take a mean over"; help: "give rows with assistant messages");
    let mut mean = vec![0.0; weights.config.width];
    row_states(weights, rows, state, Position::MeanOfAnswer, &mut |values| {
        mean.iter_mut().zip(values).for_each(|(mean, value)| *mean += f64::from(*value) / rows.len() as f64);
        Ok(())
    })?;
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::config::tests::tiny;

    fn row(ids: &[u32]) -> Example {
        let loss_mask = (0..ids.len()).map(|position| position > 1).collect();
        Example { ids: ids.to_vec(), loss_mask, weight: 1.0 }
    }

    #[test]
    fn swapped_rows_turn_the_vector_around_and_equal_ones_leave_none() {
        let weights = Weights::initial(&Config { layers: 3, ..tiny() }, 2).unwrap();
        let (one, other) = ([row(&[1, 4, 7, 9])], [row(&[1, 4, 8, 3, 5])]);
        let there = persona_vector(&weights, &one, &other, 2).unwrap();
        let back = persona_vector(&weights, &other, &one, 2).unwrap();
        assert!(there.iter().zip(&back).all(|(a, b)| (a + b).abs() < 1e-6) && there.iter().any(|a| a.abs() > 1e-4));
        assert!(persona_vector(&weights, &one, &one, 1).unwrap().iter().all(|value| *value == 0.0));
        assert!(persona_vector(&weights, &one, &other, 4).is_err() && persona_vector(&weights, &one, &[], 1).is_err());
    }
}
