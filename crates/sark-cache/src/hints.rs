//! Tells callers where each shard's index is, before they have the shard.
//!
//! The thread that runs a shard writes the hint when the index has moved, and every caller reads it before it
//! tries for the shard. So the first cache line of a look-up is on its way while the caller takes ownership,
//! which orders all later loads after itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use sark_shard::ProbeHint;

/// A [`ProbeHint`] that threads share. Relaxed, because two words that don't belong together make a useless
/// hint, and no wrong result.
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

    /// Stores `hint` if it differs. Usually it doesn't, and then the cache line stays with all threads that
    /// read it.
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
