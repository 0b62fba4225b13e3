//! Removal by a predicate: judged inside, a few entries at a time, told of and dropped outside, after each
//! visit.

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
    /// Removes all entries of which `keep` says false, and returns how many there were. `moka` users know
    /// this as `invalidate_entries_if`, with the predicate the other way round; here it is done when this
    /// returns.
    ///
    /// Each entry that is there when this begins, and until it is visited, is judged once; it is not a use. A
    /// value that is stored under its key meanwhile is judged in its place, or not if the older one was.
    /// Entries that come meanwhile are judged if they come to where this has not been yet, and stay
    /// otherwise. Those past their deadline are not judged: they are reclaimed, and not counted. What a
    /// [load](Self::get_or_insert_with) under way brings is not stored, whatever its key, if the load began
    /// before; see [`invalidate_all`](Self::invalidate_all).
    ///
    /// A shard is held for about 32 entries at a time, so whoever needs one waits for some microseconds and
    /// not for the whole. After each such visit this thread tells the eviction listener of what it removed
    /// ([`Explicit`](crate::RemovalCause::Explicit)) and drops it, with nothing held. O(n) for n entries, or
    /// for as many as there ever were at once if that is more.
    ///
    /// `keep` runs where `Clone` would, perhaps on another thread, but never on two at once; and under the
    /// same rules: it must not block, and not call a cache and wait.
    ///
    /// # Panics
    /// If `keep` panics: what it had said false of before is removed, and all else stays. If the listener or
    /// `Drop` panics, all is judged and removed before the first such panic goes on. Also from inside code
    /// that a cache runs, and in a forked child of a process where the cache had threads. The cache stays
    /// valid.
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
                    // Caught, so that the room of what was removed before goes back, and nothing of it is
                    // dropped by unwinding.
                    let judged = catch_unwind(AssertUnwindSafe(|| {
                        let keep = |entry: sark_shard::EntryRef<'_, K, V>| keep(entry.key, entry.value);
                        cell.shard.retain_some(&mut walk, VISITED_AT_ONCE, now, keep, &mut out)
                    }));
                    if !out.is_empty() {
                        cell.balance();
                    }
                    judged
                });
                // What is left is judged whatever this does.
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
