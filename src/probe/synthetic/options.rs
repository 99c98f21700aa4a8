//! What made-up activations are asked for: sizes of the sources, extraction, signal and leaks.

use crate::error::{Error, Result, ensure, nearest};

/// All that decides made-up activations. The default is the real experiment without its leak. With it, at full width
/// and with seeds 0 to 5, scikit-learn's default L2 logistic regression (C = 10, standardised) in the protocol of the
/// experiment has AUROC 0.96 to 0.99 on gold and 0.37 to 0.53 on the benchmark after training on train, and 0.92 to
/// 0.96 on gold and 0.95 to 0.97 on the benchmark's test rows after training on everything. Narrower widths scatter
/// more: with 512 features the benchmark started from 0.14 once.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthesisOptions {
    /// Names must differ.
    pub sources: Vec<SourceOptions>,
    /// Number of features, at least 64; the real SAE has 16,384.
    pub columns: usize,
    /// Decides everything that is random.
    pub seed: u64,
    /// Whether [`Extraction::Other`] differs from [`Extraction::Reference`]; otherwise all sources have the density
    /// and the magnitudes of the reference.
    pub batch_effect: bool,
    /// Whether a source may have one class only; otherwise such a source gets positives and negatives, half of each.
    pub source_equals_label: bool,
    /// Features that carry a direction, 1 to a fifth of all: that many for the shared one, and as many others for each
    /// family.
    pub signal_features: usize,
    /// Multiplies every direction; 0 makes labels that nothing can predict.
    pub strength: f64,
    /// Rows of one source that are copies of rows of another.
    pub leak: Option<Leak>,
}

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    /// What it is called in leaks, files and reports.
    pub name: String,
    /// Number of rows, at least 1.
    pub rows: usize,
    /// How many of the rows are of the positive class.
    pub positives: usize,
    /// Which program computed its activations.
    pub extraction: Extraction,
    /// Sources of one family have the same direction of their own and the same offset; train and gold are one.
    pub family: u32,
    /// How much of the shared direction separates its classes: 1 as in training, 0 not at all, below 0 the wrong way.
    pub shared: f64,
    /// How much of its family's own direction separates its classes.
    pub own: f64,
}

/// Which program computed the activations: the batch effect of the real files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extraction {
    /// As train and gold: 22.6 % of the values are not 0, and their mean is 300.
    Reference,
    /// As the other sources: 5.2 % of the values are not 0, and their mean is 30.
    Other,
}

/// Rows of `into` that are blurred copies of rows of `from`, as shares (0 to 1) of the rows of `into`.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    /// The source that is copied.
    pub from: String,
    /// The source that has the copies among its rows.
    pub into: String,
    /// Share of light copies.
    pub light: f64,
    /// Share of medium copies.
    pub medium: f64,
    /// Share of heavy copies.
    pub heavy: f64,
}

/// How far a copy is from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// 1 % of the values are those of another row, the others are within about 5 %.
    Light,
    /// 5 % and 20 %.
    Medium,
    /// 20 % and 50 %.
    Heavy,
}

impl Default for SynthesisOptions {
    fn default() -> Self {
        let source = |name: &str, rows, positives, extraction, family, (shared, own): (f64, f64)| SourceOptions {
            name: name.to_string(),
            rows,
            positives,
            extraction,
            family,
            shared,
            own,
        };
        SynthesisOptions {
            sources: vec![
                source("train", 2689, 1057, Extraction::Reference, 0, (1.0, 1.0)),
                source("gold_106", 106, 51, Extraction::Reference, 0, (1.0, 1.0)),
                source("sycophant", 319, 319, Extraction::Other, 1, (0.0, 1.0)),
                source("model_organism", 730, 730, Extraction::Other, 2, (0.0, 1.0)),
                source("benchmark", 2330, 1165, Extraction::Other, 3, (-0.1, 2.6)),
            ],
            columns: 16_384,
            seed: 0,
            batch_effect: true,
            source_equals_label: true,
            signal_features: 40,
            strength: 3.5,
            leak: None,
        }
    }
}

