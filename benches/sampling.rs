//! New tokens per second of sampling with 1 and 10 samples per prompt, against `generate` of transformers and a batched loop in PyTorch.

mod measure;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use drylab::data::random::Random;
use drylab::model::config::Config;
use drylab::model::forward::Prepared;
use drylab::model::sample::{Prompt, SampleOptions, sample};
use drylab::model::sample_shared::sample_shared;
use drylab::model::variant::Variant;
use drylab::model::weights::Weights;
use measure::{Contestant, Result, Table, alternate, ask, asked, flag, program, python};
use serde_json::json;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const COMPLETIONS: usize = 320;
const PROMPT_TOKENS: usize = 16;
const NEW_TOKENS: usize = 48;
const REPETITIONS: usize = 3;

fn shapes() -> [(&'static str, Config); 4] {
    let config = |width, layers, heads, feed_forward, vocabulary| Config {
        vocabulary,
        width,
        layers,
        heads,
        key_value_heads: heads,
        feed_forward,
        context: 160,
        rope_theta: 10000.0,
        norm_epsilon: 1e-5,
        variant: Variant::default(),
    };
    [
        ("organism", config(64, 4, 4, 192, 2861)),
        ("S", config(128, 4, 4, 344, 2048)),
        ("M", config(256, 4, 8, 688, 4096)),
        ("L", config(512, 8, 8, 1376, 4096)),
    ]
}

/// As many prompts as give `COMPLETIONS` completions, all equally long, which spares PyTorch its padding.
fn prompts(config: &Config, samples: usize) -> Vec<Vec<u32>> {
    let mut random = Random::new(5);
    let mut prompt = || (0..PROMPT_TOKENS).map(|_| random.below(config.vocabulary) as u32).collect();
    (0..COMPLETIONS / samples).map(|_| prompt()).collect()
}

/// Nothing stops a completion, so that all contestants make the same number of tokens.
fn options(temperature: f64) -> SampleOptions {
    SampleOptions { temperature, top_p: 1.0, max_tokens: NEW_TOKENS, stop: Vec::new(), alternatives: 0 }
}

fn write(folder: &Path, weights: &Weights, prompts: &[Vec<u32>], samples: usize) -> Result<()> {
    let values: Vec<u8> = weights.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join("weights.bin"), values)?;
    std::fs::write(folder.join("model.safetensors"), weights.to_safetensors()?)?;
    let tensors = weights.tensors().into_iter();
    let tensors = tensors.map(|tensor| json!({ "name": tensor.name, "shape": tensor.shape })).collect::<Vec<_>>();
    let case = json!({ "config": weights.config, "tensors": tensors, "prompts": prompts, "samples": samples,
                       "new_tokens": NEW_TOKENS });
    Ok(std::fs::write(folder.join("case.json"), case.to_string())?)
}

/// The likeliest continuation of each prompt.
fn greedy(weights: &Weights, prompts: &[Vec<u32>]) -> Result<Vec<Vec<u32>>> {
    let prompts: Vec<Prompt> = prompts.iter().map(|ids| Prompt { ids: ids.clone(), seed: 0 }).collect();
    let completions = sample(weights, &prompts, &options(0.0), &|| false)?;
    Ok(completions.into_iter().map(|completion| completion.ids).collect())
}

fn main() -> Result<()> {
    if !asked() {
        return Ok(());
    }
    let columns =
        ["shape", "samples", "threads", "drylab tok/s", "PyTorch", "generate", "x PyTorch", "x generate", "agree"];
    let mut table = Table::new("sampling: tokens/s at temperature 1, key-value cache", &columns);
    let torch = python("torch", "sampling against PyTorch");
    let transformers = python("transformers", "sampling against transformers.generate");
    let chosen = flag("--shapes");
    for (name, config) in shapes()
        .into_iter()
        .filter(|(name, _)| chosen.as_ref().is_none_or(|all| all.split(',').any(|one| one == *name)))
    {
        let weights = Weights::initial(&config, 1)?;
        for (samples, threads) in [(1, 1), (1, 2), (10, 1), (10, 2)] {
            let prompts = prompts(&config, samples);
            let folder = tempfile::tempdir()?;
            write(folder.path(), &weights, &prompts, samples)?;
            let all: Vec<Prompt> = (0..COMPLETIONS)
                .map(|index| Prompt { ids: prompts[index / samples].clone(), seed: index as u64 })
                .collect();
            let by_hand: Contestant = Box::new(|| {
                let begun = Instant::now();
                let prepared = Prepared::new(&weights)?;
                let completions = sample_shared((&weights, &prepared), &all, &options(1.0), &[], threads, &|| false)?;
                let tokens: usize = completions.iter().map(|completion| completion.ids.len()).sum();
                assert_eq!(tokens, COMPLETIONS * NEW_TOKENS);
                Ok(tokens as f64 / begun.elapsed().as_secs_f64())
            });
            let command = |interpreter: &String, script: &str| {
                let mut command = Command::new(interpreter);
                command.arg(program(script)).arg(folder.path()).arg(threads.to_string());
                command
            };
            let (mut contestants, mut names, mut agreement) = (vec![by_hand], vec!["drylab"], None);
            let scripts =
                [("PyTorch", &torch, "sampling_torch.py"), ("generate", &transformers, "sampling_generate.py")];
            for (name, interpreter, script) in scripts {
                let Some(interpreter) = interpreter else { continue };
                let equal = share_of_equal(&weights, &prompts, command(interpreter, script))?;
                // Both read the same greedy continuations, or they do not do the same work.
                agreement = Some(agreement.map_or(equal, |other: f64| other.min(equal)));
                let mut command = command(interpreter, script);
                names.push(name);
                contestants
                    .push(Box::new(move || Ok(ask(&mut command)?["tokens_per_second"].as_f64().ok_or("no figure")?)));
            }
            let speeds = alternate(REPETITIONS, &mut contestants)?;
            let speed = |name: &str| Some(speeds[names.iter().position(|other| *other == name)?]);
            let ratio = |name: &str| Some(speeds[0] / speed(name)?);
            table.push(vec![
                json!(name),
                json!(samples),
                json!(threads),
                json!(speeds[0]),
                json!(speed("PyTorch")),
                json!(speed("generate")),
                json!(ratio("PyTorch")),
                json!(ratio("generate")),
                json!(agreement),
            ]);
        }
    }
    table.print();
    Ok(())
}

/// Share of the likeliest tokens on which both agree: near 1 when they compute the same, where ties fall differently
/// the rest of a completion differs.
fn share_of_equal(weights: &Weights, prompts: &[Vec<u32>], mut command: Command) -> Result<f64> {
    let theirs: Vec<Vec<u32>> = serde_json::from_value(ask(command.arg("greedy"))?["ids"].clone())?;
    let ours = greedy(weights, prompts)?;
    let equal = ours.iter().flatten().zip(theirs.iter().flatten()).filter(|(a, b)| a == b).count();
    Ok(equal as f64 / (ours.len() * NEW_TOKENS) as f64)
}
