//! `quick_cache`: its `sync` cache with the defaults its users get, apart from the common hasher.

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{OptionsBuilder, Weighter};

use super::{Absent, Capacity, Contestant, Hasher, Key, Plan, Updating, Value, hasher};

/// Weighs an entry as one, or by its bytes. This is decided at compile time, as it would be by its users.
#[derive(Clone, Debug, Default)]
pub struct Weights<const BYTES: bool>;

impl<K, V: Value, const BYTES: bool> Weighter<K, V> for Weights<BYTES> {
    #[inline]
    fn weight(&self, _: &K, value: &V) -> u64 {
        if BYTES { value.weigh().into() } else { 1 }
    }
}

/// The size from which the number of entries is estimated if the limit is in bytes.
const LIKELY_ENTRY_BYTES: u64 = 4096;

/// The cache.
pub struct QuickCache<K, V, const BYTES: bool>(Cache<K, V, Weights<BYTES>, Hasher>);

impl<K: Key, V: Value, const BYTES: bool> Contestant<K, V> for QuickCache<K, V, BYTES> {
    fn build(plan: &Plan) -> Result<Self, Absent> {
        let (entries, weight) = match plan.capacity {
            Capacity::Entries(entries) => (entries, entries),
            Capacity::Bytes(bytes) => ((bytes / LIKELY_ENTRY_BYTES).max(16), bytes),
        };
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(entries as usize).weight_capacity(weight);
        if let Some(shards) = plan.shards {
            options.shards(shards);
        }
        let options = options.build().map_err(|error| Absent(error.to_string()))?;
        Ok(Self(Cache::with_options(options, Weights, hasher(), DefaultLifecycle::default())))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn remove(&self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.0.len() as u64
    }

    fn expiry(&self) -> &'static str {
        "none"
    }
}

impl<K: Key, V: Value> Updating<K, V> for QuickCache<K, V, false> {
    #[inline]
    fn update(&self, key: &K, change: impl Fn(&mut V) + Send + Sync) -> bool {
        let changed = self.0.entry(key, None, |_, value| {
            change(value);
            EntryAction::Retain(())
        });
        matches!(changed, EntryResult::Retained(()))
    }

    fn update_is(&self) -> &'static str {
        "entry, which keeps the changed value"
    }
}
