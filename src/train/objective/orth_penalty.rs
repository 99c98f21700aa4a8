//! A penalty on what training has in common with a direction.

use serde::{Deserialize, Serialize};

use super::direction::{add_multiple, dot, norm};
use super::{Penalty, Term};
use crate::model::kernels::{View, multiply};
use crate::model::layout::NamedTensor;

/// How overlap is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Squared length of the component of each tensor's change since the start along the direction; does not depend on
    /// the direction's length.
    Component,
    /// As the published trigger experiments have it: sum of the sizes of the entries of A Sᵀ, for every adapter's first
    /// factor A and its part S of the direction. The second factor is ignored, and so is the direction's unit.
    Rows,
    /// Minus the sum of those entries themselves: not a penalty on overlap but a pull towards it, without bound.
    Directional,
}

/// `coefficient` times the overlap with `plane`, a vector of what is trained.
pub fn orth_penalty(plane: Vec<f32>, overlap: Overlap, coefficient: f64) -> Term {
    Term { name: "orth_penalty".to_string(), coefficient, penalty: Penalty::Overlap { plane, overlap } }
}

/// What is trained, and where it began.
pub(crate) struct Values<'a> {
    /// Now.
    pub now: &'a [f32],
    /// Before the first step.
    pub first: &'a [f32],
    /// Places and shapes.
    pub tensors: &'a [NamedTensor],
}

/// The overlap; adds its gradient times `coefficient` where one is wanted.
pub(crate) fn overlap(
    values: Values,
    plane: &[f32],
    overlap: Overlap,
    coefficient: f64,
    mut gradient: Option<&mut [f32]>,
) -> f64 {
    let mut total = 0.0;
    for tensor in values.tensors {
        let range = tensor.range.clone();
        let (now, plane) = (&values.now[range.clone()], &plane[range.clone()]);
        let gradient = gradient.as_deref_mut().map(|gradient| &mut gradient[range.clone()]);
        total += match overlap {
            Overlap::Component => component(now, &values.first[range], plane, coefficient, gradient),
            Overlap::Rows | Overlap::Directional if tensor.name.contains("lora_A") => {
                rows(now, plane, &tensor.shape, overlap, coefficient, gradient)
            }
            Overlap::Rows | Overlap::Directional => 0.0,
        };
    }
    total
}

fn component(now: &[f32], first: &[f32], plane: &[f32], coefficient: f64, gradient: Option<&mut [f32]>) -> f64 {
    let length = norm(plane);
    if length == 0.0 {
        return 0.0;
    }
    let moved: Vec<f32> = now.iter().zip(first).map(|(now, first)| now - first).collect();
    let along = dot(&moved, plane) / length;
    if let Some(gradient) = gradient {
        add_multiple(gradient, 2.0 * coefficient * along / length, plane);
    }
    along * along
}

fn rows(
    now: &[f32],
    plane: &[f32],
    shape: &[usize],
    overlap: Overlap,
    coefficient: f64,
    gradient: Option<&mut [f32]>,
) -> f64 {
    let (rank, inputs) = (shape[0], shape[1]);
    let mut products = vec![0f32; rank * rank];
    let (a, s) = (View::rows(now, inputs), View::rows(plane, inputs));
    multiply(&mut products, rank, a, s.transposed(), [rank, inputs, rank], false);
    // Each entry counts its slope times itself: 1 or -1, whichever makes it positive; or -1.
    let slope = |product: f32| match overlap {
        Overlap::Directional => -1.0,
        _ if product == 0.0 => 0.0,
        _ => product.signum(),
    };
    let total = products.iter().map(|product| f64::from(slope(*product) * product)).sum();
    if let Some(gradient) = gradient {
        products.iter_mut().for_each(|product| *product = coefficient as f32 * slope(*product));
        multiply(gradient, inputs, View::rows(&products, rank), s, [rank, rank, inputs], true);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;

    #[test]
    fn gradients_are_those_of_the_overlap() {
        let mut random = Random::new(6);
        let mut noise = || (0..150).map(|_| random.normal() as f32).collect::<Vec<_>>();
        let (now, first, plane, direction) = (noise(), noise(), noise(), noise());
        let tensors = [
            NamedTensor { name: "x.lora_A.weight".to_string(), shape: vec![3, 20], range: 0..60 },
            NamedTensor { name: "x.lora_B.weight".to_string(), shape: vec![30, 3], range: 60..150 },
        ];
        for kind in [Overlap::Component, Overlap::Rows, Overlap::Directional] {
            let run = |now: &[f32], gradient: Option<&mut [f32]>| {
                overlap(Values { now, first: &first, tensors: &tensors }, &plane, kind, 1.0, gradient)
            };
            let mut gradient = vec![0.0; 150];
            let value = run(&now, Some(&mut gradient));
            assert!(value != 0.0 && (value > 0.0 || kind == Overlap::Directional) && value == run(&now, None));
            let at = |step: f64| {
                let mut moved = now.clone();
                add_multiple(&mut moved, step, &direction);
                run(&moved, None)
            };
            let (slope, wanted) = ((at(1e-3) - at(-1e-3)) / 2e-3, dot(&gradient, &direction));
            assert!((slope - wanted).abs() < 1e-2 * wanted.abs(), "{kind:?}: {slope} {wanted}");
        }
        let value = |plane: &[f32]| {
            overlap(Values { now: &now, first: &first, tensors: &tensors }, plane, Overlap::Component, 1.0, None)
        };
        let longer: Vec<f32> = plane.iter().map(|value| 8.0 * value).collect();
        assert!((value(&longer) / value(&plane) - 1.0).abs() < 1e-6);
    }
}
