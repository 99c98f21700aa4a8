//! Arithmetic on rows of f32 with the processor's vector units, chosen at run time; unsafe as `probe::vector` is.
//!
//! Every sum is taken in an order that depends on the length of the row alone, never on how many rows there are or
//! which vector unit computes it: a row's result is the same bits in any company, and the same on every machine that
//! has a fused multiply-add (x86-64 with AVX2 or AVX-512, aarch64).

mod product;

pub use product::{Panels, View, multiply, multiply_panels};

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
fn swiglu_body<const FMA: bool>(gate_up: &[f32], activated: &mut [f32], width: usize) {
    for (gate_up, activated) in gate_up.chunks_exact(2 * width).zip(activated.chunks_exact_mut(width)) {
        let (gate, up) = gate_up.split_at(width);
        for channel in 0..width {
            activated[channel] = gate[channel] / (1.0 + exp::<FMA>(-gate[channel])) * up[channel];
        }
    }
}
dispatch! {
    /// silu(gate) * up for rows `[gate | up]` of 2 `width` channels.
    swiglu = swiglu_body(gate_up: &[f32], activated: &mut [f32], width: usize)
}

#[inline(always)]
fn swiglu_backward_body<const FMA: bool>(gate_up: &[f32], d_activated: &[f32], d_gate_up: &mut [f32], width: usize) {
    for (row, d) in d_activated.chunks_exact(width).enumerate() {
        let (gate, up) = gate_up[row * 2 * width..][..2 * width].split_at(width);
        let (d_gate, d_up) = d_gate_up[row * 2 * width..][..2 * width].split_at_mut(width);
        for channel in 0..width {
            let sigmoid = 1.0 / (1.0 + exp::<FMA>(-gate[channel]));
            let silu = gate[channel] * sigmoid;
            d_up[channel] = d[channel] * silu;
            d_gate[channel] = d[channel] * up[channel] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
}
dispatch! {
    /// Gradient of [`swiglu`], written to `d_gate_up`.
    swiglu_backward = swiglu_backward_body(
        gate_up: &[f32], d_activated: &[f32], d_gate_up: &mut [f32], width: usize)
}

#[inline(always)]
fn causal_softmax_body<const FMA: bool>(scores: &mut [f32], time: usize, positions: &[u32], scale: f32) {
    for (row, position) in scores.chunks_exact_mut(time).zip(positions) {
        let (seen, hidden) = row.split_at_mut(*position as usize + 1);
        seen.iter_mut().for_each(|score| *score *= scale);
        let shift = maximum(seen);
        let inverse = 1.0 / exp_in_place::<FMA>(seen, shift);
        seen.iter_mut().for_each(|score| *score *= inverse);
        hidden.fill(0.0);
    }
}
dispatch! {
    /// Softmax of `scale` * scores (queries, time) over the keys that each query may see: those up to its position.
    causal_softmax = causal_softmax_body(scores: &mut [f32], time: usize, positions: &[u32], scale: f32)
}

#[inline(always)]
fn causal_softmax_backward_body<const FMA: bool>(
    probabilities: &[f32],
    d: &mut [f32],
    time: usize,
    positions: &[u32],
    scale: f32,
) {
    let rows = probabilities.chunks_exact(time).zip(d.chunks_exact_mut(time));
    for ((p, d), position) in rows.zip(positions) {
        let seen = *position as usize + 1;
        let mean = dot::<FMA>(&p[..seen], &d[..seen]);
        for (p, d) in p[..seen].iter().zip(&mut *d) {
            *d = p * (*d - mean) * scale;
        }
        d[seen..].fill(0.0);
    }
}
dispatch! {
    /// Turns the gradient of the probabilities of [`causal_softmax`] into that of the scores, in place.
    causal_softmax_backward = causal_softmax_backward_body(
        probabilities: &[f32], d: &mut [f32], time: usize, positions: &[u32], scale: f32)
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

/// Keys and values of `length` tokens, as [`attend`] reads them: keys in blocks of 16 tokens, (blocks, channels, 16),
/// zero where a block has no token; values (tokens, channels).
#[derive(Clone, Copy)]
pub struct Cache<'a> {
    /// (blocks, channels, 16).
    pub keys: &'a [f32],
    /// (tokens, channels).
    pub values: &'a [f32],
    /// Tokens.
    pub length: usize,
}

/// Tokens of a block of keys in a [`Cache`].
pub const KEY_BLOCK: usize = LANES;

#[inline(always)]
fn attend_body<const FMA: bool>(
    queries: &[f32],
    caches: [Cache; 2],
    channels: usize,
    head_width: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let scale = 1.0 / (head_width as f32).sqrt();
    let group = queries.len() / channels;
    let heads = queries.chunks_exact(head_width).zip(out.chunks_exact_mut(head_width));
    for (head, (query, out)) in heads.enumerate() {
        let first = head / group * head_width;
        let mut end = 0;
        for cache in caches {
            for (block, keys) in cache.keys.chunks_exact(channels * KEY_BLOCK).enumerate() {
                let mut lanes = [0.0; KEY_BLOCK];
                for (query, keys) in query.iter().zip(keys[first * KEY_BLOCK..].as_chunks::<KEY_BLOCK>().0) {
                    for lane in 0..KEY_BLOCK {
                        lanes[lane] = fused::<FMA>(*query, keys[lane], lanes[lane]);
                    }
                }
                // What a block has beyond its last token is overwritten by the next cache, or ignored.
                let place = &mut scores[end + block * KEY_BLOCK..][..KEY_BLOCK];
                place.iter_mut().zip(lanes).for_each(|(score, lane)| *score = lane * scale);
            }
            end += cache.length;
        }
        let seen = &mut scores[..end];
        let shift = maximum(seen);
        let inverse = 1.0 / exp_in_place::<FMA>(seen, shift);
        seen.iter_mut().for_each(|score| *score *= inverse);
        let (blocks, rest) = out.as_chunks_mut::<LANES>();
        let done = blocks.len() * LANES;
        for (block, out) in blocks.iter_mut().enumerate() {
            let mut lanes = [0.0; LANES];
            let mut start = 0;
            for cache in caches {
                for (row, score) in cache.values.chunks_exact(channels).zip(&seen[start..]) {
                    let value = &row[first + block * LANES..][..LANES];
                    for lane in 0..LANES {
                        lanes[lane] = fused::<FMA>(*score, value[lane], lanes[lane]);
                    }
                }
                start += cache.length;
            }
            *out = lanes;
        }
        for (channel, out) in rest.iter_mut().enumerate() {
            let values = caches.into_iter().flat_map(|cache| cache.values.chunks_exact(channels));
            *out = values
                .zip(&*seen)
                .fold(0.0, |sum, (row, score)| fused::<FMA>(*score, row[first + done + channel], sum));
        }
    }
}
dispatch! {
    /// Attention of one token's `queries` (all heads) over two caches, one after the other, each with `channels` key
    /// channels. `scores` has a place for every token and a block more per cache.
    attend = attend_body(
        queries: &[f32], caches: [Cache; 2], channels: usize, head_width: usize, scores: &mut [f32], out: &mut [f32])
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
    use crate::data::random::Random;

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

    #[test]
    fn attention_does_not_see_how_the_cache_is_divided() {
        let (mut random, channels, length) = (Random::new(5), 20, 37);
        let mut noise = |count: usize| (0..count).map(|_| random.normal() as f32).collect::<Vec<_>>();
        let (keys, values, queries) = (noise(length * channels), noise(length * channels), noise(2 * channels));
        let blocks = |tokens: std::ops::Range<usize>| {
            let mut blocks = vec![0.0; tokens.len().div_ceil(KEY_BLOCK) * KEY_BLOCK * channels];
            for (place, token) in tokens.enumerate() {
                for channel in 0..channels {
                    let at = (place / KEY_BLOCK * channels + channel) * KEY_BLOCK + place % KEY_BLOCK;
                    blocks[at] = keys[token * channels + channel];
                }
            }
            blocks
        };
        let run = |cut: usize| {
            let (first, second) = (blocks(0..cut), blocks(cut..length));
            let caches = [
                Cache { keys: &first, values: &values[..cut * channels], length: cut },
                Cache { keys: &second, values: &values[cut * channels..], length: length - cut },
            ];
            let (mut scores, mut out) = (vec![0.0; length + 2 * KEY_BLOCK], vec![0.0; 2 * channels]);
            attend(&queries, caches, channels, channels, &mut scores, &mut out);
            out
        };
        assert_eq!(run(0), run(4));
        assert_eq!(run(length), run(17));
        // The definition, for the second of the two heads that share the keys.
        let query = &queries[channels..];
        let weights: Vec<f64> = keys
            .chunks(channels)
            .map(|key| {
                let dot: f64 = key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum();
                (dot / (channels as f64).sqrt()).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        for channel in 0..channels {
            let exact: f64 =
                (0..length).map(|token| weights[token] * f64::from(values[token * channels + channel])).sum();
            assert!((f64::from(run(4)[channels + channel]) - exact / total).abs() < 1e-5);
        }
    }
}
