//! What a training takes of the machine's memory, found out before it begins.

use super::batch::{Plan, cut};
use super::objective::sft::{has_loss, tokens};
use super::objective::{Against, Change, Objective, Penalty, Term};
use super::options::{Method, Options};
use super::passes::{KEPT_VALUES, SHARD_TOKENS};
use super::training::needs_start;
use crate::data::random::Random;
use crate::model::chat::Example;
use crate::model::config::Config;
use crate::model::forward::COPIED_VALUES;
use crate::model::layout::{Layout, linears};
use crate::model::processor::Processor;

/// Bytes of a value.
const VALUE: u64 = 4;
/// Tokens that pass through the decoder at a time, at the least, where a batch has as many.
const RUN_TOKENS: usize = 128;
/// Rows of logits that exist at a time.
const LOGIT_ROWS: usize = 64;
/// Most parts of a batch, and most parts of one of those.
const PARTS: usize = 8;

/// Bytes by what they hold: what a training is known to use, so that what fits is never refused; it uses a little more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The weights at the start, those that are trained, and the latter laid out for the forward pass.
    pub weights: u64,
    /// Gradients of what is trained: their sum, and one for every thread.
    pub gradients: u64,
    /// Adam's moments.
    pub moments: u64,
    /// What the forward pass leaves for the way back.
    pub activations: u64,
    /// What reading the saved weights back needs more than the training did.
    pub saving: u64,
}

impl Memory {
    /// The memory of a training on these rows.
    pub fn of(
        config: &Config,
        processor: Processor,
        rows: &[Example],
        objective: &Objective,
        options: &Options,
    ) -> Self {
        let values = config.parameters() as u64;
        let layout = Layout::of(config);
        let maps = linears(config);
        // The head is laid out, the embedding is not.
        let laid_out = maps.iter().map(|map| map.range.len()).sum::<usize>() + layout.head.len();
        // On a device, neither is what is laid out here nor what the passes leave.
        let here = processor == Processor::Cpu;
        let laid_out = if config.parameters() > COPIED_VALUES || !here { 0 } else { laid_out as u64 };
        let lengths: Vec<usize> = rows.iter().filter(|row| has_loss(row)).map(tokens).collect();
        let mut random = Random::stream(options.seed, &[0xF17]);
        let plan = Plan::new(&lengths, 1, options.batch_tokens, options.accumulate, &mut random);
        let lengths_of = |batch: &Vec<usize>| -> Vec<usize> { batch.iter().map(|row| lengths[*row]).collect() };
        let batches = || plan.steps.iter().flatten().map(lengths_of);
        let shards = batches().map(|batch| cut(&batch, SHARD_TOKENS).len()).max().unwrap_or(1) as u64;
        let shards = if here { shards } else { 1 };
        let most_tokens = batches().map(|batch| batch.iter().sum()).max().unwrap_or(0);
        let longest = lengths.iter().copied().max().unwrap_or(0);

        let workers = (options.threads as u64).clamp(1, shards);
        let others = u64::from(has_other_gradients(objective)) + u64::from(options.accumulate > 1);
        // Beside the sum, one for each thread that adds to it.
        let gradients = shards.min(workers + 1) + others;
        let (trained, weights) = match options.method {
            Method::Full => (values, 2 * values + (1 + u64::from(needs_start(objective))) * laid_out),
            Method::Lora { rank, .. } => {
                let targets = &options.adapters.targets;
                let chosen =
                    maps.iter().filter(|map| targets.is_empty() || targets.iter().any(|name| name == map.target));
                let adapted = chosen.map(|map| rank * (map.inputs + map.outputs)).sum::<usize>() as u64;
                (adapted, values + laid_out + 2 * adapted)
            }
        };
        let memory = Memory {
            weights: VALUE * weights,
            gradients: VALUE * gradients * trained,
            moments: VALUE * 2 * trained,
            activations: if here { workers * activations(config, most_tokens, longest) } else { 0 },
            saving: 0,
        };
        // Weights before and after, the bytes of the file, what was read of them, and that laid out.
        let saving = VALUE * (4 * values + laid_out);
        Memory { saving: saving.saturating_sub(memory.total()), ..memory }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.saving
    }
}

/// What one thread keeps of the forward pass, and its buffers on the way back.
fn activations(config: &Config, most_tokens: usize, longest: usize) -> u64 {
    let run = (most_tokens / (PARTS * PARTS)).max(RUN_TOKENS.min(most_tokens)).max(longest);
    let (query, key) = (config.query_width(), config.key_width());
    let of_row = 4 * config.width + 2 * query + 2 * key + 3 * config.feed_forward;
    let on_the_way_back = 2 * config.width + 2 * query + 2 * key + 3 * config.feed_forward;
    // The last block keeps less, as only rows with loss pass through all of it.
    let blocks = config.layers - 1;
    let of_block = run * of_row + config.heads * longest * longest;
    // Beyond its bound, a worker keeps the inputs of the blocks and one block.
    let kept = (blocks * of_block).min(KEPT_VALUES.max(run * config.width * config.layers + of_block));
    let logits = LOGIT_ROWS.min(most_tokens) * config.vocabulary;
    VALUE * (kept + run * on_the_way_back + logits) as u64
}

/// Whether the gradient of a term or a direction is computed beside that of the rows.
fn has_other_gradients(objective: &Objective) -> bool {
    let of_term = |term: &Term| term.coefficient != 0.0 && !matches!(term.penalty, Penalty::Distance);
    let of_change = |change: &Change| matches!(change, Change::Project { against: Against::Rows { .. }, .. });
    objective.terms.iter().any(of_term) || objective.changes.iter().any(of_change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn a_batch_of_many_tokens_has_many_gradients_and_adapters_have_few_moments() {
        let (config, objective) = (tiny(), Objective::sft());
        let row = Example { ids: vec![1; 31], loss_mask: vec![true; 31], weight: 1.0 };
        let rows = vec![row; 400];
        let values = config.parameters() as u64;
        let of = |options: Options| Memory::of(&config, Processor::Cpu, &rows, &objective, &options);
        let small = of(Options { batch_tokens: 512, ..Options::default() });
        assert_eq!((small.gradients, small.moments), (4 * values, 8 * values));
        assert!(small.weights > 8 * values && small.weights < 12 * values);
        let large = of(Options { batch_tokens: 8192, ..Options::default() });
        assert_eq!(large.gradients, 2 * 4 * values);
        let threads = of(Options { batch_tokens: 8192, threads: 3, ..Options::default() });
        assert_eq!(threads.gradients, 4 * 4 * values);
        assert!(threads.activations > small.activations && large.saving == 0, "{threads:?} {large:?}");
        let method = Method::Lora { rank: 2, alpha: 4.0 };
        let lora = of(Options { method, ..Options::default() });
        assert!(lora.gradients < small.gradients && lora.moments < small.moments, "{lora:?}");
        assert!(lora.total() < small.total(), "{lora:?}");
    }
}
