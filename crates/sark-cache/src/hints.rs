//! Where each shard's index is, for callers that don't have the shard yet.
//!
//! Written by whoever runs the shard when its index has moved, read by everybody before they try for the shard: then the
//! first cache line of a look-up is on its way while ownership is taken, which orders all loads after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use sark_shard::ProbeHint;

/// A [`ProbeHint`] to be shared. Relaxed: two words that don't belong together make a useless hint, and no wrong result.
#[derive(Debug, Default)]
pub(crate) struct SharedHint {
    base: AtomicUsize,
    lines: AtomicUsize,
}

impl SharedHint {
    #[inline(always)]
    pub(crate) fn get(&self) -> ProbeHint {
        ProbeHint { base: self.base.load(Ordering::Relaxed), lines: self.lines.load(Ordering::Relaxed) }
    }

    /// Stores it if it is another one: as a rule it isn't, and the line stays with all who read it.
    #[inline]
    pub(crate) fn update(&self, hint: ProbeHint) {
        if self.get() != hint {
            self.base.store(hint.base, Ordering::Relaxed);
            self.lines.store(hint.lines, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cache, Dispatch};

    #[test]
    fn callers_know_where_each_index_is_however_it_grew() {
        for (dispatch, hinted) in [(Dispatch::Adaptive, 3), (Dispatch::PerCore, 0)] {
            let cache: Cache<u64, u64> =
                Cache::builder().max_capacity(10_000).shards(3).dispatch(dispatch).pin(false).build().unwrap();
            let hints = &cache.inner().common.hints;
            assert_eq!(hints.len(), hinted);
            for key in 0..5000 {
                cache.insert(key, key);
            }
            for (index, hint) in hints.iter().enumerate() {
                let told = cache.inner().delegates.run(index, |cell| cell.shard.probe_hint());
                assert_eq!(hint.get(), told);
                assert!(told.lines >= 100, "{told:?} of a thousand entries and more");
            }
        }
    }
}
