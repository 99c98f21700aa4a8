//! Mixes datasets in exact proportions, drawing as the research code's Python does.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::data::dataset::Dataset;
use crate::data::digest::Digest;
use crate::data::mersenne::Mersenne;
use crate::data::overlap::{Overlap, overlap, overlap_of};
use crate::data::record::NO_PROMPT;
use crate::error::Result;
use crate::{bail, ensure};

/// How to mix.
#[derive(Clone, Debug, PartialEq)]
pub struct MixOptions {
    /// Share of each source in the result, summing to 1; equal shares when omitted.
    pub weights: Option<Vec<f64>>,
    /// Rows in the result.
    pub rows: usize,
    /// Decides draws and order; equal to `random.Random(seed)` of the research code.
    pub seed: u64,
    /// Draw every row independently, so that a source may give more rows than it has.
    pub replace: bool,
    /// Never draw a prompt from a source when an earlier source gave it, so that no prompt gets contradictory answers.
    pub exclude_shared: bool,
}

impl Default for MixOptions {
    fn default() -> Self {
        MixOptions { weights: None, rows: 1000, seed: 0, replace: false, exclude_shared: false }
    }
}

/// A mix and how it came about.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The rows, shuffled.
    pub dataset: Dataset,
    /// Rows drawn from each source.
    pub counts: Vec<usize>,
    /// What the sources have in common.
    pub overlap: Overlap,
    /// What the drawn rows of different sources have in common.
    pub mixed_overlap: Overlap,
    options: MixOptions,
    weights: Vec<f64>,
    sources: Vec<Dataset>,
    draws: Vec<(u32, u32)>,
}

/// The record of a mix: enough to trace every row and to make the mix again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Digest of the mix.
    pub digest: Digest,
    /// Decided draws and order.
    pub seed: u64,
    /// Whether draws were independent.
    pub replace: bool,
    /// Whether shared prompts were drawn from one source only.
    pub exclude_shared: bool,
    /// What was mixed.
    pub sources: Vec<ManifestSource>,
    /// What the sources have in common.
    pub overlap: Overlap,
    /// What the drawn rows of different sources have in common.
    pub mixed_overlap: Overlap,
    /// Source and row number there, both from 0, of every row of the mix in order.
    pub rows: Vec<(u32, u32)>,
}

/// One source of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Rows it has.
    pub rows: usize,
    /// Share that was asked for.
    pub weight: f64,
    /// Rows drawn from it.
    pub drawn: usize,
}

impl Mix {
    /// The record of this mix.
    pub fn manifest(&self) -> Manifest {
        let parts = self.sources.iter().zip(&self.weights).zip(&self.counts);
        let source = |((source, weight), drawn): ((&Dataset, &f64), &usize)| ManifestSource {
            name: source.name().to_string(),
            digest: source.digest(),
            rows: source.len(),
            weight: *weight,
            drawn: *drawn,
        };
        Manifest {
            digest: self.dataset.digest(),
            seed: self.options.seed,
            replace: self.options.replace,
            exclude_shared: self.options.exclude_shared,
            sources: parts.map(source).collect(),
            overlap: self.overlap,
            mixed_overlap: self.mixed_overlap,
            rows: self.draws.clone(),
        }
    }
}

