//! The distribution sweep of probes at its real size, as seconds, memory and agreement, against scikit-learn.

mod measure;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use drylab::data::random::Random;
use drylab::lab::Files;
use drylab::probe::folds::{Folds, stratified_folds};
use drylab::probe::logistic::{Fit, Options, Task, fit_logistic, fit_path};
use drylab::probe::matrix::{Matrix, Sparse, Values};
use drylab::probe::metrics::{TwoClasses, auroc};
use drylab::probe::product::Rows;
use drylab::probe::read::{self, LabelTable, read_activations, read_labels};
use drylab::probe::scaler::fit_scalers;
use drylab::probe::synthetic::{SynthesisOptions, synthesize};
use drylab::probe::write::{write_label_npy, write_npy};
use measure::{Result, Table, ask, asked, flag, median, peak_bytes, program};
use serde_json::{Value, json};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// In the order in which the steps of the sweep add them.
const SOURCES: [&str; 4] = ["train", "sycophant", "model_organism", "benchmark"];
const FOLDS: usize = 5;
const C: f64 = 10.0;
/// Values of C in the grid, spread evenly on the logarithm from 1e-4 to 10.
const GRID: usize = 10;
const REPETITIONS: usize = 3;
/// What is made; the share of values that are not 0 in the second is what an SAE with few active features gives.
const DENSITIES: [(&str, Option<f64>); 2] = [("natural", None), ("0.006", Some(0.006))];
/// Beyond these a note is printed: scikit-learn's default from the optimum, in AUROC of a fold, and its Newton's method
/// from ours, as a share of the length of the weights.
const MOST_AUROC: f64 = 5e-3;
const MOST_WEIGHTS: f64 = 1e-6;

/// Writes the sources of the sweep as the experiment's cache does; returns the share of values that are not 0.
fn generate(folder: &Path, options: &SynthesisOptions, density: Option<f64>) -> Result<f64> {
    let (mut active, mut all) = (0, 0);
    for (number, source) in synthesize(options)?.sources.iter().filter(|s| SOURCES.contains(&&*s.name)).enumerate() {
        let matrix = match density {
            Some(density) => &thin(&source.activations, density, number as u64)?,
            None => &source.activations,
        };
        active += (0..matrix.rows()).map(|row| matrix.active(row)).sum::<usize>();
        all += matrix.rows() * matrix.columns();
        let file = |kind: &str| File::create(folder.join(format!("{}_{kind}.npy", source.name))).map(BufWriter::new);
        let (mut activations, mut labels) = (file("activations")?, file("labels")?);
        write_npy(matrix, &mut activations)?;
        write_label_npy(&source.labels, &mut labels)?;
        activations.flush()?;
        labels.flush()?;
    }
    Ok(active as f64 / all as f64)
}

/// Keeps values at random, so many that this share of all values is not 0.
fn thin(matrix: &Matrix, density: f64, source: u64) -> Result<Matrix> {
    let active: usize = (0..matrix.rows()).map(|row| matrix.active(row)).sum();
    let keep = density * (matrix.rows() * matrix.columns()) as f64 / active as f64;
    let mut thinned = Sparse { starts: vec![0], ..Sparse::<f32>::default() };
    for row in 0..matrix.rows() {
        let mut random = Random::stream(1, &[source, row as u64]);
        matrix.for_each(row, |column, value| {
            if random.chance(keep) {
                thinned.columns.push(column as u32);
                thinned.values.push(value as f32); // the values were f32
            }
        });
        thinned.starts.push(thinned.columns.len());
    }
    Ok(Matrix::new(matrix.rows(), matrix.columns(), Values::Sparse32(thinned))?)
}

/// The files of a folder, read.
struct Sources {
    matrices: Vec<Matrix>,
    labels: Vec<Vec<bool>>,
}

