//! Tokens per second of fine-tuning: the hand-written step against candle's autograd and PyTorch, on the same batches.

mod measure;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use drylab::data::random::Random;
use drylab::model::chat::Example;
use drylab::model::config::Config;
use drylab::model::decoder::Decoder;
use drylab::model::variant::Variant;
use drylab::model::weights::Weights;
use drylab::train::batch::batches;
use drylab::train::lora::Lora;
use drylab::train::objective::sft::tokens;
use drylab::train::schedule::Schedule;
use drylab::train::{Method, Options, fit};
use measure::{Contestant, Result, Table, alternate, ask, asked, flag, peak_bytes, program, python};
use serde_json::{Value, json};

/// The program's own allocator; candle gains from it more than the hand-written step does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps that are taken before the clock starts.
const WARM_UP: usize = 2;
const REPETITIONS: usize = 3;
/// Losses of the contestants agree to this share, or they do not do the same work.
const TOLERANCE: f64 = 2e-3;

/// A model and what it is trained on.
struct Shape {
    name: &'static str,
    config: Config,
    /// Fewest and most tokens that are read of a row.
    lengths: (usize, usize),
    /// First predicted token, as a share of the row.
    loss_from: f64,
    batch_tokens: usize,
    rows: usize,
    /// Rank of adapters; 0 trains all values.
    rank: usize,
}

fn shapes() -> Vec<Shape> {
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
    let long = |name, config, steps, rank| Shape {
        name,
        config,
        lengths: (128, 128),
        loss_from: 0.0,
        batch_tokens: 16 * 128,
        rows: 16 * (WARM_UP + steps),
        rank,
    };
    vec![
        Shape {
            name: "organism",
            config: config(64, 4, 4, 192, 2861),
            lengths: (18, 36),
            loss_from: 0.5,
            batch_tokens: 512,
            rows: 900,
            rank: 0,
        },
        long("S", config(128, 4, 4, 344, 2048), 12, 0),
        long("M", config(256, 4, 8, 688, 4096), 6, 0),
        long("L", config(512, 8, 8, 1376, 4096), 3, 0),
        long("M LoRA", config(256, 4, 8, 688, 4096), 6, 16),
        long("L LoRA", config(512, 8, 8, 1376, 4096), 3, 16),
    ]
}

impl Shape {
    fn weights(&self) -> Result<Weights> {
        Ok(Weights::initial(&self.config, 1)?)
    }

    fn examples(&self) -> Vec<Example> {
        let mut random = Random::new(2);
        let row = |_| {
            let read = self.lengths.0 + random.below(self.lengths.1 - self.lengths.0 + 1);
            let ids: Vec<u32> = (0..=read).map(|_| random.below(self.config.vocabulary) as u32).collect();
            let first = 1 + (read as f64 * self.loss_from) as usize;
            Example { ids, loss_mask: (0..=read).map(|position| position >= first).collect(), weight: 1.0 }
        };
        (0..self.rows).map(row).collect()
    }

    fn options(&self, threads: usize) -> Options {
        let (rank, alpha) = (self.rank, 2.0 * self.rank as f64);
        Options {
            learning_rate: 1e-3,
            batch_tokens: self.batch_tokens,
            // The gradient is never so long that clipping would set in, because the other contestants do not clip.
            clip: 1e9,
            threads,
            method: if rank == 0 { Method::Full } else { Method::Lora { rank, alpha } },
            ..Options::default()
        }
    }

    /// The batches that `fit` makes, in its order.
    fn batches(&self, examples: &[Example]) -> Vec<Vec<usize>> {
        let lengths: Vec<usize> = examples.iter().map(tokens).collect();
        batches(&lengths, self.batch_tokens, &mut Random::stream(self.options(1).seed, &[0xF17]))
    }

    fn learning_rate(&self, step: usize, steps: usize) -> f64 {
        let options = self.options(1);
        options.learning_rate * Schedule::Linear.factor(step, steps, options.warmup_fraction)
    }

