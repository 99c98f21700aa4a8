//! Batched sampling on a device: prompts are read in waves, and all completions of a wave go on together.
//!
//! The draws are those of our own arithmetic, from the same random numbers; what a device rounds otherwise can tip one.

use candle_core::{Device, Result, Tensor};

use super::PASS_TOKENS;
use super::block::Block;
use super::failed;
use super::frame::{Frame, Kind, UNSEEN, rotations};
use super::head::project;
use super::mirror::Mirror;
use super::passes::{self, change, edit, embed, outputs};
use crate::error::{self, Error, Kind as ErrorKind};
use crate::model::batch::Batch;
use crate::model::config::Config;
use crate::model::draft::{Draft, Drawing};
use crate::model::forward::Prepared;
use crate::model::sample::{Completion, Prompt, SampleOptions, Steering};
use crate::model::share::share;
use crate::model::tap::{Edit, Rows};
use crate::model::weights::Weights;

/// Most completions that go on together.
const ROWS: usize = 256;
/// Most values of the caches of a wave, 4 GB.
const CACHE_VALUES: usize = 1 << 30;
/// Tokens by which caches grow.
const ROOM: usize = 64;

/// Continues every prompt, each of at least one token and no longer than the context.
pub fn sample(
    weights: &Weights,
    (prepared, mirror): (&Prepared, &Mirror),
    prompts: &[Prompt],
    options: &SampleOptions,
    steering: &[Steering],
    threads: usize,
    cancelled: &dyn Fn() -> bool,
) -> error::Result<Vec<Completion>> {
    let mut completions: Vec<Option<Completion>> = vec![None; prompts.len()];
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    // Prompts of one length need no padding, and equal ones are read once.
    order.sort_by(|a, b| (prompts[*a].ids.len(), &prompts[*a].ids).cmp(&(prompts[*b].ids.len(), &prompts[*b].ids)));
    let model = Model { weights, prepared, mirror, steering };
    let mut drawings: Vec<Drawing> =
        (0..threads.max(1)).map(|_| Drawing::new(options, weights.config.context)).collect();
    let mut rest = &order[..];
    while !rest.is_empty() {
        let (wave, later) = rest.split_at(wave_rows(&weights.config, prompts, rest, options));
        rest = later;
        let mut wave = Wave::begin(model, prompts, wave).map_err(failed)?;
        loop {
            if cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "sampling was stopped"));
            }
            wave.draw(&mut drawings, weights.config.vocabulary);
            let live: Vec<u32> =
                (0..wave.drafts.len()).filter(|row| wave.drafts[*row].finish.is_none()).map(|row| row as u32).collect();
            if live.is_empty() {
                break;
            }
            // Rows that have ended are carried along until half of them have.
            if 2 * live.len() <= wave.drafts.len() {
                wave.keep(&live, &mut completions).map_err(failed)?;
            }
            wave.step(model).map_err(failed)?;
        }
        wave.drafts.into_iter().for_each(|draft| draft.end(&mut completions));
    }
    Ok(completions.into_iter().map(|completion| completion.expect("every prompt was continued")).collect())
}

/// How many of the next completions go on together.
fn wave_rows(config: &Config, prompts: &[Prompt], order: &[usize], options: &SampleOptions) -> usize {
    let of_token = 2 * config.key_width() * config.layers;
    // All rows go on for as long as the shortest prompt, which comes first, leaves room.
    let drawn = order.first().map_or(0, |index| config.context + 1 - prompts[*index].ids.len()).min(options.max_tokens);
    let mut rows = 0;
    for index in order.iter().take(ROWS) {
        let tokens = prompts[*index].ids.len() + drawn;
        if rows > 0 && (rows + 1) * tokens * of_token > CACHE_VALUES {
            break;
        }
        rows += 1;
    }
    rows
}

/// Keys and values of a block, (rows, key heads, columns, width) each.
type KeysValues = (Tensor, Tensor);

#[derive(Clone, Copy)]
struct Model<'a> {
    weights: &'a Weights,
    prepared: &'a Prepared,
    mirror: &'a Mirror,
    steering: &'a [Steering],
}

impl<'a> Model<'a> {
    fn block(self, index: usize) -> Block<'a> {
        passes::block(self.weights, self.mirror, self.prepared.adapters.as_ref(), index, None)
    }
}

/// Completions that go on together.
struct Wave {
    drafts: Vec<Draft>,
    /// Of the rows' last tokens, (rows, vocabulary).
    logits: Vec<f32>,
    /// Of each block: the prompt from the left, what was drawn from column `prompt` on.
    caches: Vec<KeysValues>,
    /// Columns of prompts.
    prompt: usize,
    /// Tokens that were read after the prompts.
    read: usize,
}

