//! Amounts of money, exact to the nano-dollar, and prices of tokens that multiply into them.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::Deserialize;

/// Nano-dollars of a dollar.
const NANOS: u64 = 1_000_000_000;
/// Parts that a dollar per million tokens and a share of 1 are counted in.
const MILLION: f64 = 1e6;

/// An amount of dollars. It is counted in nano-dollars: a token costs some tens or thousands of them, so that a single
/// call is exact where micro-dollars would round it, and 64 bits still hold eighteen thousand million dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// This many nano-dollars, as the store keeps them.
    pub fn from_nanos(nanos: u64) -> Self {
        Money(nanos)
    }
    /// This many dollars to the nearest nano-dollar; none for what is no amount.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        (0.0..1e9).contains(&dollars).then(|| Money((dollars * NANOS as f64).round() as u64))
    }
    /// In nano-dollars.
    pub fn nanos(self) -> u64 {
        self.0
    }
    /// In dollars, for files that programs read.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
    /// What is left after taking away `other`, and nothing where that is more.
    pub fn less(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
    /// This many times the amount.
    pub fn times(self, count: u64) -> Money {
        Money(self.0.saturating_mul(count))
    }
    /// A part of a nano-dollar is a whole one, so that no sum of costs is below the bill.
    pub(super) fn of_picos(picos: u128) -> Money {
        Money(u64::try_from(picos.div_ceil(1000)).unwrap_or(u64::MAX))
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// To the cent, and to two digits where there is no whole ten cents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.checked_ilog10().map_or(0, |log| log + 1);
        let decimals = if self.0 == 0 { 2 } else { 11u32.saturating_sub(digits).clamp(2, 9) };
        let unit = 10u64.pow(9 - decimals);
        let rounded = self.0 / unit + u64::from(self.0 % unit >= unit.div_ceil(2) && unit > 1);
        let whole = 10u64.pow(decimals);
        write!(f, "${}.{:0width$}", rounded / whole, rounded % whole, width = decimals as usize)
    }
}

/// Dollars per million tokens, kept as pico-dollars of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "f64")]
pub struct Rate(u64);

impl Rate {
    /// Nothing.
    pub const ZERO: Rate = Rate(0);

    /// Dollars per million tokens.
    pub fn dollars_per_million(self) -> f64 {
        self.0 as f64 / MILLION
    }
    pub(super) fn picos(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

impl TryFrom<f64> for Rate {
    type Error = String;
    fn try_from(dollars: f64) -> Result<Self, String> {
        match in_millionths(dollars, 100_000.0) {
            Some(picos) => Ok(Rate(picos)),
            None => Err(format!("a price is dollars per million tokens with at most six decimals, found {dollars}")),
        }
    }
}

/// A share of 1, kept in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Share(u64);

impl Share {
    /// All of it.
    pub(super) const WHOLE: Share = Share(MILLION as u64);

    /// This share of an amount, rounded up; an amount beyond all money stays that.
    pub(super) fn of(self, picos: u128) -> u128 {
        picos.saturating_mul(u128::from(self.0)).div_ceil(MILLION as u128)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;
    fn try_from(share: f64) -> Result<Self, String> {
        match in_millionths(share, 1.0).filter(|share| *share > 0) {
            Some(millionths) => Ok(Share(millionths)),
            None => Err(format!("`batch_factor` is above 0 and at most 1, found {share}")),
        }
    }
}

fn in_millionths(number: f64, most: f64) -> Option<u64> {
    let millionths = number * MILLION;
    let is_whole = (millionths - millionths.round()).abs() < 1e-3;
    ((0.0..=most).contains(&number) && is_whole).then(|| millionths.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_to_the_cent_or_to_two_digits() {
        let written = |nanos: u64| Money::from_nanos(nanos).to_string();
        assert_eq!(written(0), "$0.00");
        assert_eq!(written(5_000_000_000), "$5.00");
        assert_eq!(written(12_345_678_901), "$12.35");
        assert_eq!(written(420_000_000), "$0.42");
        assert_eq!(written(43_210_000), "$0.043");
        assert_eq!(written(750), "$0.00000075");
        assert_eq!(written(25), "$0.000000025");
        assert_eq!(written(3), "$0.000000003");
        assert_eq!(written(999_999_999), "$1.00");
        assert_eq!(Money::from_dollars(-1.0), None);
        assert_eq!(Money::from_dollars(f64::NAN), None);
    }

    #[test]
    fn sums_and_parts_are_exact_and_a_part_of_a_nano_dollar_is_rounded_up() {
        let tenth = Money::from_dollars(0.1).unwrap();
        assert_eq!((0..10).map(|_| tenth).sum::<Money>(), Money::from_dollars(1.0).unwrap());
        assert_eq!(tenth.times(3).less(tenth.times(2)), tenth);
        assert_eq!(tenth.less(tenth.times(2)), Money::ZERO);
        assert_eq!([0, 1, 1000, 1001].map(|picos| Money::of_picos(picos).nanos()), [0, 1, 1, 2]);
        assert_eq!(Share::try_from(0.5).unwrap().of(3), 2);
    }

    #[test]
    fn a_rate_keeps_the_decimals_of_every_price_list() {
        for dollars in [0.0, 0.000001, 0.0375, 1.875, 0.025, 25.0, 0.1 + 0.2, 60.0] {
            let rate = Rate::try_from(dollars).unwrap();
            assert!((rate.dollars_per_million() - dollars).abs() < 1e-12, "{dollars}");
        }
        for wrong in [-1.0, 1e-7, f64::NAN, f64::INFINITY, 1e6] {
            assert!(Rate::try_from(wrong).is_err(), "{wrong}");
        }
        assert!([0.0, -0.5, 1.5, f64::NAN].iter().all(|wrong| Share::try_from(*wrong).is_err()));
    }
}
