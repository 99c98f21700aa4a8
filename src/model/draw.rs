//! Draws a token from logits: temperature, nucleus, and the log-probability that is told.

use super::kernels::{exponentials, sum};
use super::sample::SampleOptions;
use crate::data::random::Random;

/// Draws a token and gives its log-probability under the logits as they are.
pub(super) fn draw(
    logits: &[f32],
    options: &SampleOptions,
    random: &mut Random,
    row: &mut Vec<f32>,
    candidates: &mut Vec<u32>,
) -> (u32, f32) {
    row.clear();
    row.extend_from_slice(logits);
    let log_total = exponentials(row, 1.0);
    if options.temperature == 0.0 {
        // Of equal logits, the first.
        let best = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
        return (best as u32, logits[best] - log_total);
    }
    if options.temperature != 1.0 {
        row.copy_from_slice(logits);
        exponentials(row, (1.0 / options.temperature) as f32);
    }
    let id = if options.top_p < 1.0 {
        draw_nucleus(row, options.top_p, random, candidates)
    } else {
        draw_weighted(row, random)
    };
    (id, logits[id as usize] - log_total)
}

/// An index in proportion to the weights: first the block it lies in, then its place there.
fn draw_weighted(weights: &[f32], random: &mut Random) -> u32 {
    const BLOCK: usize = 64;
    let total: f64 = weights.chunks(BLOCK).map(|block| f64::from(sum(block))).sum();
    let mut left = random.uniform() * total;
    let mut last = 0;
    for (index, block) in weights.chunks(BLOCK).enumerate() {
        let share = f64::from(sum(block));
        if left >= share {
            left -= share;
            continue;
        }
        for (offset, weight) in block.iter().enumerate() {
            if *weight > 0.0 {
                last = index * BLOCK + offset;
                left -= f64::from(*weight);
                if left < 0.0 {
                    return last as u32;
                }
            }
        }
    }
    last as u32
}

/// An index among the likeliest that together have the share `top_p` (Holtzman et al. 2020).
fn draw_nucleus(weights: &[f32], top_p: f64, random: &mut Random, candidates: &mut Vec<u32>) -> u32 {
    candidates.clear();
    candidates.extend(0..weights.len() as u32);
    candidates.sort_unstable_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)));
    let weight = |id: &u32| f64::from(weights[*id as usize]);
    let enough = top_p * candidates.iter().map(weight).sum::<f64>();
    let mut reached = 0.0;
    let count = candidates.iter().take_while(|id| {
        let more = reached < enough;
        reached += weight(id);
        more
    });
    let count = count.count().max(1);
    let chosen = &candidates[..count];
    let mut left = random.uniform() * chosen.iter().map(weight).sum::<f64>();
    for id in chosen {
        left -= weight(id);
        if left < 0.0 {
            return *id;
        }
    }
    chosen[count - 1]
}