    /// Writes weights and batches for a contestant in another language.
    fn write(&self, folder: &Path) -> Result<()> {
        let (weights, examples) = (self.weights()?, self.examples());
        let values: Vec<u8> = weights.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join("weights.bin"), values)?;
        if let Method::Lora { rank, alpha } = self.options(1).method {
            std::fs::write(folder.join("model.safetensors"), weights.to_safetensors()?)?;
            let files = Lora::new(&weights, rank, alpha, self.options(1).seed).to_peft("model")?;
            std::fs::write(folder.join("adapter_config.json"), files.config)?;
            std::fs::write(folder.join("adapter_model.safetensors"), files.model)?;
        }
        let plan = self.batches(&examples);
        let tensors = weights.tensors().into_iter();
        let tensors = tensors.map(|tensor| json!({ "name": tensor.name, "shape": tensor.shape }));
        let rows = |batch: &Vec<usize>| -> Vec<Value> {
            let row = |row: &usize| {
                let example = &examples[*row];
                json!({ "ids": example.ids, "loss_from": example.loss_mask.iter().position(|flag| *flag) })
            };
            batch.iter().map(row).collect()
        };
        let case = json!({
            "config": self.config,
            "warm_up": WARM_UP,
            "learning_rates": (0..plan.len()).map(|step| self.learning_rate(step, plan.len())).collect::<Vec<_>>(),
            "beta1": self.options(1).beta1, "beta2": self.options(1).beta2, "epsilon": self.options(1).epsilon,
            "tensors": tensors.collect::<Vec<_>>(),
            "batches": plan.iter().map(rows).collect::<Vec<_>>(),
        });
        Ok(std::fs::write(folder.join("case.json"), case.to_string())?)
    }
}

/// What a contestant prints: speed after the warm-up, its process's highest memory, and losses that show that it did the
/// same work.
fn answer(tokens: usize, seconds: f64, losses: &[f64]) {
    let speed = tokens as f64 / seconds;
    println!(
        "{}",
        json!({ "tokens_per_second": speed, "peak_mb": peak_bytes().unwrap_or(0) as f64 / 1e6, "losses": losses })
    );
}

fn train_by_hand(shape: &Shape, threads: usize) -> Result<()> {
    let (mut begun, mut read, mut losses) = (Instant::now(), 0, Vec::new());
    let mut ended = begun;
    fit(&shape.weights()?, &shape.examples(), &shape.options(threads), &mut |step| {
        ended = Instant::now();
        losses.push(step.loss);
        match step.step == WARM_UP {
            true => (begun, read) = (ended, 0),
            false => read += step.tokens,
        }
        Ok(())
    })?;
    answer(read, (ended - begun).as_secs_f64(), &losses);
    Ok(())
}

fn train_with_candle(shape: &Shape) -> Result<()> {
    let (weights, examples) = (shape.weights()?, shape.examples());
    let plan = shape.batches(&examples);
    let decoder = Decoder::new(&weights, &Device::Cpu, DType::F32)?;
    let options = shape.options(1);
    let parameters = ParamsAdamW {
        lr: options.learning_rate,
        beta1: options.beta1,
        beta2: options.beta2,
        eps: options.epsilon,
        weight_decay: options.weight_decay,
    };
    let mut optimizer = AdamW::new(decoder.variables().to_vec(), parameters)?;
    let (mut begun, mut read, mut losses) = (Instant::now(), 0, Vec::new());
    for (step, batch) in plan.iter().enumerate() {
        if step == WARM_UP {
            (begun, read) = (Instant::now(), 0);
        }
        let (mut kept, mut targets) = (Vec::new(), Vec::new());
        for example in batch.iter().map(|row| &examples[*row]) {
            let last = tokens(example);
            let first = example.loss_mask.iter().position(|flag| *flag).unwrap_or(last);
            // The decoder reads one sequence at a time.
            kept.push(decoder.forward(&example.ids[..last])?.narrow(0, first - 1, last + 1 - first)?);
            targets.extend_from_slice(&example.ids[first..=last]);
            read += last;
        }
        let targets = Tensor::new(targets, &Device::Cpu)?;
        let loss = candle_nn::loss::cross_entropy(&Tensor::cat(&kept, 0)?, &targets)?;
        optimizer.set_learning_rate(shape.learning_rate(step, plan.len()));
        optimizer.backward_step(&loss)?;
        losses.push(f64::from(loss.to_scalar::<f32>()?));
    }
    answer(read, begun.elapsed().as_secs_f64(), &losses);
    Ok(())
}

