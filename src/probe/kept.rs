//! Inner products that stay at hand for the next fits on the same rows.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::kernel::InnerProducts;
use super::matrix::Values;
use super::product::Rows;
use crate::data::digest::Digest;

/// Matrices of inner products, the latest ones, up to so many bytes in all. Whoever asks for one that is being taken
/// waits for it; ask outside of rayon's threads, or the one who waits could be the one who takes.
pub struct KeptProducts {
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one asked for last at the end.
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Clone)]
struct Slot {
    key: Digest,
    bytes: usize,
    products: Arc<OnceLock<Arc<InnerProducts>>>,
}

/// Where fits look for inner products of their rows.
#[derive(Clone, Copy)]
pub struct Keeping<'a> {
    /// Those that are at hand.
    pub products: &'a KeptProducts,
    /// What identifies the values of all rows: equal rows have equal digests, other rows others.
    pub rows: Digest,
}

impl KeptProducts {
    /// Nothing yet.
    pub fn new(most_bytes: usize) -> Self {
        KeptProducts { most_bytes, state: Mutex::default() }
    }

    /// How many matrices were taken so far: those that were asked for and not at hand.
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the inner products")
    }

    /// The matrix of this key and size, taken by `take` unless it is at hand.
    fn get(&self, key: Digest, bytes: usize, take: impl FnOnce() -> InnerProducts) -> Arc<InnerProducts> {
        let slot = {
            let mut state = self.state();
            let slot = match state.slots.iter().position(|slot| slot.key == key) {
                Some(place) => state.slots.remove(place),
                None => {
                    state.taken += 1;
                    Slot { key, bytes, products: Arc::default() }
                }
            };
            // Room is made first, so that there are never more bytes than that but for those in use.
            while !state.slots.is_empty()
                && bytes + state.slots.iter().map(|s| s.bytes).sum::<usize>() > self.most_bytes
            {
                state.slots.remove(0);
            }
            if bytes <= self.most_bytes {
                state.slots.push(slot.clone());
            }
            slot
        };
        slot.products.get_or_init(|| Arc::new(take())).clone()
    }
}

impl Keeping<'_> {
    /// The inner products of these rows under this standardisation. Taken by `take` they must depend on nothing else:
    /// they are the same bytes whether they were at hand or not.
    pub(super) fn get(
        &self,
        rows: &Rows,
        chosen: &[usize],
        (mean, inverse_square): (&[f64], &[f64]),
        take: impl FnOnce() -> InnerProducts,
    ) -> Arc<InnerProducts> {
        let mut name = self.rows.0.to_vec();
        // The order of sums depends on how the values lie.
        for part in rows.parts() {
            name.push(match part.values() {
                Values::Dense32(_) => 0,
                Values::Dense64(_) => 1,
                Values::Sparse32(_) => 2,
                Values::Sparse64(_) => 3,
            });
            name.extend((part.rows() as u64).to_le_bytes());
        }
        name.extend((chosen.len() as u64).to_le_bytes());
        name.extend(chosen.iter().flat_map(|row| (*row as u64).to_le_bytes()));
        name.extend(mean.iter().chain(inverse_square).flat_map(|value| value.to_le_bytes()));
        self.products.get(Digest::of(&name), chosen.len() * chosen.len() * size_of::<f32>(), take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::kernel::inner_products;
    use crate::probe::matrix::Matrix;

    fn row(value: f64) -> Matrix {
        Matrix::new(2, 1, Values::Dense64(vec![value, 1.0])).unwrap()
    }

    #[test]
    fn what_is_at_hand_is_not_taken_again_and_the_latest_stay() {
        let matrix = row(3.0);
        let rows = Rows::new(&[&matrix]).unwrap();
        // Of 2 x 2 values of 4 bytes, two have room.
        let products = KeptProducts::new(40);
        let taken_after = |name: &[u8], mean: f64| {
            let keeping = Keeping { products: &products, rows: Digest::of(name) };
            keeping.get(&rows, &[0, 1], (&[mean], &[1.0]), || inner_products(&rows, &[0, 1], &[mean], &[1.0]));
            products.taken()
        };
        assert_eq!([taken_after(b"a", 0.0), taken_after(b"a", 0.0)], [1, 1]);
        assert_eq!([taken_after(b"b", 0.0), taken_after(b"b", 0.5)], [2, 3], "other rows, another standardisation");
        assert_eq!([taken_after(b"b", 0.0), taken_after(b"a", 0.0)], [3, 4], "the one not asked for longest went");
    }

    #[test]
    fn what_has_no_room_is_taken_every_time() {
        let matrix = row(3.0);
        let rows = Rows::new(&[&matrix]).unwrap();
        let products = KeptProducts::new(15);
        let keeping = Keeping { products: &products, rows: Digest::of(b"a") };
        for expected in 1..=2 {
            keeping.get(&rows, &[0, 1], (&[0.0], &[1.0]), || inner_products(&rows, &[0, 1], &[0.0], &[1.0]));
            assert_eq!(products.taken(), expected);
        }
    }

    #[test]
    fn calls_at_the_same_time_wait_for_one_matrix() {
        let matrix = row(3.0);
        let products = KeptProducts::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let rows = Rows::new(&[&matrix]).unwrap();
                    let keeping = Keeping { products: &products, rows: Digest::of(b"a") };
                    let mut own = false;
                    keeping.get(&rows, &[0, 1], (&[0.0], &[1.0]), || {
                        own = true;
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        inner_products(&rows, &[0, 1], &[0.0], &[1.0])
                    });
                    own
                });
            }
        });
        assert_eq!(products.taken(), 1);
    }
}
