//! Checkpoints of every supported family against transformers and PyTorch: logits, states, decoding, gradients, AdamW.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use drylab::model::chat::Example;
use drylab::model::checkpoint::{read_config, read_weights};
use drylab::model::config::Config;
use drylab::model::sample::{Prompt, SampleOptions, sample};
use drylab::model::weights::Weights;
use drylab::model::{batch::Batch, forward, head};
use drylab::train::objective::sft::Sft;
use drylab::train::optimizer::{Adam, AdamOptions};
use serde_json::Value;

const CHECKPOINTS: [&str; 6] = ["llama2", "llama3", "qwen2", "qwen3", "gemma2", "gemma3"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf").join(name)
}

fn fixture(name: &str) -> (Weights, Value) {
    let folder = folder(name);
    let weights = read_weights(&read_config(&folder).unwrap(), &folder).unwrap();
    (weights, serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap())
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn rows(expected: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(expected["rows"].clone()).unwrap()
}

/// Loss and gradient of the rows: the mean over their tokens from the fourth on.
fn gradient(weights: &Weights, expected: &Value) -> (f64, Vec<f32>) {
    let example = |ids: Vec<u32>| {
        let loss_mask = (0..ids.len()).map(|position| position >= 3).collect();
        Example { ids, loss_mask, weight: 1.0 }
    };
    let examples: Vec<Example> = rows(expected).into_iter().map(example).collect();
    let mut objective = Sft::new(weights, 1).unwrap();
    let (loss, gradient) = objective.gradient(weights, &examples.iter().collect::<Vec<_>>()).unwrap();
    (loss, gradient.to_vec())
}

/// Largest difference.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn size(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

#[test]
fn logits_and_states_are_those_of_transformers() {
    for name in CHECKPOINTS {
        let (weights, expected) = fixture(name);
        let (config, rows) = (&weights.config, rows(&expected));
        let mut batch = Batch::default();
        rows.iter().for_each(|ids| batch.push(ids, ids.len().saturating_sub(2)..ids.len()));
        let prepared = forward::Prepared::new(&weights).unwrap();
        let mut activations = forward::Activations::default();
        forward::forward(&weights, &prepared, &batch, &mut activations).unwrap();
        let mut logits = Vec::new();
        head::logits(&weights, &prepared, activations.hidden(), &mut logits).unwrap();
        let told: Vec<f32> = expected["logits"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .flat_map(floats)
            .collect();
        let worst = error(&logits, &told);
        eprintln!("{name}: logits differ by {worst:e} of {}", size(&told));
        assert!(worst < 1e-4, "{name}: {worst}");
        for (row, states) in expected["hidden"].as_array().unwrap().iter().enumerate() {
            for (state, told) in states.as_array().unwrap().iter().enumerate() {
                let last = batch.bounds[row + 1] - 1;
                let found = &activations.state(state).unwrap()[last * config.width..][..config.width];
                assert!(error(found, &floats(told)) < 1e-4 * size(found).max(1.0), "{name}: state {state}");
            }
        }
    }
}

#[test]
fn greedy_decoding_with_a_cache_is_that_of_transformers() {
    for name in CHECKPOINTS {
        let (weights, expected) = fixture(name);
        let prompt = Prompt { ids: rows(&expected)[1].clone(), seed: 0 };
        let options = SampleOptions { temperature: 0.0, max_tokens: 12, stop: vec![], ..SampleOptions::default() };
        let found = sample(&weights, &[prompt], &options, &|| false).unwrap().remove(0).ids;
        assert_eq!(serde_json::json!(found), expected["generated"], "{name}");
    }
}

#[test]
fn loss_and_gradient_are_those_of_transformers() {
    for name in CHECKPOINTS {
        let (weights, expected) = fixture(name);
        let (loss, gradient) = gradient(&weights, &expected);
        let told = expected["loss"].as_f64().unwrap();
        assert!((loss - told).abs() < 1e-5, "{name}: loss {loss} {told}");
        let mut worst = 0.0f64;
        for tensor in weights.tensors() {
            let told = &expected["gradients"][&tensor.name];
            let own = &gradient[tensor.range.clone()];
            let norm = own.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let told_norm = told["norm"].as_f64().unwrap();
            assert!(told_norm > 1e-4, "{name}: {} has no gradient", tensor.name);
            let places: Vec<usize> = serde_json::from_value(told["places"].clone()).unwrap();
            let found: Vec<f32> = places.iter().map(|place| own[*place]).collect();
            let scale = told_norm / (own.len() as f64).sqrt();
            let error =
                (f64::from(error(&found, &floats(&told["values"]))) / scale).max((norm / told_norm - 1.0).abs());
            worst = worst.max(error);
            assert!(error < 1e-4, "{name}: {}: {error}", tensor.name);
        }
        eprintln!("{name}: loss differs by {:e}, gradients by {worst:e}", loss - told);
    }
}

#[test]
fn one_step_of_adamw_is_that_of_pytorch() {
    for name in CHECKPOINTS {
        let (mut weights, expected) = fixture(name);
        let (_, gradient) = gradient(&weights, &expected);
        let options = AdamOptions { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
        let parts = weights.tensors().into_iter().map(|tensor| (tensor.range, tensor.shape.len() > 1)).collect();
        let norm = Adam::new(options, parts, 1).step(&mut weights.values, &gradient, 1e-2);
        let told = expected["gradient_norm"].as_f64().unwrap();
        assert!((norm / told - 1.0).abs() < 1e-4, "{name}: {norm} {told}");
        let mut worst = 0.0f32;
        for tensor in weights.tensors() {
            let told = &expected["after"][&tensor.name];
            let places: Vec<usize> = serde_json::from_value(told["places"].clone()).unwrap();
            let found: Vec<f32> = places.iter().map(|place| weights.values[tensor.range.clone()][*place]).collect();
            let told = floats(&told["values"]);
            let error = error(&found, &told) / size(&told);
            worst = worst.max(error);
            assert!(error < 1e-4, "{name}: {}: {error}", tensor.name);
        }
        eprintln!("{name}: values after a step differ by {worst:e}");
    }
}

#[test]
fn a_broken_checkpoint_is_named_with_file_and_tensor() {
    let from = folder("qwen2");
    let config = read_config(&from).unwrap();
    let shard = "model-00002-of-00003.safetensors";
    let broken = |change: &dyn Fn(&Path)| {
        let to = tempfile::tempdir().unwrap();
        for file in fs::read_dir(&from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
        change(to.path());
        read_weights(&config, to.path()).unwrap_err().to_string()
    };
    let cut = broken(&|folder| {
        let bytes = fs::read(folder.join(shard)).unwrap();
        fs::write(folder.join(shard), &bytes[..bytes.len() - 100]).unwrap();
    });
    assert!(cut.contains(shard) && cut.contains("`model."), "{cut}");
    let gone = broken(&|folder| fs::remove_file(folder.join(shard)).unwrap());
    assert!(gone.contains(shard), "{gone}");
    let unlisted = broken(&|folder| {
        let index = folder.join("model.safetensors.index.json");
        let text = fs::read_to_string(&index).unwrap();
        fs::write(&index, text.replace(shard, "model-00001-of-00003.safetensors")).unwrap();
    });
    assert!(unlisted.contains("lacks the tensor `model."), "{unlisted}");
    let wrong = Config { feed_forward: 44, ..config.clone() };
    let shape = read_weights(&wrong, &from).unwrap_err().to_string();
    assert!(shape.contains("mlp") && shape.contains("shape") && shape.contains("model-0000"), "{shape}");
    let mut wider = config.clone();
    wider.layers = 2;
    let extra = read_weights(&wider, &from).unwrap_err().to_string();
    assert!(extra.contains("`model.layers.2.") && extra.contains("no place"), "{extra}");
}
