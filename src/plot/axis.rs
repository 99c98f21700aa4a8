//! From values to pixels: ranges, round ticks, the numbers beside them, and which of them have room.

use super::figure::{Axis, Scale};

/// A monotone map from values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Mapping {
    /// Maps `range` onto the pixels from `start` to `end`, leaving free the given parts of the whole below and above.
    pub fn new(scale: Scale, range: (f64, f64), (start, end): (f64, f64), (below, above): (f64, f64)) -> Self {
        let (low, high) = (bend(scale, range.0), bend(scale, range.1));
        let whole = end - start;
        // A single value stands in the middle.
        let (low, high) = if low < high { (low, high) } else { (low - 0.5, high + 0.5) };
        Mapping { scale, low, high, start: start + below * whole, end: end - above * whole }
    }

    /// Pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let share = (bend(self.scale, value) - self.low) / (self.high - self.low);
        self.start + share * (self.end - self.start)
    }
}

fn bend(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        // Interval ends at or below zero lie below every axis.
        Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
    }
}

/// Range and ticks of a y axis: the declared range widened to hold `must` (means, seeds), or, without one, round numbers
/// around `must` and `may` (interval ends).
pub(super) fn range_and_ticks(axis: &Axis, must: &[f64], may: &[f64]) -> ((f64, f64), Vec<f64>) {
    let (low, high) = match axis.range {
        Some((low, high)) => extent(must.iter().copied().chain([low, high])),
        None => {
            let all = must.iter().chain(may).copied();
            let (low, high) = extent(all.filter(|value| axis.scale == Scale::Linear || *value > 0.0));
            let (low, high) = if low < high { (low, high) } else { widened(axis.scale, low) };
            match axis.scale {
                Scale::Linear => {
                    let step = round_step(high - low);
                    ((low / step).floor() * step, (high / step).ceil() * step)
                }
                Scale::Log => (low, high),
            }
        }
    };
    let ticks = match (&axis.ticks, axis.scale) {
        (Some(ticks), _) => ticks.iter().copied().filter(|tick| (low..=high).contains(tick)).collect(),
        (None, Scale::Linear) => round_ticks(low, high),
        (None, Scale::Log) => decade_ticks(low, high),
    };
    ((low, high), ticks)
}

/// Smallest and largest of some values.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn widened(scale: Scale, value: f64) -> (f64, f64) {
    match scale {
        Scale::Linear => {
            let half = if value == 0.0 { 0.5 } else { 0.1 * value.abs() };
            (value - half, value + half)
        }
        Scale::Log => (value / 2.0, value * 2.0),
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, so that four to seven steps make up `length`.
fn round_step(length: f64) -> f64 {
    let rough = length / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough)
}

fn round_ticks(low: f64, high: f64) -> Vec<f64> {
    let step = round_step(high - low);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

fn decade_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    for factors in [&[1.0][..], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]] {
        let ticks: Vec<f64> = (first..=last)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(|tick| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(tick))
            .collect();
        if ticks.len() >= 3 {
            return ticks;
        }
    }
    round_ticks(low, high).into_iter().filter(|tick| *tick > 0.0).collect()
}

/// A number as people write it: four significant digits, no trailing zeros, groups of three from 10,000, a true minus.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..9).contains(&magnitude) {
        return format!("{value:.2e}").replace('-', "\u{2212}");
    }
    let decimals = (3 - magnitude).clamp(0, 9) as usize;
    let text = format!("{:.decimals$}", value.abs());
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if whole.len() > 4 && index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

