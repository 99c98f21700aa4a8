//! Cuts a dataset into named parts: shuffled by a seed, capped, then cut in the order of the names.

use crate::data::dataset::Dataset;
use crate::data::random::Random;
use crate::error::Result;
use crate::{bail, ensure};

/// How far shares may be from 1 in sum.
const TOLERANCE: f64 = 1e-9;

/// Parts of `dataset` of these shares (together 1): floor(n x share) rows each, the last one has the rest; n is the number of
/// rows or `most`. Rows are shuffled before they are capped and cut, so that parts of one seed never share a row.
///
/// # Errors
/// Shares that are not 1 together, and a part without any row.
pub fn split(
    dataset: &Dataset,
    shares: &[(String, f64)],
    most: Option<usize>,
    seed: u64,
) -> Result<Vec<(String, Dataset)>> {
    ensure!(!shares.is_empty(), "`{}` is to be cut into no parts", dataset.name(); help: "name at least one part");
    for (name, share) in shares {
        ensure!((0.0..=1.0).contains(share), "the share of `{name}` is {share}"; help: "write a share from 0 to 1");
    }
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    ensure!((sum - 1.0).abs() <= TOLERANCE, "the shares are {sum} together, not 1"; help: "change one of them by {}", 1.0 - sum);
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    Random::stream(seed, &[0x5B17]).shuffle(&mut order);
    order.truncate(most.unwrap_or(usize::MAX));
    let (count, mut begin) = (order.len(), 0);
    let mut parts = Vec::with_capacity(shares.len());
    for (index, (name, share)) in shares.iter().enumerate() {
        let last = index + 1 == shares.len();
        // A product such as 0.29 x 100 is a little less than the whole number that is meant.
        let wanted = (count as f64 * share + TOLERANCE).floor() as usize;
        let end = if last { count } else { (begin + wanted).min(count) };
        if begin == end && *share > 0.0 {
            bail!("`{name}` would have no rows: {share} of {count}"; help: "give it a larger share, or take more rows");
        }
        let part = dataset.select(&order[begin..end])?.with_name(format!("{} {name}", dataset.name()));
        parts.push((name.clone(), part));
        begin = end;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::data::chat::{Message, Role, Row};

    fn rows(count: usize) -> Dataset {
        let row =
            |n: usize| Row::new(vec![Message::new(Role::User, format!("q{n}")), Message::new(Role::Assistant, "a")]);
        Dataset::from_rows("rows", (0..count).map(row).collect()).unwrap()
    }

    fn shares(values: &[f64]) -> Vec<(String, f64)> {
        values.iter().enumerate().map(|(index, share)| (format!("p{index}"), *share)).collect()
    }

    #[test]
    fn sizes_are_those_of_the_published_split() {
        let parts = split(&rows(2500), &shares(&[0.4, 0.1, 0.4, 0.1]), Some(2000), 1).unwrap();
        assert_eq!(parts.iter().map(|(_, part)| part.len()).collect::<Vec<_>>(), [800, 200, 800, 200]);
        let hundred = split(&rows(100), &shares(&[0.29, 0.71]), None, 0).unwrap();
        assert_eq!(hundred[0].1.len(), 29);
    }

    #[test]
    fn wrong_shares_and_empty_parts_are_refused() {
        assert!(split(&rows(10), &shares(&[0.5, 0.4]), None, 0).unwrap_err().message.contains("not 1"));
        assert!(
            split(&rows(3), &shares(&[0.1, 0.9]), None, 0).unwrap_err().message.contains("`p0` would have no rows")
        );
        assert!(split(&rows(3), &shares(&[1.5, -0.5]), None, 0).is_err());
    }

    proptest! {
        #[test]
        fn parts_share_no_row_and_lose_none(count in 1usize..200, cut in 0usize..=100, seed in 0u64..9) {
            let share = cut as f64 / 100.0;
            let parts = match split(&rows(count), &shares(&[share, 1.0 - share]), None, seed) {
                Ok(parts) => parts,
                Err(_) => return Ok(()),
            };
            let texts: Vec<String> = parts.iter().flat_map(|(_, part)| part.rows()).map(|row| row.messages[0].content.clone()).collect();
            prop_assert_eq!(texts.len(), count);
            prop_assert_eq!(texts.into_iter().collect::<BTreeSet<_>>().len(), count);
        }
    }
}
