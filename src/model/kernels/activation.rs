//! The gates of the feed-forward: SwiGLU as in Llama and Qwen, GeGLU as in Gemma.

#[cfg(target_arch = "x86_64")]
use super::{Unit, unit};
use super::{exp, fused};

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

/// sqrt(2 / pi) and the cubic's factor of the tanh form of GELU (Hendrycks and Gimpel 2016).
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// tanh of GELU's inner polynomial, by one exponential.
#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    let inner = GELU.0 * fused::<FMA>(GELU.1 * x * x, x, x);
    1.0 - 2.0 / (exp::<FMA>(2.0 * inner) + 1.0)
}

#[inline(always)]
fn geglu_body<const FMA: bool>(gate_up: &[f32], activated: &mut [f32], width: usize) {
    for (gate_up, activated) in gate_up.chunks_exact(2 * width).zip(activated.chunks_exact_mut(width)) {
        let (gate, up) = gate_up.split_at(width);
        for channel in 0..width {
            let x = gate[channel];
            activated[channel] = 0.5 * x * (1.0 + gelu_tanh::<FMA>(x)) * up[channel];
        }
    }
}
dispatch! {
    /// gelu(gate) * up for rows `[gate | up]` of 2 `width` channels, GELU in its tanh form.
    geglu = geglu_body(gate_up: &[f32], activated: &mut [f32], width: usize)
}

#[inline(always)]
fn geglu_backward_body<const FMA: bool>(gate_up: &[f32], d_activated: &[f32], d_gate_up: &mut [f32], width: usize) {
    for (row, d) in d_activated.chunks_exact(width).enumerate() {
        let (gate, up) = gate_up[row * 2 * width..][..2 * width].split_at(width);
        let (d_gate, d_up) = d_gate_up[row * 2 * width..][..2 * width].split_at_mut(width);
        for channel in 0..width {
            let x = gate[channel];
            let tanh = gelu_tanh::<FMA>(x);
            let half = 0.5 * (1.0 + tanh);
            let slope = GELU.0 * fused::<FMA>(3.0 * GELU.1 * x, x, 1.0);
            d_up[channel] = d[channel] * x * half;
            d_gate[channel] = d[channel] * up[channel] * fused::<FMA>(0.5 * x * (1.0 - tanh * tanh), slope, half);
        }
    }
}
dispatch! {
    /// Gradient of [`geglu`], written to `d_gate_up`.
    geglu_backward = geglu_backward_body(
        gate_up: &[f32], d_activated: &[f32], d_gate_up: &mut [f32], width: usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;

    fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    }

    #[test]
    fn geglu_is_its_definition_and_its_gradient_its_slope() {
        let (mut random, width) = (Random::new(4), 37);
        let gate_up: Vec<f32> = (0..4 * width).map(|_| 3.0 * random.normal() as f32).collect();
        let d: Vec<f32> = (0..2 * width).map(|_| random.normal() as f32).collect();
        let (mut activated, mut d_gate_up) = (vec![0.0; 2 * width], vec![0.0; 4 * width]);
        geglu(&gate_up, &mut activated, width);
        geglu_backward(&gate_up, &d, &mut d_gate_up, width);
        for row in 0..2 {
            for channel in 0..width {
                let at = |part: usize| row * 2 * width + part * width + channel;
                let (x, up) = (f64::from(gate_up[at(0)]), f64::from(gate_up[at(1)]));
                let (found, d) = (f64::from(activated[row * width + channel]), f64::from(d[row * width + channel]));
                assert!((found - gelu(x) * up).abs() < 2e-6, "{x} {up}");
                let slope = (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
                assert!((f64::from(d_gate_up[at(0)]) - d * up * slope).abs() < 1e-5, "{x}");
                assert!((f64::from(d_gate_up[at(1)]) - d * gelu(x)).abs() < 1e-5, "{x}");
            }
        }
    }
}
