//! Scores of attention: scaled, capped, softened over the keys that a query sees, and decoded over a cache.

use super::{LANES, dot, exp, exp_in_place, fused, maximum};
#[cfg(target_arch = "x86_64")]
use super::{Unit, unit};

/// How the product of a query and a key becomes a score, and which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// Factor of the product.
    pub scale: f32,
    /// Scores are bent to stay between this and its negative, cap * tanh(score / cap); 0 for none.
    pub cap: f32,
    /// Keys that a query sees, itself included; `usize::MAX` for all before it.
    pub window: usize,
}

impl Scoring {
    /// The first key that a query at this position sees.
    #[inline(always)]
    fn first(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }
}

#[inline(always)]
fn cap_body<const FMA: bool>(values: &mut [f32], cap: f32) {
    for value in values {
        *value = cap * (1.0 - 2.0 / (exp::<FMA>(2.0 / cap * *value) + 1.0));
    }
}
dispatch! {
    /// Replaces each x by cap * tanh(x / cap).
    cap = cap_body(values: &mut [f32], cap: f32)
}

#[inline(always)]
fn cap_backward_body<const FMA: bool>(capped: &[f32], d: &mut [f32], cap: f32) {
    for (capped, d) in capped.iter().zip(d) {
        let tanh = capped / cap;
        *d *= fused::<FMA>(-tanh, tanh, 1.0);
    }
}
dispatch! {
    /// Turns the gradient of what [`cap`] gave into that of what it was given, in place.
    cap_backward = cap_backward_body(capped: &[f32], d: &mut [f32], cap: f32)
}

#[inline(always)]
fn causal_softmax_body<const FMA: bool>(scores: &mut [f32], time: usize, positions: &[u32], scoring: Scoring) {
    for (row, position) in scores.chunks_exact_mut(time).zip(positions) {
        let first = scoring.first(*position as usize);
        let (seen, hidden) = row.split_at_mut(*position as usize + 1);
        let (before, seen) = seen.split_at_mut(first);
        seen.iter_mut().for_each(|score| *score *= scoring.scale);
        if scoring.cap > 0.0 {
            cap_body::<FMA>(seen, scoring.cap);
        }
        let shift = maximum(seen);
        let inverse = 1.0 / exp_in_place::<FMA>(seen, shift);
        seen.iter_mut().for_each(|score| *score *= inverse);
        before.fill(0.0);
        hidden.fill(0.0);
    }
}
dispatch! {
    /// Softmax of the scores (queries, time), which come as products, over the keys that each query may see.
    causal_softmax = causal_softmax_body(scores: &mut [f32], time: usize, positions: &[u32], scoring: Scoring)
}

