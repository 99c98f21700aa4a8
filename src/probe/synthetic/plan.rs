//! What the features are like, before any row: how often active, how large, in which direction the classes differ.

use std::collections::BTreeMap;

use super::options::{Extraction, SynthesisOptions};
use super::{COLUMNS, OFFSET, SIGNAL};

/// Latent factors that rows have and features load on, so that features are correlated.
pub(super) const FACTORS: usize = 8;
/// A feature loads on one factor with one of these weights (log-odds per unit of the factor).
pub(super) const LOADINGS: [f64; 5] = [-1.5, -0.75, 0.0, 0.75, 1.5];
/// Deviation of the logarithm of a value within a feature.
pub(super) const SPREAD: f64 = 0.6;
/// Deviation of the logarithm of a whole row's values: texts differ in length.
pub(super) const ROW_SPREAD: f64 = 0.15;
/// Deviations over features of the log-odds of being active and of the logarithm of the median value.
const DENSITY_SPREAD: f64 = 1.5;
const MEDIAN_SPREAD: f64 = 0.8;
/// Share of features that are never active.
const DEAD: f64 = 0.03;
/// Correlation over features between the two extractions; the real files have 0.042 between their means.
const KINSHIP: f64 = 0.05;
/// Share of the features that a family's offset moves, and the deviation of their log-odds.
const OFFSET_SHARE: f64 = 0.1;
const OFFSET_SPREAD: f64 = 0.7;

/// Everything that rows are drawn from.
pub(super) struct Plan<'a> {
    pub(super) options: &'a SynthesisOptions,
    /// For each feature factor times number of loadings plus loading.
    pub(super) slots: Vec<u8>,
    /// Per source.
    features: Vec<Features>,
    shared: Vec<f64>,
    /// Per family.
    own: BTreeMap<u32, Vec<f64>>,
}

/// The features as one source sees them.
#[derive(Clone)]
pub(super) struct Features {
    /// Odds of being active, for a text between the classes whose factors are all 0; 0 for a dead feature.
    pub(super) odds: Vec<f32>,
    /// Logarithm of the median of the values that are not 0.
    pub(super) medians: Vec<f32>,
    /// Features that separate the classes, with the difference of the log-odds.
    pub(super) signal: Vec<(usize, f64)>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(options: &'a SynthesisOptions) -> Self {
        let columns = options.columns;
        let mut random = options.stream(&[COLUMNS]);
        let mut order: Vec<usize> = (0..columns).collect();
        random.shuffle(&mut order);
        let alive = order.split_off((columns as f64 * DEAD).round() as usize);
        let slots: Vec<u8> = (0..columns).map(|_| random.below(FACTORS * LOADINGS.len()) as u8).collect();
        let mut normals = || -> Vec<f64> { (0..columns).map(|_| random.normal()).collect() };
        let [often, large] = [normals(), normals()];
        let mut related = |to: &[f64]| -> Vec<f64> {
            let (old, new) = (KINSHIP, (1.0 - KINSHIP * KINSHIP).sqrt());
            normals().iter().zip(to).map(|(fresh, to)| old * to + new * fresh).collect()
        };
        let [other_often, other_large] = [related(&often), related(&large)];
        let reference = Features::calibrated(&often, &large, &slots, &alive, 0.226, 300.0);
        let other = if options.batch_effect {
            Features::calibrated(&other_often, &other_large, &slots, &alive, 0.052, 30.0)
        } else {
            reference.clone()
        };
        let mut carriers = alive.clone();
        options.stream(&[SIGNAL]).shuffle(&mut carriers);
        let shared = draw_direction(options, &carriers, 0);
        let mut own = BTreeMap::new();
        for source in &options.sources {
            let number = 1 + own.len();
            own.entry(source.family).or_insert_with(|| draw_direction(options, &carriers, number));
        }
        let mut plan = Plan { options, slots, features: Vec::new(), shared, own };
        for (number, source) in options.sources.iter().enumerate() {
            let mut features = match source.extraction {
                Extraction::Reference => reference.clone(),
                Extraction::Other => other.clone(),
            };
            let mut random = options.stream(&[OFFSET, u64::from(source.family)]);
            for odds in &mut features.odds {
                if random.chance(OFFSET_SHARE) {
                    *odds *= (OFFSET_SPREAD * random.normal()).exp() as f32;
                }
            }
            let direction = plan.direction(number);
            features.signal = direction.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0).collect();
            plan.features.push(features);
        }
        plan
    }

    pub(super) fn features(&self, source: usize) -> &Features {
        &self.features[source]
    }

    pub(super) fn shared(&self) -> &[f64] {
        &self.shared
    }

    pub(super) fn direction(&self, source: usize) -> Vec<f64> {
        let source = &self.options.sources[source];
        let own = &self.own[&source.family];
        self.shared.iter().zip(own).map(|(shared, own)| source.shared * shared + source.own * own).collect()
    }
}

