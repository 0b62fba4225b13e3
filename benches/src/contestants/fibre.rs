//! `fibre_cache`: its synchronous cache with the defaults its users get, apart from the common hasher.
//!
//! It has its own expiry on the machine's clock, and a thread, its janitor, that reclaims expired entries.

use std::time::{Duration, Instant};

use fibre_cache::{Cache, CacheBuilder};

use super::{Absent, Capacity, Contestant, Hasher, Key, Plan, Reclaiming, Updating, Value, hasher};

/// The cache.
pub struct Fibre<K: Key, V: Value> {
    cache: Cache<K, V, Hasher>,
    by_bytes: bool,
}

impl<K: Key, V: Value> Fibre<K, V> {
    #[inline]
    fn cost(&self, value: &V) -> u64 {
        if self.by_bytes { value.weigh().into() } else { 1 }
    }
}

impl<K: Key, V: Value> Contestant<K, V> for Fibre<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let (capacity, by_bytes) = match plan.capacity {
            Capacity::Entries(entries) => (entries, false),
            Capacity::Bytes(bytes) => (bytes, true),
        };
        let mut builder = CacheBuilder::<K, V, Hasher>::new().capacity(capacity).hasher(hasher());
        if let Some(shards) = plan.shards {
            builder = builder.shards(shards);
        }
        if let Some(ttl) = plan.time_to_live {
            builder = builder.time_to_live(ttl);
        }
        let cache = builder.build().map_err(|error| Absent(error.to_string()))?;
        Ok(Self { cache, by_bytes })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key, V::clone)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        let cost = self.cost(&value);
        self.cache.insert(key, value, cost);
    }

    fn remove(&self, key: &K) -> bool {
        self.cache.invalidate(key)
    }

    /// Counts the entries, since the cache's own figures are costs, which lag behind.
    fn entries(&self) -> u64 {
        self.cache.run_maintenance();
        self.cache.iter().count() as u64
    }

    fn expiry(&self) -> &'static str {
        "its own time_to_live, reclaimed by its thread"
    }
}

impl<K: Key, V: Value> Updating<K, V> for Fibre<K, V> {
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        self.cache.compute(key, change)
    }

    fn update_is(&self) -> &'static str {
        "compute"
    }
}

impl<K: Key, V: Value> Reclaiming<K, V> for Fibre<K, V> {
    #[inline]
    fn insert_until(&self, key: K, value: V, due: Instant) {
        let cost = self.cost(&value);
        let ttl = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        self.cache.insert_with_ttl(key, value, cost, ttl);
    }
}
