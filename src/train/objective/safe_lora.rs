//! SafeLoRA (Hsu et al. 2024): after training, adapters that leave the subspace of an alignment are projected back.

use serde::{Deserialize, Serialize};

use super::direction::{dot, norm};
use crate::ensure;
use crate::error::Result;
use crate::model::kernels::{View, multiply};
use crate::model::weights::Weights;
use crate::train::lora::Lora;

/// Columns that add less than this share of the whole's length are taken to lie in the span of the others.
const TOLERANCE: f64 = 1e-6;

/// Which adapters are projected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Those whose change has at most this cosine with its projection.
    Threshold(f64),
    /// So many with the smallest cosines.
    Number(usize),
}

/// How changes are projected on the subspace of V, the aligned minus the unaligned matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projector {
    /// V Vᵀ / ‖V‖, as published; no projector in the strict sense.
    Approximate,
    /// On the span of V's columns; changes nothing where V has full rank.
    Exact,
}

/// What was done to one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projected {
    /// Name of the linear map.
    pub name: String,
    /// Cosine of the adapter's change and its projection.
    pub cosine: f64,
    /// Whether it was projected.
    pub projected: bool,
}

/// Projects adapters on the subspace that leads from `unaligned` to `aligned` weights, and says which.
///
/// # Errors
/// Weights of another shape, an adapted map that is the same in both.
pub fn safe_lora(
    lora: &mut Lora,
    aligned: &Weights,
    unaligned: &Weights,
    which: Which,
    projector: Projector,
) -> Result<Vec<Projected>> {
    ensure!(
        aligned.config == unaligned.config, "the aligned and the unaligned weights have different shapes";
        help: "use a model and what it was aligned from"
    );
    let (rank, mut found) = (lora.rank, Vec::with_capacity(lora.adapters.len()));
    for adapter in &lora.adapters {
        let (outputs, inputs, range) = (adapter.outputs, adapter.inputs, adapter.matrix.clone());
        ensure!(
            range.end <= aligned.values.len(), "the adapters belong to a model of another shape";
            help: "use a model of the same shape"
        );
        let (to, from) = (&aligned.values[range.clone()], &unaligned.values[range]);
        let v: Vec<f32> = to.iter().zip(from).map(|(to, from)| to - from).collect();
        ensure!(
            norm(&v) > 0.0, "`{}` is the same in the aligned and the unaligned weights", adapter.name;
            help: "align it too, or leave it out of the adapters' `targets`"
        );
        let (a, b) = (&lora.values[adapter.a.clone()], &lora.values[adapter.b.clone()]);
        let projection = project(&v, [outputs, inputs], b, rank, projector);
        let change = product(b, a, [outputs, rank, inputs]);
        let of_projection = product(&projection, a, [outputs, rank, inputs]);
        let lengths = norm(&change) * norm(&of_projection);
        let cosine = if lengths > 0.0 { dot(&change, &of_projection) / lengths } else { 0.0 };
        found.push((cosine, projection));
    }
    let threshold = match which {
        Which::Threshold(threshold) => threshold,
        Which::Number(0) => f64::NEG_INFINITY,
        Which::Number(count) => {
            let mut cosines: Vec<f64> = found.iter().map(|(cosine, _)| *cosine).collect();
            cosines.sort_by(f64::total_cmp);
            cosines.get(count - 1).copied().unwrap_or(f64::INFINITY)
        }
    };
    let mut done = Vec::with_capacity(found.len());
    for (adapter, (cosine, projection)) in lora.adapters.iter().zip(found) {
        let projected = cosine <= threshold;
        if projected {
            lora.values[adapter.b.clone()].copy_from_slice(&projection);
        }
        done.push(Projected { name: adapter.name.clone(), cosine, projected });
    }
    Ok(done)
}

/// C B, where C projects on the span of V (outputs, inputs).
fn project(v: &[f32], [outputs, inputs]: [usize; 2], b: &[f32], rank: usize, projector: Projector) -> Vec<f32> {
    match projector {
        Projector::Approximate => {
            let length = norm(v) as f32;
            let mut inner = vec![0.0; inputs * rank];
            let (v_view, b_view) = (View::rows(v, inputs), View::rows(b, rank));
            multiply(&mut inner, rank, v_view.transposed(), b_view, [inputs, outputs, rank], false);
            inner.iter_mut().for_each(|value| *value /= length);
            product(v, &inner, [outputs, inputs, rank])
        }
        Projector::Exact => {
            let basis = basis(v, [outputs, inputs]);
            let mut projection = vec![0.0f64; outputs * rank];
            for axis in &basis {
                for column in 0..rank {
                    let along: f64 =
                        axis.iter().zip(b.chunks_exact(rank)).map(|(axis, row)| axis * f64::from(row[column])).sum();
                    let places = projection.iter_mut().skip(column).step_by(rank);
                    places.zip(axis).for_each(|(place, axis)| *place += along * axis);
                }
            }
            projection.into_iter().map(|value| value as f32).collect()
        }
    }
}

