//! Batched sampling with a key-value cache; a completion depends on weights, its own prompt and its own seed alone.

use std::rc::Rc;

use super::alternatives::likeliest;
use super::batch::Batch;
use super::config::Config;
use super::forward::{Activations, Prepared, forward, key_value_width, take};
use super::head;
use super::kernels::{Cache, KEY_BLOCK, View, attend, exponentials, multiply_panels, rms_norm, rotate, sum, swiglu};
use super::weights::Weights;
use crate::data::random::Random;
use crate::ensure;
use crate::error::{Error, Kind, Result};

/// Rows that are decoded together: enough to use each weight often, few enough that caches stay near.
const ROWS: usize = 128;
/// Tokens of prompts that are read together.
const PROMPT_TOKENS: usize = 1024;

/// What to continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Tokens, at least one.
    pub ids: Vec<u32>,
    /// Decides the random numbers of this completion.
    pub seed: u64,
}

/// How to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability are drawn, in (0, 1].
    pub top_p: f64,
    /// Most tokens of a completion.
    pub max_tokens: usize,
    /// Tokens that end a completion.
    pub stop: Vec<u32>,
    /// How many of the likeliest tokens are told for each token; never changes what is drawn.
    pub alternatives: usize,
}

impl Default for SampleOptions {
    fn default() -> Self {
        SampleOptions {
            temperature: 1.0,
            top_p: 1.0,
            max_tokens: 64,
            stop: vec![super::tokenizer::END],
            alternatives: 0,
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token came; it is not part of the completion.
    Stop,
    /// `max_tokens` or the model's context was reached.
    Length,
}

/// What was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Tokens, without prompt and stop token.
    pub ids: Vec<u32>,
    /// Log-probability of each of them under the model as it is (temperature 1, no top-p).
    pub logprobs: Vec<f32>,
    /// The likeliest tokens at each of their places, most likely first, where asked for.
    pub alternatives: Vec<Vec<(u32, f32)>>,
    /// Why it ended.
    pub finish: Finish,
}

/// Continues every prompt, on this thread; completions stand in the order of the prompts.
///
/// `cancelled` is asked between steps; when it says yes, the error is [`Kind::Interrupted`].
pub fn sample(
    weights: &Weights,
    prompts: &[Prompt],
    options: &SampleOptions,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Completion>> {
    check(&weights.config, prompts, options)?;
    let mut completions: Vec<Option<Completion>> = vec![None; prompts.len()];
    if options.max_tokens == 0 {
        let empty = Completion { ids: vec![], logprobs: vec![], alternatives: vec![], finish: Finish::Length };
        return Ok(vec![empty; prompts.len()]);
    }
    let mut sampler = Sampler::new(weights, options);
    // Equal prompts stand together and are read once.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by(|a, b| prompts[*a].ids.len().cmp(&prompts[*b].ids.len()).then(prompts[*a].ids.cmp(&prompts[*b].ids)));
    let mut waiting = order.as_slice();
    let mut read: Vec<Slot> = Vec::new();
    loop {
        if cancelled() {
            return Err(Error::new(Kind::Interrupted, "sampling was stopped"));
        }
        while sampler.slots.len() < ROWS {
            if read.is_empty() {
                let count = batch_of(prompts, waiting);
                let (now, later) = waiting.split_at(count);
                waiting = later;
                read = sampler.read(prompts, now);
                read.reverse();
            }
            match read.pop() {
                Some(slot) => sampler.slots.push(slot),
                None => break,
            }
        }
        sampler.choose();
        for index in (0..sampler.slots.len()).rev() {
            if let Some(finish) = sampler.slots[index].finish {
                let slot = sampler.slots.swap_remove(index);
                let Slot { ids, logprobs, alternatives, .. } = slot;
                completions[slot.index] = Some(Completion { ids, logprobs, alternatives, finish });
            }
        }
        if sampler.slots.is_empty() && read.is_empty() && waiting.is_empty() {
            break;
        }
        if !sampler.slots.is_empty() {
            sampler.step();
        }
    }
    Ok(completions.into_iter().map(|completion| completion.expect("every prompt was continued")).collect())
}

fn check(config: &Config, prompts: &[Prompt], options: &SampleOptions) -> Result<()> {
    ensure!(
        (0.0..=f64::MAX).contains(&options.temperature),
        "`temperature` is {}, it is at least 0",
        options.temperature
    );
    ensure!(options.top_p > 0.0 && options.top_p <= 1.0, "`top_p` is {}, it is between 0 and 1", options.top_p);
    for prompt in prompts {
        let length = prompt.ids.len();
        ensure!(length > 0, "a prompt is empty");
        ensure!(length <= config.context, "a prompt has {} tokens, the model reads {}", length, config.context);
        let id = prompt.ids.iter().max().copied().unwrap_or(0);
        ensure!((id as usize) < config.vocabulary, "a prompt has token {}, the model has {}", id, config.vocabulary);
    }
    Ok(())
}

/// How many of the waiting prompts to read next.
fn batch_of(prompts: &[Prompt], waiting: &[usize]) -> usize {
    let mut tokens = 0;
    let fits = |index: &&usize| {
        tokens += prompts[**index].ids.len();
        tokens <= PROMPT_TOKENS
    };
    waiting.iter().take(ROWS).take_while(fits).count().max(waiting.len().min(1))
}

/// What reading a prompt left, shared by all its samples.
struct PromptCache {
    layers: Vec<LayerCache>,
    length: usize,
    /// (vocabulary) after the last token.
    logits: Vec<f32>,
}

/// Keys and values of one layer; see [`Cache`] for their order.
#[derive(Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    length: usize,
}

impl LayerCache {
    /// An empty cache that holds `tokens` without growing.
    fn with_room(tokens: usize, channels: usize) -> Self {
        LayerCache {
            keys: Vec::with_capacity(tokens.next_multiple_of(KEY_BLOCK) * channels),
            values: Vec::with_capacity(tokens * channels),
            length: 0,
        }
    }
    /// Appends one token's row, keys then values.
    fn push(&mut self, row: &[f32]) {
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
    fn view(&self) -> Cache<'_> {
        Cache { keys: &self.keys, values: &self.values, length: self.length }
    }
}

/// A completion in the making.
struct Slot {
    index: usize,
    prompt: Rc<PromptCache>,
    layers: Vec<LayerCache>,
    random: Random,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
    alternatives: Vec<Vec<(u32, f32)>>,
    finish: Option<Finish>,
}

struct Sampler<'a> {
    weights: &'a Weights,
    prepared: Prepared,
    options: &'a SampleOptions,
    activations: Activations,
    slots: Vec<Slot>,
    positions: Vec<u32>,
    logits: Vec<f32>,
    row: Vec<f32>,
    candidates: Vec<u32>,
    stream: Vec<f32>,
    inverse: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys_values: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    activated: Vec<f32>,
    scores: Vec<f32>,
}

