//! Reads prompts for sampling: what several begin with is read once, and every row is what it would be if it were read
//! alone.
//!
//! Only keys, values and the logits behind the last token are kept, so that a long prompt costs little more than its
//! cache.

use std::rc::Rc;

use super::block::{Block, Branch, FeedForward, HeadNorm};
use super::forward::{Prepared, embed, take};
use super::head;
use super::kernels::{Cache, KEY_BLOCK, Scoring, View, causal_softmax, multiply, rms_norm};
use super::sample::Steering;
use super::weights::Weights;
use crate::error::Result;

/// Tokens of prompts that are read together.
const TOKENS: usize = 1024;
/// Prompts that are read together: each leaves a row of logits.
const PROMPTS: usize = 128;
/// Tokens that reading a common beginning must save; a pass over fewer costs as much as it saves.
const WORTH: usize = 32;
/// Queries whose scores exist at a time.
const QUERIES: usize = 256;

/// Prompts to read at a time, and the number of tokens that all of them begin with and that are read before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Length of the common beginning; each prompt is longer.
    pub shared: usize,
    /// The prompts, by their places.
    pub prompts: Vec<usize>,
}

/// In which order to read these prompts, which are sorted and distinct: prompts that share their beginning come one
/// after the other, longer ones within shorter ones.
pub(super) fn plan(prompts: &[&[u32]]) -> Vec<Reading> {
    let common = |pair: &[&[u32]]| {
        let equal = pair[0].iter().zip(pair[1]).take_while(|(a, b)| a == b).count();
        // The last token is always read with its prompt, which wants its logits.
        equal.min(pair[0].len() - 1).min(pair[1].len() - 1)
    };
    let common: Vec<usize> = prompts.windows(2).map(common).collect();
    let mut readings = Vec::new();
    split(prompts, &common, 0..prompts.len(), 0, &mut readings);
    readings
}

/// Plans the prompts in `range`, of whose beginning `shared` tokens are read.
fn split(
    prompts: &[&[u32]],
    common: &[usize],
    range: std::ops::Range<usize>,
    shared: usize,
    readings: &mut Vec<Reading>,
) {
    let (mut alone, mut within) = (Vec::new(), Vec::new());
    // Stretches whose neighbours have more in common than `least`; where that is too little, those of them that have more.
    let mut open = vec![(range, shared)];
    while let Some((range, least)) = open.pop() {
        let mut start = range.start;
        while start < range.end {
            let more = common[start..range.end - 1].iter().take_while(|common| **common > least).count();
            let stretch = start..start + more + 1;
            start = stretch.end;
            let Some(deeper) = common[stretch.start..stretch.end - 1].iter().min() else {
                alone.push(stretch.start);
                continue;
            };
            match (deeper - shared) * more >= WORTH {
                true => within.push((stretch, *deeper)),
                false => open.push((stretch, *deeper)),
            }
        }
    }
    alone.sort_unstable();
    let mut tokens = 0;
    let mut batch = Vec::new();
    for place in alone {
        let own = prompts[place].len() - shared;
        if !batch.is_empty() && (tokens + own > TOKENS || batch.len() == PROMPTS) {
            readings.push(Reading { shared, prompts: std::mem::take(&mut batch) });
            tokens = 0;
        }
        tokens += own;
        batch.push(place);
    }
    if !batch.is_empty() {
        readings.push(Reading { shared, prompts: batch });
    }
    within.sort_unstable_by_key(|(stretch, _)| stretch.start);
    for (stretch, deeper) in within {
        split(prompts, common, stretch, deeper, readings);
    }
}

/// Keys and values of one layer; see [`Cache`] for their order.
#[derive(Default)]
pub(super) struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    length: usize,
}

impl LayerCache {
    /// An empty cache that holds `tokens` without growing.
    pub fn with_room(tokens: usize, channels: usize) -> Self {
        LayerCache {
            keys: Vec::with_capacity(tokens.next_multiple_of(KEY_BLOCK) * channels),
            values: Vec::with_capacity(tokens * channels),
            length: 0,
        }
    }
    /// These rows, keys then values.
    fn of_rows(rows: &[f32], channels: usize) -> Self {
        let mut cache = LayerCache::with_room(rows.len() / (2 * channels), channels);
        rows.chunks_exact(2 * channels).for_each(|row| cache.push(row));
        cache
    }
    /// Appends one token's row, keys then values.
    pub fn push(&mut self, row: &[f32]) {
        let (keys, values) = row.split_at(row.len() / 2);
        let place = self.length % KEY_BLOCK;
        if place == 0 {
            self.keys.resize(self.keys.len() + keys.len() * KEY_BLOCK, 0.0);
        }
        let start = self.keys.len() - keys.len() * KEY_BLOCK;
        for (block, key) in self.keys[start..].chunks_exact_mut(KEY_BLOCK).zip(keys) {
            block[place] = *key;
        }
        self.values.extend_from_slice(values);
        self.length += 1;
    }
    /// As [`attend`](super::kernels::attend) reads it.
    pub fn view(&self) -> Cache<'_> {
        Cache { keys: &self.keys, values: &self.values, length: self.length }
    }
}

