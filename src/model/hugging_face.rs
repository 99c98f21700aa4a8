//! Hugging Face's `config.json` of the supported families, in the spellings of transformers 4 and 5.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::Config;
use super::variant::{FAMILIES, Family, RopeScaling, SpecialIds, Variant};
use crate::ensure;
use crate::error::{Error, Result};

/// The fields of `config.json` that decide the computation.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct HuggingFace {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
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
    rope_parameters: Option<Rope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_local_base_freq: Option<f64>,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query_pre_attn_scalar: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attn_logit_softcapping: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    final_logit_softcapping: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sliding_window: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    use_sliding_window: Option<bool>,
    #[serde(default, skip_serializing)]
    max_window_layers: Option<usize>,
    #[serde(default, skip_serializing)]
    sliding_window_pattern: Option<usize>,
    #[serde(default, skip_serializing)]
    use_bidirectional_attention: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    bos_token_id: Option<u32>,
    #[serde(default)]
    eos_token_id: Option<Ids>,
}

/// Rotary settings as they were read, or the plain ones that are written, whose fields keep their order.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Rope {
    Any(Value),
    Plain { rope_type: String, rope_theta: f64 },
}

/// One id, or several of equal meaning.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

fn silu() -> String {
    "silu".to_string()
}

fn epsilon() -> f64 {
    1e-6
}

impl From<Config> for HuggingFace {
    fn from(config: Config) -> Self {
        let variant = &config.variant;
        let family = variant.family;
        let plain = |rope_theta| Rope::Plain { rope_type: "default".to_string(), rope_theta };
        let scaling = scaling_json(variant.rope_scaling);
        let mut whole = scaling.clone().unwrap_or_else(|| json!({ "rope_type": "default" }));
        whole["rope_theta"] = json!(config.rope_theta);
        let rope = match (family, variant.rope_scaling) {
            (Family::Gemma3, _) => {
                let local = plain(variant.local_rope_theta.unwrap_or(config.rope_theta));
                Rope::Any(json!({ FULL: whole, SLIDING: local }))
            }
            (_, RopeScaling::None) => plain(config.rope_theta),
            _ => Rope::Any(whole),
        };
        let layer_types = variant.window.map(|_| {
            let name = |layer| if variant.is_windowed(layer) { SLIDING } else { FULL };
            (0..config.layers).map(|layer| name(layer).to_string()).collect()
        });
        let gelu = family.is_gemma().then(|| "gelu_pytorch_tanh".to_string());
        HuggingFace {
            architectures: Some(vec![family.architecture().to_string()]),
            model_type: family.model_type().to_string(),
            vocab_size: config.vocabulary,
            hidden_size: config.width,
            num_hidden_layers: config.layers,
            num_attention_heads: config.heads,
            num_key_value_heads: Some(config.key_value_heads),
            head_dim: Some(config.head_width()),
            intermediate_size: config.feed_forward,
            max_position_embeddings: config.context,
            rope_theta: Some(config.rope_theta),
            rope_parameters: Some(rope),
            rope_scaling: scaling,
            rope_local_base_freq: variant.local_rope_theta,
            rms_norm_eps: config.norm_epsilon,
            tie_word_embeddings: Some(variant.tied),
            hidden_act: gelu.clone().unwrap_or_else(silu),
            hidden_activation: gelu,
            attention_bias: false,
            mlp_bias: false,
            query_pre_attn_scalar: variant.query_scale,
            attn_logit_softcapping: variant.score_cap,
            final_logit_softcapping: variant.logit_cap,
            sliding_window: variant.window,
            use_sliding_window: (variant.window.is_some() && !family.is_gemma()).then_some(true),
            max_window_layers: None,
            sliding_window_pattern: None,
            use_bidirectional_attention: None,
            layer_types,
            pad_token_id: variant.special.padding,
            bos_token_id: variant.special.begin,
            eos_token_id: match variant.special.end.as_slice() {
                [] => None,
                [id] => Some(Ids::One(*id)),
                ids => Some(Ids::Many(ids.to_vec())),
            },
        }
    }
}