/// Which of the labels (center and width in pixels, from left to right) are written so that `gap` pixels stay between any
/// two: all; or every second, third, … where that ends on the last one; or the outer two and what fits between them.
pub(super) fn choose_labels(labels: &[(f64, f64)], gap: f64) -> Vec<bool> {
    let clear = |a: usize, b: usize| (labels[a].0 - labels[b].0).abs() >= (labels[a].1 + labels[b].1) / 2.0 + gap;
    let last = labels.len().saturating_sub(1);
    let all_clear = |stride: &usize| (*stride..labels.len()).step_by(*stride).all(|index| clear(index - stride, index));
    let mut strides = (1..=last / 4).filter(|stride| last.is_multiple_of(*stride));
    if let Some(stride) = std::iter::once(1).chain(strides.by_ref()).find(all_clear) {
        return (0..labels.len()).map(|index| index.is_multiple_of(stride)).collect();
    }
    let mut kept: Vec<usize> = Vec::new();
    for index in [0, last].into_iter().chain(1..last) {
        if kept.iter().all(|other| clear(index, *other)) {
            kept.push(index);
        }
    }
    (0..labels.len()).map(|index| kept.contains(&index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_read_well() {
        let cases = [
            (0.0, "0"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.3"),
            (0.25, "0.25"),
            (-2.5, "\u{2212}2.5"),
            (100.0, "100"),
            (2000.0, "2000"),
            (25_000.0, "25,000"),
            (1_000_000.0, "1,000,000"),
            (0.0001, "0.0001"),
            (1e-9, "1.00e\u{2212}9"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn ticks_are_round_and_within_the_declared_range() {
        let axis = Axis { range: Some((0.0, 100.0)), ..Axis::default() };
        let (range, ticks) = range_and_ticks(&axis, &[3.0], &[-20.0]);
        assert_eq!(range, (0.0, 100.0));
        assert_eq!(ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let (range, _) = range_and_ticks(&axis, &[120.0], &[]);
        assert_eq!(range, (0.0, 120.0));
        let axis = Axis { scale: Scale::Log, ..Axis::default() };
        assert_eq!(range_and_ticks(&axis, &[1.0, 1000.0], &[-1.0]).1, [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn even_labels_are_thinned_evenly_and_sparse_ones_not_at_all() {
        let labels: Vec<_> = (0..41).map(|index| (f64::from(index) * 15.0, 30.0)).collect();
        let kept: Vec<_> =
            choose_labels(&labels, 6.0).iter().enumerate().filter(|(_, keep)| **keep).map(|(at, _)| at).collect();
        assert_eq!(kept, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
        assert_eq!(choose_labels(&[(0.0, 10.0), (30.0, 20.0), (300.0, 20.0)], 6.0), [true; 3]);
        assert_eq!(choose_labels(&[(0.0, 10.0), (10.0, 20.0), (300.0, 20.0)], 6.0), [true, false, true]);
    }

    proptest! {
        #[test]
        fn mapping_is_monotone(mut values in prop::collection::vec(0.001f64..1e6, 2..20), log: bool) {
            values.sort_by(f64::total_cmp);
            let scale = if log { Scale::Log } else { Scale::Linear };
            let mapping = Mapping::new(scale, (values[0], values[values.len() - 1]), (400.0, 20.0), (0.04, 0.04));
            let pixels: Vec<f64> = values.iter().map(|value| mapping.at(*value)).collect();
            prop_assert!(pixels.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert!(pixels.iter().all(|pixel| (20.0..=400.0).contains(pixel)));
        }

        #[test]
        fn every_value_lies_within_its_axis(values in prop::collection::vec(-1e4f64..1e4, 1..10)) {
            let ((low, high), ticks) = range_and_ticks(&Axis::default(), &values, &[]);
            prop_assert!(low < high && values.iter().all(|value| (low..=high).contains(value)));
            prop_assert!((2..=12).contains(&ticks.len()), "{:?}", ticks);
        }

        #[test]
        fn chosen_labels_never_touch(mut centers in prop::collection::vec(0f64..500.0, 1..30), width in 5f64..80.0) {
            centers.sort_by(f64::total_cmp);
            let labels: Vec<_> = centers.iter().map(|center| (*center, width)).collect();
            let kept: Vec<_> = labels.iter().zip(choose_labels(&labels, 4.0)).filter(|(_, keep)| *keep).collect();
            prop_assert!(!kept.is_empty());
            prop_assert!(kept.windows(2).all(|pair| pair[1].0.0 - pair[0].0.0 >= width + 4.0 - 1e-9));
        }
    }
}
