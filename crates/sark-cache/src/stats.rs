//! What a cache tells about itself.

use sark_delegate::DispatchCounts;
use sark_shard::Counters;

/// Counts since the cache was made. They wrap at 2^64. See [`Cache::stats`](crate::Cache::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry: `get`, `get_with`, `get_many`, `update`, and those that `get_or_insert_with` and its kin
    /// make.
    pub hits: u64,
    /// Such look-ups that found none, or a dead one.
    pub misses: u64,
    /// Those of `misses` that found an entry past its deadline.
    pub expired_on_get: u64,
    /// Entries stored under a new key.
    pub inserted: u64,
    /// Values that gave way to a newer one under the same key: exchanged for it, or forgotten because it was refused, being too
    /// heavy for the cache or having a time-to-live of zero.
    pub replaced: u64,
    /// Entries evicted to make room.
    pub evicted: u64,
    /// Entries that left because their deadline had come, whoever reclaimed them.
    pub expired: u64,
    /// Entries removed by `remove`, `invalidate`, `invalidate_all` or `retain`.
    pub removed: u64,
    /// Entries that were not stored: heavier than the whole cache, or with a time-to-live of zero.
    pub rejected: u64,
    /// How requests were served.
    pub dispatch: DispatchCounts,
}

impl Stats {
    /// Hits per look-up, from 0 to 1; 0 if there was none.
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
