//! One text: which features are active and how strongly, drawn from a stream of its own.

use super::ROW;
use super::options::Noise;
use super::plan::{FACTORS, LOADINGS, Plan, ROW_SPREAD, SPREAD};
use crate::data::random::Random;

/// What is not 0 of one text, columns ascending.
pub(super) struct Row {
    pub(super) columns: Vec<u32>,
    pub(super) values: Vec<f32>,
}

/// By how much the logarithm of a value moves when the log-odds of being active move by 1: stronger and more often.
const VALUE_SHARE: f64 = 0.1;

impl Plan<'_> {
    /// The text at this place of a source; equal places give equal texts.
    pub(super) fn row(&self, source: usize, index: usize, positive: bool) -> Row {
        let mut random = self.options.stream(&[ROW, source as u64, index as u64]);
        let features = self.features(source);
        let mut table = [0.0f32; FACTORS * LOADINGS.len()];
        for loadings in table.chunks_mut(LOADINGS.len()) {
            let factor = random.normal();
            loadings.iter_mut().zip(LOADINGS).for_each(|(odds, loading)| *odds = (loading * factor).exp() as f32);
        }
        let level = ROW_SPREAD * random.normal();
        // Texts show the difference between the classes more or less clearly, so that no probe is perfect.
        let clarity = if positive { random.uniform() } else { -random.uniform() };
        let (mut odds, mut medians) = (features.odds.clone(), features.medians.clone());
        for (column, effect) in &features.signal {
            odds[*column] *= (clarity * effect).exp() as f32;
            medians[*column] += (VALUE_SHARE * clarity * effect) as f32;
        }
        let mut row = Row { columns: Vec::with_capacity(odds.len() / 4), values: Vec::with_capacity(odds.len() / 4) };
        for (column, (odds, slot)) in odds.iter().zip(&self.slots).enumerate() {
            let odds = odds * table[*slot as usize];
            let uniform = (random.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
            // The chance is odds / (1 + odds).
            if uniform * (1.0 + odds) < odds {
                let value = f64::from(medians[column]) + level + SPREAD * random.normal();
                row.columns.push(column as u32);
                row.values.push(round_to_bf16(value.exp() as f32));
            }
        }
        row
    }
}

/// A copy of `parent`: some columns are as in `other`, the values of the rest are a little off.
pub(super) fn blur(parent: &Row, other: &Row, noise: Noise, random: &mut Random) -> Row {
    let (replaced, deviation) = noise.amounts();
    let mut row = Row { columns: Vec::new(), values: Vec::new() };
    let (mut left, mut right) = (0, 0);
    let column_at = |row: &Row, place: usize| row.columns.get(place).copied().unwrap_or(u32::MAX);
    while left < parent.columns.len() || right < other.columns.len() {
        let column = column_at(parent, left).min(column_at(other, right));
        let (ours, theirs) = (column_at(parent, left) == column, column_at(other, right) == column);
        let (take_other, factor) = (random.chance(replaced), (deviation * random.normal()).exp() as f32);
        let value = match take_other {
            true => theirs.then(|| other.values[right]),
            false => ours.then(|| round_to_bf16(parent.values[left] * factor)),
        };
        if let Some(value) = value {
            row.columns.push(column);
            row.values.push(value);
        }
        left += usize::from(ours);
        right += usize::from(theirs);
    }
    row
}

/// The nearest f32 whose low 16 bits are 0, ties to even; for finite positive values, never 0.
fn round_to_bf16(value: f32) -> f32 {
    let bits = value.clamp(f32::MIN_POSITIVE, 3.0e38).to_bits();
    f32::from_bits((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000)
}
