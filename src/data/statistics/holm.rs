//! Several comparisons in one figure: Holm's adjusted p values.

/// Adjusted p values in the order given: with p sorted upwards, the i-th is max over j ≤ i of min(1, (m - j + 1) p_j)
/// (Holm 1979). A NaN is a comparison that was not made: it stays NaN and is not counted.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).filter(|index| !p_values[*index].is_nan()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![f64::NAN; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        largest = largest.max((order.len() - rank) as f64 * p_values[*index]).min(1.0);
        adjusted[*index] = largest;
    }
    adjusted
}