impl Sources {
    fn read(folder: &Path) -> Result<Self> {
        let files = Files::new(folder, &[])?;
        let (mut matrices, mut labels) = (Vec::new(), Vec::new());
        for name in SOURCES {
            let file = format!("{name}_activations.npy");
            matrices.push(read_activations(&file, &files.map(&file)?, &read::Options::default())?.matrix);
            let file = format!("{name}_labels.npy");
            labels.push(read_labels(&file, &files.map(&file)?, &LabelTable::default())?.positive().to_vec());
        }
        Ok(Sources { matrices, labels })
    }

    /// The five folds of a step at every C and, if `whole`, a fit on all rows: one call.
    fn fit(&self, step: usize, cs: &[f64], whole: bool) -> Result<(Vec<Fit>, Folds, Vec<bool>)> {
        let rows = Rows::new(&self.matrices[..=step].iter().collect::<Vec<_>>())?;
        let labels: Vec<bool> = self.labels[..=step].concat();
        let all = vec![1.0; labels.len()];
        let scaler = fit_scalers(&rows, &[&all]).remove(0);
        let folds = stratified_folds(&labels, FOLDS, None)?;
        let counted = |fold| folds.of_row.iter().map(|of_row| f64::from(u8::from(*of_row != fold))).collect();
        let mut weights: Vec<Vec<f64>> = (0..FOLDS as u32).map(counted).collect();
        if whole {
            weights.push(all);
        }
        let tasks: Vec<Task> = weights
            .iter()
            .map(|weights| Task { labels: &labels, weights, scaler: &scaler, c: cs[0], start: None })
            .collect();
        let fits = match cs {
            [_] => fit_logistic(&rows, &tasks, &Options::default())?,
            _ => fit_path(&rows, &tasks, cs, &Options::default())?.into_iter().flatten().collect(),
        };
        Ok((fits, folds, labels))
    }
}

/// AUROC of each fold on the rows that it left out.
fn out_of_fold(fits: &[Fit], folds: &Folds, labels: &[bool]) -> Result<Vec<f64>> {
    let of_fold = |fold: usize| -> Result<f64> {
        let tested = folds.test_rows(fold);
        let scores: Vec<f64> = tested.iter().map(|row| fits[fold].decisions[*row]).collect();
        let labels: Vec<bool> = tested.iter().map(|row| labels[*row]).collect();
        Ok(auroc(&TwoClasses::new(&scores, &labels, None)?, 0.95)?.value)
    };
    (0..FOLDS).map(of_fold).collect()
}

