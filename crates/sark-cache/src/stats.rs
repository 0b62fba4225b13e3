//! What a cache counts.

use sark_delegate::DispatchCounts;
use sark_shard::Counters;

/// Counts since the cache was made; see [`Cache::stats`](crate::Cache::stats).
///
/// They wrap at 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry: those of `get`, `get_with`, `get_many`, `update`,
    /// `get_or_insert_with` and the other methods that load.
    pub hits: u64,
    /// Such look-ups that found no entry, or an expired one.
    pub misses: u64,
    /// Those of `misses` that found an entry past its deadline.
    pub expired_on_get: u64,
    /// Entries stored under a new key.
    pub inserted: u64,
    /// Values that gave way to a newer one under the same key. They were exchanged for it, or forgotten
    /// because the newer one was rejected: for being too heavy, for having a time-to-live of zero, or as a
    /// post without room.
    pub replaced: u64,
    /// Entries evicted to make room.
    pub evicted: u64,
    /// Entries that left because their deadline had come, however that was noticed.
    pub expired: u64,
    /// Entries removed by `remove`, `invalidate`, `invalidate_all` or `retain`.
    pub removed: u64,
    /// Entries that were not stored. They were heavier than the whole cache, had a time-to-live of zero, were
    /// invalidated while they were being loaded, or were posted when only other shards could have made room
    /// for them.
    pub rejected: u64,
    /// How requests were served.
    pub dispatch: DispatchCounts,
}

impl Stats {
    /// Hits per look-up, from 0 to 1. Zero if there were no look-ups.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }

    pub(crate) fn add(&mut self, shard: &Counters) {
        self.hits += shard.hits;
        self.misses += shard.misses;
        self.expired_on_get += shard.expired_on_get;
        self.inserted += shard.inserted;
        self.replaced += shard.replaced;
        self.evicted += shard.evicted;
        self.expired += shard.expired;
        self.removed += shard.explicit;
        self.rejected += shard.rejected;
    }
}
