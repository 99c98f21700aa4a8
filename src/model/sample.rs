//! Batched sampling with a key-value cache; a completion depends on weights, its own prompt and its own seed alone.

use std::collections::VecDeque;
use std::rc::Rc;

use super::block::{Block, Branch, FeedForward, HeadNorm};
use super::config::Config;
use super::device;
use super::draft::{Draft, Drawing};
use super::forward::{Prepared, embed, take};
use super::head;
use super::kernels::{KEY_BLOCK, attend, rms_norm};
use super::reading::{LayerCache, Model, PromptCache, Reader, plan};
use super::tap::{Change, Edit, Rows};
use super::weights::Weights;
use crate::ensure;
use crate::error::{Error, Kind, Result};

/// Rows that are decoded together: enough to use each weight often, few enough that caches stay near.
const ROWS: usize = 128;
/// Tokens for which a completion has room from its beginning; a longer one grows.
const ROOM: usize = 512;

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
    sample_steered(weights, prompts, options, &[], cancelled)
}

/// A change of the residual stream while a model answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// Which state, counted as in [`tap`](super::tap).
    pub state: usize,
    /// Whether it begins with the prompt; otherwise with the prompt's last token, from which the answer is drawn.
    pub prompt: bool,
    /// What happens to each token's row.
    pub change: Change,
}

impl Steering {
    /// Refuses what these weights have no place for.
    ///
    /// # Errors
    /// A state or a width that the model does not have.
    pub fn check(&self, config: &Config) -> Result<()> {
        let (state, layers) = (self.state, config.layers);
        ensure!(state <= layers, "there is no state {state} of the residual stream, the last is {layers}");
        let width = match &self.change {
            Change::Add(vector) => vector.len(),
            Change::Remove(directions) => directions.iter().map(Vec::len).max().unwrap_or(config.width),
        };
        ensure!(width == config.width, "a direction has {} channels, the model {}", width, config.width);
        Ok(())
    }

    /// The edit of a chat of so many tokens whose answer is drawn from the token at `answer` on.
    pub fn edit(&self, tokens: usize, answer: usize) -> Edit {
        let rows = if self.prompt { Rows::All } else { Rows::Marked((0..tokens).map(|row| row >= answer).collect()) };
        Edit { state: self.state, rows, change: self.change.clone() }
    }
}

