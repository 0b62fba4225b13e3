//! Removal by a predicate.
//!
//! Entries are judged inside their shard, a few at a time. What leaves is reported and dropped outside, after
//! each visit.

use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sark_shard::Walk;

use crate::Cache;
use crate::iter::VISITED_AT_ONCE;
use crate::outgoing::FirstPanic;
use crate::resident::Cell;

impl<K, V, H> Cache<K, V, H>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    H: BuildHasher,
{
    /// Removes the entries for which `keep` returns false. Returns how many it removed.
    ///
    /// `moka` users know this as `invalidate_entries_if`, with the predicate the other way round. Here all is
    /// done when the call returns.
    ///
    /// Each entry that is there when the call begins, and is still there when it is visited, is judged once.
    /// Judging an entry is not a use. If a new value is stored under its key meanwhile, one of the two values
    /// is judged. Entries that are stored meanwhile are judged only if they come to a place that has not been
    /// visited yet. Entries past their deadline are not judged: they are reclaimed, and not counted. As with
    /// [`invalidate_all`](Self::invalidate_all), no value is stored whose
    /// [load](Self::get_or_insert_with) began before this call.
    ///
    /// A shard is held for about 32 entries at a time, so other callers wait for some microseconds at most.
    /// After each such visit the calling thread reports what was removed to the eviction listener, as
    /// [`Explicit`](crate::RemovalCause::Explicit), and drops it, with nothing held. O(n) for n entries, or
    /// for the greatest number of entries there ever was.
    ///
    /// `keep` runs where `Clone` would: perhaps on another thread, but never on two at once. The same rules
    /// apply: it must not block, and must not call a cache and wait.
    ///
    /// # Panics
    /// If `keep` panics, the entries that it had rejected before are gone, and all others stay. If the
    /// listener or a `Drop` panics, all entries are judged before the first such panic goes on. Panics also
    /// from inside code that a sark cache runs, and in a forked child of a process where the cache had
    /// threads. The cache stays valid.
    ///
    /// ```
    /// let cache = sark_cache::Cache::new(100);
    /// cache.insert_many((0..10).map(|number| (number, number * number)));
    /// assert_eq!(cache.retain(|_, square| square % 2 == 0), 5);
    /// assert_eq!((cache.get(&3), cache.get(&4)), (None, Some(16)));
    /// ```
    #[doc(alias = "invalidate_entries_if")]
    #[doc(alias = "remove_if")]
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool + Send) -> u64 {
        let inner = self.inner();
        inner.loads.outdate(None);
        let mut panicked = FirstPanic::default();
        let mut removed = 0;
        'shards: for index in 0..inner.delegates.len() {
            let mut walk = Walk::new();
            while !walk.is_over() {
                let now = inner.common.time.for_reading();
                let mut out = inner.outgoing();
                let judged = inner.delegates.run(index, |cell: &mut Cell<K, V>| {
                    // Caught here, so that the room of what was removed before goes back to the ledger, and
                    // no entry is dropped by unwinding.
                    let judged = catch_unwind(AssertUnwindSafe(|| {
                        let keep = |entry: sark_shard::EntryRef<'_, K, V>| keep(entry.key, entry.value);
                        cell.shard.retain_some(&mut walk, VISITED_AT_ONCE, now, keep, &mut out)
                    }));
                    if !out.is_empty() {
                        cell.balance();
                    }
                    judged
                });
                // A panic here doesn't keep the other entries from being judged.
                panicked.catch(|| drop(out));
                match judged {
                    Ok(count) => removed += count as u64,
                    Err(panic) => {
                        panicked.note(panic);
                        break 'shards;
                    }
                }
            }
        }
        panicked.go_on();
        removed
    }
}
