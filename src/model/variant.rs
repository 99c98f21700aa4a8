//! What sets one family of decoders apart from another, as values.

use super::kernels::Scoring;

/// A family of decoders that share names and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2, 3, 3.1 and 3.2, and the organism.
    Llama,
    /// Qwen 2 and 2.5: biases of queries, keys and values.
    Qwen2,
    /// Qwen 3: norms of each head's queries and keys.
    Qwen3,
    /// Gemma 2: four norms per block, capped scores and logits, every other block with a window.
    Gemma2,
    /// Gemma 3 (text): four norms per block and norms of heads, five of six blocks with a window and a base of their own.
    Gemma3,
}

/// All families, in the order in which they are told.
pub const FAMILIES: [Family; 5] = [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma2, Family::Gemma3];

impl Family {
    /// `model_type` of its `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma2 => "gemma2",
            Family::Gemma3 => "gemma3_text",
        }
    }
    /// Entry of `architectures` in its `config.json`.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::Gemma2 => "Gemma2ForCausalLM",
            Family::Gemma3 => "Gemma3ForCausalLM",
        }
    }
    /// Whether it is a Gemma: gains are stored less 1, embeddings are scaled by the root of the width, the gate is GELU,
    /// and what attention and feed-forward give is normed before it is added.
    pub fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }
    /// Whether queries, keys and values have biases.
    pub fn has_biases(self) -> bool {
        self == Family::Qwen2
    }
    /// Whether each head's queries and keys are normed before they are rotated.
    pub fn has_head_norms(self) -> bool {
        matches!(self, Family::Qwen3 | Family::Gemma3)
    }
}

/// How rotary frequencies are stretched beyond the sequences of pretraining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by the factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long waves are divided, short ones stay, those between are blended.
    Llama3 {
        /// The divisor of long waves.
        factor: f64,
        /// Waves longer than the first context divided by this are long.
        low: f64,
        /// Waves shorter than the first context divided by this are short.
        high: f64,
        /// Context of pretraining, in tokens.
        original: f64,
    },
}

/// Ids of special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// Fills unused places.
    pub padding: Option<u32>,
    /// Begins a text.
    pub begin: Option<u32>,
    /// Each of them ends a text.
    pub end: Vec<u32>,
}

/// What sets a decoder apart from the organism's shape, which is the default.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Decides names, norms, biases and the gate.
    pub family: Family,
    /// Channels of one head, where they are not width / heads.
    pub head_width: Option<usize>,
    /// Whether the embedding is the language-model head too.
    pub tied: bool,
    /// Stretch of the rotary frequencies of blocks without a window.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies of blocks with a window, where it is another (Gemma 3); never stretched.
    pub local_rope_theta: Option<f64>,
    /// Tokens that a block with a window sees.
    pub window: Option<usize>,
    /// Which blocks have a window, from the bottom; blocks beyond the end have none.
    pub windowed: Vec<bool>,
    /// Bound of attention's scores.
    pub score_cap: Option<f64>,
    /// Bound of the logits.
    pub logit_cap: Option<f64>,
    /// Scores are divided by the root of this, where it is not a head's channels.
    pub query_scale: Option<f64>,
    /// Ids of special tokens.
    pub special: SpecialIds,
}

impl Default for Variant {
    fn default() -> Self {
        use super::tokenizer::{BOS, END, PAD};
        Variant {
            family: Family::Llama,
            head_width: None,
            tied: true,
            rope_scaling: RopeScaling::None,
            local_rope_theta: None,
            window: None,
            windowed: Vec::new(),
            score_cap: None,
            logit_cap: None,
            query_scale: None,
            special: SpecialIds { padding: Some(PAD), begin: Some(BOS), end: vec![END] },
        }
    }
}

impl Variant {
    /// Whether this block sees a window alone.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.window.is_some() && self.windowed.get(layer).copied().unwrap_or(false)
    }
    /// How this block scores keys.
    pub(super) fn scoring(&self, layer: usize, head_width: usize) -> Scoring {
        let channels = self.query_scale.map_or(head_width as f32, |scale| scale as f32);
        let window = if self.is_windowed(layer) { self.window } else { None };
        Scoring {
            scale: 1.0 / channels.sqrt(),
            cap: self.score_cap.unwrap_or(0.0) as f32,
            window: window.unwrap_or(usize::MAX),
        }
    }
}