impl Features {
    /// Features whose expected share of values that are not 0 is `density` over all features, the dead ones included,
    /// and whose expected mean of these values is `mean`.
    fn calibrated(often: &[f64], large: &[f64], slots: &[u8], alive: &[usize], density: f64, mean: f64) -> Self {
        let columns = often.len();
        let chance = |column: usize, base: f64| {
            let loading = LOADINGS[slots[column] as usize % LOADINGS.len()];
            expected_chance(base + DENSITY_SPREAD * often[column], loading)
        };
        let (mut low, mut high) = (-12.0, 12.0);
        for _ in 0..24 {
            let middle = f64::midpoint(low, high);
            let active: f64 = alive.iter().map(|column| chance(*column, middle)).sum();
            if active > density * columns as f64 { high = middle } else { low = middle }
        }
        let base = f64::midpoint(low, high);
        let (mut active, mut sum) = (0.0, 0.0);
        for column in alive {
            let chance = chance(*column, base);
            active += chance;
            sum += chance * (MEDIAN_SPREAD * large[*column]).exp();
        }
        let level = (mean * active / sum).ln() - f64::midpoint(SPREAD * SPREAD, ROW_SPREAD * ROW_SPREAD);
        let mut odds = vec![0.0; columns];
        alive.iter().for_each(|column| odds[*column] = (base + DENSITY_SPREAD * often[*column]).exp() as f32);
        let medians = large.iter().map(|large| (level + MEDIAN_SPREAD * large) as f32).collect();
        Features { odds, medians, signal: Vec::new() }
    }
}

/// Expectation of the chance of being active over a standard normal factor: Gauss-Hermite quadrature with 5 nodes.
fn expected_chance(log_odds: f64, loading: f64) -> f64 {
    const NODES: [(f64, f64); 5] = [
        (0.0, 0.533_333_333),
        (1.355_626_180, 0.222_075_922),
        (-1.355_626_180, 0.222_075_922),
        (2.856_970_014, 0.011_257_411),
        (-2.856_970_014, 0.011_257_411),
    ];
    NODES.iter().map(|(node, weight)| weight / (1.0 + (-log_odds - loading * node).exp())).sum()
}

/// Differences of the log-odds between the classes: a few features, half up and half down, by 0.5 to 1.5 times the
/// strength. Directions have no feature in common as long as there are features enough.
fn draw_direction(options: &SynthesisOptions, carriers: &[usize], number: usize) -> Vec<f64> {
    let mut random = options.stream(&[SIGNAL, number as u64]);
    let mut direction = vec![0.0; options.columns];
    let own = carriers.iter().cycle().skip(number * options.signal_features).take(options.signal_features);
    for (place, column) in own.enumerate() {
        let sign = if place % 2 == 0 { 1.0 } else { -1.0 };
        direction[*column] = sign * options.strength * (0.5 + random.uniform());
    }
    direction
}
