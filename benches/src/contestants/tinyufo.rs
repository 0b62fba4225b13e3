//! `tinyufo`: the crate's cache with the fast tables its users get, and with its own hasher, which can't be
//! replaced.
//!
//! It keeps hashes and no keys. Two keys with the same hash are one entry to it, and it needs no memory for
//! keys.

use std::sync::atomic::{AtomicI64, Ordering};

use ::tinyufo::TinyUfo;

use super::{Absent, Capacity, Contestant, Key, Plan, Value};

/// The cache.
pub struct TinyUfoCache<K, V> {
    cache: TinyUfo<K, V>,
    /// The number of entries, which the cache doesn't tell. It is counted from what goes in and what comes
    /// back, but only if those differ, so that a full cache is not slowed down.
    entries: AtomicI64,
}

impl<K: Key, V: Value> Contestant<K, V> for TinyUfoCache<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let Capacity::Entries(entries) = plan.capacity else {
            return Err(Absent("its weights end at 65535, below the size of large entries".into()));
        };
        if plan.shards.is_some_and(|shards| shards > 1) {
            return Err(Absent("it has one policy for all entries".into()));
        }
        let entries = entries as usize;
        Ok(Self { cache: TinyUfo::new(entries, entries), entries: AtomicI64::new(0) })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        let gone = self.cache.put(key, value, 1);
        if gone.len() != 1 {
            self.entries.fetch_add(1 - gone.len() as i64, Ordering::Relaxed);
        }
    }

    fn remove(&self, key: &K) -> bool {
        let gone = self.cache.remove(key).is_some();
        self.entries.fetch_sub(gone.into(), Ordering::Relaxed);
        gone
    }

    fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed).unsigned_abs()
    }

    fn expiry(&self) -> &'static str {
        "none"
    }
}
