//! Adapters of PEFT's are read, compute what PEFT computes, and learn what PEFT's learn.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use drylab::model::batch::Batch;
use drylab::model::chat::Example;
use drylab::model::config::Config;
use drylab::model::forward::{Activations, Prepared, forward};
use drylab::model::head;
use drylab::model::weights::Weights;
use drylab::train::Lora;
use drylab::train::objective::loss::{Loss, Source};
use drylab::train::optimizer::{Adam, AdamOptions};
use drylab::train::passes::Passes;
use drylab::train::peft::Files;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft")
}

fn base() -> Weights {
    let config: Config = serde_json::from_slice(&std::fs::read(folder().join("config.json")).unwrap()).unwrap();
    Weights::from_safetensors(&config, &std::fs::read(folder().join("model.safetensors")).unwrap()).unwrap()
}

fn adapters(base: &Weights, name: &str) -> Lora {
    let read = |file: &str| std::fs::read(folder().join(name).join(file)).unwrap();
    let config = String::from_utf8(read("adapter_config.json")).unwrap();
    Lora::from_peft(base, &Files { config, model: read("adapter_model.safetensors") }).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn expected() -> (Vec<Example>, Vec<f64>, Vec<f64>) {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let first = expected["first_trained"].as_u64().unwrap() as usize;
    let row = |ids: &Value| {
        let ids: Vec<u32> = numbers(ids).into_iter().map(|id| id as u32).collect();
        let loss_mask = (0..ids.len()).map(|position| position >= first).collect();
        Example { ids, loss_mask, weight: 1.0 }
    };
    let rows = expected["rows"].as_array().unwrap().iter().map(row).collect();
    (rows, numbers(&expected["losses"]), numbers(&expected["logits"]))
}

#[test]
fn three_steps_are_those_of_peft() {
    let base = base();
    let (rows, losses, _) = expected();
    let mut lora = adapters(&base, "before");
    let options = AdamOptions { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.0, clip: 0.5 };
    let mut adam = Adam::new(options, vec![(0..lora.values.len(), true)], 1);
    let mut passes = Passes::new(&base, Some(lora.beside(&base)), 1).unwrap();
    let source = Source::new(Loss::Sft, &rows, &[], None).unwrap();
    let all: Vec<usize> = (0..source.units.len()).collect();
    let amount = source.amount(std::slice::from_ref(&all));
    for wanted in losses {
        passes.update_adapters(&lora.values);
        let loss = source.run(&mut passes, &base, None, &all, amount, true).unwrap();
        assert!((loss - wanted).abs() < 1e-5, "{loss} {wanted}");
        adam.step(&mut lora.values, passes.gradient(), 1e-2);
    }
    let after = adapters(&base, "after");
    let most = after.values.iter().fold(0f32, |most, value| most.max(value.abs()));
    let worst = lora.values.iter().zip(&after.values).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst < 1e-4 * most, "{worst} of {most}");
}

#[test]
fn logits_are_those_of_peft() {
    let base = base();
    let (rows, _, wanted) = expected();
    let (lora, mut merged) = (adapters(&base, "after"), base.clone());
    lora.merge(&base, &mut merged);
    let prepared = Prepared::new(&merged).unwrap();
    let (mut batch, mut activations, mut logits) = (Batch::default(), Activations::default(), Vec::new());
    batch.push(&rows[0].ids, 0..rows[0].ids.len());
    forward(&merged, &prepared, &batch, &mut activations).unwrap();
    head::logits(&merged, &prepared, activations.hidden(), &mut logits).unwrap();
    assert_eq!(logits.len(), wanted.len());
    for (found, wanted) in logits.iter().zip(wanted) {
        assert!((f64::from(*found) - wanted).abs() < 1e-4, "{found} {wanted}");
    }
}

#[test]
fn written_files_hold_the_tensors_of_those_that_were_read() {
    let base = base();
    let lora = adapters(&base, "after");
    let written = lora.to_peft("base").unwrap();
    let original = std::fs::read(folder().join("after/adapter_model.safetensors")).unwrap();
    let (written_file, original) = (
        safetensors::SafeTensors::deserialize(&written.model).unwrap(),
        safetensors::SafeTensors::deserialize(&original).unwrap(),
    );
    assert_eq!(written_file.len(), original.len());
    for name in original.names() {
        let (one, other) = (written_file.tensor(name).unwrap(), original.tensor(name).unwrap());
        assert_eq!((one.shape(), one.data()), (other.shape(), other.data()), "{name}");
    }
}