/// What reading a prompt left, shared by all its samples.
pub(super) struct PromptCache {
    /// What it has in common with others, layer by layer.
    pub shared: Rc<Vec<LayerCache>>,
    /// The rest of it.
    pub layers: Vec<LayerCache>,
    /// Tokens of both.
    pub length: usize,
    /// (vocabulary) after the last token.
    pub logits: Vec<f32>,
}

/// Reads prompts, and keeps the beginning that the last ones had in common.
#[derive(Default)]
pub(super) struct Reader {
    /// Tokens of the beginning.
    ids: Vec<u32>,
    /// Its rows, keys then values, layer by layer.
    rows: Vec<Vec<f32>>,
    /// The same as a cache.
    cache: Rc<Vec<LayerCache>>,
    /// Tokens that were read.
    read: usize,
    buffers: Buffers,
}

/// Buffers of one pass; they grow to the largest and stay.
#[derive(Default)]
struct Buffers {
    /// The rows of the pass, keys then values, layer by layer.
    rows: Vec<Vec<f32>>,
    stream: Vec<f32>,
    inverse: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    probabilities: Vec<f32>,
    attended: Vec<f32>,
    feed_forward: FeedForward,
    logits: Vec<f32>,
    heads: HeadNorm,
    branch: Branch,
}

/// What is read, and how.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub weights: &'a Weights,
    pub prepared: &'a Prepared,
    pub steering: &'a [Steering],
}

impl Reader {
    /// Reads prompts of which `shared` tokens are the same, and shorter than each.
    pub fn read(&mut self, model: Model, prompts: &[&[u32]], shared: usize) -> Result<Vec<Rc<PromptCache>>> {
        let config = &model.weights.config;
        let Some(first) = prompts.first() else { return Ok(Vec::new()) };
        self.share(model, &first[..shared])?;
        let rest: Vec<&[u32]> = prompts.iter().map(|ids| &ids[shared..]).collect();
        self.pass(model, &rest, true)?;
        let width = 2 * config.key_width();
        let mut start = 0;
        let logits = self.buffers.logits.chunks_exact(config.vocabulary);
        let caches = rest.iter().zip(logits).map(|(ids, logits)| {
            let rows = start * width..(start + ids.len()) * width;
            start += ids.len();
            let layers = self.buffers.rows.iter().map(|layer| LayerCache::of_rows(&layer[rows.clone()], width / 2));
            let (layers, length) = (layers.collect(), shared + ids.len());
            Rc::new(PromptCache { shared: Rc::clone(&self.cache), layers, length, logits: logits.to_vec() })
        });
        Ok(caches.collect())
    }

    /// Makes these tokens the beginning that is kept, and reads what of them is not.
    fn share(&mut self, model: Model, ids: &[u32]) -> Result<()> {
        let config = &model.weights.config;
        let width = 2 * config.key_width();
        let kept = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        self.rows.resize_with(config.layers, Vec::new);
        if kept == ids.len() && kept == self.ids.len() && !self.cache.is_empty() {
            return Ok(());
        }
        self.ids.truncate(kept);
        self.rows.iter_mut().for_each(|rows| rows.truncate(kept * width));
        if kept < ids.len() {
            self.pass(model, &[&ids[kept..]], false)?;
            self.ids.extend_from_slice(&ids[kept..]);
            self.rows.iter_mut().zip(&self.buffers.rows).for_each(|(rows, new)| rows.extend_from_slice(new));
        }
        self.cache = Rc::new(self.rows.iter().map(|rows| LayerCache::of_rows(rows, width / 2)).collect());
        Ok(())
    }