impl SynthesisOptions {
    /// The same with every source a fraction (0 to 1) of its size, at least 4 rows, its classes in proportion.
    pub fn scaled(mut self, fraction: f64) -> Self {
        for source in &mut self.sources {
            let rows = ((source.rows as f64 * fraction).round() as usize).max(4);
            source.positives = (source.positives as f64 * rows as f64 / source.rows.max(1) as f64).round() as usize;
            source.rows = rows;
        }
        self
    }

    /// Rows of the positive class of a source, after `source_equals_label`.
    pub fn positives(&self, source: usize) -> usize {
        let SourceOptions { rows, positives, .. } = self.sources[source];
        if !self.source_equals_label && (positives == 0 || positives == rows) { rows / 2 } else { positives }
    }

    /// The leak with the places of its two sources, if the options make sense.
    pub(super) fn check(&self) -> Result<Option<(&Leak, usize, usize)>> {
        ensure!(!self.sources.is_empty(), "there are no sources to make"; help: "name at least one");
        let total: usize = self.sources.iter().map(|source| source.rows).sum();
        ensure!(u32::try_from(total).is_ok() && u32::try_from(self.columns).is_ok(),
            "{total} rows of {} features are too many", self.columns; help: "stay below 2^32 of each");
        ensure!(self.columns >= 64, "{} features are too few for a signal", self.columns; help: "ask for 64 or more");
        ensure!((1..=self.columns / 5).contains(&self.signal_features),
            "`signal_features` is {} of {} features", self.signal_features, self.columns;
            help: "set it to 1 to {}", self.columns / 5);
        ensure!(self.strength.is_finite(), "`strength` is {}", self.strength; help: "write a finite number");
        for (number, source) in self.sources.iter().enumerate() {
            let name = &source.name;
            ensure!(self.sources[..number].iter().all(|other| other.name != *name),
                "two sources are called `{name}`"; help: "give each source a name of its own");
            ensure!(source.rows > 0 && source.positives <= source.rows,
                "source `{name}` has {} positive rows of {}", source.positives, source.rows;
                help: "give it at least 1 row and no more positive ones than that");
            ensure!(source.shared.is_finite() && source.own.is_finite(),
                "the directions of `{name}` have weights {} and {}", source.shared, source.own;
                help: "write finite numbers");
        }
        let Some(leak) = &self.leak else { return Ok(None) };
        let (from, into) = (self.place(&leak.from)?, self.place(&leak.into)?);
        ensure!(from != into, "`{}` cannot leak into itself", leak.from; help: "name two different sources");
        let shares = [leak.light, leak.medium, leak.heavy];
        ensure!(shares.iter().all(|share| *share >= 0.0) && shares.iter().sum::<f64>() <= 1.0,
            "shares {shares:?} of leaked rows"; help: "write numbers from 0 to 1 with a sum of at most 1");
        Ok(Some((leak, from, into)))
    }

    fn place(&self, name: &str) -> Result<usize> {
        let found = self.sources.iter().position(|source| source.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.sources.iter().map(|source| &*source.name).collect();
            let help = match nearest(name, names.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => format!("name one of {}", names.join(", ")),
            };
            Error::input(format!("the leak names a source `{name}` that is not made")).with_help(help)
        })
    }
}

impl Leak {
    /// The leak of the real experiment: of 2,689 training rows 73 light, 152 medium and 134 heavy copies of gold_106.
    pub fn of_the_experiment() -> Self {
        let share = |rows: f64| rows / 2689.0;
        Leak {
            from: "gold_106".to_string(),
            into: "train".to_string(),
            light: share(73.0),
            medium: share(152.0),
            heavy: share(134.0),
        }
    }

    /// How many of so many rows are copies of each kind; the rounding never asks for more rows than there are.
    pub(super) fn counts(&self, rows: usize) -> [(Noise, usize); 3] {
        let mut left = rows;
        let mut count = |share: f64| {
            let count = ((rows as f64 * share).round() as usize).min(left);
            left -= count;
            count
        };
        [(Noise::Light, count(self.light)), (Noise::Medium, count(self.medium)), (Noise::Heavy, count(self.heavy))]
    }
}

impl Noise {
    /// Share of the values that come from another row, and the deviation of the logarithm of the others.
    pub(super) fn amounts(self) -> (f64, f64) {
        match self {
            Noise::Light => (0.01, 0.05),
            Noise::Medium => (0.05, 0.2),
            Noise::Heavy => (0.2, 0.5),
        }
    }
}
