//! `mix_dataset`: several datasets into one.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dataset::Dataset;
use crate::data::mix::{MixOptions, mix};
use crate::error::Result;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Share of each source, together 1; equal when left out.
    weights: Option<Vec<f64>>,
    /// Rows in the result.
    rows: usize,
    /// Decides which rows are drawn and their order.
    seed: u64,
    /// Draw with replacement, so that a source may give more rows than it has.
    replace: bool,
    /// Leave out rows whose prompt occurs in more than one source.
    exclude_shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { weights: None, rows: 1000, seed: 0, replace: false, exclude_shared: false }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("mix_dataset", run)
        .about(
            "Mixes datasets: floor(rows x weight) rows of each source but the last, which gives the rest; drawn without \
             replacement from one seed, as the research code draws them, then shuffled. More rows than a source has is \
             an error. Prompts that occur in several sources are counted and noted.",
        )
        .input("sources", "Datasets to draw rows from.")
        .example("mix_dataset([setting.misaligned, setting.aligned], #{ weights: [0.25, 0.75], rows: 1000, seed: 1 })")
}

fn run(lab: &Lab, _: &Call, (sources,): (Vec<Dataset>,), options: Options) -> Result<Dataset> {
    let rows: Vec<_> = sources.iter().map(|source| source.rows.clone()).collect();
    let weights = options.weights.clone();
    let mixed = mix(
        &rows,
        &MixOptions {
            weights: options.weights,
            rows: options.rows,
            seed: options.seed,
            replace: options.replace,
            exclude_shared: options.exclude_shared,
        },
    )?;
    if mixed.overlap.prompts > 0 {
        let names: Vec<_> = rows.iter().map(|source| format!("`{}`", source.name())).collect();
        lab.note_once(format!(
            "{} prompts occur in more than one of {} ({} rows)",
            mixed.overlap.prompts,
            names.join(" and "),
            mixed.overlap.rows,
        ));
    }
    let lineage = json!({
        "mix": sources.iter().zip(&mixed.counts).map(|(source, count)| json!({ "rows": count, "of": source.provenance() }))
            .collect::<Vec<_>>(),
        "seed": options.seed,
        "shared_prompts": mixed.overlap.prompts,
        "identical_rows": mixed.overlap.identical_rows,
    });
    let name = name_of(&sources, weights.as_deref(), options.rows, options.seed);
    let mut data = Dataset::new(lab, mixed.dataset.with_name(name), lineage);
    data.mix = Some(Arc::new(mixed));
    Ok(data)
}

/// `insecure_code misaligned 0.25 of 1000, seed 1`: the first source's share says it all for two.
fn name_of(sources: &[Dataset], weights: Option<&[f64]>, rows: usize, seed: u64) -> String {
    let names: Vec<&str> = sources.iter().map(|source| source.rows.name()).collect();
    match (names.as_slice(), weights) {
        ([only], _) => format!("{rows} of {only}, seed {seed}"),
        ([first, _], Some(weights)) => format!("{first} {} of {rows}, seed {seed}", weights[0]),
        _ => format!("{rows} of {}, seed {seed}", names.join(" + ")),
    }
}