    /// Reads sequences that go on where the beginning that is kept ends; with `ends`, the logits behind each are told.
    /// The arithmetic of each row is that of [`forward_edited`](super::forward::forward_edited) over the whole.
    fn pass(&mut self, model: Model, sequences: &[&[u32]], ends: bool) -> Result<()> {
        let Model { weights, prepared, steering } = model;
        let Weights { config, values, layout, .. } = weights;
        let (width, query, key) = (config.width, config.query_width(), config.key_width());
        let (epsilon, before) = (config.norm_epsilon as f32, self.ids.len());
        let b = &mut self.buffers;
        let ids = sequences.concat();
        let positions: Vec<u32> = sequences.iter().flat_map(|ids| before as u32..(before + ids.len()) as u32).collect();
        let mut end = 0;
        let bounds = sequences.iter().map(|ids| {
            end += ids.len();
            end - ids.len()..end
        });
        let bounds: Vec<_> = bounds.collect();
        let lasts: Vec<usize> = bounds.iter().map(|bounds| bounds.end - 1).collect();
        let longest = before + sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        self.read += ids.len();
        b.rows.resize_with(config.layers, Vec::new);
        let stream = take(&mut b.stream, ids.len() * width);
        embed(config, &values[layout.embedding.clone()], &ids, stream);
        steer(steering, 0, stream, width, |row| ends && lasts.binary_search(&row).is_ok());
        for index in 0..config.layers {
            let block = Block::new(weights, prepared, index, longest);
            let is_top = index + 1 == config.layers;
            let stream = take(&mut b.stream, ids.len() * width);
            let normed = take(&mut b.normed, ids.len() * width);
            let inverse = take(&mut b.inverse, ids.len());
            rms_norm(stream, &block.panels.attention_gain, normed, inverse, epsilon);
            let rows = take(&mut b.rows[index], ids.len() * 2 * key);
            block.keys_values(normed, &positions, rows, &mut b.heads);
            if is_top && !ends {
                return Ok(());
            }
            // In the last block, the last token of each sequence is all that is wanted.
            let last_positions: Vec<u32>;
            let (count, positions, normed) = if is_top {
                last_positions = lasts.iter().map(|row| positions[*row]).collect();
                for (place, row) in lasts.iter().enumerate() {
                    stream.copy_within(row * width..(row + 1) * width, place * width);
                    normed.copy_within(row * width..(row + 1) * width, place * width);
                }
                b.stream.truncate(lasts.len() * width);
                (lasts.len(), &last_positions, &b.normed[..lasts.len() * width])
            } else {
                (ids.len(), &positions, &b.normed[..])
            };
            let stream = &mut b.stream;
            let queries = take(&mut b.queries, count * query);
            block.queries(normed, positions, queries, &mut b.heads);
            let attended = take(&mut b.attended, count * query);
            for (place, bounds) in bounds.iter().enumerate() {
                let own = if is_top { place..place + 1 } else { bounds.clone() };
                let context = Context {
                    before: &self.rows[index],
                    own: &b.rows[index][bounds.start * 2 * key..bounds.end * 2 * key],
                    sizes: [config.heads, config.key_value_heads, config.head_width()],
                    scoring: block.scoring,
                };
                let channels = own.start * query..own.end * query;
                let (from, to) = (&queries[channels.clone()], &mut attended[channels]);
                context.attend(from, &positions[own], &mut b.probabilities, to);
            }
            block.add_attention(attended, stream, &mut b.branch);
            block.feed_forward(stream, &mut b.feed_forward);
            block.add_feed_forward(&b.feed_forward.activated, stream, &mut b.branch);
            steer(steering, index + 1, stream, width, |row| ends && (is_top || lasts.binary_search(&row).is_ok()));
        }
        let normed = take(&mut b.normed, lasts.len() * width);
        rms_norm(&b.stream, &prepared.gain, normed, take(&mut b.inverse, lasts.len()), epsilon);
        head::logits(weights, prepared, normed, &mut b.logits)
    }
}

/// The rows that a sequence attends to.
struct Context<'a> {
    /// Of the beginning, keys then values.
    before: &'a [f32],
    /// Of the sequence itself.
    own: &'a [f32],
    /// Heads, key heads, channels of a head.
    sizes: [usize; 3],
    scoring: Scoring,
}

impl Context<'_> {
    /// Attention of some queries, which stand at these positions. Sums over the tokens run through both parts in order,
    /// so that they come out as over one.
    fn attend(&self, queries: &[f32], positions: &[u32], probabilities: &mut Vec<f32>, attended: &mut [f32]) {
        let [heads, key_heads, head_width] = self.sizes;
        let (width, key_width, row) = (heads * head_width, key_heads * head_width, 2 * key_heads * head_width);
        let (before, own) = (self.before.len() / row, self.own.len() / row);
        let time = before + own;
        for head in 0..heads {
            let (query, key) = (head * head_width, head / (heads / key_heads) * head_width);
            let parts = [(self.before, before, 0), (self.own, own, before)];
            for (part, positions) in positions.chunks(QUERIES).enumerate() {
                let (count, first) = (positions.len(), part * QUERIES * width + query);
                let p = take(probabilities, count * time);
                let q = View::rows(&queries[first..], width);
                for (rows, tokens, start) in parts.iter().filter(|(_, tokens, _)| *tokens > 0) {
                    let keys = View::rows(&rows[key..], row).transposed();
                    multiply(&mut p[*start..], time, q, keys, [count, head_width, *tokens], false);
                }
                causal_softmax(p, time, positions, self.scoring);
                for (rows, tokens, start) in parts.iter().filter(|(_, tokens, _)| *tokens > 0) {
                    let values = View::rows(&rows[key_width + key..], row);
                    let weights = View::rows(&p[*start..], time);
                    let sizes = [count, *tokens, head_width];
                    multiply(&mut attended[first..], width, weights, values, sizes, *start > 0);
                }
            }
        }
    }
}

