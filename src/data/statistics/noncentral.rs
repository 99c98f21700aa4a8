//! Tail probabilities of the noncentral t distribution, by quadrature.

use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

/// Positive nodes and weights of the 16-point Gauss-Legendre rule on [-1, 1] (Abramowitz and Stegun, table 25.4).
const NODES: [(f64, f64); 8] = [
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_58),
    (0.458_016_777_657_227_37, 0.169_156_519_395_002_54),
    (0.617_876_244_402_643_8, 0.149_595_988_816_576_74),
    (0.755_404_408_355_003, 0.124_628_971_255_533_88),
    (0.865_631_202_387_831_8, 0.095_158_511_682_492_79),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_894),
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_096),
];

/// How many of its own widths the integrand is followed to each side; beyond is less than 1e-18.
const REACH: f64 = 9.0;

/// P(T > t) where T = (Z + noncentrality) / √(χ²/degrees of freedom): what a t statistic exceeds when there is a
/// difference of that many standard errors.
///
/// It is the mean of Φ(noncentrality - t·s) over s = √(χ²/degrees of freedom). The integrand is smooth and positive, so
/// that nothing cancels, as in the usual series when the noncentrality is large: two paired seeds need 16. For whole
/// degrees of freedom it is exact to 1e-9; others between 1 and 3 have a kink at 0 and lose digits.
pub(super) fn noncentral_t_tail(t: f64, degrees_of_freedom: f64, noncentrality: f64) -> f64 {
    let half = degrees_of_freedom / 2.0;
    let scale = 2f64.ln() + half * half.ln() - ln_gamma(half);
    let integrand = |s: f64| {
        let density = (scale + (degrees_of_freedom - 1.0) * s.ln() - half * s * s).exp();
        density * normal_distribution(noncentrality - t * s)
    };
    let spread = REACH / degrees_of_freedom.sqrt();
    let (first, last) = ((1.0 - spread).max(0.0), 1.0 + spread);
    // Φ goes from 1 to 0 within a few 1/t of here, which may be much narrower than the density.
    let (centre, width) = (noncentrality / t, REACH / t.abs());
    let mut ends = vec![first, last];
    ends.extend([centre - width, centre, centre + width].into_iter().filter(|end| first < *end && *end < last));
    ends.sort_by(f64::total_cmp);
    ends.windows(2).map(|pair| integrate(&integrand, pair[0], pair[1])).sum::<f64>().clamp(0.0, 1.0)
}

/// Gauss-Legendre over four panels.
fn integrate(integrand: &impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
    let half_width = (high - low) / 8.0;
    let panel = |index: usize| {
        let centre = low + half_width * (2 * index + 1) as f64;
        let pair = |(node, weight): &(f64, f64)| {
            weight * (integrand(centre - half_width * node) + integrand(centre + half_width * node))
        };
        NODES.iter().map(pair).sum::<f64>()
    };
    half_width * (0..4).map(panel).sum::<f64>()
}

/// Φ(x).
pub(super) fn normal_distribution(x: f64) -> f64 {
    erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::distribution::t_probability;
    use super::*;

    #[test]
    fn tails_agree_with_scipy() {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/statistics_power.json")).unwrap();
        for case in all["noncentral"].as_array().unwrap() {
            let [t, degrees, shift, expected]: [f64; 4] = serde_json::from_value(case.clone()).unwrap();
            let found = noncentral_t_tail(t, degrees, shift);
            assert!((found - expected).abs() < 1e-10, "{case}: found {found}");
        }
    }

    #[test]
    fn without_noncentrality_it_is_students_t_with_few_degrees_and_many() {
        for degrees in [1.0, 2.0, 3.0, 7.0, 60.0, 3000.0, 400_000.0] {
            for t in [0.3, 2.0, 12.7, 636.0] {
                let (found, expected) = (noncentral_t_tail(t, degrees, 0.0), t_probability(t, degrees) / 2.0);
                assert!((found - expected).abs() < 1e-9, "t {t}, {degrees}: found {found}, expected {expected}");
            }
        }
        // Large noncentralities lose nothing: half of the statistics lie above roughly their centre.
        assert!((noncentral_t_tail(500.0, 100_000.0, 500.0) - 0.5).abs() < 0.01);
        assert!(noncentral_t_tail(2.0, 10.0, 100.0) > 1.0 - 1e-12);
    }
}