impl TryFrom<HuggingFace> for Config {
    type Error = Error;
    fn try_from(file: HuggingFace) -> Result<Self> {
        let family = family(&file)?;
        let gemma = family.is_gemma();
        ensure!(
            !file.attention_bias && !file.mlp_bias,
            "`attention_bias` or `mlp_bias` is true: this decoder has no such biases in {}",
            family.model_type()
        );
        let (act, wanted) = match gemma {
            true => (file.hidden_activation.as_deref().unwrap_or("gelu_pytorch_tanh"), "gelu_pytorch_tanh"),
            false => (file.hidden_act.as_str(), "silu"),
        };
        ensure!(act == wanted, "the activation is `{act}`, this decoder has `{wanted}` in {}", family.model_type());
        ensure!(
            file.use_bidirectional_attention != Some(true),
            "`use_bidirectional_attention` is true, this decoder looks back alone"
        );
        let (window, windowed) = windows(&file, family);
        let (rope_theta, rope_scaling, local_rope_theta) = rope(&file, family)?;
        let config = Config {
            vocabulary: file.vocab_size,
            width: file.hidden_size,
            layers: file.num_hidden_layers,
            heads: file.num_attention_heads,
            key_value_heads: file.num_key_value_heads.unwrap_or(file.num_attention_heads),
            feed_forward: file.intermediate_size,
            context: file.max_position_embeddings,
            rope_theta,
            norm_epsilon: file.rms_norm_eps,
            variant: Variant {
                family,
                head_width: None,
                tied: file.tie_word_embeddings.unwrap_or(gemma),
                rope_scaling,
                local_rope_theta,
                window,
                windowed,
                score_cap: file.attn_logit_softcapping,
                logit_cap: file.final_logit_softcapping,
                query_scale: file.query_pre_attn_scalar.or(gemma.then_some(256.0)),
                special: SpecialIds {
                    padding: file.pad_token_id,
                    begin: file.bos_token_id,
                    end: match file.eos_token_id {
                        None => Vec::new(),
                        Some(Ids::One(id)) => vec![id],
                        Some(Ids::Many(ids)) => ids,
                    },
                },
            },
        };
        ensure!(config.heads > 0, "a model's sizes are all at least 1");
        let standard = match family {
            Family::Gemma2 | Family::Gemma3 => Some(256),
            Family::Qwen3 => Some(128),
            Family::Llama | Family::Qwen2 => None,
        };
        let head_width = file.head_dim.or(standard).filter(|width| *width * config.heads != config.width);
        let config = Config { variant: Variant { head_width, ..config.variant }, ..config };
        config.check()?;
        Ok(config)
    }
}

fn family(file: &HuggingFace) -> Result<Family> {
    let known = |family: &Family| {
        let named = file.architectures.as_ref().and_then(|names| names.first());
        match named {
            Some(name) => name == family.architecture(),
            None => file.model_type == family.model_type(),
        }
    };
    FAMILIES.into_iter().find(known).ok_or_else(|| {
        let found = file.architectures.as_ref().and_then(|names| names.first()).unwrap_or(&file.model_type);
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.architecture()).collect();
        Error::input(format!("the architecture `{found}` is not supported"))
            .with_help(format!("choose a checkpoint of one of {}", names.join(", ")))
    })
}

/// The window, and which blocks have it.
fn windows(file: &HuggingFace, family: Family) -> (Option<usize>, Vec<bool>) {
    let on = match family {
        Family::Llama => false,
        Family::Qwen2 | Family::Qwen3 => file.use_sliding_window == Some(true),
        Family::Gemma2 | Family::Gemma3 => true,
    };
    let Some(window) = file.sliding_window.filter(|_| on) else {
        return (None, Vec::new());
    };
    let windowed = match &file.layer_types {
        Some(types) => types.iter().map(|name| name == SLIDING).collect(),
        None => (0..file.num_hidden_layers)
            .map(|layer| match family {
                Family::Gemma2 => layer % 2 == 0,
                Family::Gemma3 => (layer + 1) % file.sliding_window_pattern.unwrap_or(6).max(1) != 0,
                _ => layer >= file.max_window_layers.unwrap_or(28),
            })
            .collect(),
    };
    (Some(window), windowed)
}