impl<'a> Sampler<'a> {
    fn new(weights: &'a Weights, options: &'a SampleOptions) -> Self {
        Sampler {
            weights,
            prepared: Prepared::new(weights),
            options,
            activations: Activations::default(),
            slots: Vec::new(),
            positions: Vec::new(),
            logits: Vec::new(),
            row: Vec::new(),
            candidates: Vec::new(),
            stream: Vec::new(),
            inverse: Vec::new(),
            normed: Vec::new(),
            queries: Vec::new(),
            keys_values: Vec::new(),
            attended: Vec::new(),
            gate_up: Vec::new(),
            activated: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Reads the prompts at these indices, each distinct one once; equal ones stand together.
    fn read(&mut self, prompts: &[Prompt], indices: &[usize]) -> Vec<Slot> {
        let config = &self.weights.config;
        let width = key_value_width(config);
        let mut batch = Batch::default();
        let same: Vec<&[usize]> = indices.chunk_by(|a, b| prompts[*a].ids == prompts[*b].ids).collect();
        for group in &same {
            let ids = &prompts[group[0]].ids;
            batch.push(ids, [ids.len() - 1]);
        }
        let mut slots = Vec::with_capacity(indices.len());
        if same.is_empty() {
            return slots;
        }
        forward(self.weights, &self.prepared, &batch, &mut self.activations);
        let mut logits = Vec::new();
        head::logits(self.weights, &self.prepared, self.activations.hidden(), &mut logits);
        for ((group, bounds), logits) in same.iter().zip(batch.bounds.windows(2)).zip(logits.chunks(config.vocabulary))
        {
            let (rows, length) = (bounds[0] * width..bounds[1] * width, bounds[1] - bounds[0]);
            let layers = self.activations.layers.iter().map(|layer| {
                let mut cache = LayerCache::with_room(length, width / 2);
                layer.keys_values[rows.clone()].chunks_exact(width).for_each(|row| cache.push(row));
                cache
            });
            let prompt = Rc::new(PromptCache { layers: layers.collect(), length, logits: logits.to_vec() });
            let room = self.options.max_tokens.min(config.context - prompt.length);
            slots.extend(group.iter().map(|index| Slot {
                index: *index,
                prompt: Rc::clone(&prompt),
                layers: (0..config.layers).map(|_| LayerCache::with_room(room, width / 2)).collect(),
                random: Random::stream(prompts[*index].seed, &[0x5A3F]),
                ids: Vec::new(),
                logprobs: Vec::new(),
                alternatives: Vec::new(),
                finish: None,
            }));
        }
        slots
    }

    /// Draws the next token of every slot from its logits.
    fn choose(&mut self) {
        let (vocabulary, context) = (self.weights.config.vocabulary, self.weights.config.context);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // A slot without tokens has just come: its logits are the prompt's.
            let logits = match slot.ids.is_empty() {
                true => &slot.prompt.logits,
                false => &self.logits[index * vocabulary..][..vocabulary],
            };
            let (id, logprob) = draw(logits, self.options, &mut slot.random, &mut self.row, &mut self.candidates);
            if self.options.stop.contains(&id) {
                slot.finish = Some(Finish::Stop);
                continue;
            }
            slot.ids.push(id);
            slot.logprobs.push(logprob);
            if self.options.alternatives > 0 {
                slot.alternatives.push(likeliest(logits, self.options.alternatives, &mut self.row));
            }
            // A token at the end of the context can be drawn but not read.
            if slot.ids.len() >= self.options.max_tokens || slot.prompt.length + slot.ids.len() > context {
                slot.finish = Some(Finish::Length);
            }
        }
    }

    /// Reads the last token of every slot and leaves the logits that follow.
    fn step(&mut self) {
        let Weights { config, values, layout } = self.weights;
        let (width, feed_forward, head_width) = (config.width, config.feed_forward, config.head_width());
        let (key_value, half) = (key_value_width(config), head_width / 2);
        let (rows, epsilon) = (self.slots.len(), config.norm_epsilon as f32);
        let prepared = &self.prepared;
        self.positions.clear();
        self.positions.extend(self.slots.iter().map(|slot| (slot.prompt.length + slot.ids.len() - 1) as u32));
        let embedding = &values[layout.embedding.clone()];
        let stream = take(&mut self.stream, rows * width);
        for (row, slot) in stream.chunks_exact_mut(width).zip(&self.slots) {
            let id = *slot.ids.last().expect("a slot that goes on has a token") as usize;
            row.copy_from_slice(&embedding[id * width..][..width]);
        }
        let inverse = take(&mut self.inverse, rows);
        let normed = take(&mut self.normed, rows * width);
        let queries = take(&mut self.queries, rows * width);
        let keys_values = take(&mut self.keys_values, rows * key_value);
        let attended = take(&mut self.attended, rows * width);
        let gate_up = take(&mut self.gate_up, rows * 2 * feed_forward);
        let activated = take(&mut self.activated, rows * feed_forward);
        for (index, layer) in layout.layers.iter().enumerate() {
            let panels = &prepared.layers[index];
            rms_norm(stream, &values[layer.attention_norm.clone()], normed, inverse, epsilon);
            multiply_panels(queries, width, View::rows(normed, width), &panels.query, rows, false);
            multiply_panels(keys_values, key_value, View::rows(normed, width), &panels.key_value, rows, false);
            let (cosine, sine) = (&prepared.cosine, &prepared.sine);
            rotate(queries, width, config.heads, &self.positions, cosine, sine, half);
            rotate(keys_values, key_value, config.key_value_heads, &self.positions, cosine, sine, half);
            for (row, slot) in self.slots.iter_mut().enumerate() {
                slot.layers[index].push(&keys_values[row * key_value..][..key_value]);
                let caches = [slot.prompt.layers[index].view(), slot.layers[index].view()];
                let scores = take(&mut self.scores, caches[0].length + caches[1].length + 2 * KEY_BLOCK);
                let own = row * width..(row + 1) * width;
                attend(&queries[own.clone()], caches, key_value / 2, head_width, scores, &mut attended[own]);
            }
            multiply_panels(stream, width, View::rows(attended, width), &panels.output, rows, true);
            rms_norm(stream, &values[layer.feed_forward_norm.clone()], normed, inverse, epsilon);
            multiply_panels(gate_up, 2 * feed_forward, View::rows(normed, width), &panels.gate_up, rows, false);
            swiglu(gate_up, activated, feed_forward);
            multiply_panels(stream, width, View::rows(activated, feed_forward), &panels.down, rows, true);
        }
        rms_norm(stream, &values[layout.norm.clone()], normed, inverse, epsilon);
        head::logits(self.weights, prepared, normed, &mut self.logits);
    }
}

/// Draws a token and gives its log-probability under the logits as they are.
fn draw(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    fn model() -> Weights {
        let mut weights = Weights::initial(&tiny(), 21).unwrap();
        // Larger embeddings make some tokens much likelier than others.
        let range = weights.layout.embedding.clone();
        weights.values[range].iter_mut().for_each(|value| *value *= 30.0);
        weights
    }

    fn prompts(count: usize) -> Vec<Prompt> {
        let mut random = Random::new(8);
        let ids = |random: &mut Random| (0..1 + random.below(9)).map(|_| random.below(37) as u32).collect();
        (0..count).map(|index| Prompt { ids: ids(&mut random), seed: index as u64 }).collect()
    }

    #[test]
    fn a_completion_is_the_same_in_any_company() {
        let weights = model();
        let prompts = prompts(300);
        for (temperature, top_p) in [(1.0, 1.0), (0.7, 0.8)] {
            let options = SampleOptions { temperature, top_p, max_tokens: 12, stop: vec![3, 4], alternatives: 0 };
            let all = sample(&weights, &prompts, &options, &|| false).unwrap();
            for (prompt, expected) in prompts.iter().zip(&all).step_by(17) {
                let alone = sample(&weights, std::slice::from_ref(prompt), &options, &|| false).unwrap();
                assert_eq!(alone[0], *expected);
            }
            assert!(all.iter().any(|completion| completion.finish == Finish::Stop));
            assert!(all.iter().any(|completion| completion.ids.len() == 12));
        }
    }

    #[test]
    fn logprobs_are_those_of_reading_the_whole() {
        let weights = model();
        let options = SampleOptions { max_tokens: 10, stop: vec![], ..SampleOptions::default() };
        let prompts = prompts(3);
        let prepared = Prepared::new(&weights);
        for (prompt, completion) in prompts.iter().zip(sample(&weights, &prompts, &options, &|| false).unwrap()) {
            let whole = [prompt.ids.as_slice(), &completion.ids].concat();
            let mut batch = Batch::default();
            batch.push(&whole, prompt.ids.len() - 1..whole.len() - 1);
            let mut activations = Activations::default();
            forward(&weights, &prepared, &batch, &mut activations);
            let mut logits = Vec::new();
            head::logits(&weights, &prepared, activations.hidden(), &mut logits);
            for ((row, id), logprob) in logits.chunks_mut(37).zip(&completion.ids).zip(&completion.logprobs) {
                let logit = row[*id as usize];
                let expected = logit - exponentials(row, 1.0);
                assert!((logprob - expected).abs() < 1e-4, "{logprob} {expected}");
            }
        }
    }

    #[test]
    fn samples_follow_the_distribution() {
        let weights = model();
        let prompt = Prompt { ids: vec![1, 5, 9], seed: 0 };
        let count = 20_000;
        let prompts: Vec<Prompt> = (0..count).map(|seed| Prompt { seed, ..prompt.clone() }).collect();
        let options = SampleOptions { max_tokens: 1, stop: vec![], ..SampleOptions::default() };
        let completions = sample(&weights, &prompts, &options, &|| false).unwrap();
        let mut share = [0.0; 37];
        let mut probability = [0.0; 37];
        for completion in &completions {
            share[completion.ids[0] as usize] += 1.0 / count as f64;
            probability[completion.ids[0] as usize] = f64::from(completion.logprobs[0].exp());
        }
        for id in 0..37 {
            let deviation = (probability[id] * (1.0 - probability[id]) / count as f64).sqrt();
            assert!((share[id] - probability[id]).abs() < 5.0 * deviation + 1e-4, "{id}");
        }
        let greedy = SampleOptions { temperature: 0.0, ..options.clone() };
        let best = sample(&weights, &prompts[..1], &greedy, &|| false).unwrap()[0].ids[0];
        assert!(probability.iter().all(|other| *other <= probability[best as usize]));
        let nucleus = SampleOptions { top_p: 1e-6, ..options };
        assert!(sample(&weights, &prompts[..50], &nucleus, &|| false).unwrap().iter().all(|c| c.ids == [best]));
    }

    #[test]
    fn the_context_and_the_caller_end_sampling() {
        let weights = model();
        let options = SampleOptions { max_tokens: 1000, stop: vec![], ..SampleOptions::default() };
        let prompt = Prompt { ids: vec![1; 30], seed: 1 };
        let completion = &sample(&weights, std::slice::from_ref(&prompt), &options, &|| false).unwrap()[0];
        assert_eq!((completion.ids.len(), completion.finish), (3, Finish::Length));
        let stopped = sample(&weights, std::slice::from_ref(&prompt), &options, &|| true).unwrap_err();
        assert_eq!(stopped.kind, Kind::Interrupted);
        let long = Prompt { ids: vec![1; 33], seed: 1 };
        assert_eq!(sample(&weights, &[long], &options, &|| false).unwrap_err().kind, Kind::Input);
    }

    /// `cargo test --release --lib speed_of_sampling -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_sampling() {
        let config = Config {
            vocabulary: 2500,
            width: 64,
            layers: 4,
            heads: 4,
            key_value_heads: 4,
            feed_forward: 192,
            context: 160,
            ..tiny()
        };
        let weights = Weights::initial(&config, 1).unwrap();
        let mut random = Random::new(8);
        let options = SampleOptions { max_tokens: 11, stop: vec![], ..SampleOptions::default() };
        for same in [1, 10] {
            let mut ids = Vec::new();
            let mut prompt = |index: u64| {
                if index.is_multiple_of(same) {
                    ids = (0..20 + random.below(11)).map(|_| random.below(2500) as u32).collect();
                }
                Prompt { ids: ids.clone(), seed: index }
            };
            let prompts: Vec<Prompt> = (0..4000).map(&mut prompt).collect();
            let start = std::time::Instant::now();
            let completions = sample(&weights, &prompts, &options, &|| false).unwrap();
            let tokens: usize = completions.iter().map(|completion| completion.ids.len()).sum();
            let seconds = start.elapsed().as_secs_f64();
            println!("{same} samples of a prompt: {:.0} new tokens/s, {:.2} s", tokens as f64 / seconds, seconds);
        }
    }
}
