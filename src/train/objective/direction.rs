//! Inner products and multiples of vectors as long as the weights.

/// Partial sums: fixed, so that every machine adds in the same order.
const LANES: usize = 8;

/// Inner product, added up in f64.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let whole = a.len() / LANES * LANES;
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| f64::from(*a) * f64::from(*b));
    lanes.into_iter().chain(rest).sum()
}

/// Euclidean norm.
pub fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

/// values += factor * direction.
pub fn add_multiple(values: &mut [f32], factor: f64, direction: &[f32]) {
    let factor = factor as f32;
    values.iter_mut().zip(direction).for_each(|(value, direction)| *value += factor * direction);
}
