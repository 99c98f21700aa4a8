//! Removing from a gradient what points along another: PCGrad (Yu et al. 2020), A-GEM (Chaudhry et al. 2019) and strict
//! projection.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::direction::{add_multiple, dot};
use super::loss::Loss;
use super::{Against, Change};
use crate::model::chat::Example;

/// How far one inner product reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each trained tensor is projected by itself.
    PerTensor,
    /// All trained values are one vector.
    Global,
}

/// When the component is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Always, though that also removes what helps.
    Always,
    /// Only where the two gradients conflict: where their inner product is negative.
    Conflict,
}

/// Which part of a gradient is removed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// How far one inner product reaches.
    pub scope: Scope,
    /// When the component is removed.
    pub when: When,
    /// Share of the component that is removed: 1 leaves nothing of it, 0 changes nothing.
    pub strength: f64,
}

impl Default for Projection {
    fn default() -> Self {
        Projection { scope: Scope::PerTensor, when: When::Always, strength: 1.0 }
    }
}

/// Removes from the gradient what points along that of the cross-entropy of `rows`, anew in every step. With `unwanted`
/// the rows are what is not to be learned, and a conflict is to agree with them.
pub fn grad_project(rows: Vec<Example>, unwanted: bool, projection: Projection) -> Change {
    let sign = if unwanted { -1.0 } else { 1.0 };
    Change::Project { against: Against::Rows { loss: Loss::Sft, rows, sign }, projection }
}

/// The same against one direction, made beforehand.
pub fn grad_project_on(plane: Vec<f32>, projection: Projection) -> Change {
    Change::Project { against: Against::Plane(plane), projection }
}

/// Removes from `gradient` its component along `direction`, which conflicts when their inner product times `sign` is
/// negative; `tensors` are the places of the trained tensors.
pub fn project(gradient: &mut [f32], direction: &[f32], sign: f64, tensors: &[Range<usize>], projection: Projection) {
    let Projection { scope, when, strength } = projection;
    let whole = 0..gradient.len();
    let ranges = if scope == Scope::Global { std::slice::from_ref(&whole) } else { tensors };
    for range in ranges {
        let (gradient, direction) = (&mut gradient[range.clone()], &direction[range.clone()]);
        let (product, length) = (dot(gradient, direction), dot(direction, direction));
        if strength == 0.0 || length == 0.0 || (when == When::Conflict && sign * product >= 0.0) {
            continue;
        }
        add_multiple(gradient, -strength * product / length, direction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::train::objective::direction::norm;

    fn vectors(seed: u64) -> (Vec<f32>, Vec<f32>, Vec<Range<usize>>) {
        let mut random = Random::new(seed);
        let mut noise = |scale: f32| (0..5000).map(|_| scale * random.normal() as f32).collect::<Vec<_>>();
        let direction = noise(0.3);
        let mut gradient = noise(7.0);
        add_multiple(&mut gradient, if seed.is_multiple_of(2) { 5.0 } else { -5.0 }, &direction);
        (gradient, direction, vec![0..1, 1..700, 700..5000])
    }

    #[test]
    fn what_is_left_is_orthogonal() {
        for seed in 0..6 {
            let (gradient, direction, tensors) = vectors(seed);
            for scope in [Scope::PerTensor, Scope::Global] {
                let mut left = gradient.clone();
                project(&mut left, &direction, 1.0, &tensors, Projection { scope, ..Projection::default() });
                let whole = std::slice::from_ref(&(0..5000)).to_vec();
                let ranges = if scope == Scope::Global { whole } else { tensors[1..].to_vec() };
                for range in ranges {
                    let (left, direction) = (&left[range.clone()], &direction[range]);
                    assert!(dot(left, direction).abs() <= 1e-6 * norm(left) * norm(direction));
                }
            }
        }
    }

    #[test]
    fn agreement_is_left_alone_unless_the_projection_is_strict() {
        for seed in [0, 1] {
            let (gradient, direction, tensors) = vectors(seed);
            let run = |when, strength| {
                let mut left = gradient.clone();
                project(&mut left, &direction, 1.0, &tensors, Projection { scope: Scope::Global, when, strength });
                left
            };
            assert_eq!(run(When::Conflict, 1.0) == gradient, seed == 0);
            assert_ne!(run(When::Always, 1.0), gradient);
            assert_eq!(run(When::Always, 0.0), gradient);
        }
    }
}