/// Base and stretch of the rotary frequencies, and the base of blocks with a window where it is another.
fn rope(file: &HuggingFace, family: Family) -> Result<(f64, RopeScaling, Option<f64>)> {
    let usual = if family == Family::Gemma3 { 1_000_000.0 } else { 10_000.0 };
    let parameters = match &file.rope_parameters {
        Some(Rope::Any(parameters)) => Some(parameters),
        _ => None,
    };
    let by_type = |name: &str| parameters.and_then(|rope| rope.get(name));
    let theta = |rope: Option<&Value>| rope.and_then(|rope| rope.get("rope_theta")).and_then(Value::as_f64);
    let whole = by_type(FULL).or(parameters);
    let stretch = file.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()).or(whole);
    let scaling = stretch.map_or(Ok(RopeScaling::None), read_scaling)?;
    let local = match family {
        Family::Gemma3 => Some(theta(by_type(SLIDING)).or(file.rope_local_base_freq).unwrap_or(10_000.0)),
        _ => None,
    };
    Ok((theta(whole).or(file.rope_theta).unwrap_or(usual), scaling, local))
}

fn read_scaling(scaling: &Value) -> Result<RopeScaling> {
    let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
    let number = |name: &str| {
        let found = scaling.get(name).and_then(Value::as_f64).filter(|number| *number > 0.0);
        found.ok_or_else(|| Error::input(format!("rotary scaling `{kind}` lacks `{name}` above 0")))
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        }),
        other => Err(Error::input(format!("rotary scaling `{other}` is not supported"))
            .with_help("choose a checkpoint with `default`, `linear` or `llama3`")),
    }
}

fn scaling_json(scaling: RopeScaling) -> Option<Value> {
    match scaling {
        RopeScaling::None => None,
        RopeScaling::Linear { factor } => Some(json!({ "rope_type": "linear", "factor": factor })),
        RopeScaling::Llama3 { factor, low, high, original } => Some(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as u64
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    fn read(value: Value) -> Result<Config, serde_json::Error> {
        serde_json::from_value(value)
    }

    fn file(architecture: &str, more: Value) -> Value {
        let mut file = json!({
            "architectures": [architecture], "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 7,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20,
            "max_position_embeddings": 64
        });
        for (name, value) in more.as_object().unwrap() {
            file[name] = value.clone();
        }
        file
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        let text = serde_json::to_string(&tiny()).unwrap();
        for (from, to, word) in [
            ("\"LlamaForCausalLM\"", "\"MambaForCausalLM\"", "Gemma3ForCausalLM"),
            ("\"default\"", "\"yarn\"", "yarn"),
            ("\"attention_bias\":false", "\"attention_bias\":true", "attention_bias"),
            ("\"silu\"", "\"relu\"", "relu"),
            ("\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "heads"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = serde_json::from_str::<Config>(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn both_spellings_of_rotary_settings_are_read() {
        let scaling = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                              "original_max_position_embeddings": 16 });
        let old = file("LlamaForCausalLM", json!({ "rope_theta": 5e5, "rope_scaling": scaling }));
        let mut rope = scaling.clone();
        rope["rope_theta"] = json!(5e5);
        let new = file("LlamaForCausalLM", json!({ "rope_parameters": rope }));
        let config = read(old).unwrap();
        assert_eq!(config, read(new).unwrap());
        assert!(matches!(config.variant.rope_scaling, RopeScaling::Llama3 { original: 16.0, .. }));
        assert_eq!((config.rope_theta, config.variant.tied), (5e5, false));
        let old = file(
            "Gemma3ForCausalLM",
            json!({ "rope_local_base_freq": 1e4, "sliding_window": 8,
            "rope_scaling": { "rope_type": "linear", "factor": 8.0 } }),
        );
        let config = read(old).unwrap();
        assert_eq!(config.variant.windowed, [true, true, true, true, true, false, true]);
        assert_eq!((config.rope_theta, config.variant.local_rope_theta), (1e6, Some(1e4)));
        assert_eq!(config.variant.rope_scaling, RopeScaling::Linear { factor: 8.0 });
        assert_eq!((config.head_width(), config.variant.tied, config.query_width()), (256, true, 1024));
    }

    #[test]
    fn every_family_reads_back() {
        for family in FAMILIES {
            let more = json!({ "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3, "head_dim": 8,
                               "eos_token_id": [4, 5], "tie_word_embeddings": false });
            let config = read(file(family.architecture(), more)).unwrap();
            assert_eq!(config.variant.window.is_some(), family != Family::Llama);
            let again = serde_json::to_value(&config).unwrap();
            assert_eq!(read(again).unwrap(), config);
            assert_eq!(config.variant.special.end, [4, 5]);
        }
    }
}
