//! A loss on rows, as a value, and its rows made ready for batches.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::representation_constraint::{self, Constraint};
use super::stream::StreamEdit;
use super::{dpo, kl, likelihood, npo, sft, simnpo, unlikelihood};
use crate::ensure;
use crate::error::{Error, Result};
use crate::model::chat::Example;
use crate::model::divergence::Direction;
use crate::model::forward::Prepared;
use crate::model::weights::Weights;
use crate::train::batch::runs;
use crate::train::passes::{Passes, Worker};

const LAID_OUT: &str = "the start is laid out for losses that need it";

/// What is computed of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy, the mean over tokens.
    Sft,
    /// -log(1 - p), the mean over tokens: makes them unlikely.
    Unlikelihood,
    /// Negative preference optimisation, the mean over rows: makes them less likely than at the start.
    Npo {
        /// How soon a row that has become unlikely is left alone.
        beta: f64,
    },
    /// Negative preference optimisation without a reference, the mean over rows.
    Simnpo {
        /// How soon a row that has become unlikely is left alone.
        beta: f64,
        /// Added to the preference: above 0, a row is pushed further.
        margin: f64,
    },
    /// Direct preference optimisation, the mean over pairs.
    Dpo {
        /// How far from the start the margin may grow.
        beta: f64,
        /// Means of log-probabilities over tokens in place of their sums.
        length_normalised: bool,
    },
    /// Divergence from the start, the mean over tokens.
    Kl {
        /// From which distribution.
        direction: Direction,
    },
    /// Distance of the residual stream from the start, the mean over tokens.
    Representation {
        /// First state, from 1.
        first: usize,
        /// Last state; 0 is the last block's.
        last: usize,
        /// Of all tokens that are read, in place of those from which a token with loss is predicted.
        whole_rows: bool,
    },
}

/// A row, with what the loss compares it with.
pub struct Unit<'a> {
    /// The row, or the chosen one of a pair.
    pub row: &'a Example,
    /// What is to be less likely than the row.
    pub rejected: Option<&'a Example>,
    /// Log-probabilities of the row and of the rejected one at the start, where the loss needs them.
    pub at_start: [f64; 2],
}

/// Rows of one loss.
pub struct Source<'a> {
    /// What is computed of them.
    pub loss: Loss,
    /// Rows or pairs that carry loss.
    pub units: Vec<Unit<'a>>,
    /// Tokens that are read for each.
    pub lengths: Vec<usize>,
    /// What happens to the residual stream meanwhile.
    pub edits: &'a [StreamEdit],
}

/// The weights that training started from, laid out.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// Values.
    pub weights: &'a Weights,
    /// The same, laid out.
    pub prepared: &'a Prepared,
}

impl Loss {
    /// As a script names it.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Sft => "sft",
            Loss::Unlikelihood => "unlikelihood",
            Loss::Npo { .. } => "npo",
            Loss::Simnpo { .. } => "simnpo",
            Loss::Dpo { .. } => "dpo",
            Loss::Kl { .. } => "kl",
            Loss::Representation { .. } => "representation_constraint",
        }
    }

    /// Whether it compares with the weights at the start.
    pub fn needs_start(self) -> bool {
        !matches!(self, Loss::Sft | Loss::Unlikelihood | Loss::Simnpo { .. })
    }

    /// Refuses numbers that are out of range.
    pub fn check(self, layers: usize) -> Result<()> {
        if let Loss::Representation { first, last, .. } = self {
            let last = if last == 0 { layers } else { last };
            ensure!(
                1 <= first && first <= last && last <= layers,
                "`{}` is of the states {first} to {last}, the model has {layers} blocks", self.name();
                help: "count the states after the blocks from 1"
            );
        }
        if let Loss::Npo { beta } | Loss::Simnpo { beta, .. } | Loss::Dpo { beta, .. } = self {
            let holds = beta.is_finite() && beta > 0.0;
            ensure!(holds, "`beta` of `{}` is {beta}, it is above 0", self.name());
        }
        if let Loss::Simnpo { margin, .. } = self {
            ensure!(margin.is_finite(), "`margin` of `simnpo` is {margin}");
        }
        Ok(())
    }

    /// What a unit counts in the mean.
    fn amount(self, unit: &Unit) -> f64 {
        match self {
            Loss::Representation { whole_rows: true, .. } => {
                f64::from(unit.row.weight.abs()) * sft::tokens(unit.row) as f64
            }
            Loss::Sft | Loss::Unlikelihood | Loss::Kl { .. } | Loss::Representation { .. } => {
                sft::loss_weight(unit.row)
            }
            Loss::Npo { .. } | Loss::Simnpo { .. } | Loss::Dpo { .. } => f64::from(unit.row.weight.abs()),
        }
    }
}

impl<'a> Unit<'a> {
    /// The row, then the rejected one.
    pub fn rows(&self) -> impl Iterator<Item = &'a Example> {
        [Some(self.row), self.rejected].into_iter().flatten()
    }
}