/// Orthonormal axes of the span of V's columns, by Gram-Schmidt; each column is cleaned twice, which is enough.
fn basis(v: &[f32], [outputs, inputs]: [usize; 2]) -> Vec<Vec<f64>> {
    let whole = norm(v);
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for column in 0..inputs {
        let mut left: Vec<f64> = v.chunks_exact(inputs).map(|row| f64::from(row[column])).collect();
        for _ in 0..2 {
            for axis in &axes {
                let along: f64 = axis.iter().zip(&left).map(|(axis, left)| axis * left).sum();
                left.iter_mut().zip(axis).for_each(|(left, axis)| *left -= along * axis);
            }
        }
        let length = left.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length > TOLERANCE * whole {
            left.iter_mut().for_each(|value| *value /= length);
            axes.push(left);
        }
        if axes.len() == outputs {
            break;
        }
    }
    axes
}

/// (m, k) times (k, n).
fn product(left: &[f32], right: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![0.0; m * n];
    multiply(&mut out, n, View::rows(left, k), View::rows(right, n), [m, k, n], false);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::config::tests::tiny;

    /// Adapters that act, and an alignment that moves every map within few directions.
    fn setting() -> (Lora, Weights, Weights) {
        let unaligned = Weights::initial(&tiny(), 1).unwrap();
        let mut random = Random::new(4);
        let mut noise =
            |lora: &mut Lora| lora.values.iter_mut().for_each(|value| *value += 0.1 * random.normal() as f32);
        let (mut lora, mut alignment) = (Lora::new(&unaligned, 3, 6.0, 1), Lora::new(&unaligned, 4, 8.0, 2));
        noise(&mut lora);
        noise(&mut alignment);
        let mut aligned = unaligned.clone();
        alignment.merge(&unaligned, &mut aligned);
        (lora, aligned, unaligned)
    }

    #[test]
    fn an_exact_projector_projects_once() {
        let (lora, aligned, unaligned) = setting();
        let mut once = lora.clone();
        let report = safe_lora(&mut once, &aligned, &unaligned, Which::Threshold(1.0), Projector::Exact).unwrap();
        assert!(report.iter().all(|adapter| adapter.projected && (0.0..0.99).contains(&adapter.cosine)), "{report:?}");
        let mut twice = once.clone();
        let report = safe_lora(&mut twice, &aligned, &unaligned, Which::Threshold(2.0), Projector::Exact).unwrap();
        assert!(report.iter().all(|adapter| adapter.cosine > 0.9999), "{report:?}");
        let near = |a: &Lora, b: &Lora| a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&once, &twice) && !near(&once, &lora));
    }

    #[test]
    fn only_the_furthest_are_projected() {
        let (lora, aligned, unaligned) = setting();
        for projector in [Projector::Approximate, Projector::Exact] {
            let run = |which| {
                let mut lora = lora.clone();
                (safe_lora(&mut lora, &aligned, &unaligned, which, projector).unwrap(), lora)
            };
            let (report, changed) = run(Which::Number(3));
            assert_eq!(report.iter().filter(|adapter| adapter.projected).count(), 3);
            let most =
                report.iter().filter(|adapter| adapter.projected).map(|adapter| adapter.cosine).fold(-1.0, f64::max);
            assert!(report.iter().all(|adapter| adapter.projected == (adapter.cosine <= most)));
            for (adapter, place) in report.iter().zip(&lora.adapters) {
                let same = changed.values[place.b.clone()] == lora.values[place.b.clone()];
                assert_eq!(same, !adapter.projected);
            }
            assert_eq!(run(Which::Number(0)).1, lora);
            assert_eq!(run(Which::Threshold(-1.1)).1, lora);
        }
        let mut same = lora;
        assert!(safe_lora(&mut same, &aligned, &aligned, Which::Number(1), Projector::Exact).is_err());
    }
}
