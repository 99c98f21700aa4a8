//! The shape of a decoder.

use serde::{Deserialize, Serialize};

use super::hugging_face::HuggingFace;
use super::layout::Layout;
use super::variant::Variant;
use crate::ensure;
use crate::error::Result;

/// A decoder with RMSNorm, rotary positions, grouped queries and a gated feed-forward; read and written as Hugging Face's
/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "HuggingFace", try_from = "HuggingFace")]
pub struct Config {
    /// Number of tokens.
    pub vocabulary: usize,
    /// Channels of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; each has an even number of channels.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of them.
    pub key_value_heads: usize,
    /// Channels inside the feed-forward.
    pub feed_forward: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square before its root.
    pub norm_epsilon: f64,
    /// What sets its family apart.
    pub variant: Variant,
}

impl Config {
    /// Channels of one head.
    pub fn head_width(&self) -> usize {
        self.variant.head_width.unwrap_or(self.width / self.heads)
    }
    /// Channels of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width()
    }
    /// Channels of all key heads, and of all value heads.
    pub fn key_width(&self) -> usize {
        self.key_value_heads * self.head_width()
    }
    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        Layout::of(self).values
    }
    /// Factor of an embedding when it enters the residual stream.
    pub fn embedding_scale(&self) -> f32 {
        if self.variant.family.is_gemma() { (self.width as f64).sqrt() as f32 } else { 1.0 }
    }
    /// Refuses shapes that this decoder cannot have.
    pub fn check(&self) -> Result<()> {
        let sizes = [self.vocabulary, self.width, self.layers, self.heads, self.key_value_heads, self.feed_forward];
        ensure!(sizes.iter().all(|size| *size > 0) && self.context > 0, "a model's sizes are all at least 1");
        ensure!(
            self.variant.head_width.is_some() || self.width.is_multiple_of(self.heads),
            "width {} is no multiple of {} heads",
            self.width,
            self.heads
        );
        ensure!(
            self.head_width().is_multiple_of(2) && self.head_width() > 0,
            "a head of {} channels cannot be rotated, it needs an even number",
            self.head_width()
        );
        ensure!(
            self.heads.is_multiple_of(self.key_value_heads),
            "{} heads are no multiple of {} key and value heads",
            self.heads,
            self.key_value_heads
        );
        ensure!(self.variant.window != Some(0), "a window of 0 tokens sees nothing");
        let positive = |number: Option<f64>| number.is_none_or(|number| number.is_finite() && number > 0.0);
        let variant = &self.variant;
        ensure!(
            positive(variant.score_cap) && positive(variant.logit_cap) && positive(variant.query_scale),
            "caps of scores and logits and the scale of queries are above 0"
        );
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::variant::{Family, RopeScaling};

    /// A shape small enough for finite differences, with grouped queries and no size that fills a vector register.
    pub(crate) fn tiny() -> Config {
        Config {
            vocabulary: 37,
            width: 24,
            layers: 2,
            heads: 4,
            key_value_heads: 2,
            feed_forward: 20,
            context: 32,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-5,
            variant: Variant::default(),
        }
    }

    /// The same with all that this family has: heads of another width, a window, caps, rotary frequencies of its own.
    pub(crate) fn tiny_of(family: Family) -> Config {
        let gemma2 = family == Family::Gemma2;
        let llama3 = RopeScaling::Llama3 { factor: 4.0, low: 1.0, high: 4.0, original: 8.0 };
        let gemma = family.is_gemma();
        Config {
            variant: Variant {
                family,
                head_width: (family != Family::Qwen2).then_some(8),
                tied: family != Family::Llama,
                rope_scaling: match family {
                    Family::Llama => llama3,
                    Family::Gemma3 => RopeScaling::Linear { factor: 8.0 },
                    _ => RopeScaling::None,
                },
                local_rope_theta: (family == Family::Gemma3).then_some(100.0),
                window: gemma.then_some(4),
                windowed: vec![gemma, false],
                score_cap: gemma2.then_some(2.0),
                logit_cap: gemma2.then_some(3.0),
                query_scale: gemma.then_some(11.0),
                ..Variant::default()
            },
            ..tiny()
        }
    }

    #[test]
    fn json_reads_back_and_counts_parameters() {
        let text = serde_json::to_string(&tiny()).unwrap();
        assert!(text.contains("\"hidden_size\":24") && text.contains("\"tie_word_embeddings\":true"), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), tiny());
        let prototype = Config { vocabulary: 1211, width: 64, layers: 4, feed_forward: 192, ..tiny() };
        // The prototype of the organism had as many key heads as query heads.
        assert_eq!(Config { key_value_heads: 4, ..prototype }.parameters(), 291_072);
    }
}
