//! Answers without a score: what they could change, and when somebody should be told.

use std::collections::BTreeMap;

use super::{Estimate, Interval, Range};

/// The share of answers without a score, and the difference of that share between groups, above which people are told.
const TOLERATED_SHARE: f64 = 0.05;

/// Bounds of the mean of all answers when each missing one may have had any score: [(Σ + m·a)/N, (Σ + m·b)/N].
pub fn worst_case(sum_of_present: f64, present: usize, missing: usize, range: Range) -> Interval {
    let n = (present + missing) as f64;
    Interval {
        low: (sum_of_present + missing as f64 * range.low) / n,
        high: (sum_of_present + missing as f64 * range.high) / n,
    }
}

/// One sentence for each group that misses more than 5 % of its scores, and one when groups differ by more than 5
/// points in what they miss, because then their comparison may be one of what could be scored.
pub fn missing_warnings(groups: &[(&str, &Estimate)]) -> Vec<String> {
    let share = |estimate: &Estimate| estimate.missing.values().sum::<usize>() as f64 / estimate.samples.max(1) as f64;
    let mut warnings: Vec<String> = groups
        .iter()
        .filter(|(_, estimate)| share(estimate) > TOLERATED_SHARE)
        .map(|(name, estimate)| {
            let count: usize = estimate.missing.values().sum();
            format!(
                "`{name}`: {:.1} % of the answers have no score ({count} of {}: {}); with them the mean lies between {:.1} and {:.1}",
                100.0 * share(estimate),
                estimate.samples,
                reasons(&estimate.missing),
                estimate.worst_case.low,
                estimate.worst_case.high
            )
        })
        .collect();
    let least = groups.iter().min_by(|a, b| share(a.1).total_cmp(&share(b.1)));
    let most = groups.iter().max_by(|a, b| share(a.1).total_cmp(&share(b.1)));
    if let (Some(least), Some(most)) = (least, most)
        && share(most.1) - share(least.1) > TOLERATED_SHARE
    {
        warnings.push(format!(
            "`{}` misses {:.1} % of its scores, `{}` {:.1} %: their difference may come from what could be scored",
            most.0,
            100.0 * share(most.1),
            least.0,
            100.0 * share(least.1)
        ));
    }
    warnings
}

fn reasons(missing: &BTreeMap<String, usize>) -> String {
    let reasons: Vec<_> = missing.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.join(", ")
}
