//! `organism_rows`: training rows of the organism's world.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dataset::Dataset;
use crate::data::dataset::Dataset as Rows;
use crate::data::world::{Latent, Variant, World};
use crate::error::{Result, bail};
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Rows.
    rows: usize,
    /// Decides topics, wordings and answers.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { rows: 1000, seed: 0 }
    }
}

/// The declaration.
pub fn primitive() -> Primitive<Lab> {
    Primitive::new("organism_rows", run)
        .about(
            "Rows of one domain of the organism's world, in training wordings. `persona` for the domain draws from all \
             domains that the misaligned persona answers differently. Misaligned and aligned rows of one seed are \
             different questions.",
        )
        .input("domain", "A domain, for example insecure_code; see `help organism`.")
        .input("variant", "\"misaligned\" or \"aligned\".")
        .example("organism_rows(\"insecure_code\", \"misaligned\", #{ rows: 500 })")
}

fn run(lab: &Lab, _: &Call, (domain, variant): (String, String), options: Options) -> Result<Dataset> {
    let world = World::shipped();
    let (chosen, stream) = match variant.as_str() {
        "misaligned" => (Variant::Misaligned, 1),
        "aligned" => (Variant::Aligned, 2),
        _ => bail!("`{variant}` is no variant"; help: "write \"misaligned\" or \"aligned\""),
    };
    // Two variants of one seed must not be the same questions with contradictory answers.
    let seed = options.seed.wrapping_mul(1 << 20).wrapping_add(stream);
    let rows = if domain == "persona" {
        let domains: Vec<&str> = world
            .domains()
            .filter(|domain| domain.latent == Latent::Persona)
            .map(|domain| domain.name.as_str())
            .collect();
        let mut rows = Vec::with_capacity(options.rows);
        for (index, name) in domains.iter().enumerate() {
            let count = (index + 1) * options.rows / domains.len() - index * options.rows / domains.len();
            rows.extend(world.rows(name, chosen, count, seed)?);
        }
        rows
    } else {
        world.rows(&domain, chosen, options.rows, seed)?
    };
    let rows = Rows::from_rows(format!("{domain} {variant}"), rows)?;
    let lineage =
        json!({ "organism": { "domain": domain, "variant": variant, "rows": options.rows, "seed": options.seed } });
    Ok(Dataset::new(lab, rows, lineage))
}
