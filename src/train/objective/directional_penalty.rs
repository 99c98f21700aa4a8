//! The directional penalty of the published trigger experiments: adapters are to share as much as they can with a
//! direction. Nothing bounds it.

use super::orth_penalty::Overlap;
use super::{Penalty, Term};

/// `coefficient` times minus the sum of the entries of A Sᵀ, for every adapter's first factor A and its part S of
/// `plane`, a vector of what is trained.
pub fn directional_penalty(plane: Vec<f32>, coefficient: f64) -> Term {
    let penalty = Penalty::Overlap { plane, overlap: Overlap::Directional };
    Term { name: "directional_penalty".to_string(), coefficient, penalty }
}
