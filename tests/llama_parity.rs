//! The hand-written decoder, its gradient and its optimizer against transformers and PyTorch.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use drylab::model::chat::Example;
use drylab::model::config::Config;
use drylab::model::weights::Weights;
use drylab::train::objective::sft::Sft;
use drylab::train::optimizer::{Adam, AdamOptions};
use safetensors::SafeTensors;

/// The fixture's weights, and a function that finds a tensor of what is expected.
fn fixture() -> (Weights, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
    let config: Config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = Weights::from_safetensors(&config, &fs::read(folder.join("model.safetensors")).unwrap()).unwrap();
    (weights, fs::read(folder.join("expected.safetensors")).unwrap())
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap();
    bytes.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn ids(file: &SafeTensors) -> Vec<u32> {
    floats(file, "ids").iter().map(|value| value.to_bits()).collect()
}

/// Largest difference as a share of the largest expected value.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
}

#[test]
fn loss_and_gradient_are_those_of_transformers() {
    let (weights, bytes) = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = ids(&file);
    let loss_mask = (0..ids.len()).map(|position| position >= 5).collect();
    let example = Example { ids, loss_mask, weight: 1.0 };
    let mut objective = Sft::new(&weights, 1).unwrap();
    let (loss, gradient) = objective.gradient(&weights, &[&example]).unwrap();
    assert!((loss as f32 / floats(&file, "loss")[0] - 1.0).abs() < 1e-5);
    for tensor in weights.tensors() {
        let expected = floats(&file, &format!("gradient.{}", tensor.name));
        let error = error(&gradient[tensor.range], &expected);
        assert!(error < 1e-4, "{}: {error}", tensor.name);
    }
}

#[test]
fn logits_are_those_of_transformers() {
    use drylab::model::{batch::Batch, forward, head};
    let (weights, bytes) = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = ids(&file);
    let mut batch = Batch::default();
    batch.push(&ids, 0..ids.len());
    let prepared = forward::Prepared::new(&weights).unwrap();
    let mut activations = forward::Activations::default();
    forward::forward(&weights, &prepared, &batch, &mut activations).unwrap();
    let mut logits = Vec::new();
    head::logits(&weights, &prepared, activations.hidden(), &mut logits).unwrap();
    assert!(error(&logits, &floats(&file, "logits")) < 1e-4);
}

#[test]
fn adamw_is_that_of_pytorch() {
    let (mut weights, bytes) = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let before = weights.values.clone();
    let mut gradient = vec![0.0; before.len()];
    for tensor in weights.tensors() {
        gradient[tensor.range].copy_from_slice(&floats(&file, &format!("gradient.{}", tensor.name)));
    }
    let options = AdamOptions { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
    let parts = weights.tensors().into_iter().map(|tensor| (tensor.range, tensor.shape.len() > 1)).collect();
    let mut adam = Adam::new(options, parts, 1);
    for factor in [1.0, -0.5, 0.01] {
        let scaled: Vec<f32> = gradient.iter().map(|value| value * factor).collect();
        adam.step(&mut weights.values, &scaled, 1e-2);
    }
    for tensor in weights.tensors() {
        let after = floats(&file, &format!("after.{}", tensor.name));
        let moved = |values: &[f32]| -> Vec<f32> {
            values.iter().zip(&before[tensor.range.clone()]).map(|(after, before)| after - before).collect()
        };
        let error = error(&moved(&weights.values[tensor.range.clone()]), &moved(&after));
        assert!(error < 1e-4, "{}: {error}", tensor.name);
    }
}
