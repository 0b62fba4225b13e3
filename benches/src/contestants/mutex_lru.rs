//! `mutex-lru`: the `lru` crate behind sharded `parking_lot` mutexes, with exact LRU per shard.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use super::{Absent, Capacity, Contestant, Hasher, Key, Plan, Updating, Value, hasher};

/// Enough shards for many threads to rarely meet; more made no difference on small machines.
const MOST_SHARDS: usize = 32;
/// A small cache gets fewer shards, so that each still has entries to choose from when it evicts.
const LEAST_ENTRIES_PER_SHARD: usize = 256;

/// A mutex alone on its cache lines, so that two shards never share one.
#[repr(align(128))]
struct Shard<K, V>(Mutex<LruCache<K, V, Hasher>>);

/// The cache.
pub struct MutexLru<K, V> {
    shards: Box<[Shard<K, V>]>,
    hasher: Hasher,
}

impl<K: Key, V: Value> MutexLru<K, V> {
    #[inline]
    fn shard(&self, key: &K) -> &Mutex<LruCache<K, V, Hasher>> {
        let hash = self.hasher.hash_one(key);
        // The map inside uses the low bits and the top seven; these are others. The number of shards is a
        // power of two, so the mask is exact.
        let index = (hash >> 40) as usize & (self.shards.len() - 1);
        &self.shards[index].0
    }
}

impl<K: Key, V: Value> Contestant<K, V> for MutexLru<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let Capacity::Entries(capacity) = plan.capacity else {
            return Err(Absent("the lru crate bounds entries, not bytes".into()));
        };
        let capacity = capacity as usize;
        let shards = plan.shards.unwrap_or_else(|| MOST_SHARDS.min(capacity / LEAST_ENTRIES_PER_SHARD)).max(1);
        // Rounded down, so that the capacity is not shared by more shards than asked for.
        let shards = 1 << shards.ilog2();
        let shard = |index: usize| {
            let share = capacity / shards + usize::from(index < capacity % shards);
            let share = NonZeroUsize::new(share).ok_or(Absent("fewer entries than shards".into()))?;
            Ok(Shard(Mutex::new(LruCache::with_hasher(share, hasher()))))
        };
        Ok(Self { shards: (0..shards).map(shard).collect::<Result<_, _>>()?, hasher: hasher() })
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.shard(key).lock().get(key).cloned()
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        // What leaves is dropped after the lock is released.
        let _gone = self.shard(&key).lock().push(key, value);
    }

    fn remove(&self, key: &K) -> bool {
        let gone = self.shard(key).lock().pop_entry(key);
        gone.is_some()
    }

    fn entries(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.lock().len() as u64).sum()
    }

    fn expiry(&self) -> &'static str {
        "none"
    }
}

impl<K: Key, V: Value> Updating<K, V> for MutexLru<K, V> {
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        self.shard(key).lock().get_mut(key).map(change).is_some()
    }

    fn update_is(&self) -> &'static str {
        "get_mut under its mutex"
    }
}