/// [`sample`] with changes of the residual stream.
pub fn sample_steered(
    weights: &Weights,
    prompts: &[Prompt],
    options: &SampleOptions,
    steering: &[Steering],
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Completion>> {
    sample_prepared(weights, &Prepared::new(weights)?, prompts, options, steering, 1, cancelled)
}

/// [`sample_steered`] with weights that are laid out already; where a device computes, so many threads draw.
pub(super) fn sample_prepared(
    weights: &Weights,
    prepared: &Prepared,
    prompts: &[Prompt],
    options: &SampleOptions,
    steering: &[Steering],
    threads: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Completion>> {
    check(&weights.config, prompts, options)?;
    steering.iter().try_for_each(|steering| steering.check(&weights.config))?;
    if options.max_tokens == 0 {
        let empty = Completion { ids: vec![], logprobs: vec![], alternatives: vec![], finish: Finish::Length };
        return Ok(vec![empty; prompts.len()]);
    }
    if let Some(mirror) = &prepared.mirror {
        return device::sampling::sample(weights, (prepared, mirror), prompts, options, steering, threads, cancelled);
    }
    let mut completions: Vec<Option<Completion>> = vec![None; prompts.len()];
    let mut sampler = Sampler::new(weights, prepared, options, steering);
    // Equal prompts are read once, and what several begin with is read once.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by(|a, b| prompts[*a].ids.cmp(&prompts[*b].ids));
    let same: Vec<&[usize]> = order.chunk_by(|a, b| prompts[*a].ids == prompts[*b].ids).collect();
    let distinct: Vec<&[u32]> = same.iter().map(|group| prompts[group[0]].ids.as_slice()).collect();
    let mut readings = plan(&distinct).into_iter();
    let mut waiting: VecDeque<(usize, Rc<PromptCache>)> = VecDeque::new();
    loop {
        if cancelled() {
            return Err(Error::new(Kind::Interrupted, "sampling was stopped"));
        }
        while sampler.slots.len() < ROWS {
            if let Some((index, prompt)) = waiting.pop_front() {
                sampler.begin(index, prompt, &prompts[index]);
                continue;
            }
            let Some(reading) = readings.next() else { break };
            let texts: Vec<&[u32]> = reading.prompts.iter().map(|place| distinct[*place]).collect();
            let model = Model { weights, prepared: sampler.prepared, steering };
            let caches = sampler.reader.read(model, &texts, reading.shared)?;
            for (place, cache) in reading.prompts.iter().zip(caches) {
                waiting.extend(same[*place].iter().map(|index| (*index, Rc::clone(&cache))));
            }
        }
        sampler.choose();
        for index in (0..sampler.slots.len()).rev() {
            if sampler.slots[index].draft.finish.is_some() {
                sampler.slots.swap_remove(index).draft.end(&mut completions);
            }
        }
        if !sampler.slots.is_empty() {
            sampler.step()?;
        } else if waiting.is_empty() && readings.len() == 0 {
            break;
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

/// A completion in the making.
struct Slot {
    draft: Draft,
    prompt: Rc<PromptCache>,
    layers: Vec<LayerCache>,
}

struct Sampler<'a> {
    weights: &'a Weights,
    prepared: &'a Prepared,
    options: &'a SampleOptions,
    drawing: Drawing<'a>,
    steering: &'a [Steering],
    reader: Reader,
    slots: Vec<Slot>,
    positions: Vec<u32>,
    logits: Vec<f32>,
    stream: Vec<f32>,
    inverse: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys_values: Vec<f32>,
    attended: Vec<f32>,
    feed_forward: FeedForward,
    scores: Vec<f32>,
    last: Vec<u32>,
    heads: HeadNorm,
    branch: Branch,
}

impl<'a> Sampler<'a> {
    fn new(weights: &'a Weights, prepared: &'a Prepared, options: &'a SampleOptions, steering: &'a [Steering]) -> Self {
        Sampler {
            weights,
            prepared,
            options,
            drawing: Drawing::new(options, weights.config.context),
            steering,
            reader: Reader::default(),
            slots: Vec::new(),
            positions: Vec::new(),
            logits: Vec::new(),
            stream: Vec::new(),
            inverse: Vec::new(),
            normed: Vec::new(),
            queries: Vec::new(),
            keys_values: Vec::new(),
            attended: Vec::new(),
            feed_forward: FeedForward::default(),
            scores: Vec::new(),
            last: Vec::new(),
            heads: HeadNorm::default(),
            branch: Branch::default(),
        }
    }

    /// Begins a completion of a prompt that was read.
    fn begin(&mut self, index: usize, cache: Rc<PromptCache>, prompt: &Prompt) {
        let config = &self.weights.config;
        let room = self.options.max_tokens.min(config.context - cache.length).min(ROOM);
        self.slots.push(Slot {
            draft: Draft::new(index, prompt),
            prompt: cache,
            layers: (0..config.layers).map(|_| LayerCache::with_room(room, config.key_width())).collect(),
        });
    }

    /// Draws the next token of every slot from its logits.
    fn choose(&mut self) {
        let vocabulary = self.weights.config.vocabulary;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // A slot without tokens has just come: its logits are the prompt's.
            let logits = match slot.draft.ids.is_empty() {
                true => &slot.prompt.logits,
                false => &self.logits[index * vocabulary..][..vocabulary],
            };
            self.drawing.draw(&mut slot.draft, logits);
        }
    }

    /// Reads the last token of every slot and leaves the logits that follow.
    fn step(&mut self) -> Result<()> {
        let Weights { config, values, layout, .. } = self.weights;
        let (width, query, key) = (config.width, config.query_width(), config.key_width());
        let (rows, epsilon) = (self.slots.len(), config.norm_epsilon as f32);
        let prepared = self.prepared;
        self.positions.clear();
        self.positions.extend(self.slots.iter().map(|slot| (slot.draft.length + slot.draft.ids.len() - 1) as u32));
        let end = self.positions.iter().max().map_or(0, |position| *position as usize + 1);
        self.last.clear();
        self.last.extend(self.slots.iter().map(|slot| slot.draft.ids.last().expect("a slot that goes on has a token")));
        let stream = take(&mut self.stream, rows * width);
        embed(config, &values[layout.embedding.clone()], &self.last, stream);
        let inverse = take(&mut self.inverse, rows);
        let normed = take(&mut self.normed, rows * width);
        let queries = take(&mut self.queries, rows * query);
        let keys_values = take(&mut self.keys_values, rows * 2 * key);
        let attended = take(&mut self.attended, rows * query);
        steer(self.steering, 0, stream, width);
        for index in 0..config.layers {
            let block = Block::new(self.weights, prepared, index, end);
            rms_norm(stream, &block.panels.attention_gain, normed, inverse, epsilon);
            block.queries(normed, &self.positions, queries, &mut self.heads);
            block.keys_values(normed, &self.positions, keys_values, &mut self.heads);
            for (row, slot) in self.slots.iter_mut().enumerate() {
                slot.layers[index].push(&keys_values[row * 2 * key..][..2 * key]);
                let parts = [&slot.prompt.shared[index], &slot.prompt.layers[index], &slot.layers[index]];
                let caches = parts.map(LayerCache::view);
                let tokens: usize = caches.iter().map(|cache| cache.length).sum();
                let scores = take(&mut self.scores, tokens + caches.len() * KEY_BLOCK);
                let own = row * query..(row + 1) * query;
                let (from, to) = (&queries[own.clone()], &mut attended[own]);
                attend(from, caches, key, config.head_width(), block.scoring, scores, to);
            }
            block.add_attention(attended, stream, &mut self.branch);
            block.feed_forward(stream, &mut self.feed_forward);
            block.add_feed_forward(&self.feed_forward.activated, stream, &mut self.branch);
            steer(self.steering, index + 1, stream, width);
        }
        rms_norm(stream, &prepared.gain, normed, inverse, epsilon);
        head::logits(self.weights, prepared, normed, &mut self.logits)
    }
}

fn steer(steering: &[Steering], state: usize, stream: &mut [f32], width: usize) {
    for steering in steering.iter().filter(|steering| steering.state == state) {
        stream.chunks_exact_mut(width).for_each(|row| steering.change.apply(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::Random;
    use crate::model::batch::Batch;
    use crate::model::config::tests::tiny;
    use crate::model::forward::{Activations, forward_edited};
    use crate::model::kernels::exponentials;
    use crate::model::variant::{FAMILIES, Family};
    use crate::model::weights::tests::odd;

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
    fn a_completion_is_the_same_whatever_it_begins_with_others() {
        let mut random = Random::new(3);
        let mut ids = |count: usize| (0..count).map(|_| random.below(37) as u32).collect::<Vec<u32>>();
        let (system, other) = (ids(15), ids(9));
        // Questions with one system prompt, some longer beginnings within it, several samples of each, and strangers.
        let mut texts: Vec<Vec<u32>> = (0..20).map(|_| [&system[..], &ids(4)].concat()).collect();
        texts.extend((0..7).map(|_| [&system[..], &other, &ids(2)].concat()));
        texts.extend([ids(1), system.clone(), system[..8].to_vec()]);
        let prompts: Vec<Prompt> =
            (0..300).map(|index| Prompt { ids: texts[index * 7 % texts.len()].clone(), seed: index as u64 }).collect();
        let vector: Vec<f32> = (0..24).map(|channel| (channel as f32 - 11.0) / 9.0).collect();
        let options = SampleOptions { max_tokens: 5, stop: vec![3], ..SampleOptions::default() };
        for family in FAMILIES {
            let weights = odd(family, 9);
            let steer = |prompt| Steering { state: 1, prompt, change: Change::Add(vector.clone()) };
            for steering in [vec![], vec![steer(true)], vec![steer(false)]] {
                let all = sample_steered(&weights, &prompts, &options, &steering, &|| false).unwrap();
                for (prompt, expected) in prompts.iter().zip(&all).step_by(13) {
                    let one = std::slice::from_ref(prompt);
                    let alone = sample_steered(&weights, one, &options, &steering, &|| false).unwrap();
                    assert_eq!(alone[0], *expected);
                }
            }
        }
    }

    /// Checks the log-probabilities of sampling against those of reading the whole at once.
    fn check_logprobs(weights: &Weights, steering: &[Steering]) {
        let options = SampleOptions { max_tokens: 10, stop: vec![], ..SampleOptions::default() };
        let prompts = prompts(3);
        let prepared = Prepared::new(weights).unwrap();
        let sampled = sample_steered(weights, &prompts, &options, steering, &|| false).unwrap();
        for (prompt, completion) in prompts.iter().zip(sampled) {
            let whole = [prompt.ids.as_slice(), &completion.ids].concat();
            let mut batch = Batch::default();
            batch.push(&whole, prompt.ids.len() - 1..whole.len() - 1);
            let edits: Vec<Edit> =
                steering.iter().map(|steering| steering.edit(whole.len(), prompt.ids.len() - 1)).collect();
            let mut activations = Activations::default();
            forward_edited(weights, &prepared, &batch, &edits, &mut activations).unwrap();
            let mut logits = Vec::new();
            head::logits(weights, &prepared, activations.hidden(), &mut logits).unwrap();
            for ((row, id), logprob) in logits.chunks_mut(37).zip(&completion.ids).zip(&completion.logprobs) {
                let logit = row[*id as usize];
                let expected = logit - exponentials(row, 1.0);
                assert!((logprob - expected).abs() < 1e-4, "{logprob} {expected}");
            }
        }
    }

    #[test]
    fn logprobs_are_those_of_reading_the_whole() {
        check_logprobs(&model(), &[]);
        for family in FAMILIES {
            check_logprobs(&odd(family, 5), &[]);
        }
    }

    #[test]
    fn steered_logprobs_are_those_of_reading_the_whole_edited() {
        let weights = odd(Family::Gemma2, 6);
        let vector: Vec<f32> = (0..24).map(|channel| (channel as f32 - 11.0) / 5.0).collect();
        let direction: Vec<f32> = (0..24).map(|channel| if channel % 6 == 0 { 0.5 } else { 0.0 }).collect();
        for (state, prompt) in [(0, true), (1, false), (1, true), (2, false)] {
            let add = Steering { state, prompt, change: Change::Add(vector.clone()) };
            let remove = Steering { state, prompt, change: Change::Remove(vec![direction.clone()]) };
            check_logprobs(&weights, &[add, remove]);
        }
        let nowhere = Steering { state: 3, prompt: true, change: Change::Add(vector) };
        let options = SampleOptions::default();
        assert!(sample_steered(&weights, &prompts(1), &options, &[nowhere], &|| false).is_err());
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