impl Wave {
    /// Reads the prompts in `order`, sorted by their length, equal ones together.
    fn begin(model: Model, prompts: &[Prompt], order: &[usize]) -> Result<Self> {
        let config = &model.weights.config;
        let same: Vec<&[usize]> = order.chunk_by(|a, b| prompts[*a].ids == prompts[*b].ids).collect();
        let texts: Vec<&[u32]> = same.iter().map(|group| prompts[group[0]].ids.as_slice()).collect();
        let longest = texts.last().map_or(0, |ids| ids.len());
        let mut parts: Vec<Vec<KeysValues>> = vec![Vec::new(); config.layers];
        let mut logits = Vec::new();
        let mut rest = &texts[..];
        while !rest.is_empty() {
            // The last of some is the longest of them, and the others are padded to it.
            let fits = |count: &usize| count * rest[count - 1].len() <= PASS_TOKENS;
            let count = (1..=rest.len()).take_while(fits).last().unwrap_or(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            let (caches, of_ends) = read(model, now)?;
            logits.extend(of_ends);
            for (parts, (keys, values)) in parts.iter_mut().zip(caches) {
                let room = longest + ROOM - keys.dim(2)?;
                parts.push((keys.pad_with_zeros(2, 0, room)?, values.pad_with_zeros(2, 0, room)?));
            }
        }
        let of_row = |(place, group): (usize, &&[usize])| std::iter::repeat_n(place as u32, group.len());
        let rows: Vec<u32> = same.iter().enumerate().flat_map(of_row).collect();
        let wanted = Tensor::from_slice(&rows, rows.len(), &model.mirror.device)?;
        let spread = |parts: Vec<KeysValues>| {
            let (keys, values): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
            Ok((Tensor::cat(&keys, 0)?.index_select(&wanted, 0)?, Tensor::cat(&values, 0)?.index_select(&wanted, 0)?))
        };
        let caches = parts.into_iter().map(spread).collect::<Result<_>>()?;
        let of_text = |row: &u32| &logits[*row as usize * config.vocabulary..][..config.vocabulary];
        Ok(Wave {
            drafts: order.iter().map(|index| Draft::new(*index, &prompts[*index])).collect(),
            logits: rows.iter().flat_map(of_text).copied().collect(),
            caches,
            prompt: longest,
            read: 0,
        })
    }

    /// Draws the next token of every row that goes on, each thread of some rows: with many tokens this takes longer than
    /// the device takes for a step.
    fn draw(&mut self, drawings: &mut [Drawing], vocabulary: usize) {
        let (threads, each) = (drawings.len(), self.drafts.len().div_ceil(drawings.len()).max(1));
        let parts = drawings.iter_mut().zip(self.drafts.chunks_mut(each)).zip(self.logits.chunks(each * vocabulary));
        share(threads, &mut parts.collect::<Vec<_>>(), |((drawing, drafts), logits)| {
            for (draft, logits) in drafts.iter_mut().zip(logits.chunks_exact(vocabulary)) {
                if draft.finish.is_none() {
                    drawing.draw(draft, logits);
                }
            }
        });
    }

    /// Keeps these rows and ends the others.
    fn keep(&mut self, live: &[u32], completions: &mut [Option<Completion>]) -> Result<()> {
        let Some((first, _)) = self.caches.first() else { return Ok(()) };
        let wanted = Tensor::from_slice(live, live.len(), first.device())?;
        for (keys, values) in &mut self.caches {
            (*keys, *values) = (keys.index_select(&wanted, 0)?, values.index_select(&wanted, 0)?);
        }
        for draft in std::mem::take(&mut self.drafts) {
            match draft.finish {
                None => self.drafts.push(draft),
                Some(_) => draft.end(completions),
            }
        }
        Ok(())
    }

    /// Reads the last token of every row and leaves the logits that follow.
    fn step(&mut self, model: Model) -> Result<()> {
        let Model { weights, mirror, steering, .. } = model;
        let (config, rows, device) = (&weights.config, self.drafts.len(), &mirror.device);
        let column = self.prompt + self.read;
        if column == self.caches.first().map_or(0, |(keys, _)| keys.dims()[2]) {
            for (keys, values) in &mut self.caches {
                (*keys, *values) = (keys.pad_with_zeros(2, 0, ROOM)?, values.pad_with_zeros(2, 0, ROOM)?);
            }
        }
        let columns = self.caches.first().map_or(0, |(keys, _)| keys.dims()[2]);
        // A row that has ended stays at its last token, whatever comes of it.
        let positions: Vec<u32> = self.drafts.iter().map(|draft| (draft.length + self.read) as u32).collect();
        let positions: Vec<u32> = positions.into_iter().map(|at| at.min(config.context as u32 - 1)).collect();
        let last: Vec<u32> = self.drafts.iter().map(|draft| draft.ids.last().copied().unwrap_or(0)).collect();
        let plain = self.kind(config, false, &positions, columns, device)?;
        let windowed = match config.variant.window {
            Some(_) => self.kind(config, true, &positions, columns, device)?,
            None => plain.clone(),
        };
        let mut stream = steer(steering, 0, embed(weights, mirror, &last)?)?;
        for (index, (keys, values)) in self.caches.iter().enumerate() {
            let block = model.block(index);
            let kind = if block.windowed() { &windowed } else { &plain };
            let (groups, width) = (config.key_value_heads, config.head_width());
            let normed = block.norm(&stream, &block.tensors.attention_gain)?;
            let (queries, _) = block.queries(&normed, kind)?;
            let (key, value, _) = block.keys_values(&normed, kind)?;
            keys.slice_set(&key.contiguous()?.reshape((rows, groups, 1, width))?, 2, column)?;
            values.slice_set(&value.contiguous()?.reshape((rows, groups, 1, width))?, 2, column)?;
            let queries = block.group(&queries.reshape((rows, config.heads, 1, width))?)?;
            let (probabilities, _) = block.probabilities(&queries, keys, &kind.mask)?;
            let attended = probabilities.matmul(values)?.reshape((rows, config.query_width()))?;
            stream = steer(steering, index + 1, block.above(&stream, &attended)?.0)?;
        }
        let hidden = candle_nn::ops::rms_norm(&stream, &mirror.gain, config.norm_epsilon as f32)?;
        self.logits = project(weights, mirror, &hidden)?.flatten_all()?.to_vec1()?;
        self.read += 1;
        Ok(())
    }

    /// What positions mean to a kind of block: each row sees its prompt, and what was drawn up to now.
    fn kind(
        &self,
        config: &Config,
        windowed: bool,
        positions: &[u32],
        columns: usize,
        device: &Device,
    ) -> Result<Kind> {
        let (cosine, sine) = rotations(config, windowed, positions, device)?;
        let window = config.variant.window.filter(|_| windowed).unwrap_or(usize::MAX);
        let mut mask = vec![UNSEEN; self.drafts.len() * columns];
        for (draft, mask) in self.drafts.iter().zip(mask.chunks_exact_mut(columns)) {
            let now = draft.length + self.read;
            // The column of each position up to now.
            let places = (0..draft.length).chain(self.prompt..=self.prompt + self.read);
            places.enumerate().filter(|(at, _)| now - at < window).for_each(|(_, place)| mask[place] = 0.0);
        }
        let mask = Tensor::from_vec(mask, (self.drafts.len(), 1, 1, 1, columns), device)?;
        Ok(Kind { cosine, sine, mask })
    }
}

/// Reads prompts: keys and values of each block, as many columns as the longest has tokens, and the logits behind each.
fn read(model: Model, texts: &[&[u32]]) -> Result<(Vec<KeysValues>, Vec<f32>)> {
    let Model { weights, mirror, steering, .. } = model;
    let config = &weights.config;
    let mut batch = Batch::default();
    texts.iter().for_each(|ids| batch.push(ids, [ids.len() - 1]));
    let frame = Frame::new(config, &batch, &mirror.device)?;
    let edits: Vec<Edit> = steering
        .iter()
        .map(|steering| {
            let rows = if steering.prompt { Rows::All } else { Rows::outputs(&batch) };
            Edit { state: steering.state, rows, change: steering.change.clone() }
        })
        .collect();
    let mut stream = edit(&edits, 0, &batch, false, embed(weights, mirror, &batch.ids)?)?;
    let mut caches = Vec::with_capacity(config.layers);
    for index in 0..config.layers {
        let (above, kept) = model.block(index).forward(&frame, &stream)?;
        caches.push((kept.keys, kept.values));
        stream = edit(&edits, index + 1, &batch, false, above)?;
    }
    let ends = stream.index_select(&outputs(&batch, &mirror.device)?, 0)?;
    let hidden = candle_nn::ops::rms_norm(&ends, &mirror.gain, config.norm_epsilon as f32)?;
    Ok((caches, project(weights, mirror, &hidden)?.flatten_all()?.to_vec1()?))
}

fn steer(steering: &[Steering], state: usize, mut stream: Tensor) -> Result<Tensor> {
    for steering in steering.iter().filter(|steering| steering.state == state) {
        stream = change(&steering.change, None, stream)?;
    }
    Ok(stream)
}
