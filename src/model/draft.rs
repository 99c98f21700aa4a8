//! A completion in the making: token after token, drawn from the logits that some decoder gives.

use super::alternatives::likeliest;
use super::draw::draw;
use super::sample::{Completion, Finish, Prompt, SampleOptions};
use crate::data::random::Random;

/// What has been drawn of a completion.
pub(super) struct Draft {
    /// Place among the prompts.
    index: usize,
    /// Tokens of its prompt.
    pub length: usize,
    random: Random,
    pub ids: Vec<u32>,
    logprobs: Vec<f32>,
    alternatives: Vec<Vec<(u32, f32)>>,
    /// Why it ended, once it has.
    pub finish: Option<Finish>,
}

/// How tokens are drawn, and buffers for it.
pub(super) struct Drawing<'a> {
    options: &'a SampleOptions,
    context: usize,
    row: Vec<f32>,
    candidates: Vec<u32>,
}

impl Draft {
    /// A completion without tokens, of the prompt at this place.
    pub fn new(index: usize, prompt: &Prompt) -> Self {
        Draft {
            index,
            length: prompt.ids.len(),
            random: Random::stream(prompt.seed, &[0x5A3F]),
            ids: Vec::new(),
            logprobs: Vec::new(),
            alternatives: Vec::new(),
            finish: None,
        }
    }

    /// Puts a completion that has ended in its place.
    pub fn end(self, completions: &mut [Option<Completion>]) {
        let Draft { index, ids, logprobs, alternatives, finish, .. } = self;
        completions[index] = finish.map(|finish| Completion { ids, logprobs, alternatives, finish });
    }
}

impl<'a> Drawing<'a> {
    /// Draws for a model that reads `context` tokens.
    pub fn new(options: &'a SampleOptions, context: usize) -> Self {
        Drawing { options, context, row: Vec::new(), candidates: Vec::new() }
    }

    /// Draws the next token.
    pub fn draw(&mut self, draft: &mut Draft, logits: &[f32]) {
        let options = self.options;
        let (id, logprob) = draw(logits, options, &mut draft.random, &mut self.row, &mut self.candidates);
        if options.stop.contains(&id) {
            draft.finish = Some(Finish::Stop);
            return;
        }
        draft.ids.push(id);
        draft.logprobs.push(logprob);
        if options.alternatives > 0 {
            draft.alternatives.push(likeliest(logits, options.alternatives, &mut self.row));
        }
        // A token at the end of the context can be drawn but not read.
        if draft.ids.len() >= options.max_tokens || draft.length + draft.ids.len() > self.context {
            draft.finish = Some(Finish::Length);
        }
    }
}
