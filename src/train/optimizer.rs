//! AdamW in place over flat buffers, with the gradient's norm clipped.

use std::ops::Range;

use crate::model::kernels::{AdamStep, adam, sum_of_squares};
use crate::model::share::share;

/// What an optimizer needs to know that does not change.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices; gains do not decay.
    pub weight_decay: f64,
    /// Longest gradient, in its Euclidean norm.
    pub clip: f64,
}

/// AdamW's moments and step count.
pub struct Adam {
    options: AdamOptions,
    /// Consecutive parts of the buffer, and whether each decays.
    parts: Vec<(Range<usize>, bool)>,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
    step: i32,
    threads: usize,
}

/// Values whose squares are added in f32 before they are joined in f64.
const BLOCK: usize = 4096;
/// Values that one thread moves at a time: a whole number of blocks.
const PIECE: usize = 16 * BLOCK;

impl Adam {
    /// An optimizer of a buffer that consists of these parts, on at most `threads` threads; the flag says whether a part
    /// decays.
    pub fn new(options: AdamOptions, parts: Vec<(Range<usize>, bool)>, threads: usize) -> Self {
        let count = parts.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        Adam { options, parts, first_moment: vec![0.0; count], second_moment: vec![0.0; count], step: 0, threads }
    }

    /// First moments, second moments and steps taken: all that it remembers.
    pub fn moments(&self) -> (&[f32], &[f32], usize) {
        (&self.first_moment, &self.second_moment, self.step as usize)
    }

    /// Goes on from what [`Adam::moments`] told.
    pub fn resume(&mut self, first_moment: Vec<f32>, second_moment: Vec<f32>, steps: usize) {
        (self.first_moment, self.second_moment) = (first_moment, second_moment);
        self.step = steps as i32;
    }

    /// Moves `values` against `gradient` and returns the gradient's norm before clipping; where that is no number, nothing
    /// moves.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], learning_rate: f64) -> f64 {
        let norm = self.norm(gradient);
        if !norm.is_finite() {
            return norm;
        }
        self.step += 1;
        let AdamOptions { beta1, beta2, epsilon, weight_decay, clip } = self.options;
        let step = AdamStep {
            learning_rate: learning_rate as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            epsilon: epsilon as f32,
            weight_decay: 0.0,
            gradient_scale: (clip / (norm + 1e-6)).min(1.0) as f32,
            correction1: (1.0 / (1.0 - beta1.powi(self.step))) as f32,
            correction2: (1.0 / (1.0 - beta2.powi(self.step))) as f32,
        };
        for (range, decays) in &self.parts {
            let step = AdamStep { weight_decay: if *decays { weight_decay as f32 } else { 0.0 }, ..step };
            let (m, v) = (&mut self.first_moment[range.clone()], &mut self.second_moment[range.clone()]);
            let moments = m.chunks_mut(PIECE).zip(v.chunks_mut(PIECE));
            let pieces =
                values[range.clone()].chunks_mut(PIECE).zip(gradient[range.clone()].chunks(PIECE)).zip(moments);
            let mut pieces: Vec<_> = pieces.collect();
            share(self.threads, &mut pieces, |((values, gradient), (m, v))| adam(values, gradient, m, v, step));
        }
        norm
    }

    /// Euclidean norm; the order of its sums does not depend on the threads.
    fn norm(&self, gradient: &[f32]) -> f64 {
        let mut squares: Vec<(&[f32], f64)> = gradient.chunks(BLOCK).map(|block| (block, 0.0)).collect();
        share(self.threads, &mut squares, |(block, square)| *square = sum_of_squares(block));
        squares.iter().map(|(_, square)| square).sum::<f64>().sqrt()
    }
}
