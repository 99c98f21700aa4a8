//! `bootstrap`, `two_way` and `published_bootstrap`: other ways to make the intervals of a report or figure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::statistics::{BootstrapEnds, BootstrapOptions, Resampling};
use crate::data::summary::Intervals as Definition;
use crate::error::ensure;
use crate::handle;
use crate::lab::Lab;
use crate::script::declaration::{Call, Primitive};
use crate::script::handle::{Handle, HandleType};

/// How intervals are made.
#[derive(Clone)]
pub struct Intervals(Definition);

handle!(Intervals);

impl Intervals {
    /// What it is.
    pub fn definition(&self) -> Definition {
        self.0.clone()
    }
}

impl Handle for Intervals {
    const NAME: &'static str = "Intervals";
    fn identity(&self) -> Value {
        json!(format!("{:?}", self.0))
    }
    fn describe(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// How the handle appears in scripts.
pub fn handle_type() -> HandleType {
    HandleType::of::<Intervals>("How the intervals of a report or figure are made.")
}

#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Ends {
    /// The shares of the resampled means.
    Percentile,
    /// Corrected for bias and acceleration.
    Bca,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// "percentile" or "bca" (corrected for bias and acceleration).
    ends: Ends,
    /// Draws questions anew within every seed, instead of one draw for all seeds.
    nested: bool,
    /// How often everything is drawn again.
    resamples: usize,
    /// Decides the draws.
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let BootstrapOptions { resamples, seed, .. } = BootstrapOptions::default();
        Options { ends: Ends::Percentile, nested: false, resamples, seed }
    }
}

/// The declarations.
pub fn primitives() -> Vec<Primitive<Lab>> {
    vec![
        Primitive::new("bootstrap", |_: &Lab, _: &Call, _: (), options: Options| {
            ensure!(options.resamples > 0, "`resamples` is 0"; help: "write 2000");
            Ok(Intervals(Definition::Bootstrap(BootstrapOptions {
                questions: if options.nested { Resampling::Nested } else { Resampling::Crossed },
                ends: match options.ends {
                    Ends::Percentile => BootstrapEnds::Percentile,
                    Ends::Bca => BootstrapEnds::Bca,
                },
                resamples: options.resamples,
                seed: options.seed,
                ..BootstrapOptions::default()
            })))
        })
        .about(
            "Intervals by a hierarchical bootstrap: seeds, then questions, then answers are drawn again. With fewer than \
             6 seeds it says so: such an interval is little more than their range.",
        )
        .example("report(cells, #{ intervals: bootstrap(#{ ends: \"bca\" }) })"),
        Primitive::new("two_way", |_: &Lab, _: &Call, _: (), _: ()| Ok(Intervals(Definition::TwoWay)))
            .about("Intervals about other seeds and other questions: errors clustered by both.")
            .example("report(cells, #{ intervals: two_way() })"),
        Primitive::new("published_bootstrap", |_: &Lab, _: &Call, _: (), _: ()| Ok(Intervals(Definition::Published)))
            .about(
                "Intervals as the published code makes them, to match its figures: a percentile bootstrap over the means of \
                 seeds, draw for draw. With three seeds it is their range, which covers 75 %.",
            )
            .example("plot(cells, #{ intervals: published_bootstrap() })"),
    ]
}
