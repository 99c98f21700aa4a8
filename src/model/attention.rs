//! Causal attention of ragged sequences with grouped queries, forward and backward.

use super::batch::Batch;
use super::config::Config;
use super::kernels::{Scoring, View, causal_softmax, causal_softmax_backward, multiply};

/// One head of one sequence: where its rows stand in the buffers.
struct Head {
    /// First query row and number of query rows.
    queries: (usize, usize),
    /// First key row and number of key rows.
    keys: (usize, usize),
    /// First channel of the query head.
    query: usize,
    /// First channel of the key head; its values stand a key width further.
    key: usize,
    /// Whether this head is the first of its group.
    first: bool,
    /// Place of its probabilities, (queries, keys).
    probabilities: std::ops::Range<usize>,
}

/// Probabilities that [`attention`] keeps for these query rows.
pub(super) fn probabilities(config: &Config, batch: &Batch, selected: bool) -> usize {
    heads(config, batch, selected).last().map_or(0, |head| head.probabilities.end)
}

fn heads<'a>(config: &'a Config, batch: &'a Batch, selected: bool) -> impl Iterator<Item = Head> + 'a {
    let (width, group) = (config.head_width(), config.heads / config.key_value_heads);
    let query_bounds = if selected { &batch.output_bounds } else { &batch.bounds };
    let mut end = 0;
    let sequences = batch.bounds.windows(2).zip(query_bounds.windows(2));
    sequences
        .flat_map(move |(keys, queries)| {
            (0..config.heads).map(move |head| (keys[0], keys[1] - keys[0], queries[0], queries[1] - queries[0], head))
        })
        .map(move |(key, time, query, count, head)| {
            end += count * time;
            Head {
                queries: (query, count),
                keys: (key, time),
                query: head * width,
                key: head / group * width,
                first: head % group == 0,
                probabilities: end - count * time..end,
            }
        })
}

/// Attends from `queries` (rows, query heads) to `keys_values` (rows, keys then values); `selected` says that the queries are
/// the batch's outputs alone. Keeps probabilities for the way back.
pub(super) fn attention(
    config: &Config,
    batch: &Batch,
    selected: bool,
    scoring: Scoring,
    queries: &[f32],
    keys_values: &[f32],
    kept: &mut [f32],
    attended: &mut [f32],
) {
    let (width, head_width, key_width) = (config.query_width(), config.head_width(), config.key_width());
    let positions = if selected { &batch.output_positions } else { &batch.positions };
    for head in heads(config, batch, selected).filter(|head| head.queries.1 > 0) {
        let ((query, count), (key, time)) = (head.queries, head.keys);
        let q = View::rows(&queries[query * width + head.query..], width);
        let k = View::rows(&keys_values[key * 2 * key_width + head.key..], 2 * key_width);
        let v = View::rows(&keys_values[key * 2 * key_width + key_width + head.key..], 2 * key_width);
        let p = &mut kept[head.probabilities];
        multiply(p, time, q, k.transposed(), [count, head_width, time], false);
        causal_softmax(p, time, &positions[query..query + count], scoring);
        let out = &mut attended[query * width + head.query..];
        multiply(out, width, View::rows(p, time), v, [count, time, head_width], false);
    }
}

/// The buffers of [`attention_backward`]: what the forward pass kept, and the gradients to write.
pub(super) struct Backward<'a> {
    pub queries: &'a [f32],
    pub keys_values: &'a [f32],
    pub kept: &'a [f32],
    pub d_attended: &'a [f32],
    pub d_queries: &'a mut [f32],
    pub d_keys_values: &'a mut [f32],
    pub scores: &'a mut Vec<f32>,
    pub products: &'a mut Vec<f32>,
}

/// Gradients of [`attention`].
pub(super) fn attention_backward(config: &Config, batch: &Batch, selected: bool, scoring: Scoring, buffers: Backward) {
    let Backward { queries, keys_values, kept, d_attended, d_queries, d_keys_values, scores, products } = buffers;
    let (width, head_width, key_width) = (config.query_width(), config.head_width(), config.key_width());
    let row = 2 * key_width;
    let positions = if selected { &batch.output_positions } else { &batch.positions };
    for head in heads(config, batch, selected) {
        let ((query, count), (key, time)) = (head.queries, head.keys);
        if scores.len() < count * time {
            scores.resize(count * time, 0.0);
        }
        let d_scores = &mut scores[..count * time];
        let p = View::rows(&kept[head.probabilities.clone()], time);
        let (query_at, key_at) = (query * width + head.query, key * row + head.key);
        let q = View::rows(&queries[query_at.min(queries.len())..], width);
        let d_out = View::rows(&d_attended[query_at.min(d_attended.len())..], width);
        let (k, v) = (View::rows(&keys_values[key_at..], row), View::rows(&keys_values[key_at + key_width..], row));
        // The heads of a group add to the same keys and values; the first one overwrites what was there.
        let add = !head.first;
        multiply(&mut d_keys_values[key_at + key_width..], row, p.transposed(), d_out, [time, count, head_width], add);
        multiply(d_scores, time, d_out, v.transposed(), [count, head_width, time], false);
        if scoring.cap > 0.0 {
            // The products under the cap are made anew, which costs less than to keep them.
            products.resize(products.len().max(count * time), 0.0);
            multiply(products, time, q, k.transposed(), [count, head_width, time], false);
        }
        let positions = &positions[query..query + count];
        causal_softmax_backward(&kept[head.probabilities], products, d_scores, time, positions, scoring);
        let d_scores = View::rows(d_scores, time);
        if count > 0 {
            multiply(&mut d_queries[query_at..], width, d_scores, k, [count, time, head_width], false);
        }
        multiply(&mut d_keys_values[key_at..], row, d_scores.transposed(), q, [time, count, head_width], add);
    }
}