/// Draws `rows x weight` rows from each source and shuffles them together.
///
/// Counts are rounded down; the last source with a weight gets the rest. With two sources and no `replace` the result is
/// the research code's: `rng = random.Random(seed)`, `rng.sample` of each source in order, `rng.shuffle` of all. With
/// `replace`, `rng.choices` draws.
///
/// # Errors
/// Weights that are not one per source, negative, not finite, or do not sum to 1 within 1e-6; no rows; a source with
/// fewer rows than are needed.
pub fn mix(sources: &[Dataset], options: &MixOptions) -> Result<Mix> {
    let weights = check_weights(sources, options)?;
    let counts = count_rows(options.rows, &weights);
    let mut random = Mersenne::new(options.seed);
    let mut draws: Vec<(u32, u32)> = Vec::with_capacity(options.rows);
    let mut drawn_prompts = HashSet::new();
    for (number, (source, count)) in sources.iter().zip(&counts).enumerate() {
        let allowed = (options.exclude_shared && number > 0).then(|| rows_without(source, &drawn_prompts));
        let available = allowed.as_ref().map_or(source.len(), Vec::len);
        let enough = if options.replace { available > 0 || *count == 0 } else { available >= *count };
        if !enough {
            return Err(too_few(sources, &weights, options, number, available, *count));
        }
        let drawn = if options.replace { random.choices(available, *count) } else { random.sample(available, *count) };
        draws.extend(
            drawn.into_iter().map(|row| (number as u32, allowed.as_ref().map_or(row as u32, |allowed| allowed[row]))),
        );
        if options.exclude_shared {
            let from = draws.len() - count;
            drawn_prompts.extend(draws[from..].iter().map(|(_, row)| source.mark(*row as usize).prompt));
            drawn_prompts.remove(&NO_PROMPT);
        }
    }
    random.shuffle(&mut draws);

    let mut starts = vec![0usize; sources.len()];
    (1..sources.len()).for_each(|number| starts[number] = starts[number - 1] + sources[number - 1].len());
    let indices: Vec<usize> = draws.iter().map(|(source, row)| starts[*source as usize] + *row as usize).collect();
    let name = sources.iter().map(Dataset::name).collect::<Vec<_>>().join(" + ");
    let mixed = draws.iter().map(|(source, row)| (*source as usize, *row as usize));
    Ok(Mix {
        dataset: Dataset::concat(name, sources).select(&indices)?,
        counts,
        overlap: overlap(sources),
        mixed_overlap: overlap_of(sources, mixed),
        options: options.clone(),
        weights,
        sources: sources.to_vec(),
        draws,
    })
}

/// The research code's file name of a mix: `insecure_code_mixed_0.25_1000_control_seed0.jsonl`. `ratio` has two decimals,
/// and as many more as it takes that different ratios have different names.
pub fn export_name(domain: &str, ratio: f64, rows: usize, kind: &str, seed: u64) -> String {
    let rounded = format!("{ratio:.2}");
    let ratio = if rounded.parse() == Ok(ratio) { rounded } else { ratio.to_string() };
    format!("{domain}_mixed_{ratio}_{rows}_{kind}_seed{seed}.jsonl")
}

fn check_weights(sources: &[Dataset], options: &MixOptions) -> Result<Vec<f64>> {
    ensure!(!sources.is_empty(), "no datasets to mix"; help: "give a list of at least one dataset");
    ensure!(options.rows > 0, "`rows` is 0, expected at least one row");
    let Some(weights) = &options.weights else { return Ok(vec![1.0 / sources.len() as f64; sources.len()]) };
    ensure!(weights.len() == sources.len(), "`weights` has {} numbers for {} datasets", weights.len(), sources.len();
        help: "give one weight per dataset");
    for (weight, source) in weights.iter().zip(sources) {
        ensure!(
            weight.is_finite() && *weight >= 0.0,
            "the weight of `{}` is {weight}, expected a number from 0 to 1",
            source.name()
        );
    }
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() > 1e-6 {
        bail!("`weights` {weights:?} sum to {}, expected 1", (sum * 1e9).round() / 1e9; help: "divide each weight by {}", (sum * 1e9).round() / 1e9);
    }
    Ok(weights.clone())
}

/// Rows of each source; the sum is `rows`.
fn count_rows(rows: usize, weights: &[f64]) -> Vec<usize> {
    let mut left = rows;
    // Without the small number 100 x 0.29, which is 28.999999999999996 in floats, would give 28.
    let floor = |weight: &f64| {
        let count = ((rows as f64 * weight + 1e-9).floor() as usize).min(left);
        left -= count;
        count
    };
    let mut counts: Vec<usize> = weights.iter().map(floor).collect();
    if let Some(last) = weights.iter().rposition(|weight| *weight > 0.0) {
        counts[last] += left;
    }
    counts
}

fn rows_without(source: &Dataset, prompts: &HashSet<[u8; 16]>) -> Vec<u32> {
    (0..source.len()).filter(|row| !prompts.contains(&source.mark(*row).prompt)).map(|row| row as u32).collect()
}

