//! Non-dominated points of two measures, and the area that they cover.

use serde::{Deserialize, Serialize};

/// Which end of a measure is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// More is better.
    High,
    /// Less is better.
    Low,
}

impl Wanted {
    /// The measure turned so that more is better.
    fn turn(self, value: f64) -> f64 {
        if self == Wanted::High { value } else { -value }
    }
}

/// Numbers of the points that no other point beats: as good on both measures and better on one. In the order of the first
/// measure, from the best; equal points are all kept.
pub fn non_dominated(points: &[(f64, f64)], wanted: (Wanted, Wanted)) -> Vec<usize> {
    let turned: Vec<(f64, f64)> = points.iter().map(|point| (wanted.0.turn(point.0), wanted.1.turn(point.1))).collect();
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 >= b.0 && a.1 >= b.1 && a != b;
    let mut front: Vec<usize> =
        (0..points.len()).filter(|index| !turned.iter().any(|other| beats(*other, turned[*index]))).collect();
    front.sort_by(|a, b| turned[*b].0.total_cmp(&turned[*a].0).then(turned[*b].1.total_cmp(&turned[*a].1)));
    front
}

/// Area between the front of `points` and `worst`, a point that is no better than any of them (hypervolume in two
/// dimensions); what lies beyond `worst` counts nothing.
pub fn hypervolume(points: &[(f64, f64)], wanted: (Wanted, Wanted), worst: (f64, f64)) -> f64 {
    let worst = (wanted.0.turn(worst.0), wanted.1.turn(worst.1));
    let (mut area, mut height) = (0.0, worst.1);
    for index in non_dominated(points, wanted) {
        let point = (wanted.0.turn(points[index].0), wanted.1.turn(points[index].1));
        if point.0 > worst.0 && point.1 > height {
            area += (point.0 - worst.0) * (point.1 - height);
            height = point.1;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UP_DOWN: (Wanted, Wanted) = (Wanted::High, Wanted::Low);

    #[test]
    fn the_published_front_is_found() {
        // (task, truth TRR) of the emotions runs: naive, .75/.25, .5/.5, steering on outcome, KL 100, KL 1000.
        let points = [(1.0, 0.78), (1.0, 0.048), (1.0, 0.14), (0.992, 0.024), (0.65, 0.18), (0.0, 0.0)];
        assert_eq!(non_dominated(&points, UP_DOWN), [1, 3, 5]);
    }

    #[test]
    fn area_is_that_of_the_stairs() {
        let points = [(1.0, 0.5), (0.5, 0.25), (0.4, 0.4)];
        let area = hypervolume(&points, UP_DOWN, (0.0, 1.0));
        assert!((area - (1.0 * 0.5 + 0.5 * 0.25)).abs() < 1e-12, "{area}");
        assert_eq!(hypervolume(&[(0.0, 1.0)], UP_DOWN, (0.0, 1.0)), 0.0);
    }

    proptest! {
        #[test]
        fn another_point_never_makes_the_area_smaller(points in proptest::collection::vec((0.0..1.0f64, 0.0..1.0f64), 1..12)) {
            let (all, fewer) = (hypervolume(&points, UP_DOWN, (0.0, 1.0)), hypervolume(&points[1..], UP_DOWN, (0.0, 1.0)));
            prop_assert!(all >= fewer - 1e-12 && all <= 1.0);
            let front = non_dominated(&points, UP_DOWN);
            prop_assert!(front.windows(2).all(|pair| points[pair[0]].0 >= points[pair[1]].0 && points[pair[0]].1 >= points[pair[1]].1));
        }
    }
}
