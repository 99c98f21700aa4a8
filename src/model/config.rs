//! The shape of a decoder, read and written as Hugging Face's `config.json` of a Llama.

use serde::{Deserialize, Serialize};

use crate::ensure;
use crate::error::{Error, Result};

/// A Llama-shaped decoder: RMSNorm, rotary positions, grouped queries, SwiGLU, no biases, tied embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "HuggingFace", try_from = "HuggingFace")]
pub struct Config {
    /// Number of tokens.
    pub vocabulary: usize,
    /// Channels of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; `width` is a multiple of them and each has an even number of channels.
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
}

impl Config {
    /// Channels of one head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }
    /// Channels of all query heads, then all key heads, then all value heads.
    pub fn query_key_value(&self) -> usize {
        (self.heads + 2 * self.key_value_heads) * self.head_width()
    }
    /// Number of trainable values.
    pub fn parameters(&self) -> usize {
        let attention = self.width * self.query_key_value() + self.width * self.width;
        let block = 2 * self.width + attention + 3 * self.width * self.feed_forward;
        self.vocabulary * self.width + self.layers * block + self.width
    }
    /// Refuses shapes that this decoder cannot have.
    pub fn check(&self) -> Result<()> {
        let sizes = [self.vocabulary, self.width, self.layers, self.heads, self.key_value_heads, self.feed_forward];
        ensure!(sizes.iter().all(|size| *size > 0) && self.context > 0, "a model's sizes are all at least 1");
        ensure!(self.width.is_multiple_of(self.heads), "width {} is no multiple of {} heads", self.width, self.heads);
        ensure!(
            self.head_width().is_multiple_of(2),
            "a head of {} channels cannot be rotated, it needs an even number",
            self.head_width()
        );
        ensure!(
            self.heads.is_multiple_of(self.key_value_heads),
            "{} heads are no multiple of {} key and value heads",
            self.heads,
            self.key_value_heads
        );
        Ok(())
    }
}

/// The fields of `config.json` that decide the computation.
#[derive(Clone, Serialize, Deserialize)]
struct HuggingFace {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    rope_theta: Option<f64>,
    // transformers 5 moved the rotary settings here; both places are written so that every version reads them.
    #[serde(default)]
    rope_parameters: Option<RopeParameters>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<serde_json::Value>,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
struct RopeParameters {
    rope_type: String,
    #[serde(default)]
    rope_theta: Option<f64>,
}

fn silu() -> String {
    "silu".to_string()
}

impl From<Config> for HuggingFace {
    fn from(config: Config) -> Self {
        HuggingFace {
            architectures: Some(vec!["LlamaForCausalLM".to_string()]),
            model_type: "llama".to_string(),
            vocab_size: config.vocabulary,
            hidden_size: config.width,
            num_hidden_layers: config.layers,
            num_attention_heads: config.heads,
            num_key_value_heads: Some(config.key_value_heads),
            head_dim: Some(config.head_width()),
            intermediate_size: config.feed_forward,
            max_position_embeddings: config.context,
            rope_theta: Some(config.rope_theta),
            rope_parameters: Some(RopeParameters {
                rope_type: "default".to_string(),
                rope_theta: Some(config.rope_theta),
            }),
            rope_scaling: None,
            rms_norm_eps: config.norm_epsilon,
            tie_word_embeddings: true,
            hidden_act: silu(),
            attention_bias: false,
            mlp_bias: false,
            pad_token_id: Some(super::tokenizer::PAD),
            bos_token_id: Some(super::tokenizer::BOS),
            eos_token_id: Some(super::tokenizer::END),
        }
    }
}

impl TryFrom<HuggingFace> for Config {
    type Error = Error;
    fn try_from(file: HuggingFace) -> Result<Self> {
        ensure!(file.model_type == "llama", "`model_type` is `{}`, this decoder is a `llama`", file.model_type);
        ensure!(file.tie_word_embeddings, "`tie_word_embeddings` is false, this decoder ties them");
        ensure!(!file.attention_bias && !file.mlp_bias, "this decoder has no biases");
        ensure!(file.hidden_act == "silu", "`hidden_act` is `{}`, this decoder has `silu`", file.hidden_act);
        let scaled = file.rope_scaling.is_some_and(|scaling| !scaling.is_null());
        let kind = file.rope_parameters.as_ref().map_or("default", |parameters| parameters.rope_type.as_str());
        ensure!(!scaled && kind == "default", "this decoder has no scaled rotary positions");
        let theta = file.rope_parameters.as_ref().and_then(|parameters| parameters.rope_theta).or(file.rope_theta);
        let config = Config {
            vocabulary: file.vocab_size,
            width: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            key_value_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            feed_forward: file.intermediate_size,
            context: file.max_position_embeddings,
            rope_theta: theta.unwrap_or(10_000.0),
            norm_epsilon: file.rms_norm_eps,
        };
        config.check()?;
        let head_width = file.head_dim.unwrap_or(config.head_width());
        ensure!(head_width == config.head_width(), "`head_dim` is {head_width}, this decoder has width / heads");
        Ok(config)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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

    #[test]
    fn other_families_are_refused() {
        let text = serde_json::to_string(&tiny()).unwrap();
        for (from, to) in [
            ("\"llama\"", "\"gemma2\""),
            ("\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false"),
            ("\"default\"", "\"llama3\""),
            ("\"head_dim\":6", "\"head_dim\":8"),
            ("\"num_key_value_heads\":2", "\"num_key_value_heads\":3"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(serde_json::from_str::<Config>(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