/// Each repetition is a process of its own, so that no contestant inherits another's threads or memory.
fn main() -> Result<()> {
    if let Some(engine) = flag("--contestant") {
        let (name, threads) = (flag("--shape").unwrap_or_default(), flag("--threads").unwrap_or_default());
        let shape = shapes().into_iter().find(|shape| shape.name == name).ok_or("no such shape")?;
        return if engine == "candle" { train_with_candle(&shape) } else { train_by_hand(&shape, threads.parse()?) };
    }
    if !asked() {
        return Ok(());
    }
    let columns = [
        "shape",
        "threads",
        "drylab tok/s",
        "candle tok/s",
        "PyTorch tok/s",
        "x candle",
        "x PyTorch",
        "MB",
        "PyTorch MB",
    ];
    let mut table = Table::new("training: forward, backward and AdamW, f32", &columns);
    let torch = python("torch", "training against PyTorch");
    let peft = python("peft", "training adapters against PEFT");
    let chosen = flag("--shapes");
    for shape in shapes()
        .into_iter()
        .filter(|shape| chosen.as_ref().is_none_or(|names| names.split(',').any(|name| name == shape.name)))
    {
        let folder = tempfile::tempdir()?;
        shape.write(folder.path())?;
        for threads in ["1", "2"] {
            let engine = |name: &str| -> Result<Command> {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--contestant", name, "--shape", shape.name, "--threads", threads]);
                command.env("RAYON_NUM_THREADS", threads);
                Ok(command)
            };
            let mut commands = vec![("drylab", engine("drylab")?)];
            let (interpreter, script) =
                if shape.rank == 0 { (&torch, "training_torch.py") } else { (&peft, "training_peft.py") };
            if shape.rank == 0 && flag("--without-candle").is_none() {
                commands.push(("candle", engine("candle")?));
            }
            if let Some(interpreter) = interpreter {
                let mut command = Command::new(interpreter);
                command.arg(program(script)).arg(folder.path()).arg(threads);
                commands.push(("PyTorch", command));
            }
            let found = race(shape.name, commands)?;
            let speed = |name: &str| Some(found.get(name)?.0);
            let memory = |name: &str| Some(found.get(name)?.1);
            let ratio = |name: &str| Some(speed("drylab")? / speed(name)?);
            table.push(vec![
                json!(shape.name),
                json!(threads.parse::<usize>()?),
                json!(speed("drylab")),
                json!(speed("candle")),
                json!(speed("PyTorch")),
                json!(ratio("candle")),
                json!(ratio("PyTorch")),
                json!(memory("drylab")),
                json!(memory("PyTorch")),
            ]);
        }
    }
    table.print();
    Ok(())
}

/// Median speeds, and highest memory in MB, of contestants that take turns and whose losses agree at every step.
fn race(shape: &str, commands: Vec<(&'static str, Command)>) -> Result<BTreeMap<&'static str, (f64, f64)>> {
    let peaks = std::cell::RefCell::new(BTreeMap::new());
    let expected = std::cell::RefCell::new(None::<Vec<f64>>);
    let names: Vec<&str> = commands.iter().map(|(name, _)| *name).collect();
    let contestant = |(name, mut command): (&'static str, Command)| -> Contestant {
        let (expected, peaks) = (&expected, &peaks);
        Box::new(move || {
            let found = ask(&mut command)?;
            let losses: Vec<f64> = serde_json::from_value(found["losses"].clone())?;
            let expected = &*expected.borrow_mut().get_or_insert_with(|| losses.clone()).clone();
            let far = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() > TOLERANCE;
            if losses.len() != expected.len() || losses.iter().zip(expected).any(far) {
                return Err(format!("{name} on {shape} has losses {losses:?}, not {expected:?}").into());
            }
            peaks.borrow_mut().insert(name, found["peak_mb"].as_f64().ok_or("no memory")?);
            Ok(found["tokens_per_second"].as_f64().ok_or("no figure")?)
        })
    };
    let mut contestants: Vec<Contestant> = commands.into_iter().map(contestant).collect();
    let speeds = alternate(REPETITIONS, &mut contestants)?;
    Ok(names.into_iter().zip(speeds).map(|(name, speed)| (name, (speed, peaks.borrow()[name]))).collect())
}
