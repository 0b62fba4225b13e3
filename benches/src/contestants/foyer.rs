//! `foyer`: only its memory cache, with the defaults its users get, apart from the common hasher.

use foyer_memory::{Cache, CacheBuilder, CacheProperties};

use super::{Absent, Capacity, Contestant, Hasher, Key, Plan, Value, hasher};

/// The cache.
pub struct Foyer<K: Key, V: Value>(Cache<K, V, Hasher, CacheProperties>);

impl<K: Key, V: Value> Contestant<K, V> for Foyer<K, V> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let (capacity, by_bytes) = match plan.capacity {
            Capacity::Entries(entries) => (entries, false),
            Capacity::Bytes(bytes) => (bytes, true),
        };
        let mut builder = CacheBuilder::new(capacity as usize).with_hash_builder(hasher());
        if by_bytes {
            builder = builder.with_weighter(|_: &K, value: &V| value.weigh() as usize);
        }
        if let Some(shards) = plan.shards {
            builder = builder.with_shards(shards);
        }
        Ok(Self(builder.build()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn remove(&self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.0.entries() as u64
    }

    fn expiry(&self) -> &'static str {
        "none"
    }
}
