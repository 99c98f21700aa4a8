//! Independent pieces of work, shared out among threads.

/// Does `work` on every item, consecutive ones on one thread; returns when all are done. What an item computes must not
/// depend on the others, so that the number of threads changes nothing but the time.
pub fn share<T: Send>(threads: usize, items: &mut [T], work: impl Fn(&mut T) + Sync) {
    let each = items.len().div_ceil(threads.max(1)).max(1);
    if each >= items.len() {
        return items.iter_mut().for_each(work);
    }
    std::thread::scope(|scope| {
        for items in items.chunks_mut(each) {
            scope.spawn(|| items.iter_mut().for_each(&work));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_by_any_number_of_threads() {
        for threads in [0, 1, 2, 3, 8, 20] {
            for count in [0, 1, 2, 7, 16] {
                let mut items: Vec<usize> = (0..count).collect();
                share(threads, &mut items, |item| *item += 100);
                assert_eq!(items, (100..100 + count).collect::<Vec<_>>());
            }
        }
    }
}
