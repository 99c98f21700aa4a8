//! How far the fits of a call are, as one share that never falls.

use std::sync::Mutex;

use super::Options;
use crate::error::Result;

/// What every fit of a call has reached; fits that run at the same time tell it one after another.
pub(super) struct Progress<'a> {
    follow: &'a (dyn Fn(f64) -> Result<()> + Sync),
    tolerance: f64,
    /// Per fit, between 0 and 1: how far its bound has come from 1 to the tolerance, by their logarithms.
    shares: Mutex<Vec<f64>>,
}

impl<'a> Progress<'a> {
    /// Of so many fits, none begun.
    pub(super) fn new(options: &Options<'a>, fits: usize) -> Self {
        let Options { follow, tolerance, .. } = *options;
        Progress { follow, tolerance, shares: Mutex::new(vec![0.0; fits]) }
    }

    /// Passes on how near their optima some fits are, those from `first` on; an error stops them.
    pub(super) fn tell(&self, first: usize, bounds: impl IntoIterator<Item = f64>) -> Result<()> {
        let mut shares = self.shares.lock().expect("no panic while holding the shares");
        for (share, bound) in shares[first..].iter_mut().zip(bounds) {
            // A bound may rise again, and is not a number before the first step.
            *share = share.max(bound.ln() / self.tolerance.ln()).min(1.0);
        }
        let fits = shares.len() as f64;
        // Under the lock: what is passed on must not fall either.
        (self.follow)(shares.iter().sum::<f64>() / fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_one_of_logarithms_and_never_falls() {
        let told = Mutex::new(Vec::new());
        let follow = |share: f64| {
            told.lock().unwrap().push(share);
            Ok(())
        };
        let options = Options { tolerance: 1e-8, follow: &follow, ..Options::default() };
        let progress = Progress::new(&options, 4);
        progress.tell(0, [f64::INFINITY, f64::NAN]).unwrap();
        progress.tell(2, [1e-4, 10.0]).unwrap();
        progress.tell(2, [1e-2]).unwrap();
        progress.tell(0, [1e-12, 0.0]).unwrap();
        progress.tell(2, [0.0, 0.0]).unwrap();
        let told: Vec<f64> = told.lock().unwrap().iter().map(|share| (share * 1e9).round() / 1e9).collect();
        assert_eq!(told, [0.0, 0.125, 0.125, 0.625, 1.0]);
    }
}
