//! Bins of equal width: which one a score lies in, and how many lie in each.

/// The bin of a value within the range. Bins are closed below; the last one holds the upper end too.
pub(super) fn bin_of(value: f64, (low, high): (f64, f64), bins: usize) -> usize {
    let place = ((value - low) / (high - low) * bins as f64).floor();
    // Rounding may put a value that equals an edge just below it.
    let place = if place + 1.0 < bins as f64 && value >= edge(place as usize + 1, (low, high), bins) {
        place + 1.0
    } else {
        place
    };
    (place.max(0.0) as usize).min(bins - 1)
}

/// Lower edge of a bin.
pub(super) fn edge(bin: usize, (low, high): (f64, f64), bins: usize) -> f64 {
    low + (high - low) * bin as f64 / bins as f64
}

/// How many values lie in each bin.
pub(super) fn count(values: &[f64], range: (f64, f64), bins: usize) -> Vec<u64> {
    let mut counts = vec![0; bins];
    for value in values {
        counts[bin_of(*value, range, bins)] += 1;
    }
    counts
}

/// How many points lie in each pair of bins: a list per vertical bin, from below.
pub(super) fn count_pairs(points: &[(f64, f64)], x: (f64, f64), y: (f64, f64), bins: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; bins]; bins];
    for point in points {
        counts[bin_of(point.1, y, bins)][bin_of(point.0, x, bins)] += 1;
    }
    counts
}

/// A share in percent, with one digit after the point below ten.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let text = if percent == 0.0 || percent >= 9.95 { format!("{percent:.0}") } else { format!("{percent:.1}") };
    match text.as_str() {
        "0.0" => "< 0.1 %".to_string(),
        "100" if percent < 100.0 => "> 99 %".to_string(),
        _ => format!("{text} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ends_lie_in_bins_and_edges_in_the_upper_one() {
        let counts = count(&[0.0, 4.999, 5.0, 50.0, 99.9, 100.0], (0.0, 100.0), 20);
        assert_eq!((counts[0], counts[1], counts[10], counts[19]), (2, 1, 1, 2));
        for bins in 1..=100 {
            for bin in 0..bins {
                assert_eq!(bin_of(edge(bin, (0.0, 1.0), bins), (0.0, 1.0), bins), bin, "{bins} bins");
            }
            assert_eq!(bin_of(1.0, (0.0, 1.0), bins), bins - 1);
        }
    }

    #[test]
    fn pairs_are_counted_by_row_and_column() {
        let counts = count_pairs(&[(10.0, 90.0), (10.0, 90.0), (100.0, 0.0)], (0.0, 100.0), (0.0, 100.0), 2);
        assert_eq!(counts, [[0, 1], [2, 0]]);
    }

    #[test]
    fn percent_never_says_none_or_all_where_there_are_some() {
        let cases =
            [(0.0, "0 %"), (0.0001, "< 0.1 %"), (0.025, "2.5 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1.0, "100 %")];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }

    proptest! {
        #[test]
        fn no_score_is_lost(values in prop::collection::vec(-3f64..=3.0, 0..200), bins in 1usize..60) {
            let counts = count(&values, (-3.0, 3.0), bins);
            prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
        }
    }
}
