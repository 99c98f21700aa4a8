//! Rotary positions: the frequencies of a head's channels, stretched as the family stretches them, and their tables.

use std::sync::OnceLock;

use super::config::Config;
use super::variant::RopeScaling;

/// Positions whose table is made at once; the table of a longer context is made when a longer text comes.
const SHORT: usize = 4096;

/// Cosine and sine of position times frequency, (positions, channels of half a head).
pub(super) struct Table {
    pub cosine: Vec<f32>,
    pub sine: Vec<f32>,
    pub negative_sine: Vec<f32>,
}

/// The tables of blocks that share their frequencies.
pub(super) struct Rotary {
    frequencies: Vec<f64>,
    context: usize,
    short: Table,
    long: OnceLock<Table>,
}

impl Rotary {
    fn new(frequencies: Vec<f64>, context: usize) -> Self {
        let short = Table::new(&frequencies, context.min(SHORT));
        Rotary { frequencies, context, short, long: OnceLock::new() }
    }

    /// A table that reaches every position below `end`.
    pub fn table(&self, end: usize) -> &Table {
        if end <= SHORT {
            return &self.short;
        }
        self.long.get_or_init(|| Table::new(&self.frequencies, self.context))
    }
}

impl Table {
    fn new(frequencies: &[f64], positions: usize) -> Self {
        let angles =
            (0..positions).flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
        let sine: Vec<f32> = angles.clone().map(|angle| angle.sin() as f32).collect();
        Table {
            cosine: angles.map(|angle| angle.cos() as f32).collect(),
            negative_sine: sine.iter().map(|value| -value).collect(),
            sine,
        }
    }
}

/// The tables of blocks without a window, and of those with one where theirs are others.
pub(super) fn rotaries(config: &Config) -> Vec<Rotary> {
    let variant = &config.variant;
    let mut rotaries = vec![Rotary::new(frequencies(config, false), config.context)];
    if variant.local_rope_theta.is_some() {
        rotaries.push(Rotary::new(frequencies(config, true), config.context));
    }
    rotaries
}

/// Frequencies of the channels of half a head, in radians per token, of blocks with or without a window.
pub(super) fn frequencies(config: &Config, windowed: bool) -> Vec<f64> {
    let half = config.head_width() / 2;
    let local = config.variant.local_rope_theta.filter(|_| windowed);
    let theta = local.unwrap_or(config.rope_theta);
    let scaling = if local.is_some() { RopeScaling::None } else { config.variant.rope_scaling };
    (0..half).map(|channel| stretch(theta.powf(-(channel as f64) / half as f64), scaling)).collect()
}

fn stretch(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let waves = original * frequency / (2.0 * std::f64::consts::PI);
            let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::tests::tiny;

    #[test]
    fn llama_3_keeps_short_waves_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(stretch(1.0, scaling), 1.0);
        assert_eq!(stretch(1e-5, scaling), 1e-5 / 8.0);
        let between = stretch(2.0 * std::f64::consts::PI * 2.0 / 8192.0, scaling);
        let frequency = 2.0 * std::f64::consts::PI * 2.0 / 8192.0;
        assert!((between / frequency - (2.0 / 3.0 / 8.0 + 1.0 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn a_long_table_continues_the_short_one() {
        let config = Config { context: 3 * SHORT, ..tiny() };
        let rotary = &rotaries(&config)[0];
        let (short, long) = (rotary.table(SHORT), rotary.table(SHORT + 1));
        assert!(long.sine.len() == 3 * short.sine.len() && long.sine.starts_with(&short.sine));
    }
}
