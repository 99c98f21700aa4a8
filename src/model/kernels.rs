//! Arithmetic on rows of f32 with the processor's vector units, chosen at run time; unsafe as `probe::vector` is.
//!
//! Every sum is taken in an order that depends on the length of the row alone, never on how many rows there are or
//! which vector unit computes it: a row's result is the same bits in any company, and the same on every machine that
//! has a fused multiply-add (x86-64 with AVX2 or AVX-512, aarch64).

/// Defines a public function that runs `$body` compiled for the best vector unit at hand.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name($($arg: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn wide($($arg: $kind),*) $(-> $result)? {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn narrow($($arg: $kind),*) $(-> $result)? {
                    $body::<true>($($arg),*)
                }
                match unit() {
                    // SAFETY: `unit` has found these features on this processor.
                    Unit::Avx512 => return unsafe { wide($($arg),*) },
                    // SAFETY: as above.
                    Unit::Avx2 => return unsafe { narrow($($arg),*) },
                    Unit::Portable => {}
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}

mod activation;
mod attend;
mod product;

pub use activation::{geglu, geglu_backward, swiglu, swiglu_backward};
pub use attend::{Cache, KEY_BLOCK, Scoring, attend, cap, cap_backward, causal_softmax, causal_softmax_backward};
pub use product::{Panels, View, multiply, multiply_panels};

/// The vector unit of this processor.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Avx512,
    Avx2,
    Portable,
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn unit() -> Unit {
    use std::arch::is_x86_feature_detected as has;
    if has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("fma") {
        Unit::Avx512
    } else if has!("avx2") && has!("fma") {
        Unit::Avx2
    } else {
        Unit::Portable
    }
}

/// Partial sums of a reduction; fixed, so that every vector unit adds in the same order.
const LANES: usize = 16;

#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x after Cephes' `expf`: relative error 2e-7, x clamped to [-87, 88].
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and taking off 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = fused::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = fused::<FMA>(n, -0.693_359_4, x);
    let r = fused::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fused::<FMA>(p, r, coefficient);
    }
    let power = f32::from_bits((((n as i32) + 127) << 23) as u32);
    (fused::<FMA>(p, r * r, r) + 1.0) * power
}

#[inline(always)]
fn add_lanes(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] = fused::<FMA>(a[lane], b[lane], lanes[lane]);
        }
    }
    a_rest.iter().zip(b_rest).fold(add_lanes(lanes), |sum, (a, b)| fused::<FMA>(*a, *b, sum))
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, value| most.max(*value))
}

/// Replaces each x by e^(x - shift) and returns their sum.
#[inline(always)]
fn exp_in_place<const FMA: bool>(row: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            block[lane] = exp::<FMA>(block[lane] - shift);
            lanes[lane] += block[lane];
        }
    }
    rest.iter_mut().fold(add_lanes(lanes), |sum, value| {
        *value = exp::<FMA>(*value - shift);
        sum + *value
    })
}

#[inline(always)]
fn rms_norm_body<const FMA: bool>(x: &[f32], gain: &[f32], y: &mut [f32], inverse: &mut [f32], epsilon: f32) {
    let width = gain.len();
    for ((x, y), inverse) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inverse) {
        *inverse = 1.0 / (dot::<FMA>(x, x) / width as f32 + epsilon).sqrt();
        for channel in 0..width {
            y[channel] = x[channel] * *inverse * gain[channel];
        }
    }
}
dispatch! {
    /// y = x / rms(x) * gain for each row; `inverse` keeps 1 / rms of each row.
    rms_norm = rms_norm_body(x: &[f32], gain: &[f32], y: &mut [f32], inverse: &mut [f32], epsilon: f32)
}

#[inline(always)]
fn rms_norm_backward_body<const FMA: bool>(
    dy: &[f32],
    x: &[f32],
    gain: &[f32],
    inverse: &[f32],
    dx: &mut [f32],
    d_gain: &mut [f32],
) {
    let width = gain.len();
    for (row, inverse) in inverse.iter().enumerate() {
        let (dy, x) = (&dy[row * width..][..width], &x[row * width..][..width]);
        let dx = &mut dx[row * width..][..width];
        let mut lanes = [0.0; LANES];
        let blocks = width / LANES;
        for block in 0..blocks {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                let channel = block * LANES + lane;
                *sum = fused::<FMA>(dy[channel] * gain[channel], x[channel], *sum);
            }
        }
        let mut total = add_lanes(lanes);
        for channel in blocks * LANES..width {
            total = fused::<FMA>(dy[channel] * gain[channel], x[channel], total);
        }
        let mean = total * inverse * inverse * inverse / width as f32;
        for channel in 0..width {
            d_gain[channel] = fused::<FMA>(dy[channel] * inverse, x[channel], d_gain[channel]);
            dx[channel] += fused::<FMA>(-mean, x[channel], dy[channel] * gain[channel] * inverse);
        }
    }
}
dispatch! {
    /// Adds the gradients of [`rms_norm`] to `dx` and `d_gain`.
    rms_norm_backward = rms_norm_backward_body(
        dy: &[f32], x: &[f32], gain: &[f32], inverse: &[f32], dx: &mut [f32], d_gain: &mut [f32])
}