#[inline(always)]
fn causal_softmax_backward_body<const FMA: bool>(
    probabilities: &[f32],
    products: &[f32],
    d: &mut [f32],
    time: usize,
    positions: &[u32],
    scoring: Scoring,
) {
    let rows = probabilities.chunks_exact(time).zip(d.chunks_exact_mut(time));
    for (row, ((p, d), position)) in rows.zip(positions).enumerate() {
        let seen = scoring.first(*position as usize)..*position as usize + 1;
        let mean = dot::<FMA>(&p[seen.clone()], &d[seen.clone()]);
        for (p, d) in p[seen.clone()].iter().zip(&mut d[seen.clone()]) {
            *d = p * (*d - mean) * scoring.scale;
        }
        if scoring.cap > 0.0 {
            let factor = 2.0 * scoring.scale / scoring.cap;
            for (product, d) in products[row * time..][seen.clone()].iter().zip(&mut d[seen.clone()]) {
                let tanh = 1.0 - 2.0 / (exp::<FMA>(factor * product) + 1.0);
                *d *= fused::<FMA>(-tanh, tanh, 1.0);
            }
        }
        d[..seen.start].fill(0.0);
        d[seen.end..].fill(0.0);
    }
}
dispatch! {
    /// Turns the gradient of the probabilities of [`causal_softmax`] into that of the products, in place. The products
    /// themselves are read only where scores are capped.
    causal_softmax_backward = causal_softmax_backward_body(
        probabilities: &[f32], products: &[f32], d: &mut [f32], time: usize, positions: &[u32], scoring: Scoring)
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
    caches: [Cache; 3],
    channels: usize,
    head_width: usize,
    scoring: Scoring,
    scores: &mut [f32],
    out: &mut [f32],
) {
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
                place.iter_mut().zip(lanes).for_each(|(score, lane)| *score = lane * scoring.scale);
            }
            end += cache.length;
        }
        let seen = &mut scores[..end];
        let (before, visible) = seen.split_at_mut(scoring.first(end - 1));
        if scoring.cap > 0.0 {
            cap_body::<FMA>(visible, scoring.cap);
        }
        // What a query does not see keeps its place, with no weight.
        before.fill(0.0);
        let shift = maximum(visible);
        let inverse = 1.0 / exp_in_place::<FMA>(visible, shift);
        visible.iter_mut().for_each(|score| *score *= inverse);
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
    /// Attention of one token's `queries` (all heads) over three caches, one after the other, each with `channels` key
    /// channels. `scores` has a place for every token and a block more per cache.
    attend = attend_body(
        queries: &[f32], caches: [Cache; 3], channels: usize, head_width: usize, scoring: Scoring, scores: &mut [f32],
        out: &mut [f32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;

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
        let scoring = Scoring { scale: 1.0 / (channels as f32).sqrt(), cap: 0.0, window: usize::MAX };
        let run = |cuts: [usize; 2], scoring: Scoring| {
            let parts = [0..cuts[0], cuts[0]..cuts[1], cuts[1]..length];
            let keys = parts.clone().map(&blocks);
            let cache = |part: usize| {
                let tokens = parts[part].clone();
                let values = &values[tokens.start * channels..tokens.end * channels];
                Cache { keys: &keys[part], values, length: tokens.len() }
            };
            let (mut scores, mut out) = (vec![0.0; length + 3 * KEY_BLOCK], vec![0.0; 2 * channels]);
            attend(&queries, [cache(0), cache(1), cache(2)], channels, channels, scoring, &mut scores, &mut out);
            out
        };
        for cuts in [[0, 4], [4, 4], [0, length], [length, length], [3, 17], [16, 33]] {
            assert_eq!(run([0, 0], scoring), run(cuts, scoring), "{cuts:?}");
        }
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
            assert!((f64::from(run([4, 9], scoring)[channels + channel]) - exact / total).abs() < 1e-5);
        }
    }

    #[test]
    fn capped_and_windowed_scores_have_the_slope_that_is_told() {
        let (mut random, time) = (Random::new(6), 9);
        let positions: Vec<u32> = (0..time as u32).collect();
        let mut noise = || (0..time * time).map(|_| 2.0 * random.normal() as f32).collect::<Vec<_>>();
        let (products, weights, direction) = (noise(), noise(), noise());
        for (cap, window) in [(0.0, usize::MAX), (3.0, usize::MAX), (0.0, 4), (1.5, 3)] {
            let scoring = Scoring { scale: 0.7, cap, window };
            let at = |step: f32| {
                let mut p: Vec<f32> = products.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                causal_softmax(&mut p, time, &positions, scoring);
                let sum = p.iter().zip(&weights).map(|(p, w)| f64::from(*p) * f64::from(*w)).sum::<f64>();
                (sum, p)
            };
            let p = at(0.0).1;
            let visible = p.iter().filter(|p| **p > 0.0).count();
            assert_eq!(visible, (1..=time).map(|seen| seen.min(window)).sum::<usize>());
            let mut d = weights.clone();
            causal_softmax_backward(&p, &products, &mut d, time, &positions, scoring);
            let slope: f64 = d.iter().zip(&direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let difference = (at(1e-2).0 - at(-1e-2).0) / 2e-2;
            assert!((slope - difference).abs() < 1e-2 * slope.abs().max(0.3), "{slope} {difference}");
        }
    }
}