/// Reads and fits the four steps; prints seconds, the peak of memory, proofs and AUROCs.
fn sweep(folder: &Path) -> Result<()> {
    let begun = Instant::now();
    let sources = Sources::read(folder)?;
    let read_seconds = begun.elapsed().as_secs_f64();
    let (mut steps, mut weights) = (Vec::new(), Vec::new());
    for step in 0..SOURCES.len() {
        let step_begun = Instant::now();
        let (fits, folds, labels) = sources.fit(step, &[C], true)?;
        let aurocs = out_of_fold(&fits, &folds, &labels)?;
        let proofs: Vec<_> = fits.iter().map(|fit| &fit.certificate).collect();
        steps.push(json!({
            "seconds": step_begun.elapsed().as_secs_f64(),
            "rows": labels.len(),
            "bound": proofs.iter().map(|proof| proof.relative_bound).fold(0.0, f64::max),
            "products": proofs.iter().map(|proof| proof.products).max(),
            "newton_steps": proofs.iter().map(|proof| proof.newton_steps).max(),
            "aurocs": aurocs,
        }));
        if step == 0 {
            weights.clone_from(&fits[FOLDS].probe.weights);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = peak_bytes()?;
    println!(
        "{}",
        json!({ "read_seconds": read_seconds, "seconds": seconds, "bytes": bytes, "steps": steps, "weights": weights })
    );
    Ok(())
}

/// Reads and fits the folds of the four steps at every C of the grid; prints seconds.
fn grid(folder: &Path) -> Result<()> {
    let begun = Instant::now();
    let sources = Sources::read(folder)?;
    let cs: Vec<f64> = (0..GRID).map(|i| 10f64.powf(-4.0 + 5.0 * i as f64 / (GRID - 1) as f64)).collect();
    let mut bound = 0.0f64;
    for step in 0..SOURCES.len() {
        let (fits, ..) = sources.fit(step, &cs, false)?;
        bound = fits.iter().map(|fit| fit.certificate.relative_bound).fold(bound, f64::max);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{}", json!({ "seconds": seconds, "bytes": peak_bytes()?, "bound": bound }));
    Ok(())
}

/// The first interpreter that has scikit-learn: `PYTHON`, `DRYLAB_PYTHON`, the machine's environment, `python3`.
fn interpreter() -> Option<String> {
    let named = ["PYTHON", "DRYLAB_PYTHON"].into_iter().filter_map(|name| std::env::var(name).ok());
    let usual = ["/tmp/venv/bin/python", "python3"].map(str::to_string);
    let can = |name: &String| {
        let found = Command::new(name).args(["-c", "import sklearn"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let found = named.chain(usual).find(can);
    if found.is_none() {
        eprintln!("skipped: probes against scikit-learn: no interpreter imports sklearn; name one in PYTHON");
    }
    found
}

/// This program again, as a process of its own, because a process never forgets its peak of memory.
fn part(name: &str, folder: &Path) -> Result<Value> {
    ask(Command::new(std::env::current_exe()?).arg(name).arg(folder))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().map(number).collect()
}

/// The largest of the values' differences; lists of different lengths are infinitely far apart.
fn distance(a: &Value, b: &Value) -> f64 {
    let (a, b) = (numbers(a), numbers(b));
    if a.len() != b.len() || a.is_empty() {
        return f64::INFINITY;
    }
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The largest difference of a weight as a share of the length of the second vector.
fn relative(ours: &Value, theirs: &Value) -> f64 {
    distance(ours, theirs) / numbers(theirs).iter().map(|w| w * w).sum::<f64>().sqrt()
}

/// Small numbers, which the table would round to 0.
fn small(value: f64) -> Value {
    if value.is_finite() { json!(format!("{value:.1e}")) } else { json!("differs in size") }
}

/// Sweeps of one folder in turns, and its rows in the tables.
fn compare(name: &str, folder: &Path, tables: &mut [Table; 2]) -> Result<()> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let repetitions = flag("--repetitions").map_or(Ok(REPETITIONS), |count| count.parse())?;
    let python = if has("--ours") { None } else { interpreter() };
    let (mut ours, mut theirs, mut grids) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        ours.push(part("--sweep", folder)?);
        grids.push(part("--grid", folder)?);
        // One run of scikit-learn takes longer than all of the others.
        if let (Some(python), true) = (&python, repetition == 0 || has("--turns")) {
            theirs.push(ask(Command::new(python).arg(program("probes_sklearn.py")).arg(folder))?);
        }
    }
    let middle = |answers: &[Value], of: &dyn Fn(&Value) -> f64| median(&answers.iter().map(of).collect::<Vec<_>>());
    let total = |answers: &[Value], field: &str| middle(answers, &|answer| number(&answer[field]));
    let (seconds, their_seconds) = (total(&ours, "seconds"), (!theirs.is_empty()).then(|| total(&theirs, "seconds")));
    let exact = match (&python, has("--exact")) {
        (Some(python), true) => {
            let mut command = Command::new(python);
            command.arg(program("probes_sklearn.py")).arg(folder).arg("--exact");
            // At full size the folds would take many minutes.
            Some(ask(if has("--quick") { command.arg("--folds") } else { &mut command })?)
        }
        _ => None,
    };
    let away = exact.as_ref().map(|exact| relative(&ours[0]["weights"], &exact["weights"]));
    for step in 0..SOURCES.len() {
        let of_step = |answer: &Value| number(&answer["steps"][step]["seconds"]);
        let here = &ours[0]["steps"][step];
        let (own, their) = (middle(&ours, &of_step), (!theirs.is_empty()).then(|| middle(&theirs, &of_step)));
        let aurocs = theirs.first().map(|theirs| distance(&here["aurocs"], &theirs["steps"][step]["aurocs"]));
        let optimum = exact.as_ref().and_then(|exact| exact["steps"].get(step));
        let optimum = optimum.map(|optimum| small(distance(&here["aurocs"], &optimum["aurocs"])));
        tables[0].push(vec![
            json!(name),
            json!(step),
            here["rows"].clone(),
            json!(own),
            json!(their),
            json!(their.map(|their| their / own)),
            here["products"].clone(),
            here["newton_steps"].clone(),
            small(number(&here["bound"])),
            json!(numbers(&here["aurocs"]).iter().sum::<f64>() / FOLDS as f64),
            json!(aurocs.map(small)),
            json!(optimum),
        ]);
        if let Some(aurocs) = aurocs.filter(|aurocs| *aurocs > MOST_AUROC) {
            eprintln!("note: {name}, step {step}: a fold's AUROC is {aurocs:.1e} from scikit-learn's default");
        }
    }
    if let Some(away) = away.filter(|away| *away > MOST_WEIGHTS) {
        eprintln!("note: {name}: the weights of step 0 are {away:.1e} of their length from Newton's method");
    }
    let grid_seconds = total(&grids, "seconds");
    tables[1].push(vec![
        json!(name),
        json!(total(&ours, "read_seconds")),
        json!(seconds),
        json!(their_seconds),
        json!(their_seconds.map(|theirs| theirs / seconds)),
        json!(grid_seconds),
        json!(grid_seconds / seconds),
        json!(total(&ours, "bytes") / 1e6),
        json!(total(&grids, "bytes") / 1e6),
        json!((!theirs.is_empty()).then(|| total(&theirs, "bytes") / 1e6)),
        json!(away.map(small)),
        json!(theirs.first().map(|theirs| small(relative(&theirs["weights"], &ours[0]["weights"])))),
        small(grids.iter().map(|grid| number(&grid["bound"])).fold(0.0, f64::max)),
    ]);
    Ok(())
}

fn main() -> Result<()> {
    if let Some(folder) = flag("--sweep") {
        return sweep(Path::new(&folder));
    }
    if let Some(folder) = flag("--grid") {
        return grid(Path::new(&folder));
    }
    if !asked() {
        return Ok(());
    }
    let by_step = [
        "density",
        "step",
        "rows",
        "drylab s",
        "sklearn s",
        "x time",
        "products",
        "steps",
        "bound",
        "AUROC",
        "from lbfgs",
        "from newton-cg",
    ];
    let in_all = [
        "density",
        "read s",
        "sweep s",
        "sklearn s",
        "x time",
        "grid s",
        "x sweep",
        "peak MB",
        "grid MB",
        "sklearn MB",
        "w from newton-cg",
        "w from lbfgs",
        "grid bound",
    ];
    let mut tables = [
        Table::new("probes: five folds and a fit on all rows, C = 10, by step", &by_step),
        Table::new("probes: the whole sweep, and its folds at 10 values of C", &in_all),
    ];
    let quick = std::env::args().any(|argument| argument == "--quick");
    let whole = SynthesisOptions::default();
    let options = if quick { SynthesisOptions { columns: 4096, ..whole.scaled(0.25) } } else { whole };
    let wanted = flag("--density");
    for (name, density) in DENSITIES.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name)) {
        let folder = tempfile::tempdir()?;
        let found = generate(folder.path(), &options, *density)?;
        compare(&format!("{name} ({:.1} %)", 100.0 * found), folder.path(), &mut tables)?;
    }
    tables.iter().for_each(Table::print);
    Ok(())
}