/// Changes the rows of a state: all of them, or those from which an answer is drawn.
fn steer(steering: &[Steering], state: usize, stream: &mut [f32], width: usize, is_end: impl Fn(usize) -> bool) {
    for steering in steering.iter().filter(|steering| steering.state == state) {
        for (row, values) in stream.chunks_exact_mut(width).enumerate() {
            if steering.prompt || is_end(row) {
                steering.change.apply(values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::batch::Batch;
    use crate::model::forward::{Activations, forward_edited};
    use crate::model::tap::{Change, Edit, Rows};
    use crate::model::variant::{FAMILIES, Family};
    use crate::model::weights::tests::odd;

    fn planned(prompts: &[&[u32]]) -> Vec<(usize, Vec<usize>)> {
        plan(prompts).into_iter().map(|reading| (reading.shared, reading.prompts)).collect()
    }

    /// A beginning of some length, and more.
    fn prompt(beginning: &[(u32, usize)], end: &[u32]) -> Vec<u32> {
        let ids = beginning.iter().flat_map(|(id, count)| std::iter::repeat_n(*id, *count));
        ids.chain(end.iter().copied()).collect()
    }

    #[test]
    fn longer_beginnings_are_read_within_shorter_ones() {
        let all = [
            prompt(&[(1, 40), (2, 40)], &[1]),
            prompt(&[(1, 40), (2, 40)], &[2]),
            prompt(&[(1, 40), (3, 90)], &[1, 1]),
            prompt(&[(1, 40), (3, 90)], &[1, 2]),
            prompt(&[(1, 40)], &[4]),
            prompt(&[(5, 9)], &[]),
        ];
        let all: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        assert_eq!(planned(&all), [(0, vec![5]), (40, vec![4]), (80, vec![0, 1]), (131, vec![2, 3])]);
        // Two that share a little are read whole, and so is one alone.
        assert_eq!(planned(&[&[1, 2, 3], &[1, 2, 4], &[2]]), [(0, vec![0, 1, 2])]);
        // What is the beginning of another keeps its last token.
        let (long, short) = (prompt(&[(1, 50)], &[]), prompt(&[(1, 60)], &[]));
        assert_eq!(planned(&[&long, &short]), [(49, vec![0, 1])]);
        assert!(planned(&[]).is_empty());
    }

    #[test]
    fn little_in_common_hides_no_more() {
        let mut all: Vec<Vec<u32>> = (0..3).map(|end| prompt(&[(1, 1), (2, 100)], &[end])).collect();
        all.push(prompt(&[(1, 1), (3, 100)], &[]));
        let all: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        assert_eq!(planned(&all), [(0, vec![3]), (101, vec![0, 1, 2])]);
        let many: Vec<Vec<u32>> = (0..300).map(|end| prompt(&[(1, 9)], &[end; 10])).collect();
        let many: Vec<&[u32]> = many.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = plan(&many).iter().map(|reading| reading.prompts.len()).collect();
        assert_eq!(lengths, [102, 102, 96]);
        assert!(plan(&many).iter().all(|reading| reading.shared == 9));
    }

    /// Reads prompts with this much in common, and compares keys, values and logits, bit for bit, with those of a pass
    /// over each alone.
    fn check(weights: &Weights, prompts: &[Vec<u32>], shared: usize, steering: &[Steering], reader: &mut Reader) {
        let (prepared, config) = (Prepared::new(weights).unwrap(), &weights.config);
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let model = Model { weights, prepared: &prepared, steering };
        let caches = reader.read(model, &prompts, shared).unwrap();
        let width = 2 * config.key_width();
        for (ids, cache) in prompts.iter().zip(caches) {
            let mut batch = Batch::default();
            batch.push(ids, [ids.len() - 1]);
            let edits: Vec<Edit> = steering
                .iter()
                .map(|steering| {
                    let rows = if steering.prompt {
                        Rows::All
                    } else {
                        Rows::Marked((0..ids.len()).map(|row| row + 1 == ids.len()).collect())
                    };
                    Edit { state: steering.state, rows, change: steering.change.clone() }
                })
                .collect();
            let mut activations = Activations::default();
            forward_edited(weights, &prepared, &batch, &edits, &mut activations).unwrap();
            let mut logits = Vec::new();
            head::logits(weights, &prepared, activations.hidden(), &mut logits).unwrap();
            assert!(cache.logits == logits, "{:?} shared {shared}", config.variant.family);
            assert_eq!((cache.length, cache.shared[0].length), (ids.len(), shared));
            for (index, layer) in activations.layers.iter().enumerate() {
                let whole = LayerCache::of_rows(&layer.keys_values, width / 2);
                let values = [&cache.shared[index].values[..], &cache.layers[index].values].concat();
                assert!(whole.values == values, "{:?} shared {shared} layer {index}", config.variant.family);
                let own = LayerCache::of_rows(&layer.keys_values[shared * width..], width / 2);
                assert!(own.keys == cache.layers[index].keys);
            }
        }
    }

    #[test]
    fn what_is_read_in_parts_is_what_is_read_whole() {
        let mut random = Random::new(4);
        let mut ids = |count: usize| (0..count).map(|_| random.below(37) as u32).collect::<Vec<u32>>();
        let beginning = ids(17);
        let prompts: Vec<Vec<u32>> = (1..5).map(|end| [&beginning[..], &ids(end)].concat()).collect();
        let vector: Vec<f32> = (0..24).map(|channel| (channel as f32 - 11.0) / 5.0).collect();
        for family in FAMILIES {
            let weights = odd(family, 5);
            let mut reader = Reader::default();
            // One reader for all: the beginning grows and shrinks.
            for shared in [0, 3, 17, 16, 0, 9] {
                check(&weights, &prompts, shared, &[], &mut reader);
            }
        }
        let weights = odd(Family::Gemma2, 6);
        for (state, prompt) in [(0, true), (1, false), (1, true), (2, false), (0, false)] {
            let steering = [Steering { state, prompt, change: Change::Add(vector.clone()) }];
            for shared in [0, 11] {
                check(&weights, &prompts, shared, &steering, &mut Reader::default());
            }
        }
    }

    /// `cargo test --release --lib speed_of_shared_beginnings -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_shared_beginnings() {
        use crate::model::config::{Config, tests::tiny};
        use crate::model::sample::{Prompt, SampleOptions, sample};
        let config = Config {
            vocabulary: 2500,
            width: 128,
            layers: 4,
            heads: 4,
            key_value_heads: 4,
            feed_forward: 344,
            context: 1024,
            ..tiny()
        };
        let weights = Weights::initial(&config, 1).unwrap();
        let options = SampleOptions { max_tokens: 16, stop: vec![], ..SampleOptions::default() };
        let mut random = Random::new(8);
        let mut ids = |count: usize| (0..count).map(|_| random.below(2500) as u32).collect::<Vec<u32>>();
        let (system, one) = (ids(400), ids(400));
        let apart: Vec<Vec<u32>> = (0..128).map(|_| ids(416)).collect();
        let together: Vec<Vec<u32>> = (0..128).map(|_| [&system[..], &ids(16)].concat()).collect();
        let equal = vec![one; 128];
        for (name, texts) in [("nothing in common", apart), ("one system prompt", together), ("one prompt", equal)] {
            let prompts: Vec<Prompt> =
                texts.into_iter().enumerate().map(|(seed, ids)| Prompt { ids, seed: seed as u64 }).collect();
            let begun = std::time::Instant::now();
            sample(&weights, &prompts, &options, &|| false).unwrap();
            println!("128 prompts of about 400 tokens, {name}: {:.2} s", begun.elapsed().as_secs_f64());
        }
    }

    #[test]
    fn a_beginning_is_read_once() {
        let weights = odd(Family::Qwen3, 3);
        let prepared = Prepared::new(&weights).unwrap();
        let model = Model { weights: &weights, prepared: &prepared, steering: &[] };
        let mut reader = Reader::default();
        let (one, two) = (prompt(&[(1, 20)], &[2]), prompt(&[(1, 20)], &[3, 4]));
        reader.read(model, &[&one], 20).unwrap();
        reader.read(model, &[&two], 20).unwrap();
        assert_eq!(reader.read, 20 + 1 + 2);
        reader.read(model, &[&two], 12).unwrap();
        assert_eq!(reader.read, 23 + 10);
    }
}
