//! Task arithmetic (Ilharco et al. 2023): multiples of differences of weights, added to a model.

use super::direction::{add_multiple, dot, norm};
use crate::ensure;
use crate::error::Result;
use crate::model::weights::Weights;

/// A difference of weights and how much of it is added: the change of a fine-tuning with what it started from, or, for
/// contrastive steering, a model with a trait and one with its opposite.
#[derive(Clone, Copy, Debug)]
pub struct TaskVector<'a> {
    /// How much.
    pub factor: f64,
    /// To here.
    pub to: &'a Weights,
    /// From here.
    pub from: &'a Weights,
}

/// `weights` plus these vectors.
///
/// # Errors
/// Models of different shapes, a factor that is no number.
pub fn steer_weights(weights: &Weights, vectors: &[TaskVector]) -> Result<Weights> {
    let mut steered = weights.clone();
    for TaskVector { factor, to, from } in vectors {
        ensure!(factor.is_finite(), "a factor of weights is {factor}");
        check_shapes(weights, to)?;
        check_shapes(weights, from)?;
        if *factor != 0.0 {
            add_multiple(&mut steered.values, *factor, &difference(to, from));
        }
    }
    Ok(steered)
}

/// Cosine of two differences of weights: what a fine-tuning has in common with a vector. 0 where one has no length.
///
/// # Errors
/// Models of different shapes.
pub fn cosine_of_changes(one: TaskVector, other: TaskVector) -> Result<f64> {
    for weights in [one.from, other.to, other.from] {
        check_shapes(one.to, weights)?;
    }
    let (one, other) = (difference(one.to, one.from), difference(other.to, other.from));
    let lengths = norm(&one) * norm(&other);
    Ok(if lengths > 0.0 { dot(&one, &other) / lengths } else { 0.0 })
}

fn difference(to: &Weights, from: &Weights) -> Vec<f32> {
    to.values.iter().zip(&from.values).map(|(to, from)| to - from).collect()
}

fn check_shapes(one: &Weights, other: &Weights) -> Result<()> {
    ensure!(
        one.config == other.config, "weights of models of different shapes cannot be added";
        help: "use models that were fine-tuned from one base"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn vectors_add_up() {
        let [start, one, other] = [1, 2, 3].map(|seed| Weights::initial(&tiny(), seed).unwrap());
        let vector = |factor, to, from| TaskVector { factor, to, from };
        assert_eq!(steer_weights(&start, &[vector(0.0, &one, &other)]).unwrap(), start);
        let arrived = steer_weights(&start, &[vector(1.0, &one, &start)]).unwrap();
        let near = |a: &Weights, b: &Weights| a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&arrived, &one));
        let back = steer_weights(&arrived, &[vector(2.0, &one, &other), vector(-2.0, &one, &other)]).unwrap();
        assert!(near(&back, &one));
        let same = cosine_of_changes(vector(1.0, &one, &start), vector(1.0, &one, &start)).unwrap();
        let opposite = cosine_of_changes(vector(1.0, &one, &start), vector(1.0, &start, &one)).unwrap();
        assert!((same - 1.0).abs() < 1e-9 && (opposite + 1.0).abs() < 1e-9);
        let wider = Weights::initial(&crate::model::config::Config { width: 48, ..tiny() }, 1).unwrap();
        assert!(steer_weights(&start, &[vector(1.0, &wider, &start)]).is_err());
    }
}