impl<'a> Source<'a> {
    /// The rows that carry loss, paired one to one with the `rejected` where the loss compares two; `start` is there
    /// when the loss needs it.
    ///
    /// # Errors
    /// Pairs that do not match, no row with loss, a number that is out of range.
    pub fn new(loss: Loss, rows: &'a [Example], rejected: &'a [Example], start: Option<Start>) -> Result<Self> {
        let pairs = matches!(loss, Loss::Dpo { .. });
        let (count, others) = (rows.len(), rejected.len());
        ensure!(pairs || others == 0, "`{}` compares no rows, {others} rejected ones were given", loss.name());
        ensure!(
            !pairs || count == others, "`{}` has {count} chosen rows and {others} rejected ones", loss.name();
            help: "give one rejected row for each chosen row, in the same order"
        );
        let unit = |(index, row)| Unit { row, rejected: rejected.get(index), at_start: [0.0; 2] };
        let carries = |unit: &Unit| unit.rows().all(sft::has_loss);
        let mut units: Vec<Unit> = rows.iter().enumerate().map(unit).filter(carries).collect();
        if let (Loss::Npo { .. } | Loss::Dpo { .. }, Some(start)) = (loss, start) {
            for unit in &mut units {
                let rows: Vec<&Example> = unit.rows().collect();
                let found = likelihood::log_probabilities(start.weights, start.prepared, &rows)?;
                unit.at_start[..found.len()].copy_from_slice(&found);
            }
        }
        let lengths = units.iter().map(|unit| unit.rows().map(sft::tokens).sum()).collect();
        Ok(Source { loss, units, lengths, edits: &[] })
    }

    /// Sum of what these units count.
    pub fn amount(&self, batches: &[Vec<usize>]) -> f64 {
        batches.iter().flatten().map(|unit| self.loss.amount(&self.units[*unit])).sum()
    }

    /// The loss of a batch, where all that is averaged counts `amount`; leaves its gradient in the passes if `wanted`.
    pub fn run(
        &self,
        passes: &mut Passes,
        weights: &Weights,
        start: Option<Start>,
        batch: &[usize],
        amount: f64,
        wanted: bool,
    ) -> Result<f64> {
        let lengths: Vec<usize> = batch.iter().map(|unit| self.lengths[*unit]).collect();
        let scale = 1.0 / amount;
        passes.run(weights, &lengths, wanted, &|worker, prepared, items, gradient| {
            let units: Vec<&Unit> = batch[items].iter().map(|unit| &self.units[*unit]).collect();
            self.part(worker, (weights, prepared), start, &units, scale, gradient)
        })
    }

    fn part(
        &self,
        worker: &mut Worker,
        (weights, prepared): (&Weights, &Prepared),
        start: Option<Start>,
        units: &[&Unit],
        scale: f64,
        gradient: Option<&mut [f32]>,
    ) -> Result<f64> {
        let mut by_likelihood = |gradient: Option<&mut [f32]>, weigh: &likelihood::Weigh| {
            likelihood::run(worker, (weights, prepared), units, self.edits, scale, gradient, weigh)
        };
        match self.loss {
            Loss::Sft => {
                let rows = units.iter().map(|unit| unit.row);
                sft::run(worker, weights, prepared, rows, self.edits, scale, gradient)
            }
            Loss::Unlikelihood => by_likelihood(gradient, &unlikelihood::weigh),
            Loss::Npo { beta } => {
                by_likelihood(gradient, &|unit, found, targets| npo::weigh(beta, unit, found, targets))
            }
            Loss::Simnpo { beta, margin } => {
                by_likelihood(gradient, &|_, found, targets| simnpo::weigh(beta, margin, found, targets))
            }
            Loss::Dpo { beta, length_normalised } => by_likelihood(gradient, &|unit, found, targets| {
                dpo::weigh(beta, length_normalised, unit, found, targets)
            }),
            Loss::Representation { first, last, whole_rows } => {
                let start = start.expect(LAID_OUT);
                let last = if last == 0 { weights.config.layers } else { last };
                let constraint = Constraint { first, last, whole_rows, scale };
                let models = (weights, prepared);
                representation_constraint::run(worker, models, start, units, constraint, gradient)
            }
            Loss::Kl { direction } => {
                let start = start.expect(LAID_OUT);
                kl::run(worker, (weights, prepared), start, units, (direction, scale), gradient)
            }
        }
    }

    /// Mean over the first units.
    pub fn mean(&self, weights: &Weights, prepared: &Prepared, start: Option<Start>, most: usize) -> Result<f64> {
        let units: Vec<&Unit> = self.units.iter().take(most).collect();
        let scale = 1.0 / units.iter().map(|unit| self.loss.amount(unit)).sum::<f64>();
        let mut worker = Worker::default();
        let part = |place: Range<usize>| self.part(&mut worker, (weights, prepared), start, &units[place], scale, None);
        let runs = runs(&self.lengths[..units.len()], prepared.device_tokens());
        runs.into_iter().map(part).sum()
    }
}

/// A clear failure where there is nothing to train on.
pub(crate) fn nothing(name: &str) -> Error {
    Error::input(format!("`{name}` has no row with an assistant message"))
        .with_help("give it rows that an assistant answers")
}