#[inline(always)]
fn rotate_body<const FMA: bool>(
    rows: &mut [f32],
    stride: usize,
    heads: usize,
    positions: &[u32],
    cosine: &[f32],
    sine: &[f32],
    half: usize,
) {
    for (row, position) in rows.chunks_exact_mut(stride).zip(positions) {
        let (cosine, sine) = (&cosine[*position as usize * half..][..half], &sine[*position as usize * half..][..half]);
        for head in row.chunks_exact_mut(2 * half).take(heads) {
            let (low, high) = head.split_at_mut(half);
            for channel in 0..half {
                let (u, v) = (low[channel], high[channel]);
                low[channel] = u * cosine[channel] - v * sine[channel];
                high[channel] = v * cosine[channel] + u * sine[channel];
            }
        }
    }
}
dispatch! {
    /// Rotates the first `heads` heads of each row by its position (half-split RoPE, as Hugging Face's Llama); with
    /// the sine negated it rotates back, which is the gradient.
    rotate = rotate_body(
        rows: &mut [f32], stride: usize, heads: usize, positions: &[u32], cosine: &[f32], sine: &[f32], half: usize)
}

#[inline(always)]
fn softmax_body<const FMA: bool>(row: &mut [f32], scale: f32) -> f32 {
    if scale != 1.0 {
        row.iter_mut().for_each(|value| *value *= scale);
    }
    let shift = maximum(row);
    let total = exp_in_place::<FMA>(row, shift);
    total.ln() + shift
}
dispatch! {
    /// Replaces scale * x by its e^(scale x - max), and returns the log of the sum of e^(scale x).
    exponentials = softmax_body(row: &mut [f32], scale: f32) -> f32
}

#[inline(always)]
fn cross_entropy_body<const FMA: bool>(logits: &mut [f32], target: u32, weight: f32) -> f32 {
    let shift = maximum(logits);
    let logit = logits[target as usize];
    let total = exp_in_place::<FMA>(logits, shift);
    let factor = weight / total;
    logits.iter_mut().for_each(|value| *value *= factor);
    logits[target as usize] -= weight;
    total.ln() + shift - logit
}
dispatch! {
    /// Negative log-likelihood of `target` under one row of logits, which become `weight` times its gradient.
    cross_entropy = cross_entropy_body(logits: &mut [f32], target: u32, weight: f32) -> f32
}

#[inline(always)]
fn add_body<const FMA: bool>(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}
dispatch! {
    /// a += b.
    add = add_body(a: &mut [f32], b: &[f32])
}

#[inline(always)]
fn sum_body<const FMA: bool>(row: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += block[lane];
        }
    }
    rest.iter().fold(add_lanes(lanes), |sum, value| sum + value)
}
dispatch! {
    /// Sum of a row.
    sum = sum_body(row: &[f32]) -> f32
}

#[inline(always)]
fn sum_of_squares_body<const FMA: bool>(values: &[f32]) -> f64 {
    // Blocks keep the partial sums small, f64 joins them.
    values.chunks(4096).map(|block| f64::from(dot::<FMA>(block, block))).sum()
}
dispatch! {
    /// Sum of squares.
    sum_of_squares = sum_of_squares_body(values: &[f32]) -> f64
}

/// The numbers of one AdamW step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor of the gradient (clipping).
    pub gradient_scale: f32,
    /// 1 / (1 - beta1^step).
    pub correction1: f32,
    /// 1 / (1 - beta2^step).
    pub correction2: f32,
}

#[inline(always)]
fn adam_body<const FMA: bool>(values: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep) {
    let keep = 1.0 - step.learning_rate * step.weight_decay;
    for (((value, gradient), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
        let gradient = gradient * step.gradient_scale;
        *m = fused::<FMA>(step.beta1, *m, (1.0 - step.beta1) * gradient);
        *v = fused::<FMA>(step.beta2, *v, (1.0 - step.beta2) * gradient * gradient);
        let update = *m * step.correction1 / ((*v * step.correction2).sqrt() + step.epsilon);
        *value = fused::<FMA>(-step.learning_rate, update, *value * keep);
    }
}
dispatch! {
    /// AdamW (Loshchilov and Hutter 2019) in place: moments `m` and `v`, then values.
    adam = adam_body(values: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate() {
        let mut row: Vec<f32> = (0..4001).map(|step| (step as f32 - 2000.0) / 25.0).collect();
        let exact: Vec<f64> = row.iter().map(|x| f64::from(*x - 80.0).max(-87.0).exp()).collect();
        let log_sum = exponentials(&mut row, 1.0);
        for (found, exact) in row.iter().zip(&exact) {
            assert!((f64::from(*found) / exact - 1.0).abs() < 4e-7, "{found} {exact}");
        }
        assert!((f64::from(log_sum) - 80.0 - exact.iter().sum::<f64>().ln()).abs() < 1e-5);
    }
}
