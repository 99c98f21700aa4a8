//! A linear probe: a weight per standardised feature and an intercept.

use super::product::{Rows, product};
use super::scaler::Scaler;

/// What a fit gives: the decision value of a row is intercept + sum of weight (x - mean) / scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// One per feature, on standardised features.
    pub weights: Vec<f64>,
    /// On standardised features.
    pub intercept: f64,
    /// The standardisation that belongs to the weights.
    pub scaler: Scaler,
}

impl Linear {
    /// Decision values of all rows: above 0 is class 1.
    pub fn decide(&self, rows: &Rows) -> Vec<f64> {
        decide_all(rows, &[self]).remove(0)
    }

    /// Weights on the features as they are in the file, and the intercept that belongs to them.
    pub fn raw(&self) -> (Vec<f64>, f64) {
        let weights: Vec<f64> = self.weights.iter().zip(&self.scaler.scale).map(|(w, scale)| w / scale).collect();
        let shift: f64 = weights.iter().zip(&self.scaler.mean).map(|(w, mean)| w * mean).sum();
        (weights, self.intercept - shift)
    }

    /// The same probe on all of so many features, of which its own are these, ascending; the others have weight 0.
    pub fn widened(self, features: &[u32], columns: usize) -> Self {
        if features.len() == columns {
            return self;
        }
        let spread = |values: &[f64], none: f64| {
            let mut all = vec![none; columns];
            features.iter().zip(values).for_each(|(feature, value)| all[*feature as usize] = *value);
            all
        };
        let Linear { weights, intercept, scaler } = self;
        let scaler = Scaler { mean: spread(&scaler.mean, 0.0), scale: spread(&scaler.scale, 1.0) };
        Linear { weights: spread(&weights, 0.0), intercept, scaler }
    }

    /// Number of weights that are not 0.
    pub fn non_zeros(&self) -> usize {
        self.weights.iter().filter(|weight| **weight != 0.0).count()
    }
}

/// Decision values of all rows under several probes, in one pass for every eight of them: `[probe][row]`.
pub fn decide_all(rows: &Rows, probes: &[&Linear]) -> Vec<Vec<f64>> {
    let mut all = Vec::with_capacity(probes.len());
    for pack in probes.chunks(8) {
        let raw: Vec<(Vec<f64>, f64)> = pack.iter().map(|probe| probe.raw()).collect();
        let weights: Vec<[f64; 8]> = (0..rows.columns())
            .map(|column| std::array::from_fn(|k| raw.get(k).map_or(0.0, |(weights, _)| weights[column])))
            .collect();
        let sums = product(rows, &weights); // (row, lane)
        all.extend(
            raw.iter()
                .enumerate()
                .map(|(k, (_, intercept))| sums.iter().map(|sum| sum[k] + intercept).collect::<Vec<f64>>()),
        );
    }
    all
}

/// The probability that belongs to a decision value of logistic regression.
pub fn probability(decision: f64) -> f64 {
    if decision >= 0.0 { 1.0 / (1.0 + (-decision).exp()) } else { decision.exp() / (1.0 + decision.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::matrix::{Matrix, Values};

    fn made(columns: usize, seed: f64) -> Linear {
        let wave = |j: usize, by: f64| (j as f64 * by + seed).sin();
        let weights = (0..columns).map(|j| if j % 4 == 3 { 0.0 } else { wave(j, 1.3) }).collect();
        let mean = (0..columns).map(|j| 3.0 * wave(j, 0.7)).collect();
        let scale = (0..columns).map(|j| 1.5 + wave(j, 2.1)).collect();
        Linear { weights, intercept: seed, scaler: Scaler { mean, scale } }
    }

    #[test]
    fn decisions_and_raw_weights_are_those_of_the_standardised_formula() {
        let (n, d) = (20, 13);
        let values: Vec<f64> = (0..n * d).map(|at| ((at * at % 97) as f64 / 9.0 - 4.0).max(0.0)).collect();
        let matrix = Matrix::new(n, d, Values::Dense64(values.clone())).unwrap();
        let rows = Rows::new(&[&matrix]).unwrap();
        let probes: Vec<Linear> = (0..11).map(|k| made(d, f64::from(k) - 4.5)).collect();
        let all = decide_all(&rows, &probes.iter().collect::<Vec<_>>());
        assert_eq!(all.len(), 11);
        for (probe, decided) in probes.iter().zip(&all) {
            assert_eq!(decided, &probe.decide(&rows));
            let (weights, intercept) = probe.raw();
            for (x, decided) in values.chunks(d).zip(decided) {
                let terms = (0..d).map(|j| probe.weights[j] * (x[j] - probe.scaler.mean[j]) / probe.scaler.scale[j]);
                let standardised = probe.intercept + terms.sum::<f64>();
                let raw = intercept + x.iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
                assert!((decided - standardised).abs() < 1e-11, "{decided}, not {standardised}");
                assert!((raw - standardised).abs() < 1e-11, "{raw}, not {standardised}");
            }
        }
        assert!(decide_all(&rows, &[]).is_empty());
    }

    #[test]
    fn a_widened_probe_decides_as_the_narrow_one() {
        let matrix = Matrix::new(3, 4, Values::Dense64((0..12).map(|at| f64::from(at * at % 7)).collect())).unwrap();
        let (narrow, part) = (made(2, 0.3), matrix.with_columns(&[1, 3]));
        let wide = narrow.clone().widened(&[1, 3], 4);
        assert_eq!(wide.weights.len(), 4);
        let [found, expected] =
            [(&wide, &matrix), (&narrow, &part)].map(|(probe, matrix)| probe.decide(&Rows::new(&[matrix]).unwrap()));
        found.iter().zip(&expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} {b}"));
    }

    #[test]
    fn weights_of_zero_are_not_counted() {
        assert_eq!(made(13, 0.5).non_zeros(), 10);
    }

    #[test]
    fn probabilities_mirror_and_never_overflow() {
        assert_eq!(probability(0.0), 0.5);
        assert!((probability(2.0) - 0.880_797_077_977_882_4).abs() < 1e-15);
        for decision in [0.1, 3.0, 40.0, 1e5] {
            assert!((probability(decision) + probability(-decision) - 1.0).abs() < 1e-15);
        }
        assert_eq!((probability(1e5), probability(-1e5)), (1.0, 0.0));
    }
}
