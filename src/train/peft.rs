//! Adapters in the files that PEFT and vLLM read: `adapter_config.json` and `adapter_model.safetensors`.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lora::{AdapterOptions, FirstFactor, Lora};
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::weights::Weights;

/// The two files.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// `adapter_config.json`.
    pub config: String,
    /// `adapter_model.safetensors`, f32.
    pub model: Vec<u8>,
}

/// What this reads of `adapter_config.json`; what it cannot honour is refused by name.
#[derive(Serialize, Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    target_modules: Value,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Lora {
    /// The files; `base` is what `base_model_name_or_path` says.
    pub fn to_peft(&self, base: &str) -> Result<Files> {
        let broken =
            |error: safetensors::SafeTensorError| Error::internal(format!("adapters cannot be written: {error}"));
        let mut targets: Vec<&str> =
            self.adapters.iter().filter_map(|adapter| adapter.name.rsplit('.').next()).collect();
        targets.sort_unstable();
        targets.dedup();
        // Whole numbers are written as such: vLLM and older PEFT read an int.
        let alpha = if self.alpha.fract() == 0.0 { json!(self.alpha as i64) } else { json!(self.alpha) };
        let config = json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": alpha,
            "lora_dropout": self.options.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": {},
            "alpha_pattern": {},
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.options.rank_stabilised,
        });
        let config = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::internal(format!("adapters cannot be written: {error}")))?;
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let views = self.tensors().into_iter().map(|tensor| {
            let data = &bytes[tensor.range.start * 4..tensor.range.end * 4];
            TensorView::new(Dtype::F32, tensor.shape, data).map(|view| (tensor.name, view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(broken)?;
        let metadata = [("format".to_string(), "pt".to_string())].into();
        let model = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
        Ok(Files { config, model })
    }

    /// Reads the files: adapters of this decoder.
    ///
    /// # Errors
    /// Files that are broken, are of another model, or ask for something besides plain low-rank adapters.
    pub fn from_peft(weights: &Weights, files: &Files) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| Error::input(format!("adapters cannot be read: {error}"));
        let config: Config = serde_json::from_str(&files.config).map_err(|error| broken(&error))?;
        ensure!(config.peft_type == "LORA", "`peft_type` is `{}`, only `LORA` can be read", config.peft_type);
        for name in REFUSED {
            let value = config.other.get(*name).unwrap_or(&Value::Null);
            ensure!(is_idle(value), "`{name}` is {value} in `adapter_config.json`, which cannot be read");
        }
        let options = AdapterOptions {
            rank_stabilised: config.use_rslora,
            dropout: config.lora_dropout,
            targets: target_names(&config.target_modules)?,
            first: FirstFactor::Uniform,
        };
        ensure!(config.r > 0, "`r` is 0");
        let mut lora = Lora::with(weights, config.r, config.lora_alpha, &options, 0)?;
        let file = SafeTensors::deserialize(&files.model).map_err(|error| broken(&error))?;
        let tensors = lora.tensors();
        for name in file.names() {
            let known = tensors.iter().any(|tensor| tensor.name == *name);
            ensure!(known, "adapters have a tensor `{}` that this decoder has no place for", name);
        }
        for tensor in tensors {
            let view = file.tensor(&tensor.name);
            let view = view.map_err(|_| Error::input(format!("adapters lack the tensor `{}`", tensor.name)))?;
            let (name, found, wanted) = (&tensor.name, view.shape(), &tensor.shape);
            ensure!(found == wanted, "`{name}` has shape {found:?}, this decoder needs {wanted:?}");
            let values = &mut lora.values[tensor.range.clone()];
            match view.dtype() {
                Dtype::F32 => values.iter_mut().zip(view.data().as_chunks().0).for_each(|(value, bytes)| {
                    *value = f32::from_le_bytes(*bytes);
                }),
                Dtype::BF16 => values.iter_mut().zip(view.data().as_chunks().0).for_each(|(value, bytes)| {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }),
                other => return Err(broken(&format!("`{name}` is {other:?}, not F32 or BF16"))),
            }
        }
        Ok(lora)
    }
}

/// Settings of PEFT that change what adapters compute.
const REFUSED: &[&str] = &[
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];

/// Whether a setting asks for nothing.
fn is_idle(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Object(entries) => entries.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Names of linear maps; all where it says `all-linear`.
fn target_names(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text == "all-linear" => Ok(Vec::new()),
        Value::Array(names) if names.iter().all(Value::is_string) => {
            Ok(names.iter().filter_map(Value::as_str).map(str::to_string).collect())
        }
        other => Err(Error::input(format!("`target_modules` is {other}, a list of names or `all-linear` can be read"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn files_read_back_and_have_the_names_that_peft_gives() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let options = AdapterOptions {
            rank_stabilised: true,
            targets: vec!["q_proj".to_string(), "down_proj".to_string()],
            first: FirstFactor::Uniform,
            ..AdapterOptions::default()
        };
        let mut lora = Lora::with(&weights, 3, 6.0, &options, 5).unwrap();
        lora.values.iter_mut().enumerate().for_each(|(place, value)| *value += place as f32 * 1e-4);
        let files = lora.to_peft("organism").unwrap();
        let read = Lora::from_peft(&weights, &files).unwrap();
        assert_eq!(read.values, lora.values);
        let (mut one, mut other) = (weights.clone(), weights.clone());
        lora.merge(&weights, &mut one);
        read.merge(&weights, &mut other);
        assert!(one == other && one != weights);
        let file = SafeTensors::deserialize(&files.model).unwrap();
        let a = file.tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").unwrap();
        let b = file.tensor("base_model.model.model.layers.1.mlp.down_proj.lora_B.weight").unwrap();
        assert_eq!((a.shape(), b.shape(), file.len()), (&[3, 24][..], &[24, 3][..], 8));
        assert!(files.config.contains("\"lora_alpha\": 6,") && files.config.contains("\"use_rslora\": true"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let weights = Weights::initial(&tiny(), 1).unwrap();
        let lora = Lora::new(&weights, 2, 4.0, 0);
        let files = lora.to_peft("organism").unwrap();
        for (from, to, word) in [
            ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
            ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 4}", "rank_pattern"),
            ("\"LORA\"", "\"IA3\"", "peft_type"),
            ("\"r\": 2", "\"r\": 3", "shape"),
            ("\"q_proj\"", "\"x_proj\"", "x_proj"),
        ] {
            assert!(files.config.contains(from), "{from}");
            let changed = Files { config: files.config.replace(from, to), ..files.clone() };
            let error = Lora::from_peft(&weights, &changed).unwrap_err();
            assert!(error.message.contains(word), "{error}");
        }
        let cut = Files { model: files.model[..files.model.len() / 2].to_vec(), ..files };
        assert!(Lora::from_peft(&weights, &cut).is_err());
    }
}