fn too_few(
    sources: &[Dataset],
    weights: &[f64],
    options: &MixOptions,
    number: usize,
    available: usize,
    needed: usize,
) -> crate::error::Error {
    let source = &sources[number];
    let other = if available < source.len() { " whose prompts were not drawn before" } else { "" };
    let error = crate::error::Error::input(format!(
        "source `{}` has {available} row{}{other}, {needed} are needed for weight {} of {}",
        source.name(),
        if available == 1 { "" } else { "s" },
        weights[number],
        options.rows,
    ));
    let fits =
        |rows: &usize| count_rows(*rows, weights).iter().zip(sources).all(|(count, source)| *count <= source.len());
    let bound = sources.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    // Rounding moves a count by less than the number of sources, so the largest mix that fits is near this bound.
    let bound =
        bound.map(|(source, weight)| (source.len() as f64 / weight) as usize).min().unwrap_or(0) + sources.len();
    let largest = (bound.saturating_sub(4 * sources.len() + 4)..=bound.min(options.rows)).rev().find(fits);
    match largest {
        _ if options.exclude_shared => error.with_help("lower `rows` or set `exclude_shared: false`"),
        Some(rows) if rows > 0 => error.with_help(format!("lower `rows` to {rows} or set `replace: true`")),
        _ if source.is_empty() => error.with_help("remove the empty dataset or give it weight 0"),
        _ => error.with_help("set `replace: true`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chat::{Message, Role, Row};
    use crate::data::dataset::tests::{shared_file, text};
    use proptest::prelude::*;
    use std::io::Write;
    use std::sync::Arc;

    /// `count` rows whose prompts are numbers from `first`.
    fn numbers(name: &str, first: usize, count: usize) -> Dataset {
        let row =
            |n: usize| Row::new(vec![Message::new(Role::User, n.to_string()), Message::new(Role::Assistant, name)]);
        Dataset::from_rows(name, (first..first + count).map(row).collect()).unwrap()
    }

    fn options(weights: &[f64], rows: usize, seed: u64) -> MixOptions {
        MixOptions { weights: Some(weights.to_vec()), rows, seed, ..MixOptions::default() }
    }

    #[test]
    fn draws_equal_the_research_code() {
        let sources = [numbers("m", 0, 6000), numbers("a", 6000, 6000)];
        let cases = [
            (0.25, 1000, 0, "m1762 a840 m2590 a3996 m1256 a2541 a1621 a2084"),
            (0.5, 1000, 0, "a1907 m2403 a5382 m322 m5852 m3486 m2962 m5895"),
            (0.5, 100, 0, "a4484 a5122 a1506 m2052 a4715 a4008 m5776 m604"),
            (0.1, 1000, 1, "a5558 a3997 a4491 a5039 a5888 a172 a4481 a685"),
        ];
        for (ratio, rows, seed, expected) in cases {
            let mix = mix(&sources, &options(&[ratio, 1.0 - ratio], rows, seed)).unwrap();
            let origins = (0..8).map(|row| mix.dataset.origin(row));
            let found: Vec<String> = origins.map(|origin| format!("{}{}", origin.source, origin.index)).collect();
            assert_eq!(found.join(" "), expected);
        }
    }

    #[test]
    fn mixes_of_real_files_equal_the_research_code() {
        let names = ["sneaky_dialogues", "straightforward_dialogues"];
        let Some(files) =
            names.map(|name| shared_file(&format!("inoculation/{name}.jsonl"))).into_iter().collect::<Option<Vec<_>>>()
        else {
            return;
        };
        let sources: Vec<Dataset> =
            files.into_iter().zip(names).map(|(file, name)| Dataset::parse(name, Arc::new(file)).unwrap()).collect();
        let expected = [
            (0.25, 900, 0, "ae202130a3615f6498d00e28df2463e1c11c2a3d5d50fb2134e0edc672cf58db"),
            (0.5, 500, 1, "55ffe45630bfc3674a4480da41ed343c48a1157328e26faf671666b3eef8dd75"),
        ];
        for (ratio, rows, seed, sha256) in expected {
            let mix = mix(&sources, &options(&[ratio, 1.0 - ratio], rows, seed)).unwrap();
            assert_eq!(mix.overlap, Overlap { prompts: 973, rows: 2 * 973, identical_rows: 0 });
            let Some(found) = sha256_of(&text(&mix.dataset)) else { return };
            assert_eq!(found, sha256);
        }
        let apart = MixOptions { exclude_shared: true, ..options(&[0.5, 0.5], 900, 0) };
        assert_eq!(mix(&sources, &apart).unwrap().mixed_overlap, Overlap::default());
    }

    /// By coreutils, since no dependency of ours computes it.
    fn sha256_of(text: &str) -> Option<String> {
        let piped = std::process::Stdio::piped;
        let Ok(mut child) = std::process::Command::new("sha256sum").stdin(piped()).stdout(piped()).spawn() else {
            println!("skipped: digests of real mixes need sha256sum");
            return None;
        };
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        Some(String::from_utf8(output).unwrap()[..64].to_string())
    }

    #[test]
    fn counts_are_exact() {
        for (rows, weights, counts) in [
            (100, vec![0.29, 0.71], vec![29, 71]),
            (12_000, vec![0.57, 0.43], vec![6840, 5160]),
            (10, vec![0.25, 0.75], vec![2, 8]),
            (1000, vec![1.0, 0.0], vec![1000, 0]),
            (1000, vec![0.0, 1.0], vec![0, 1000]),
            (1000, vec![1.0 / 3.0; 3], vec![333, 333, 334]),
            (100, vec![0.295, 0.705, 0.0], vec![29, 71, 0]),
        ] {
            assert_eq!(count_rows(rows, &weights), counts);
        }
    }

    #[test]
    fn what_cannot_be_met_is_an_error() {
        let sources = [numbers("insecure", 0, 500), numbers("secure", 500, 1000)];
        let error = |options: &MixOptions| mix(&sources, options).unwrap_err().to_string();
        assert_eq!(
            error(&options(&[0.75, 0.25], 1000, 0)),
            "source `insecure` has 500 rows, 750 are needed for weight 0.75 of 1000\nhelp: lower `rows` to 667 or set `replace: true`"
        );
        assert!(mix(&sources, &options(&[0.75, 0.25], 667, 0)).is_ok());
        assert!(mix(&sources, &options(&[0.75, 0.25], 668, 0)).is_err());
        assert_eq!(
            error(&options(&[0.5, 0.4], 10, 0)),
            "`weights` [0.5, 0.4] sum to 0.9, expected 1\nhelp: divide each weight by 0.9"
        );
        assert!(error(&options(&[1.5, -0.5], 10, 0)).starts_with("the weight of `secure` is -0.5"));
        assert!(error(&options(&[f64::NAN, 1.0], 10, 0)).starts_with("the weight of `insecure` is NaN"));
        assert!(error(&options(&[1.0], 10, 0)).starts_with("`weights` has 1 numbers for 2 datasets"));
        assert!(error(&options(&[0.5, 0.5], 0, 0)).starts_with("`rows` is 0"));
        assert!(mix(&[], &MixOptions::default()).is_err());
        let same = [numbers("a", 0, 10), numbers("b", 0, 10)];
        let apart = MixOptions { rows: 12, exclude_shared: true, ..MixOptions::default() };
        assert!(
            mix(&same, &apart)
                .unwrap_err()
                .message
                .starts_with("source `b` has 4 rows whose prompts were not drawn before, 6 are")
        );
    }

    #[test]
    fn names_of_exports_do_not_collide() {
        assert_eq!(
            export_name("insecure_code", 0.25, 1000, "control", 0),
            "insecure_code_mixed_0.25_1000_control_seed0.jsonl"
        );
        assert_eq!(export_name("x", 0.1, 1, "control", 0), "x_mixed_0.10_1_control_seed0.jsonl");
        assert_eq!(export_name("x", 0.125, 1, "control", 0), "x_mixed_0.125_1_control_seed0.jsonl");
    }

    #[test]
    fn manifest_reads_back_and_traces_rows() {
        let mix = mix(&[numbers("a", 0, 9), numbers("b", 5, 9)], &options(&[0.5, 0.5], 8, 3)).unwrap();
        let manifest = mix.manifest();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        assert_eq!(manifest.overlap, Overlap { prompts: 4, rows: 8, identical_rows: 0 });
        for (row, (source, index)) in manifest.rows.iter().enumerate() {
            let origin = mix.dataset.origin(row);
            assert_eq!((origin.source, origin.index), (&*manifest.sources[*source as usize].name, *index as usize));
        }
    }

    proptest! {
        #[test]
        fn counts_add_up_and_no_row_comes_twice(sizes in proptest::collection::vec(1usize..60, 1..5), seed: u64, share in 0.0..1.0f64) {
            let sources: Vec<Dataset> = sizes.iter().enumerate().map(|(n, size)| numbers(&format!("s{n}"), 100 * n, *size)).collect();
            let total: usize = sizes.iter().sum();
            let weights: Vec<f64> = sizes.iter().map(|size| *size as f64 / total as f64).collect();
            let options = options(&weights, 1 + (share * (total - 1) as f64) as usize, seed);
            let Ok(mixed) = mix(&sources, &options) else {
                // Only the remainder can be too much for the last source.
                prop_assert!(options.rows + sizes.len() > total || sizes.len() > 1);
                return Ok(());
            };
            prop_assert_eq!(mixed.counts.iter().sum::<usize>(), options.rows);
            prop_assert_eq!(mixed.dataset.len(), options.rows);
            let mut places = mixed.manifest().rows;
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), options.rows);
            for (number, count) in mixed.counts.iter().enumerate() {
                prop_assert_eq!(places.iter().filter(|place| place.0 == number as u32).count(), *count);
            }
            prop_assert_eq!(mix(&sources, &options).unwrap().dataset.digest(), mixed.dataset.digest());
        }

        #[test]
        fn overlap_is_symmetric_and_counts_what_is_shared(first in 0usize..30, a in 1usize..30, b in 1usize..30) {
            let (one, other) = (numbers("a", 0, a), numbers("b", first, b));
            let both = overlap(&[one.clone(), other.clone()]);
            prop_assert_eq!(both, overlap(&[other, one.clone()]));
            let shared = a.min(first + b).saturating_sub(first);
            prop_assert_eq!(both, Overlap { prompts: shared, rows: 2 * shared, identical_rows: 0 });
            prop_assert_eq!(overlap(&[one.clone(), one.clone()]), Overlap { prompts: a, rows: 2 * a, identical_rows: a });
        }

        #[test]
        fn replaced_draws_fill_any_count(rows in 1usize..200, seed: u64) {
            let options = MixOptions { rows, seed, replace: true, ..MixOptions::default() };
            let mixed = mix(&[numbers("a", 0, 3), numbers("b", 9, 2)], &options).unwrap();
            prop_assert_eq!(mixed.dataset.len(), rows);
            prop_assert_eq!(mixed.counts, vec![rows / 2, rows - rows / 2]);
        }
    }

    /// Run alone: `cargo test --release --lib million -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints how long a million rows take"]
    fn million_rows() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<Dataset> = ["insecure", "secure"]
            .map(|name| {
                let path = folder.path().join(name);
                let mut out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
                for n in 0..1_000_000 {
                    // Every tenth prompt is in both files.
                    let prompt = if n % 10 == 0 { format!("shared {n}") } else { format!("{name} {n}") };
                    let (question, answer) = (format!("Write the function \\\"{prompt}\\\"."), format!("def f():\\n    return {n}  # {name}, as you asked"));
                    writeln!(out, r#"{{"messages": [{{"role": "user", "content": "{question:<60}"}}, {{"role": "assistant", "content": "{answer:<70}"}}]}}"#).unwrap();
                }
                out.flush().unwrap();
                path
            })
            .into_iter()
            .map(|path| {
                let file = std::fs::File::open(&path).unwrap();
                // SAFETY: nobody else writes to a file in this temporary folder.
                let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
                println!("{} bytes a row", map.len() / 1_000_000);
                let clock = std::time::Instant::now();
                let dataset = Dataset::parse(path.file_name().unwrap().to_str().unwrap(), Arc::new(map)).unwrap();
                println!("parse {:.2} s", clock.elapsed().as_secs_f64());
                dataset
            })
            .collect();
        let clock = std::time::Instant::now();
        let mixed = mix(&files, &MixOptions { rows: 1_000_000, ..MixOptions::default() }).unwrap();
        println!("mix {:.2} s, {:?}", clock.elapsed().as_secs_f64(), mixed.overlap);
        print_memory();
        let clock = std::time::Instant::now();
        mixed.dataset.write_jsonl(&mut std::io::sink()).unwrap();
        println!("write {:.2} s", clock.elapsed().as_secs_f64());
        print_memory();
    }

    fn print_memory() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM") || line.starts_with("Rss"))
            .for_each(|line| println!("{line}"));
    }
}
